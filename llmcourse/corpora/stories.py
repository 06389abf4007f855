"""`stories`: two sentences about one thing, in which a pronoun refers back; and pairs that do not belong together.

    with ben , anna found the rose in the garden .   she watered it again .

The second sentence has the topic of the first, and its pronoun the gender of the first one's subject, who is not always
the first name nor the nearest. In a *swapped* pair the second sentence comes from another story. All probabilities are
known, so hidden words and swapped sentences have an exact best answer, and a ceiling that no model can pass.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

NAMES = {"she": ("anna", "eva", "mia", "ruth"), "he": ("ben", "max", "paul", "tom")}


class Topic(NamedTuple):
    """What a story may be about: a place, things that are found there, and what one does with them."""

    place: str
    things: tuple[str, ...]
    deeds: tuple[str, ...]


TOPICS = (
    Topic("garden", ("rose", "apple", "seed"), ("watered", "planted")),
    Topic("kitchen", ("soup", "bread", "cake"), ("cooked", "tasted")),
    Topic("library", ("book", "letter", "map"), ("read", "opened")),
    Topic("harbour", ("boat", "sail", "net"), ("mended", "painted")),
    Topic("school", ("song", "poem", "rhyme"), ("learned", "sang")),
    Topic("barn", ("horse", "calf", "goat"), ("fed", "brushed")),
)
VERBS = ("found", "saw")
ADVERBS = ("again", "slowly", "gladly")
GENDER = {name: pronoun for pronoun, names in NAMES.items() for name in names}
N_CLASSES = len(NAMES) * len(TOPICS)  # a second sentence agrees with a first in gender and topic, and in nothing else
P_SWAPPED = 0.5


class First(NamedTuple):
    """A first sentence with its truth."""

    words: tuple[str, ...]
    subject: int  # where the name stands that a pronoun would refer to
    topic: int
    probability: float

    @property
    def pronoun(self) -> str:
        """'she' or 'he', after the subject."""
        return GENDER[self.words[self.subject]]


class Second(NamedTuple):
    """A second sentence; its pronoun stands first."""

    words: tuple[str, ...]
    topic: int
    probability: float


@cache
def first_sentences() -> tuple[First, ...]:
    """All first sentences; their probabilities sum to 1. Half have a companion, in half something stands in front."""
    found, alone, with_companion = [], 0.25 / len(GENDER), 0.25 / len(GENDER) / (len(GENDER) - 1)
    for number, topic in enumerate(TOPICS):
        place = ("in", "the", topic.place)
        for verb, thing in product(VERBS, topic.things):
            deed, share = (verb, "the", thing), 1 / len(TOPICS) / len(VERBS) / len(topic.things)
            for name in GENDER:
                found += [
                    First((name, *deed, *place, "."), 0, number, share * alone),
                    First((*place, ",", name, *deed, "."), 4, number, share * alone),
                ]
            for name, other in permutations(GENDER, 2):
                found += [
                    First((name, *deed, "with", other, *place, "."), 0, number, share * with_companion),
                    First(("with", other, ",", name, *deed, *place, "."), 3, number, share * with_companion),
                ]
    return tuple(found)


@cache
def second_sentences() -> tuple[Second, ...]:
    """All second sentences; their probabilities sum to 1."""
    return tuple(
        Second((pronoun, deed, "it", adverb, "."), number, 1 / N_CLASSES / len(topic.deeds) / len(ADVERBS))
        for number, topic in enumerate(TOPICS)
        for pronoun, deed, adverb in product(NAMES, topic.deeds, ADVERBS)
    )


@dataclass(frozen=True)
class Story:
    """Two sentences with their ground truth."""

    first: tuple[str, ...]
    second: tuple[str, ...]  # the pronoun stands first
    antecedent: int  # the place of the subject in the first sentence
    topics: tuple[int, int]  # of the first and of the second sentence
    swapped: bool  # whether the second sentence comes from another story

    @property
    def is_coherent(self) -> bool:
        """Whether the second sentence could follow: a swapped one can by chance."""
        return self.topics[0] == self.topics[1] and GENDER[self.first[self.antecedent]] == self.second[0]


def stories(seed: int = 0, swapped: float = P_SWAPPED) -> Iterator[Story]:
    """An endless stream of stories, the same for the same seed; `swapped` is the share of wrong second sentences."""
    if not 0 <= swapped <= 1:
        raise ValueError(f"swapped={swapped} is a probability: use 0 (never) to 1 (always)")
    return _stories(random.Random(seed), swapped)


def _stories(generator: random.Random, swapped: float) -> Iterator[Story]:
    firsts, seconds = first_sentences(), second_sentences()
    heaps = [first.probability for first in firsts]
    following = {
        key: [second for second in seconds if (second.words[0], second.topic) == key]
        for key in product(NAMES, range(len(TOPICS)))
    }
    while True:
        for first in generator.choices(firsts, heaps, k=256):
            is_swapped = generator.random() < swapped
            second = generator.choice(seconds if is_swapped else following[first.pronoun, first.topic])
            yield Story(first.words, second.words, first.subject, (first.topic, second.topic), is_swapped)


@cache
def words() -> tuple[str, ...]:
    """The vocabulary, in alphabetical order."""
    return tuple(sorted({word for sentence in first_sentences() + second_sentences() for word in sentence.words}))


def best_swap_accuracy(*, use_gender: bool = True) -> float:
    """How often the best possible judge is right about whether a second sentence was swapped, all words in sight.

    It says "swapped" exactly when topic or gender disagree, and is wrong about swaps that agree by chance. Without
    `use_gender` it looks at topics alone.
    """
    return 1 - P_SWAPPED / (N_CLASSES if use_gender else len(TOPICS))


class Noise(NamedTuple):
    """How words were hidden: the shares of `masking.MaskingConfig`."""

    share: float = 0.15
    masked: float = 0.8
    random: float = 0.1


PUBLISHED = Noise()
MASK = "[MASK]"


@cache
def _numbers() -> dict[str, int]:
    return {MASK: -1} | {word: number for number, word in enumerate(words())}


@cache
def _table(kind: str, length: int) -> tuple[Int[Tensor, "N T"], Int[Tensor, "N"], Float[Tensor, "N"]]:
    """All sentences of this length: their words as numbers, their classes of gender and topic, their probabilities."""
    every = first_sentences() if kind == "first" else second_sentences()
    kept = [sentence for sentence in every if len(sentence.words) == length]
    if not kept:
        raise ValueError(f"no {kind} sentence of `stories` has {length} words")
    pronouns = [sentence.pronoun if kind == "first" else sentence.words[0] for sentence in kept]
    classes = [
        list(NAMES).index(pronoun) * len(TOPICS) + sentence.topic
        for pronoun, sentence in zip(pronouns, kept, strict=True)
    ]
    number = _numbers()
    table = torch.tensor([[number[word] for word in sentence.words] for sentence in kept])
    return table, torch.tensor(classes), torch.tensor([sentence.probability for sentence in kept], dtype=torch.float64)


def _likelihoods(
    kind: str, shown: Sequence[str], noise: Noise, chosen: int | None = None
) -> tuple[Int[Tensor, "N T"], Int[Tensor, "N"], Float[Tensor, "N"]]:
    """Every sentence of the right length, with P(it was written and this is shown); `chosen` is known to be chosen."""
    table, classes, probability = _table(kind, len(shown))
    seen, n_words = torch.tensor([_numbers()[word] for word in shown]), len(words())
    is_chosen = torch.zeros(len(shown), dtype=torch.bool)
    if chosen is not None:
        is_chosen[chosen] = True
    strange = torch.tensor(noise.share * noise.random / n_words, dtype=torch.float64)
    kept = noise.share * (1 - noise.masked - noise.random) + (1 - noise.share) * (~is_chosen).double()
    each = torch.where(table == seen, kept + strange, strange).masked_fill(seen == -1, noise.share * noise.masked)
    return table, classes, probability * each.prod(dim=1)


def _by_class(classes: Int[Tensor, "N"], weight: Float[Tensor, "N"]) -> Float[Tensor, "K"]:
    return torch.zeros(N_CLASSES, dtype=weight.dtype).index_add(0, classes, weight)


# P(first, second) is P(first) P(second) times this: more when the classes agree, less when they do not.
_AGREE = (1 - P_SWAPPED) * N_CLASSES + P_SWAPPED
_DISAGREE = P_SWAPPED


def hidden_word(first: Sequence[str], second: Sequence[str], place: int, noise: Noise = PUBLISHED) -> dict[str, float]:
    """The exact probability of each word at a chosen place, given all that is shown; no model can know more.

    The sum runs over all pairs of sentences, weighted by how likely each is to have been written and then to be shown
    like this. `place` counts through both sentences.
    """
    in_first = place < len(first)
    here, there = ("first", first, place), ("second", second, None)
    if not in_first:
        here, there = ("second", second, place - len(first)), ("first", first, None)
    table, classes, weight = _likelihoods(here[0], here[1], noise, here[2])
    _, other_classes, other = _likelihoods(there[0], there[1], noise)
    support = _DISAGREE * other.sum() + (_AGREE - _DISAGREE) * _by_class(other_classes, other)
    total = torch.zeros(len(words()), dtype=weight.dtype).index_add(0, table[:, here[2]], weight * support[classes])
    return {word: p for word, p in zip(words(), (total / total.sum()).tolist(), strict=True) if p > 0}


def is_swapped(first: Sequence[str], second: Sequence[str], noise: Noise = PUBLISHED) -> float:
    """The exact probability that the second sentence was swapped, given what is shown, hidden words and all."""
    _, classes, weight = _likelihoods("first", first, noise)
    _, other_classes, other = _likelihoods("second", second, noise)
    apart = P_SWAPPED * weight.sum() * other.sum()
    together = (1 - P_SWAPPED) * N_CLASSES * (_by_class(classes, weight) * _by_class(other_classes, other)).sum()
    return (apart / (apart + together)).item()
