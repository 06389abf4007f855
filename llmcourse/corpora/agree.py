"""`agree`: English-like sentences in which the verb agrees with its subject, across nouns that distract.

    beside the old lamps , the cat near the trees sleeps quietly .

The verb's number is set by the subject (cat), not by the nearest noun (trees) nor by the first one (lamps): nouns of
the other number before the verb are *attractors* (Linzen et al., 2016, mean those after the subject). The grammar is
known, so each next word has an exact probability, and the text an exact entropy floor.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from llmcourse.corpora.grammar import END, START, Arc, Grammar

SINGULAR_NOUNS = ("cat", "dog", "bird", "child", "tree", "boat", "lamp", "key", "teacher", "farmer")
PLURAL_NOUNS = ("cats", "dogs", "birds", "children", "trees", "boats", "lamps", "keys", "teachers", "farmers")
SINGULAR_VERBS = ("sleeps", "waits", "moves", "falls", "shines", "sings")
PLURAL_VERBS = ("sleep", "wait", "move", "fall", "shine", "sing")
PREPOSITIONS = ("near", "behind", "beside", "under")
ADJECTIVES = ("old", "small", "quiet", "red")
ADVERBS = ("quietly", "again", "today", "slowly")
NOUNS = {"singular": SINGULAR_NOUNS, "plural": PLURAL_NOUNS}
VERBS = {"singular": SINGULAR_VERBS, "plural": PLURAL_VERBS}

P_FRONTED, P_ADJECTIVE, P_SECOND_FRONTED = 0.6, 0.25, 0.2
P_PHRASE = (0.75, 0.5, 0.0)  # that another phrase follows the subject after 0, 1 and 2 of them
P_ADVERB = 0.5


@dataclass(frozen=True)
class Sentence:
    """A sentence with its ground truth: where subject, verb and distracting nouns stand, counted from 0."""

    words: tuple[str, ...]
    subject: int
    verb: int
    attractors: tuple[int, ...]  # nouns before the verb, other than the subject, of the other number

    @property
    def number(self) -> str:
        """'singular' or 'plural': the number of the subject, and so of the verb."""
        return "singular" if self.words[self.subject] in SINGULAR_NOUNS else "plural"


def _zipf(words: tuple[str, ...], share: float, state) -> list[Arc]:
    """The words with probabilities proportional to 1/rank, as words of a language roughly are, summing to `share`."""
    total = sum(1 / rank for rank in range(1, len(words) + 1))
    return [Arc(share / rank / total, word, state) for rank, word in enumerate(words, start=1)]


def _noun_phrase(arcs: dict, name: tuple, after: dict[str, tuple], determiner_from: list) -> None:
    """the [adjective] noun: from state (*name, "noun") on; `after` gives the next state by the noun's number."""
    nouns = [arc for number, words in NOUNS.items() for arc in _zipf(words, 0.5, after[number])]
    bare, noun = (*name, "adjective or noun"), (*name, "noun")
    arcs[noun] = nouns
    arcs[bare] = _zipf(ADJECTIVES, P_ADJECTIVE, noun)
    arcs[bare] += [Arc((1 - P_ADJECTIVE) * arc.probability, arc.word, arc.state) for arc in nouns]
    determiner_from.append(Arc(1.0, "the", bare))


def _fronted(arcs: dict, count: int) -> None:
    """The `count`-th phrase before the subject: preposition, noun phrase, then a comma or one phrase more."""
    name, closing = ("fronted", count), ("fronted", count, "comma")
    arcs[(*name, "the")] = determiner = []
    _noun_phrase(arcs, name, {"singular": closing, "plural": closing}, determiner)
    more = P_SECOND_FRONTED if count == 1 else 0.0
    arcs[closing] = [Arc(1 - more, ",", ("subject", "the"))]
    if more:
        arcs[closing] += _zipf(PREPOSITIONS, more, ("fronted", count + 1, "the"))


def _after_subject(arcs: dict, number: str, count: int) -> None:
    """After the subject and `count` phrases: another phrase, or the verb that agrees with the subject."""
    state, more = (number, count), P_PHRASE[count]
    arcs[state] = _zipf(VERBS[number], 1 - more, ("tail",))
    if more:
        arcs[state] += _zipf(PREPOSITIONS, more, (number, count + 1, "the"))
        arcs[(number, count + 1, "the")] = determiner = []
        after = (number, count + 1)
        _noun_phrase(arcs, (number, count + 1), {"singular": after, "plural": after}, determiner)
        _after_subject(arcs, number, count + 1)


def agreement_grammar(fronted: float = P_FRONTED) -> Grammar:
    """The grammar of `agree`; `fronted` is how often a phrase stands before the subject.

    With `fronted=0` it is `agree-naive`, where the subject is always the first noun: a model can then be right for the
    wrong reason, by looking at a fixed place.
    """
    if not 0 <= fronted <= 1:
        raise ValueError(f"fronted={fronted} is a probability: use 0 (never) to 1 (always)")
    arcs: dict = {}
    arcs[("subject", "the")] = subject = []
    _noun_phrase(arcs, ("subject",), {"singular": ("singular", 0), "plural": ("plural", 0)}, subject)
    if fronted:
        for count in (1, 2):
            _fronted(arcs, count)
    arcs[START] = _zipf(PREPOSITIONS, fronted, ("fronted", 1, "the")) if fronted else []
    if fronted < 1:
        arcs[START] += [Arc(1 - fronted, "the", ("subject", "adjective or noun"))]
    for number in ("singular", "plural"):
        _after_subject(arcs, number, 0)
    arcs[("tail",)] = [Arc(1 - P_ADVERB, ".", END), *_zipf(ADVERBS, P_ADVERB, ("stop",))]
    arcs[("stop",)] = [Arc(1.0, ".", END)]
    return Grammar(arcs)


def _annotate(words: tuple[str, ...]) -> Sentence:
    """Find subject, verb and attractors: a fronted phrase ends at its comma, and the next noun is the subject."""
    nouns = [i for i, word in enumerate(words) if word in SINGULAR_NOUNS or word in PLURAL_NOUNS]
    verb = next(i for i, word in enumerate(words) if word in SINGULAR_VERBS or word in PLURAL_VERBS)
    start = words.index(",") if "," in words else 0
    subject = next(i for i in nouns if i >= start)
    is_singular = words[subject] in SINGULAR_NOUNS
    attractors = tuple(i for i in nouns if i != subject and (words[i] in SINGULAR_NOUNS) != is_singular)
    return Sentence(words, subject, verb, attractors)


def sentences(seed: int = 0, fronted: float = P_FRONTED) -> Iterator[Sentence]:
    """An endless stream of sentences, the same for the same seed on every machine."""
    grammar, generator = agreement_grammar(fronted), random.Random(seed)
    while True:
        yield _annotate(tuple(word for _, word in grammar.sample(generator)))
