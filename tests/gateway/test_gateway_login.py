"""Claude Code's login as the gateway's credential: read for every request, never written, refused while expired."""

from __future__ import annotations

import json
import time

from gateway_rig import Rig, body, rig

from producer.gateway.upstream import Key
from producer.wire import tokens


def log_in(path, token: str, seconds: float) -> None:
    oauth = {"accessToken": token, "refreshToken": "r", "expiresAt": int((time.time() + seconds) * 1000)}
    path.write_text(json.dumps({"claudeAiOauth": oauth}))


async def ask(r: Rig, attempt: str):
    headers = {"x-api-key": tokens.mint(r.gateway.secret, attempt)}
    return await r.client.post(f"{r.url}/v1/messages", headers=headers, json=body())


def test_take_empties_the_environment_of_every_credential():
    names = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
    for number, header in enumerate((b"x-api-key", b"authorization", b"authorization")):
        env = {name: f"s{at}" for at, name in enumerate(names) if at >= number} | {"PATH": "/bin"}
        key = Key.take(env)
        assert env == {"PATH": "/bin"}
        assert dict(key.onto([]))[header] in (f"s{number}".encode(), f"Bearer s{number}".encode())
        assert "s" + str(number) not in repr(key)


def test_a_renewed_login_is_used_at_once_and_an_expired_one_never_leaves(tmp_path):
    path = tmp_path / "credentials.json"
    key = Key(login=path)
    assert "cannot be read" in (key.missing() or "")
    log_in(path, "first", 60)
    assert dict(key.onto([]))[b"authorization"] == b"Bearer first"
    assert b"oauth" in dict(key.onto([(b"anthropic-beta", b"other")]))[b"anthropic-beta"]
    log_in(path, "second", 60)
    before = path.read_bytes()
    assert dict(key.onto([]))[b"authorization"] == b"Bearer second"
    log_in(path, "third", -1)
    assert "expired" in (key.missing() or "")
    log_in(path, "second", 60)
    assert key.missing() is None and len(path.read_bytes()) == len(before)


async def _expired_then_renewed(tmp_path) -> None:
    path = tmp_path / "credentials.json"
    log_in(path, "old", -1)
    async with rig(tmp_path, key=Key(login=path)) as r:
        attempt = r.attempt()
        refused = await ask(r, attempt)
        error = refused.json()["error"]
        assert refused.status_code == 429 and error["type"] == "rate_limit_error"
        assert "run `claude` once" in error["message"] and "ai-producer:retry-at:" in error["message"]
        assert int(refused.headers["retry-after"]) >= 3600
        assert r.supervisor.asked == [] and r.supervisor.spent == 0
        log_in(path, "new", 60)
        assert (await ask(r, attempt)).status_code == 200


def test_while_the_login_is_expired_tasks_wait_and_go_on_once_it_is_renewed(tmp_path):
    import asyncio

    asyncio.run(_expired_then_renewed(tmp_path))
