"""Right answers to the exercises of chapter 18c, each written in another way than the solution."""

import itertools
import math

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.exercises.machines import (
    AcceptOrReplace,
    BytesOfACache,
    BytesOfAnAllReduce,
    MemoryOfATraining,
    QuantisePerChannel,
    WeightTheParts,
    WhatADraftGains,
)


def held_by_parts(N, data, activations):
    bits = {"weight": 16, "gradient": 16, "copy": 32, "mean": 32, "square": 32}
    total = activations
    for _name, width in bits.items():
        total += N * width / 8 / (data if width == 32 else 1)
    return total


def held_by_numpy(N, data, activations):
    return np.dot([4 * N, 12 * N, activations], [1, 1 / data, 1])


def whole_by_loop(gradients, counts):
    total = torch.zeros_like(gradients[0])
    for gradient, count in zip(gradients, counts, strict=True):
        if count > 0:
            total += count / sum(counts) * gradient
    return total


def whole_by_einsum(gradients, counts):
    weights = torch.tensor(counts, dtype=torch.float)
    return torch.einsum("mp,m->p", torch.stack(gradients).nan_to_num(0.0), weights / weights.sum())


def whole_by_numpy(gradients, counts):
    with_targets = [i for i, count in enumerate(counts) if count]
    rows = np.stack([gradients[i].numpy() for i in with_targets])
    return torch.from_numpy(np.average(rows, axis=0, weights=[counts[i] for i in with_targets])).float()


def sent_by_rounds(n_numbers, n_machines, bytes_each):
    piece, total = n_numbers / n_machines, 0
    for _half in ("added up", "sent on"):
        for _round in range(n_machines - 1):
            total += piece * bytes_each
    return total


def quantised_by_loop(weight):
    numbers, scales = torch.empty(weight.shape, dtype=torch.int8), []
    for i, row in enumerate(weight):
        scales.append(max(abs(value) for value in row.tolist()) / 127)
        numbers[i] = torch.tensor([round(value / scales[-1]) for value in row.tolist()])
    return numbers, torch.tensor(scales)[:, None]


def quantised_by_norm(weight):
    scale = torch.linalg.vector_norm(weight, ord=math.inf, dim=1, keepdim=True).div(127)
    return torch.round(weight / scale).char(), scale


def quantised_by_numpy(weight):
    scale = np.abs(weight.numpy()).max(axis=1, keepdims=True) / np.float32(127)
    return torch.from_numpy(np.rint(weight.numpy() / scale).astype(np.int8)), torch.from_numpy(scale)


def quantised_by_einsum(weight):
    size = torch.maximum(weight.max(dim=1).values, -weight.min(dim=1).values)
    numbers = torch.einsum("oi,o->oi", weight, 127 / size)
    return (numbers + 0.5 * numbers.sign()).trunc().to(torch.int8), size.unsqueeze(1) / 127


def cache_by_loop(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
    numbers = 0
    for _layer, _kind in itertools.product(range(n_layers), ("key", "value")):
        numbers += tokens * n_kv_heads * d_model / n_heads
    return numbers * bytes_each


def cache_by_tensors(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
    one = torch.empty(tokens, n_kv_heads, d_model // n_heads, device="meta")
    return sum(part.numel() for part in [one] * n_layers + [one] * n_layers) * bytes_each


def said_by_minimum(p, q):
    kept = torch.minimum(p, q)
    left = p - kept
    return kept, left / (1 - kept.sum())


def said_by_loop(p, q):
    kept, left = [], []
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        kept.append(b * min(1, a / b))
        left.append(max(0, a - b))
    return torch.tensor(kept), torch.tensor([value / sum(left) for value in left])


def said_by_normalize(p, q):
    return torch.where(p < q, p, q), F.normalize(torch.relu(p - q), p=1, dim=0)


def said_by_numpy(p, q):
    left = np.maximum(0, p.numpy() - q.numpy())
    return torch.from_numpy(np.minimum(p.numpy(), q.numpy())), torch.from_numpy(left / left.sum())


def gains_by_sum(acceptance, n_drafts, cost):
    return sum(acceptance**i for i in range(n_drafts + 1)) / (1 + n_drafts * cost)


def gains_by_expectation(acceptance, n_drafts, cost):
    tokens = (n_drafts + 1) * acceptance**n_drafts
    for kept in range(n_drafts):
        tokens += (kept + 1) * acceptance**kept * (1 - acceptance)
    return tokens / (1 + cost * n_drafts)


def gains_by_horner(acceptance, n_drafts, cost):
    tokens = 1.0
    for _ in range(n_drafts):
        tokens = 1 + acceptance * tokens
    return tokens * (1 / (n_drafts * cost + 1))


RIGHT = {
    MemoryOfATraining: [
        held_by_parts,
        held_by_numpy,
        lambda N, data, activations: activations + 4 * N * (1 + 3 / data),
    ],
    WeightTheParts: [whole_by_loop, whole_by_einsum, whole_by_numpy],
    BytesOfAnAllReduce: [
        sent_by_rounds,
        lambda n_numbers, n_machines, bytes_each: 2 * bytes_each * (n_numbers - n_numbers / n_machines),
        lambda n_numbers, n_machines, bytes_each: (n_machines - 1) * (n_numbers // n_machines) * bytes_each * 2,
    ],
    QuantisePerChannel: [quantised_by_loop, quantised_by_norm, quantised_by_numpy, quantised_by_einsum],
    BytesOfACache: [
        cache_by_loop,
        cache_by_tensors,
        lambda *n: np.prod([2, n[0], n[1], n[3], n[4], n[5]]) // n[2],
    ],
    AcceptOrReplace: [said_by_minimum, said_by_loop, said_by_normalize, said_by_numpy],
    WhatADraftGains: [
        gains_by_sum,
        gains_by_expectation,
        gains_by_horner,
        lambda a, n, cost: np.polyval(np.ones(n + 1), a) / (1 + n * cost),
    ],
}
