"""Lighthouse's marks for a few pages of the built book: `python -m tests.lighthouse`, after `make book`, or `make lighthouse`.

Lighthouse is an npm package. The first time it is put into _build/lighthouse, at the version that was tried; npm must be there.
The book is served on this machine, compressed as hosts of static pages do it. Marks are from 0 to 100, on a simulated phone
with a slow processor and a slow network. The mark for performance counts seconds of this machine: on a busy one it says little, so
of several runs the best is taken, and each run says how fast the machine was.
"""

import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from tests.browsing import BOOK, ROOT, served
from tests.printing import chromium

VERSION = "12.8.2"  # the newest that Node 20 runs
HOME = ROOT / "_build/lighthouse"
PROGRAM = HOME / "node_modules/lighthouse/cli/index.js"
PAGES = ("book/index.html", "notebooks/03_self_attention.html", "book/playground.html")
KINDS = ("performance", "accessibility", "best-practices", "seo")
LEAST = 95
RUNS = 5  # at most
COMPRESSED = ("text/", "application/javascript", "application/json", "image/svg")


class Compressing(SimpleHTTPRequestHandler):
    """Serves files as a host of static pages does: texts compressed, and kept by the browser for ten minutes."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content, kind = path.read_bytes(), self.guess_type(str(path))
        self.send_response(200)
        if kind.startswith(COMPRESSED):
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(content)


def install() -> None:
    """Fetch Lighthouse, unless it is there. Raises FileNotFoundError when node or npm is missing."""
    for name in ("node", "npm"):
        if not shutil.which(name):
            raise FileNotFoundError(f"{name} is missing: install Node.js 20 or newer")
    if not PROGRAM.is_file():
        HOME.mkdir(parents=True, exist_ok=True)
        wanted = f"lighthouse@{VERSION}"
        command = [
            "npm",
            "install",
            "--prefix",
            HOME,
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
            wanted,
        ]
        subprocess.run(command, check=True)


def judged(address: str) -> tuple[dict[str, int], list[str], float]:
    """The marks of a page, the audits that it fails by more than half, and how fast the machine was (1500: a new desktop)."""
    command = ["node", PROGRAM, address, "--quiet", "--output=json", f"--only-categories={','.join(KINDS)}"]
    command.append("--chrome-flags=--headless=new --no-sandbox")
    environment = os.environ | {"CHROME_PATH": chromium() or ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if not run.stdout.startswith("{"):
        raise ValueError(f"Lighthouse gave no result for {address}: {run.stderr[-500:]}")
    report = json.loads(run.stdout)
    marks = {kind: round(100 * report["categories"][kind]["score"]) for kind in KINDS}
    weighty = (one["id"] for kind in KINDS for one in report["categories"][kind]["auditRefs"] if one["weight"])
    failed = [name for name in weighty if (score := report["audits"][name]["score"]) is not None and score < 0.5]
    return marks, failed, report["environment"]["benchmarkIndex"]


def best(address: str, runs: int = RUNS) -> tuple[dict[str, int], list[str]]:
    """The best marks of a page in so many runs, or of the first that reaches LEAST in all; and what failed in that run."""
    found: list[tuple[dict[str, int], list[str]]] = []
    for _ in range(runs):
        marks, failed, speed = judged(address)
        print(f"{address.rsplit('/', 1)[-1]:28} {marks}  machine {speed:.0f}  {' '.join(failed)}")
        found.append((marks, failed))
        if all(mark >= LEAST for mark in marks.values()):
            break
    return max(found, key=lambda one: one[0]["performance"])


def below(marks: dict[str, int]) -> dict[str, int]:
    """The marks of a page that are below LEAST."""
    return {kind: mark for kind, mark in marks.items() if mark < LEAST}


def main(book: Path = BOOK) -> None:
    """Judge all pages. Ends with 1 when a mark is below LEAST."""
    install()
    with served(book, Compressing) as home:
        low = [page for page in PAGES if below(best(f"{home}/{page}")[0])]
    sys.exit(f"below {LEAST}: {', '.join(low)}" if low else 0)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
