"""Right answers to the exercises of chapter 2, each written in another way than the solution."""

import functools
import heapq
import itertools
import math
import re
from collections import Counter, defaultdict

import numpy as np
import torch
from tokenizers import Tokenizer, models

from llmcourse.exercises.tokens import ApplyMerges, EncodeUserText, PairCounts, PredictBytes, Viterbi, WordPieceScore
from llmcourse.tokenizers import count_pairs, viterbi


def pairs_by_index(words):
    found = defaultdict(int)
    for word in words:
        for i in range(1, len(word)):
            found[word[i - 1], word[i]] += words[word]
    return found


def pairs_by_zip(words):
    total = Counter()
    for word, n in words.items():
        total.update({pair: n * times for pair, times in Counter(itertools.pairwise(word)).items()})
    return total


def pairs_by_sorting(words):
    every = sorted((pair, n) for word, n in words.items() for pair in itertools.pairwise(word))
    groups = itertools.groupby(every, key=lambda found: found[0])
    return {pair: sum(n for _, n in group) for pair, group in groups}


def merged_by_rank(word, merges):
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(merges)))}
    symbols = list(word)
    while known := [pair for pair in itertools.pairwise(symbols) if pair in ranks]:
        wanted, rest, symbols = min(known, key=ranks.get), symbols, []
        while rest:
            size = 2 if tuple(rest[:2]) == wanted else 1
            symbols, rest = [*symbols, "".join(rest[:size])], rest[size:]
    return symbols


def merged_by_pattern(word, merges):
    text = "\0".join(["", *word, ""])  # a sign that no word has stands between the pieces
    for left, right in merges:
        text = re.sub(re.escape(f"\0{left}\0{right}") + "(?=\0)", f"\0{left}{right}", text)
    return text.strip("\0").split("\0")


def merged_in_place(word, merges):
    symbols = list(word)
    for pair in merges:
        i = 0
        while i + 1 < len(symbols):
            if (symbols[i], symbols[i + 1]) == tuple(pair):
                symbols[i : i + 2] = ["".join(pair)]
            i += 1
    return tuple(symbols)


def merged_by_the_library(word, merges):
    pieces = dict.fromkeys([*word, *(letter for pair in merges for letter in "".join(pair)), *map("".join, merges)])
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, list(map(tuple, merges)))
    return Tokenizer(model).encode(word).tokens


def scores_by_definition(words):
    def symbol_count(symbol):
        return sum(n * word.count(symbol) for word, n in words.items())

    return {(a, b): n / symbol_count(a) / symbol_count(b) for (a, b), n in count_pairs(words).items()}


def scores_by_counters(words):
    symbols = sum((Counter({s: n * word.count(s) for s in word}) for word, n in words.items()), Counter())
    return Counter({pair: n / math.prod(symbols[s] for s in pair) for pair, n in pairs_by_zip(words).items()})


def scores_by_matrix(words):
    alphabet = sorted({symbol for word in words for symbol in word})
    table, single = np.zeros((len(alphabet), len(alphabet))), np.zeros(len(alphabet))
    for word, n in words.items():
        places = [alphabet.index(symbol) for symbol in word]
        np.add.at(single, places, n)
        np.add.at(table, (places[:-1], places[1:]), n)
    scores = np.einsum("ab,a,b->ab", table, 1 / single, 1 / single)
    return {(alphabet[a], alphabet[b]): scores[a, b] for a, b in np.argwhere(table)}


def cut_by_recursion(word, log_p):
    @functools.cache
    def best(start):
        if start == len(word):
            return 0.0, ()
        ways = ((word[start:end], best(end)) for end in range(start + 1, len(word) + 1) if word[start:end] in log_p)
        return max((log_p[piece] + score, (piece, *rest)) for piece, (score, rest) in ways)

    return list(best(0)[1])


def cut_by_shortest_path(word, log_p):
    queue, done = [(0.0, 0, [])], set()  # log probabilities are negative, so costs are lengths
    while queue:
        cost, at, pieces = heapq.heappop(queue)
        if at == len(word):
            return pieces
        if at in done:
            continue
        done.add(at)
        for piece, value in log_p.items():
            if word.startswith(piece, at):
                heapq.heappush(queue, (cost - value, at + len(piece), [*pieces, piece]))
    return None


def cut_by_matrix(word, log_p):
    T = len(word)
    best, back = np.full(T + 1, -np.inf), np.zeros(T + 1, dtype=int)
    best[0] = 0
    table = np.array([[log_p.get(word[s:e], -np.inf) for e in range(T + 1)] for s in range(T + 1)])
    for end in range(1, T + 1):
        scores = best[:end] + table[:end, end]
        back[end], best[end] = scores.argmax(), scores.max()
    cuts = [T]
    while cuts[-1]:
        cuts.append(int(back[cuts[-1]]))
    return tuple(word[s:e] for e, s in itertools.pairwise(cuts))[::-1]


def message_by_append(tokenizer, text):
    ids = tokenizer.encode(text)
    ids = [tokenizer.special_id("[BEGIN]"), *ids]
    ids.append(tokenizer.special_id("[END]"))
    return ids


def message_by_loop(tokenizer, text):
    begin, end = map(tokenizer.special_id, ("[BEGIN]", "[END]"))
    ids = [begin]
    for token in tokenizer.encode(text):
        ids += [token]
    ids += [end]
    return ids


def message_by_lookup(tokenizer, text):
    special = tokenizer.special_tokens
    return list(itertools.chain([special["[BEGIN]"]], tokenizer.encode(text), [special["[END]"]]))


def message_by_torch(tokenizer, text):
    ids = torch.tensor(tokenizer.encode(text), dtype=torch.long)
    ids = torch.nn.functional.pad(ids, (1, 0), value=tokenizer.special_id("[BEGIN]"))
    return torch.nn.functional.pad(ids, (0, 1), value=tokenizer.special_id("[END]")).tolist()


RIGHT = {
    PredictBytes: [7.0, len("cat 猫".encode()), np.int64(7), torch.tensor(7), lambda: sum(1 for _ in bytes("cat 猫", "utf8"))],
    PairCounts: [pairs_by_index, pairs_by_zip, pairs_by_sorting, count_pairs],
    ApplyMerges: [merged_by_rank, merged_by_pattern, merged_in_place, merged_by_the_library],
    WordPieceScore: [scores_by_definition, scores_by_counters, scores_by_matrix],
    Viterbi: [cut_by_recursion, cut_by_shortest_path, cut_by_matrix, viterbi],
    EncodeUserText: [message_by_append, message_by_loop, message_by_lookup, message_by_torch],
}  # fmt: skip
