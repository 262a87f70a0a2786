"""The installed service in a real, booted systemd: what outlives what, and what is left at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driving import until
from installed import PROJECT, UNIT, USER, OwnService, Service

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_service_from_its_installation_to_its_removal(service: Service) -> None:
    key = "/etc/ai-producer-audit.key"
    service.booted.write(key, service.ctl("audit", "key", "--new", user="root") + "\n")
    service.booted.run("chmod", "600", key)
    service.ctl("service", "install", "--run-as", USER, "--credential", f"audit.key={key}", user="root")
    assert service.systemctl("is-enabled", UNIT) == "enabled"
    service.start_with("--invoker echo", "WatchdogSec=3s", "RestartSec=100ms")
    first = service.serving()
    until(lambda: "0 waiting, 0 running" in service.show("StatusText"), what="the status text", why=service.journal)

    # the credential signs: no key was made
    made = service.booted.run("find", "/var/lib/ai-producer", "-name", "audit.*").splitlines()
    assert {Path(path).name for path in made} & {"audit.key", "audit.pub"} == {"audit.pub"}

    # killed: started again, the run goes on
    task = service.begin(12)
    service.booted.run("kill", "-KILL", str(first))
    second = service.serving(after=first)
    service.finished_once(task)

    # restarted: the fleet stays
    task = service.begin(8)
    before = service.fleet()
    service.systemctl("restart", UNIT)
    third = service.serving(after=second)
    assert service.fleet() == before
    service.finished_once(task)

    # hung: ended by the watchdog, started again, the run goes on
    task = service.begin(12)
    service.booted.run("kill", "-STOP", str(third))
    fourth = service.serving(after=third)
    assert "watchdog" in service.booted.run("journalctl", "-u", UNIT, "--no-pager").lower()
    service.finished_once(task)

    # reloaded: a new cap, the same process
    service.configure(7)
    service.systemctl("reload", UNIT)
    until(
        lambda: service.json("status")["budget"]["roles"]["code"]["cap_usd"] == "7.00",
        what="the new cap",
        why=lambda: str(service.json("budget")),
    )
    assert int(service.show("MainPID")) == fourth

    # stopped with a run in flight: nothing is left
    task = service.begin(60)
    service.systemctl("stop", UNIT)
    assert service.processes() == []
    assert service.task(task)["status"] == "pending"

    service.ctl("service", "uninstall", user="root")
    assert service.booted.run("systemctl", "is-enabled", UNIT, check=False) in ("", "not-found")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("sandbox", "network"), [("bwrap", "full"), ("bwrap", "gateway"), ("landlock", "full"), ("none", "full")]
)
def test_a_real_agent_works_on_in_its_sandbox_over_a_restart(service: Service, sandbox: str, network: str) -> None:
    service.booted.run("find", f"{PROJECT}/work", "-type", "f", "-delete")
    begun, go, seen = (f"{{cwd}}/work/{name}-{sandbox}" for name in ("begun", "go", "seen"))
    place = {"landlock": "$CLAUDE_CODE_TMPDIR"}.get(sandbox, "/tmp")
    first = f"echo kept >{place}/here; touch {begun}; until [ -e {go} ]; do sleep 0.1; done"
    then = f"cat {place}/here >{seen}; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'producerct[l]' >>{seen}; ls /run >>{seen}"
    turns = [{"text": "Working.", "tools": [{"name": "Bash", "input": {"command": word}}]} for word in (first, then)]
    script = {"roles": {"code": [{"turns": [*turns, {"text": "Done."}]}]}}
    service.booted.write("/srv/script.yaml", json.dumps(script))
    closed = sandbox == "landlock"  # the closed unit: `auto` has to find that out
    service.configure(5, sandbox="auto" if closed else sandbox, network=network, allowed_tools=["Bash"])
    service.ctl("service", "install", "--run-as", USER, *(["--landlock"] if closed else []), user="root")
    service.start_with("--rehearse /srv/script.yaml", "RestartSec=100ms")
    pid = service.serving()
    until(lambda: service.mode() == sandbox, what=f"{sandbox} as the sandbox", why=service.journal)
    task = service.begin(0)
    until(lambda: service.there(f"work/begun-{sandbox}"), what="the agent's first command", why=service.journal)
    service.systemctl("restart", UNIT)
    service.serving(after=pid)
    service.booted.run("touch", f"{PROJECT}/work/go-{sandbox}")
    service.finished_once(task)
    kept, supervisors, *run = service.booted.run("cat", f"{PROJECT}/work/seen-{sandbox}").split()
    assert kept == "kept"
    assert closed or supervisors == "0"  # with no namespaces at all, the processes outside can be seen
    assert sandbox != "bwrap" or run == ["ai-producer"]
    service.systemctl("stop", UNIT)
    assert service.processes() == []
    service.ctl("service", "uninstall", user="root")


def test_a_service_of_the_users_own_keeps_the_fleet_at_a_restart_and_leaves_nothing_at_a_stop(service: Service) -> None:
    own = OwnService(service)
    own.configure(5)
    own.ctl("service", "install", "--user")
    assert own.systemctl("is-enabled", UNIT) == "enabled"
    own.start_with("--invoker echo", "RestartSec=100ms")
    pid = own.serving()
    task = own.begin(8)
    before = own.fleet()
    own.systemctl("restart", UNIT)
    own.serving(after=pid)
    assert own.fleet() == before
    own.finished_once(task)
    own.begin(60)
    own.systemctl("stop", UNIT)
    assert [line for line in own.processes() if "ai-producer" in line] == []
    own.ctl("service", "uninstall", "--user")
