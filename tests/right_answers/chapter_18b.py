"""Right answers to the exercises of chapter 18b, each written in another way than the solution."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.exercises.domains import (
    KeepAllExpertsBusy,
    MeanForgetting,
    PredictTheCostOfMixing,
    RouteToOne,
    UnacceptableErrors,
)


def mix_by_loop(scores, outputs):
    rows = []
    for row, said in zip(scores, outputs, strict=True):
        best = max(range(len(row)), key=row.tolist().__getitem__)
        rows.append(said[best] / (row - row[best]).exp().sum())
    return torch.stack(rows)


def mix_by_one_hot(scores, outputs):
    gates = scores.softmax(-1) * F.one_hot(scores.argmax(-1), scores.shape[-1])
    return torch.einsum("te,tec->tc", gates, outputs)


def mix_by_gather(scores, outputs):
    gate, chosen = torch.softmax(scores, 1).topk(1, dim=1)
    return gate * outputs.gather(1, chosen[..., None].expand(-1, 1, outputs.shape[-1]))[:, 0]


def balance_by_loop(gates, counts):
    counted = [row for row, counts_here in zip(gates, counts.tolist(), strict=True) if counts_here]
    E, loss = gates.shape[1], 0.0
    chosen = [row.tolist().index(max(row.tolist())) for row in counted]
    for i in range(E):
        loss = loss + chosen.count(i) / len(counted) * sum(row[i] for row in counted) / len(counted)
    return E * loss


def balance_by_einsum(gates, counts):
    weights = counts.float() / counts.sum()
    chosen = F.one_hot(gates.argmax(1), gates.shape[1]).float()
    f, P = torch.einsum("te,t->e", chosen, weights), torch.einsum("te,t->e", gates, weights)
    return gates.shape[1] * f @ P


def balance_by_mean(gates, counts):
    kept = torch.masked_select(gates, counts[:, None]).view(-1, gates.shape[-1])
    highest = kept == kept.amax(dim=1, keepdim=True)
    return (highest.float().mean(0) * kept.mean(0)).mean() * gates.shape[-1] ** 2


def forgetting_by_numpy(losses):
    table = np.array(losses)
    return np.mean(table[-1, :-1] - np.diag(table)[:-1])


def forgetting_by_loop(losses):
    risen = []
    for j in range(len(losses) - 1):
        risen.append(losses[len(losses) - 1][j] - losses[j][j])
    return sum(risen) / len(risen)


def forgetting_by_tensor(losses):
    table = torch.tensor(losses, dtype=torch.double)
    n = len(table)
    return (table[n - 1].sum() - table.trace()).item() / (n - 1)  # of the last domain the two are one number


def rate_by_loop(cases, domain):
    n = wrong = 0
    for case in cases:
        if case["domain"] == domain:
            n += 1
            if case["said"] not in (None, case["truth"]) and not case["sure"] < 0.9:
                wrong += 1
    return wrong / n if n else None


def rate_by_numpy(cases, domain):
    own = [[bool(c["said"]), c["said"] != c["truth"], c["sure"] >= 0.9] for c in cases if c["domain"] == domain]
    return np.all(own, axis=1).mean() if own else None


def rate_by_groups(cases, domain):
    outcomes = {}
    for case in cases:
        referred, right = case["said"] is None, case["said"] == case["truth"]
        outcomes.setdefault(case["domain"], []).append(0 if referred or right else int(case["sure"] >= 0.9))
    own = outcomes.get(domain)
    return own and math.fsum(own) / len(own)


RIGHT = {
    PredictTheCostOfMixing: [
        math.log(4) / 10,
        0.139,
        torch.full((4,), 0.25).log().mean() / -10,
        np.log(4, dtype=np.float32) / 10,
    ],
    RouteToOne: [mix_by_loop, mix_by_one_hot, mix_by_gather],
    KeepAllExpertsBusy: [balance_by_loop, balance_by_einsum, balance_by_mean],
    MeanForgetting: [forgetting_by_numpy, forgetting_by_loop, forgetting_by_tensor],
    UnacceptableErrors: [rate_by_loop, rate_by_numpy, rate_by_groups],
}
