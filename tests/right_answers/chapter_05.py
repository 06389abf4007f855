"""Right answers to the exercises of chapter 5, each written in another way than the solution."""

import math

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

from llmcourse.exercises.encoder_decoder import (
    CausalMask,
    CrossAttention,
    DecoderMask,
    LeakDetector,
    LossWithoutPadding,
    PredictReach,
    Reach,
    ShiftRight,
)


def causal_by_comparing(T, S):
    return torch.arange(S) <= torch.arange(S - T, S)[:, None]


def causal_by_loop(T, S):
    mask = torch.zeros(T, S, dtype=torch.bool)
    for t in range(T):
        mask[t, : S - T + t + 1] = True
    return mask


def causal_by_cutting(T, S):
    return ~torch.triu(torch.ones(S, S), diagonal=1).bool()[S - T :]


def causal_by_numpy(T, S):
    return torch.from_numpy(np.tri(T, S, S - T, dtype=bool))


def shifted_by_padding(targets, begin, pad):
    shifted = F.pad(targets[:, :-1], (1, 0), value=begin)
    return torch.where(shifted.eq(-100), pad, shifted)


def shifted_by_lists(targets, begin, pad):
    rows = [[begin, *row[:-1]] for row in targets.tolist()]
    return torch.tensor([[pad if token == -100 else token for token in row] for row in rows])


def shifted_by_rolling(targets, begin, pad):
    shifted = targets.roll(1, dims=1)
    shifted[:, 0] = begin
    shifted[shifted == -100] = pad
    return shifted


def shifted_into_an_empty_one(targets, begin, pad):
    shifted = torch.empty_like(targets)
    shifted[:, 0] = begin
    for t in range(1, targets.shape[1]):
        due = targets[:, t - 1]
        shifted[:, t] = due * (due != -100) + pad * (due == -100)
    return shifted


def loss_by_the_library(logits, targets, pad):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=pad)


def loss_by_loop(logits, targets, pad):
    surprises = []
    for row, wanted in zip(logits, targets, strict=True):
        for scores, target in zip(row, wanted.tolist(), strict=True):
            if target != pad:
                surprises.append(torch.logsumexp(scores, 0) - scores[target])
    return torch.stack(surprises).mean()


def loss_by_one_hot(logits, targets, pad):
    wanted = F.one_hot(targets, logits.shape[-1]) * (targets != pad)[..., None]
    return -torch.einsum("btv,btv->", logits.log_softmax(-1), wanted.float()) / wanted.sum()


def loss_by_choosing_first(logits, targets, pad):
    counts = targets.ne(pad)
    chosen, wanted = logits[counts], targets[counts]
    return -chosen.softmax(1)[torch.arange(len(wanted)), wanted].log().mean()


def mask_by_loop(tokens, pad):
    rows = [
        [[key <= query and row[key] != pad for key in range(len(row))] for query in range(len(row))]
        for row in tokens.tolist()
    ]
    return torch.tensor(rows).unsqueeze(1)


def mask_by_rearrange(tokens, pad):
    T = tokens.shape[-1]
    is_word = rearrange(tokens != pad, "B S -> B 1 1 S")
    return is_word & rearrange(torch.arange(T)[:, None] >= torch.arange(T), "T S -> 1 1 T S")


def mask_by_tril(tokens, pad):
    B, T = tokens.shape
    return (tokens != pad).view(B, 1, 1, T).expand(B, 1, T, T).tril()


def mask_by_product(tokens, pad):
    causal = torch.ones(tokens.shape[1], tokens.shape[1]).tril()
    return torch.einsum("ts,bs->bts", causal, tokens.ne(pad).float())[:, None] > 0


def read_by_the_library(x, memory, to_query, to_key, to_value, is_word):
    query, key, value = (rows[None] for rows in (x @ to_query, memory @ to_key, memory @ to_value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=is_word[None, None])[0]


def read_without_padding(x, memory, to_query, to_key, to_value, is_word):
    memory = memory[is_word]
    scores = (x @ to_query) @ (memory @ to_key).T / math.sqrt(to_key.shape[1])
    return scores.softmax(-1) @ (memory @ to_value)


def read_by_einsum(x, memory, to_query, to_key, to_value, is_word):
    scores = torch.einsum("tc,cd,ed,se->ts", x, to_query, to_key, memory) / to_query.shape[1] ** 0.5
    weights = torch.where(is_word, scores, -torch.inf).softmax(1)
    return torch.einsum("ts,sc,cd->td", weights, memory, to_value)


def read_row_by_row(x, memory, to_query, to_key, to_value, is_word):
    keys, values, rows = memory @ to_key, memory @ to_value, []
    for row in x:
        query = row @ to_query
        powers = [
            math.exp(query.dot(key).item() / len(key) ** 0.5) * may
            for key, may in zip(keys, is_word.tolist(), strict=True)
        ]
        rows.append(sum(power / sum(powers) * value for power, value in zip(powers, values, strict=True)))
    return torch.stack(rows)


def leaks_by_jacobian(model, T):
    jacobian = torch.autograd.functional.jacobian(model, torch.randn(T, 4))
    answers = jacobian.abs().amax(dim=(1, 3))
    return answers.triu(1).any().item()


def leaks_by_each_number(model, T):
    x = torch.rand(T, 4).requires_grad_()
    for t, row in enumerate(model(x)):
        for number in row:
            (gradient,) = torch.autograd.grad(number, x, retain_graph=True)
            if gradient[t + 1 :].count_nonzero() > 0:
                return True
    return False


def leaks_by_backward(model, T):
    for t in range(T):
        x = torch.randn(T, 4, dtype=torch.double, requires_grad=True)
        output = model(x)[t]
        output.backward(torch.randn_like(output))
        if any(x.grad[s].ne(0).any() for s in range(t + 1, T)):
            return True
    return False


def leaks_by_functions(model, T):
    jacobian = torch.func.jacrev(model)(torch.randn(T, 4))
    return any(jacobian[t, :, s].ne(0).any().item() for t in range(T) for s in range(t + 1, T))


def reach_by_sets(mask, layers):
    knows = [{t} for t in range(len(mask))]
    for _ in range(layers):
        knows = [own.union(*(knows[s] for s in range(len(mask)) if mask[t, s])) for t, own in enumerate(knows)]
    return torch.tensor([[s in own for s in range(len(mask))] for own in knows])


def reach_by_power(mask, layers):
    step = mask.double() + torch.eye(len(mask))
    return torch.linalg.matrix_power(step, layers) > 0


def reach_by_einsum(mask, layers):
    reached = torch.eye(len(mask)).bool()
    for _ in range(layers):
        reached = reached | torch.einsum("tm,ms->ts", mask.float(), reached.float()).gt(0)
    return reached


def reach_by_recursion(mask, layers):
    if layers == 0:
        return torch.eye(mask.shape[0], dtype=torch.bool)
    before = reach_by_recursion(mask, layers - 1)
    return before.logical_or((mask[:, :, None] & before[None]).any(dim=1))


RIGHT = {
    PredictReach: [4.0, math.ceil(8 / 2), torch.tensor(4), np.float64(4), lambda: -(-(9 - 1) // (3 - 1))],
    CausalMask: [causal_by_comparing, causal_by_loop, causal_by_cutting, causal_by_numpy],
    ShiftRight: [shifted_by_padding, shifted_by_lists, shifted_by_rolling, shifted_into_an_empty_one],
    LossWithoutPadding: [loss_by_the_library, loss_by_loop, loss_by_one_hot, loss_by_choosing_first],
    DecoderMask: [mask_by_loop, mask_by_rearrange, mask_by_tril, mask_by_product],
    CrossAttention: [read_by_the_library, read_without_padding, read_by_einsum, read_row_by_row],
    LeakDetector: [leaks_by_jacobian, leaks_by_each_number, leaks_by_backward, leaks_by_functions],
    Reach: [reach_by_sets, reach_by_power, reach_by_einsum, reach_by_recursion],
}
