"""Exercises of chapter 2: counting, merging and scoring pieces, the likeliest cut, and text that users type."""

import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from llmcourse.exercises import Exercise, mistake, solution
from llmcourse.tokenizers import BPETokenizer, count_pairs

CHAPTER = 2

Words = Mapping[tuple[str, ...], int]  # how often each word occurs, a word being a tuple of symbols
Merges = Sequence[tuple[str, str]]
LogProbabilities = Mapping[str, float]


class PredictBytes(Exercise):
    """Predict, then run: characters are not bytes."""

    prompt = "Predict before you run the next cell. How many bytes of UTF-8 does the text `cat 猫` have? Give a number."
    difficulty, minutes = 1, 2
    hints = (
        "How many characters has it? The space is one of them.",
        "ASCII characters take one byte each. 猫 is far beyond them: number 29,483 of Unicode.",
        "One byte up to number 127, two up to 2,047, three up to 65,535, four beyond.",
    )
    praise = "correct. Four characters of one byte (the space counts) and one of three."

    @solution
    def n_bytes():
        return 7

    @mistake("5 is the number of characters. 猫 is one character, and more than one byte.")
    def counts_characters():
        return 5

    @mistake(
        "Either you gave 猫 two bytes, which in UTF-8 reach only up to number 2,047 of Unicode, or you forgot the space, "
        "which takes a byte like any other character."
    )
    def two_bytes_for_chinese():
        return 6

    @mistake("Four bytes are for what lies beyond number 65,535, such as most emoji. 猫 has number 29,483.")
    def four_bytes_for_chinese():
        return 8

    @mistake("You gave every character two bytes, as UTF-16 does. UTF-8 gives ASCII one byte.")
    def utf_16():
        return 10

    @mistake("You gave every character the same width. UTF-8 is shorter where it can be: ASCII takes one byte each.")
    def three_bytes_each():
        return 15


class PairCounts(Exercise):
    """The statistic that BPE is trained on."""

    prompt = (
        "Write `count_pairs(words)`. `words` says how often each word occurs: `{('t', 'h', 'e'): 10, ...}`, a word being a "
        "tuple of symbols. Return a dictionary with the count of each pair of neighbours: `{('t', 'h'): 10, ...}`. Every "
        "place counts, also where pairs overlap: ('a', 'a', 'a') holds ('a', 'a') twice."
    )
    difficulty, minutes = 1, 8
    hints = (
        "Two loops: over the words with their counts (`words.items()`), and over the pairs inside a word.",
        "`itertools.pairwise(word)`, or `zip(word, word[1:])`, gives the pairs of neighbours, overlapping ones too.",
        "A word that occurs ten times adds ten to each of its pairs: `counts[pair] = counts.get(pair, 0) + n`.",
    )
    praise = "correct. BPE looks at nothing else: not at letters, not at meaning, only at these counts."

    @classmethod
    def probes(cls, seed):
        return [
            ({("a", "a", "a"): 3, ("b", "a", "a", "a", "a"): 2, ("a",): 7},),
            ({("tr", "ee", "s"): 5, ("s", "leep"): 4, ("tr", "ee"): 2, ("ee", "tr"): 1},),
        ]

    @classmethod
    def observe(cls, answer, probe):
        counts = answer(*probe)
        return dict(counts) if isinstance(counts, dict) else counts

    @solution
    def count_pairs(words):
        counts = {}
        for word, n in words.items():
            for pair in itertools.pairwise(word):
                counts[pair] = counts.get(pair, 0) + n
        return counts

    @mistake(
        "You count each different word once. A word that occurs ten times holds each of its pairs ten times: add the "
        "word's count, not 1."
    )
    def ignores_word_counts(words):
        return count_pairs(dict.fromkeys(words, 1))

    @mistake(
        "You count a pair once a word, however often the word holds it: ('a', 'a', 'a') holds ('a', 'a') at two places."
    )
    def once_a_word(words):
        counts = Counter()
        for word, n in words.items():
            for pair in set(itertools.pairwise(word)):
                counts[pair] += n
        return counts

    @mistake(
        "You skip pairs that overlap the one before: ('a', 'a', 'a') holds ('a', 'a') at two places, and counting takes "
        "both. Only merging uses each symbol once."
    )
    def skips_overlaps(words):
        counts = Counter()
        for word, n in words.items():
            last = None
            for place, pair in enumerate(itertools.pairwise(word)):
                if (place - 1, pair) != last:
                    counts[pair] += n
                    last = place, pair
        return counts

    @mistake("You walk in steps of two, so every other pair is lost: ('t', 'h', 'e') holds ('t', 'h') and ('h', 'e').")
    def steps_of_two(words):
        counts = Counter()
        for word, n in words.items():
            for pair in zip(word[::2], word[1::2], strict=False):
                counts[pair] += n
        return counts

    @mistake(
        "You count across words: the last symbol of one and the first of the next are no pair. A token never crosses the "
        "border of a word."
    )
    def across_words(words):
        running = [symbol for word, n in words.items() for _ in range(n) for symbol in word]
        return Counter(itertools.pairwise(running))

    @mistake(
        "A pair in a second word overwrites its count from the first: add to what is there, with `counts.get(pair, 0) + n`."
    )
    def overwrites(words):
        return {pair: n for word, n in words.items() for pair in itertools.pairwise(word)}

    @mistake("You treat (a, b) and (b, a) as the same pair. Order counts: 'at' is not 'ta'.")
    def ignores_order(words):
        counts = Counter()
        for pair, n in count_pairs(words).items():
            counts[tuple(sorted(pair))] += n
        return counts

    @mistake("You count single symbols. A pair is two neighbours, `(word[i], word[i + 1])`.")
    def counts_symbols(words):
        counts = Counter()
        for word, n in words.items():
            for symbol in word:
                counts[symbol] += n
        return counts


def _merge(symbols: Sequence[str], pair: tuple[str, str], *, step: int = 2, times: int | None = None) -> list[str]:
    """Merge a pair from left to right: `step` is 1 for those who use a symbol twice, `times` stops early."""
    result, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair and times != 0:
            result.append(pair[0] + pair[1])
            times = None if times is None else times - 1
            i += step
        else:
            result.append(symbols[i])
            i += 1
    return result


def _merge_by(word: str, merges: Merges, choose) -> list[str]:
    """Merge until nothing can be merged, `choose` picking among the pairs that are there, in their order."""
    symbols = list(word)
    while found := [pair for pair in itertools.pairwise(symbols) if pair in merges]:
        symbols = _merge(symbols, choose(found))
    return symbols


class ApplyMerges(Exercise):
    """Encode a word as training cut it."""

    prompt = (
        "Write `apply_merges(word, merges)`: cut a word, a string, into the list of its BPE pieces. `merges` holds pairs "
        "such as `('h', 'e')` in the order in which training learned them. Begin with single characters; in that order, merge "
        "each pair at all its places, from left to right."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Do what training did: the first merge everywhere in the word, then the second, and so on. Only how often things "
        "occurred is no longer needed.",
        "Inside: walk over the symbols with an index i. When `(symbols[i], symbols[i + 1])` is the pair, append both "
        "joined and go on at i + 2; otherwise append `symbols[i]` and go on at i + 1.",
        "'thee' with ('e', 'e') learned before ('h', 'e') is t, h, ee: once e and e are one symbol, no he is left.",
    )
    praise = "correct. The same text is now cut as it was in training, which is what the model expects."

    @classmethod
    def probes(cls, seed):
        return [
            ("aaaaa", [("a", "a"), ("aa", "a")]),
            ("tabtab", [("t", "a"), ("a", "b")]),
            ("abc", [("b", "c"), ("a", "b"), ("a", "bc")]),
        ]

    @classmethod
    def observe(cls, answer, probe):
        pieces = answer(*probe)
        return list(pieces) if isinstance(pieces, tuple) else pieces

    @solution
    def apply_merges(word, merges):
        symbols = list(word)
        for left, right in merges:
            merged, i = [], 0
            while i < len(symbols):
                if symbols[i : i + 2] == [left, right]:
                    merged.append(left + right)
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            symbols = merged
        return symbols

    @mistake(
        "You take the longest piece that fits, from the left, as WordPiece does. BPE repeats its merges in their order: "
        "'thee' becomes t, h, ee where ee was learned first, though 'the' is a piece."
    )
    def longest_match(word, merges):
        known, pieces = {left + right for left, right in merges}, []
        while word:
            length = next((n for n in range(len(word), 1, -1) if word[:n] in known), 1)
            pieces, word = [*pieces, word[:length]], word[length:]
        return pieces

    @mistake(
        "You merge whatever can be merged first from the left. The order of the merges decides, not the place in the word: "
        "look for the pair that was learned earliest, anywhere."
    )
    def leftmost_first(word, merges):
        return _merge_by(word, merges, lambda found: found[0])

    @mistake(
        "You join the leftmost pair that is known, one place at a time. The order of the merges decides: take the first merge "
        "through the whole word, then the second."
    )
    def leftmost_place(word, merges):
        symbols = list(word)
        while found := [i for i, pair in enumerate(itertools.pairwise(symbols)) if pair in merges]:
            symbols[found[0] : found[0] + 2] = ["".join(symbols[found[0] : found[0] + 2])]
        return symbols

    @mistake(
        "Of all pairs in the word you merge the one that was learned last. The one learned first comes first: min, not max."
    )
    def latest_first(word, merges):
        return _merge_by(word, merges, lambda found: max(found, key=merges.index))

    @mistake(
        "You go through the merges from the last to the first. A later merge joins what earlier ones have made, so it finds "
        "nothing to join yet: begin with the first."
    )
    def reversed_order(word, merges):
        symbols = list(word)
        for pair in reversed(merges):
            symbols = _merge(symbols, pair)
        return symbols

    @mistake("You merge a pair at its first place only. A word can hold it several times: merge all of them.")
    def first_place_only(word, merges):
        symbols = list(word)
        for pair in merges:
            symbols = _merge(symbols, pair, times=1)
        return symbols

    @mistake(
        "You use a symbol twice: after a merge at i, go on at i + 2. Your pieces, joined, are longer than the word."
    )
    def uses_a_symbol_twice(word, merges):
        symbols = list(word)
        for pair in merges:
            symbols = _merge(symbols, pair, step=1)
        return symbols

    @mistake("You merge from right to left: 'aaa' becomes a, aa. Training went from left to right: aa, a.")
    def from_the_right(word, merges):
        symbols = list(word)[::-1]
        for left, right in merges:
            symbols = _merge_reversed(symbols, left, right)
        return symbols[::-1]

    @mistake("You stop at the first merge that the word does not hold. Skip it and go on; later ones may well apply.")
    def stops_at_a_gap(word, merges):
        symbols = list(word)
        for pair in merges:
            if pair not in itertools.pairwise(symbols):
                break
            symbols = _merge(symbols, pair)
        return symbols

    @mistake(
        "You replace inside the joined text, where 'a b' is also found at the end of 'ta b'. A merge joins two whole symbols: "
        "compare them one by one."
    )
    def replaces_text(word, merges):
        text = " ".join(word)
        for left, right in merges:
            text = text.replace(f"{left} {right}", left + right)
        return text.split(" ")


def _merge_reversed(symbols: list[str], left: str, right: str) -> list[str]:
    """One merge on the reversed symbols, so that the rightmost place comes first."""
    result, i = [], 0
    while i < len(symbols):
        if symbols[i : i + 2] == [right, left]:
            result.append(left + right)
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


def _symbol_counts(words: Words) -> Counter[str]:
    counts: Counter[str] = Counter()
    for word, n in words.items():
        for symbol in word:
            counts[symbol] += n
    return counts


class WordPieceScore(Exercise):
    """What WordPiece asks of a pair that BPE does not."""

    prompt = (
        "Write `wordpiece_scores(words)`: for each pair of neighbours in `words` (as in the exercise on pair counts) its score "
        "count(ab) / (count(a) · count(b)), as a dictionary. All three are counts over the whole text: of the pair, and of "
        "each symbol at any place."
    )
    difficulty, minutes = 2, 10
    hints = (
        "You need two dictionaries: counts of pairs, and counts of single symbols. Both weigh a word by how often it occurs.",
        "The loop of `count_pairs` can fill both: a pair for each place but the last, a symbol for each place.",
        "`{(a, b): n / (symbols[a] * symbols[b]) for (a, b), n in pairs.items()}`",
    )
    praise = "correct. A pair scores high when its two halves are seldom seen apart."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        drawn = {
            tuple(generator.choices("abcd", k=generator.randrange(2, 6))): generator.randrange(1, 9) for _ in range(8)
        }
        return [
            ({("t", "h", "e"): 10, ("t", "r", "e", "e"): 2, ("t", "r", "e", "e", "s"): 5},),
            (drawn,),
        ]

    @classmethod
    def observe(cls, answer, probe):
        scores = answer(*probe)
        return dict(scores) if isinstance(scores, dict) else scores

    @solution
    def wordpiece_scores(words):
        pairs, symbols = {}, {}
        for word, n in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + n
            for symbol in word:
                symbols[symbol] = symbols.get(symbol, 0) + n
        return {(a, b): n / (symbols[a] * symbols[b]) for (a, b), n in pairs.items()}

    @mistake(
        "That is BPE's count of the pair. WordPiece divides it by the counts of both symbols, so that frequent symbols do "
        "not win by being frequent."
    )
    def raw_counts(words):
        return count_pairs(words)

    @mistake("You divide by the sum count(a) + count(b). The score divides by their product.")
    def divides_by_sum(words):
        symbols = _symbol_counts(words)
        return {(a, b): n / (symbols[a] + symbols[b]) for (a, b), n in count_pairs(words).items()}

    @mistake("You divide by count(a) only: that is how likely b is after a. WordPiece divides by count(b) as well.")
    def divides_by_left(words):
        symbols = _symbol_counts(words)
        return {(a, b): n / symbols[a] for (a, b), n in count_pairs(words).items()}

    @mistake("You divide by count(b) only: that is how likely a is before b. WordPiece divides by count(a) as well.")
    def divides_by_right(words):
        symbols = _symbol_counts(words)
        return {(a, b): n / symbols[b] for (a, b), n in count_pairs(words).items()}

    @mistake("You divide by the square root of the product. The score has the product itself.")
    def divides_by_root(words):
        symbols = _symbol_counts(words)
        return {(a, b): n / math.sqrt(symbols[a] * symbols[b]) for (a, b), n in count_pairs(words).items()}

    @mistake(
        "You count a symbol once for each different word: it occurs as often as its words do, and a word can hold it twice."
    )
    def symbols_by_word(words):
        symbols = Counter(symbol for word in words for symbol in set(word))
        return {(a, b): n / (symbols[a] * symbols[b]) for (a, b), n in count_pairs(words).items()}

    @mistake(
        "You ignore how often the words occur. A word that occurs ten times counts ten times, in pairs and in symbols."
    )
    def ignores_word_counts(words):
        once = dict.fromkeys(words, 1)
        symbols = _symbol_counts(once)
        return {(a, b): n / (symbols[a] * symbols[b]) for (a, b), n in count_pairs(once).items()}

    @mistake(
        "You divide shares, not counts, so your scores are larger by the number of symbols squared over that of pairs. The "
        "order of the pairs is the same, the numbers are not: use the counts."
    )
    def shares_instead_of_counts(words):
        pairs, symbols = count_pairs(words), _symbol_counts(words)
        factor = symbols.total() ** 2 / pairs.total()
        return {(a, b): factor * n / (symbols[a] * symbols[b]) for (a, b), n in pairs.items()}


class Viterbi(Exercise):
    """The likeliest cut, without trying them all."""

    prompt = (
        "Write `likeliest_cut(word, log_p)`: the list of pieces that spell `word` and whose log probabilities have the "
        "largest sum. `log_p` maps each piece to its log probability and holds every single character of the word. Words "
        "have up to 40 characters, so you cannot try all 2³⁹ cuts."
    )
    difficulty, minutes = 3, 20
    hints = (
        "Whatever the last piece is, what stands before it must itself be cut in the best way. So find the best cut of the "
        "first character, of the first two, of the first three ...",
        "Keep `best[end]`, the score of the best cut of `word[:end]`, with `best[0] = 0`, and `start_of[end]`, where its last "
        "piece begins.",
        "For each end and each start before it: when `word[start:end]` is a piece and `best[start] + log_p[piece]` is larger "
        "than `best[end]`, remember both. At the end walk back from `len(word)` by `start_of`.",
    )
    praise = "correct. Forty characters have 2³⁹ cuts, and looking at 820 pieces is enough."

    @classmethod
    def probes(cls, seed):
        letters = {letter: -3.0 - n / 7 for n, letter in enumerate("abcdehlprst")}
        return [
            ("trees", letters | {"ee": -2.3, "tr": -3.0, "tree": -2.8, "es": -2.5}),
            ("thee", letters | {"ee": -3.1, "hee": -3.2, "he": -2.6}),
            ("ab" * 20, {"a": -6.0, "b": -6.6, "ab": -6.2, "ba": -8.0, "aba": -12.4, "bab": -13.4}),
        ]

    @classmethod
    def observe(cls, answer, probe):
        pieces = answer(*probe)
        return list(pieces) if isinstance(pieces, tuple) else pieces

    @solution
    def likeliest_cut(word, log_p):
        best = [0.0] + [float("-inf")] * len(word)
        start_of = [0] * (len(word) + 1)
        for end in range(1, len(word) + 1):
            for start in range(end):
                score = best[start] + log_p.get(word[start:end], float("-inf"))
                if score > best[end]:
                    best[end], start_of[end] = score, start
        pieces, end = [], len(word)
        while end > 0:
            pieces.insert(0, word[start_of[end] : end])
            end = start_of[end]
        return pieces

    @mistake(
        "You take the longest piece that fits, and go on. It can leave a rest that is unlikely: compare whole cuts, not "
        "single pieces."
    )
    def longest_first(word, log_p):
        pieces = []
        while word:
            length = next(n for n in range(len(word), 0, -1) if word[:n] in log_p)
            pieces, word = [*pieces, word[:length]], word[length:]
        return pieces

    @mistake(
        "You take the likeliest piece that fits, and go on. It can leave a rest that is unlikely: compare the sums of whole "
        "cuts."
    )
    def likeliest_first(word, log_p):
        pieces = []
        while word:
            piece = max((word[:n] for n in range(1, len(word) + 1) if word[:n] in log_p), key=log_p.get)
            pieces, word = [*pieces, piece], word[len(piece) :]
        return pieces

    @mistake("You take the cut with the fewest pieces. Three likely pieces can be likelier than two rare ones.")
    def fewest_pieces(word, log_p):
        return _dynamic(word, log_p, lambda piece: -1.0 + 1e-6 * log_p[piece])

    @mistake(
        "You add probabilities. The probability of a cut is the *product* of its pieces' probabilities, so their logarithms "
        "add: do not take exp first."
    )
    def adds_probabilities(word, log_p):
        return _dynamic(word, log_p, lambda piece: math.exp(log_p[piece]))

    @mistake(
        "You look for the smallest sum. Log probabilities are negative, and the likeliest cut has the sum nearest to 0."
    )
    def unlikeliest(word, log_p):
        return _dynamic(word, log_p, lambda piece: -log_p[piece])

    @mistake(
        "You compare the mean log probability of a piece. That rewards many short pieces; the probability of a cut is the "
        "whole product, and each further piece costs."
    )
    def mean_instead_of_sum(word, log_p):
        pieces, mean = list(word), -math.inf
        while (higher := sum(log_p[piece] for piece in pieces) / len(pieces)) > mean:
            mean = higher  # a cut has a higher one when its pieces exceed this one in sum
            pieces = _dynamic(word, log_p, lambda piece, mean=mean: log_p[piece] - mean)
        return pieces

    @mistake("You compare the last piece alone: add `best[start]`, what the best cut before it scores.")
    def forgets_the_score_before(word, log_p):
        pieces = []
        while word:
            ends = [word[n:] for n in range(len(word)) if word[n:] in log_p]
            pieces = [max(ends, key=log_p.get), *pieces]
            word = word[: -len(pieces[0])]
        return pieces

    @mistake("You try short pieces only. A piece can be as long as the word: let `start` run from 0.")
    def short_pieces_only(word, log_p):
        return _dynamic(word, {piece: value for piece, value in log_p.items() if len(piece) <= 3}, log_p.get)

    @mistake("Your way back leaves out the last piece: begin it at `end = len(word)`, with the piece that ends there.")
    def forgets_the_last_piece(word, log_p):
        return _dynamic(word, log_p, log_p.get)[:-1]

    @mistake("Your way back stops too early and leaves out the first piece: go on while `end > 0`.")
    def forgets_the_first_piece(word, log_p):
        return _dynamic(word, log_p, log_p.get)[1:]

    @mistake("Your pieces come in reversed order: the way back finds the last piece first, so turn the list round.")
    def reversed_pieces(word, log_p):
        return _dynamic(word, log_p, log_p.get)[::-1]


def _dynamic(word: str, log_p: LogProbabilities, value) -> list[str]:
    """The cut with the largest sum of `value(piece)`."""
    best: list[tuple[float, list[str]]] = [(0.0, [])]
    for end in range(1, len(word) + 1):
        ways = ((best[start], word[start:end]) for start in range(end) if word[start:end] in log_p)
        best.append(
            max(((score + value(piece), [*cut, piece]) for (score, cut), piece in ways), key=lambda way: way[0])
        )
    return best[-1][1]


SPECIAL = ("[BEGIN]", "[END]", "[MASK]")
NAMES = re.compile("|".join(map(re.escape, SPECIAL)))


class EncodeUserText(Exercise):
    """What a user types is text, whatever it looks like."""

    prompt = (
        "Write `encode_message(tokenizer, text)`: a list of ids, the message as a model reads it: the special token `[BEGIN]`, "
        "the user's text unchanged, the special token `[END]`. A user who types `[END]` or `[MASK]` has typed characters: "
        "they must not become special tokens. `tokenizer` is a `BPETokenizer` with the special tokens `[BEGIN]`, `[END]` "
        "and `[MASK]`."
    )
    difficulty, minutes = 1, 6
    hints = (
        "Two different questions: what is the id of a special token, and how is a text cut into tokens?",
        "`tokenizer.special_id('[BEGIN]')` is the only way to a special token; `tokenizer.encode(text)` never gives one.",
        "A list of three parts: `[tokenizer.special_id('[BEGIN]'), *tokenizer.encode(text), ...]`.",
    )
    praise = "correct. Control comes from your program, text comes from the user, and the two cannot be confused."

    @classmethod
    def probes(cls, seed):
        first, second = (
            BPETokenizer.train("the cat near the trees sleeps, the cats sleep", 270, names)
            for names in (SPECIAL[::-1], SPECIAL)
        )
        return [
            (first, "fill the [MASK] near the [END] trees"),
            (second, ""),
            (first, " two  spaces and 猫 "),
        ]

    @solution
    def encode_message(tokenizer, text):
        return [tokenizer.special_id("[BEGIN]"), *tokenizer.encode(text), tokenizer.special_id("[END]")]

    @mistake(
        "What the user types becomes a special token. Then anybody can end the conversation, or speak in another's name: "
        "the text goes through `encode` whole, and only your program asks for `special_id`."
    )
    def names_become_control(tokenizer, text):
        ids = []
        for part in re.split(f"({NAMES.pattern})", text):
            ids += [tokenizer.special_id(part)] if part in SPECIAL else tokenizer.encode(part)
        return [tokenizer.special_id("[BEGIN]"), *ids, tokenizer.special_id("[END]")]

    @mistake(
        "An `[END]` that the user types becomes the special token. Then anybody can end the message, and go on in another's "
        "name: the text goes through `encode` whole."
    )
    def end_becomes_control(tokenizer, text):
        ids = [tokenizer.special_id("[BEGIN]")]
        for part in text.split("[END]"):
            ids += [*tokenizer.encode(part), tokenizer.special_id("[END]")]
        return ids

    @mistake("Your `[BEGIN]` has another token's id. Each tokenizer has its own ids: ask `special_id` for both.")
    def types_the_ids(tokenizer, text):
        return [0, *tokenizer.encode(text), 1]

    @mistake(
        "You write the names of the special tokens into the text and encode it all: `encode` takes them for characters, so "
        "the model sees no special token. Ask `special_id` for both."
    )
    def control_becomes_text(tokenizer, text):
        return tokenizer.encode(f"[BEGIN]{text}[END]")

    @mistake(
        "You remove what looks like a special token. The user may well be asking about [MASK]; and in '[MA[MASK]SK]' "
        "removing makes what it meant to prevent. Text stays as it is."
    )
    def removes_names(tokenizer, text):
        return [tokenizer.special_id("[BEGIN]"), *tokenizer.encode(NAMES.sub("", text)), tokenizer.special_id("[END]")]

    @mistake(
        "You cut the text off where a special token's name begins. The rest of the message is lost: it is only text."
    )
    def loses_the_rest(tokenizer, text):
        kept = NAMES.split(text)[0]
        return [tokenizer.special_id("[BEGIN]"), *tokenizer.encode(kept), tokenizer.special_id("[END]")]

    @mistake(
        "You put spaces into what looks like a special token, so the text is not what the user wrote. `encode` is safe as it is."
    )
    def puts_spaces_in(tokenizer, text):
        spaced = NAMES.sub(lambda name: " ".join(name.group()), text)
        return [tokenizer.special_id("[BEGIN]"), *tokenizer.encode(spaced), tokenizer.special_id("[END]")]

    @mistake("`[BEGIN]` and `[END]` are missing: the model cannot know where the message begins and where it is over.")
    def only_the_text(tokenizer, text):
        return tokenizer.encode(text)

    @mistake("`[END]` is missing, so the model cannot know that the message is over.")
    def forgets_the_end(tokenizer, text):
        return [tokenizer.special_id("[BEGIN]"), *tokenizer.encode(text)]

    @mistake(
        "You strip the white space at both ends. It is part of what the user wrote, and a tokenizer must lose nothing."
    )
    def strips_white_space(tokenizer, text):
        return [tokenizer.special_id("[BEGIN]"), *tokenizer.encode(text.strip()), tokenizer.special_id("[END]")]

    @mistake(
        "You encode word by word after `split()`, so the spaces are gone: 'the cat' comes back as 'thecat'. Encode the text whole."
    )
    def word_by_word(tokenizer, text):
        ids = [i for word in text.split() for i in tokenizer.encode(word)]
        return [tokenizer.special_id("[BEGIN]"), *ids, tokenizer.special_id("[END]")]
