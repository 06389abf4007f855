"""Reviewing by spaced repetition: a question comes back the later, the better you know its answer.

The questions are those of the chapters' quizzes. When each is due is decided by FSRS (Ye et al., 2022; the package
`fsrs`), and kept in one JSON file on your own machine.
"""

import datetime
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmcourse.display import inline
from llmcourse.exercises import all_exercises
from llmcourse.exercises.quiz import questions
from llmcourse.files import home, write_atomically


@dataclass(frozen=True)
class Card:
    """One question of a quiz, with what each of its options explains."""

    chapter: str
    ask: str
    options: tuple[dict, ...]

    @property
    def name(self) -> str:
        """What the question is called in the record: a question that is worded anew is a new one."""
        return f"{self.chapter}-{hashlib.sha256(self.ask.encode()).hexdigest()[:12]}"

    @property
    def right(self) -> dict:
        """The option that is right."""
        return next(option for option in self.options if option.get("right"))

    def shuffled(self, seed: int) -> list[dict]:
        """The options in another order, so that nobody learns their places."""
        return random.Random(f"{self.name} {seed}").sample(self.options, len(self.options))


def cards() -> list[Card]:
    """The questions of all chapters, in the order of the course."""
    chapters = dict.fromkeys(exercise.__module__.rpartition(".")[2] for exercise in all_exercises())
    return [
        Card(chapter, question["ask"], tuple(question["option"]))
        for chapter in chapters
        for question in questions(chapter)
    ]


def path() -> Path:
    """The file that says when each question is due."""
    return home() / "reviews.json"


def load() -> dict[str, dict]:
    """What FSRS knows of each question that was answered before. Empty when nothing is recorded."""
    try:
        recorded = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: entry for name, entry in recorded.items() if _is_entry(entry)} if isinstance(recorded, dict) else {}


def _is_entry(entry: object) -> bool:
    """Whether an entry of the file can be read: somebody may have changed it."""
    try:
        return isinstance(entry, dict) and _when(entry).tzinfo is not None
    except (KeyError, TypeError, ValueError):
        return False


def waiting(now: datetime.datetime) -> int:
    """How many questions that were answered before are due again. New ones do not count: nobody has put them off."""
    recorded = load()
    return sum(card.name in recorded and _when(recorded[card.name]) <= now for card in cards())


def due(now: datetime.datetime, count: int = 10) -> list[Card]:
    """The questions to ask now: those that are due, the longest waiting first, and then new ones. At most `count`.

    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count={count}: ask at least 1 question")
    recorded = load()
    known = [card for card in cards() if card.name in recorded]
    waiting = [card for card in known if _when(recorded[card.name]) <= now]
    new = [card for card in cards() if card.name not in recorded]
    return (sorted(waiting, key=lambda card: _when(recorded[card.name])) + new)[:count]


def _when(entry: dict) -> datetime.datetime:
    return datetime.datetime.fromisoformat(entry["due"])


def answer(card: Card, right: bool, now: datetime.datetime) -> datetime.datetime:
    """Record an answer, and return when the question is due again: soon when it was wrong, later each time it is right."""
    import fsrs

    recorded = load()
    old = recorded.get(card.name)
    scheduler = fsrs.Scheduler(enable_fuzzing=False)
    rating = fsrs.Rating.Good if right else fsrs.Rating.Again
    new, _ = scheduler.review_card(fsrs.Card.from_dict(old) if old else fsrs.Card(due=now), rating, now)
    recorded[card.name] = new.to_dict()
    write_atomically(path(), json.dumps(recorded, indent=2, sort_keys=True).encode())
    return new.due


def anki(deck: Sequence[Card]) -> str:
    """The cards as a text that Anki imports: question and options in front, the answer with its reason behind.

    Source: Anki's manual, "Importing text files", for the lines that begin with #.
    """
    lines = ["#separator:tab", "#html:true", "#deck:llmcourse", "#guid column:1", "#tags column:4"]
    for card in deck:
        options = "".join(f"<li>{inline(option['text'])}</li>" for option in card.shuffled(0))
        front = f"{inline(card.ask)}<ul>{options}</ul>"
        back = f"<b>{inline(card.right['text'])}</b><br>{inline(card.right['why'])}"
        lines.append("\t".join([card.name, *(" ".join(part.split()) for part in (front, back)), card.chapter]))
    return "\n".join(lines) + "\n"
