"""The atlas of misconceptions names every known mistake, and shows what it does."""

import functools

import pytest

from llmcourse.exercises import Exercise, all_exercises, mistake, solution
from llmcourse.exercises.atlas import SHOWN, misconceptions, symptom


@functools.cache
def entries():
    return list(misconceptions())


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
def test_every_mistake_stands_in_it_once_in_the_order_of_the_course():
    wanted = [(exercise, name.replace("_", " ")) for exercise in all_exercises() for name in exercise.mistakes]
    assert [(one.exercise, one.name) for one in entries()] == wanted
    assert len(wanted) > 300


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
def test_every_symptom_says_what_the_mistake_does_in_few_words():
    for one in entries():
        assert 5 < len(one.symptom) <= SHOWN, one
        assert "your code" not in one.symptom, one
        assert one.sentence[-1] in ".?!", one


class Doubled(Exercise):
    prompt, difficulty, minutes, hints = "Write `double(x)`.", 1, 2, ("Add x to itself.",)

    @classmethod
    def probes(cls, seed):
        return [(2.0,), (3.0,)]

    @solution
    def double(x):
        return x + x

    @mistake("You squared x.")
    def squared(x):
        return x * x

    @mistake("You do the right thing.")
    def right(x):
        return 2 * x


def test_a_symptom_is_the_first_call_on_which_the_answers_differ():
    assert symptom(Doubled, "squared") == "called with x = 3.0, expected 6, got 9."
    with pytest.raises(ValueError, match="Doubled: the mistake right passes the checker"):
        symptom(Doubled, "right")
