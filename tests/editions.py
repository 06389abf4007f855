"""Three editions of the notebooks from one source: `make editions`, or `python -m tests.editions --out FOLDER`.

The learner's is what the course publishes. The solved one has each exercise filled with its solution, as the tests run
it. The instructor's is the solved one with the times, hints and named mistakes of each exercise, and with what to say in
class (`book/talking_points.toml`). Building twice gives the same bytes.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from llmcourse.exercises import Exercise, all_exercises
from tests.notebooks import CHECK, DIFFICULTY, ROOT, code_hash, is_exercise, paths, read, solved

EDITIONS = ROOT / "_build/editions"
TALKING_POINTS = ROOT / "book/talking_points.toml"
MINUTES = re.compile(r"Reading takes about (\d+) minutes?, the exercises about (\d+)")


def talking_points() -> dict[str, list[str]]:
    """What to say, ask and show in class, by the notebook's name."""
    return tomllib.loads(TALKING_POINTS.read_text(encoding="utf-8"))


def exercises_of(notebook: NotebookNode) -> list[type[Exercise]]:
    """The exercises of a notebook, in their order."""
    by_name = {exercise.__name__: exercise for exercise in all_exercises()}
    return [by_name[CHECK.search(cell.source)[1]] for cell in notebook.cells if is_exercise(cell)]


def minutes(notebook: NotebookNode) -> tuple[int, int]:
    """How long a chapter takes, to read and run it and to do its exercises, as its first cell says."""
    if not (found := MINUTES.search(notebook.cells[0].source)):
        raise ValueError("the first cell does not say 'Reading takes about N minutes, the exercises about N'")
    return int(found[1]), int(found[2])


def learner(notebook: NotebookNode, name: str) -> NotebookNode:
    """The notebook as it stands."""
    return notebook


def solution_edition(notebook: NotebookNode, name: str) -> NotebookNode:
    """Every exercise solved. What a cell of an exercise showed is taken out, for it belonged to the stub."""
    notebook = solved(notebook)
    for cell in filter(is_exercise, notebook.cells):
        cell.outputs, cell.execution_count = [], None
    notebook.metadata.llmcourse = {**notebook.metadata.llmcourse, "code_sha256": code_hash(notebook)}
    return notebook


def instructor(notebook: NotebookNode, name: str) -> NotebookNode:
    """The solved edition with the plan of the chapter below its title, and a note below each exercise's text."""
    plan = plan_of(notebook, talking_points()[name])
    notes = {exercise.__name__: note(exercise) for exercise in exercises_of(notebook)}
    notebook = solution_edition(notebook, name)
    cells = [notebook.cells[0], for_instructors("plan", plan)]
    for cell in notebook.cells[1:]:
        cells.append(cell)
        if cell.cell_type == "markdown" and (kind := cell.metadata.get("exercise")):
            cells.append(for_instructors(kind, notes[kind]))
    notebook.cells = cells
    return notebook


def for_instructors(name: str, text: str) -> NotebookNode:
    """A cell that only the instructor's edition has."""
    return new_markdown_cell(text, id=f"instructor-{name}", metadata={"tags": ["instructor"]})


def plan_of(notebook: NotebookNode, points: list[str]) -> str:
    """The chapter's minutes, its exercises in one table, and its talking points."""
    reading, working = minutes(notebook)
    rows = [
        f"| {exercise.__name__} | {DIFFICULTY[exercise.difficulty]} | {exercise.minutes} | {len(exercise.mistakes)} |"
        for exercise in exercises_of(notebook)
    ]
    table = ["| exercise | difficulty | minutes | named mistakes |", "|---|---|---|---|", *rows]
    lines = [f"Reading and running: {reading} minutes. Exercises: {working} minutes.", "", *table, ""]
    return "\n".join(["## For the instructor", "", *lines, "**To say, ask and show**", "", *(f"- {p}" for p in points)])


def note(exercise: type[Exercise]) -> str:
    """What an instructor wants at hand when a hand goes up: minutes, hints, and what people get wrong."""
    head = f"**For the instructor.** {DIFFICULTY[exercise.difficulty].capitalize()}, about {exercise.minutes} minutes."
    hints = [f"{number}. {hint}" for number, hint in enumerate(exercise.hints, start=1)]
    wrong = [f"- *{name.replace('_', ' ')}*: {one.sentence}" for name, one in exercise.mistakes.items()]
    return "\n".join([head, "", "Hints:", "", *hints, "", "What people get wrong, and read then:", "", *wrong])


MAKE: dict[str, Callable[[NotebookNode, str], NotebookNode]] = {
    "learner": learner,
    "solved": solution_edition,
    "instructor": instructor,
}


def edition(kind: str, path: Path) -> str:
    """One notebook of one edition, as the text of its file."""
    return nbformat.writes(MAKE[kind](read(path), path.stem)) + "\n"


def main(arguments: list[str]) -> int:
    """Write all editions, each into a folder of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.editions", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=EDITIONS, help="where the three folders go (_build/editions)")
    folder = parser.parse_args(arguments).out
    for kind in MAKE:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for path in paths():
            (folder / kind / path.name).write_text(edition(kind, path), encoding="utf-8")
        print(f"{folder / kind}: {len(paths())} notebooks")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
