"""The course on one page: every exercise by its chapter, coloured by what you have done."""

import datetime
import itertools
import sys

from llmcourse.display import Html, escape
from llmcourse.exercises import MARKS, Exercise, all_exercises, progress, reviewing

COLOURS = {"correct": "#1a7f37", "wrong": "#b35900", "open": "#6e7781"}  # borders: readable on light and dark


def state(exercise: type[Exercise]) -> str:
    """'correct' when solved on this machine, 'wrong' when only tried, 'open' when not."""
    entry = progress.load().get(exercise.__name__, {})
    return "correct" if entry.get("solved") else "wrong" if entry.get("tries") else "open"


def by_chapter() -> list[tuple[str, list[type[Exercise]]]]:
    """The exercises of each chapter, by its number and name, in the order of the course."""
    groups = itertools.groupby(all_exercises(), key=lambda exercise: exercise.__module__)
    name = lambda module: module.rpartition(".")[2].replace("_", " ")  # noqa: E731
    return [(f"{_number(module)} · {name(module)}", list(exercises)) for module, exercises in groups]


def _number(module: str) -> int | str:
    """Of the chapter whose exercises a module holds."""
    return sys.modules[module].CHAPTER


def upcoming() -> type[Exercise] | None:
    """What to do next: the first exercise not solved behind the one that was solved last, else from the beginning.

    So somebody who left a chapter out is led on, and comes back to it in the end. None when all is solved.
    """
    exercises, recorded = all_exercises(), progress.load()
    days = [str(recorded.get(exercise.__name__, {}).get("solved") or "") for exercise in exercises]
    last = max(range(len(days)), key=lambda place: (days[place], place)) if any(days) else -1
    order = [*range(last + 1, len(days)), *range(last + 1)]
    return next((exercises[place] for place in order if not days[place]), None)


def next_step() -> str:
    """One line for the learner: the next exercise, and how many quiz questions are due for review."""
    exercise, waiting = upcoming(), reviewing.waiting(datetime.datetime.now(datetime.UTC))
    first = "Every exercise is solved."
    if exercise:
        first = f"Next: {exercise.__name__}, in chapter {_number(exercise.__module__)}."
    questions = "1 quiz question is" if waiting == 1 else f"{waiting} quiz questions are"
    return f"{first} {questions} due: python -m llmcourse review" if waiting else first


def course_map() -> Html:
    """Every exercise with its mark: solved, tried, or open, and what is next."""
    rows, lines, solved, total = [], [], 0, 0
    for chapter, exercises in by_chapter():
        states = [(exercise.__name__, state(exercise)) for exercise in exercises]
        total, solved = total + len(states), solved + sum(found == "correct" for _, found in states)
        chips = " ".join(_chip(name, found) for name, found in states)
        rows.append(f"<p><strong>{escape(chapter)}</strong><br>{chips}</p>")
        lines.append(f"{chapter}: " + ", ".join(f"{MARKS[found]} {name}" for name, found in states))
    summary = f"{solved} of {total} exercises solved. {next_step()}"
    html = f'<div class="llmcourse-map">{"".join(rows)}<p>{escape(summary)}</p></div>'
    return Html(html, "\n".join([*lines, summary]))


def _chip(name: str, found: str) -> str:
    style = f"border:2px solid {COLOURS[found]};border-radius:1em;padding:.1em .6em;margin:.15em;display:inline-block"
    return f'<span style="{style}">{MARKS[found]} {escape(name)}</span>'
