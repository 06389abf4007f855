"""Every page says what it may load, and the browser holds it: nothing of another host, and no script that the build did not write.

A page's inline scripts are named by their SHA-256, so one that gets into a page later does not run, nor does `eval`. Styles may
stand inline, since formulas and views set them; they too can load from the book alone. In a page opened from a disk, 'self' means
the files on that disk, in Chromium and in Firefox. What a policy inside a page cannot say, who may frame the page, is left to the
server.
"""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx

DIRECTIVES = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",  # the theme's style sheets draw small icons so
    "object-src": "'none'",
    "frame-src": "'none'",
    "worker-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",  # the search
}
# The theme's buttons. Every page names them: the search reads other pages into its own, to quote from them.
BUTTONS = ["window.print()", "toggleFullScreen()"]
RUNS = {"", "module", "text/javascript"}  # types of a script that a browser runs; all others are data
STATED = re.compile(r'<meta http-equiv="Content-Security-Policy" content="[^"]*">')
CHARSET = re.compile(r'<meta charset="utf-8" ?/?>')  # must stand first; no script stands before it


class Inline(HTMLParser):
    """The scripts that a page holds itself, in elements and in attributes such as `onclick`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self._inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.handlers += [value or "" for name, value in attrs if name.startswith("on")]
        if tag == "script" and "src" not in values and (values.get("type") or "") in RUNS:
            self._inside = True
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def fingerprints(scripts: list[str]) -> str:
    """The names of scripts in a policy, each once."""
    digests = (hashlib.sha256(script.encode()).digest() for script in dict.fromkeys(scripts))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def policy(page: str) -> str:
    """The policy of a page, which lets the scripts run that the page holds now."""
    found, said = Inline(page), dict(DIRECTIVES)
    if found.scripts:
        said["script-src"] += " " + fingerprints(found.scripts)
    said["script-src-attr"] = f"'unsafe-hashes' {fingerprints(BUTTONS + found.handlers)}"
    return "; ".join(f"{name} {sources}" for name, sources in said.items())


def guarded(page: str) -> str:
    """The page with its policy, before all that the policy speaks of; an older policy is replaced."""
    page = STATED.sub("", page)
    element = f'<meta http-equiv="Content-Security-Policy" content="{policy(page)}">'
    place = found.end() if (found := CHARSET.search(page)) else 0  # 0: the page that only leads to the first one
    return page[:place] + element + page[place:]


def guard(app: Sphinx, error: Exception | None) -> None:
    """Write the policies when all else has been written into the pages."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    for path in (path for path in folder.rglob("*.html") if folder / "_static" not in path.parents):
        path.write_text(guarded(path.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("build-finished", guard, priority=900)  # after all that write into pages
    return {"parallel_read_safe": True, "parallel_write_safe": True}
