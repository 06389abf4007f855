"""The Transformer block: attention moves information between positions, the feed-forward layer works on each alone.

Vaswani et al. (2017), section 3. Every sub-layer adds its result to the residual stream; it reads a normalised copy of
the stream (pre-norm; Xiong et al., 2020), or the sum is normalised after it (post-norm, the original form).

Letters: B batch, N rows of a context (usually B), H heads, T positions, S key positions, C width of the model, D width of
a head. A boolean mask is True where one may look.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.attention import KVCache, MultiHeadAttention

Positions = Literal["rotary", "learned", "sinusoidal", "alibi", "none"]
Activation = Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu"]


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's approximation
    "relu": F.relu,
    "relu2": _relu2,  # So et al. (2021)
    "swiglu": F.silu,  # of the gate; Shazeer (2020)
}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The sizes and choices of a Transformer."""

    n_vocab: int  # how many tokens there are
    context: int = 128  # the longest sequence, in tokens
    d_model: int = 64  # C, the width of the residual stream
    n_heads: int = 4
    n_layers: int = 2
    d_feed_forward: int | None = None  # hidden width of the feed-forward layer; None is 4 * d_model, 0 leaves it out
    positions: Positions = "rotary"
    rotary_base: float = 10_000.0  # the slowest pair turns once in 2π * base^(1 - 2/D) tokens; small suits short texts
    dropout: float = 0.0  # the share of a sub-layer's results that training sets to 0
    bias: bool = True  # whether the attention projections have one
    tied: bool = False  # whether the output head is the embedding matrix itself
    n_kv_heads: int | None = None  # heads of keys and values; None is n_heads, fewer are shared
    norm: Literal["layer", "rms"] = "layer"
    norm_place: Literal["pre", "post"] = "pre"  # before each sub-layer, or after its result was added
    norm_eps: float = 1e-5  # keeps a norm from dividing by 0
    activation: Activation = "gelu"
    qk_norm: bool = False  # whether queries and keys are normalised before they are compared
    scaled_embedding: bool = False  # whether an embedded token is multiplied by √C, as in the original
    n_source: int | None = None  # tokens of an encoder-decoder's source; None shares one vocabulary and embedding
    pad: int | None = None  # the token that fills up short rows, at which nobody may look; None when there is none

    def __post_init__(self) -> None:
        sizes = ("n_vocab", "context", "d_model", "n_heads", "n_layers", "d_feed_forward", "n_kv_heads", "n_source")
        for name in sizes:
            least = 0 if name == "d_feed_forward" else 1
            value = getattr(self, name)
            if value is not None and not isinstance(value, Integral):
                raise TypeError(f"{name}={value!r} is no whole number; a Transformer needs at least {least}")
            if value is not None and value < least:
                raise ValueError(f"{name}={value}: a Transformer needs at least {least}")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} is not a multiple of n_heads={self.n_heads}; choose one that is")
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}; choose a divisor"
            )
        choices = {"positions": get_args(Positions), "activation": get_args(Activation)}
        for name, known in (choices | {"norm": ("layer", "rms"), "norm_place": ("pre", "post")}).items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; use one of {', '.join(map(repr, known))}")
        if self.positions == "rotary" and (self.d_model // self.n_heads) % 2:
            raise ValueError(
                f"rotary positions turn pairs of numbers, and a head of width {self.d_model // self.n_heads} "
                "does not divide into pairs; choose an even d_model // n_heads"
            )
        for name in ("rotary_base", "norm_eps", "dropout"):
            if not isinstance(getattr(self, name), Real):
                raise TypeError(f"{name}={getattr(self, name)!r} is no number; leave it out for the usual value")
        for name in ("rotary_base", "norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0; leave it out for the usual value")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is a share: 0 is off, and it stays below 1")
        if self.pad is not None and not 0 <= self.pad < min(self.n_vocab, self.n_source or self.n_vocab):
            raise ValueError(f"pad={self.pad} is not a token of the vocabulary; its numbers run from 0")


def check_length(length: int, context: int) -> None:
    """Raise ValueError when a sequence is longer than the model's context."""
    if length > context:
        raise ValueError(
            f"the sequence has {length} tokens and this model's context holds {context}; "
            "cut the text, or train with a longer context"
        )


def check_rows(tokens: Tensor) -> None:
    """Raise TypeError for what is no batch of tokens, whatever its numbers are."""
    if isinstance(tokens, Tensor) and tokens.dim() == 2 and not tokens.is_floating_point():
        return
    given = type(tokens).__name__
    if isinstance(tokens, Tensor):
        given = f"{tokens.dtype} of shape {tuple(tokens.shape)}"
    raise TypeError(
        f"tokens are whole numbers of shape (batch, length), not {given}; for one sequence use torch.tensor([ids])"
    )


def check_tokens(tokens: Tensor, n_vocab: int) -> None:
    """Raise TypeError or ValueError for what cannot be looked up; a negative number would count from a table's end."""
    check_rows(tokens)
    if not tokens.numel():
        return
    lowest, highest = map(int, tokens.aminmax())
    if lowest < 0 or highest >= n_vocab:
        raise ValueError(
            f"tokens run from {lowest} to {highest}, but this model knows 0 to {n_vocab - 1}; "
            "was the text encoded with another tokenizer?"
        )


class RotaryPositions(nn.Module):
    """Turn each pair of a query's or key's numbers by an angle that grows with the position.

    The dot product of a query at m and a key at n then depends on m - n alone. The pairs are (i, i + D/2), as in
    GPT-NeoX; the paper pairs neighbours. Source: Su et al., RoFormer (2021).
    """

    def __init__(self, d_head: int, context: int, base: float = 10_000.0) -> None:
        super().__init__()
        rates = base ** (-torch.arange(0, d_head, 2) / d_head)
        angles = torch.outer(torch.arange(context), rates)
        # Not part of the saved model: it is recomputed from the config.
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Float[Tensor, "*batch T D"], start: int = 0) -> Float[Tensor, "*batch T D"]:
        """Turn position t by the angle of `start + t`. Raises ValueError beyond the longest position of the table."""
        if start + x.shape[-2] > len(self.cos):
            raise ValueError(f"position {start + x.shape[-2] - 1} is outside the context of {len(self.cos)} positions")
        cos, sin = (table[start : start + x.shape[-2]] for table in (self.cos, self.sin))
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def sinusoidal_positions(context: int, d_model: int) -> Float[Tensor, "T C"]:
    """A row of sines and cosines for each position, to be added to the token's embedding.

    Column 2i is sin(t / 10000^(2i/C)), column 2i + 1 the cosine of the same angle. Source: Vaswani et al. (2017),
    section 3.5.
    """
    if d_model % 2:
        raise ValueError(f"d_model={d_model}: sines and cosines come in pairs; use an even width")
    rates = 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.outer(torch.arange(context), rates)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def alibi_slopes(n_heads: int) -> Float[Tensor, "H"]:
    """How fast each head's attention fades with the distance: 2^(-8/H), 2^(-16/H), ..., 2^-8.

    Source: Press, Smith & Lewis (2022), section 3; for a number of heads that is no power of 2 we use the same formula.
    """
    return 2.0 ** (-8.0 * torch.arange(1, n_heads + 1) / n_heads)


def alibi_bias(n_heads: int, T: int, S: int) -> Float[Tensor, "H T S"]:
    """What ALiBi adds to the scores: minus slope times distance. The queries are the last T of the S positions."""
    distance = (torch.arange(S - T, S)[:, None] - torch.arange(S)[None, :]).abs()
    return alibi_slopes(n_heads)[:, None, None] * -distance


def positions_mask(
    config: TransformerConfig, may_look: Bool[Tensor, "..."] | None, T: int, S: int, device: torch.device
) -> Bool[Tensor, "..."] | Float[Tensor, "..."] | None:
    """The mask as the config's attention layers need it: with ALiBi, numbers that also say how far away a key is."""
    if config.positions != "alibi":
        return may_look
    bias = alibi_bias(config.n_heads, T, S).to(device)
    return bias if may_look is None else torch.where(may_look, bias, -math.inf)


class TokenEmbedding(nn.Module):
    """A row of numbers for each token; with learned or sinusoidal positions, plus a row for its place."""

    def __init__(self, config: TransformerConfig, n_vocab: int | None = None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(n_vocab or config.n_vocab, config.d_model)
        self.positions = nn.Embedding(config.context, config.d_model) if config.positions == "learned" else None
        self.scale = math.sqrt(config.d_model) if config.scaled_embedding else 1.0
        table = sinusoidal_positions(config.context, config.d_model) if config.positions == "sinusoidal" else None
        self.register_buffer("table", table, persistent=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, tokens: Int[Tensor, "B T"], start: int = 0, padding: Int[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What enters the first block.

        start: how many columns came before, from a cache.
        padding: how many tokens at the left of each row only fill it up; the first token after them has place 0.
        """
        x = self.tokens(tokens)
        if self.scale != 1:
            x = x * self.scale
        table = self.table if self.positions is None else self.positions.weight
        if table is not None and padding is None:
            x = x + table[start : start + tokens.shape[-1]]
        elif table is not None:
            places = torch.arange(start, start + tokens.shape[-1], device=tokens.device)
            x = x + table[(places - padding[:, None]).clamp(min=0)]
        return self.dropout(x) if self.training else x


class FeedForward(nn.Module):
    """Two linear layers with a bend between them, applied to every position by itself (section 3.3).

    With "swiglu" a third layer opens and closes the hidden numbers: silu(gate(x)) * expand(x).
    """

    def __init__(self, d_model: int, d_hidden: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, d_hidden)
        self.gate = nn.Linear(d_model, d_hidden) if activation == "swiglu" else None
        self.activation = ACTIVATIONS[activation]
        self.contract = nn.Linear(d_hidden, d_model)

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """No position sees another here."""
        if self.gate is not None:
            return self.contract(self.activation(self.gate(x)) * self.expand(x))
        return self.contract(self.activation(self.expand(x)))


def new_norm(config: TransformerConfig) -> nn.LayerNorm | nn.RMSNorm:
    """The norm that the config asks for: LayerNorm (Ba et al., 2016) or RMSNorm (Zhang & Sennrich, 2019)."""
    return (nn.LayerNorm if config.norm == "layer" else nn.RMSNorm)(config.d_model, eps=config.norm_eps)


def last_norm(config: TransformerConfig) -> nn.Module:
    """The norm after the last block: a pre-norm stream was never normalised itself, a post-norm stream just was."""
    return new_norm(config) if config.norm_place == "pre" else nn.Identity()


class TransformerBlock(nn.Module):
    """One layer: attention, in a decoder cross-attention, and the feed-forward layer, each added to the residual stream.

    Pre-norm: x + layer(norm(x)). Post-norm: norm(x + layer(x)).
    """

    def __init__(self, config: TransformerConfig, *, cross: bool = False) -> None:
        super().__init__()
        rotate = None
        if config.positions == "rotary":
            rotate = RotaryPositions(config.d_model // config.n_heads, config.context, config.rotary_base)
        attention = partial(
            MultiHeadAttention,
            config.d_model,
            config.n_heads,
            n_kv_heads=config.n_kv_heads,
            bias=config.bias,
            qk_norm=config.qk_norm,
        )
        self.norm_place = config.norm_place
        self.attention_norm = new_norm(config)
        self.attention = attention(rotate=rotate)
        if cross:
            self.cross_norm, self.cross_attention = new_norm(config), attention()
        d_hidden = 4 * config.d_model if config.d_feed_forward is None else config.d_feed_forward
        self.feed_forward_norm = new_norm(config) if d_hidden else None
        self.feed_forward = FeedForward(config.d_model, d_hidden, config.activation) if d_hidden else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        cache: KVCache | None = None,
        context: Float[Tensor, "N S C"] | None = None,
        context_mask: Bool[Tensor, "..."] | None = None,
        context_cache: KVCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """One layer of the residual stream; the last three arguments are for cross-attention.

        B / N neighbouring rows may share a row of the context, as the beams of a search do.
        """
        x = self._add(x, self.attention_norm, self.attention, mask=mask, cache=cache)
        if context is not None:
            rows, told = _rows_by_context(x, len(context)), {"mask": context_mask, "cache": context_cache}
            x = self._add(rows, self.cross_norm, self.cross_attention, context=context, **told).view_as(x)
        return x if self.feed_forward is None else self._add(x, self.feed_forward_norm, self.feed_forward)

    def _add(self, x: Tensor, norm: nn.Module, layer: nn.Module, **told: Tensor | KVCache | None) -> Tensor:
        if self.norm_place == "pre":
            return x + self._dropped(layer(norm(x), **told))
        return norm(x + self._dropped(layer(x, **told)))

    def _dropped(self, x: Tensor) -> Tensor:
        """Dropout, left out where it would change nothing: of a single token its call takes longer than the sum."""
        return self.dropout(x) if self.training else x


def _rows_by_context(x: Float[Tensor, "B T C"], N: int) -> Float[Tensor, "N queries C"]:
    """All positions that read the same context as one row: in cross-attention they do not see one another."""
    if len(x) % N:
        raise ValueError(
            f"{len(x)} rows cannot share a context of {N} rows evenly; give each row one, or each group of neighbours"
        )
    return x.reshape(N, -1, x.shape[-1])


class Encoder(nn.Module):
    """Blocks in which every position may look at every other, to the left and to the right."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.norm = last_norm(config)

    def forward(
        self, x: Float[Tensor, "B S C"], mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "B S C"]:
        """Every position of the source, in the light of all others; the mask hides padding."""
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.norm(x)


class Decoder(nn.Module):
    """Blocks that look at their own past, and by cross-attention at what an encoder made of the source."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(config, cross=True) for _ in range(config.n_layers))
        self.norm = last_norm(config)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        memory: Float[Tensor, "N S C"],
        *,
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
        cache: list[tuple[KVCache, KVCache]] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Each position of the target, having read its own past and the memory.

        cache: for each block one of its own past and one of the memory.
        """
        for layer, block in enumerate(self.blocks):
            own, other = cache[layer] if cache else (None, None)
            x = block(x, mask=mask, cache=own, context=memory, context_mask=memory_mask, context_cache=other)
        return self.norm(x)


def initialise(model: nn.Module, config: TransformerConfig) -> None:
    """Keep the residual stream near size 1 whatever the width and depth; a tied embedding is small, for it also scores."""
    small = 1 / math.sqrt(config.d_model) if config.scaled_embedding else 0.02

    def start(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=small if config.tied or config.scaled_embedding else 1.0)
        elif isinstance(module, TransformerBlock) and config.norm_place == "pre":
            outs = [part.out for part in module.modules() if isinstance(part, MultiHeadAttention)]
            outs += [part.contract for part in module.modules() if isinstance(part, FeedForward)]
            for out in outs:
                # Every sub-layer of every block adds to the stream: smaller steps keep their sum in bounds.
                out.weight.data.div_(math.sqrt(len(outs) * config.n_layers))

    model.apply(start)
