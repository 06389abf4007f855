"""Right answers to the exercises of chapter 1, each written in another way than the solution."""

import itertools
import math

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.corpora.agree import PLURAL_NOUNS, SINGULAR_NOUNS
from llmcourse.evaluation import perplexity
from llmcourse.exercises.language_models import Bigram, Perplexity, PredictFloor, SentenceProbability, Shortcut


def bigram_by_index(sentences, n_vocab, k):
    pairs = [pair for sentence in sentences for pair in itertools.pairwise(sentence)]
    table = torch.full((n_vocab, n_vocab), float(k))
    if pairs:
        first, second = torch.tensor(pairs).T
        table.index_put_((first, second), torch.ones(len(pairs)), accumulate=True)
    return F.normalize(table, p=1, dim=1)


def bigram_by_bins(sentences, n_vocab, k):
    cells = [a * n_vocab + b for sentence in sentences for a, b in itertools.pairwise(sentence)]
    counts = torch.bincount(torch.tensor(cells, dtype=torch.long), minlength=n_vocab**2).view(n_vocab, n_vocab) + k
    return torch.einsum("ab,a->ab", counts.float(), 1 / counts.float().sum(1))


def bigram_by_lists(sentences, n_vocab, k):
    rows = [[float(k)] * n_vocab for _ in range(n_vocab)]
    for sentence in sentences:
        for place in range(len(sentence) - 1):
            rows[sentence[place]][sentence[place + 1]] += 1
    return torch.tensor([[value / sum(row) for value in row] for row in rows])


def bigram_by_numpy(sentences, n_vocab, k):
    table = np.full((n_vocab, n_vocab), k, dtype=np.float64)
    for sentence in sentences:
        np.add.at(table, (sentence[:-1], sentence[1:]), 1)
    return torch.from_numpy(table / table.sum(axis=1, keepdims=True)).float()


def perplexity_by_loop(logits, targets):
    losses = []
    for row, wanted in zip(logits.flatten(0, -2), targets.flatten().tolist(), strict=True):
        if wanted != -100:
            losses.append(row.exp().sum().log().item() - row[wanted].item())
    return math.exp(sum(losses) / len(losses))


def perplexity_by_one_hot(logits, targets):
    counted = targets != -100
    wanted = F.one_hot(targets[counted], logits.shape[-1]).float()
    return float(torch.exp(-torch.einsum("nv,nv->n", logits[counted].log_softmax(-1), wanted).mean()))


def perplexity_by_cross_entropy(logits, targets):
    return math.exp(F.cross_entropy(logits.flatten(0, -2), targets.flatten()).item())


def perplexity_as_a_geometric_mean(logits, targets):
    counted = targets != -100
    chances = logits.double().softmax(-1)[counted][range(int(counted.sum())), targets[counted]]
    return (1 / chances.prod().item()) ** (1 / len(chances))


def words_by_cases(words):
    *rest, noun, verb = words
    p = {"cat": 0.5, "dog": 0.3, "trees": 0.2}[noun] * (0.6 if verb == "sleeps" else 0.4)
    return math.log(p * (0.125 if len(rest) == 2 else 0.75))


def words_by_sum(words):
    steps = [0.25, 0.5] if len(words) == 4 else [0.75]
    steps += [{"cat": 0.5, "dog": 0.3, "trees": 0.2, "sleeps": 0.6, "waits": 0.4}[word] for word in words[-2:]]
    return sum(map(math.log, steps))


def words_by_numpy(words):
    table = {
        "the": 1,
        "old": 1 / 6,
        "red": 1 / 6,
        "cat": 1 / 2,
        "dog": 3 / 10,
        "trees": 1 / 5,
        "sleeps": 0.6,
        "waits": 0.4,
    }
    return np.log([table[word] for word in words]).sum() + np.log(3 / 4)


def guess_by_loop(words):
    for word in words:
        if word in SINGULAR_NOUNS:
            return "singular"
        if word in PLURAL_NOUNS:
            return "plural"
    return "singular"


def guess_by_place(words):
    places = {word: place for place, word in reversed(list(enumerate(words)))}
    nouns = sorted(set(words) & {*SINGULAR_NOUNS, *PLURAL_NOUNS}, key=places.get)
    return ("singular", "plural")[nouns[0] in PLURAL_NOUNS]


def guess_by_table(words):
    table = dict.fromkeys(SINGULAR_NOUNS, "singular") | dict.fromkeys(PLURAL_NOUNS, "plural")
    return next(filter(None, map(table.get, words)))


RIGHT = {
    PredictFloor: [
        1.5 * math.log(2),
        1.04,
        torch.tensor(1.0397),
        np.float64(1.5) * np.log(2),
        -(torch.tensor([0.5, 0.25, 0.25]) * torch.tensor([0.5, 0.25, 0.25]).log()).sum(),
    ],
    Bigram: [bigram_by_index, bigram_by_bins, bigram_by_lists, bigram_by_numpy],
    Perplexity: [
        perplexity_by_loop,
        perplexity_by_one_hot,
        perplexity_by_cross_entropy,
        perplexity_as_a_geometric_mean,
        perplexity,
    ],
    SentenceProbability: [words_by_cases, words_by_sum, words_by_numpy],
    Shortcut: [guess_by_loop, guess_by_place, guess_by_table],
}
