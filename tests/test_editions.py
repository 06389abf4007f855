"""Three editions come of one source, the same each time, and the learner's holds no solution."""

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from llmcourse.exercises import Exercise
from tests.editions import MAKE, edition, exercises_of, minutes, talking_points
from tests.notebooks import ROOT, code_hash, is_exercise, paths, read, solved

each_notebook = pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
# Here the chapter itself arrives at the answer, and the exercise is to make a function of it, or to use the checker.
TAUGHT = {"MendSoftmax", "QuantisePerChannel"}


@functools.cache
def made(kind: str, path: Path):
    """One notebook of one edition."""
    return MAKE[kind](read(path), path.stem)


def body(exercise: type[Exercise]) -> list[str]:
    """The lines of a solution below its first."""
    code = exercise.show_solution().code
    first = ast.parse(code).body[0].body[0].lineno
    return [line.strip() for line in code.splitlines()[first - 1 :] if line.strip()]


def shown(cell) -> set[str]:
    """All lines that a reader of a cell sees: its source, and what it put out."""
    texts = [cell.source]
    for output in cell.get("outputs", []):
        texts += [output.get("text", ""), *map(str, output.get("data", {}).values())]
    return {line.strip() for text in texts for line in text.splitlines()}


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells]


def leaks(notebook) -> list[str]:
    """The exercises of whose solution a line stands in an exercise's cells, or the whole in the notebook."""
    near = set().union(*(shown(cell) for cell in notebook.cells if is_exercise(cell) or "exercise" in cell.metadata))
    everywhere = set().union(*map(shown, notebook.cells))
    found = []
    for exercise in exercises_of(notebook):
        lines = set(body(exercise))
        if lines & near or (lines <= everywhere and exercise.__name__ not in TAUGHT):
            found.append(exercise.__name__)
    return found


@each_notebook
def test_no_solution_stands_in_the_learners_edition(path):
    assert leaks(made("learner", path)) == []


def test_the_search_for_leaks_finds_those_that_are_planted():
    path = paths()[1]
    wanted = [exercise.__name__ for exercise in exercises_of(read(path))]
    assert leaks(made("solved", path)) == wanted
    hidden = read(path)  # a solution that somebody left among the chapter's own cells
    hidden.cells[3].source += "\n" + exercises_of(hidden)[1].show_solution().code
    assert leaks(hidden) == wanted[1:2]


@each_notebook
def test_the_learners_edition_is_the_notebook_as_it_stands(path):
    assert edition("learner", path) == path.read_text(encoding="utf-8")


@each_notebook
def test_the_solved_edition_is_what_the_tests_run_and_nothing_else(path):
    notebook = made("solved", path)
    assert sources(notebook) == sources(solved(read(path)))
    assert notebook.metadata.llmcourse.code_sha256 == code_hash(notebook)
    assert not any(cell.outputs for cell in filter(is_exercise, notebook.cells))


@each_notebook
def test_the_instructors_edition_tells_times_hints_mistakes_and_talking_points(path):
    cells = made("instructor", path).cells
    added = [cell.source for cell in cells if "instructor" in cell.metadata.get("tags", [])]
    others = [cell.source for cell in cells if "instructor" not in cell.metadata.get("tags", [])]
    assert others == sources(made("solved", path))
    assert all(point in added[0] for point in talking_points()[path.stem])
    assert f"Reading and running: {minutes(made('learner', path))[0]} minutes" in added[0]
    for exercise, text in zip(exercises_of(made("learner", path)), added[1:], strict=True):
        assert f"about {exercise.minutes} minutes" in text
        assert all(hint in text for hint in exercise.hints)
        assert all(one.sentence in text for one in exercise.mistakes.values())


def test_every_chapter_has_three_to_five_talking_points_of_its_own():
    points = talking_points()
    assert list(points) == [path.stem for path in paths()]
    assert all(3 <= len(of_chapter) <= 5 for of_chapter in points.values())
    said = [point for of_chapter in points.values() for point in of_chapter]
    assert len(set(said)) == len(said) and all(80 < len(point) < 400 for point in said)


@each_notebook
def test_the_minutes_of_a_chapter_are_those_of_its_exercises(path):
    notebook = made("learner", path)
    assert abs(minutes(notebook)[1] - sum(exercise.minutes for exercise in exercises_of(notebook))) <= 10


@pytest.mark.slow
def test_another_python_builds_the_same_bytes(tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7"}  # there, sets of strings come in another order
    command = [sys.executable, "-m", "tests.editions", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert len(list(tmp_path.rglob("*.ipynb"))) == len(MAKE) * len(paths())
    for kind in MAKE:
        for path in paths():
            written = (tmp_path / kind / path.name).read_bytes()
            assert written == edition(kind, path).encode()
            nbformat.validate(nbformat.reads(written.decode(), 4))


def test_a_chapter_that_does_not_say_its_minutes_is_refused():
    notebook = read(paths()[0])
    notebook.cells[0].source = "# 0"
    with pytest.raises(ValueError, match="Reading takes about N minutes"):
        minutes(notebook)
