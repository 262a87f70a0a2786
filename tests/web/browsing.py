"""A real Chromium for the tests; where there is none they are skipped, and say why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
PATIENCE = 30_000


class Tab:
    """One page, and what its console complained of."""

    def __init__(self, page: object, base: str) -> None:
        from playwright.sync_api import Page

        assert isinstance(page, Page)
        self.page, self.base = page, base
        self.complaints: list[str] = []
        page.on("console", lambda said: said.type == "error" and self.complaints.append(f"{page.url}: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))

    def go(self, path: str) -> None:
        """Open one of the dashboard's pages and wait until it is live."""
        self.page.goto(self.base + path)
        self.page.wait_for_selector("html[data-live=yes]")


@contextmanager
def tab(link: str, *, width: int = 1280, height: int = 900, scheme: str = "light", live: bool = True) -> Iterator[Tab]:
    """A browser that came by the link, on the page Now; ``live``: wait for its stream."""
    from playwright.sync_api import sync_playwright

    base = link.split("/enter")[0]
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        try:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            context.set_default_timeout(PATIENCE)
            one = Tab(context.new_page(), base)
            one.page.goto(link)
            one.page.wait_for_url(f"{base}/")
            if live:
                one.page.wait_for_selector("html[data-live=yes]")
            yield one
        finally:
            browser.close()


def axe() -> str:
    """The source of axe-core, from the package that carries it."""
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
