"""Retrieval: which of many texts may answer a question.

BM25 counts shared words, rare ones more (Robertson & Zaragoza, 2009, section 3). A dense index compares vectors that an
encoder makes of whole texts (Karpukhin et al., 2020): the scores of all texts are one product of a matrix with a vector,
which at the sizes of this course takes milliseconds. From about a million texts on, an index that finds near vectors
without looking at all of them pays.

Letters: N texts, B pairs in a batch, C width of a vector.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.bert import Bert
from llmcourse.data import check_size, pad_rows, shuffled
from llmcourse.heads import mean_pooling, not_padding
from llmcourse.transformer import TransformerConfig


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without signs."""
    return re.findall(r"\w+", text.lower())


def best_first(scores: Sequence[int | float], k: int | None = None) -> list[int]:
    """The places of the k highest scores, the highest first; of equal ones the first comes first. None gives all."""
    return sorted(range(len(scores)), key=lambda place: -scores[place])[:k]


class BM25:
    """Scores texts by the words that they share with a question.

    A word w of the question adds  idf(w) · n (k1 + 1) / (n + k1 (1 - b + b · length / mean length)), where n is how often
    it stands in the text, and idf(w) = ln(1 + (N - m + ½) / (m + ½)) when m of the N texts hold it.

    k1: how slowly the gain of one more occurrence fades; at 0 a word counts once. b: how much long texts are held back, from
    0 (not at all) to 1 (in proportion). The 1 inside the logarithm keeps it above 0, as in Lucene.
    """

    def __init__(self, texts: Sequence[Sequence[str]], *, k1: int | float = 1.5, b: int | float = 0.75) -> None:
        if not texts or not any(texts):
            raise ValueError("BM25 needs at least one text with a word in it; cut texts into words by `words_of`")
        if whole := [text for text in texts if isinstance(text, str)]:
            raise TypeError(f"a text is a list of words, not {whole[0][:40]!r}; cut texts into words by `words_of`")
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1={k1} must be at least 0, and b={b} lie between 0 and 1")
        self.k1, self.b = k1, b
        self.lengths = [len(text) for text in texts]
        self.postings: dict[str, list[tuple[int, int]]] = defaultdict(list)  # the texts that hold a word, and how often
        for place, text in enumerate(texts):
            for word, count in Counter(text).items():
                self.postings[word].append((place, count))

    def idf(self, word: str) -> float:
        """How much the word tells: 0 for one that no text holds, then the more the rarer it is."""
        n_with = len(self.postings.get(word, ()))
        return math.log(1 + (len(self.lengths) - n_with + 0.5) / (n_with + 0.5)) if n_with else 0.0

    def scores(self, question: Sequence[str]) -> list[float]:
        """One score a text, 0 where no word is shared. A word that is asked twice counts twice."""
        found, mean_length = [0.0] * len(self.lengths), sum(self.lengths) / len(self.lengths)
        for word in question:
            for place, count in self.postings.get(word, ()):
                damped = self.k1 * (1 - self.b + self.b * self.lengths[place] / mean_length)
                found[place] += self.idf(word) * count * (self.k1 + 1) / (count + damped)
        return found

    def rank(self, question: Sequence[str], k: int | None = None) -> list[int]:
        """The places of the k best texts; None gives all."""
        return best_first(self.scores(question), k)


class SentenceEncoder(nn.Module):
    """One vector of length 1 for a text: the mean of a `Bert`'s states over its tokens."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.bert = config, Bert(config)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        """The product of two such vectors is the cosine of the angle between them: 1 for the same direction."""
        return F.normalize(mean_pooling(self.bert(tokens), not_padding(tokens, self.config.pad)), dim=-1)


class Pairs(NamedTuple):
    """Questions, and row by row the text that answers each."""

    questions: Int[Tensor, "B T"]
    texts: Int[Tensor, "B S"]


def pair_batches(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], size: int, *, pad: int, seed: int = 0
) -> Iterator[Pairs]:
    """Endless batches of (question, text) pairs of ids: all in a random order, then all again in another one."""
    check_size(size)
    stream = shuffled(pairs, seed)
    while True:
        rows = list(islice(stream, size))
        yield Pairs(*(pad_rows(side, pad) for side in zip(*rows, strict=True)))


def contrastive_loss(encoder: nn.Module, batch: Pairs, temperature: int | float = 0.1) -> Float[Tensor, ""]:
    """Which of the batch's texts belongs to each question? The mean cross-entropy of the choice, in nats.

    The other questions' texts are the wrong ones, so that they cost nothing (Karpukhin et al., 2020, section 3.2). ln B is
    a blind guess. temperature: what the cosines are divided by before the softmax.
    """
    scores = encoder(batch.questions) @ encoder(batch.texts).T / temperature
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


class DenseIndex:
    """Texts as vectors of length 1, and questions compared with all of them at once."""

    def __init__(self, vectors: Float[Tensor, "N C"]) -> None:
        if not len(vectors):
            raise ValueError("an index needs at least one vector")
        self.vectors = F.normalize(vectors, dim=-1)

    def scores(self, question: Float[Tensor, "C"]) -> list[float]:
        """The cosine of each text with the question, from -1 to 1."""
        if question.shape != self.vectors.shape[1:]:
            raise ValueError(
                f"a question of shape {tuple(question.shape)} cannot be compared with vectors of width "
                f"{self.vectors.shape[1]}; make one vector of it with the encoder that made these"
            )
        return (self.vectors @ F.normalize(question, dim=-1)).tolist()

    def rank(self, question: Float[Tensor, "C"], k: int | None = None) -> list[int]:
        """The places of the k best texts; None gives all."""
        return best_first(self.scores(question), k)


def fuse(*rankings: Sequence[int], k: int | float = 60) -> list[int]:
    """Several rankings of the same texts as one: a text scores the sum of its 1 / (k + place), places counted from 1.

    k: how little the first places stand out; 60 is the paper's. Scores of different kinds need not be made comparable, for
    only places count. Source: Cormack et al. (2009). Raises ValueError when the rankings hold different texts.
    """
    if k < 0:
        raise ValueError(f"k={k}: give 0 or more, for places are counted from 1")
    if not rankings or any(sorted(one) != list(range(len(rankings[0]))) for one in rankings):
        raise ValueError("give at least one ranking, each with every text once; `best_first(scores)` makes one")
    scores = [0.0] * len(rankings[0])
    for ranking in rankings:
        for place, text in enumerate(ranking, start=1):
            scores[text] += 1 / (k + place)
    return best_first(scores)


def hits_at_k(rankings: Sequence[Sequence[int]], right: Sequence[Collection[int]], k: int) -> float:
    """The share of questions with a right text among the first k. With one right text each this is also recall@k."""
    _check_rankings(rankings, right)
    if k < 1:
        raise ValueError(f"k={k}: look at 1 text or more")
    return sum(bool(set(one[:k]) & set(wanted)) for one, wanted in zip(rankings, right, strict=True)) / len(rankings)


def mean_reciprocal_rank(rankings: Sequence[Sequence[int]], right: Sequence[Collection[int]]) -> float:
    """The mean over questions of 1 / the place, counted from 1, of the first right text; 0 where none was found."""
    _check_rankings(rankings, right)
    total = 0.0
    for ranking, wanted in zip(rankings, right, strict=True):
        total += next((1 / place for place, text in enumerate(ranking, start=1) if text in wanted), 0.0)
    return total / len(rankings)


def _check_rankings(rankings: Sequence, right: Sequence) -> None:
    if len(rankings) != len(right) or not rankings:
        raise ValueError(f"{len(rankings)} rankings for {len(right)} questions: give as many of both, at least 1")
