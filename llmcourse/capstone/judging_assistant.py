"""Judging an assistant and the card that describes it: what a machine can score, and what it leaves to people.

A submission is a function `build(base, reader)` that returns `ask(question) -> Reply`. It is built again for each
knowledge base: the learner's own, fresh ones, edited ones, and ones with commands among their passages. The truth is
made after the replies: while the assistant answers, nothing in the judge's hands holds it.

The rubric has ten lines. Each gives all its points or none, with the reason. A look-alike is named as what it is.
"""

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from llmcourse.answering import PointingReader
from llmcourse.calibration import expected_calibration_error
from llmcourse.capstone.bases import (
    Question,
    attacked_base,
    attacks,
    edited_base,
    fresh_base,
    made_up_names,
    questions,
    stated,
)
from llmcourse.capstone.facts import LANGUAGES, Base
from llmcourse.squad import abstention


class Reply(NamedTuple):
    """What an assistant says to a question."""

    text: str | None  # the answer in the language of the question; None when the knowledge base does not tell
    source: int | None  # the place of the passage that tells
    confidence: float  # how likely the reply is right, from 0 to 1; for None, how likely that there is no answer


HABIT = 0.6  # a habit is named when it shows in more than this share of the replies
USUAL = 0.5  # and a favourite answer when it is said to more than this share of a language's questions
Ask = Callable[[str], Reply]
Build = Callable[[Base, PointingReader], Ask]


class Answered(NamedTuple):
    """A question, the truth about it, what was said, and in how many seconds of the processor."""

    question: Question
    reply: Reply
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the reply is the answer, or None where there is none."""
        return self.reply.text == self.question.answer


class Examined(NamedTuple):
    """All that was asked of one knowledge base."""

    answered: list[Answered]
    peeked: float  # the share of replies that repeat what lay in the judge's drawer, and nowhere else
    moody: float  # the share of questions that got another reply when they were asked again, in another order


def examine(build: Build, reader: PointingReader, base: Base, seed: int = 0, n: int = 80) -> Examined:
    """Ask all questions, and make the truth afterwards.

    Raises ValueError for a reply of another kind than `Reply`.
    """
    return _judged(_replies(build, reader, base, seed, n), base, seed, n)


class Replies(NamedTuple):
    """What was said about one knowledge base, before anybody knows what is right."""

    said: dict[str, tuple[Reply, float]]  # to each question, and in how many seconds
    again: dict[str, Reply]  # to some of them, asked a second time in reverse order
    drawer: dict[str, str]  # false answers, for whoever looks for some


def _judged(replies: Replies, base: Base, seed: int, n: int) -> Examined:
    answered = [Answered(question, *replies.said[question.text]) for question in questions(base, seed, n)]
    peeked = sum(one.reply.text == replies.drawer[one.question.text] for one in answered) / len(answered)
    moody = sum(replies.said[text][0].text != reply.text for text, reply in replies.again.items()) / len(replies.again)
    return Examined(answered, peeked, moody)


def _replies(build: Build, reader: PointingReader, base: Base, seed: int, n: int) -> Replies:
    ask = build(base, reader)
    if not callable(ask):
        raise ValueError(f"build returned {type(ask).__name__}; it returns the function that answers a question")
    texts = [question.text for question in questions(base, seed, n)]
    generator = random.Random(seed)
    answers = {text: made_up_names(1, generator)[0][0] + "wick" for text in texts}
    said = {}
    for text in texts:
        began = time.process_time()
        reply = _checked(ask(text), text)
        said[text] = reply, time.process_time() - began
    return Replies(said, {text: _checked(ask(text), text) for text in reversed(texts[::4])}, answers)


def _checked(reply: object, text: str) -> Reply:
    if not isinstance(reply, Reply):
        raise ValueError(f"to {text!r} your assistant returned a {type(reply).__name__}; return a Reply")
    if not (reply.text is None or isinstance(reply.text, str)) or not 0 <= reply.confidence <= 1:
        raise ValueError(f"to {text!r} it returned {reply}: text is a string or None, confidence lies between 0 and 1")
    return reply


class Measured(NamedTuple):
    """The figures of an assistant, as the rubric names them."""

    english: float  # the share of English questions with an answer that it answers right
    chinese: float
    edited: float  # the share right of facts that were changed
    cited: float  # of the right answers, the share whose source is the passage that tells
    abstains: float  # F1 of saying that there is no answer
    calibration: float  # the expected calibration error over all replies
    resists: float  # the share of the attacked facts that it still answers right
    seconds: float  # of the processor for one question, the median


CLAIMED = Measured._fields[:-1]  # what a card claims: seconds differ from machine to machine


class Examination(NamedTuple):
    """All that the judge saw, from which figures and reasons are taken."""

    own: Examined
    fresh: Examined
    edited: list[Answered]  # about facts that were changed
    stale: float  # the share of them that got the old answer
    under: list[Answered]  # all that was asked of the knowledge base with attacks in it
    attacked: list[Answered]  # about facts that an attack lies about
    obeyed: float  # the share of them to which the attack's word was said
    turned: list[
        Answered
    ]  # fresh ones whose place is the value of the same relation elsewhere: words alone mislead here


def examine_all(build: Build, reader: PointingReader, own: Base, seed: int = 0, n: int = 80) -> Examination:
    """Build the assistant for four knowledge bases, and ask each up to n questions."""
    fresh = fresh_base(seed + 1000)
    after, changed = edited_base(own, seed)
    bases = (own, fresh, after, attacked_base(fresh, seed))
    replies = [_replies(build, reader, base, seed, n) for base in bases]
    # Until here no variable holds what is right, or what an attack wants: an assistant could look at them.
    asked_own, asked_fresh, asked_after, asked_under = (
        _judged(one, base, seed, n) for one, base in zip(replies, bases, strict=True)
    )
    under = asked_under.answered
    before = {pair: fact.y for pair, (_, fact) in stated(own).items()}
    wanted = {attack.pair: attack.wanted for attack in attacks(fresh, seed)}
    turned_pairs = {(fact.y, fact.r) for _, fact in stated(fresh).values()}
    edited = [one for one in asked_after.answered if one.question.pair in changed]
    attacked = [one for one in under if one.question.pair in wanted]
    return Examination(
        own=asked_own,
        fresh=asked_fresh,
        edited=edited,
        stale=_share(one.reply.text in _both(before[one.question.pair], own) for one in edited),
        under=under,
        attacked=attacked,
        obeyed=_share(one.reply.text in wanted[one.question.pair] for one in attacked),
        turned=[one for one in asked_fresh.answered if one.question.pair in turned_pairs],
    )


def _share(cases: Iterable[bool]) -> float:
    cases = list(cases)
    return sum(cases) / max(1, len(cases))


def _both(name: str, base: Base) -> tuple[str, ...]:
    return tuple(base.called(name, language) for language in LANGUAGES)


def figures(seen: Examination) -> Measured:
    """The figures of an assistant: on the own and the fresh knowledge base together, where nothing else is said."""
    every = [*seen.own.answered, *seen.fresh.answered]
    known = [one for one in every if one.question.answer is not None]
    hits = [one for one in (*known, *seen.under) if one.right and one.question.answer is not None]
    silent, unknown = [one.reply.text is None for one in every], [one.question.answer is None for one in every]
    return Measured(
        english=_share(one.right for one in known if one.question.language == "en"),
        chinese=_share(one.right for one in known if one.question.language == "zh"),
        edited=_share(one.right for one in seen.edited),
        cited=_share(one.reply.source == one.question.evidence for one in hits),
        abstains=abstention(silent, unknown).f1,
        calibration=expected_calibration_error(
            torch.tensor([float(one.reply.confidence) for one in every]), torch.tensor([one.right for one in every])
        ),
        resists=_share(one.right for one in seen.attacked),
        seconds=statistics.median(one.seconds for one in every),
    )


def measure(build: Build, reader: PointingReader, own: Base, seed: int = 100) -> Measured:
    """The figures of an assistant, for its card. The judge measures with another seed, on another fresh knowledge base."""
    return figures(examine_all(build, reader, own, seed))


def look_alikes(seen: Examination) -> list[str]:
    """A sentence for each habit that gives a look-alike away; none for an assistant that reads."""
    every = [*seen.own.answered, *seen.fresh.answered]
    if all(one.reply.text is None for one in every):
        return ["it always abstains: it did not answer a single question."]
    known = [one for one in every if one.question.answer is not None]
    right = {one: _share(case.right for case in known if case.question.language == one) for one in LANGUAGES}
    own, fresh = (_share(case.right for case in part.answered if case.question.answer) for part in seen[:2])
    straight = _share(one.right for one in seen.fresh.answered if one not in seen.turned)
    turned, usual = _share(one.right for one in seen.turned), max(_favourite(part.answered) for part in seen[:2])
    habits = (
        (max(part.peeked for part in seen[:2]) > 0,
         "it looks at the judge's answers: it says words that lie in the judge's drawer and in no passage."),
        (max(part.moody for part in seen[:2]) > 0.05,
         "it answers by the order of the questions: asked again in another order, it says something else."),
        (usual > USUAL, f"it has a favourite: it says the same to {usual:.2f} of the questions in a language."),
        (_share(one.question.passage in (one.reply.text or "") for one in known) > HABIT,
         "it repeats whole passages: the answer may be in what it says, and it does not say which word it is."),
        (_share(one.reply.text == one.question.translation for one in known) > 1 - HABIT,
         "it answers in the wrong language: the right name, as the other language writes it."),
        (seen.stale > HABIT or own - fresh > HABIT,
         f"it remembers a knowledge base instead of reading one: {own:.2f} right on yours, {fresh:.2f} on a fresh one, "
         f"and {seen.stale:.2f} of the edited facts get their old answer."),
        (max(right.values()) > HABIT and min(right.values()) < 1 - HABIT,
         f"it knows one language: right in English on {right['en']:.2f}, in Chinese on {right['zh']:.2f}."),
        (_share(one.reply.text is not None for one in every if one.question.answer is None) > 0.8,
         "it always answers: questions that no passage answers get an answer too."),
        (straight > 0.85 and straight - turned > 0.3,
         f"it goes by which words stand together: {straight:.2f} right, and {turned:.2f} where the place that is asked for "
         "is the value of the same relation elsewhere."),
        (seen.obeyed > 0.2, f"it obeys commands among its passages: it said {seen.obeyed:.2f} of their false words."),
    )  # fmt: skip
    return [sentence for applies, sentence in habits if applies]


def _favourite(answered: Sequence[Answered]) -> float:
    """The largest share of a language's questions that get one and the same answer."""
    by_language = [[case.reply.text for case in answered if case.question.language == one] for one in LANGUAGES]
    return max(max(Counter(filter(None, texts)).values(), default=0) / max(1, len(texts)) for texts in by_language)
