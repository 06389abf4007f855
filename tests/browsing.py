"""What the tests in a browser share."""

import contextlib
import functools
import os
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


def build_once(mark: Path) -> None:
    """Build all pages anew, once in a run of the tests; also when several processes do the run, which then wait for the first.

    mark: a file that all of them see, and that no other run does
    """
    import fcntl  # not on Windows, where the book's tests do not run

    with mark.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_size:  # asked only now: it may have grown while this process waited
            return
        (BOOK / ".built").unlink(missing_ok=True)
        result = make("book")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "_build/html/index.html" in result.stdout
        file.write("built")
        file.flush()  # before the lock is given back


def of_this_run(tmp_path_factory) -> Path:
    """A folder of this run of the tests, which pytest's processes share if there are several."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def all_pages() -> list[Path]:
    """Every page of the book; index.html only leads to the first."""
    return sorted(path for path in BOOK.rglob("*.html") if "_static" not in path.parts and path != BOOK / "index.html")


def blames(message) -> bool:
    """Whether a message of the browser's console blames the page.

    Any error does, and a warning that names a file; the browser's own warnings, about the machine, name none.
    """
    return message.type == "error" or (message.type == "warning" and bool(message.location.get("url")))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, handler: type[SimpleHTTPRequestHandler] = _Quiet):
    """The address of the folder, below a sub-path: a page of a project is rarely at a host's root."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{folder.name}"
    server.shutdown()
    server.server_close()


def width(tab) -> int:
    """How wide the page is on a small phone."""
    tab.set_viewport_size({"width": NARROW, "height": 740})
    return tab.evaluate("document.documentElement.scrollWidth")


def incomplete(tab, mode: str) -> list[str]:
    """What a page of the book lacks in a browser, and whether it is too wide for a small phone, which it has the size of after."""
    formulas = tab.locator("main span.math, main div.math").count()
    typeset = tab.locator("main :is(span, div).math:has(mjx-container)").count()
    theme = tab.locator("html").get_attribute("data-theme")
    main = tab.locator("main")
    checks = {
        "no title": tab.title(),
        "no words": main.count() == 1 and main.inner_text().strip(),
        f"the theme is {theme}, not {mode}": theme == mode,
        f"{typeset} of {formulas} formulas": typeset == formulas,
        "wider than a phone": width(tab) <= NARROW,
    }
    return [fault for fault, kept in checks.items() if not kept]


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
        tab.on("websocket", lambda socket: self.faults.append(f"asked for {socket.url}"))
        tab.on("requestfailed", lambda request: say(f"failed: {request.url}"))
        tab.on(
            "response", lambda response: say(f"{response.status}: {response.url}") if response.status >= 400 else None
        )
        tab.goto(f"{self.home}/{name}")
        tab.evaluate("window.drawAll?.().then(() => 0)")
        yield tab
        tab.close()
