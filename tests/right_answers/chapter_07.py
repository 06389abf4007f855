"""Right answers to the exercises of chapter 7, each written in another way than the solution."""

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.exercises.bert import Ceiling, HideWords, MaskedLoss, NextSentence, PairRow, PredictMasks


def hidden_by_loop(tokens, mask, special, n_vocab):
    shown, targets = tokens.tolist(), []
    for row in shown:
        wanted = [-100] * len(row)
        for place, token in enumerate(row):
            if token in special or random.random() >= 0.15:
                continue
            wanted[place], fate = token, random.random()
            if fate < 0.8:
                row[place] = mask
            elif fate < 0.9:
                row[place] = random.choice([other for other in range(n_vocab) if other not in special])
        targets.append(wanted)
    return torch.tensor(shown), torch.tensor(targets)


def hidden_place_by_place(tokens, mask, special, n_vocab):
    shown, targets = tokens.clone(), torch.full_like(tokens, -100)
    ordinary = sorted(set(range(n_vocab)) - set(special))
    for b in range(tokens.shape[0]):
        for t in range(tokens.shape[1]):
            if tokens[b, t].item() not in special and torch.rand(1).item() < 0.15:
                targets[b, t] = tokens[b, t]
                fate = torch.rand(1).item()
                if fate < 0.8:
                    shown[b, t] = mask
                elif fate < 0.9:
                    shown[b, t] = ordinary[int(torch.randint(len(ordinary), (1,)))]
    return shown, targets


def hidden_by_one_draw(tokens, mask, special, n_vocab):
    draw = torch.rand(tokens.shape)
    for token in special:
        draw[tokens == token] = 1.0
    weights = torch.ones(n_vocab)
    weights[list(special)] = 0
    others = torch.multinomial(weights, tokens.numel(), replacement=True).view_as(tokens)
    shown = torch.where(draw < 0.12, mask, torch.where(draw < 0.135, others, tokens))
    return shown, torch.where(draw < 0.15, tokens, -100)


def hidden_by_bernoulli(tokens, mask, special, n_vocab):
    spared = sum(tokens == token for token in special).bool()
    chosen = torch.bernoulli(torch.full(tokens.shape, 0.15)).bool() & ~spared
    masked = torch.bernoulli(torch.full(tokens.shape, 0.8)).bool() & chosen
    swapped = torch.bernoulli(torch.full(tokens.shape, 0.5)).bool() & chosen & ~masked
    shown, targets = tokens.clone(), tokens.clone()
    targets[~chosen] = -100
    shown[masked] = mask
    ordinary = np.setdiff1d(np.arange(n_vocab), special)
    shown[swapped] = torch.from_numpy(np.random.choice(ordinary, int(swapped.sum())))
    return shown, targets


def loss_by_the_library(logits, targets):
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    return loss if (targets != -100).any() else torch.zeros(())


def loss_by_loop(logits, targets):
    losses = []
    for b, row in enumerate(targets.tolist()):
        for t, wanted in enumerate(row):
            if wanted != -100:
                losses.append(-torch.log_softmax(logits[b, t], dim=0)[wanted])
    return sum(losses) / len(losses) if losses else 0.0


def loss_by_one_hot(logits, targets):
    counts = (targets != -100).float()
    wanted = F.one_hot(targets.clamp(min=0), logits.shape[2]) * counts[:, :, None]
    return torch.einsum("btv,btv->", logits.logsumexp(-1, keepdim=True) - logits, wanted) / max(1, counts.sum())


def loss_by_gather(logits, targets):
    chosen = targets.ne(-100)
    losses = -logits.log_softmax(-1).gather(-1, targets.where(chosen, 0).unsqueeze(-1)).squeeze(-1)
    return (losses * chosen).sum() / chosen.sum().clamp(min=1)


def pair_by_concatenation(first, second, cls, sep):
    left, right = first.copy(), second.copy()
    left.insert(0, cls), left.append(sep), right.append(sep)
    return left + right, [0 for _ in left] + [1 for _ in right]


def pair_by_loop(first, second, cls, sep):
    tokens, segments, segment = [], [], 0
    for token in [cls, *first, sep, *second, sep]:
        tokens.append(token)
        segments.append(segment)
        if token == sep:
            segment = 1
    return tokens, segments


def pair_by_numpy(first, second, cls, sep):
    tokens = np.concatenate([[cls], first, [sep], second, [sep]])
    return tokens.tolist(), (np.arange(len(tokens)) > len(first) + 1).astype(int).tolist()


def pair_by_chain(first, second, cls, sep):
    tokens = list(itertools.chain([cls], first, [sep], second, [sep]))
    return tokens, [int(place > tokens.index(sep)) for place in range(len(tokens))]


def sentences_by_number(documents, generator):
    number = generator.randrange(len(documents))
    place = generator.randrange(len(documents[number]) - 1)
    first = documents[number][place]
    label = int(generator.random() >= 0.5)
    if label == 0:
        return first, documents[number][place + 1], label
    other = (number + generator.randrange(1, len(documents))) % len(documents)
    return first, documents[other][generator.randrange(len(documents[other]))], label


def sentences_from_all_pairs(documents, generator):
    number = generator.choice(range(len(documents)))
    first, second = generator.choice(list(itertools.pairwise(documents[number])))
    if generator.choice([True, False]):
        return first, second, 0
    rest = [sentence for other, document in enumerate(documents) if other != number for sentence in document]
    return first, generator.choice(rest), 1


def sentences_by_drawing_again(documents, generator):
    follows = generator.random() < 0.5
    document = generator.choice(documents)
    at = generator.randrange(0, len(document) - 1)
    other = document
    while other is document:
        other = generator.choice(documents)
    return document[at], document[at + 1] if follows else generator.choice(other), 1 - follows


def ceiling_by_loop(joint):
    return math.fsum(max(row) for row in joint.tolist())


def ceiling_by_numpy(joint):
    return np.max(joint.numpy(), axis=1).sum()


def ceiling_by_conditionals(joint):
    shown = joint.sum(1)
    best = (joint / shown[:, None]).argmax(1)
    return float(torch.einsum("c,c->", shown, (joint / shown[:, None])[torch.arange(len(joint)), best]))


def ceiling_by_sorting(joint):
    return joint.sort(dim=-1, descending=True).values[:, 0].sum().item()


RIGHT = {
    PredictMasks: [204, 100 * (20 - 3) * 0.12, Fraction(1700 * 12, 100), np.float64(204), torch.tensor(204)],
    HideWords: [hidden_by_loop, hidden_place_by_place, hidden_by_one_draw, hidden_by_bernoulli],
    MaskedLoss: [loss_by_the_library, loss_by_loop, loss_by_one_hot, loss_by_gather],
    PairRow: [pair_by_concatenation, pair_by_loop, pair_by_numpy, pair_by_chain],
    NextSentence: [sentences_by_number, sentences_from_all_pairs, sentences_by_drawing_again],
    Ceiling: [ceiling_by_loop, ceiling_by_numpy, ceiling_by_conditionals, ceiling_by_sorting],
}
