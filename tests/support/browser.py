"""Start Chromium for a test, and watch what its pages do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support import ROOT, markers
from tests.support.servers.process import lack, need

#: What Chromium gets: as root it has no sandbox, and it asks no other host for anything.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

#: Finds what people with disabilities cannot use; https://github.com/dequelabs/axe-core
AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"

#: Rules of WCAG 2.2 A and AA, and what is known to be good beyond them.
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def start() -> Iterator[Any]:
    """Start Chromium, and end it; skip on a laptop that lacks it, fail in CI.

    While it runs, this thread has a running event loop, so that ``asyncio.run`` is refused.
    """
    markers.check("browser")
    program = need("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lack("playwright is not installed; pip install 'alligator[dev]' does it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """What a page must not do: complain on its console, raise, ask another host, open a dialog.

    :param page: that of Playwright.
    :param origin: the scheme, host and port that it may ask.
    """

    def __init__(self, page: Any, origin: str) -> None:
        self.page, self.origin = page, origin
        self.faults: list[str] = []
        #: Parts of faults that this test provokes, which are none.
        self.allows: list[str] = []
        #: Of the responses since the last look: path and status.
        self.answers: list[tuple[str, int]] = []
        page.on("console", self._note_console)
        page.on("pageerror", lambda err: self._note(f"raised {err}"))
        page.on("request", self._note_request)
        page.on("requestfailed", self._note_failure)
        page.on("response", lambda found: self.answers.append((found.url, found.status)))
        page.on("dialog", self._note_dialog)

    def renew(self) -> list[str]:
        """Begin again, for another test; return the faults so far."""
        found, self.faults, self.allows = self.faults, [], []
        self.answers.clear()
        return found

    def _note(self, fault: str) -> None:
        if not any(each in fault for each in self.allows):
            self.faults.append(fault)

    def _note_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._note(f"console: {message.text}")

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:image/")):
            self._note(f"asked for {request.url}")

    def _note_failure(self, request: Any) -> None:
        # A page that is left drops what it was asking for.
        if "ERR_ABORTED" not in (request.failure or ""):
            self._note(f"{request.url} failed: {request.failure}")

    def _note_dialog(self, dialog: Any) -> None:
        self._note(f"opened a dialog: {dialog.message}")
        dialog.dismiss()


def violations(page: Any, rules: Sequence[str] = AXE_TAGS) -> list[str]:
    """Return what axe finds wrong with a page: one line for each element.

    :param rules: their names, or tags of them.
    """
    if not AXE.exists():
        lack("axe-core is not installed; 'make test' installs it, and scripts/install-axe")
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE.read_text())
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", list(rules)
    )
    return [
        f"{rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
