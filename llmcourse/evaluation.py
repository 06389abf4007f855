"""Evaluation: how good a model is, in nats, in bits, in words to choose between, in sentences and alignments.

BLEU and chrF have a file of their own, `bleu.py`.

Letters: B batch, T positions, V vocabulary.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.data import IGNORED, Batch, TranslationBatch


def perplexity(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> float:
    """exp of the mean cross-entropy, in nats per token: 1 is certainty, V is a blind guess.

    Targets of -100 (padding) do not count. Raises ValueError when nothing counts.
    Source: Jurafsky & Martin, Speech and Language Processing, section 3.3.
    """
    if (targets == IGNORED).all():
        raise ValueError("perplexity needs at least one target that is not -100 (padding)")
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED).exp().item()


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Iterable[Batch | TranslationBatch]) -> float:
    """The cross-entropy in nats per token over all batches, every token counting the same.

    Raises ValueError when no target counts.
    """
    was_training, device = model.training, _device(model)
    model.eval()
    total, counted = 0.0, 0
    try:
        for *inputs, targets in batches:
            logits = model(*(part.to(device) for part in inputs)).float().flatten(0, 1)  # 16 bits hold no large sum
            wanted = targets.to(device).flatten()
            total += F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum").item()
            counted += int((wanted != IGNORED).sum())
    finally:
        model.train(was_training)
    if not counted:
        raise ValueError("mean_loss needs at least one target that is not -100 (padding)")
    return total / counted


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    """A loss that does not depend on how the text was cut into tokens: bits needed for each byte of UTF-8.

    `n_tokens` and `n_bytes` measure the same text.
    """
    if n_bytes < 1:
        raise ValueError(f"n_bytes={n_bytes}: there is no text to spread the loss over")
    return nats_per_token * n_tokens / n_bytes / math.log(2)


def exact_match(hypotheses: Sequence[Sequence], references: Sequence[Sequence]) -> float:
    """The share of hypotheses that equal their reference from first to last token."""
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"{len(hypotheses)} hypotheses and {len(references)} references: give as many of both, at least 1"
        )
    return sum(list(a) == list(b) for a, b in zip(hypotheses, references, strict=True)) / len(hypotheses)


Links = Collection[tuple[int, int]]  # (target index, source index) of each pair of words that belong together


def attention_links(weights: Float[Tensor, "T S"]) -> list[tuple[int, int]]:
    """An alignment read off attention: each target word is linked to the source word that got most of it.

    Row t must be the attention while word t was written, that is, when word t - 1 had just been read.
    """
    return list(enumerate(weights.argmax(dim=-1).tolist()))


def alignment_error_rate(
    guesses: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links] | None = None
) -> float:
    """How far alignments are from those of people, over all sentences: 0 is perfect, 1 has no link right.

    1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|), where A are the guessed links, S the sure ones and P the possible ones, which
    include the sure ones; without `possible` they are the same. Source: Och & Ney (2003), section 5.
    """
    possible = sure if possible is None else possible
    if not len(guesses) == len(sure) == len(possible):
        raise ValueError(
            f"{len(guesses)} guesses, {len(sure)} sure and {len(possible)} possible alignments: give one a sentence of each"
        )
    hits, total = 0, 0
    for guess, gold, allowed in zip(guesses, sure, possible, strict=True):
        found, wanted = set(guess), set(gold)
        hits += len(found & wanted) + len(found & (set(allowed) | wanted))
        total += len(found) + len(wanted)
    if not total:
        raise ValueError("alignment_error_rate needs at least one link")
    return 1 - hits / total
