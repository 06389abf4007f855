"""Right answers to the exercises of chapter 11, each written in another way than the solution."""

import fractions
import itertools
import math
import re
import string
from collections import Counter, defaultdict

import numpy as np
import torch

from llmcourse.exercises.question_answering import (
    AnswerF1,
    BestSpan,
    Bm25Scores,
    FollowRelations,
    PredictShortcut,
    SearchMeasures,
)


def span_by_loops(first, last, n_text, longest):
    best, place = -math.inf, None
    for i in range(n_text):
        for j in range(i, n_text):
            if j - i < longest and first[i] + last[j] > best:
                best, place = first[i] + last[j], (i, j)
    return place


def span_by_table(first, last, n_text, longest):
    table = torch.tensor(first[:n_text])[:, None] + torch.tensor(last[:n_text])[None]
    allowed = torch.ones(n_text, n_text, dtype=torch.bool).triu().tril(longest - 1)
    return divmod(table.masked_fill(~allowed, -math.inf).argmax().item(), n_text)


def span_by_numpy(first, last, n_text, longest):
    table = np.add.outer(np.array(first), np.array(last))
    i, j = np.indices(table.shape)
    table[(j < i) | (j >= i + longest) | (j >= n_text) | (i >= n_text)] = -np.inf
    return np.unravel_index(table.argmax(), table.shape)


def span_by_ends(first, last, n_text, longest):
    found = []
    for j in range(n_text):
        i = max(range(max(0, j - longest + 1), j + 1), key=first.__getitem__)
        found.append((first[i] + last[j], (i, j)))
    return list(max(found)[1])


def _words_by_filter(text):
    signs = str.maketrans("", "", string.punctuation)
    return [word for word in text.translate(signs).lower().split() if word not in {"a", "an", "the"}]


def _words_by_regex(text):
    text = re.sub("[" + re.escape(string.punctuation) + "]", "", text.casefold())
    return [word for word in re.split(r"\s+", text) if word and not re.fullmatch("an?|the", word)]


def f1_by_removal(guess, golds):
    best = 0.0
    for gold in golds:
        mine, rest = _words_by_filter(guess), _words_by_filter(gold)
        if not mine and not rest:
            best = 1.0
        n_mine, n_gold, common = len(mine), len(rest), 0
        for word in mine:
            if word in rest:
                rest.remove(word)
                common += 1
        if common:
            precision, recall = common / n_mine, common / n_gold
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def f1_by_minimum(guess, golds):
    def f1(mine, gold):
        common = sum(min(mine.count(word), gold.count(word)) for word in set(mine))
        if not mine or not gold:
            return 1 if mine == gold else 0
        return 0 if common == 0 else 2 / (len(mine) / common + len(gold) / common)

    return max(f1(_words_by_regex(guess), _words_by_regex(gold)) for gold in golds)


def f1_by_numpy(guess, golds):
    scores = []
    for gold in golds:
        mine, right = Counter(_words_by_filter(guess)), Counter(_words_by_regex(gold))
        words = sorted(mine | right)
        table = np.array([[side[word] for word in words] for side in (mine, right)])
        both = table.min(axis=0).sum()
        scores.append(2 * both / table.sum() if len(words) else 1.0)
    return float(max(scores))


def bm25_by_counter(texts, question, k1, b):
    counts = [Counter(text) for text in texts]
    holding = Counter(word for count in counts for word in count)
    mean_length = sum(count.total() for count in counts) / len(texts)

    def score(count):
        norm = k1 * (1 - b + b * count.total() / mean_length)
        return sum(
            math.log((len(texts) + 1) / (holding[word] + 0.5)) * count[word] * (k1 + 1) / (count[word] + norm)
            for word in question
        )

    return list(map(score, counts))


def bm25_by_matrix(texts, question, k1, b):
    n = torch.tensor([[text.count(word) for word in question] for text in texts], dtype=torch.double)
    m = (n > 0).double().sum(0)
    idf = torch.log1p((len(texts) - m + 0.5) / (m + 0.5))
    lengths = torch.tensor([len(text) for text in texts], dtype=torch.double)
    norm = k1 * (1 - b + b * lengths / lengths.mean())
    return torch.einsum("w,tw->t", idf, n * (k1 + 1) / (n + norm[:, None])).tolist()


def bm25_by_index(texts, question, k1, b):
    places = defaultdict(Counter)
    for number, text in enumerate(texts):
        for word in text:
            places[word][number] += 1
    scores, total = [0.0] * len(texts), sum(map(len, texts))
    for word in question:
        m = len(places[word]) if word in places else 0
        for number, n in places.get(word, {}).items():
            below = n + k1 * (1 - b) + k1 * b * len(texts[number]) * len(texts) / total
            scores[number] += math.log(1 + (len(texts) - m + 0.5) / (m + 0.5)) * n * (k1 + 1) / below
    return scores


def bm25_by_numpy(texts, question, k1, b):
    lengths = np.array([len(text) for text in texts])
    scores = np.zeros(len(texts))
    for word, times in Counter(question).items():
        n = np.array([text.count(word) for text in texts])
        m = np.count_nonzero(n)
        idf = np.log(1 + (len(texts) - m + 0.5) / (m + 0.5))
        scores += times * idf * n * (k1 + 1) / (n + k1 * (1 - b + b * lengths / lengths.mean()))
    return list(scores)


def measures_by_loop(rankings, right, k):
    found, total = 0, 0.0
    for q in range(len(rankings)):
        for place in range(len(rankings[q])):
            if rankings[q][place] in right[q]:
                total += 1 / (place + 1)
                if place < k:
                    found += 1
                break
    return found / len(rankings), total / len(rankings)


def measures_by_places(rankings, right, k):
    places = [
        min((ranking.index(text) + 1 for text in wanted if text in ranking), default=math.inf)
        for ranking, wanted in zip(rankings, right, strict=True)
    ]
    return np.mean([place <= k for place in places]), np.mean([1 / place for place in places])


def measures_by_tensor(rankings, right, k):
    is_right = torch.tensor(
        [[text in wanted for text in ranking] for ranking, wanted in zip(rankings, right, strict=True)]
    )
    weights = 1 / torch.arange(1, is_right.shape[1] + 1)
    return [is_right[:, :k].any(1).double().mean(), (is_right * weights).amax(1).mean()]


def measures_by_sets(rankings, right, k):
    n = len(rankings)
    hits = sum(1 for ranking, wanted in zip(rankings, right, strict=True) if not wanted.isdisjoint(ranking[:k]))
    before = [
        list(itertools.takewhile(lambda text, wanted=wanted: text not in wanted, ranking))
        for ranking, wanted in zip(rankings, right, strict=True)
    ]
    return hits / n, sum(1 / (len(b) + 1) for b, r in zip(before, rankings, strict=True) if len(b) < len(r)) / n


def follow_by_recursion(facts, start, relations):
    if not relations:
        return [start]
    values = [value for who, relation, value in facts if (who, relation) == (start, relations[0])]
    return sorted({end for value in values for end in follow_by_recursion(facts, value, relations[1:])})


def follow_by_index(facts, start, relations):
    known = defaultdict(set)
    for who, relation, value in facts:
        known[who, relation].add(value)
    here = {start}
    for relation in relations:
        here = set().union(*(known.get((who, relation), set()) for who in here))
    return sorted(here)


def follow_by_queue(facts, start, relations):
    queue, ends = [(start, 0)], []
    while queue:
        who, n = queue.pop(0)
        if n == len(relations):
            if who not in ends:
                ends.append(who)
            continue
        queue += [(fact[2], n + 1) for fact in facts if fact[0] == who and fact[1] == relations[n]]
    ends.sort()
    return ends


def follow_by_matrix(facts, start, relations):
    names = sorted({start} | {who for who, _, _ in facts} | {value for _, _, value in facts})
    state = torch.tensor([name == start for name in names])
    for step in relations:
        matrix = torch.zeros(len(names), len(names), dtype=torch.int)
        for who, relation, value in facts:
            if relation == step:
                matrix[names.index(who), names.index(value)] = 1
        state = (state.int() @ matrix) > 0
    return [name for name, reached in zip(names, state.tolist(), strict=True) if reached]


RIGHT = {
    PredictShortcut: [
        0.875,
        fractions.Fraction(7, 8),
        torch.tensor([0.5, 1.0, 1.0, 1.0]).mean(),
        np.mean([0.5, 1, 1, 1], dtype=np.float32),
    ],
    BestSpan: [span_by_loops, span_by_table, span_by_numpy, span_by_ends],
    AnswerF1: [f1_by_removal, f1_by_minimum, f1_by_numpy],
    Bm25Scores: [bm25_by_counter, bm25_by_matrix, bm25_by_index, bm25_by_numpy],
    SearchMeasures: [measures_by_loop, measures_by_places, measures_by_tensor, measures_by_sets],
    FollowRelations: [follow_by_recursion, follow_by_index, follow_by_queue, follow_by_matrix],
}
