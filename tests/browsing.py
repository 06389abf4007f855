"""What the tests in a browser share."""

import contextlib
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "_build/html"
NARROW = 360  # pixels: a small phone
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    """Run make as a reader would, also when these tests were started by make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def all_pages() -> list[Path]:
    """Every page of the book; index.html only leads to the first."""
    return sorted(path for path in BOOK.rglob("*.html") if "_static" not in path.parts and path != BOOK / "index.html")


def blames(message) -> bool:
    """Whether a message of the browser's console blames the page.

    Any error does, and a warning that names a file; the browser's own warnings, about the machine, name none.
    """
    return message.type == "error" or (message.type == "warning" and bool(message.location.get("url")))


class Visitor:
    """Opens pages in Chromium, with every other host blocked, and keeps what is amiss."""

    def __init__(self, browser, home: str, mode: str):
        self.home, self.mode, self.faults = home, mode, []
        self.context = browser.new_context(color_scheme=mode, viewport={"width": 1280, "height": 900})
        self.context.route("**/*", self._let_through)

    def _let_through(self, route) -> None:
        if route.request.url.startswith((self.home, "data:", "blob:")):
            route.continue_()
        else:
            self.faults.append(f"asked for {route.request.url}")
            route.abort()

    @contextlib.contextmanager
    def visit(self, name: str):
        tab = self.context.new_page()
        tab.set_default_timeout(15_000)
        say = lambda fault: self.faults.append(f"{name}: {fault}")  # noqa: E731
        tab.on("console", lambda message: say(message.text) if blames(message) else None)
        tab.on("pageerror", lambda error: say(error))
        tab.on("requestfailed", lambda request: say(f"failed: {request.url}"))
        tab.on(
            "response", lambda response: say(f"{response.status}: {response.url}") if response.status >= 400 else None
        )
        tab.goto(f"{self.home}/{name}")
        tab.evaluate("window.MathJax?.startup?.promise?.then(() => 0)")
        yield tab
        tab.close()
