"""A watermark for generated text: a key splits the vocabulary anew at each place, and the writer leans to one part.

The words before a place choose a row of a table, and the row says which words are *green* there. A writer with the key adds a
little to the logits of green words; a reader with the key counts them. Whoever has no key sees ordinary text. Source:
Kirchenbauer et al. (2023); sums of the context as its row, and wider contexts: Kirchenbauer et al. (2024).

Letters: B batch, T positions, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class WatermarkKey:
    """What the writer and the detector share."""

    n_vocab: int
    seed: int  # the secret
    share: float = 0.5  # of the vocabulary that is green at each place
    context: int = 1  # how many words before a place choose its green words

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 < round(self.share * self.n_vocab) < self.n_vocab):
            raise ValueError(f"share={self.share} of {self.n_vocab} words: some must be green, and some not")
        if self.context < 1:
            raise ValueError(f"context={self.context}; at least 1 word must choose the green ones")

    def green(self) -> Bool[Tensor, "V V"]:
        """True where the column's word is green after a context of the row's number."""
        return _table(self).clone()


@lru_cache(maxsize=64)
def _table(key: WatermarkKey) -> Bool[Tensor, "V V"]:
    generator = torch.Generator().manual_seed(key.seed)
    table = torch.zeros(key.n_vocab, key.n_vocab, dtype=torch.bool)
    for row in table:
        row[torch.randperm(key.n_vocab, generator=generator)[: round(key.share * key.n_vocab)]] = True
    return table


class _Remembering(list):
    """The model's caches, and the tokens that were read into them, which a wider context needs."""

    read: Tensor | None = None


class Watermarked(nn.Module):
    """A language model that adds `strength` to the logits of green words. `generate` takes it like any other model, for
    prompts without padding.

    strength: in nats; 0 changes nothing, and a very large one writes green words only.
    """

    def __init__(self, model: nn.Module, key: WatermarkKey, strength: int | float) -> None:
        super().__init__()
        if strength < 0:
            raise ValueError(f"strength={strength} would lean away from the green words; use 0 or more")
        self.model, self.config, self.key, self.strength = model, model.config, key, strength
        self.register_buffer("green", key.green())

    def new_cache(self) -> list:
        """Empty caches for generation."""
        return _Remembering(self.model.new_cache())

    def forward(self, tokens: Int[Tensor, "B T"], cache: list | None = None) -> Float[Tensor, "B T V"]:
        """The model's logits with the mark. Places with fewer words before them than the context has stay unmarked."""
        known = tokens
        if cache is not None:
            if cache.read is not None:  # of what was read, what the caches still hold: they may have been cropped
                known = torch.cat([cache.read[:, : len(cache[0])], tokens], dim=1)
            cache.read = known
        logits = self.model(tokens, cache)
        if known.shape[1] < self.key.context:
            return logits
        rows = _rows(known[:, -(tokens.shape[1] + self.key.context - 1) :], self.key)
        first = tokens.shape[1] - rows.shape[1]
        return torch.cat([logits[:, :first], logits[:, first:] + self.strength * self.green[rows]], dim=1)


def _rows(tokens: Int[Tensor, "B T"], key: WatermarkKey) -> Int[Tensor, "B rows"]:
    """The row of the table that each run of `context` tokens chooses: their sum, modulo V."""
    return tokens.unfold(1, key.context, 1).sum(dim=-1) % key.n_vocab


def watermark_score(tokens: Sequence[int], key: WatermarkKey, *, count_repeats: bool = False) -> float:
    """How many standard deviations more green words than in a text that was written without the key: 4 is a lot.

    Each run of context and word counts once: without the key it is green by chance, but its copies are not chances of their
    own. `count_repeats` counts them all, which makes a text that repeats itself look marked, or the opposite.
    """
    tokens = [int(token) for token in tokens]  # of a tensor no two entries would count as the same
    if len(tokens) <= key.context:
        raise ValueError(f"{len(tokens)} tokens are too few: the first {key.context} only choose what is green")
    runs = [tuple(tokens[i : i + key.context + 1]) for i in range(len(tokens) - key.context)]
    counted = torch.tensor(runs if count_repeats else sorted(set(runs)))
    green = _table(key)[_rows(counted[:, :-1], key)[:, 0], counted[:, -1]]
    n, share = len(counted), round(key.share * key.n_vocab) / key.n_vocab
    return (green.sum().item() - share * n) / math.sqrt(n * share * (1 - share))
