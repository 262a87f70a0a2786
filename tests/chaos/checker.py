"""The independent checker: reads the ledger, the writers' notes and the model's bill after a round; believes nobody.

Python's own sqlite3 and hashlib; nothing of the program is imported. What it finds goes under one of six numbers,
which must all be zero; what is right but worth knowing (escalations, bills without an end) is counted beside them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

NUMBERS = ("lost tasks", "duplicated completions", "leaked holds", "survivors", "dollars adrift", "audit breaks")
HALF_A_DAY = 43_200  # seconds
ENDINGS = ("task_completed", "task_failed", "task_interrupted", "attempt_ended")


@dataclass
class Findings:
    """What is wrong, under the six numbers; ``notes`` are figures that are not wrong."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in NUMBERS})
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, number: str, text: str) -> None:
        self.wrong[number].append(text)

    @property
    def clean(self) -> bool:
        return not any(self.wrong.values())


class Ledger:
    """One reading of everything that the checks need."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
            db.row_factory = sqlite3.Row
            db.execute("BEGIN")  # one moment for all that follows
            self.integrity = [row[0] for row in db.execute("PRAGMA integrity_check")]
            self.tasks = {row["id"]: dict(row) for row in db.execute("SELECT * FROM tasks ORDER BY seq")}
            self.attempts = [dict(row) for row in db.execute("SELECT * FROM attempts ORDER BY task_id, number")]
            self.needs = defaultdict[str, list[str]](list)
            for row in db.execute("SELECT task, depends_on FROM dependency"):
                self.needs[row[0]].append(row[1])
            tables = ("reservations", "replies", "meter", "budget")
            self.rows = {name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")] for name in tables}
            self.audit = [
                (row[0], row[1], row[2]) for row in db.execute("SELECT seq, body, chain FROM audit ORDER BY seq")
            ]
        self.bodies = [json.loads(body) for _, body, _ in self.audit]
        self.meter = defaultdict[str, list[dict[str, Any]]](list)
        for row in self.rows["meter"]:
            self.meter[row["attempt"]].append(row)

    def blocked(self) -> set[str]:
        """Pending tasks that wait, directly or not, for one that was given up: they stay, and are shown as blocked."""
        found = {ident for ident, task in self.tasks.items() if task["status"] in ("escalated", "killed")}
        given_up = set(found)
        for _ in self.tasks:
            more = {
                ident
                for ident, needs in self.needs.items()
                if ident not in found and self.tasks[ident]["status"] == "pending" and not found.isdisjoint(needs)
            }
            if not more:
                break
            found |= more
        return found - given_up


def begun(path: Path) -> bool:
    """Whether any task was ever started."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
        return bool(db.execute("SELECT 1 FROM attempts WHERE started_at IS NOT NULL LIMIT 1").fetchone())


def unsettled(path: Path) -> list[str]:
    """What still has to happen in a ledger: tasks that are not at their end, a line each."""
    ledger = Ledger(path)
    blocked = ledger.blocked()
    left = [
        f"{ident} {task['status']} not_before={task['not_before']} open={task['open_dependencies']}"
        for ident, task in ledger.tasks.items()
        if task["status"] in ("pending", "in_progress", "failed") and ident not in blocked
    ]
    return left + [f"attempt {row['id']} running" for row in ledger.attempts if row["state"] == "running"]


def check(path: Path, *, head: Path, notes: list[Path], retries: int, bill: Path | None, living: list[str]) -> Findings:
    """All checks of one round. ``retries``: failures that exhaust a task; ``bill``: the model's, None for echo."""
    found, ledger = Findings(), Ledger(path)
    asked = [_notes(path) for path in notes]
    _absent(found, ledger)
    _lost(found, ledger, asked, retries)
    _twice(found, ledger)
    _holds(found, ledger)
    for line in living:
        found.add("survivors", line)
    _sums(found, ledger)
    if bill is None:
        _echo(found, ledger)
    else:
        _billed(found, ledger, bill)
    _audit(found, ledger, head)
    found.notes["tasks"] = len(ledger.tasks)
    found.notes["attempts"] = len(ledger.attempts)
    found.notes["audit rows"] = len(ledger.audit)
    for task in ledger.tasks.values():
        found.notes[task["status"]] += 1
    for row in ledger.attempts:
        found.notes[f"attempts {row['state']}"] += 1
    return found


def _absent(found: Findings, ledger: Ledger) -> None:
    """Tasks that other rows name and that are not there; those rows are left out of what is checked next."""
    named = {row["task_id"] for row in ledger.attempts} | ledger.needs.keys()
    named |= {need for needs in ledger.needs.values() for need in needs}
    for ident in named - ledger.tasks.keys():
        found.add("lost tasks", f"{ident} is named by other rows and is not there")
    ledger.attempts = [row for row in ledger.attempts if row["task_id"] in ledger.tasks]
    kept = {ident: needs for ident, needs in ledger.needs.items() if ident in ledger.tasks}
    ledger.needs.clear()
    for ident, needs in kept.items():
        ledger.needs[ident] = [need for need in needs if need in ledger.tasks]


def _notes(path: Path) -> dict[int, dict[str, Any]]:
    """What a writer asked, by number, with ``done`` (True: acknowledged, False: refused, None: never answered)."""
    asked: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        try:
            note = json.loads(line)
        except ValueError:  # the writer was killed in the middle of it
            continue
        if "ask" in note:
            asked[note["ask"]] = {**note, "done": None}
        elif "ack" in note:
            asked[note["ack"]]["done"] = True
        elif note["kind"] in ("InvalidTask", "IllegalTransition", "UnknownTask", "InvalidDependency", "LimitReached"):
            asked[note["error"]]["done"] = False
    return asked


def _lost(found: Findings, ledger: Ledger, asked: list[dict[int, dict[str, Any]]], retries: int) -> None:
    meant: dict[str, set[str]] = defaultdict(set)
    for writer in asked:
        for note in writer.values():
            there = [ident for ident in note["ids"] if ident in ledger.tasks]
            if note["op"] == "insert":
                found.notes["acknowledged inserts"] += len(note["ids"]) * (note["done"] is True)
                if note["done"] is True and len(there) < len(note["ids"]):
                    found.add("lost tasks", f"acknowledged and absent: {set(note['ids']) - set(there)}")
                elif there and len(there) < len(note["ids"]):
                    found.add("lost tasks", f"a batch was filed by half: {note['ids']}")
            elif not there:
                found.add("lost tasks", f"{note['ids']}: was acknowledged to its writer and is not there")
            elif note["done"] is not False:
                meant[note["ids"][0]].add(note["op"])
                status = ledger.tasks[note["ids"][0]]["status"]
                if note["done"] and note["op"] == "kill" and status != "killed":
                    found.add("lost tasks", f"{note['ids'][0]}: its kill was acknowledged, it is {status}")
    blocked = ledger.blocked()
    for ident, task in ledger.tasks.items():
        why = _unexplained(ident, task, ledger, meant[ident], blocked, retries)
        if why:
            found.add("lost tasks", f"{ident} ({task['title'][:40]}): {why}")
        elif task["status"] == "escalated" and "escalate" not in meant[ident]:
            found.notes[f"escalated: {str(task['escalation_reason'])[:60]}"] += 1
        open_now = sum(ledger.tasks[need]["status"] != "done" for need in ledger.needs[ident])
        if task["status"] in ("pending", "in_progress") and open_now != task["open_dependencies"]:
            found.add("lost tasks", f"{ident}: waits for {task['open_dependencies']}, of which {open_now} are open")
    for row in ledger.attempts:
        _follow_ups(found, ledger, row)


def _unexplained(
    ident: str, task: dict[str, Any], ledger: Ledger, meant: set[str], blocked: set[str], retries: int
) -> str | None:
    """Why a task's state is not one that it may end in; None where it is."""
    match task["status"]:
        case "done":
            undone = [need for need in ledger.needs[ident] if ledger.tasks[need]["status"] != "done"]
            said = {"echo": task["description"], "claude whole": "That is all."}  # in battle.SCRIPT, at its end
            result = any(task["title"].startswith(kind) and task["result"] != text for kind, text in said.items())
            return f"done before {undone}" if undone else "its result is not what it did" if result else None
        case "pending" if ident in blocked:
            return None
        case "killed" if "kill" in meant:
            return None
        case "escalated" if "escalate" in meant:
            return None
        case "escalated":
            bad = [row for row in ledger.attempts if row["task_id"] == ident and row["state"] in ("failed", "lost")]
            permanent = any(row["outcome"] == "permanent" for row in bad)
            wanted = json.loads(task["payload"]).get("fail") == "permanent"
            if (permanent and wanted) or len(bad) >= retries:
                return None
            return f"escalated after {len(bad)} failures: {task['escalation_reason']}"
    return f"is {task['status']}, not_before {task['not_before']}, {task['escalation_reason']}"


def _follow_ups(found: Findings, ledger: Ledger, row: dict[str, Any]) -> None:
    wanted = json.loads(ledger.tasks[row["task_id"]]["payload"]).get("insert")
    if not wanted or row["state"] != "succeeded":
        return
    titles = [task["title"] for task in ledger.tasks.values() if task["filed_by_attempt"] == row["id"]]
    missing = Counter(item["title"] for item in wanted) - Counter(titles)
    extra = Counter(titles) - Counter(item["title"] for item in wanted)
    if missing:
        found.add("lost tasks", f"attempt {row['id']} filed {list(missing)}, which are not there")
    if extra:
        found.add("duplicated completions", f"attempt {row['id']} filed {list(extra)} more than once")


def _twice(found: Findings, ledger: Ledger) -> None:
    succeeded = Counter(row["task_id"] for row in ledger.attempts if row["state"] == "succeeded")
    completed = Counter(body.get("task") for body in ledger.bodies if body["action"] == "task_completed")
    for ident, task in ledger.tasks.items():
        done = task["status"] == "done"
        if succeeded[ident] > 1 or (done and succeeded[ident] != 1):
            found.add("duplicated completions", f"{ident} is {task['status']}, {succeeded[ident]} attempts succeeded")
        if completed[ident] != done:
            found.add("duplicated completions", f"{ident} is {task['status']}, completed {completed[ident]} times")
    ended = Counter(body.get("attempt") for body in ledger.bodies if body["action"] in ENDINGS)
    for row in ledger.attempts:
        if ended[row["id"]] != 1:
            found.add(
                "duplicated completions", f"attempt {row['id']} {row['state']} was settled {ended[row['id']]} times"
            )
    numbers: dict[str, list[int]] = defaultdict(list)
    for row in ledger.attempts:
        numbers[row["task_id"]].append(row["number"])
    for ident, found_numbers in numbers.items():
        if found_numbers != list(range(1, len(found_numbers) + 1)):
            found.add("duplicated completions", f"{ident}: its attempts are numbered {found_numbers}")


def _holds(found: Findings, ledger: Ledger) -> None:
    for name in ("reservations", "replies"):
        for row in ledger.rows[name]:
            found.add("leaked holds", f"{name}: {row}")
    for row in ledger.rows["budget"]:
        if row["held_micros"]:
            found.add("leaked holds", f"budget of {row['agent_owner']} on {row['date']} holds {row['held_micros']}")
    for row in ledger.attempts:
        if row["state"] == "running" or row["held_base"] or row["held_micros"]:
            found.add("leaked holds", f"attempt {row['id']} is {row['state']} and holds {row['held_micros']}")


def _sums(found: Findings, ledger: Ledger) -> None:
    meter = ledger.rows["meter"]
    sums = {
        "meter": sum(row["cost_micros"] for row in meter),
        "tasks": sum(task["cost_micros"] for task in ledger.tasks.values()),
        "attempts": sum(row["cost_micros"] for row in ledger.attempts),
        "budget": sum(row["spent_micros"] for row in ledger.rows["budget"]),
        "audit": sum(body.get("cost_micros", 0) for body in ledger.bodies),
    }
    if len(set(sums.values())) != 1:
        found.add("dollars adrift", f"sums differ: {sums}")
    found.notes["micro-dollars"] = sums["meter"]
    for row in ledger.attempts:
        booked = sum(line["cost_micros"] for line in ledger.meter[row["id"]])
        if booked != row["cost_micros"]:
            found.add("dollars adrift", f"attempt {row['id']}: {row['cost_micros']} booked, {booked} metered")
    days = Counter[tuple[str, str]]()
    for row in meter:
        days[row["role"], row["date"]] += row["cost_micros"]
    for row in ledger.rows["budget"]:
        if row["agent_owner"] != "*" and days[row["agent_owner"], row["date"]] != row["spent_micros"]:
            found.add("dollars adrift", f"budget of {row['agent_owner']} on {row['date']}: {row['spent_micros']}")


def _echo(found: Findings, ledger: Ledger) -> None:
    """An echo run costs what its payload says, once; a run that was lost is charged its hold, and marked so.

    A run that had been given up and ended all the same (`stale_result`) may be booked late, at the same price.
    """
    late = {body.get("attempt") for body in ledger.bodies if body["action"] == "stale_result"}
    for row in ledger.attempts:
        price = int(Decimal(json.loads(ledger.tasks[row["task_id"]]["payload"]).get("cost_usd", "0")) * 1_000_000)
        said = row["outcome"] in ("succeeded", "permanent") or str(row["error"]).startswith("told to fail")
        exact = [line["cost_micros"] for line in ledger.meter[row["id"]] if line["exact"]]
        rough = [line["cost_micros"] for line in ledger.meter[row["id"]] if not line["exact"]]
        wanted = [price] if said and price else []
        if exact != wanted and not (row["id"] in late and exact == [price]):
            found.add("dollars adrift", f"attempt {row['id']} {row['outcome']}: costs {price}, booked {exact}")
        if row["state"] == "lost" and not sum(rough):
            found.add("dollars adrift", f"attempt {row['id']} was lost and cost nothing")
        found.notes["bills without an end"] += len(rough)


def _billed(found: Findings, ledger: Ledger, bill: Path) -> None:
    """Every exact row is one line of the model's bill; what is left of the bill is covered by rows that are not."""
    lines = defaultdict[str, list[int]](list)
    for text in bill.read_text().splitlines():
        line = json.loads(text)
        if line["cost_micros"]:
            lines[line["task"]].append(line["cost_micros"])
    found.notes["lines of the model's bill"] = sum(map(len, lines.values()))
    rows = defaultdict[str, list[dict[str, Any]]](list)
    for row in ledger.rows["meter"]:
        rows[row["task_id"]].append(row)
    for task in {*lines, *rows}:
        exact = Counter(row["cost_micros"] for row in rows[task] if row["exact"] and row["cost_micros"])
        rough = [row["cost_micros"] for row in rows[task] if not row["exact"]]
        billed = Counter(lines[task])
        if exact - billed:
            found.add("dollars adrift", f"task {task}: booked and never billed: {dict(exact - billed)}")
        left = list((billed - exact).elements())
        if len(left) > len(rough) or sum(left) > sum(rough):
            found.add("dollars adrift", f"task {task}: billed {left}, covered by {rough}")
        found.notes["bills without an end"] += len(rough)
        found.notes["bills to the micro-dollar"] += sum(exact.values())


def _audit(found: Findings, ledger: Ledger, head: Path) -> None:
    if ledger.integrity != ["ok"]:
        found.add("audit breaks", f"integrity: {ledger.integrity[:3]}")
    before = bytes(32)
    for number, (seq, body, chain) in enumerate(ledger.audit, 1):
        leaf = hashlib.sha256(b"\x00" + body).digest()
        if seq != number or chain != hashlib.sha256(b"\x02" + before + seq.to_bytes(8, "big") + leaf).digest():
            found.add("audit breaks", f"row {seq} does not continue the chain")
            return
        before = chain
    kept = head.read_text().strip("\x00\n ").split()
    if kept != [str(len(ledger.audit)), before.hex()]:
        found.add("audit breaks", f"the head file says {kept}, the ledger {len(ledger.audit)} {before.hex()}")
    for body in ledger.bodies:
        if body["action"] == "audit_head_mismatch":
            found.add("audit breaks", f"rows were lost: {body['detail']}")
        if body["action"] == "foreign_write":
            found.add("audit breaks", "what the one writer wrote was taken for another program's")
    times = [datetime.fromisoformat(body["at"]) for body in ledger.bodies]
    found.notes["leaps of the clock in the audit log"] += sum(
        abs((after - before).total_seconds()) > HALF_A_DAY for before, after in pairwise(times)
    )
