"""Right answers to the exercises of chapter 16, each written in another way than the solution."""

import math
from collections import defaultdict
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.calibration import expected_calibration_error
from llmcourse.exercises.misleading_output import (
    AnswerTheSurest,
    AssessLoanLetters,
    CalibrationError,
    ChooseTemperature,
    JudgeClaim,
    PredictGuess,
    WatermarkScore,
)


def ece_by_loop(probabilities, labels, n_bins):
    bins = defaultdict(list)
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        bins[min(int(confidence * n_bins), n_bins - 1)].append((confidence, row.index(confidence) == label))
    return sum(abs(sum(p for p, _ in some) - sum(right for _, right in some)) for some in bins.values()) / len(labels)


def ece_by_histogram(probabilities, labels, n_bins):
    confidence = probabilities.max(-1).values.numpy()
    is_right = (probabilities.argmax(-1) == labels).numpy()
    gap = np.histogram(confidence, n_bins, (0, 1), weights=confidence - is_right)[0]
    return np.abs(gap).sum() / len(confidence)


def ece_by_bucketize(probabilities, labels, n_bins):
    confidence, choice = torch.max(probabilities, 1)
    edges = torch.linspace(0, 1, n_bins + 1, dtype=torch.double)[1:-1]
    placed = F.one_hot(torch.bucketize(confidence, edges), n_bins).double()
    return torch.einsum("nb,n->b", placed, confidence - (choice == labels).double()).abs().sum().item() / len(labels)


def choose_by_min(train, validation, test, temperatures):
    return min(temperatures, key=lambda t: F.cross_entropy(validation[0] / t, validation[1]).item())


def choose_by_tensor(train, validation, test, temperatures):
    logits, labels = validation
    scaled = logits / torch.tensor(temperatures)[:, None, None]
    picked = scaled.log_softmax(-1)[:, torch.arange(len(labels)), labels]
    return temperatures[int(picked.mean(dim=1).argmax())]


def choose_by_loop(train, validation, test, temperatures):
    best, lowest = None, math.inf
    logits, labels = (part.numpy() for part in validation)
    for t in temperatures:
        scaled = logits.astype(float) / t
        loss = np.mean(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(labels)), labels])
        if loss < lowest:
            best, lowest = t, loss
    return best


def risk_by_argsort(confidence, right, coverage):
    given = max(1, round(coverage * len(right)))
    order = np.argsort(-np.array(confidence))[:given]
    return 1 - np.mean(np.array(right)[order])


def risk_by_top_k(confidence, right, coverage):
    places = torch.tensor(confidence).topk(max(1, round(coverage * len(right)))).indices.tolist()
    return len([place for place in places if not right[place]]) / len(places)


def risk_by_taking_away(confidence, right, coverage):
    left, wrong = dict(zip(confidence, right, strict=True)), 0
    n = round(coverage * len(confidence)) or 1
    for _ in range(n):
        wrong += not left.pop(max(left))
    return wrong / n


def judge_by_loop(claim, evidence):
    verdict = "not found"
    for who, relation, value in evidence:
        if who == claim[0] and relation == claim[1]:
            if value != claim[2]:
                return "contradicted"
            verdict = "supported"
    return verdict


def judge_by_any(claim, evidence):
    about = [fact for fact in evidence if fact[:2] == claim[:2]]
    if any(fact != claim for fact in about):
        return "contradicted"
    return "supported" if claim in about else "not found"


def judge_by_index(claim, evidence):
    known = defaultdict(set)
    for *key, value in evidence:
        known[tuple(key)].add(value)
    match known[claim[0], claim[1]] - {claim[2]}, claim in evidence:
        case others, _ if others:
            return "contradicted"
        case _, stated:
            return ("not found", "supported")[stated]


def z_by_loop(tokens, green, share):
    seen, g = [], 0
    for first, second in pairwise(tokens):
        if (first, second) not in seen:
            seen.append((first, second))
            g += second in green[first]
    return (g - share * len(seen)) / math.sqrt(len(seen) * share * (1 - share))


def z_by_matrix(tokens, green, share):
    V = len(green)
    is_green = torch.tensor([[second in after for second in range(V)] for after in green])
    seen = torch.zeros(V, V, dtype=torch.bool)
    seen[tokens[:-1], tokens[1:]] = True
    n = seen.sum().item()
    return ((seen & is_green).sum().item() / n - share) / math.sqrt(share * (1 - share) / n)


def z_by_numpy(tokens, green, share):
    pairs = np.unique(np.stack([tokens[:-1], tokens[1:]], axis=1), axis=0)
    hits = np.array([second in green[first] for first, second in pairs]) - share
    return hits.sum() / np.sqrt(len(pairs) * share * (1 - share))


def _assessed(**changes):
    """A complete assessment of the refusal letters, in its author's own words."""
    return {
        "use": "A clerk sends the letter or writes another; the loan itself has been refused before.",
        "affected": ["applicants", "people without an account", "clerks"],
        "harms": [
            {"id": 1, "what": "a reason that was not the reason", "who": "applicants", "severity": 4, "likelihood": 3},
            {"id": 2, "what": "some groups read vaguer reasons", "who": "applicants", "severity": 3, "likelihood": 2},
            {"id": 3, "what": "blamed for a letter they had no time to read", "who": "clerks", "severity": 2,
             "likelihood": 2},
        ],
        "measures": [
            {"harm": 1, "metric": "letters whose reason is not in the file", "bound": "1 in 200", "groups": ["men", "women"]},
            {"harm": 2, "metric": "reasons that name a number", "bound": 0.9, "groups": ["under 30", "older"]},
        ],
        "safeguards": [
            {"harm": 1, "done": "the letter quotes the field of the file"},
            {"harm": 2, "done": "one form of sentence for all"},
        ],
        "oversight": {"who": "a second clerk", "minutes": 6, "can_overrule": True},
        "disclosure": "The letter says in its first line that a program drafted it.",
        "redress": {"how": "a call to a person", "days": 7},
        "limits": ["which loan to take instead"],
        "decision": "use with limits",
        "review": {"owner": "head of lending", "after": "the first hundred letters"},
        **changes,
    }  # fmt: skip


RIGHT = {
    PredictGuess: [125, 125.0, torch.tensor(1000) / 8, np.float32(1000 / 8)],
    CalibrationError: [
        ece_by_loop,
        ece_by_histogram,
        ece_by_bucketize,
        lambda probabilities, labels, n_bins: expected_calibration_error(
            probabilities.max(-1).values, probabilities.argmax(-1) == labels, n_bins
        ),
    ],
    ChooseTemperature: [choose_by_min, choose_by_tensor, choose_by_loop],
    AnswerTheSurest: [risk_by_argsort, risk_by_top_k, risk_by_taking_away],
    JudgeClaim: [judge_by_loop, judge_by_any, judge_by_index],
    WatermarkScore: [z_by_loop, z_by_matrix, z_by_numpy],
    AssessLoanLetters: [
        lambda text: _assessed(),
        lambda text: _assessed(decision="do not use", affected=("applicants", "clerks"), limits="advice on debts"),
        lambda text: MappingProxyType(_assessed(redress={"how": "in writing, to the ombudsman", "days": 0.5})),
    ],
}
