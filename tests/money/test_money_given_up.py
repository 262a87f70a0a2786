"""A model request that is given up while it waits for money gets none later: nobody would ever give it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from driving import Project, Supervisor

from producer.ids import new_id
from producer.wire.auth import GATEWAY, Keys, Peer
from producer.wire.messages import Booked, Metered, Reply, Reserve
from producer.wire.sockets import AsyncPeer


@pytest.fixture
def running(project: Project, supervise: Callable[..., Supervisor]) -> tuple[Supervisor, str, str]:
    """Two runs under one cap of a dollar; each holds 40 cents."""
    project.configure({"code": {"workers": 2, "daily_cap_usd": 1, "dispatch_reservation_usd": 0.40}})
    supervisor = supervise().ready(2)
    asks, holds = (project.file_task(name, payload={"sleep_seconds": 600}) for name in ("asks", "holds"))
    supervisor.until_count("in_progress", 2)
    return supervisor, asks, holds


async def heard(gateway: AsyncPeer, kind: type) -> Any:
    for _ in range(20):
        message = await asyncio.wait_for(gateway.recv(), 20)
        if isinstance(message, kind):
            return message
    raise AssertionError(f"no {kind.__name__} came")


@pytest.mark.parametrize("late", [False, True], ids=["given up", "and asked for once more by a late frame"])
def test_a_request_that_was_given_up(running: tuple[Supervisor, str, str], late: bool) -> None:
    supervisor, asks, holds = running
    project = supervisor.project
    attempt = project.task(asks)["attempts"][0]["id"]
    ask = Reserve(request=new_id(), attempt=attempt, need=900_000, floor=800_000)
    after = Reserve(request=new_id(), attempt=attempt, need=500_000, floor=500_000)

    async def talk() -> None:
        """As the gateway; the echo invoker needs none, so there is no other."""
        Keys(project.places).issue(Peer("gateway", GATEWAY))
        gateway = await AsyncPeer.connect(project.places, GATEWAY)
        try:
            gateway.post(ask)
            gateway.post(Metered(request=ask.request, attempt=attempt, model="a-model", cost=0, status=499))
            assert (await heard(gateway, Booked)).request == ask.request
            if late:
                gateway.post(ask)
            supervisor.ask("kill_task", task_id=holds)
            held = "SELECT 1 FROM attempts WHERE held_micros > 0"
            supervisor.until(lambda: len(project.rows(held)) == 1, what="the other's money back")
            gateway.post(after)
            reply = await heard(gateway, Reply)
            assert (reply.call, reply.ok) == (after.request, True)
        finally:
            gateway.close()

    asyncio.run(talk())
    assert project.rows("SELECT request FROM reservations") == [(after.request,)]
