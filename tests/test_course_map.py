"""The map of the course shows what was done on this machine, and nothing else."""

import pytest

from llmcourse.exercises.course_map import by_chapter, course_map, state
from llmcourse.exercises.start_here import MendSoftmax, PredictShares


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))


def test_chapters_come_in_the_order_of_the_course():
    assert [chapter for chapter, _ in by_chapter()][:4] == ["start here", "language models", "tokens", "self attention"]


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
