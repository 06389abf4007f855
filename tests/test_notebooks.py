"""The chapters as stored: nothing stale, nothing hidden from nbval, everything a learner needs; and run as solved.

The rules are those of tests/lints.py; that they find what they are for is shown in test_gates.py.
"""

import importlib
import re
from functools import cache

import pytest

from llmcourse.exercises import all_exercises
from llmcourse.exercises.quiz import questions
from tests import notebooks
from tests.lints import RULES, chapter
from tests.notebooks import CHECK, ROOT, execute, is_exercise, number_of, paths, read, solved
from tests.timing import BUDGET, pace

each_notebook = pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
stored = cache(chapter)


def test_there_are_chapters():
    assert len(paths()) >= 4


def test_table_of_contents_names_every_chapter():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert re.findall(r"notebooks/(\w+)", contents) == [path.stem for path in paths()]


def test_a_changed_package_makes_every_notebook_stale(monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "package_hash", lambda: "another")
    assert notebooks.main(["--stale"]) == 1
    assert capsys.readouterr().out.count("is stale") == len(paths())
    made_by = {read(path).metadata.llmcourse.package_sha256 for path in paths()}
    if len(made_by) == 1:  # all were made by one state of the package: with that state, all are fresh
        monkeypatch.setattr(notebooks, "package_hash", lambda: next(iter(made_by)))
        assert notebooks.stale() == []


@each_notebook
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_chapter_keeps_the_rule(path, rule):
    assert list(rule(stored(path))) == []


@each_notebook
def test_exercises_of_a_chapter_know_its_number(path):
    name = path.stem.partition("_")[2]
    assert number_of(path) == str(importlib.import_module(f"llmcourse.exercises.{name}").CHAPTER)


def test_every_exercise_stands_in_a_chapter():
    shown = {CHECK.search(cell.source)[1] for path in paths() for cell in stored(path).code if is_exercise(cell)}
    assert shown == {exercise.__name__ for exercise in all_exercises()}


@each_notebook
def test_quiz_explains_every_option(path):
    for question in questions(path.stem.partition("_")[2]):
        assert sum(option.get("right", False) for option in question["option"]) == 1, question["ask"]
        assert len(question["option"]) >= 3
        assert all(len(option["why"]) > 20 for option in question["option"])


def test_the_place_of_an_option_does_not_tell_whether_it_is_right():
    asked = [one for path in paths() for one in questions(path.stem.partition("_")[2]) if len(one["option"]) == 3]
    places = [next(place for place, option in enumerate(one["option"]) if option.get("right")) for one in asked]
    assert all(0.2 < places.count(place) / len(asked) < 0.47 for place in range(3))


@pytest.mark.slow
@each_notebook
def test_notebook_runs_with_every_exercise_solved(path):
    notebook = solved(read(path))
    assert execute(notebook) < BUDGET * pace()
    checked = list(filter(is_exercise, notebook.cells))
    assert checked
    for cell in checked:
        assert cell.outputs[0]["data"]["text/plain"].startswith("\u2713"), cell.outputs
