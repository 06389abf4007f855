"""The released model of chapter 19: two layers of attention, a row of letters in, one letter out. What does it compute?

The weights lie beside this file. How they came about is told in `release.py`, which gives the answer away.
"""

import random
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from llmcourse.models import GPT, load_model

FOLDER = Path(__file__).parent
LETTERS, LENGTH = "abcdefghijklmnop", 24


@cache
def released_model() -> GPT:
    """The model as it was released, ready to use."""
    return load_model(FOLDER)


def is_question(row: str) -> bool:
    """Whether the model was made for this row: 24 letters from a to p, whose last stands among the first 22 too."""
    return len(row) == LENGTH and set(row) <= set(LETTERS) and row[-1] in row[:-2]


def question_rows(n: int, seed: int = 0) -> list[str]:
    """Rows to ask the model about: letters drawn evenly, the same for the same seed on every machine."""
    generator, found = random.Random(seed), []
    while len(found) < n:
        row = "".join(generator.choices(LETTERS, k=LENGTH))
        if is_question(row):
            found.append(row)
    return found


def letter_ids(rows: Iterable[str]) -> Int[Tensor, "B T"]:
    """Rows of letters as the numbers that the model reads."""
    return torch.tensor([[LETTERS.index(letter) for letter in row] for row in rows])


@torch.no_grad()
def answers(model: GPT, rows: Sequence[str]) -> list[str]:
    """The letter that the model says after the last letter of each row."""
    return [LETTERS[best] for best in model(letter_ids(rows))[:, -1].argmax(dim=-1).tolist()]
