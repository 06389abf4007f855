"""The atlas of misconceptions: every known mistake of the course, with where it shows and what the author of it reads."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

import torch

from llmcourse.exercises import Exercise, Wrong, all_exercises

SHOWN = 240  # characters of a symptom


class Misconception(NamedTuple):
    """A wrong answer that people really give."""

    exercise: type[Exercise]
    name: str  # in words
    sentence: str  # what it is, and how to mend it: what its author reads
    symptom: str  # the first probe on which it shows, with what was expected there and what it gave


def misconceptions() -> Iterator[Misconception]:
    """All of them, in the order of the course; each symptom is computed by running the wrong answer."""
    for exercise in all_exercises():
        for name, wrong in exercise.mistakes.items():
            yield Misconception(exercise, name.replace("_", " "), wrong.sentence, symptom(exercise, name))


def symptom(exercise: type[Exercise], name: str) -> str:
    """Where the mistake of this name first shows, in the words of the checker when it does not know the mistake."""
    wrong = exercise.mistakes[name].answer
    if not inspect.signature(exercise.solution).parameters:
        return f"predicts {wrong()}"
    torch.manual_seed(0)
    try:
        exercise.verify(wrong)
    except Wrong as found:
        text = str(found)
    except Exception as error:  # a property that the wrong answer breaks by raising
        text = f"raises {type(error).__name__}: {error}"
    else:
        raise ValueError(f"{exercise.__name__}: the mistake {name} passes the checker")
    text = re.sub(r"\s+", " ", text.replace("your code", "it"))
    called = re.fullmatch(r"(called with .*), ((?:expected|it |the result |at \[).*)", text)
    if called is None:
        return textwrap.shorten(text, SHOWN, placeholder=" ...")
    what = textwrap.shorten(called[2], SHOWN - 80, placeholder=" ...")  # it matters more than the arguments
    return f"{textwrap.shorten(called[1], SHOWN - len(what) - 2, placeholder=' ...')}, {what}"
