"""The gateway process, and the conversation about money with it.

1. One process per project, started like a worker, adopted like a worker; it survives the supervisor.
2. A model request asks before it leaves (Reserve). The answer is decided from the caps in the batch's transaction, and
   what was granted is in the ledger before the answer leaves.
3. A request for which there is no room now, but may be when others give back, waits here, in the order of asking.
4. How a request ended (Metered) is booked once, by its id; the gateway repeats it until it hears Booked.
5. A gateway that was started with another key, upstream or script than now is not adopted but replaced. Prices lie in
   files that it reads again when they change.
"""

from __future__ import annotations

import hmac
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from msgspec.structs import asdict

from producer.config.environment import upstream
from producer.core.budget import Cap, Granted, Refused, Share, Wait, grant
from producer.core.money import MicroUSD
from producer.ledger.model import Claim, Cost
from producer.reaper import PROJECT_MARKER
from producer.supervisor.auth import Auth
from producer.supervisor.caps import Caps
from producer.supervisor.kernel import Child, Foreign, Kernel, spawn
from producer.supervisor.workers import KEPT_VARIABLES
from producer.version import __version__
from producer.wire import tokens
from producer.wire.auth import GATEWAY, Peer
from producer.wire.messages import Booked, Close, GatewayHello, Metered, Open, Reply, Reserve, Welcome

STOP_SECONDS = 3.0  # what it cuts at its end it still books, for a second at most
RESTART_AFTER = 1.0
HEALTHY_SECONDS = 10.0  # agents try a request again for some seconds: one that lived is replaced at once
OVERRIDES = "pricing.override.json"  # producer.yaml's prices, for the gateway
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Wanted:
    """A model request that waits for money."""

    message: Reserve
    role: str
    root: str

    @property
    def floor(self) -> int:
        """What it needs at least."""
        return min(self.message.floor, self.message.need)


class Gateway:
    """Runs inside the batch's transaction. ``on_refused`` hears (attempt, cap, floor) of every refusal."""

    def __init__(self, kernel: Kernel, caps: Caps, auth: Auth) -> None:
        self._kernel, self._caps, self._auth, self.metered = kernel, caps, auth, auth.metered
        self.on_refused: Callable[[str, str, int], None] = lambda attempt, cap, floor: None
        self.on_closed: Callable[[str], None] = lambda attempt: None
        self.live: Callable[[], list[tuple[str, str, str, str, bool]]] = list
        self.connected = False
        self.url: str | None = None
        self._child: Child | None = None
        self._restart_at = 0.0
        self._started_at = float("-inf")
        self._waiting: dict[str, Wanted] = {}
        self._secret = tokens.secret(kernel.places) if self.metered else b""

    # ---- the process

    @property
    def pid(self) -> int | None:
        """Its process; None where there is none."""
        return self._child.pid if self._child else None

    def tend(self) -> None:
        """Start the gateway where there is none; notice that it has gone."""
        if not self.metered:
            return
        if self._child and not self._alive():
            self._kernel.audit("gateway_exited", pid=self.pid)
            self.connected, self._child = False, None
            lived = self._kernel.monotonic() - self._started_at
            self._restart_at = self._kernel.monotonic() + (0.0 if lived > HEALTHY_SECONDS else RESTART_AFTER)
        if self._child is None and self._kernel.monotonic() >= self._restart_at:
            self._start()

    def adopt(self) -> None:
        """Find the living gateway of a supervisor before this one."""
        try:
            data = json.loads((self._kernel.places.workers / "gateway").read_text())
            process = psutil.Process(int(data["pid"]))
            if abs(process.create_time() - float(data["pid_start"])) < 1.5:
                self._child = Foreign.of(process.pid)
                if data.get("settings") != self._settings():
                    self._kernel.audit("gateway_replaced", pid=self.pid, reason="its key or its settings have changed")
                    process.terminate()
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return

    def reload(self) -> None:
        """The configuration was replaced: its prices are the gateway's, too, once the batch is committed."""
        if self.metered:
            self._kernel.after.append(self._write_overrides)

    def _write_overrides(self) -> None:
        path = self._kernel.places.state / OVERRIDES
        text = json.dumps(dict(self._kernel.config.pricing))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            fresh = path.with_name(f".{OVERRIDES}.{os.getpid()}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)

    def _settings(self) -> str:
        """What a gateway is started with, in a form that gives away no key."""
        credential = self._kernel.env.get(self._auth.variable, "") if self._auth.variable else ""
        said = json.dumps([self._command()[1:], credential])
        return hmac.new(self._secret, said.encode(), "sha256").hexdigest()

    def _command(self) -> list[str]:
        kernel, config = self._kernel, self._kernel.config
        command = [
            sys.executable, "-P", "-m", "producer.gateway", "--ledger", str(kernel.places.ledger),
            "--kill-switch", str(config.kill_switch), "--upstream", upstream(config, kernel.env),
            "--min-max-tokens", str(config.gateway.min_max_tokens), "--orphan-seconds", str(config.orphan_seconds),
        ]  # fmt: skip
        command += ["--prices", str(kernel.places.state / OVERRIDES)]
        if self._auth.login:
            command += ["--login", str(self._auth.login)]
        if config.gateway.record:
            command.append("--record")
        if kernel.options.rehearse:
            bill = kernel.places.state / "rehearsal-bill.jsonl"
            command += ["--rehearse", str(kernel.options.rehearse), "--bill", str(bill)]
        return command

    def _start(self) -> None:
        kernel, command = self._kernel, self._command()
        kernel.keys.issue(Peer("gateway", GATEWAY))
        self._write_overrides()
        names = (*KEPT_VARIABLES, *((self._auth.variable,) if self._auth.variable else ()), *PROXIES)
        env = {name: kernel.env[name] for name in names if name in kernel.env} | {PROJECT_MARKER: kernel.places.key}
        self._child = spawn(command, env, kernel.places.workers / "gateway.log")
        self._started_at = kernel.monotonic()
        self._remember()

    def _remember(self) -> None:
        assert self.pid is not None
        data = {"pid": self.pid, "pid_start": psutil.Process(self.pid).create_time(), "settings": self._settings()}
        path: Path = self._kernel.places.workers / "gateway"
        fresh = path.with_name(".gateway.new")  # one that is killed here must leave its successor something to read
        fresh.write_text(json.dumps(data))
        fresh.replace(path)

    def _alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def token(self, attempt: str) -> str:
        """The key by which the gateway knows an attempt's requests."""
        return tokens.mint(self._secret, attempt)

    # ---- attempts

    def hello(self, message: GatewayHello) -> None:
        """The gateway (re)connected: tell it which attempts are open, and which are over."""
        self.connected, self.url = True, message.url
        if self._child is None or self._child.pid != message.pid:
            self._child = Foreign.of(message.pid)  # an older one lives, and the one that we started leaves at its lock
        self._kernel.send("tasks", GATEWAY.encode(), Welcome(supervisor=self._kernel.id, version=__version__))
        self._remember()
        self._waiting.clear()  # it asks again what it still wants
        running = {}
        for attempt, role, task, title, ended in self.live():
            running[attempt] = ended
            opened = Open(attempt=attempt, role=role, task=task, title=title)
            self._kernel.send("tasks", GATEWAY.encode(), opened)
        for attempt in {*message.open, *(name for name, ended in running.items() if ended)}:
            if running.get(attempt, True):
                self.close(attempt)

    def open(self, claim: Claim) -> None:
        """Have an attempt's token accepted; leaves before the task does."""
        opened = Open(attempt=claim.attempt, role=claim.role, task=claim.task, title=claim.title)
        self._kernel.send("tasks", GATEWAY.encode(), opened)

    def close(self, attempt: str) -> None:
        """Have an attempt's streams cut and its token refused; answered by Closed."""
        self._waiting = {key: want for key, want in self._waiting.items() if want.message.attempt != attempt}
        self._kernel.send("tasks", GATEWAY.encode(), Close(attempt=attempt))

    # ---- money

    def reserve(self, message: Reserve) -> None:
        """A model request asks what it may cost."""
        accounts = self._kernel.store.accounts
        known = accounts.reservation(message.request)
        if known is not None:
            self._answer(message.request, known)
            return
        if accounts.booked(message.request):
            return  # a frame that comes late: the request is over
        run = self._kernel.store.attempts.running(message.attempt)
        if run is None or run.cancel:
            self._refuse(message, "closed", "this attempt is over")
            return
        self._waiting[message.request] = Wanted(message, run.role, run.root)
        self.review()

    def review(self) -> None:
        """Decide every waiting request that can be decided now, oldest first."""
        older: list[Wanted] = []
        for request, wanted in list(self._waiting.items()):
            verdict = self._decide(wanted, older)
            if isinstance(verdict, Wait):
                older.append(wanted)
                continue
            del self._waiting[request]
            if isinstance(verdict, Granted):
                self._kernel.store.accounts.reserve(request, wanted.message.attempt, verdict.amount)
                self._answer(request, verdict.amount)
            else:
                self.on_refused(wanted.message.attempt, verdict.cap, wanted.message.floor)
                self._refuse(wanted.message, verdict.cap, verdict.reason)

    def metered_request(self, message: Metered) -> None:
        """A model request ended: book it once. One that was given up while it waited wants no money any more."""
        self._waiting.pop(message.request, None)
        cost = Cost(
            message.request, message.attempt, message.model, MicroUSD(message.cost), "gateway", message.exact,
            asdict(message.usage),
        )  # fmt: skip
        self._kernel.store.attempts.book(cost)
        self._kernel.send("tasks", GATEWAY.encode(), Booked(request=message.request))
        self.review()

    def _decide(self, wanted: Wanted, older: list[Wanted]) -> Granted | Wait | Refused:
        message, accounts = wanted.message, self._kernel.store.accounts
        hold = accounts.hold(message.attempt)
        run = self._kernel.store.attempts.running(message.attempt)
        if hold is None or run is None:
            return Refused("this attempt is over", "closed")
        date, own, busy = hold

        def share(cap: Cap, running: int, rivals: list[Wanted]) -> Share:
            ahead = MicroUSD(sum(rival.floor for rival in rivals))
            return Share(cap, max(1, running), own, busy, ahead)

        kin = [rival for rival in older if rival.root == run.root]
        shares = [
            share(
                self._caps.role(run.role, date),
                accounts.running(run.role, date),
                [rival for rival in older if rival.role == run.role],
            ),
            share(self._caps.project(date), accounts.running(None, date), older),
            *(
                share(cap, accounts.kin(run.root) if cap.name.startswith("lineage") else 1, kin)
                for cap in self._caps.own(run.role, run.task, run.root)
            ),
        ]
        return grant(message.need, message.floor, shares, others_open=self._others_open(message.attempt))

    def _others_open(self, attempt: str) -> bool:
        """Whether money can come back: a request is open, or another attempt that holds some does not wait."""
        waiting = {want.message.attempt for want in self._waiting.values()}
        holders = self._kernel.store.accounts.holders().items()
        return any(busy or (holder != attempt and holder not in waiting) for holder, busy in holders)

    def _answer(self, request: str, granted: MicroUSD) -> None:
        self._kernel.send("tasks", GATEWAY.encode(), Reply(call=request, ok=True, result={"granted": granted}))

    def _refuse(self, message: Reserve, cap: str, reason: str) -> None:
        reply = Reply(call=message.request, ok=False, error=reason, result={"cap": cap})
        self._kernel.send("tasks", GATEWAY.encode(), reply)

    # ---- the end

    def stop(self) -> int:
        """End the gateway process, by force where it does not go; how many are left of it (0).

        Its journal stays until it is booked.
        """
        for end in (psutil.Process.terminate, psutil.Process.kill):
            if not self._alive():
                return 0
            with suppress(psutil.Error):
                end(psutil.Process(self.pid))
            deadline = self._kernel.monotonic() + STOP_SECONDS
            while self._alive() and self._kernel.monotonic() < deadline:
                time.sleep(0.02)
        return int(self._alive())
