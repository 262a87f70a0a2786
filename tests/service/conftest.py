"""One booted systemd for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from booted import Booted, problem
from installed import UNIT, Service


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if why := problem(tmp_path_factory.mktemp("boot-trial")):
        pytest.skip(why)
    booted = Booted(tmp_path_factory.mktemp("booted"))
    try:
        yield Service(booted)
    finally:
        booted.close()


@pytest.fixture
def service(machine: Service) -> Iterator[Service]:
    machine.forget()
    yield machine
    machine.booted.run("systemctl", "stop", UNIT, check=False)
