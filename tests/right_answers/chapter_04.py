"""Right answers to the exercises of chapter 4, each written in another way than the solution."""

import itertools
import math

import numpy as np
import torch
from einops import einsum, rearrange
from torch import nn
from torch.nn import functional as F

from llmcourse.exercises.transformer_block import (
    CountParameters,
    GatedFeedForward,
    HearsOthers,
    MultiHead,
    PredictHeads,
    PreNormBlock,
    RotaryTurn,
    RotaryWithCache,
)


def heads_by_loop(x, to_query, to_key, to_value, to_out, n_heads):
    D, blends = x.shape[1] // n_heads, []
    for h in range(n_heads):
        own = slice(h * D, (h + 1) * D)
        query, key, value = x @ to_query[:, own], x @ to_key[:, own], x @ to_value[:, own]
        blends.append((query @ key.T / math.sqrt(D)).softmax(1) @ value)
    return torch.cat(blends, dim=1) @ to_out


def heads_by_rearrange(x, to_query, to_key, to_value, to_out, n_heads):
    parts = [rearrange(x @ matrix, "T (H D) -> H T D", H=n_heads) for matrix in (to_query, to_key, to_value)]
    scores = einsum(parts[0], parts[1], "H T D, H S D -> H T S") * (x.shape[1] / n_heads) ** -0.5
    return rearrange(scores.softmax(-1) @ parts[2], "H T D -> T (H D)") @ to_out


def heads_by_the_library(x, to_query, to_key, to_value, to_out, n_heads):
    layer = nn.MultiheadAttention(x.shape[1], n_heads, bias=False, batch_first=True)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([to_query, to_key, to_value], dim=1).T)
        layer.out_proj.weight.copy_(to_out.T)
        return layer(x[None], x[None], x[None], need_weights=False)[0][0]


def heads_by_einsum(x, to_query, to_key, to_value, to_out, n_heads):
    C = x.shape[1]
    by_head = [matrix.unflatten(1, (n_heads, -1)) for matrix in (to_query, to_key, to_value)]
    query, key, value = (torch.einsum("tc,chd->htd", x, matrix) for matrix in by_head)
    blend = F.scaled_dot_product_attention(query, key, value)
    return torch.einsum("htd,hdc->tc", blend, to_out.view(n_heads, C // n_heads, C))


def turn_by_complex_numbers(x, start, base):
    T, D = x.shape
    angles = (start + torch.arange(T))[:, None] * base ** (-2 * torch.arange(D // 2) / D)
    turned = torch.complex(x[:, : D // 2], x[:, D // 2 :]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], 1)


def turn_by_loop(x, start, base):
    result, half = x.clone(), x.shape[1] // 2
    for t, i in itertools.product(range(len(x)), range(half)):
        angle = (start + t) * base ** (-2 * i / x.shape[1])
        a, b = x[t, i].item(), x[t, i + half].item()
        result[t, i] = a * math.cos(angle) - b * math.sin(angle)
        result[t, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return result


def turn_by_matrices(x, start, base):
    half = x.shape[1] // 2
    angles = torch.einsum("t,i->ti", torch.arange(start, start + len(x)).float(), base ** (-torch.arange(half) / half))
    rows = [torch.stack([angles.cos(), -angles.sin()], -1), torch.stack([angles.sin(), angles.cos()], -1)]
    return torch.einsum("tiab,tbi->tai", torch.stack(rows, -2), x.view(len(x), 2, half)).flatten(1)


def turn_by_halves(x, start, base):
    half = x.shape[1] // 2
    rates = torch.exp(-math.log(base) * torch.arange(half) / half).repeat(2)
    angles = torch.arange(start, start + len(x))[:, None] * rates
    other = torch.roll(x, half, dims=1) * torch.tensor([-1.0, 1.0]).repeat_interleave(half)
    return x * angles.cos() + other * angles.sin()


def cached_by_the_library(query, key, value, past_key, past_value, rotate):
    P = past_key.shape[0]
    keys, values = torch.vstack([past_key, rotate(key, P)]), torch.vstack([past_value, value])
    return F.scaled_dot_product_attention(rotate(query, P)[None], keys[None], values[None])[0]


def cached_row_by_row(query, key, value, past_key, past_value, rotate):
    keys, values, blends = list(past_key), list(past_value), []
    for t in range(len(key)):
        keys.append(rotate(key[t : t + 1], len(past_key) + t)[0])
        values.append(value[t])
    for t in range(len(query)):
        turned = rotate(query[t : t + 1], len(past_key) + t)[0]
        weights = torch.stack([turned.dot(one) for one in keys]).div(len(turned) ** 0.5).softmax(0)
        blends.append(sum(weight * one for weight, one in zip(weights, values, strict=True)))
    return torch.stack(blends)


def cached_in_two_parts(query, key, value, past_key, past_value, rotate):
    start = len(past_value)
    query, key = rotate(query, start), rotate(key, start)
    old, new = (torch.einsum("td,sd->ts", query, k) / query.size(1) ** 0.5 for k in (past_key, key))
    total = torch.logsumexp(torch.cat([old, new], dim=1), dim=1, keepdim=True)
    return (old - total).exp() @ past_value + (new - total).exp() @ value


def block_by_the_library(x, attention, feed_forward):
    def norm(x):
        return F.layer_norm(x, x.shape[-1:])

    x = attention(norm(x)) + x
    return feed_forward(norm(x)) + x


def block_by_modules(x, attention, feed_forward):
    norm = nn.LayerNorm(x.shape[-1], elementwise_affine=False)
    for layer in (attention, feed_forward):
        x = x + layer(norm(x))
    return x


def block_by_var_mean(x, attention, feed_forward):
    def norm(x):
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-5)

    middle = torch.add(x, attention(norm(x)))
    return torch.add(middle, feed_forward(norm(middle)))


def block_by_rows(x, attention, feed_forward):
    def norm(x):
        rows = []
        for row in x.tolist():
            mean = math.fsum(row) / len(row)
            spread = math.sqrt(sum((value - mean) ** 2 for value in row) / len(row) + 1e-5)
            rows.append([(value - mean) / spread for value in row])
        return torch.tensor(rows)

    result = x.clone()
    result += attention(norm(result))
    result += feed_forward(norm(result))
    return result


def gated_by_silu(x, to_gate, up, down):
    return (F.silu(x @ to_gate) * (x @ up)) @ down


def gated_by_linear(x, to_gate, up, down):
    return F.linear(F.silu(F.linear(x, to_gate.T)) * F.linear(x, up.T), down.T)


def gated_by_einsum(x, to_gate, up, down):
    return torch.einsum("...h,...h,hc->...c", F.silu(x @ to_gate), x @ up, down)


def gated_row_by_row(x, to_gate, up, down):
    rows = []
    for row in x:
        gate = row @ to_gate
        rows.append(((gate / (1 + torch.exp(-gate))) * (row @ up)) @ down)
    return torch.stack(rows)


def gated_in_one_product(x, to_gate, up, down):
    gate, wide = (x @ torch.cat([to_gate, up], dim=1)).chunk(2, dim=1)
    return gate.mul(torch.sigmoid(gate)).mul(wide).mm(down)


def count_by_shapes(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
    shapes = [(n_vocab, d_model)] * (1 if tied else 2) + [(d_model,)] * 2
    for _ in range(n_layers):
        shapes += [(d_model, d_model), (d_model,)] * 4
        shapes += [(d_hidden, d_model), (d_hidden,), (d_model, d_hidden), (d_model,)]
        shapes += [(d_model,)] * 4
    return sum(torch.Size(shape).numel() for shape in shapes)


def count_by_loop(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
    total = n_vocab * d_model * (1 if tied else 2) + 2 * d_model
    for _ in range(n_layers):
        for n_in, n_out in [(d_model, d_model)] * 4 + [(d_model, d_hidden), (d_hidden, d_model)]:
            total += n_in * n_out + n_out
        total += 4 * d_model
    return total


def count_in_one_line(V, C, H, L, h, tied):
    return V * C * (2 - tied) + L * (4 * C * C + 2 * C * h + h + 9 * C) + 2 * C


def count_by_modules(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
    layers = [nn.TransformerEncoderLayer(d_model, n_heads, d_hidden) for _ in range(n_layers)]
    model = nn.ModuleList([*layers, nn.LayerNorm(d_model), nn.Embedding(n_vocab, d_model)])
    if not tied:
        model.append(nn.Linear(d_model, n_vocab, bias=False))
    return sum(parameter.numel() for parameter in model.parameters())


def hears_by_shifting_all_but_one(layer):
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    for t in range(6):
        mixed = y.clone()
        mixed[t] = x[t]
        if (layer(mixed)[t] - layer(x)[t]).abs().max() > 1e-5:
            return True
    return False


def hears_by_pairs(layer):
    x = torch.rand(6, 4)
    for changed, listener in itertools.permutations(range(6), 2):
        other = x.index_copy(0, torch.tensor([changed]), torch.rand(1, 4) + 1)
        if not np.allclose(layer(x)[listener].numpy(), layer(other)[listener].numpy(), atol=1e-6):
            return True
    return False


def hears_by_jacobian(layer):
    answers = torch.autograd.functional.jacobian(layer, torch.randn(6, 4)).abs().sum(dim=(1, 3))
    return bool(answers.fill_diagonal_(0).any())


def hears_by_exact_numbers(layer):
    x = torch.randn(6, 4, dtype=torch.double)
    moved = x + torch.eye(6, dtype=torch.double)[:, :, None] * torch.randn(6, 1, 4, dtype=torch.double)
    gaps = torch.stack([(layer(other) - layer(x)).abs().amax(1) for other in moved])
    return (gaps * (1 - torch.eye(6))).max().item() > 1e-9


RIGHT = {
    PredictHeads: [1, 4 * 64 * 64 / (4 * 64 * 64), torch.tensor(1.0), np.int64(1)],
    MultiHead: [heads_by_loop, heads_by_rearrange, heads_by_the_library, heads_by_einsum],
    RotaryTurn: [turn_by_complex_numbers, turn_by_loop, turn_by_matrices, turn_by_halves],
    RotaryWithCache: [cached_by_the_library, cached_row_by_row, cached_in_two_parts],
    PreNormBlock: [block_by_the_library, block_by_modules, block_by_var_mean, block_by_rows],
    GatedFeedForward: [gated_by_silu, gated_by_linear, gated_by_einsum, gated_row_by_row, gated_in_one_product],
    CountParameters: [count_by_shapes, count_by_loop, count_in_one_line, count_by_modules],
    HearsOthers: [hears_by_shifting_all_but_one, hears_by_pairs, hears_by_jacobian, hears_by_exact_numbers],
}
