"""How answers in words are scored: exact match and F1, as the script of SQuAD counts them.

Both are measured after the same cleaning, and against the best of several right answers (Rajpurkar et al., 2016, section
6.1). In the second version of the data some questions have no answer; the empty text stands for it, and then only the
empty answer is right (Rajpurkar et al., 2018).
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


def normalised_answer(text: str) -> str:
    """Lower case; then without signs, without the words a, an and the, and with single spaces, in this order."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def is_exact(guess: str, gold: str) -> bool:
    """Whether both are the same after cleaning."""
    return normalised_answer(guess) == normalised_answer(gold)


def token_f1(guess: str, gold: str) -> float:
    """The harmonic mean of two shares: of the guess's words that are right, and of the right words that were guessed.

    A word that stands twice must be guessed twice. Where either has no word, 1 if neither has and 0 otherwise.
    """
    mine, right = normalised_answer(guess).split(), normalised_answer(gold).split()
    if not mine or not right:
        return float(mine == right)
    common = (Counter(mine) & Counter(right)).total()
    if not common:
        return 0.0
    precision, recall = common / len(mine), common / len(right)
    return 2 * precision * recall / (precision + recall)


class AnswerScores(NamedTuple):
    """Means over questions, each from 0 to 1; SQuAD prints them times 100."""

    exact: float
    f1: float


def score_answers(guesses: Sequence[str], golds: Sequence[Sequence[str]]) -> AnswerScores:
    """Each guess against the best of its right answers; no right answer, or only empty ones, means "no answer".

    Raises ValueError when there are not as many guesses as questions.
    """
    if len(guesses) != len(golds) or not golds:
        raise ValueError(f"{len(guesses)} guesses for {len(golds)} questions: give as many of both, at least 1")
    pairs = [(guess, _right(texts)) for guess, texts in zip(guesses, golds, strict=True)]
    return AnswerScores(
        sum(max(is_exact(guess, gold) for gold in right) for guess, right in pairs) / len(pairs),
        sum(max(token_f1(guess, gold) for gold in right) for guess, right in pairs) / len(pairs),
    )


def _right(texts: Sequence[str]) -> list[str]:
    """The right answers with a word in them; the empty one when there is none."""
    return [text for text in texts if normalised_answer(text)] or [""]


class Detection(NamedTuple):
    """How well something is detected."""

    precision: float  # of all that were reported, the share that should have been
    recall: float  # of all that should have been reported, the share that was
    f1: float  # the harmonic mean of both


def abstention(abstained: Sequence[bool], unanswerable: Sequence[bool]) -> Detection:
    """How well a system knows what it cannot answer; a share of nothing is 0."""
    if len(abstained) != len(unanswerable):
        raise ValueError(f"{len(abstained)} decisions for {len(unanswerable)} questions: give as many of both")
    both = sum(a and u for a, u in zip(abstained, unanswerable, strict=True))
    precision, recall = both / max(1, sum(abstained)), both / max(1, sum(unanswerable))
    return Detection(precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0)
