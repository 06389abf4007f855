"""Right answers to the exercises of chapter 6, each written in another way than the solution."""

import heapq
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import torch
from sacrebleu.metrics import BLEU

from llmcourse.exercises.translation import (
    AlignmentErrorRate,
    BeamSearch,
    CorpusBleu,
    GreedyTranslation,
    PredictBrevity,
)


def bleu_by_the_library(hypotheses, references):
    measure = BLEU(tokenize="none", smooth_method="none", force=True)
    texts = [[" ".join(words) for words in corpus] for corpus in (hypotheses, references)]
    return measure.corpus_score(texts[0], [texts[1]]).score


def bleu_by_fractions(hypotheses, references):
    product = Fraction(1)
    for n in range(1, 5):
        matches = total = 0
        for said, wanted in zip(hypotheses, references, strict=True):
            runs = [tuple(said[i : i + n]) for i in range(len(said) + 1 - n)]
            left = [tuple(wanted[i : i + n]) for i in range(len(wanted) + 1 - n)]
            total += len(runs)
            for run in runs:
                if run in left:
                    left.remove(run)
                    matches += 1
        product *= Fraction(matches, total)
    said, wanted = (sum(len(words) for words in corpus) for corpus in (hypotheses, references))
    return 100.0 * min(1.0, math.exp(1 - wanted / said)) * float(product) ** 0.25


def bleu_by_counts(hypotheses, references):
    matches, totals = np.zeros(4), np.zeros(4)
    for said, wanted in zip(hypotheses, references, strict=True):
        for n in range(4):
            ours, theirs = (Counter(zip(*(words[i:] for i in range(n + 1)), strict=False)) for words in (said, wanted))
            matches[n] += sum(min(count, theirs[run]) for run, count in ours.items())
            totals[n] += sum(ours.values())
    if not matches.all():
        return 0.0
    shortness = 1 - sum(map(len, references)) / sum(map(len, hypotheses))
    return float(100 * np.exp(min(0, shortness) + np.log(matches / totals).mean()))


def greedy_by_recursion(scores, source, begin, end, limit):
    def go_on(tokens):
        if len(tokens) > limit:
            return []
        new = scores(source, tokens)[-1].argmax().item()
        return [] if new == end else [new, *go_on([*tokens, new])]

    return go_on([begin])


def greedy_by_while(scores, source, begin, end, limit):
    said = []
    while len(said) < limit:
        table = scores(source, [begin, *said]).tolist()
        new = max(range(len(table[-1])), key=table[-1].__getitem__)
        if new == end:
            return said
        said.append(new)
    return said


def greedy_cut_afterwards(scores, source, begin, end, limit):
    tokens = torch.tensor([begin])
    for _ in range(limit):
        tokens = torch.cat([tokens, scores(source, tokens.tolist())[-1:].topk(1).indices[0]])
    said = tokens[1:].tolist()
    return said[: said.index(end)] if end in said else said


def beams_by_heap(after, begin, end, n_beams, limit):
    live, finished = [(0.0, (begin,))], []
    for _ in range(limit):
        grown = (
            (total + p, (*tokens, i)) for total, tokens in live for i, p in enumerate(after(list(tokens)).tolist())
        )
        live = []
        for total, tokens in heapq.nlargest(n_beams - len(finished), grown):
            (finished if tokens[-1] == end else live).append((total, tokens))
        if not live:
            break
    total, tokens = max(finished or live, key=lambda found: found[0] / (len(found[1]) - 1))
    return [token for token in tokens[1:] if token != end], total / (len(tokens) - 1)


def beams_by_topk(after, begin, end, n_beams, limit):
    tokens, totals, done = torch.tensor([[begin]]), torch.zeros(1, dtype=torch.double), []
    for _ in range(limit):
        table = torch.stack([after(row) for row in tokens.tolist()]) + totals[:, None]
        V = table.shape[1]
        totals, places = table.flatten().topk(min(n_beams - len(done), table.numel()))
        tokens = torch.cat([tokens[places // V], places[:, None] % V], dim=1)
        ended = tokens[:, -1] == end
        done += [
            (total / (tokens.shape[1] - 1), row[1:-1])
            for total, row in zip(totals[ended].tolist(), tokens[ended].tolist(), strict=True)
        ]
        tokens, totals = tokens[~ended], totals[~ended]
        if not len(tokens):
            break
    if not done:
        done = [
            (total / (tokens.shape[1] - 1), row[1:])
            for total, row in zip(totals.tolist(), tokens.tolist(), strict=True)
        ]
    score, said = max(done, key=lambda found: found[0])
    return said, score


def beams_by_dictionary(after, begin, end, n_beams, limit):
    live, finished = {(begin,): 0.0}, {}
    while live and limit:
        limit -= 1
        grown = {
            (*tokens, i): total + p.item() for tokens, total in live.items() for i, p in enumerate(after(list(tokens)))
        }
        best = sorted(grown, key=grown.get, reverse=True)[: n_beams - len(finished)]
        finished |= {tokens: grown[tokens] for tokens in best if tokens[-1] == end}
        live = {tokens: grown[tokens] for tokens in best if tokens[-1] != end}
    scored = {tokens: total / len(tokens[1:]) for tokens, total in (finished or live).items()}
    best = max(scored, key=scored.get)
    return list(best[1:-1] if best[-1] == end else best[1:]), scored[best]


def errors_by_loop(weights, n_target, n_source, gold):
    links = set()
    for b in range(len(gold)):
        for t in range(n_target[b]):
            row = weights[b, t].tolist()[: n_source[b]]
            links.add((b, t, row.index(max(row))))
    wanted = {(b, *pair) for b, pairs in enumerate(gold) for pair in pairs}
    return 1 - 2 * len(links & wanted) / (len(links) + len(wanted))


def errors_by_hiding(weights, n_target, n_source, gold):
    hidden = torch.arange(weights.shape[2]) >= torch.tensor(n_source)[:, None, None]
    best = weights.masked_fill(hidden, -1.0).argmax(-1)
    hits = sum(int(best[b, t]) == s for b, pairs in enumerate(gold) for t, s in pairs)
    return 1.0 - 2.0 * hits / (sum(n_target) + sum(map(len, gold)))


def errors_by_tables(weights, n_target, n_source, gold):
    hits = total = 0.0
    for table, T, S, pairs in zip(weights.numpy(), n_target, n_source, gold, strict=True):
        links, wanted = np.zeros((T, S)), np.zeros((T, S))
        links[np.arange(T), table[:T, :S].argmax(axis=1)] = 1
        for t, s in pairs:
            wanted[t, s] = 1
        hits += (links * wanted).sum()
        total += links.sum() + wanted.sum()
    return (total - 2 * hits) / total


RIGHT = {
    PredictBrevity: [100 / math.e, 36.79, torch.tensor(100 / math.e), np.float32(36.788), lambda: 100 * torch.exp(torch.tensor(-1.0))],
    CorpusBleu: [bleu_by_the_library, bleu_by_fractions, bleu_by_counts],
    GreedyTranslation: [greedy_by_recursion, greedy_by_while, greedy_cut_afterwards],
    BeamSearch: [beams_by_heap, beams_by_topk, beams_by_dictionary],
    AlignmentErrorRate: [errors_by_loop, errors_by_hiding, errors_by_tables],
}  # fmt: skip
