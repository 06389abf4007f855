"""Points for a class: what an answer earns in an assignment that is graded by an engine such as nbgrader.

A right answer earns all. An answer that does what a known mistake does earns half: its author is one diagnosed step from
right. A prediction is right or wrong, for a wrong guess is no half of a right one. All else earns nothing.
"""

import inspect
from typing import Any

from llmcourse.exercises import Exercise, Feedback

SHARE_OF_A_MISTAKE = 0.5


def full_points(exercise: type[Exercise]) -> float:
    """What a right answer earns: 2 for a few lines, 4 for some thought, 6 for a puzzle."""
    return 2.0 * exercise.difficulty


def share(exercise: type[Exercise], feedback: Feedback) -> float:
    """The part of an exercise's points that this feedback is worth, from 0 to 1."""
    if feedback.status == "correct":
        return 1.0
    predicts = not inspect.signature(exercise.solution).parameters
    return SHARE_OF_A_MISTAKE if feedback.mistake and not predicts else 0.0


def points_for(exercise: type[Exercise], answer: Any) -> float:
    """Check an answer, print what its author should read, and return what it earns."""
    feedback = exercise.check(answer)
    print(feedback)
    return full_points(exercise) * share(exercise, feedback)
