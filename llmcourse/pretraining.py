"""The two losses that pre-train BERT: name the hidden words, and judge the second sentence.

A model is anything with the parts of `PreTrainingBert`: `bert`, `masked_lm` and `next_sentence`. The vocabulary's layer
is computed at hidden words alone: one position in seven. Rows of like length are read together, without the padding that
only the longest row of the batch asks for.

Letters: B batch, T positions, C width of the model.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.data import IGNORED
from llmcourse.lengths import filled, row_ends, rows_by_length
from llmcourse.masking import PreTrainingBatch


def hidden_states(bert: nn.Module, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
    """What `bert(tokens, segments)` makes of every token; at padding, anything.

    Rows of like length are read together, each group only as wide as its longest row.
    """
    ends = row_ends(filled(tokens, bert.config.pad))
    groups, states = rows_by_length(ends, tokens.numel()), []
    for rows in groups:
        width = int(ends[rows].max())
        states.append(F.pad(bert(tokens[rows, :width], segments[rows, :width]), (0, 0, 0, tokens.shape[1] - width)))
    return torch.cat(states)[torch.cat(groups).argsort()]


def hidden_word_loss(
    model: nn.Module, hidden: Float[Tensor, "B T C"], targets: Int[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """The mean cross-entropy of the hidden words; 0 when none is hidden, which happens in a small batch.

    hidden: the state of every position; only those that have a target meet the vocabulary.
    """
    chosen = targets != IGNORED
    logits = model.masked_lm(hidden[chosen]).float()
    return F.cross_entropy(logits, targets[chosen], reduction="sum") / chosen.sum().clamp(min=1)


def masked_loss(model: nn.Module, batch: PreTrainingBatch) -> Float[Tensor, ""]:
    """The mean cross-entropy of the hidden words, in nats per hidden word."""
    return hidden_word_loss(model, hidden_states(model.bert, batch.tokens, batch.segments), batch.targets)


def next_sentence_loss(model: nn.Module, batch: PreTrainingBatch) -> Float[Tensor, ""]:
    """The cross-entropy of the second sentence's label, in nats per pair; a guess costs ln 2 = 0.69."""
    hidden = hidden_states(model.bert, batch.tokens, batch.segments)
    return F.cross_entropy(model.next_sentence(model.bert.pool(hidden)), batch.swapped)


def pretraining_loss(model: nn.Module, batch: PreTrainingBatch) -> Float[Tensor, ""]:
    """The sum of both, from one pass through the encoder (Devlin et al., 2019, appendix A.2).

    Two means, over words and over pairs: added up over several batches it is nearly, not exactly, that of one large batch.
    """
    hidden = hidden_states(model.bert, batch.tokens, batch.segments)
    judged = F.cross_entropy(model.next_sentence(model.bert.pool(hidden)), batch.swapped)
    return hidden_word_loss(model, hidden, batch.targets) + judged


@torch.no_grad()
def masked_accuracy(model: nn.Module, batch: PreTrainingBatch) -> float:
    """The share of hidden words that the model names right. Raises ValueError when none is hidden."""
    chosen = batch.targets != IGNORED
    if not chosen.any():
        raise ValueError("masked_accuracy needs at least one hidden word")
    model.eval()
    logits = model.masked_lm(model.bert(batch.tokens, batch.segments)[chosen])
    return (logits.argmax(dim=-1) == batch.targets[chosen]).float().mean().item()


@torch.no_grad()
def next_sentence_accuracy(model: nn.Module, batch: PreTrainingBatch) -> float:
    """The share of pairs that the model judges right."""
    return (judgements(model, batch.tokens, batch.segments) == batch.swapped).float().mean().item()


@torch.no_grad()
def judgements(model: nn.Module, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"]) -> Int[Tensor, "B"]:
    """The model's own label of each pair: 0, the second sentence follows; 1, it does not."""
    model.eval()
    return model.next_sentence(model.bert.pool(model.bert(tokens, segments))).argmax(dim=-1)
