"""`repeat`: a random block of tokens that begins again and again. Nothing can be guessed, everything can be copied.

    f c a e f c a e f c ...

The tokens of a block are all different, and its length is drawn anew for each row. So no pair of tokens says anything
about other rows: the next token can only be found in the row itself, where the same token stood before. That place is
known for every position, and the text has an exact entropy. On such rows Elhage et al. (2021) showed induction
heads at work, and Olsson et al. (2022) measure them.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

N_VOCAB, LENGTH = 32, 48
SHORTEST, LONGEST = 8, 20  # tokens in a block


@dataclass(frozen=True)
class Row:
    """A row of tokens, and the length of the block that it repeats."""

    tokens: tuple[int, ...]
    block: int

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For each position the one whose token comes next: one after this token's previous occurrence, or None."""
        return tuple(i - self.block + 1 if i >= self.block else None for i in range(len(self.tokens)))


def check_sizes(n_vocab: int, length: int, shortest: int, longest: int) -> None:
    """Raise ValueError for sizes of which no row can be made."""
    if not 2 <= shortest <= longest <= n_vocab or longest >= length:
        raise ValueError(
            f"blocks of {shortest} to {longest} different tokens out of {n_vocab}, in rows of {length}: use "
            "2 <= shortest <= longest <= n_vocab, and rows longer than the longest block"
        )


def rows(
    seed: int = 0, *, n_vocab: int = N_VOCAB, length: int = LENGTH, shortest: int = SHORTEST, longest: int = LONGEST
) -> Iterator[Row]:
    """An endless stream of rows of `length` tokens, the same for the same seed on every machine."""
    check_sizes(n_vocab, length, shortest, longest)
    return _rows(random.Random(seed), n_vocab, length, shortest, longest)


def _rows(generator: random.Random, n_vocab: int, length: int, shortest: int, longest: int) -> Iterator[Row]:
    while True:
        block = generator.sample(range(n_vocab), generator.randint(shortest, longest))
        yield Row(tuple(block[i % len(block)] for i in range(length)), len(block))


def order_blind_accuracy(shortest: int = SHORTEST, longest: int = LONGEST) -> float:
    """How often the next token of a repeat is guessed by who knows the block's tokens and not their order.

    It is one of the block's other tokens: 1 / (block - 1), averaged over the lengths.
    """
    lengths = range(shortest, longest + 1)
    return sum(1 / (length - 1) for length in lengths) / len(lengths)


def entropy(n_vocab: int = N_VOCAB, length: int = LENGTH, shortest: int = SHORTEST, longest: int = LONGEST) -> float:
    """The exact entropy in nats per predicted token, the second to the last of a row: no model's true loss is lower.

    After t different tokens the block ends with probability 1 / (longest + 1 - t), once t is a possible length; then
    its first token follows. Otherwise one of the n_vocab - t unseen tokens does. From there on all is certain.
    """
    check_sizes(n_vocab, length, shortest, longest)

    def ends(t: int) -> float:
        return 1 / (longest + 1 - t) if t >= shortest else 0.0

    def cost(block: int) -> float:
        new = sum(math.log((n_vocab - t) / (1 - ends(t))) for t in range(1, block))
        return new - math.log(ends(block))

    lengths = range(shortest, longest + 1)
    return sum(cost(block) for block in lengths) / len(lengths) / (length - 1)
