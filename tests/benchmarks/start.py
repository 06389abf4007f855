"""What it costs to begin: an import, and the book."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.growth import Growth
from tests.benchmarks.measuring import OURS, Comparison, Contestant, rounded
from tests.browsing import BOOK, ROOT, make
from tests.timing import spent_by


def importing(module: str) -> Contestant:
    """A Python of its own that imports one module."""
    return Contestant(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=ROOT))


def building(folder: str, *choices: str) -> Callable[[], object]:
    """Building the book into a folder."""
    program = "from jupyter_book.cli.main import main; main()"  # it cannot be run by -m
    command = [sys.executable, "-c", program, "build", str(ROOT), "--path-output", folder, "-q", *choices]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_book() -> None:
    """`make book`."""
    made = make("book")
    if made.returncode:
        raise RuntimeError(f"make book failed: {made.stderr[-500:]}")


def make_all() -> None:
    """`make book`, with all pages built anew."""
    (BOOK / ".built").unlink(missing_ok=True)
    make_book()


def run_notebooks() -> None:
    """Every cell of every notebook, on two processes, its output compared with what is stored.

    By the Python of the tests: the kernels of this one, which has the other libraries, do not know the course.
    """
    command = [".venv/bin/python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", "-p", "tests.strict_nbval"]
    subprocess.run([*command, "--nbval", "notebooks", "--nbval-cell-timeout=300"], check=True, cwd=ROOT)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Works that are done one after the other, and the seconds that each may take."""

    title: str
    works: Mapping[str, Callable[[], object]]
    goals: dict[str, float]

    def run(self, *, short: bool = False) -> dict:
        """Seconds of each."""
        spent = {name: spent_by(work) for name, work in self.works.items()}
        times = {name: {"processor": rounded(one.processor), "wall": rounded(one.wall)} for name, one in spent.items()}
        return {"kind": "times", "title": self.title, "goals": self.goals, "times": times}


def building_chapters(n: int) -> Callable[[], object]:
    """Building the first page and n chapters, each time anew."""
    chapters = [{"file": f"notebooks/{path.stem}"} for path in sorted((ROOT / "notebooks").glob("*.ipynb"))[:n]]

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            contents = Path(folder, "contents.yml")
            contents.write_text(json.dumps({"format": "jb-book", "root": "book/index", "chapters": chapters}))
            building(folder, "--toc", str(contents))()

    return work


ROWS = {
    "start": Comparison(
        title="Importing",
        unit="a new Python that imports one module",
        reference="torch",
        contestants={"torch": lambda: importing("torch"), OURS: lambda: importing("llmcourse.attention")},
        goals={OURS: 1 / 1.05},
    ),
    "book": Times(
        title="The book",
        works={"built": make_all, "built again, with nothing changed": make_book},
        goals={"built again, with nothing changed": 10.0},
    ),
    "notebooks": Times(
        title="All notebooks",
        works={"run and compared, two at once": run_notebooks},
        goals={"run and compared, two at once": 15 * 60.0},
    ),
    "growth-chapters": Growth(
        title="The book, by chapters",
        size="chapters",
        law="a + b·n: beside a start that is always the same, each chapter more takes about as long as the one before",
        expected=(0.8, 1.1),
        sizes=(3, 6, 12, 23),
        make=building_chapters,
        beyond_smallest=True,
    ),
}
