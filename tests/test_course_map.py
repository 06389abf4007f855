"""The map of the course shows what was done on this machine, and nothing else."""

import datetime
import json

import pytest

from llmcourse import cli
from llmcourse.exercises import all_exercises, progress, reviewing
from llmcourse.exercises.course_map import by_chapter, course_map, next_step, state, upcoming
from llmcourse.exercises.start_here import MendSoftmax, PredictShares


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))


def test_chapters_come_in_the_order_of_the_course():
    chapters = [chapter for chapter, _ in by_chapter()]
    assert chapters[:4] == ["0 · start here", "1 · language models", "2 · tokens", "3 · self attention"]
    assert {"18b · domains", "20 · capstone assistant"} <= set(chapters)


def test_the_map_marks_what_is_solved_tried_and_open():
    PredictShares.check(0.75)
    MendSoftmax.check(lambda scores: scores)
    assert (state(PredictShares), state(MendSoftmax)) == ("correct", "wrong")
    text = repr(course_map())
    assert "\u2713 PredictShares" in text
    assert "\u2717 MendSoftmax" in text
    assert "\u25cb SameEveryTime" in text
    assert "1 of " in text


def test_solving_again_later_keeps_an_exercise_solved():
    PredictShares.check(0.75)
    PredictShares.check(0.1)
    assert state(PredictShares) == "correct"


def test_what_is_next_follows_what_was_solved_last_and_comes_back_to_what_was_left_out():
    first, *others = all_exercises()
    assert upcoming() is first
    progress.record(others[2].__name__, solved=True)
    assert upcoming() is others[3]
    for exercise in others[3:]:
        progress.record(exercise.__name__, solved=True)
    assert upcoming() is first
    for exercise in (first, *others[:2]):
        progress.record(exercise.__name__, solved=True)
    assert upcoming() is None and next_step() == "Every exercise is solved."


def test_the_last_solved_is_told_by_its_day(tmp_path):
    names = [exercise.__name__ for exercise in all_exercises()]
    days = {names[9]: "2026-01-01", names[2]: "2026-03-01"}
    progress.path().write_text(json.dumps({name: {"tries": 1, "solved": day} for name, day in days.items()}), "utf-8")
    assert upcoming().__name__ == names[3]


def test_the_map_and_the_command_say_what_is_next_and_what_is_due(capsys):
    PredictShares.check(0.75)
    reviewing.answer(reviewing.cards()[0], False, datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1))
    wanted = "Next: SameEveryTime, in chapter 0. 1 quiz question is due: python -m llmcourse review"
    assert repr(course_map()).endswith(f"exercises solved. {wanted}") and wanted in course_map().html
    assert cli.main(["progress"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == wanted
