"""The course on one page: every exercise by its chapter, coloured by what you have done."""

import itertools

from llmcourse.display import Html, escape
from llmcourse.exercises import MARKS, Exercise, all_exercises, progress

COLOURS = {"correct": "#1a7f37", "wrong": "#b35900", "open": "#6e7781"}  # borders: readable on light and dark


def state(exercise: type[Exercise]) -> str:
    """'correct' when solved on this machine, 'wrong' when only tried, 'open' when not."""
    entry = progress.load().get(exercise.__name__, {})
    return "correct" if entry.get("solved") else "wrong" if entry.get("tries") else "open"


def by_chapter() -> list[tuple[str, list[type[Exercise]]]]:
    """The exercises of each chapter, in the order of the course."""
    groups = itertools.groupby(all_exercises(), key=lambda exercise: exercise.__module__.rpartition(".")[2])
    return [(chapter.replace("_", " "), list(exercises)) for chapter, exercises in groups]


def course_map() -> Html:
    """Every exercise with its mark: solved, tried, or open."""
    rows, lines, solved, total = [], [], 0, 0
    for chapter, exercises in by_chapter():
        states = [(exercise.__name__, state(exercise)) for exercise in exercises]
        total, solved = total + len(states), solved + sum(found == "correct" for _, found in states)
        chips = " ".join(_chip(name, found) for name, found in states)
        rows.append(f"<p><strong>{escape(chapter)}</strong><br>{chips}</p>")
        lines.append(f"{chapter}: " + ", ".join(f"{MARKS[found]} {name}" for name, found in states))
    summary = f"{solved} of {total} exercises solved"
    html = f'<div class="llmcourse-map">{"".join(rows)}<p>{summary}</p></div>'
    return Html(html, "\n".join([*lines, summary]))


def _chip(name: str, found: str) -> str:
    style = f"border:2px solid {COLOURS[found]};border-radius:1em;padding:.1em .6em;margin:.15em;display:inline-block"
    return f'<span style="{style}">{MARKS[found]} {escape(name)}</span>'
