"""Make a chapter's exercises an assignment for a class: `make assignment CHAPTER=01`, or `python -m tests.classroom 01`.

What it writes is the folder of a course for nbgrader (Project Jupyter et al., 2019), which releases the assignment without its
solutions, collects what is handed in, runs it, and keeps the scores. An exercise becomes two cells: one that the learner
completes, with the solution in a region that nbgrader cuts out, and a locked one that earns the points.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from llmcourse.exercises import Exercise, all_exercises
from llmcourse.exercises.grading import full_points
from tests.notebooks import CHECK, ROOT, is_exercise, paths, read

COURSE = ROOT / "_build/course"
INVITATION = re.compile(r"; to compare, `\w+\.show_solution\(\)`")  # whoever hands in for points is not asked to peek
CONFIG = '''"""Settings of nbgrader for this course; every command is given in the folder where this file lies."""

import os
from pathlib import Path

# What is solved while others are graded is no progress of yours.
os.environ["LLMCOURSE_HOME"] = str(Path(__file__).parent / "home")

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "llmcourse"
# The learner's dots stay; this line takes the place of the solution below them.
c.ClearSolutions.code_stub = {"python": "# Your answer takes the place of the dots above."}
# A cell that gives points comes back when it was deleted.
c.OverwriteCells.add_missing_cells = True
c.Execute.timeout = 120  # seconds for a cell; an answer that never ends is stopped by the checker long before
'''
RULES = """Write your answers in place of the dots, and run each cell: the line that checks it tells you what is wrong.
Do not change the cells that give points. Before you hand in, choose *Restart and run all*."""


def answer_name(cell: NotebookNode, exercise: type[Exercise]) -> str:
    """What the learner's answer is called: an answer that stands in the call itself gets the solution's name."""
    name = CHECK.search(cell.source)[2]
    return name if name.isidentifier() else exercise.solution.__name__


def task(cell: NotebookNode, exercise: type[Exercise]) -> NotebookNode:
    """The cell that a learner completes: the stub, then the solution in a region, then the check."""
    name, kind = answer_name(cell, exercise), exercise.__name__
    stub = CHECK.sub("", cell.source).rstrip() or f"{name} = ...  # your answer instead of the dots"
    solution = f"### BEGIN SOLUTION\n{exercise.show_solution().code.rstrip()}\n"
    if exercise.solution.__name__ != name:
        solution += f"\n\n{name} = {exercise.solution.__name__}\n"
    source = f"{stub}\n\n\n{solution}### END SOLUTION\n\n{kind}.check({name})"
    return new_code_cell(source, id=f"answer-{kind}", metadata=marked(f"answer-{kind}", solution=True))


def reward(cell: NotebookNode, exercise: type[Exercise]) -> NotebookNode:
    """The cell that gives the points. Its result is a number, which nbgrader takes as the credit."""
    kind = exercise.__name__
    source = f"from {exercise.__module__} import {kind}\n\npoints_for({kind}, {answer_name(cell, exercise)})"
    source = f"from llmcourse.exercises.grading import points_for\n{source}"
    metadata = marked(f"points-{kind}", grade=True, locked=True, points=full_points(exercise))
    return new_code_cell(source, id=f"points-{kind}", metadata=metadata)


def marked(name: str, *, grade: bool = False, solution: bool = False, locked: bool = False, **more: float) -> dict:
    """The metadata by which nbgrader knows a cell."""
    kind = {"grade": grade, "solution": solution, "locked": locked, "task": False}
    return {"nbgrader": {"schema_version": 3, "cell_type": "code", "grade_id": name, **kind, **more}}


def assignment(notebook: NotebookNode) -> NotebookNode:
    """A chapter's title, its imports and its exercises, as nbgrader's source version: with the solutions."""
    by_name = {exercise.__name__: exercise for exercise in all_exercises()}
    title = notebook.cells[0].source.splitlines()[0]
    start = [cell for cell in notebook.cells if cell.cell_type == "code"][:2]  # Colab's, and the imports
    cells = [new_markdown_cell(f"{title}: assignment\n\n{RULES}", id="rules")]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "exercise" in cell.metadata:
            kind = cell.metadata["exercise"]
            cells.append(new_markdown_cell(INVITATION.sub("", cell.source), id=f"text-{kind}"))
        elif is_exercise(cell):
            exercise = by_name[CHECK.search(cell.source)[1]]
            cells += [task(cell, exercise), reward(cell, exercise)]
        elif cell in start:
            cells.append(new_code_cell(cell.source, id=f"start-{len(cells)}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def write(chapter: Path, course: Path) -> Path:
    """Write a chapter's assignment into a course's folder, and nbgrader's settings where there are none yet."""
    file = course / "source" / chapter.stem / chapter.name
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = course / "nbgrader_config.py"
    if not settings.exists():
        settings.write_text(CONFIG, encoding="utf-8")
    nbformat.write(assignment(read(chapter)), file)
    return file


def main(arguments: list[str]) -> int:
    """Write the assignments that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.classroom", description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="+", help="what the notebooks' names begin with, such as 01")
    parser.add_argument("--out", type=Path, default=COURSE, help="the course's folder (_build/course)")
    parsed = parser.parse_args(arguments)
    wanted = [path for path in paths() if path.name.split("_")[0] in parsed.chapters]
    if len(wanted) != len(set(parsed.chapters)):
        parser.error(f"there are the chapters {', '.join(path.name.split('_')[0] for path in paths())}")
    for chapter in wanted:
        print(write(chapter, parsed.out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
