"""Attention and the Transformer block in TensorFlow: the twins of `attention.py` and `transformer.py`.

Each layer is a Keras layer with the attributes of its torch twin, so that a weight has the same name on both sides.

Letters: B batch, H heads, T positions, S key positions, C width of the model, D width of a head, V vocabulary. A boolean
mask is True where one may look. beartype, which checks the shapes in the tests, knows a hint with `| None` by its text
alone; so such a hint reads a little otherwise here than in the torch twin.
"""

import inspect
import math
from collections.abc import Callable

import keras
import tensorflow as tf
import torch
from jaxtyping import Bool, Float, Int
from keras import ops

from llmcourse.transformer import TransformerConfig, sinusoidal_positions

ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": lambda x: ops.gelu(x, approximate=False),  # with Φ itself; Keras would take the tanh formula
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "relu": ops.relu,
}
HIDDEN = -1e9  # the score of a key at which nobody may look: e to this power is 0


def check_config(config: TransformerConfig) -> None:
    """Raise ValueError for a choice of the config that the twin does not have."""
    shares = config.n_kv_heads not in (None, config.n_heads)
    refused = {
        f"positions={config.positions!r}": config.positions == "alibi",
        f"activation={config.activation!r}": config.activation not in ACTIVATIONS,
        f"n_kv_heads={config.n_kv_heads}": shares,
        "qk_norm=True": config.qk_norm,
    }
    found = [choice for choice, is_refused in refused.items() if is_refused]
    if found:
        raise ValueError(f"the TensorFlow twin has no {', '.join(found)}; use the torch model, or leave it out")


def attention_weights(
    query: Float[tf.Tensor, "*batch T D"],
    key: Float[tf.Tensor, "*batch S D"],
    mask: Bool[tf.Tensor, "*mask"] | None = None,
) -> Float[tf.Tensor, "*batch T S"]:
    """softmax(QKᵀ/√D). A hidden key gets exactly 0, and a query that may look nowhere gives 0 to every key."""
    scores = ops.matmul(query, ops.swapaxes(key, -2, -1)) / math.sqrt(query.shape[-1])
    if mask is None:
        return tf.nn.softmax(scores)  # Keras's own would warn of a sequence of one token
    return ops.where(mask, tf.nn.softmax(ops.where(mask, scores, HIDDEN)), 0.0)


def scaled_dot_product_attention(
    query: Float[tf.Tensor, "*batch T D"],
    key: Float[tf.Tensor, "*batch S D"],
    value: Float[tf.Tensor, "*batch S E"],
    mask: Bool[tf.Tensor, "*mask"] | None = None,
) -> Float[tf.Tensor, "*batch T E"]:
    """Each query's blend of the values."""
    return ops.matmul(attention_weights(query, key, mask), value)


def causal_mask(T: int) -> Bool[tf.Tensor, "T T"]:
    """Each token may look at itself and at what came before it."""
    return ops.tril(ops.ones((T, T), dtype="bool"))


def padding_mask(tokens: Int[tf.Tensor, "B S"], pad: int) -> Bool[tf.Tensor, "B 1 1 S"]:
    """Nobody may look at padding. The two middle axes stretch over heads and queries."""
    return ops.not_equal(tokens, pad)[:, None, None, :]


def split_heads(x: Float[tf.Tensor, "B T C"], n_heads: int) -> Float[tf.Tensor, "B H T D"]:
    """Cut the width into heads, C = H * D: head h sees columns h * D to (h + 1) * D."""
    return ops.transpose(ops.reshape(x, (-1, x.shape[1], n_heads, x.shape[2] // n_heads)), (0, 2, 1, 3))


def merge_heads(x: Float[tf.Tensor, "B H T D"]) -> Float[tf.Tensor, "B T C"]:
    """Lay the heads side by side again, C = H * D."""
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, x.shape[2], x.shape[1] * x.shape[3]))


class Part(keras.layers.Layer):
    """A layer whose weights are there as soon as it is made, as in torch; Keras would wait for the first call.

    Our layers call their mask `may_look`: an argument of the name `mask` is one that Keras hands on by itself.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__init__ = inspect.unwrap(cls.__init__)  # Keras reads its arguments' names, which a wrapper would hide

    def __init__(self) -> None:
        super().__init__()
        self.built = True


def new_dense(d_in: int, d_out: int, *, bias: bool = True, shrink: float = 1.0) -> keras.layers.Dense:
    """A Dense layer, its kernel of shape (d_in, d_out), started as this course starts a Linear."""
    start = keras.initializers.RandomNormal(stddev=shrink / math.sqrt(d_in))
    layer = keras.layers.Dense(d_out, use_bias=bias, kernel_initializer=start)
    layer.build((None, d_in))
    return layer


def new_embedding(n_rows: int, config: TransformerConfig) -> keras.layers.Embedding:
    """A row for each number, started as this course does: small where it also scores or is scaled up."""
    small = 1 / math.sqrt(config.d_model) if config.scaled_embedding else 0.02
    start = keras.initializers.RandomNormal(stddev=small if config.tied or config.scaled_embedding else 1.0)
    layer = keras.layers.Embedding(n_rows, config.d_model, embeddings_initializer=start)
    layer.build()
    return layer


def new_norm(config: TransformerConfig) -> keras.layers.Layer:
    """The norm that the config asks for, with the config's epsilon."""
    kind = keras.layers.LayerNormalization if config.norm == "layer" else keras.layers.RMSNormalization
    layer = kind(epsilon=config.norm_eps)
    layer.build((None, None, config.d_model))
    return layer


def last_norm(config: TransformerConfig) -> keras.layers.Layer:
    """The norm after the last block: a pre-norm stream was never normalised itself, a post-norm stream just was."""
    return new_norm(config) if config.norm_place == "pre" else keras.layers.Identity()


class TiedDense(Part):
    """The embedding matrix turned round: one number for each token of the vocabulary."""

    def __init__(self, embedding: keras.layers.Embedding, *, bias: bool) -> None:
        super().__init__()
        self._embedding = embedding
        self.bias = self.add_weight(shape=(embedding.input_dim,), initializer="zeros", name="bias") if bias else None

    @property
    def matrix(self) -> keras.Variable:
        """The shared matrix (V, C), which lies as torch's does."""
        return self._embedding.embeddings

    def call(self, x: Float[tf.Tensor, "*batch C"]) -> Float[tf.Tensor, "*batch V"]:
        """How well each token's row fits the state."""
        scores = ops.matmul(x, ops.transpose(self.matrix))
        return scores if self.bias is None else scores + self.bias


class RotaryPositions(Part):
    """Turn each pair (i, i + D/2) of a query's or key's numbers by an angle that grows with the position."""

    def __init__(self, d_head: int, context: int, base: float = 10_000.0) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(context), base ** (-torch.arange(0, d_head, 2) / d_head))
        self.cos, self.sin = angles.cos().numpy(), angles.sin().numpy()

    def call(self, x: Float[tf.Tensor, "B H T D"]) -> Float[tf.Tensor, "B H T D"]:
        """Turn position t by the angle of t."""
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        first, second = ops.split(x, 2, axis=-1)
        return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class DotProductAttention(Part):
    """`scaled_dot_product_attention` as a layer without weights: the place where `record` watches the heads."""

    def call(
        self,
        query: Float[tf.Tensor, "B H T D"],
        key: Float[tf.Tensor, "B H S D"],
        value: Float[tf.Tensor, "B H S D"],
        may_look: Bool[tf.Tensor, "*mask"] | None = None,
    ) -> Float[tf.Tensor, "B H T D"]:
        """What each head read, before the heads are laid side by side."""
        return scaled_dot_product_attention(query, key, value, may_look)


class MultiHeadAttention(Part):
    """H attentions side by side, each on its own slice of the projected width; `out` mixes what they read."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        C, bias = config.d_model, config.bias
        self.n_heads, self.rotate = config.n_heads, None
        if config.positions == "rotary":
            self.rotate = RotaryPositions(C // config.n_heads, config.context, config.rotary_base)
        self.query, self.key, self.value = (new_dense(C, C, bias=bias) for _ in range(3))
        self.attend = DotProductAttention()
        self.out = new_dense(C, C, bias=bias, shrink=_shrink(config))

    def call(
        self, x: Float[tf.Tensor, "B T C"], may_look: Bool[tf.Tensor, "*mask"] | None = None
    ) -> Float[tf.Tensor, "B T C"]:
        """Each position's blend of what it may see; `may_look` broadcasts against (B, H, T, T)."""
        query, key, value = (split_heads(part(x), self.n_heads) for part in (self.query, self.key, self.value))
        if self.rotate is not None:
            query, key = self.rotate(query), self.rotate(key)
        return self.out(merge_heads(self.attend(query, key, value, may_look)))


def _shrink(config: TransformerConfig) -> float:
    # Every sub-layer of every block adds to a pre-norm stream: smaller steps keep their sum in bounds.
    n_added = config.n_layers * (1 if config.d_feed_forward == 0 else 2)
    return 1 / math.sqrt(n_added) if config.norm_place == "pre" else 1.0


class FeedForward(Part):
    """Two Dense layers with a bend between them, applied to every position by itself."""

    def __init__(self, config: TransformerConfig, d_hidden: int) -> None:
        super().__init__()
        self.expand = new_dense(config.d_model, d_hidden)
        self.activation = ACTIVATIONS[config.activation]
        self.contract = new_dense(d_hidden, config.d_model, shrink=_shrink(config))

    def call(self, x: Float[tf.Tensor, "*batch C"]) -> Float[tf.Tensor, "*batch C"]:
        """No position sees another here."""
        return self.contract(self.activation(self.expand(x)))


class TransformerBlock(Part):
    """Attention and the feed-forward layer, each added to the residual stream.

    Pre-norm: x + layer(norm(x)). Post-norm: norm(x + layer(x)).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        check_config(config)
        self.norm_place = config.norm_place
        self.attention_norm, self.attention = new_norm(config), MultiHeadAttention(config)
        d_hidden = 4 * config.d_model if config.d_feed_forward is None else config.d_feed_forward
        self.feed_forward_norm = new_norm(config) if d_hidden else None
        self.feed_forward = FeedForward(config, d_hidden) if d_hidden else None
        self.dropout = keras.layers.Dropout(config.dropout)

    def call(
        self, x: Float[tf.Tensor, "B T C"], may_look: Bool[tf.Tensor, "*mask"] | None = None, training: bool = False
    ) -> Float[tf.Tensor, "B T C"]:
        """One layer of the residual stream; with `training`, dropout is on."""
        x = self._add(x, self.attention_norm, lambda y: self.attention(y, may_look=may_look), training)
        return x if self.feed_forward is None else self._add(x, self.feed_forward_norm, self.feed_forward, training)

    def _add(self, x: tf.Tensor, norm: keras.layers.Layer, layer: Callable, training: bool) -> tf.Tensor:
        if self.norm_place == "pre":
            return x + self.dropout(layer(norm(x)), training=training)
        return norm(x + self.dropout(layer(x), training=training))


class TokenEmbedding(Part):
    """A row of numbers for each token; with learned or sinusoidal positions, plus a row for its place."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.tokens = new_embedding(config.n_vocab, config)
        self.positions = new_embedding(config.context, config) if config.positions == "learned" else None
        is_fixed = config.positions == "sinusoidal"
        self.table = sinusoidal_positions(config.context, config.d_model).numpy() if is_fixed else None
        self.scale = math.sqrt(config.d_model) if config.scaled_embedding else 1.0
        self.dropout = keras.layers.Dropout(config.dropout)

    def call(self, tokens: Int[tf.Tensor, "B T"], training: bool = False) -> Float[tf.Tensor, "B T C"]:
        """What enters the first block."""
        x, T = self.tokens(tokens) * self.scale, tokens.shape[1]
        if self.positions is not None:
            x = x + self.positions.embeddings[:T]
        elif self.table is not None:
            x = x + self.table[:T]
        return self.dropout(x, training=training)


class Encoder(Part):
    """Blocks in which every position may look at every other, to the left and to the right."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = [TransformerBlock(config) for _ in range(config.n_layers)]
        self.norm = last_norm(config)

    def call(
        self, x: Float[tf.Tensor, "B S C"], may_look: Bool[tf.Tensor, "*mask"] | None = None, training: bool = False
    ) -> Float[tf.Tensor, "B S C"]:
        """Every position, in the light of all others; `may_look` hides padding."""
        for block in self.blocks:
            x = block(x, may_look=may_look, training=training)
        return self.norm(x)
