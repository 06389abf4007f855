"""BERT with both heads, and GPT, in TensorFlow: the twins of `bert.py` and `models.py`.

Letters: B batch, T positions, C width of the model, V vocabulary. A boolean mask is True where one may look.
"""

from dataclasses import replace

import keras
import tensorflow as tf
from jaxtyping import Float, Int
from keras import ops

from llmcourse.keras.layers import (
    ACTIVATIONS,
    Encoder,
    Part,
    TiedDense,
    TokenEmbedding,
    TransformerBlock,
    causal_mask,
    last_norm,
    new_dense,
    new_embedding,
    new_norm,
    padding_mask,
)
from llmcourse.transformer import TransformerConfig, check_length


def check_tokens(tokens: tf.Tensor, config: TransformerConfig) -> None:
    """Raise TypeError or ValueError for what cannot be looked up; a number out of range is seen outside tf.function."""
    if len(tokens.shape) != 2 or not tokens.dtype.is_integer:
        raise TypeError(
            f"tokens are whole numbers of shape (batch, length), not {tokens.dtype.name} of shape {tuple(tokens.shape)}"
        )
    check_length(tokens.shape[1], config.context)
    if tf.executing_eagerly() and not 0 <= int(ops.min(tokens)) <= int(ops.max(tokens)) < config.n_vocab:
        raise ValueError(
            f"tokens run from {int(ops.min(tokens))} to {int(ops.max(tokens))}, but this model knows 0 to "
            f"{config.n_vocab - 1}; was the text encoded with another tokenizer?"
        )


class Bert(Part):
    """The encoder: what a token is, where it stands and in which sentence, added, normalised, and read both ways."""

    def __init__(self, config: TransformerConfig, n_segments: int = 2) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(replace(config, dropout=0.0))
        self.segments = new_embedding(n_segments, config)
        self.embedding_norm, self.dropout = new_norm(config), keras.layers.Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.pooler = new_dense(config.d_model, config.d_model)

    def call(
        self, tokens: Int[tf.Tensor, "B T"], segments: Int[tf.Tensor, "#B T"] | None = None, training: bool = False
    ) -> Float[tf.Tensor, "B T C"]:
        """The hidden state of every position, having read all others that are not `config.pad`."""
        check_tokens(tokens, self.config)
        x = self.embedding(tokens) + self.segments(ops.zeros_like(tokens) if segments is None else segments)
        mask = None if self.config.pad is None else padding_mask(tokens, self.config.pad)
        return self.encoder(self.dropout(self.embedding_norm(x), training=training), may_look=mask, training=training)

    def pool(self, hidden: Float[tf.Tensor, "B T C"]) -> Float[tf.Tensor, "B C"]:
        """The whole input as one row: the first position, which is [CLS], through a layer and tanh."""
        return ops.tanh(self.pooler(hidden[:, 0]))


class MaskedLMHead(Part):
    """From a hidden state to logits over the vocabulary: a layer, a bend, a norm, and a matrix as large as the embedding."""

    def __init__(self, config: TransformerConfig, embedding: keras.layers.Embedding | None = None) -> None:
        super().__init__()
        self.dense, self.norm = new_dense(config.d_model, config.d_model), new_norm(config)
        self.activation = ACTIVATIONS[config.activation]
        if embedding is None:
            self.decoder = new_dense(config.d_model, config.n_vocab)
        else:
            self.decoder = TiedDense(embedding, bias=True)

    def call(self, hidden: Float[tf.Tensor, "*batch C"]) -> Float[tf.Tensor, "*batch V"]:
        """Logits for these states: of all positions, or of the hidden words alone, gathered as rows."""
        return self.decoder(self.norm(self.activation(self.dense(hidden))))


class NextSentenceHead(Part):
    """From the pooled row to two logits: 0, the second sentence follows the first; 1, it comes from elsewhere."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.classify = new_dense(config.d_model, 2)

    def call(self, pooled: Float[tf.Tensor, "B C"]) -> Float[tf.Tensor, "B 2"]:
        """The two logits, in the order of the published models."""
        return self.classify(pooled)


class PreTrainingBert(Part):
    """BERT with both heads, as it is pre-trained. Called, it names every word; `follows` judges the second sentence."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.bert = config, Bert(config)
        self.masked_lm = MaskedLMHead(config, self.bert.embedding.tokens if config.tied else None)
        self.next_sentence = NextSentenceHead(config)

    def call(
        self, tokens: Int[tf.Tensor, "B T"], segments: Int[tf.Tensor, "#B T"] | None = None, training: bool = False
    ) -> Float[tf.Tensor, "B T V"]:
        """Logits over the vocabulary at every position, seen from both sides."""
        return self.masked_lm(self.bert(tokens, segments, training=training))

    def follows(
        self, tokens: Int[tf.Tensor, "B T"], segments: Int[tf.Tensor, "#B T"] | None = None
    ) -> Float[tf.Tensor, "B 2"]:
        """Two logits an input: 0, its second sentence follows its first; 1, it comes from elsewhere."""
        return self.next_sentence(self.bert.pool(self.bert(tokens, segments)))


class GPT(Part):
    """A decoder-only Transformer: every token predicts the next one from itself and what came before it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.embedding = config, TokenEmbedding(config)
        self.blocks = [TransformerBlock(config) for _ in range(config.n_layers)]
        self.norm = last_norm(config)
        if config.tied:
            self.head = TiedDense(self.embedding.tokens, bias=False)
        else:
            self.head = new_dense(config.d_model, config.n_vocab, bias=False)

    def call(self, tokens: Int[tf.Tensor, "B T"], training: bool = False) -> Float[tf.Tensor, "B T V"]:
        """Logits of the token that follows each position."""
        check_tokens(tokens, self.config)
        x, mask = self.embedding(tokens, training=training), causal_mask(tokens.shape[1])
        for block in self.blocks:
            x = block(x, may_look=mask, training=training)
        return self.head(self.norm(x))
