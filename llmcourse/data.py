"""From text to batches: what a model is shown, and what it should have said.

Letters: B batch, T positions, S positions of a source. A target of -100 does not count in any loss of this course.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

IGNORED = -100  # torch's own convention for a target that does not count
Item = TypeVar("Item")


class Batch(NamedTuple):
    """Rows of tokens, and at each position the token that follows it."""

    tokens: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]


def check_size(size: int, name: str = "size") -> None:
    """Raise ValueError for a batch, or a window, that would hold nothing."""
    if size < 1:
        raise ValueError(f"{name}={size}: give at least 1")


def pad_rows(rows: Sequence[Sequence[int]], filler: int) -> Int[Tensor, "B T"]:
    """Rows of unequal length as one rectangle, filled up on the right."""
    if not rows or not all(rows):
        raise ValueError(f"cannot make a batch of {len(rows)} rows of which {sum(not row for row in rows)} are empty")
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def pad_left(rows: Sequence[Sequence[int]], filler: int = 0) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B"]]:
    """Prompts of unequal length so that all end together, and how many fillers stand before each: for `generate`."""
    padded = pad_rows([row[::-1] for row in rows], filler).flip(dims=(1,))
    return padded, torch.tensor([padded.shape[1] - len(row) for row in rows])


def next_token_batch(rows: Sequence[Sequence[int]], *, begin: int, pad: int) -> Batch:
    """Whole sentences: the tokens are shifted right behind `begin`, so that also the first word is predicted."""
    return Batch(pad_rows([[begin, *row[:-1]] for row in rows], pad), pad_rows(rows, IGNORED))


def sentence_batches(sentences: Iterable[Sequence[int]], size: int, *, begin: int, pad: int) -> Iterator[Batch]:
    """`size` sentences at a time from a stream of encoded sentences; when it ends, the last batch holds what is left."""
    check_size(size)
    rows: list[Sequence[int]] = []
    for sentence in sentences:
        rows.append(sentence)
        if len(rows) == size:
            yield next_token_batch(rows, begin=begin, pad=pad)
            rows = []
    if rows:
        yield next_token_batch(rows, begin=begin, pad=pad)


class TranslationBatch(NamedTuple):
    """Sources, the target so far at each position (it starts with `begin`), and the token that follows it there."""

    source: Int[Tensor, "B S"]
    tokens: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]


def translation_batch(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, begin: int, end: int, pad: int
) -> TranslationBatch:
    """(source, target) pairs of ids as one batch: tokens are [begin, w1 .. wn], targets [w1 .. wn, end].

    A source row is [s1 .. sm, end]: the encoder can see where the sentence stops, also beside longer ones.
    """
    return TranslationBatch(
        source_rows([source for source, _ in pairs], end=end, pad=pad),
        pad_rows([[begin, *target] for _, target in pairs], pad),
        pad_rows([[*target, end] for _, target in pairs], IGNORED),
    )


def source_rows(sources: Sequence[Sequence[int]], *, end: int, pad: int) -> Int[Tensor, "B S"]:
    """What an encoder is given, while training and after: each source, then `end`, then padding."""
    return pad_rows([[*source, end] for source in sources], pad)


def translation_batches(
    pairs: Iterable[tuple[Sequence[int], Sequence[int]]], size: int, *, begin: int, end: int, pad: int
) -> Iterator[TranslationBatch]:
    """`size` pairs at a time from a stream of pairs of ids; when it ends, the last batch holds what is left.

    A list is made an endless stream by `shuffled`: `translation_batches(shuffled(pairs, seed=0), 32, ...)`.
    """
    for group in in_groups(pairs, size):
        yield translation_batch(group, begin=begin, end=end, pad=pad)


def in_groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """`size` items at a time; when the stream ends, the last group holds what is left."""
    check_size(size)
    stream = iter(items)
    while group := list(islice(stream, size)):
        yield group


def shuffled(items: Sequence[Item], seed: int = 0) -> Iterator[Item]:
    """All items in a random order, then all again in another one, without end."""
    if not items:
        raise ValueError("there is nothing to shuffle; give at least one item")
    return _shuffled(list(items), random.Random(seed))


def _shuffled(items: list[Item], generator: random.Random) -> Iterator[Item]:
    while True:
        generator.shuffle(items)
        yield from items


def random_windows(tokens: Int[Tensor, "N"], context: int, size: int, seed: int = 0) -> Iterator[Batch]:
    """Endless batches of windows from a long text, each starting at a random place."""
    _check_text(tokens, context, size)
    if len(tokens) <= context:
        raise ValueError(f"the text has {len(tokens)} tokens; windows of context={context} need at least {context + 1}")
    return _random_windows(tokens, context, size, torch.Generator().manual_seed(seed))


def _random_windows(tokens: Tensor, context: int, size: int, generator: torch.Generator) -> Iterator[Batch]:
    while True:
        starts = torch.randint(len(tokens) - context, (size,), generator=generator)
        windows = torch.stack([tokens[start : start + context + 1] for start in starts]).long()
        yield Batch(windows[:, :-1], windows[:, 1:])


def _check_text(tokens: Tensor, context: int, size: int) -> None:
    check_size(context, "context")
    check_size(size)
    if tokens.dim() != 1:
        raise ValueError(f"tokens of shape {tuple(tokens.shape)}: give one long text, such as tokens.flatten()")


def windows_in_order(tokens: Int[Tensor, "N"], context: int, size: int) -> list[Batch]:
    """The whole text cut into windows that do not overlap, for measuring: every token but the first is predicted once.

    The last window is filled up with targets that do not count.
    """
    _check_text(tokens, context, size)
    if len(tokens) < 2:
        raise ValueError(f"a text of {len(tokens)} tokens has nothing to predict; give at least 2")
    rows = [tokens[start : start + context + 1].tolist() for start in range(0, len(tokens) - 1, context)]
    batches = []
    for first in range(0, len(rows), size):
        group = rows[first : first + size]
        batches.append(Batch(pad_rows([row[:-1] for row in group], 0), pad_rows([row[1:] for row in group], IGNORED)))
    return batches


def split(tokens: Int[Tensor, "N"], validation_share: float = 0.1) -> tuple[Int[Tensor, "M"], Int[Tensor, "K"]]:
    """The text's beginning for training and its end for validation: no window lies in both."""
    if not 0 < validation_share < 1:
        raise ValueError(f"validation_share={validation_share} must lie between 0 and 1")
    cut = len(tokens) - round(len(tokens) * validation_share)
    return tokens[:cut], tokens[cut:]
