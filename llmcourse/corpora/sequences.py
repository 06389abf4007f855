"""`copy` and `reverse`: random strings, and what becomes of them. The smallest tasks for an encoder with a decoder.

    copy      c a f b  ->  c a f b
    reverse   c a f b  ->  b f a c

Nothing can be guessed: every symbol is drawn for itself, so only who reads the source can write the target. Some of all
strings are never trained on. Which, a checksum of the string decides, whatever the seed: an endless stream for
training and one for testing can have no string in common.
"""

import random
from collections.abc import Iterator
from typing import Literal, get_args
from zlib import crc32

Task = Literal["copy", "reverse"]
SYMBOLS = "abcdefghij"
HELD_OUT = 5  # one string in five is never trained on
FEWEST = 100  # strings of which one in five can be set apart


def answer(task: Task, source: list[str]) -> list[str]:
    """What the task makes of a string: the string itself, or its symbols from last to first."""
    return list(source) if task == "copy" else source[::-1]


def is_held_out(source: list[str]) -> bool:
    """Whether a string is one of the fifth that training never shows."""
    return crc32(" ".join(source).encode()) % HELD_OUT == 0


def pairs(
    task: Task,
    seed: int = 0,
    min_length: int = 1,
    max_length: int = 10,
    symbols: str = SYMBOLS,
    *,
    unseen: bool = False,
) -> Iterator[tuple[list[str], list[str]]]:
    """Endless (source, target) pairs of lists of symbols, the same for the same seed on every machine.

    Lengths are drawn evenly from min_length to max_length, and then what may not come is left out, so that short ones come
    a little more or less often. `unseen` draws from the strings that are held out, and from these only; without it none
    of them comes.
    """
    if task not in get_args(Task):
        raise ValueError(f"task={task!r}; use one of {', '.join(map(repr, get_args(Task)))}")
    if not 1 <= min_length <= max_length:
        raise ValueError(f"lengths from {min_length} to {max_length}: use 1 <= min_length <= max_length")
    if len(set(symbols)) < len(symbols) or len(symbols) ** max_length < FEWEST:
        raise ValueError(
            f"symbols={symbols!r} up to length {max_length}: use different symbols, and enough of them that there are "
            f"{FEWEST} strings, or none could be held out"
        )
    return _pairs(task, random.Random(seed), min_length, max_length, symbols, unseen)


def _pairs(
    task: Task, generator: random.Random, min_length: int, max_length: int, symbols: str, unseen: bool
) -> Iterator[tuple[list[str], list[str]]]:
    while True:
        source = [generator.choice(symbols) for _ in range(generator.randint(min_length, max_length))]
        if is_held_out(source) == unseen:
            yield source, answer(task, source)
