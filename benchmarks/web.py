"""How long the dashboard's pages take against the size of the ledger, and how long a change takes to the screen.

    python benchmarks/web.py [--sizes 1000 100000 1000000] [--rounds 20] [--changes 40]

Every ledger of the table has that many tasks, and as many attempts, model requests and audit rows. The pages are asked
of `producerctl ui`, a process of its own, over HTTP. The screen is a real Chromium's, where there is one: from the
moment before a task is filed to the moment that its row is in the page, as the page's own clock saw it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import yaml
from filling import fill

from producer.ledger import LedgerClient

ROLES = ("code", "design", "qa", "art")
PAGES = (
    "/", "/tasks", "/tasks?status=done", "/tasks?status=done&role=qa&before=MIDDLE", "/tasks?status=blocked",
    "/tasks?text=needle", "/tasks/TASK", "/flow", "/money", "/audit", "/audit?action=cost", "/audit?text=needle",
    "/reports", "/api/state",
)  # fmt: skip


def environment(base: Path) -> dict[str, str]:
    """Private directories of the benchmark's own."""
    return {"HOME": str(base / "h"), "XDG_STATE_HOME": str(base / "s"), "XDG_RUNTIME_DIR": str(base / "r"),
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}  # fmt: skip


def project(base: Path) -> Path:
    """A project directory with a configuration and an empty ledger."""
    root = base / "p"
    root.mkdir()
    agents = {
        role: {"daily_cap_usd": 50, "dispatch_reservation_usd": 0.01, "allowed_tools": ["Read"]} for role in ROLES
    }
    config = {"project_name": "benchmark", "budget": {"project_ceiling_usd": 200, "agents": agents}}
    (root / "producer.yaml").write_text(yaml.safe_dump(config))
    os.environ.update(environment(base))
    LedgerClient(root / "agent-state" / "ledger.db").close()
    return root


@contextmanager
def dashboard(root: Path, base: Path) -> Iterator[str]:
    """`producerctl ui`; its one-time link."""
    process = subprocess.Popen(
        [sys.executable, "-m", "producer", "ui", "--no-browser"], cwd=root, env=environment(base),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def entered(link: str) -> httpx.Client:
    """A browser that came by the link."""
    client = httpx.Client(base_url=link.split("/enter")[0], timeout=60)
    deadline = time.monotonic() + 30
    while True:
        try:
            assert client.get(link).status_code == 200
            return client
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def render(sizes: list[int], rounds: int) -> None:
    """Print how long every page takes, median of ``rounds``, in milliseconds, by size of the ledger."""
    table: dict[str, list[float]] = {page: [] for page in PAGES}
    for size in sizes:
        base = Path(tempfile.mkdtemp(prefix="apw-"))
        try:
            root = project(base)
            fill(root / "agent-state" / "ledger.db", size)
            with dashboard(root, base) as link, closing(entered(link)) as client:
                task = client.get("/api/tasks?limit=1&status=done").json()["tasks"][0]["id"]
                for page in PAGES:
                    address = page.replace("TASK", task).replace("MIDDLE", str(size // 2))
                    client.get(address)
                    table[page].append(statistics.median(timed(client, address) for _ in range(rounds)))
        finally:
            shutil.rmtree(base)
    print(f"{'milliseconds at the median':45}" + "".join(f"{size:>12,}" for size in sizes) + f"{'ratio':>9}")
    for page, times in table.items():
        print(f"{page:45}" + "".join(f"{one:12.1f}" for one in times) + f"{times[-1] / times[0]:9.2f}")


def timed(client: httpx.Client, address: str) -> float:
    """One request, in milliseconds."""
    begun = time.perf_counter()
    found = client.get(address)
    assert found.status_code == 200, found.text
    return (time.perf_counter() - begun) * 1000


SEEN = """(title) => new Promise((resolve) => {
  const there = () => document.getElementById('queue').textContent.includes(title);
  const watch = new MutationObserver(() => there() && (watch.disconnect(), resolve(Date.now() / 1000)));
  watch.observe(document.body, {subtree: true, childList: true, characterData: true});
  if (there()) { watch.disconnect(); resolve(Date.now() / 1000); }
})"""


def screen(changes: int) -> None:
    """Print how long it takes from filing a task until it stands in a page that is open."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium here: the way to the screen was not measured")
        return
    from playwright.sync_api import sync_playwright

    base = Path(tempfile.mkdtemp(prefix="apw-"))
    root = project(base)
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "producer", "run", "--invoker", "echo", *(f"--workers={role}=0" for role in ROLES)],
        cwd=root, env=environment(base), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with dashboard(root, base) as link, sync_playwright() as player:
            entered_browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = entered_browser.new_page()
            entered_at = time.monotonic()
            while True:
                try:
                    page.goto(link)
                    break
                except Exception:
                    assert time.monotonic() < entered_at + 30
                    time.sleep(0.1)
            page.wait_for_selector("#standing .good")
            times = []
            with LedgerClient(root / "agent-state" / "ledger.db") as client:
                for number in range(changes):
                    title = f"change-{number}-"
                    page.evaluate(f"void (window.seen = ({SEEN})({title!r}))")
                    time.sleep(0.25)
                    begun = time.time()
                    ident = client.insert_task(agent_owner="code", title=title, description="d", priority=0)
                    times.append((page.evaluate("window.seen") - begun) * 1000)
                    client.kill_task(ident, "measured")
                    time.sleep(0.25)
            entered_browser.close()
        ordered = sorted(times)
        late = ordered[int(0.9 * len(times))]
        print(f"from filing to the screen, ms: median {statistics.median(times):.0f}, 90 % {late:.0f},", end=" ")
        print(f"worst {ordered[-1]:.0f} of {len(times)}")
    finally:
        supervisor.terminate()
        supervisor.wait(30)
        shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--changes", type=int, default=40)
    given = parser.parse_args()
    render(given.sizes, given.rounds)
    screen(given.changes)


if __name__ == "__main__":
    main()
