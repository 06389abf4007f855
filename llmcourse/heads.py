"""Heads: what is put on a pre-trained encoder, so that its states answer a question about the text.

One label for a whole text, one for each token, or a span of it (Devlin et al., 2019, section 4). A head is a linear
layer and hardly more; all the rest is the encoder's. An encoder is any module with a `config` whose `encode(tokens)`
gives the states of all positions: `Bert`, or an `EncoderDecoder`, of which only the first half is then used.

Letters: B batch, T positions, C width of the model, N classes.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.data import IGNORED, check_size, pad_rows, shuffled

Pooling = Literal["cls", "mean", "pooler"]
POOLINGS = get_args(Pooling)


class LabelledBatch(NamedTuple):
    """Rows of tokens, and the label of each row."""

    tokens: Int[Tensor, "B T"]
    labels: Int[Tensor, "B"]


def labelled_batch(items: Sequence[tuple[Sequence[int], int]], *, pad: int) -> LabelledBatch:
    """(ids, label) pairs as one batch, filled up on the right."""
    return LabelledBatch(pad_rows([ids for ids, _ in items], pad), torch.tensor([label for _, label in items]))


def labelled_batches(
    items: Sequence[tuple[Sequence[int], int]], size: int, *, pad: int, seed: int = 0
) -> Iterator[LabelledBatch]:
    """Endless batches of (ids, label) pairs: all of them in a random order, then all again in another one."""
    check_size(size)
    stream = shuffled(items, seed)
    while True:
        yield labelled_batch([next(stream) for _ in range(size)], pad=pad)


def mean_pooling(hidden: Float[Tensor, "B T C"], may_count: Bool[Tensor, "B T"]) -> Float[Tensor, "B C"]:
    """The mean of each row's states over the positions that count; what stands at the others makes no difference.

    Raises ValueError when a row has none.
    """
    counts = may_count.sum(dim=1, keepdim=True)
    if not counts.all():
        raise ValueError(f"row {int(counts[:, 0].argmin())} is nothing but padding: its mean does not exist")
    return hidden.masked_fill(~may_count[:, :, None], 0.0).sum(dim=1) / counts


def not_padding(tokens: Int[Tensor, "B T"], pad: int | None) -> Bool[Tensor, "B T"]:
    """True at the tokens of the text; without a `pad` all are."""
    return torch.ones_like(tokens, dtype=torch.bool) if pad is None else tokens != pad


def _new_head(encoder: nn.Module, n_outputs: int) -> nn.Linear:
    """Small at first, so that the first guesses are near even."""
    head = nn.Linear(encoder.config.d_model, n_outputs)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


class Classifier(nn.Module):
    """One label for a whole text: its states pooled to one vector, and a linear layer.

    pooling: "cls" takes the state at position 0, which must be the special token that the encoder was trained with;
        "pooler" passes it through the encoder's own `pool` layer first, as the published BERT does; "mean" averages the
        states of all tokens that are not padding; a number reads the state where that token stands first in the row, such
        as [MASK] in a text with a blank (Schick & Schuetze, 2021), and raises ValueError for a row without it.
    """

    def __init__(
        self, encoder: nn.Module, n_classes: int, *, pooling: Pooling | int = "cls", dropout: int | float = 0.0
    ) -> None:
        super().__init__()
        if n_classes < 2:
            raise ValueError(f"n_classes={n_classes}: there is something to choose from 2 classes on")
        if not isinstance(pooling, int) and pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r}; use one of {', '.join(map(repr, POOLINGS))}, or a token")
        self.encoder, self.pooling = encoder, pooling
        self.dropout, self.head = nn.Dropout(dropout), _new_head(encoder, n_classes)

    def pool(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        """The vector of each text that the head sees."""
        hidden = self.encoder.encode(tokens)
        if isinstance(self.pooling, int):
            stands_there = tokens == self.pooling
            if not stands_there.any(dim=1).all():
                raise ValueError(f"a row has no token {self.pooling}, where its state was to be read")
            return hidden[torch.arange(len(tokens)), stands_there.int().argmax(dim=1)]
        if self.pooling == "pooler":
            return self.encoder.pool(hidden)
        if self.pooling == "cls":
            return hidden[:, 0]
        return mean_pooling(hidden, not_padding(tokens, self.encoder.config.pad))

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B N"]:
        """Logits of the classes."""
        return self.head(self.dropout(self.pool(tokens)))


class TokenClassifier(nn.Module):
    """A label for each token, such as the kind of name that it is part of."""

    def __init__(self, encoder: nn.Module, n_classes: int, *, dropout: int | float = 0.0) -> None:
        super().__init__()
        self.encoder, self.dropout, self.head = encoder, nn.Dropout(dropout), _new_head(encoder, n_classes)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T N"]:
        """Logits of the classes at each position; those at padding mean nothing."""
        return self.head(self.dropout(self.encoder.encode(tokens)))


class SpanReader(nn.Module):
    """Where an answer stands in the text: a score for each position to be its first token, and one to be its last."""

    def __init__(self, encoder: nn.Module, *, dropout: int | float = 0.0) -> None:
        super().__init__()
        self.encoder, self.dropout, self.head = encoder, nn.Dropout(dropout), _new_head(encoder, 2)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T 2"]:
        """Scores as first (column 0) and last token (column 1); padding can be neither, and scores minus infinity."""
        scores = self.head(self.dropout(self.encoder.encode(tokens)))
        return scores.masked_fill(~not_padding(tokens, self.encoder.config.pad)[:, :, None], float("-inf"))


def best_spans(
    scores: Float[Tensor, "B T 2"], longest: int, allowed: Bool[Tensor, "B T"] | None = None
) -> Int[Tensor, "B 2"]:
    """The likeliest span of each row: the first and last position, both included, that maximise the sum of their scores.

    A span does not end before it starts, has at most `longest` tokens, and lies where `allowed` is True throughout. Raises
    ValueError for a row in which nothing is allowed.
    """
    if longest < 1:
        raise ValueError(f"longest={longest}: a span has at least 1 token")
    T = scores.shape[1]
    both = scores[:, :, None, 0] + scores[:, None, :, 1]
    if allowed is not None:
        if not allowed.any(dim=1).all():
            raise ValueError(f"in row {int((~allowed.any(dim=1)).nonzero()[0])} no place is allowed")
        barred = (~allowed).cumsum(dim=1)  # how many places up to each are not allowed: equal where none lies between
        inside = allowed[:, :, None] & (barred[:, :, None] == barred[:, None, :])
        both = both.masked_fill(~inside, float("-inf"))
    steps = torch.arange(T, device=scores.device)
    length = steps[None, :] - steps[:, None] + 1
    best = both.masked_fill((length < 1) | (length > longest), float("-inf")).flatten(1).argmax(dim=1)
    return torch.stack([best // T, best % T], dim=1)


def classification_loss(model: nn.Module, batch: LabelledBatch) -> Float[Tensor, ""]:
    """The mean cross-entropy of the labels, in nats per text: ln N is a blind guess."""
    return F.cross_entropy(model(batch.tokens), batch.labels)


class TokenLabels(NamedTuple):
    """Rows of tokens and a label for each of them; -100 does not count."""

    tokens: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]

    @property
    def weight(self) -> int:
        """How many labels count: so `train` weighs it when it adds up several."""
        return int((self.labels != IGNORED).sum())


def token_loss(model: nn.Module, batch: TokenLabels) -> Float[Tensor, ""]:
    """The mean cross-entropy of the labels that count, in nats per token."""
    return F.cross_entropy(model(batch.tokens).flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)


class SpanBatch(NamedTuple):
    """Rows of tokens, and the first and last position of each answer, both included."""

    tokens: Int[Tensor, "B T"]
    spans: Int[Tensor, "B 2"]


def span_loss(model: nn.Module, batch: SpanBatch) -> Float[Tensor, ""]:
    """The mean of two cross-entropies over the positions: of the first token, and of the last."""
    scores = model(batch.tokens)
    return (F.cross_entropy(scores[..., 0], batch.spans[:, 0]) + F.cross_entropy(scores[..., 1], batch.spans[:, 1])) / 2
