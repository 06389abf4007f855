"""Byte-level byte-pair encoding, as in GPT-2: start with 256 bytes, merge the most frequent pair, repeat.

Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units, ACL 2016 (the
merges); Radford et al., Language Models are Unsupervised Multitask Learners, 2019 (bytes; how words are cut).
Merges and ids are those of the Hugging Face library `tokenizers`, ties included.
"""

import heapq
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import regex

from llmcourse.tokenizers.base import Tokenizer, checked_text, room_for_pieces, word_counts

Symbol = TypeVar("Symbol", str, bytes, int)

# A contraction; letters, digits or other signs, with the space before them; white space. Nothing is left out.
GPT2_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
# The same for text of plain ASCII, and a block of text that ends before a space or a new line, where no word goes on.
_ASCII_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[a-zA-Z]+| ?[0-9]+| ?[^\sa-zA-Z0-9]+|\s+(?!\S)|\s+", re.ASCII)
_BLOCK = re.compile(r".{1024}.*?[!-~](?=[ \n])|.+", re.DOTALL)
_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
BYTES = tuple(bytes([b]) for b in sorted(range(256), key=lambda b: (b not in _PRINTABLE, b)))  # GPT-2's order


def gpt2_words(text: str) -> list[str]:
    """`GPT2_WORDS.findall(text)`, block by block: where a block is plain ASCII, Python's own `re` cuts it in half the time."""
    words: list[str] = []
    for block in _BLOCK.findall(text):
        words += (_ASCII_WORDS if block.isascii() else GPT2_WORDS).findall(block)
    return words


def count_pairs(words: Mapping[tuple, int]) -> Counter[tuple]:
    """How often each pair of neighbours occurs, given how often each word (a tuple of symbols) occurs.

    Every place counts, also where pairs overlap: (a, a, a) holds (a, a) twice.
    """
    counts: Counter[tuple] = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            counts[pair] += count
    return counts


def merge_pair(
    symbols: Sequence[Symbol], pair: tuple[Symbol, Symbol], merged: Symbol | None = None
) -> tuple[Symbol, ...]:
    """Make each occurrence of the pair one symbol, from left to right: (a, a, a) becomes (aa, a).

    merged: the new symbol, where it is not simply both parts joined.
    """
    merged = pair[0] + pair[1] if merged is None else merged
    left, right = pair
    result: list[Symbol] = []
    i = 0
    while i < len(symbols):
        if symbols[i] == left and i + 1 < len(symbols) and symbols[i + 1] == right:
            result.append(merged)
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return tuple(result)


class PairIndex:
    """The words of a training text with up-to-date counts, and for each pair the words that hold it, or once held it.

    With this index, a merge costs as much as these words, not as much as the text.
    """

    def __init__(self, words: Mapping[tuple[Symbol, ...], int]):
        self.pair_counts = count_pairs(words)
        self.symbol_counts: Counter[Symbol] = Counter()
        self._words, self._counts = list(words), list(words.values())
        self._where: defaultdict[tuple, set[int]] = defaultdict(set)
        for n, (word, count) in enumerate(words.items()):
            for symbol in word:
                self.symbol_counts[symbol] += count
            for pair in pairwise(word):
                self._where[pair].add(n)

    def merge(self, pair: tuple[Symbol, Symbol], merged: Symbol) -> list[tuple[Symbol, Symbol]]:
        """Merge the pair in every word, and return the pairs whose counts this changed."""
        change: defaultdict[tuple, int] = defaultdict(int)
        n_merges = 0
        for n in self._where.pop(pair):
            before, count = self._words[n], self._counts[n]
            after = self._words[n] = merge_pair(before, pair, merged)
            n_merges += (len(before) - len(after)) * count
            for old in pairwise(before):
                change[old] -= count
            for new in pairwise(after):
                change[new] += count
                if merged in new:
                    self._where[new].add(n)
        for symbol, gain in ((merged, n_merges), (pair[0], -n_merges), (pair[1], -n_merges)):
            self.symbol_counts[symbol] += gain
        changed = [one for one, difference in change.items() if difference]
        for one in changed:
            self.pair_counts[one] += change[one]
        return changed


class BPETokenizer(Tokenizer):
    """Byte-level BPE: the 256 bytes (in GPT-2's order) and a token for each piece that a merge makes. It knows every text.

    merges: the pairs of byte strings, in the order in which they were learnt.
    """

    kind = "bpe"

    def __init__(self, merges: Iterable[tuple[bytes, bytes]], special_tokens: Sequence[str] = ()):
        self.merges = [(left, right) for left, right in merges]
        pieces = dict.fromkeys(BYTES)
        for left, right in self.merges:
            if left not in pieces or right not in pieces:
                raise ValueError(
                    f"no earlier merge makes both parts of the merge {left!r} {right!r}: give them in order"
                )
            pieces[left + right] = None  # two merges can spell one piece: a+bc, ab+c
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        super().__init__(list(pieces), list(pieces), special_tokens)

    @classmethod
    def train(
        cls, text: str, vocab_size: int, special_tokens: Sequence[str] = (), *, min_frequency: int = 2
    ) -> "BPETokenizer":
        """Learn merges until there are vocab_size tokens, or until no pair occurs min_frequency times.

        The most frequent pair is merged first; among equals, the one with the smallest ids.
        """
        words = word_counts(text, gpt2_words(checked_text(text)))
        room = room_for_pieces(vocab_size, special_tokens, len(BYTES), "256 bytes")
        pieces = list(BYTES)
        ids = {piece: i for i, piece in enumerate(pieces)}
        index = PairIndex({tuple(ids[byte] for byte in split_bytes(word)): count for word, count in words.items()})
        merges: dict[tuple[bytes, bytes], None] = {}
        queue = [(-count, pair) for pair, count in index.pair_counts.items()]
        heapq.heapify(queue)
        while queue and len(pieces) < len(BYTES) + room:
            count, pair = heapq.heappop(queue)
            if -count != index.pair_counts[pair]:
                continue  # out of date: the pair came into the queue again when its count changed
            if -count < min_frequency:
                break
            left, right = (pieces[i] for i in pair)
            merges[left, right] = None
            if left + right not in ids:  # two merges can spell one piece: a+bc, ab+c
                ids[left + right] = len(pieces)
                pieces.append(left + right)
            for changed in index.merge(pair, ids[left + right]):
                if index.pair_counts[changed] > 0:
                    heapq.heappush(queue, (-index.pair_counts[changed], changed))
        return cls(merges, special_tokens)

    def _words(self, text: str) -> list[str]:
        return gpt2_words(text)

    def _encode_word(self, word: str) -> list[int]:
        """Do what training did, in the order in which it did it: the earliest merge first."""
        symbols = split_bytes(word)
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda pair: self._ranks.get(pair, math.inf))
            if pair not in self._ranks:
                break
            symbols = merge_pair(symbols, pair)
        return [self._ids[symbol] for symbol in symbols]

    def _content(self) -> dict:
        """JSON has no bytes: byte 0xE4 is written as the character U+00E4, so that English stays readable."""
        return {"merges": [[part.decode("latin-1") for part in pair] for pair in self.merges]}

    @classmethod
    def _from_content(cls, content: dict) -> "BPETokenizer":
        merges = [tuple(part.encode("latin-1") for part in pair) for pair in content.pop("merges")]
        return cls(merges, **content)


def split_bytes(word: str) -> tuple[bytes, ...]:
    """The single bytes of a word in UTF-8: "é" gives (0xC3, 0xA9)."""
    return tuple(bytes([b]) for b in word.encode())
