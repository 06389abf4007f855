"""Right answers to the exercises of chapter 15, each written in another way than the solution."""

import math
import random

import numpy as np
import torch

from llmcourse.exercises.bias import (
    BootstrapInterval,
    CounterfactualTwin,
    FairnessConflict,
    LogOddsScore,
    PredictGreedy,
)


def score_by_loop(logits, base_logits, she, he):
    def odds(row):
        weights = [math.exp(value) for value in row]
        return math.log((weights[she] / sum(weights)) / (weights[he] / sum(weights)))

    pairs = list(zip(logits.tolist(), base_logits.tolist(), strict=True))
    return sum(odds(row) - odds(base) for row, base in pairs) / len(pairs)


def score_by_log_softmax(logits, base_logits, she, he):
    logs = torch.stack([logits, base_logits]).log_softmax(dim=-1)
    mean = logs.mean(dim=1)
    return (mean[0, she] - mean[0, he] - mean[1, she] + mean[1, he]).item()


def score_by_einsum(logits, base_logits, she, he):
    direction = torch.zeros(logits.shape[-1])
    direction[she], direction[he] = 1, -1
    return torch.einsum("bv,v->", logits - base_logits, direction).item() / logits.shape[0]


def score_by_numpy(logits, base_logits, she, he):
    p, base = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True) for x in (logits, base_logits))
    return np.mean(np.log(p[:, she] / p[:, he]) - np.log(base[:, she] / base[:, he]))


def twin_by_cases(words, nouns, names):
    changed = []
    for word, after in zip(words, [*words[1:], None], strict=True):
        match word:
            case "he":
                changed.append("she")
            case "she":
                changed.append("he")
            case "him" | "his":
                changed.append("her")
            case "her":
                changed.append("his" if after in nouns else "him")
            case _ if word in names:
                changed.append(names[word])
            case _ if word in names.values():
                changed.append(next(first for first, second in names.items() if second == word))
            case _:
                changed.append(word)
    return changed


def twin_backwards(words, nouns, names):
    table = {"he": "she", "she": "he", "him": "her", "his": "her"}
    for first, second in names.items():
        table[first], table[second] = second, first
    changed, after = [], ""
    for word in reversed(words):
        changed.insert(0, ("his" if after in nouns else "him") if word == "her" else table.get(word, word))
        after = word
    return changed


def twin_in_place_of_a_copy(words, nouns, names):
    changed = list(words)
    for i in range(len(words)):
        if words[i] == "her":
            changed[i] = "him"
            if words[i + 1 : i + 2] and words[i + 1] in nouns:
                changed[i] = "his"
        for a, b in [("he", "she"), *names.items()]:
            if words[i] in (a, b):
                changed[i] = b if words[i] == a else a
        if words[i] in ("him", "his"):
            changed[i] = "her"
    return changed


def interval_by_numpy(documents, level, n_samples):
    ones = np.array([sum(document) for document in documents])
    lengths = np.array([len(document) for document in documents])
    drawn = np.random.default_rng(1).integers(len(documents), size=(n_samples, len(documents)))
    shares = ones[drawn].sum(1) / lengths[drawn].sum(1)
    return np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])


def interval_by_torch(documents, level, n_samples):
    ones = torch.tensor([float(sum(document)) for document in documents])
    lengths = torch.tensor([float(len(document)) for document in documents])
    counts = torch.distributions.Multinomial(len(documents), torch.ones(len(documents))).sample((n_samples,))
    shares = torch.einsum("sd,d->s", counts, ones) / (counts @ lengths)
    low, high = torch.quantile(shares, torch.tensor([0.5 - level / 2, 0.5 + level / 2])).tolist()
    return low, high


def interval_by_choice(documents, level, n_samples):
    shares = []
    for _ in range(n_samples):
        pronouns = []
        for _ in documents:
            pronouns += random.choice(documents)
        shares.append(np.mean(pronouns))
    return tuple(np.percentile(shares, [50 - 50 * level, 50 + 50 * level]))


def gaps_by_loop(a, b):
    rates = []
    for tp, fp, fn, tn in (a, b):
        positives, negatives = tp + fn, fp + tn
        rates.append(((tp + fp) / (positives + negatives), tp / positives, 1 - tn / negatives, tp / (tp + fp)))
    return tuple(rates[0][i] - rates[1][i] for i in range(4))


def gaps_by_tensor(a, b):
    tp, fp, fn, tn = torch.tensor([a, b], dtype=torch.double).T
    rates = torch.stack([(tp + fp) / (tp + fp + fn + tn), tp / (tp + fn), fp / (fp + tn), tp / (tp + fp)])
    return tuple((rates[:, 0] - rates[:, 1]).tolist())


def gaps_by_numpy(a, b):
    counts = np.array([a, b], dtype=float)
    above = counts @ np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]).T
    below = counts @ np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]]).T
    return tuple(-np.diff(above / below, axis=0)[0])


RIGHT = {
    PredictGreedy: [1000, 1000.0, torch.tensor([0.54, 0.36, 0.10]).argmax().eq(0) * 1000, np.int64(1000)],
    LogOddsScore: [score_by_loop, score_by_log_softmax, score_by_einsum, score_by_numpy],
    CounterfactualTwin: [twin_by_cases, twin_backwards, twin_in_place_of_a_copy],
    BootstrapInterval: [interval_by_numpy, interval_by_torch, interval_by_choice],
    FairnessConflict: [gaps_by_loop, gaps_by_tensor, gaps_by_numpy],
}
