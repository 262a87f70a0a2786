"""How another queue is measured; runs in that queue's own environment, with the standard library alone.

python NAME.py drain SCRATCH TASKS WORKERS          how quickly a queue that was filled before is emptied
python NAME.py feed SCRATCH TASKS WORKERS FILERS    the same while so many processes file
python NAME.py fill SCRATCH TASKS                   one of these: files tasks one by one; prints when it began

The first two print one line of JSON, {"rate": tasks a second, "settings": what was measured}. SCRATCH is empty: a
queue has no past, as ours has none.

A module gives ``settings``, ``prepare`` (once), ``fill``, ``done`` (how many are verified as completed in the queue's
own records) and ``workers`` (the commands of its worker processes). A rate is from the first completion that is seen
to the last, so that nobody's start-up counts; with feeding, from the first insertion to the last completion.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

DEADLINE = 60.0


@contextmanager
def processes(commands, cwd):
    """Started, and ended by pid."""
    with ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((cwd / "worker.log").open("ab"))
            child = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, env=environment(cwd))
            stack.callback(end, child)
        yield


def end(child, seconds=10):
    """TERM, and KILL for what does not go."""
    child.terminate()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(seconds)


def environment(cwd):
    """The worker's: it finds the module and its scratch directory."""
    here = str(Path(__file__).parent)
    return {**os.environ, "BENCH_SCRATCH": str(cwd), "PYTHONPATH": here}


def await_count(module, scratch, wanted):
    """Wait until so many are done; (when the first was seen, how many these were, when the last was).

    Counting takes a tenth of the time at most: it is not to slow down what it watches.
    """
    before, deadline = module.done(scratch), time.monotonic() + DEADLINE
    seen = None
    while True:
        began = time.time()
        count = module.done(scratch)
        now = time.time()
        if seen is None and count > before:
            seen = (now, count)
        if count >= wanted:
            assert count == wanted, f"{count} completed, {wanted} were filed"
            return *seen, now
        if time.monotonic() > deadline:
            raise SystemExit(f"only {count} of {wanted} in {DEADLINE:g} s: " + tail(scratch))
        time.sleep(max(0.01, (now - began) * 9))


def tail(scratch):
    """The end of what the workers wrote."""
    path = scratch / "worker.log"
    return path.read_text(errors="replace")[-500:] if path.exists() else ""


def drain(module, scratch, tasks, workers):
    """Tasks a second out of a queue that was filled before."""
    total = module.done(scratch) + tasks
    module.fill(scratch, tasks)
    with processes(module.workers(scratch, workers), scratch):
        first, count, last = await_count(module, scratch, total)
    assert total - count > tasks / 2, "most were done before the first look: there is nothing to measure"
    return (total - count) / (last - first)


def feed(module, scratch, tasks, workers, filers):
    """Tasks a second while so many processes file them one by one, workers ready."""
    with ExitStack() as stack:
        stack.enter_context(processes(module.workers(scratch, workers), scratch))
        total = module.done(scratch)
        module.fill(scratch, 1)
        await_count(module, scratch, total + 1)
        words = [sys.executable, sys.argv[0], "fill", str(scratch), str(tasks // filers)]
        filing = []
        for _ in range(filers):
            child = subprocess.Popen(words, cwd=scratch, stdout=subprocess.PIPE, env=environment(scratch))
            stack.callback(end, child)
            filing.append(child)
        began = min(float(child.stdout.readline()) for child in filing)
        _, _, last = await_count(module, scratch, total + 1 + tasks // filers * filers)
        for child in filing:
            child.wait(10)
    return tasks // filers * filers / (last - began)


def main(module):
    """What a module of this directory does when it is run."""
    verb, scratch, *numbers = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("out of time"))  # so that servers and workers end too
    if verb == "fill":
        print(time.time(), flush=True)
        module.fill(scratch, *numbers)
        return
    with module.prepare(scratch):
        rate = {"drain": drain, "feed": feed}[verb](module, scratch, *numbers)
    print(json.dumps({"rate": rate, "settings": module.settings()}))
