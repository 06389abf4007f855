"""Right answers to the exercises of chapter 9, each written in another way than the solution."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.exercises.gpt import CachedSteps, CountGPT2, NextTokenDistribution, PredictFirstLoss, TextWindows
from llmcourse.generation import SamplingConfig, next_token_probabilities


def windows_by_loop(documents, context):
    found = []
    for document in documents:
        start = 0
        while start + context < len(document):
            x, y = [], []
            for i in range(start, start + context):
                x.append(document[i])
                y.append(document[i + 1])
            found.append((x, y))
            start += 1
    return found


def windows_by_unfold(documents, context):
    long = [torch.tensor(document) for document in documents if len(document) > context]
    rows = [row for document in long for row in document.unfold(0, context + 1, 1).tolist()]
    return [(row[:-1], row[1:]) for row in rows]


def windows_by_numpy(documents, context):
    found = []
    for document in documents:
        if len(document) > context:
            table = np.lib.stride_tricks.sliding_window_view(document, context + 1)
            found += zip(table[:, :-1].tolist(), table[:, 1:].tolist(), strict=True)
    return found


def windows_by_zip(documents, context):
    found = []
    for document in documents:
        sides = [
            list(map(list, zip(*(part[i:] for i in range(context)), strict=False)))
            for part in (document[:-1], document[1:])
        ]
        found.extend(zip(*sides, strict=True))
    return found


def chances_by_the_package(logits, temperature, top_k, top_p):
    return next_token_probabilities(logits, SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p))


def chances_by_loop(logits, temperature, top_k, top_p):
    order = sorted(range(len(logits)), key=lambda i: -logits[i].item())
    if temperature == 0:
        return torch.eye(len(logits))[order[0]]
    powers = {i: math.exp((logits[i] - logits.max()).item() / temperature) for i in order[:top_k]}
    kept, held = {}, 0.0
    for i in order[:top_k]:
        if held >= top_p * sum(powers.values()):
            break
        kept[i] = powers[i]
        held += powers[i]
    return torch.tensor([kept.get(i, 0.0) / held for i in range(len(logits))])


def chances_by_hiding(logits, temperature, top_k, top_p):
    if not temperature:
        return F.one_hot(logits.argmax(), len(logits)).to(logits.dtype)
    scores = logits / temperature
    scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
    p = F.softmax(scores, dim=0)
    larger = (p[None, :] > p[:, None]).float() @ p  # what the likelier ones hold together
    return F.softmax(scores.masked_fill(larger >= top_p, -torch.inf), dim=0)


def chances_by_numpy(logits, temperature, top_k, top_p):
    x = logits.numpy().astype(np.float64)
    if temperature == 0:
        return torch.from_numpy((x == x.max()).astype(np.float32))
    x = np.exp((x - x.max()) / temperature)
    order = np.argsort(x)[::-1][:top_k]
    shares = x[order] / x[order].sum()
    n_kept = min(int(np.searchsorted(np.cumsum(shares), top_p)) + 1, len(order))
    result = np.zeros_like(x)
    result[order[:n_kept]] = shares[:n_kept] / shares[:n_kept].sum()
    return torch.from_numpy(result).float()


def step_by_the_library(new, cache, places, project):
    P = 0 if cache is None else cache[0].shape[0]
    query, key, value = project(new + places[P : P + len(new)])
    keys, values = (
        (key, value) if cache is None else (torch.cat(pair) for pair in zip(cache, (key, value), strict=True))
    )
    seen = torch.arange(len(keys)) <= torch.arange(P, P + len(new))[:, None]
    return F.scaled_dot_product_attention(query[None], keys[None], values[None], attn_mask=seen)[0], (keys, values)


def step_token_by_token(new, cache, places, project):
    keys, values = ([], []) if cache is None else (list(cache[0]), list(cache[1]))
    blends = []
    for row in new:
        query, key, value = (part[0] for part in project((row + places[len(keys)])[None]))
        keys.append(key)
        values.append(value)
        weights = (torch.stack(keys) @ query / len(row) ** 0.5).softmax(0)
        blends.append(torch.einsum("s,sc->c", weights, torch.stack(values)))
    return torch.stack(blends), (torch.stack(keys), torch.stack(values))


def step_by_added_mask(new, cache, places, project):
    cache = cache or (new[:0], new[:0])
    T, P = len(new), len(cache[0])
    query, key, value = project(torch.add(new, places.narrow(0, P, T)))
    keys, values = torch.vstack((cache[0], key)), torch.vstack((cache[1], value))
    ahead = torch.full((T, P + T), -torch.inf).triu(P + 1)
    weights = torch.softmax(torch.einsum("tc,sc->ts", query, keys) / math.sqrt(new.shape[1]) + ahead, dim=-1)
    return weights.matmul(values), [keys, values]


def count_by_shapes(n_vocab, context, C, n_layers):
    block = [(C, C), (C,)] * 4 + [(C, 4 * C), (4 * C,), (4 * C, C), (C,)] + [(C,)] * 4
    return sum(map(math.prod, [(n_vocab, C), (context, C), (C,), (C,), *block * n_layers]))


def count_in_one_line(V, T, C, L):
    return C * (V + T + 2 + L * (12 * C + 13))


def count_by_loop(n_vocab, context, C, n_layers):
    total = sum(rows * C for rows in (n_vocab, context))
    for _ in range(n_layers):
        total += 3 * C * C + 3 * C  # query, key and value in one layer
        total += C * (C + 1)
        for n_in, n_out in ((C, 4 * C), (4 * C, C)):
            total += n_in * n_out + n_out
        total += 2 * (C + C)
    return total + 2 * C


RIGHT = {
    PredictFirstLoss: [10.82, -math.log(1 / 50257), np.float32(10.825), torch.tensor(50257.0).log(), lambda: np.log(50257)],
    TextWindows: [windows_by_loop, windows_by_unfold, windows_by_numpy, windows_by_zip],
    NextTokenDistribution: [chances_by_the_package, chances_by_loop, chances_by_hiding, chances_by_numpy],
    CachedSteps: [step_by_the_library, step_token_by_token, step_by_added_mask],
    CountGPT2: [count_by_shapes, count_in_one_line, count_by_loop],
}  # fmt: skip
