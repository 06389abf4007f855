"""Right answers to the exercises of chapter 0, each written in another way than the solution."""

import math
from fractions import Fraction

import numpy as np
import torch

from llmcourse.exercises.start_here import MendSoftmax, PredictShares, SameEveryTime


def softmax_by_map(scores):
    total = math.fsum(map(math.exp, scores))
    return [math.exp(s) / total for s in scores]


def softmax_by_differences(scores):
    return [1 / sum(math.exp(other - score) for other in scores) for score in scores]


def softmax_by_torch(scores):
    return torch.tensor(scores, dtype=torch.double).softmax(0).tolist()


def softmax_by_numpy(scores):
    shares = np.exp(np.array(scores) - max(scores))
    shares /= shares.sum()
    return list(shares)


def numbers_by_loop(words):
    numbers = {}
    for word in sorted(words):
        if word not in numbers:
            numbers[word] = len(numbers)
    return numbers


def numbers_by_zip(words):
    different = sorted(dict.fromkeys(words))
    return dict(zip(different, range(len(different)), strict=True))


def numbers_by_rank(words):
    return {word: len({other for other in words if other < word}) for word in words}


def numbers_by_insertion(words):
    import bisect

    ordered = []
    for word in words:
        place = bisect.bisect_left(ordered, word)
        if ordered[place : place + 1] != [word]:
            ordered.insert(place, word)
    return {word: ordered.index(word) for word in reversed(ordered)}


RIGHT = {
    MendSoftmax: [softmax_by_map, softmax_by_differences, softmax_by_torch, softmax_by_numpy],
    PredictShares: [
        3 / 4,
        Fraction(3, 4),
        np.float32(0.75),
        torch.tensor([0.0, math.log(3)]).softmax(0)[1],
        lambda: math.exp(math.log(3)) / (1 + math.exp(math.log(3))),
    ],
    SameEveryTime: [numbers_by_loop, numbers_by_zip, numbers_by_rank, numbers_by_insertion],
}
