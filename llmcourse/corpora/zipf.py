"""`zipf`: words as unequal as in real text, each drawn from the word before it, so that the lowest loss is known exactly.

Words have shares that fall with their rank as 1 / rank (Zipf's law). Each word also has four favourite successors, drawn by
these shares. The next word is one of these with probability 0.8, and any word by its share with 0.2:

    P(next | word) = 0.8 favourite(next | word) + 0.2 zipf(next)

There is always something left to learn, a rarer word and its favourites, and never all of it: what is left at the end,
the entropy of the chain, is the loss that no model can pass. Chapter 18 fits its scaling law here.

Letters: B batch, T positions, V words.
"""

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

FAVOURITES = (0.4, 0.3, 0.2, 0.1)  # how likely each of a word's four favourites is, among the four
HABIT = 0.8  # how often the next word is a favourite


class ZipfChain:
    """A chain of words with its exact probabilities and entropy. The words are the numbers 0 to V - 1, by rank."""

    def __init__(self, n_words: int = 512, seed: int = 0) -> None:
        if n_words < len(FAVOURITES) + 1:
            raise ValueError(
                f"n_words={n_words}: each word needs {len(FAVOURITES)} favourites and one word beside them"
            )
        generator = torch.Generator().manual_seed(seed)
        ranks = torch.arange(1, n_words + 1, dtype=torch.float64)
        base = (1 / ranks) / (1 / ranks).sum()
        chosen = torch.multinomial(base.expand(n_words, -1), len(FAVOURITES), generator=generator)
        weights = torch.tensor(FAVOURITES, dtype=torch.float64).expand(n_words, -1)
        favourite = torch.zeros(n_words, n_words, dtype=torch.float64).scatter_(1, chosen, weights)
        self.n_words = n_words
        self.probabilities: Float[Tensor, "V V"] = HABIT * favourite + (1 - HABIT) * base
        self._steps = self.probabilities.cumsum(dim=1)

    @cached_property
    def stationary(self) -> Float[Tensor, "V"]:
        """How frequent each word is in a long text: the distribution that one more step leaves as it is."""
        share = torch.full((self.n_words,), 1 / self.n_words, dtype=torch.float64)
        for _ in range(200):  # each step leaves at most HABIT of the error
            share = share @ self.probabilities
        return share

    def entropy(self) -> float:
        """The floor in nats a word: the mean surprise of the next word to somebody who knows the chain."""
        surprise = -(self.probabilities * self.probabilities.log()).sum(dim=1)
        return (self.stationary @ surprise).item()

    def unigram_entropy(self) -> float:
        """The loss of the best model that looks at no other word: the shortcut to beat."""
        share = self.stationary
        return -(share * share.log()).sum().item()

    def sample(self, size: int, length: int, generator: torch.Generator) -> Int[Tensor, "B T"]:
        """`size` texts of `length` words, each from the middle of a long text."""
        uniform = torch.rand(length, size, 1, generator=generator, dtype=torch.float64)
        most = self.n_words - 1  # a sum of many shares can end just below 1
        words = [torch.searchsorted(self.stationary.cumsum(0), uniform[0]).clamp(max=most)]
        for drawn in uniform[1:]:
            words.append(torch.searchsorted(self._steps[words[-1][:, 0]], drawn).clamp(max=most))
        return torch.cat(words, dim=1)

    def log_probabilities(self, words: Int[Tensor, "B T"]) -> Float[Tensor, "B T-1"]:
        """log P of each word but the first, given the word before it."""
        return self.probabilities[words[:, :-1], words[:, 1:]].log()
