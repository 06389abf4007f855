"""What BERT is shown: rows with hidden words, and pairs of sentences that follow each other or do not.

Devlin et al. (2019), section 3.1. A position is *chosen* with probability 0.15; a chosen token is mostly replaced by
[MASK], sometimes by a random token, sometimes left alone, and must be named in every case.

Letters: B batch, T positions. A target of -100 does not count.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmcourse.data import IGNORED, Batch, check_size, pad_rows

FOLLOWS, SWAPPED = 0, 1  # the labels of a pair, in the order of the published models


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """What is hidden, how often, and what stands in its place."""

    n_vocab: int  # how many tokens there are
    mask: int  # the token [MASK]
    special: tuple[int, ...]  # tokens that are never chosen and never put in another's place; [MASK] is one of them
    share: float = 0.15  # of the other tokens, how many are chosen
    masked: float = 0.8  # of the chosen, how many become [MASK]
    random: float = 0.1  # of the chosen, how many become a random token; the rest stay as they are

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} is how many tokens are chosen: above 0, and at most 1")
        if min(self.masked, self.random) < 0 or self.masked + self.random > 1 + 1e-9:
            raise ValueError(
                f"masked={self.masked} and random={self.random} are shares of the chosen tokens: none is negative, and "
                "together they are at most 1"
            )
        if self.mask not in self.special:
            raise ValueError(
                f"mask={self.mask} must be one of special={self.special}, or [MASK] itself would be chosen"
            )
        if not 0 <= min(self.special) <= max(self.special) < self.n_vocab:
            raise ValueError(f"special={self.special}: tokens run from 0 to {self.n_vocab - 1}")
        if len(set(self.special)) == self.n_vocab:
            raise ValueError("every token is special; there is no word to hide")

    @property
    def ordinary(self) -> Int[Tensor, "N"]:
        """The tokens that may be chosen, and put in another's place."""
        return torch.tensor([token for token in range(self.n_vocab) if token not in self.special])


def is_special(tokens: Int[Tensor, "B T"], config: MaskingConfig) -> Bool[Tensor, "B T"]:
    """Where no word stands that could be hidden: padding, [CLS], [SEP]."""
    return torch.isin(tokens, torch.tensor(config.special))


def mask_tokens(
    tokens: Int[Tensor, "B T"],
    config: MaskingConfig,
    generator: torch.Generator,
    starts: Bool[Tensor, "B T"] | None = None,
) -> Batch:
    """Hide some tokens; the targets hold what they were, and -100 everywhere else.

    starts: True where a word begins. Words of several tokens are then chosen whole ("whole word masking"); without it
    each token is chosen alone. Call it anew each time that a row is shown: the mask is then another one ("dynamic
    masking", Liu et al., 2019).
    """
    special = is_special(tokens, config)
    chance = torch.rand(tokens.shape, generator=generator)
    if starts is not None:
        # All tokens of a word share one draw; a special token is a word of its own.
        word = (starts | special | special.roll(1, dims=1)).cumsum(dim=1)
        word = word - word[:, :1]
        chance = chance.gather(1, word)
    chosen = (chance < config.share) & ~special
    fate = torch.rand(tokens.shape, generator=generator)
    ordinary = config.ordinary
    substitutes = ordinary[torch.randint(len(ordinary), tokens.shape, generator=generator)]
    shown = tokens.masked_fill(chosen & (fate < config.masked), config.mask)
    is_random = chosen & (fate >= config.masked) & (fate < config.masked + config.random)
    return Batch(torch.where(is_random, substitutes, shown), tokens.masked_fill(~chosen, IGNORED))


class SentencePair(NamedTuple):
    """Two sentences, and whether the second stood after the first (FOLLOWS) or in another document (SWAPPED)."""

    first: Sequence[int]
    second: Sequence[int]
    label: int


def sentence_pairs(documents: Sequence[Sequence[Sequence[int]]], seed: int = 0) -> Iterator[SentencePair]:
    """Endless pairs from documents, each a list of sentences: half follow each other, half come from two documents.

    Raises ValueError when there are fewer than two documents, one is empty, or none has two sentences.
    """
    long_enough = [number for number, document in enumerate(documents) if len(document) > 1]
    if len(documents) < 2 or not long_enough:
        raise ValueError(
            f"{len(documents)} documents, {len(long_enough)} of them with a next sentence; "
            "give at least two documents, and one of two sentences or more"
        )
    if not all(map(len, documents)):
        raise ValueError("a document has no sentence; leave it out")
    return _sentence_pairs(documents, long_enough, random.Random(seed))


def _sentence_pairs(
    documents: Sequence[Sequence[Sequence[int]]], long_enough: list[int], generator: random.Random
) -> Iterator[SentencePair]:
    while True:
        number = generator.choice(long_enough)
        at = generator.randrange(len(documents[number]) - 1)
        first = documents[number][at]
        if generator.random() < 0.5:
            yield SentencePair(first, documents[number][at + 1], FOLLOWS)
        else:
            other = (number + generator.randrange(1, len(documents))) % len(documents)
            yield SentencePair(first, generator.choice(documents[other]), SWAPPED)


class PreTrainingBatch(NamedTuple):
    """Pairs of sentences with hidden words: what is to be named where, and which second sentences do not follow."""

    tokens: Int[Tensor, "B T"]
    segments: Int[Tensor, "B T"]  # 0 up to the first [SEP], 1 after it
    targets: Int[Tensor, "B T"]  # -100 where nothing was hidden
    swapped: Int[Tensor, "B"]  # 0 where the second sentence follows the first, 1 where it does not


def pair_row(pair: SentencePair, *, begin: int, separator: int) -> tuple[list[int], list[int]]:
    """[CLS] first [SEP] second [SEP] and the segment of each position; the first [SEP] belongs to the first sentence."""
    tokens = [begin, *pair.first, separator, *pair.second, separator]
    cut = len(pair.first) + 2
    return tokens, [0] * cut + [1] * (len(tokens) - cut)


def pretraining_batch(
    pairs: Sequence[SentencePair],
    config: MaskingConfig,
    generator: torch.Generator,
    *,
    begin: int,
    separator: int,
    pad: int,
) -> PreTrainingBatch:
    """The pairs as one batch, with a fresh mask."""
    rows = [pair_row(pair, begin=begin, separator=separator) for pair in pairs]
    shown, targets = mask_tokens(pad_rows([tokens for tokens, _ in rows], pad), config, generator)
    segments = pad_rows([segments for _, segments in rows], 0)
    return PreTrainingBatch(shown, segments, targets, torch.tensor([pair.label for pair in pairs]))


def pretraining_batches(
    pairs: Iterator[SentencePair],
    size: int,
    config: MaskingConfig,
    *,
    begin: int,
    separator: int,
    pad: int,
    seed: int = 0,
) -> Iterator[PreTrainingBatch]:
    """`size` pairs at a time from a stream, masked anew each time; pairs that do not fill a batch are left out."""
    check_size(size)
    generator = torch.Generator().manual_seed(seed)
    for group in zip(*[iter(pairs)] * size, strict=False):
        yield pretraining_batch(group, config, generator, begin=begin, separator=separator, pad=pad)
