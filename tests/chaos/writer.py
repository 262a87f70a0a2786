"""A script beside the supervisor that files tasks through LedgerClient, and writes down what it was promised.

`python writer.py LEDGER LOG SEED STOPFILE MODE AT_ONCE`: until STOPFILE exists, or so many batches at once.
Each line of LOG is a JSON object: `ask` (what is about to be asked: ids are made here, so that nothing can be lost
unseen) and `ack` (it was acknowledged), by number.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from producer import LedgerClient
from producer.errors import LedgerError, ProducerError
from producer.ids import new_id
from producer.ledger import Draft

MOST = 400
ROLES = ("alpha", "beta")


class Writer:
    """One writer's run."""

    def __init__(self, ledger: Path, log: Path, seed: int, mode: str) -> None:
        self.random, self.mode, self.known = random.Random(seed), mode, list[str]()
        self.log = log.open("a", buffering=1)
        self.client: LedgerClient | None = None
        self.ledger, self.number = ledger, 0

    def note(self, **what: Any) -> None:
        self.log.write(json.dumps(what) + "\n")

    def do(self, op: str, ids: list[str], call: Any) -> None:
        """One change: noted before, acknowledged after."""
        self.number += 1
        self.note(ask=self.number, op=op, ids=ids)
        try:
            if self.client is None:
                self.client = LedgerClient(self.ledger, actor="chaos")
            call(self.client)
        except ProducerError as error:
            self.note(error=self.number, kind=type(error).__name__, text=str(error)[:300])
            if isinstance(error, LedgerError):
                time.sleep(0.1)
        except OSError as error:  # a full disk, where the client itself has to write
            self.note(error=self.number, kind="OSError", text=str(error)[:300])
            time.sleep(0.1)
        else:
            self.note(ack=self.number)
            if op == "insert":
                self.known += ids

    def payload(self) -> dict[str, Any]:
        """What the task shall do. Dearer than nothing, never the same price."""
        dice = self.random.random()
        if self.mode == "claude":
            return {"n": self.random.randrange(10**6)}
        payload: dict[str, Any] = {"cost_usd": f"0.{self.random.randrange(1, 9999):06d}"}
        if dice < 0.35:
            payload["sleep_seconds"] = round(self.random.uniform(0.02, 0.6), 3)
        if 0.45 < dice < 0.55:
            payload["fail"] = self.random.randrange(1, 3)
        if 0.55 < dice < 0.58:
            payload["fail"] = "permanent"
        if 0.58 < dice < 0.60:
            payload["crash"] = 1
        if 0.6 < dice < 0.7:
            payload["insert"] = [self.follow_up(n) for n in range(self.random.randrange(1, 4))]
        return payload

    def follow_up(self, number: int) -> dict[str, Any]:
        words = " ".join(f"{self.random.getrandbits(60):x}" for _ in range(6))
        return {
            "agent_owner": self.random.choice(ROLES), "title": f"follow-up {number} {words}", "description": words,
            "payload": {"cost_usd": "0.000007"},
        }  # fmt: skip

    def draft(self, ids: list[str]) -> Draft:
        """A task; some wait for one of this batch or for an older one."""
        older = self.known[-30:] + ids[:-1]
        needs = self.random.sample(older, min(len(older), 1)) if self.random.random() < 0.3 else []
        kind = self.random.choice(("whole", "whole", "whole", "cut"))  # what the model does with it
        title = f"{self.mode} {kind} {self.random.getrandbits(64):x}"
        return Draft(
            self.random.choice(ROLES), title, title, self.payload(), self.random.randrange(6), tuple(needs),
            task_id=ids[-1],
        )  # fmt: skip

    def insert(self) -> None:
        """File a few tasks in one batch."""
        ids: list[str] = []
        drafts = []
        for _ in range(1 if self.mode == "claude" else self.random.randrange(1, 5)):
            ids.append(new_id())
            drafts.append(self.draft(ids))
        self.do("insert", ids, lambda client: client.insert_tasks(drafts))

    def turn(self) -> None:
        dice = self.random.random()
        if dice < 0.9 or not self.known:
            self.insert()
        elif dice < 0.93:
            task = self.random.choice(self.known[-20:])
            self.do("kill", [task], lambda client: client.kill_task(task, "the writer changed its mind"))
        elif dice < 0.95:
            task = self.random.choice(self.known[-20:])
            self.do("escalate", [task], lambda client: client.escalate_task(task, "the writer asks for a person"))
        else:
            task = self.random.choice(self.known)
            self.do("decision", [task], lambda client: client.record_decision(
                task_id=task, agent_owner="chaos", kind="choice", decision_text="a", rationale="b"))  # fmt: skip


def main() -> None:
    ledger, log, seed, stop, mode, at_once = sys.argv[1:7]
    writer = Writer(Path(ledger), Path(log), int(seed), mode)
    low, high = (3.0, 6.0) if mode == "claude" else (0.2, 0.8)
    for _ in range(int(at_once)):
        writer.insert()
    for _ in range(0 if int(at_once) else MOST):
        if Path(stop).exists():
            break
        writer.turn()
        time.sleep(writer.random.uniform(low, high))
    if writer.client:
        writer.client.close()


if __name__ == "__main__":
    main()
