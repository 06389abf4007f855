"""`cards`: a row of cards, each a noun with a colour, and a question about one of them. Attention as a look-up.

    cat red | lamp blue | boat green | key red | tree white | dog black | boat ?      answer: green

The answer stands on exactly one card, so a perfect model has a loss of 0, and the card it must look at is known. Who
ignores the question and names a colour of the row at random is right as often as `row_guess` says.

Letters: B batch, N cards in a row.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

NOUNS = (
    "cat", "dog", "bird", "child", "tree", "boat", "lamp", "key", "teacher", "farmer",
    "door", "river", "stone", "book", "clock", "bridge", "fox", "bell", "coat", "cup",
)  # fmt: skip
COLOURS = ("?", "red", "blue", "green", "white", "black", "grey", "brown", "pink", "gold", "silver")  # "?" asks


class CardBatch(NamedTuple):
    """Rows of cards that end with the question, the colour asked for, and the place of its card, counted from 0."""

    cards: Int[Tensor, "B N+1 2"]  # noun and colour of each card, as numbers
    answer: Int[Tensor, "B"]
    place: Int[Tensor, "B"]


def batches(size: int, n_cards: int, seed: int = 0) -> Iterator[CardBatch]:
    """Endless batches; no noun stands twice in a row, a colour may."""
    if not 1 <= n_cards <= len(NOUNS):
        raise ValueError(f"n_cards={n_cards}: a row holds 1 to {len(NOUNS)} cards, each with another noun")
    generator = torch.Generator().manual_seed(seed)
    while True:
        nouns = torch.rand(size, len(NOUNS), generator=generator).argsort(dim=-1)[:, :n_cards]
        colours = torch.randint(1, len(COLOURS), (size, n_cards), generator=generator)
        place = torch.randint(n_cards, (size, 1), generator=generator)
        question = torch.stack([nouns.gather(1, place), torch.zeros_like(place)], dim=-1)
        cards = torch.cat([torch.stack([nouns, colours], dim=-1), question], dim=1)
        yield CardBatch(cards, colours.gather(1, place)[:, 0], place[:, 0])


def row_guess(n_cards: int) -> float:
    """How often a colour drawn from a random card of the row is the right one: the asked card, or one of its colour."""
    return 1 / n_cards + (1 - 1 / n_cards) / (len(COLOURS) - 1)


def words(row: Int[Tensor, "n_cards 2"]) -> list[str]:
    """The cards of one row as labels, such as "cat red", the last one the question."""
    return [f"{NOUNS[noun]} {COLOURS[colour]}" for noun, colour in row.tolist()]
