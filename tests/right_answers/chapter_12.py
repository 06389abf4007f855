"""Right answers to the exercises of chapter 12, each written in another way than the solution."""

import math
import statistics
from itertools import chain, pairwise

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.exercises.instructions import GroupAdvantage, HowFar, LossMask, PairDetective, PairLoss, PredictPairLoss


def mask_by_positions(turns, roles, end):
    tokens, mine = [], set()
    for role, ids in turns:
        start = len(tokens) + 1
        tokens.extend([roles[role], *list(ids), end])
        if role == "assistant":
            mine.update(range(start, len(tokens)))
    return tokens[:-1], [tokens[t + 1] if t + 1 in mine else -100 for t in range(len(tokens) - 1)]


def mask_by_tensor(turns, roles, end):
    parts = [torch.tensor([roles[role], *ids, end]) for role, ids in turns]
    hidden = [
        torch.full_like(p, -100) if role != "assistant" else p.clone()
        for p, (role, _) in zip(parts, turns, strict=True)
    ]
    for part in hidden:
        part[0] = -100
    return torch.cat(parts)[:-1].tolist(), torch.cat(hidden)[1:].tolist()


def mask_by_pairs(turns, roles, end):
    laid = []
    for role, ids in turns:
        laid.append((roles[role], False))
        laid.extend((token, role == "assistant") for token in chain(ids, [end]))
    steps = list(pairwise(laid))
    return [now for (now, _), _ in steps], [token if counts else -100 for _, (token, counts) in steps]


def mask_by_state(turns, roles, end):
    row = list(chain.from_iterable([[roles[role]], ids, [end]] for role, ids in turns))
    row = list(chain.from_iterable(row))
    speaker, targets = None, []
    for token in row:
        if speaker is None:
            speaker = token
            targets.append(-100)
        else:
            targets.append(token if speaker == roles["assistant"] else -100)
            speaker = None if token == end else speaker
    del targets[0], row[-1]
    return row, targets


def dpo_by_softplus(chosen, rejected, reference_chosen, reference_rejected, beta):
    won = (chosen - reference_chosen.detach()).sum(-1)
    lost = (rejected - reference_rejected.detach()).sum(-1)
    return F.softplus(beta * (lost - won)).mean()


def dpo_by_cross_entropy(chosen, rejected, reference_chosen, reference_rejected, beta):
    policy = torch.stack([chosen.sum(1), rejected.sum(1)], dim=1)
    with torch.no_grad():
        reference = torch.stack([reference_chosen.sum(1), reference_rejected.sum(1)], dim=1)
    return F.cross_entropy(beta * (policy - reference), torch.zeros(len(policy), dtype=torch.long))


def dpo_by_loop(chosen, rejected, reference_chosen, reference_rejected, beta):
    losses = []
    for b in range(chosen.shape[0]):
        policy = sum(chosen[b]) - sum(rejected[b])
        reference = math.fsum(reference_chosen[b].tolist()) - math.fsum(reference_rejected[b].tolist())
        losses.append(-torch.log(1 / (1 + torch.exp(-beta * (policy - reference)))))
    return torch.stack(losses).mean()


def dpo_by_logit_loss(chosen, rejected, reference_chosen, reference_rejected, beta):
    margin = torch.einsum("bt->b", chosen) - torch.einsum("bt->b", rejected)
    margin = margin - (reference_chosen.data.sum(1) - reference_rejected.data.sum(1))
    return F.binary_cross_entropy_with_logits(beta * margin, torch.ones_like(margin))


def asked_by_signs(pairs, features):
    return {
        name: float(np.mean([(np.sign(feature(c) - feature(r)) + 1) / 2 for c, r in pairs]))
        for name, feature in features.items()
    }


def asked_by_counting(pairs, features):
    asked = {}
    for name in features:
        more = equal = 0
        for chosen, rejected in pairs:
            a, b = features[name](chosen), features[name](rejected)
            if a > b:
                more += 1
            elif a == b:
                equal += 1
        asked[name] = (more + equal / 2) / len(pairs)
    return asked


def asked_by_tensor(pairs, features):
    values = torch.tensor([[[float(f(text)) for text in pair] for pair in pairs] for f in features.values()])
    shares = torch.heaviside(values[..., 0] - values[..., 1], torch.tensor(0.5)).mean(dim=1)
    return dict(zip(features, shares.tolist(), strict=True))


def kl_by_loop(policy, reference):
    total = 0.0
    for n in range(policy.shape[0]):
        for t in range(policy.shape[1]):
            total += policy[n, t].item() - reference[n, t].item()
    return total / policy.shape[0]


def advantages_by_loop(rewards):
    rows = []
    for row in rewards.tolist():
        mean, spread = statistics.fmean(row), statistics.pstdev(row)
        rows.append([(value - mean) / spread if spread else 0.0 for value in row])
    return torch.tensor(rows)


def advantages_by_numpy(rewards):
    values = rewards.numpy().astype(float)
    centred = values - values.mean(axis=1, keepdims=True)
    spread = values.std(axis=1, keepdims=True)
    return torch.from_numpy(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)).float()


def advantages_by_nan(rewards):
    variance, mean = torch.var_mean(rewards, dim=-1, correction=0, keepdim=True)
    return ((rewards - mean) * variance.rsqrt()).nan_to_num(0.0)


def advantages_by_batch_norm(rewards):
    return F.layer_norm(rewards, rewards.shape[1:], eps=1e-12)


RIGHT = {
    PredictPairLoss: [
        0.69,
        -math.log(0.5),
        -F.logsigmoid(torch.tensor(0.0)),
        np.float32(0.693),
    ],
    LossMask: [
        mask_by_positions,
        mask_by_tensor,
        mask_by_pairs,
        mask_by_state,
        lambda turns, roles, end: list(mask_by_state(turns, roles, end)),
    ],
    PairLoss: [dpo_by_softplus, dpo_by_cross_entropy, dpo_by_loop, dpo_by_logit_loss],
    PairDetective: [asked_by_signs, asked_by_counting, asked_by_tensor],
    HowFar: [
        kl_by_loop,
        lambda policy, reference: float(torch.einsum("nt->", policy - reference)) / len(policy),
        lambda policy, reference: policy.sum(-1).mean().item() - reference.sum(-1).mean().item(),
        lambda policy, reference: np.subtract(policy.numpy(), reference.numpy()).sum(axis=1).mean(),
    ],
    GroupAdvantage: [advantages_by_loop, advantages_by_numpy, advantages_by_nan, advantages_by_batch_norm],
}
