"""Which way to the model API is in force: every mode with everything that may be there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from driving import Project

from producer import login
from producer.config import project_env
from producer.errors import AuthError, ConfigError
from producer.supervisor import RunOptions
from producer.supervisor.auth import Auth, decide

KEY, BEARER, TOKEN = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"
HOUR = 3600.0


def log_in(home: Path, expires: float | None = None, token: str = "sk-ant-oat-file") -> Path:
    """Claude Code's login file, as `claude` writes it."""
    path = home / ".claude" / ".credentials.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    at = int((time.time() + HOUR if expires is None else expires) * 1000)
    path.write_text(json.dumps({"claudeAiOauth": {"accessToken": token, "refreshToken": "r", "expiresAt": at}}))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def decision(project: Project, home: Path, mode: str = "auto", **env: str) -> Auth:
    project.configure({"code": None}, auth={"mode": mode})
    config = project.config()
    return decide(config, RunOptions(), project_env(config, {"HOME": str(home), **env}))


@pytest.mark.parametrize(
    ("mode", "there", "expected"),
    [
        ("auto", (KEY, BEARER, TOKEN, "file"), ("api", KEY)),
        ("auto", (BEARER, TOKEN, "file"), ("api", BEARER)),
        ("auto", (TOKEN, "file"), ("subscription", TOKEN)),
        ("auto", ("file",), ("subscription", "file")),
        ("auto", ("directory",), ("inherit", "")),
        ("auto", (), None),
        ("isolated", (KEY, TOKEN), ("api", KEY)),
        ("isolated", ("file",), ("subscription", "file")),
        ("isolated", ("directory",), None),
        ("api", (KEY, TOKEN), ("api", KEY)),
        ("api", (TOKEN, "file"), None),
        ("subscription", (KEY, TOKEN, "file"), ("subscription", TOKEN)),
        ("subscription", (KEY, "file"), ("subscription", "file")),
        ("subscription", (KEY,), None),
        ("inherit", (KEY, TOKEN, "file"), ("inherit", "")),
        ("inherit", (), ("inherit", "")),
    ],
)
def test_the_mode_in_force(project: Project, home: Path, mode, there, expected) -> None:
    file = log_in(home) if "file" in there else None
    if "directory" in there:
        (home / ".claude").mkdir(parents=True)
    env = {name: f"secret of {name}" for name in there if name.isupper()}
    if expected is None:
        with pytest.raises(AuthError, match=f"auth mode {mode}: no ") as refused:
            decision(project, home, mode, **env)
        assert refused.value.mend
        assert (KEY in refused.value.mend) is (mode != "subscription"), "what is of use in the mode"
        assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
        return
    auth = decision(project, home, mode, **env)
    assert (auth.mode, auth.metered) == (expected[0], expected[0] != "inherit")
    assert (auth.variable or ("file" if auth.login == file and file else "")) == expected[1]
    assert bool(auth.warning) is (auth.mode == "inherit" and (mode == "auto" or not (home / ".claude").exists()))
    assert "secret" not in repr(auth)


@pytest.mark.parametrize("base", ["nonsense", "ftp://api.example", "http://", "https://a b", "https://user@host"])
def test_an_upstream_that_is_no_address_is_refused_before_any_request(project: Project, home: Path, base: str) -> None:
    with pytest.raises(ConfigError, match=r"ANTHROPIC_BASE_URL: .* must be an address") as refused:
        decision(project, home, **{KEY: "k", "ANTHROPIC_BASE_URL": base})
    assert "\n" not in str(refused.value)
    assert decision(project, home, **{KEY: "k", "ANTHROPIC_BASE_URL": "https://proxy.example/v/"}).mode == "api"


def test_the_environment_wins_over_the_mode_of_the_file(project: Project, home: Path) -> None:
    assert decision(project, home, "inherit", **{KEY: "k", "PRODUCER_AUTH_MODE": "api"}).mode == "api"


def test_the_env_file_is_found_from_any_directory(project: Project, home: Path, tmp_path: Path, monkeypatch) -> None:
    (project.root / ".env").write_text(f"{TOKEN}=from-the-file\nANTHROPIC_BASE_URL=http://evil.example\n")
    monkeypatch.chdir(tmp_path)
    assert decision(project, home).variable == TOKEN
    env = project_env(project.config(), {"HOME": str(home)})
    assert env[TOKEN] == "from-the-file" and "ANTHROPIC_BASE_URL" not in env


def test_an_expired_login_is_refused_with_the_reason_and_the_way_out(project: Project, home: Path) -> None:
    file = log_in(home, time.time() - 5)
    for mode in ("auto", "subscription", "isolated"):
        with pytest.raises(AuthError, match=r"expired at .*run `claude` once.*setup-token.*CLAUDE_CODE_OAUTH_TOKEN"):
            decision(project, home, mode)
    assert decision(project, home, "auto", **{KEY: "k"}).mode == "api"
    before = file.read_bytes()
    log_in(home)
    assert decision(project, home).login == file
    assert before != file.read_bytes()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"claudeAiOauth": null}', '{"claudeAiOauth": {"accessToken": 7}}',
                                     '{"claudeAiOauth": {"accessToken": "a\\nb"}}'])  # fmt: skip
def test_a_file_that_is_no_login_is_one_clear_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(content)
    with pytest.raises(AuthError, match="holds no login of Claude Code") as refused:
        login.read(path)
    assert "\n" not in str(refused.value)


def test_a_login_does_not_show_when_printed(tmp_path: Path) -> None:
    assert "sk-ant" not in repr(login.read(log_in(tmp_path)))
    assert login.path_of({"HOME": "/h", "CLAUDE_CONFIG_DIR": "/c"}) == Path("/c/.credentials.json")
