"""Files tasks as a user's process does: python insert.py bulk|single LEDGER TASKS PAUSE. Prints when it began."""

from __future__ import annotations

import sys
import time

from producer import LedgerClient


def main(how: str, ledger: str, tasks: str, pause: str) -> None:
    """File them; with a pause, one every so many seconds by the clock, however long one takes."""
    given = {"agent_owner": "work", "description": "nothing", "payload": {"cost_usd": "0.0001"}}
    with LedgerClient(ledger) as client:
        print(began := time.time(), flush=True)
        if how == "bulk":
            client.insert_tasks({"title": f"task {n}", **given} for n in range(int(tasks)))
            return
        for number in range(int(tasks)):
            client.insert_task(title=f"task {number}", **given)
            time.sleep(max(0.0, began + (number + 1) * float(pause) - time.time()))


if __name__ == "__main__":
    main(*sys.argv[1:])
