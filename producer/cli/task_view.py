"""How a task looks on the screen."""

from __future__ import annotations

from typing import Any

from producer.cli import screen
from producer.core.text import one_line


def line(row: dict[str, Any]) -> str:
    """The line that scripts read: ID  pN  [role]  title."""
    return f"{row['id']}  p{row['priority']}  [{one_line(row['agent_owner'])}]  {one_line(row['title'])}"


def show(task: dict[str, Any]) -> None:
    """A task in full."""
    screen.say(one_line(task["title"]), "bold")
    for name, value in _facts(task):
        screen.say(f"  {name:<12} {value}", screen.STYLES.get(value, ""))
    _block("description", task["description"])
    if task["payload"]:
        _block("payload", _payload(task["payload"]))
    if task["result"]:
        _block("result", task["result"])
    if task["attempts"]:
        screen.say("")
        attempts(task["attempts"])
    for title, rows in (("waits for", task["blocked_by"]), ("filed", task["children"])):
        for row in rows:
            reason = f": {row['reason']}" if "reason" in row else ""
            screen.say(
                f"{title} {row['id']}  {row['status']}  [{row['agent_owner']}]  {one_line(row['title'])}{reason}"
            )
    for row in task["decisions"]:
        screen.say(f"decided ({one_line(row['kind'])}): {one_line(row['decision_text'])}")


def _payload(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {one}" for key, one in value.items())
    return str(value)


def attempts(rows: list[dict[str, Any]]) -> None:
    """The history of a task."""
    screen.table(
        ["#", "state", "started", "finished", "turns", "tools", "cost", "error"],
        [
            [r["number"], r["state"], _time(r["started_at"]), _time(r["finished_at"]), r["turns"], r["tool_calls"],
             f"${r['cost_usd']}", one_line(r["error"] or "", 120)]
            for r in rows
        ],
        right=["#", "turns", "tools", "cost"],
    )  # fmt: skip
    for row in rows:
        if row.get("transcript"):
            screen.say(f"transcript of attempt {row['number']}: {row['transcript']}")


def tree(rows: list[dict[str, Any]], marked: str) -> None:
    """A lineage, children below their parents; the task that was asked for is marked."""
    known = {row["id"] for row in rows}
    children: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        parent = row["parent_task_id"]
        children.setdefault(parent if parent in known and row["depth"] else None, []).append(row)
    todo = [(row, 0) for row in reversed(children.get(None, []))]
    while todo:
        row, depth = todo.pop()
        mark = " <" if row["id"] == marked else ""
        text = f"{'  ' * depth}{row['id']}  {row['status']}  [{one_line(row['agent_owner'])}]  {one_line(row['title'])}"
        screen.say(f"{text}  ${row['cost_usd']}{mark}", screen.STYLES.get(row["status"], ""))
        todo.extend((child, depth + 1) for child in reversed(children.get(row["id"], [])))


def _facts(task: dict[str, Any]) -> list[tuple[str, str]]:
    blocked = task["status"] == "pending" and task["open_dependencies"]
    facts = [
        ("id", task["id"]),
        ("status", "blocked" if blocked else task["status"]),
        ("role", one_line(task["agent_owner"])),
        ("priority", str(task["priority"])),
        ("cost", f"${task['cost_usd']}"),
        ("retries", str(task["retry_count"])),
        ("created", _time(task["created_at"])),
        ("finished", _time(task["finished_at"])),
        ("filed by", str(task["parent_task_id"] or "")),
        ("sprint", one_line(task["sprint_id"] or "")),
        ("reason", one_line(task["escalation_reason"] or "")),
    ]
    if task["requires_approval"]:
        facts.append(("approval", f"is waited for: producerctl task approve {task['id']}"))
    return [(name, value) for name, value in facts if value]


def _block(title: str, text: object) -> None:
    screen.say("")
    screen.say(title, "bold")
    for part in str(text).splitlines():
        screen.say(f"  {part}")


def _time(text: str | None) -> str:
    return "" if text is None else text[:19].replace("T", " ")
