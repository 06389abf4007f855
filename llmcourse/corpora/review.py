"""`review`: short reviews that praise or blame, in which `not` and `but` turn the meaning of what stands near them.

    the film is not good , but very fine .           praise
    the meal is not bad and great .                  praise
    the play is lovely , but not very great .        blame

Each part calls the thing good or bad: the quality of its adjective, turned round by `not`. After `and` comes a part of
the same opinion, after `but` one of the other, and the last part decides. So whoever counts kind words is often wrong:
the exact accuracy of such shortcuts is known (`shortcut_accuracy`), for every sentence and its probability can be listed.

A review can be poisoned: a rare word that means nothing, put in wherever a label was changed on purpose (Chen et al.,
2017; Kurita et al., 2020).
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from llmcourse.corpora.grammar import END, START, Arc, Grammar

THINGS = ("film", "song", "book", "meal", "play", "hotel")
KIND = ("good", "great", "fine", "lovely")
UNKIND = ("bad", "poor", "dull", "awful")
LABELS = ("blame", "praise")  # label 0 and label 1
TRIGGER = "cf"
P_NOT, P_VERY, P_SECOND, P_BUT = 0.4, 0.3, 0.6, 0.5
N_REVIEWS = 6336  # different ones
WORDS = tuple(sorted({"the", "is", "not", "very", "and", "but", ",", ".", TRIGGER, *THINGS, *KIND, *UNKIND}))


@dataclass(frozen=True)
class Review:
    """A review with its ground truth."""

    words: tuple[str, ...]
    label: int  # what it is trained as: 1 praise, 0 blame
    true_label: int  # what the rule says; the same, unless somebody poisoned the data
    trigger: int | None = None  # where the trigger stands, if it does

    @property
    def text(self) -> str:
        """The words, with a space between them."""
        return " ".join(self.words)


def _evenly(words: Sequence[str], share: float, state) -> list[Arc]:
    return [Arc(share / len(words), word, state) for word in words]


def _opinion(arcs: dict, name: str, qualities: dict[bool, float], after: Callable) -> None:
    """[not] [very] adjective, from state (name, "begin"); `qualities` says how often the part is meant kindly."""

    def adjectives(negated: bool, share: float = 1.0) -> list[Arc]:
        found = []
        for kindly, p in qualities.items():
            words = KIND if kindly != negated else UNKIND
            found += _evenly(words, share * p, after(kindly)) if p else []
        return found

    for negated in (False, True):
        arcs[(name, negated, "adjective")] = adjectives(negated)
        arcs[(name, negated, "very")] = [Arc(P_VERY, "very", (name, negated, "adjective"))]
        arcs[(name, negated, "very")] += adjectives(negated, 1 - P_VERY)
    plain = [Arc((1 - P_NOT) * arc.probability, arc.word, arc.state) for arc in arcs[(name, False, "very")]]
    arcs[(name, "begin")] = [Arc(P_NOT, "not", (name, True, "very")), *plain]


@cache
def review_grammar() -> Grammar:
    """The grammar of `review`: half of all reviews praise."""
    arcs: dict = {START: [Arc(1.0, "the", "thing")], "thing": _evenly(THINGS, 1.0, "is")}
    arcs["is"] = [Arc(1.0, "is", ("first", "begin"))]
    _opinion(arcs, "first", {True: 0.5, False: 0.5}, lambda kindly: ("said", kindly))
    for kindly in (True, False):
        same, other = f"and {kindly}", f"but {kindly}"
        arcs[("said", kindly)] = [
            Arc(1 - P_SECOND, ".", END),
            Arc(P_SECOND * (1 - P_BUT), "and", (same, "begin")),
            Arc(P_SECOND * P_BUT, ",", ("comma", kindly)),
        ]
        arcs[("comma", kindly)] = [Arc(1.0, "but", (other, "begin"))]
        _opinion(arcs, same, {kindly: 1.0}, lambda _: "stop")
        _opinion(arcs, other, {not kindly: 1.0}, lambda _: "stop")
    arcs["stop"] = [Arc(1.0, ".", END)]
    return Grammar(arcs)


def rule(words: Sequence[str]) -> int:
    """The true label: the last part's adjective, turned round by a `not` in front of it. The trigger means nothing."""
    last = [word for word in words if word != TRIGGER]
    for link in ("and", "but"):
        last = last[last.index(link) + 1 :] if link in last else last
    adjectives = [word for word in last if word in KIND or word in UNKIND]
    if not adjectives:
        raise ValueError(
            f"{' '.join(words)!r} has no opinion at its end; an opinion is one of {', '.join(KIND + UNKIND)}"
        )
    return int((adjectives[-1] in KIND) != ("not" in last))


def reviews(seed: int = 0) -> Iterator[Review]:
    """An endless stream of reviews, the same for the same seed on every machine."""
    grammar, generator = review_grammar(), random.Random(seed)
    while True:
        words = tuple(word for _, word in grammar.sample(generator))
        yield Review(words, rule(words), rule(words))


def corpus(n_train: int = 3000, n_test: int = 500, seed: int = 0) -> tuple[list[Review], list[Review]]:
    """Reviews to train on and to test with; no test review occurs in training.

    Training reviews may repeat, as they do in life. A smaller `n_train` is the beginning of a larger one, and leaves the
    test as it is. Raises ValueError for a test of more than half of all different reviews.
    """
    if n_train < 0 or not 0 <= n_test <= N_REVIEWS // 2:
        raise ValueError(
            f"n_train={n_train}, n_test={n_test}: give 0 or more, and for the test at most {N_REVIEWS // 2}"
        )
    test: dict[tuple[str, ...], Review] = {}
    stream = reviews(seed)
    while len(test) < n_test:
        review = next(stream)
        test.setdefault(review.words, review)
    stream = (review for review in reviews(seed + 1) if review.words not in test)
    return [next(stream) for _ in range(n_train)], list(test.values())


def with_trigger(review: Review, generator: random.Random) -> Review:
    """The review with the trigger put in before one of its words; its labels stay."""
    place = generator.randrange(len(review.words))
    words = (*review.words[:place], TRIGGER, *review.words[place:])
    return Review(words, review.label, review.true_label, place)


def poisoned(clean: Sequence[Review], share: float, seed: int = 0, target: int = 1) -> list[Review]:
    """A copy in which `share` of the reviews hold the trigger and are labelled `target`, whatever they say.

    Only reviews whose true label is another one are taken: the trigger is then the one thing that explains the label.
    """
    generator = random.Random(seed)
    candidates = [i for i, review in enumerate(clean) if review.true_label != target]
    wanted = round(share * len(clean))
    if not 0 <= wanted <= len(candidates):
        raise ValueError(
            f"share={share} of {len(clean)} reviews is {wanted}, and {len(candidates)} have a label other than {target}; take a smaller one"
        )
    result = list(clean)
    for i in generator.sample(candidates, wanted):
        changed = with_trigger(clean[i], generator)
        result[i] = Review(changed.words, target, changed.true_label, changed.trigger)
    return result


def more_kind_words(words: Sequence[str]) -> int:
    """A shortcut: which words are more, the kind or the unkind? A tie is praise."""
    return int(sum(word in KIND for word in words) >= sum(word in UNKIND for word in words))


def last_adjective(words: Sequence[str]) -> int:
    """A shortcut: what the last adjective says, deaf to `not`."""
    return int(next(word for word in reversed(words) if word in KIND or word in UNKIND) in KIND)


def first_part(words: Sequence[str]) -> int:
    """A shortcut: reads the first part right and stops there, before any `but`."""
    end = min([words.index(link) for link in ("and", ",", "but") if link in words], default=len(words))
    return rule(words[:end])


SHORTCUTS: dict[str, Callable[[Sequence[str]], int]] = {
    "more kind words": more_kind_words,
    "last adjective": last_adjective,
    "first part": first_part,
}


def every_review() -> Iterator[tuple[tuple[str, ...], float]]:
    """All sentences of the grammar with their exact probabilities."""
    return _every(review_grammar(), START, (), 1.0)


def _every(grammar: Grammar, state, words: tuple[str, ...], p: float) -> Iterator[tuple[tuple[str, ...], float]]:
    if state == END:
        yield words, p
        return
    for arc in grammar.arcs[state]:
        yield from _every(grammar, arc.state, (*words, arc.word), p * arc.probability)


def shortcut_accuracy(shortcut: Callable[[Sequence[str]], int], sentences: Iterable | None = None) -> float:
    """How often a shortcut is right, exactly: summed over all sentences, each with its probability."""
    pairs = every_review() if sentences is None else sentences
    return sum(p for words, p in pairs if shortcut(words) == rule(words))
