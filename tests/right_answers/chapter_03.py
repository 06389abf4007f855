"""Right answers to the exercises of chapter 3, each written in another way than the solution."""

import itertools
import math

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.exercises.self_attention import (
    Attention,
    PredictScale,
    PreviousTokenKeys,
    StableSoftmax,
    WhichStepSeesOrder,
)


def softmax_by_loop(x, dim):
    moved = x.movedim(dim, -1)
    rows = [torch.tensor([math.exp(v - max(r)) for v in r]) for r in moved.reshape(-1, moved.shape[-1]).tolist()]
    return torch.stack([row / row.sum() for row in rows]).view(moved.shape).movedim(-1, dim)


def softmax_by_logsumexp(x, dim):
    return torch.exp(x - torch.logsumexp(x, dim, keepdim=True))


def softmax_by_normalising(x, dim):
    return F.normalize((x - x.max(dim, keepdim=True).values).exp(), p=1, dim=dim)


def softmax_by_numpy(x, dim):
    scores = x.double().numpy()
    powers = np.exp(scores - scores.max(axis=dim, keepdims=True))
    return torch.from_numpy(powers / powers.sum(axis=dim, keepdims=True)).to(x.dtype)


def softmax_by_differences(x, dim):
    x = x.movedim(dim, -1)
    return (1 / (x[..., None, :] - x[..., :, None]).exp().sum(-1)).movedim(-1, dim)


def attention_by_einsum(query, key, value, mask):
    scores = torch.einsum("...td,...sd->...ts", query, key) / math.sqrt(query.shape[-1])
    weights = (scores if mask is None else torch.where(mask, scores, -math.inf)).softmax(-1)
    return torch.einsum("...ts,...sd->...td", torch.where(weights.isnan(), 0.0, weights), value)


def attention_by_loop(query, key, value, mask):
    weights = query.new_zeros(*query.shape[:-1], key.shape[-2])
    for place in itertools.product(*map(range, query.shape[:-1])):
        allowed = [True] * key.shape[-2] if mask is None else mask.broadcast_to(weights.shape)[place].tolist()
        chosen = [s for s, may in enumerate(allowed) if may]
        if chosen:
            scores = torch.stack([query[place] @ key[place[:-1]][s] for s in chosen]) / query.shape[-1] ** 0.5
            weights[place][chosen] = scores.softmax(0)
    return weights @ value


def attention_by_the_library(query, key, value, mask):
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return torch.nan_to_num(found)


def attention_by_an_added_mask(query, key, value, mask):
    side = query.shape[-1] ** -0.25  # the scale in two halves, before the product
    scores = (query * side) @ (key * side).mT
    if mask is None:
        return scores.softmax(-1) @ value
    scores = scores + torch.zeros(mask.shape).masked_fill(mask.logical_not(), -math.inf)
    return torch.where(mask.any(-1, keepdim=True), scores.softmax(-1) @ value, 0.0)


def attention_by_exponents(query, key, value, mask):
    scores = (query @ key.transpose(-1, -2)).div(query.shape[-1] ** 0.5).double()
    may = torch.ones_like(scores) if mask is None else mask.to(scores).expand_as(scores)
    powers = (scores - scores.masked_fill(may == 0, -1e30).amax(-1, keepdim=True)).exp() * may
    powers = powers.nan_to_num(0.0, posinf=0.0)
    return ((powers @ value.double()) / powers.sum(-1, keepdim=True).clamp(min=1e-300)).to(value.dtype)


def keys_on_a_circle(T):
    angles = 2 * torch.pi * torch.arange(T) / T
    key = 100 * torch.stack([angles.cos(), angles.sin()], dim=1)
    before = angles - 2 * torch.pi / T
    return 100 * torch.stack([before.cos(), before.sin()], dim=1), key


def keys_one_hot(T):
    return 100 * F.one_hot((torch.arange(T) - 1) % T), 100 * F.one_hot(torch.arange(T))


def keys_by_loop(T):
    query, key = torch.zeros(T, T + 3), torch.zeros(T, T + 3)
    for t in range(T):
        key[t, t + 3] = 1.0
        query[t, t + 2] = 1e3
    return [query, key]


def keys_at_random(T):
    key = 5 * torch.linalg.qr(torch.randn(2 * T, 2 * T)).Q[:T]
    return 10 * T**0.5 * torch.cat([key[:1], key[:-1]]), key


def order_by_random_shuffles(layer):
    x = torch.randn(5, 6)
    for _ in range(20):
        order = torch.randperm(5)
        if (layer(x[order]) - layer(x)[order]).abs().max() > 1e-4 * (1 + layer(x).abs().max()):
            return True
    return False


def order_by_a_matrix(layer):
    x, shift = torch.randn(4, 6), torch.eye(4).roll(1, dims=0)
    first = torch.einsum("st,tc->sc", shift, layer(x))
    return not np.allclose(first.numpy(), layer(shift @ x).numpy(), atol=1e-5, rtol=1e-5)


def order_by_all_orders(layer):
    x = torch.randn(3, 6)
    blind = [
        torch.allclose(layer(x[list(order)]), layer(x)[list(order)], atol=1e-5)
        for order in itertools.permutations(range(3))
    ]
    return blind.count(False) > 0


def order_by_exact_numbers(layer):
    x = torch.randn(7, 6, dtype=torch.double)
    order = [3, 1, 0, 2, 6, 5, 4]
    return bool((layer(x[order]) - layer(x)[order]).abs().max() > 1e-9)


RIGHT = {
    StableSoftmax: [
        softmax_by_loop,
        softmax_by_logsumexp,
        softmax_by_normalising,
        softmax_by_numpy,
        softmax_by_differences,
    ],
    Attention: [
        attention_by_einsum,
        attention_by_loop,
        attention_by_the_library,
        attention_by_an_added_mask,
        attention_by_exponents,
    ],
    PreviousTokenKeys: [keys_on_a_circle, keys_one_hot, keys_by_loop, keys_at_random],
    WhichStepSeesOrder: [order_by_random_shuffles, order_by_a_matrix, order_by_all_orders, order_by_exact_numbers],
    PredictScale: [1, 1024 / math.sqrt(1024) ** 2, np.float32(1.0), torch.tensor(1), lambda: torch.ones(1)],
}
