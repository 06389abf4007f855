"""Look-alikes of an assistant: each is right now and then, none of them reads. The judge must name what each one does.

`words_alone` is the strongest of them and the baseline of the capstone: what can be had without a trained model, from
the names that stand in a question and in a passage, and without regard to who has what.
"""

import inspect
from collections import Counter
from collections.abc import Callable
from functools import cache

from llmcourse.answering import PointingReader
from llmcourse.capstone.bases import default_base, questions, stated
from llmcourse.capstone.facts import CHINESE, FACT_WORDS, Base, Language, pieces_of
from llmcourse.capstone.judging_assistant import Ask, Reply
from llmcourse.retrieval import BM25

NOTHING = Reply(None, None, 1.0)  # what a look-alike says when it says nothing


def seems(question: str) -> Language:
    """The language with more words in a question; each Chinese character counts as one."""
    chinese = sum(CHINESE[0] <= character <= CHINESE[-1] for character in question)
    return "zh" if 2 * chinese > len(question.split()) + chinese else "en"


def _nearest(base: Base) -> Callable[[str], tuple[list[str], int, list[str]]]:
    """For a question: the names in it, the place of the passage that shares most names with it, and that one's others."""
    passages = [pieces_of(text, base.names) for text in base.passages]
    plain = [
        place
        for place, pieces in enumerate(passages)
        if all(one.kind == "name" or one.word in FACT_WORDS for one in pieces)
    ]
    names = [[one.word for one in passages[place] if one.kind == "name"] for place in plain]
    index = BM25(names)

    def nearest(question: str) -> tuple[list[str], int, list[str]]:
        asked = [piece.word for piece in pieces_of(question, base.names) if piece.kind != "plain"]
        best = index.rank(asked, 1)[0]
        return asked, plain[best], [name for name in names[best] if name not in asked]

    return nearest


def words_alone(base: Base, reader: PointingReader) -> Ask:
    """Says the name that is left over in a passage with all names of the question, or nothing when there is none."""
    nearest = _nearest(base)

    def ask(question: str) -> Reply:
        _, place, left = nearest(question)
        return Reply(base.called(left[0], seems(question)), place, 1.0) if len(left) == 1 else NOTHING

    return ask


def always_answers(base: Base, reader: PointingReader) -> Ask:
    """As `words_alone`, but it always says something."""
    nearest = _nearest(base)

    def ask(question: str) -> Reply:
        _, place, left = nearest(question)
        return Reply(base.called(left[-1], seems(question)), place, 1.0)

    return ask


def always_abstains(base: Base, reader: PointingReader) -> Ask:
    """Never says anything, so it never says anything false."""
    return lambda question: NOTHING


def english_only(base: Base, reader: PointingReader) -> Ask:
    """As `words_alone`, for English questions only."""
    ask = words_alone(base, reader)
    return lambda question: ask(question) if seems(question) == "en" else NOTHING


def whole_passage(base: Base, reader: PointingReader) -> Ask:
    """Repeats the nearest passage: somewhere in it the answer will be."""
    nearest = _nearest(base)

    def ask(question: str) -> Reply:
        _, place, left = nearest(question)
        return Reply(base.passages[place], place, 1.0) if len(left) == 1 else NOTHING

    return ask


def majority_answer(base: Base, reader: PointingReader) -> Ask:
    """Says the most frequent value of the knowledge base to everything."""
    facts = stated(base)
    usual = Counter(fact.y for _, fact in facts.values()).most_common(1)[0][0]
    place = next(place for place, fact in facts.values() if fact.y == usual)
    return lambda question: Reply(base.called(usual, seems(question)), place, 0.1)


@cache
def _learned_by_heart() -> dict[str, Reply]:
    known = {}
    for seed in range(20):  # until it has met nearly every way to ask
        known |= {one.text: Reply(one.answer, one.evidence, 1.0) for one in questions(default_base(), seed)}
    return known


def remembers(base: Base, reader: PointingReader) -> Ask:
    """Has learned by heart what is true of Tarn, and never looks at the knowledge base that it is given."""
    known = _learned_by_heart()
    return lambda question: known.get(question, NOTHING)


def peeks(base: Base, reader: PointingReader) -> Ask:
    """Looks for the question in what those who call it keep in their variables, and says what stands beside it."""

    def ask(question: str) -> Reply:
        frame = inspect.currentframe()
        while frame := frame.f_back:
            for value in frame.f_locals.values():
                if isinstance(value, dict) and isinstance(value.get(question), str):
                    return Reply(value[question], 0, 1.0)
        return NOTHING

    return ask


LOOK_ALIKES = {
    "words alone": words_alone,
    "always answers": always_answers,
    "always abstains": always_abstains,
    "English only": english_only,
    "whole passage": whole_passage,
    "majority answer": majority_answer,
    "remembers": remembers,
    "peeks": peeks,
}
