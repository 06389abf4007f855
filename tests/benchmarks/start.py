"""What it costs to begin: an import, and the book."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import OURS, Comparison, Contestant, rounded
from tests.timing import spent_by

ROOT = Path(__file__).parents[2]


def importing(module: str) -> Contestant:
    """A Python of its own that imports one module."""
    return Contestant(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=ROOT))


@dataclass(frozen=True, kw_only=True)
class Book:
    """The book, built into an empty folder, and built again with nothing changed."""

    title: str = "The book"

    def run(self, *, short: bool = False) -> dict:
        """Seconds of both builds."""
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "jupyter_book", "build", str(ROOT), "--path-output", folder, "-q"]
            spent = {
                name: spent_by(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
                for name in ("cold", "warm")
            }
        times = {name: {"processor": rounded(one.processor), "wall": rounded(one.wall)} for name, one in spent.items()}
        return {"kind": "times", "title": self.title, "goals": {"warm": 10.0}, "times": times}


ROWS = {
    "start": Comparison(
        title="Importing",
        unit="a new Python that imports one module",
        reference="torch",
        contestants={"torch": lambda: importing("torch"), OURS: lambda: importing("llmcourse.attention")},
        goals={OURS: 1 / 1.05},
    ),
    "book": Book(),
}
