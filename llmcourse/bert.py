"""BERT: an encoder that reads both ways, and the two heads that pre-train it.

Devlin et al. (2019), section 3. The model turns tokens into hidden states, one for each position, and each head is a
layer of its own on them: `MaskedLMHead` names hidden words, `NextSentenceHead` says whether the second sentence follows
the first.

Letters: B batch, T positions, C width of the model, V vocabulary.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmcourse.attention import padding_mask
from llmcourse.transformer import (
    ACTIVATIONS,
    Encoder,
    TokenEmbedding,
    TransformerConfig,
    check_length,
    check_tokens,
    initialise,
    new_norm,
    positions_mask,
)

# The two models of the paper. The vocabulary is that of the published uncased models; token 0 is padding.
_PUBLISHED = {
    "n_vocab": 30_522, "context": 512, "positions": "learned", "norm_place": "post", "norm_eps": 1e-12,
    "activation": "gelu", "tied": True, "dropout": 0.1, "pad": 0,
}  # fmt: skip
BERT_BASE = TransformerConfig(**_PUBLISHED, d_model=768, n_heads=12, n_layers=12)
BERT_LARGE = TransformerConfig(**_PUBLISHED, d_model=1024, n_heads=16, n_layers=24)


class SegmentEmbedding(nn.Embedding):
    """A row of numbers for each sentence of an input."""

    def forward(self, segments: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Raises ValueError for a sentence that an input cannot have."""
        if segments.numel() and not 0 <= int(segments.min()) <= int(segments.max()) < self.num_embeddings:
            raise ValueError(
                f"segments run from {int(segments.min())} to {int(segments.max())}, but this model tells "
                f"{self.num_embeddings} sentences apart; count them from 0"
            )
        return super().forward(segments)


class Bert(nn.Module):
    """The encoder: what a token is, where it stands and in which sentence, added, normalised, and read both ways.

    n_segments: how many sentences an input may consist of. The published form has `positions="learned"` and
    `norm_place="post"`; small models train faster with `norm_place="pre"`.
    """

    def __init__(self, config: TransformerConfig, n_segments: int = 2) -> None:
        super().__init__()
        if n_segments < 1:
            raise ValueError(f"n_segments={n_segments}: an input has at least 1 sentence")
        self.config = config
        self.embedding = TokenEmbedding(replace(config, dropout=0.0))
        self.segments = SegmentEmbedding(n_segments, config.d_model)
        self.embedding_norm = new_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.pooler = nn.Linear(config.d_model, config.d_model)
        initialise(self, config)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        segments: Int[Tensor, "B T"] | None = None,
        mask: Bool[Tensor, "T T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The hidden state of every position, having read all others that are not `config.pad`.

        segments: 0 at the first sentence, 1 at the second; None is 0 everywhere. mask: True where one may look besides,
        such as `causal_mask(T)`, which makes the encoder read from left to right; None is everywhere. Raises ValueError
        when the sequence outgrows the context or a token is not in the vocabulary.
        """
        T = tokens.shape[-1]
        check_tokens(tokens, self.config.n_vocab)
        check_length(T, self.config.context)
        segments = torch.zeros_like(tokens) if segments is None else segments
        x = self.dropout(self.embedding_norm(self.embedding(tokens) + self.segments(segments)))
        if self.config.pad is not None:
            filled = padding_mask(tokens, self.config.pad)
            mask = filled if mask is None else mask & filled
        return self.encoder(x, positions_mask(self.config, mask, T, T, tokens.device))

    def encode(self, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """The same hidden states, under the name that every encoder of this course has for them."""
        return self(tokens, segments)

    def pool(self, hidden: Float[Tensor, "B T C"]) -> Float[Tensor, "B C"]:
        """The whole input as one row: the first position, which is [CLS], through a layer and tanh."""
        return self.pooler(hidden[:, 0]).tanh()


class MaskedLMHead(nn.Module):
    """From a hidden state to logits over the vocabulary: a layer, a bend, a norm, and the embedding matrix turned round.

    embedding: the matrix that the last layer shares; None gives it one of its own. It has a bias either way.
    """

    def __init__(self, config: TransformerConfig, embedding: nn.Embedding | None = None) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = new_norm(config)
        self.decoder = nn.Linear(config.d_model, config.n_vocab)
        initialise(self, config)
        if embedding is not None:
            self.decoder.weight = embedding.weight

    def forward(self, hidden: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch V"]:
        """Logits for these states: of all positions, or of the hidden words alone, gathered as rows (N, C).

        One state costs C * V multiplications here, so a training step gathers first.
        """
        return self.decoder(self.norm(self.activation(self.dense(hidden))))


class NextSentenceHead(nn.Module):
    """From the pooled row to two logits: 0, the second sentence follows the first; 1, it comes from elsewhere."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.classify = nn.Linear(config.d_model, 2)
        initialise(self, config)

    def forward(self, pooled: Float[Tensor, "B C"]) -> Float[Tensor, "B 2"]:
        """The two logits, in the order of the published models."""
        return self.classify(pooled)


class PreTrainingBert(nn.Module):
    """BERT with both heads, as it is pre-trained. Called, it names every word; `follows` judges the second sentence.

    When `config.tied`, the masked-word head ends in the embedding matrix of the encoder.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.masked_lm = MaskedLMHead(config, self.bert.embedding.tokens if config.tied else None)
        self.next_sentence = NextSentenceHead(config)

    def forward(self, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"] | None = None) -> Float[Tensor, "B T V"]:
        """Logits over the vocabulary at every position, seen from both sides."""
        return self.masked_lm(self.bert(tokens, segments))

    def follows(self, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"] | None = None) -> Float[Tensor, "B 2"]:
        """Two logits an input: 0, its second sentence follows its first; 1, it comes from elsewhere."""
        return self.next_sentence(self.bert.pool(self.bert(tokens, segments)))
