"""`lojic`: English sentences and their translations into Lojic, a small invented language, aligned word by word.

    the small cat finds a red boat today
    velu ta mira selka nu bardu ronku gidem        (today the cat small a boat red finds)

Lojic puts the verb last (subject, object, verb), an adverb first, an adjective after its noun. Every noun is of one of
three classes, told by its last letter, and its article and adjective take that letter: ta mira selka, nu bardu ronku.
So `the` cannot be translated alone: it is ta, tu or ti, and which one is decided by a noun that stands elsewhere. (`This`,
`every` and `no` count as articles here.)

Nine of the forty-five pairs of an adjective and a noun never occur in training: do the words go together all the same?
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Stems, to which the letter of the noun's class is added; so with adjectives.
ARTICLES = {"the": "t", "a": "n", "this": "s", "every": "l", "no": "h"}
NOUNS = {
    "cat": "mira", "dog": "golu", "bird": "pivi", "child": "nela", "tree": "fostu",
    "boat": "bardu", "lamp": "zori", "key": "keska", "teacher": "damri",
}  # fmt: skip
ADJECTIVES = {"small": "selk", "red": "ronk", "tall": "zambr", "kind": "lim", "young": "porf"}
VERBS = {"sees": "vidok", "finds": "gidem", "follows": "setan", "carries": "borim", "paints": "malek"}
ADVERBS = {"today": "velu", "slowly": "ospen", "again": "reten", "quietly": "nopel"}
P_ADJECTIVE, P_ADVERB = 0.6, 0.6

# One adjective for each noun; each adjective is still seen with seven or eight nouns, of every class.
HELD_OUT = frozenset(
    (noun, adjective)
    for i, noun in enumerate(NOUNS)
    for j, adjective in enumerate(ADJECTIVES)
    if (i + j - 2) % len(ADJECTIVES) == 0
)


@dataclass(frozen=True)
class Pair:
    """A sentence, its translation, and the ground truth: which word comes from which, and how each is built."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    alignment: tuple[tuple[int, int], ...]  # (target index, source index), in the order of the target, every word once
    source_tree: str  # such as "(S (NP the cat) (VP sees (NP a boat)))"
    target_tree: str

    @property
    def combinations(self) -> tuple[tuple[str, str], ...]:
        """The (noun, adjective) pairs of the English sentence."""
        return tuple((self.source[i + 1], word) for i, word in enumerate(self.source) if word in ADJECTIVES)


class Corpus(NamedTuple):
    """Three lists without a common sentence."""

    train: list[Pair]
    test: list[Pair]  # unseen sentences; each of their adjectives is trained on with its noun
    held_out: list[Pair]  # unseen sentences with at least one pair of HELD_OUT


def translate(words: Sequence[str]) -> Pair:
    """The translation of an English sentence by the rules, with its ground truth: the reference, not a guess.

    A sentence is: article [adjective] noun verb article [adjective] noun [adverb]. Raises ValueError at the
    first word that does not fit.
    """
    subject, at = _noun_phrase(words, 0)
    verb = _expect(words, at, VERBS, "a verb")
    object_, at = _noun_phrase(words, at + 1)
    adverb = [at] if at < len(words) and words[at] in ADVERBS else []
    if len(words) > at + len(adverb):
        _expect(words, at + len(adverb), *(((), "the end") if adverb else (ADVERBS, "an adverb or the end")))

    forms = _inflected(words, subject) | _inflected(words, object_)
    forms |= {i: (VERBS | ADVERBS)[words[i]] for i in (verb, *adverb)}
    places = [*adverb, *_lojic_order(subject), *_lojic_order(object_), verb]
    said, translated = (
        _noun_phrases(words, subject, object_),
        _noun_phrases(forms, *map(_lojic_order, (subject, object_))),
    )
    source_adverb, target_adverb = ("".join(f" (ADV {form[i]})" for i in adverb) for form in (words, forms))
    return Pair(
        tuple(words),
        tuple(forms[i] for i in places),
        tuple(enumerate(places)),
        f"(S {said[0]} (VP {words[verb]} {said[1]}){source_adverb})",
        f"(S{target_adverb} {translated[0]} (VP {translated[1]} {forms[verb]}))",
    )


def _expect(words: Sequence[str], at: int, known, what: str) -> int:
    found = repr(words[at]) if at < len(words) else "missing"
    if at >= len(words) or words[at] not in known:
        raise ValueError(
            f"word {at} of {' '.join(words)!r} is {found}, and {what} belongs there: {', '.join(known)}".rstrip(": ")
        )
    return at


def _noun_phrase(words: Sequence[str], start: int) -> tuple[list[int], int]:
    """The places of article, adjective if there is one, and noun; and the place after them."""
    places = [_expect(words, start, ARTICLES, "an article")]
    if start + 1 < len(words) and words[start + 1] in ADJECTIVES:
        places.append(start + 1)
    what = "a noun" if len(places) == 2 else "a noun or an adjective"
    places.append(_expect(words, places[-1] + 1, NOUNS, what))
    return places, places[-1] + 1


def _inflected(words: Sequence[str], phrase: list[int]) -> dict[int, str]:
    """The Lojic word of each place: article and adjective end as the noun does."""
    noun = NOUNS[words[phrase[-1]]]
    return {i: (ARTICLES | ADJECTIVES)[words[i]] + noun[-1] for i in phrase[:-1]} | {phrase[-1]: noun}


def _lojic_order(phrase: list[int]) -> list[int]:
    """Article, noun, adjective."""
    return [phrase[0], *phrase[:0:-1]]


def _noun_phrases(words, *phrases: list[int]) -> list[str]:
    return [f"(NP {' '.join(words[i] for i in phrase)})" for phrase in phrases]


def _sentence(generator: random.Random) -> list[str]:
    """A random English sentence; every word is as likely as any other of its kind."""

    def noun_phrase() -> list[str]:
        adjective = [generator.choice(list(ADJECTIVES))] if generator.random() < P_ADJECTIVE else []
        return [generator.choice(list(ARTICLES)), *adjective, generator.choice(list(NOUNS))]

    subject, verb, object_ = noun_phrase(), generator.choice(list(VERBS)), noun_phrase()
    adverb = [generator.choice(list(ADVERBS))] if generator.random() < P_ADVERB else []
    return [*subject, verb, *object_, *adverb]


def pairs(seed: int = 0, *, held_out: bool = False) -> Iterator[Pair]:
    """An endless stream of pairs, the same for the same seed on every machine.

    `held_out` gives only pairs with a noun and an adjective of HELD_OUT; without it no pair has one.
    """
    generator = random.Random(seed)
    while True:
        pair = translate(_sentence(generator))
        if HELD_OUT.isdisjoint(pair.combinations) != held_out:
            yield pair


def corpus(n_train: int = 3000, n_test: int = 300, seed: int = 0) -> Corpus:
    """Pairs to train on and two tests of `n_test` pairs each; no sentence occurs twice.

    A smaller `n_train` is the beginning of a larger one, and leaves both tests as they are.
    """
    if min(n_train, n_test) < 0:
        raise ValueError(f"n_train={n_train} and n_test={n_test} are counts of pairs: give 0 or more")
    tests, seen = [], set()
    for held_out in (False, True):
        tests.append(_distinct(pairs(seed, held_out=held_out), n_test, seen))
    return Corpus(_distinct(pairs(seed + 1), n_train, seen), *tests)


def _distinct(stream: Iterator[Pair], n: int, seen: set[tuple[str, ...]]) -> list[Pair]:
    """The next n pairs whose sentence is not in `seen`, to which they are added."""
    found: list[Pair] = []
    while len(found) < n:
        pair = next(stream)
        if pair.source not in seen:
            seen.add(pair.source)
            found.append(pair)
    return found


def word_by_word(words: Sequence[str]) -> list[str]:
    """A shortcut to compare with: every word looked up alone, in the order of the English sentence.

    Who looks up one word cannot know the class of another: articles and adjectives all end in -a here.
    """
    dictionary = {word: f"{stem}a" for word, stem in (ARTICLES | ADJECTIVES).items()} | NOUNS | VERBS | ADVERBS
    return [dictionary[word] for word in words]


def without_agreement(words: Sequence[str]) -> list[str]:
    """A better shortcut: Lojic's order, with every word still looked up alone. What agreement alone is worth."""
    looked_up = word_by_word(words)
    return [looked_up[source] for _, source in translate(words).alignment]
