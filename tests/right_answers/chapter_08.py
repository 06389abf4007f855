"""Right answers to the exercises of chapter 8, each written in another way than the solution."""

import itertools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from llmcourse.exercises.fine_tuning import (
    FitToContext,
    FreezeTheEncoder,
    HonestSelection,
    LowRankChange,
    MeanPooling,
    MergeTheChange,
    PredictSizeOfChange,
)


def fit_by_assignment(ids, context, cls, sep, pad):
    row = [pad] * context
    kept = min(len(ids), context - 2)
    row[0], row[1 : kept + 1], row[kept + 1] = cls, ids[:kept], sep
    return row


def fit_by_loop(ids, context, cls, sep, pad):
    row = [cls]
    for token in ids:
        if len(row) == context - 1:
            break
        row.append(token)
    row.append(sep)
    while len(row) < context:
        row.append(pad)
    return row


def fit_by_slices(ids, context, cls, sep, pad):
    room = itertools.islice(ids, context - 2)
    return list(itertools.islice(itertools.chain([cls], room, [sep], itertools.repeat(pad)), context))


def fit_by_torch(ids, context, cls, sep, pad):
    row = torch.tensor([cls, *ids[: context - 2], sep])
    return F.pad(row, (0, context - len(row)), value=pad).tolist()


def pooled_by_loop(hidden, tokens, pad):
    return torch.stack([row[own].mean(dim=0) for row, own in zip(hidden, tokens != pad, strict=True)])


def pooled_by_einsum(hidden, tokens, pad):
    counts = (tokens != pad).float()
    return torch.einsum("btc,bt->bc", hidden, counts / counts.sum(1, keepdim=True))


def pooled_by_nan(hidden, tokens, pad):
    return torch.where((tokens == pad)[..., None], torch.nan, hidden).nanmean(dim=1)


def pooled_by_adding(hidden, tokens, pad):
    B, _, C = hidden.shape
    rows, places = torch.where(tokens != pad)
    total = torch.zeros(B, C).index_add(0, rows, hidden[rows, places])
    return total / torch.bincount(rows, minlength=B).unsqueeze(1)


def frozen_by_loop(model):
    for parameter in model.encoder.parameters():
        parameter.requires_grad = False
    model.train()
    model.encoder.eval()
    return torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])


def frozen_by_name(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    model.head.train(True)
    model.encoder.train(False)
    return torch.optim.AdamW([{"params": list(model.head.parameters()), "lr": 3e-4}], weight_decay=0.0)


def frozen_in_groups(model):
    model.eval().requires_grad_(False)
    model.head.requires_grad_(True).train()
    weights = [parameter for parameter in model.head.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.head.parameters() if parameter.dim() < 2]
    return torch.optim.AdamW([{"params": weights}, {"params": others, "weight_decay": 0.0}], lr=1e-3)


def change_by_parameters(linear, rank, alpha):
    for parameter in linear.parameters():
        parameter.requires_grad = False
    down = nn.Parameter(torch.empty(rank, linear.in_features))
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(x):
        return linear(x) + F.linear(F.linear(x, down), up) * (alpha / rank)

    return down, up, forward


def change_by_modules(linear, rank, alpha):
    linear.weight.requires_grad_(False), linear.bias.requires_grad_(False)
    down = nn.Linear(linear.in_features, rank, bias=False)
    up = nn.Linear(rank, linear.out_features, bias=False)
    nn.init.zeros_(up.weight)
    return down.weight, up.weight, lambda x: torch.add(linear(x), up(down(x)), alpha=alpha / rank)


def change_by_the_other_zero(linear, rank, alpha):
    linear.requires_grad_(False)
    up = (0.1 * torch.randn(linear.out_features, rank)).requires_grad_()
    down = torch.zeros(rank, linear.in_features).requires_grad_()

    def forward(x):
        change = torch.einsum("or,ri->oi", up, down) * alpha / rank
        return F.linear(x, linear.weight + change, linear.bias)

    return down, up, forward


def merged_by_einsum(weight, down, up, alpha):
    return weight + torch.einsum("ri,or->oi", down, up) * (alpha / up.shape[1])


def merged_by_addmm(weight, down, up, alpha):
    return torch.addmm(weight, up, down, alpha=alpha / len(down))


def merged_by_loop(weight, down, up, alpha):
    merged = weight.clone()
    for row, column in zip(down, up.T, strict=True):
        merged += alpha / len(down) * torch.outer(column, row)
    return merged


def merged_by_columns(weight, down, up, alpha):
    basis = torch.eye(weight.shape[1])
    return (basis @ weight.T + basis @ down.T @ up.T * alpha / down.size(0)).T


def selected_by_loop(runs):
    best = None
    for name, splits in runs.items():
        for step, accuracy in enumerate(splits["validation"]):
            if best is None or accuracy > best[0]:
                best = accuracy, name, step
    _, name, step = best
    return name, step, runs[name]["test"][step]


def selected_by_sorting(runs):
    found = [(-value, n, step) for n, name in enumerate(runs) for step, value in enumerate(runs[name]["validation"])]
    _, n, step = sorted(found)[0]
    name = list(runs)[n]
    return name, step, runs[name]["test"][step]


def selected_run_by_run(runs):
    steps = {name: int(np.argmax(splits["validation"])) for name, splits in runs.items()}
    name = max(runs, key=lambda name: max(runs[name]["validation"]))
    return name, steps[name], runs[name]["test"][steps[name]]


def selected_by_a_table(runs):
    table = torch.tensor([splits["validation"] for splits in runs.values()], dtype=torch.double)
    n, step = divmod((table == table.max()).flatten().tolist().index(True), table.shape[1])
    name = [*runs][n]
    return name, step, runs[name]["test"][step]


RIGHT = {
    PredictSizeOfChange: [147456.0, 12 * 2 * 4 * (768 + 768), np.int32(147_456), torch.tensor(147_456), lambda: 12 * 2 * 2 * 4 * 768],
    FitToContext: [fit_by_assignment, fit_by_loop, fit_by_slices, fit_by_torch],
    MeanPooling: [pooled_by_loop, pooled_by_einsum, pooled_by_nan, pooled_by_adding],
    FreezeTheEncoder: [frozen_by_loop, frozen_by_name, frozen_in_groups],
    LowRankChange: [change_by_parameters, change_by_modules, change_by_the_other_zero],
    MergeTheChange: [merged_by_einsum, merged_by_addmm, merged_by_loop, merged_by_columns],
    HonestSelection: [selected_by_loop, selected_by_sorting, selected_run_by_run, selected_by_a_table],
}  # fmt: skip
