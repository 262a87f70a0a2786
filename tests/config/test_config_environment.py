from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from config_samples import MINIMAL

from producer.config import ProducerConfig, auth_mode, load_config, project_env
from producer.config.warnings import warnings
from producer.errors import ConfigError


@pytest.fixture
def config(write: Callable[[str], Path]) -> ProducerConfig:
    return load_config(write(MINIMAL + "notifications: {ntfy_token_env: MY_NTFY}\n"))


def dotenv(config: ProducerConfig, text: str) -> None:
    (config.project_root / ".env").write_text(text)


def test_credentials_are_found_in_the_project_and_are_not_exported(
    config: ProducerConfig, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    dotenv(config, "export ANTHROPIC_API_KEY='sk-1 $HOME'\nMY_NTFY=tk\nCLAUDE_CODE_OAUTH_TOKEN=\n# x\n")
    assert project_env(config, {"A": "b"}) == {"A": "b", "ANTHROPIC_API_KEY": "sk-1 $HOME", "MY_NTFY": "tk"}
    assert "ANTHROPIC_API_KEY" not in os.environ


def test_the_environment_wins_and_an_empty_variable_is_none(config: ProducerConfig) -> None:
    dotenv(config, "ANTHROPIC_API_KEY=file\nPRODUCER_AUTH_MODE=api\n")
    env = project_env(config, {"ANTHROPIC_API_KEY": "mine", "PRODUCER_AUTH_MODE": ""})
    assert env == {"ANTHROPIC_API_KEY": "mine", "PRODUCER_AUTH_MODE": "api"}


def test_what_an_agent_could_plant_is_not_taken(config: ProducerConfig) -> None:
    dotenv(config, "ANTHROPIC_BASE_URL=http://evil\nLD_PRELOAD=/tmp/x.so\nANTHROPIC_API_KEY=sk\n")
    assert project_env(config, {}) == {"ANTHROPIC_API_KEY": "sk"}
    assert any(".env: ANTHROPIC_BASE_URL, LD_PRELOAD not read" in line for line in warnings(config))


def test_no_file_and_files_that_cannot_be_read(config: ProducerConfig) -> None:
    assert project_env(config, {"A": "b"}) == {"A": "b"}
    path = config.project_root / ".env"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"\.env: not a regular file"):
        project_env(config, {})
    path.unlink()
    path.write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"\.env:1: the file is not UTF-8 text"):
        project_env(config, {})


def test_the_auth_mode_of_the_environment_wins_and_has_to_exist(config: ProducerConfig) -> None:
    assert auth_mode(config, {}) == "auto"
    assert auth_mode(config, {"PRODUCER_AUTH_MODE": "inherit"}) == "inherit"
    with pytest.raises(ConfigError, match="PRODUCER_AUTH_MODE: 'outo' is not allowed: it must be one of auto, "):
        auth_mode(config, {"PRODUCER_AUTH_MODE": "outo"})
