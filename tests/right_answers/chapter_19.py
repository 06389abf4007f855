"""Right answers to the exercises of chapter 19, each written in another way than the solution."""

import re
from collections import OrderedDict

import numpy as np
import torch

from llmcourse.exercises.capstone_reverse_engineering import NameTheHeads, PredictSilencing, PredictTheModel, TellApart


def apart_by_loop(one, other, rows):
    for row in rows:
        if one(row) == other(row):
            continue
        return row


def apart_by_filter(one, other, rows):
    differing = list(filter(lambda row: one(row) != other(row), rows))
    return differing[0] if differing else None


def apart_by_numpy(one, other, rows):
    differs = np.array([one(row) for row in rows]) != np.array([other(row) for row in rows])
    return rows[differs.argmax()] if differs.any() else None


def predicted_by_loop(row):
    for place in range(len(row) - 3, -1, -1):
        if row[place] == row[-1]:
            return row[place + 2]


def predicted_by_pattern(row):
    return re.match(f".*{row[-1]}.([a-p])", row)[1]


def predicted_by_reading(row):
    after = {}
    for letter, answer in zip(row, row[2:], strict=False):
        after[letter] = answer
    return after[row[-1]]


def predicted_by_tensor(row):
    letters = torch.tensor([ord(letter) for letter in row])
    places = (letters[:-2] == letters[-1]).nonzero()[:, 0]
    return chr(letters[places.max() + 2])


RIGHT = {
    TellApart: [apart_by_loop, apart_by_filter, apart_by_numpy],
    PredictTheModel: [predicted_by_loop, predicted_by_pattern, predicted_by_reading, predicted_by_tensor],
    PredictSilencing: [1, 0.98, torch.tensor(1.0), np.mean([True, True])],
    NameTheHeads: [
        {"blocks.1.attention": (1,), "blocks.0.attention": (2,)},
        OrderedDict([("blocks.0.attention", [2]), ("blocks.1.attention", [1])]),
        {f"blocks.{layer}.attention": [head] for layer, head in enumerate((2, 1))},
        lambda: {"blocks.0.attention": list(np.array([2])), "blocks.1.attention": list(np.arange(1, 2))},
    ],
}
