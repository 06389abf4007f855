"""Attention: a soft look-up in which every token asks all tokens it may see, and blends their answers.

The formula is softmax(QKᵀ/√D)V of Vaswani et al. (2017), section 3.2. `attention_weights` is the formula in plain
sight; `scaled_dot_product_attention` is the same result from torch's fused kernel.

Letters: B batch, T query positions, S key positions, H heads, D width of one head, C = H * D width of the model.
A boolean mask is True where one may look. A mask of numbers is added to the scores; there -inf hides.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_ROOM = 64  # positions for which a cache makes room at least
SHORT = 512  # positions up to which a processor attends faster in 16 bits when the formula is written out
Mask = (
    Bool[Tensor, "*#mask T S"] | Bool[Tensor, "*#mask 1 S"] | Float[Tensor, "*#mask T S"] | Float[Tensor, "*#mask 1 S"]
)


def attention_weights(
    query: Float[Tensor, "*batch T D"],
    key: Float[Tensor, "*batch S D"],
    mask: Mask | None = None,
) -> Float[Tensor, "*batch T S"]:
    """softmax(QKᵀ/√D): how much of its attention each query gives to each key. Every row sums to 1.

    A hidden key gets exactly 0. A query that may look nowhere gives 0 to every key: it has nothing to blend.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is None:
        return scores.softmax(dim=-1)
    if mask.is_floating_point():
        scores, mask = scores + mask, mask != -math.inf
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    # A row that is -inf throughout has no softmax (0/0, which is NaN), so hidden keys are set to 0 once more.
    return weights.masked_fill(~mask, 0.0)


def scaled_dot_product_attention(
    query: Float[Tensor, "*batch T D"],
    key: Float[Tensor, "*batch S D"],
    value: Float[Tensor, "*batch S E"],
    mask: Mask | None = None,
) -> Float[Tensor, "*batch T E"]:
    """`attention_weights(query, key, mask) @ value`, by the fused kernel, which never stores the weights.

    Told that a mask is the causal one, the kernel leaves out the hidden half of the work: that is worth a look at the
    mask of a long text. Short texts in 16 bits are written out, where a processor computes: the kernel's way back is
    three times slower there. A single query, a token that is being generated, has no way back.
    """
    T, S = query.shape[-2], key.shape[-2]
    if T > 1 and S <= SHORT and _sixteen_bits(query):
        return _written_out(query, key, value, mask)
    if mask is not None and query.dtype == torch.float64 and mask.is_floating_point():
        mask = mask.double()  # the kernel misreads one of 32 bits beside queries of 64
    is_causal = mask is not None and not torch.compiler.is_compiling() and T == S > SHORT and _is_causal(mask)
    return F.scaled_dot_product_attention(query, key, value, None if is_causal else mask, is_causal=is_causal)


def _sixteen_bits(query: Tensor) -> bool:
    """Whether this is computed in bfloat16 on a processor: by its own type, or by an autocast around it."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return query.device.type == "cpu" and (autocast or query.dtype == torch.bfloat16)


def _written_out(
    query: Float[Tensor, "*batch T D"],
    key: Float[Tensor, "*batch S D"],
    value: Float[Tensor, "*batch S E"],
    mask: Mask | None,
) -> Float[Tensor, "*batch T E"]:
    """The formula in bfloat16, with as few passes over the scores as it can be computed in."""
    with torch.autocast("cpu", enabled=False):
        query, key, value = (part.bfloat16() for part in (query, key, value))
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
        if mask is None:
            return scores.softmax(dim=-1) @ value
        if not mask.is_floating_point():
            mask = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
        blind = (mask == -math.inf).all(dim=-1, keepdim=True)  # rows that may look nowhere read nothing
        added = mask.masked_fill(blind, 0.0).to(scores.dtype)
        return ((scores + added).softmax(dim=-1) @ value).masked_fill(blind, 0.0)


def _is_causal(mask: Mask) -> bool:
    if mask.dtype != torch.bool or mask.dim() != 2 or mask.is_meta:
        return False
    known = _known_causal_mask(len(mask), mask.device)
    if mask.is_contiguous() and len(mask) % 8 == 0 and mask.storage_offset() % 8 == 0:
        mask, known = mask.view(torch.int64), known.view(torch.int64)  # eight places at a glance
    return torch.equal(mask, known)


@lru_cache(maxsize=2)
def _known_causal_mask(T: int, device: torch.device) -> Bool[Tensor, "T T"]:
    return causal_mask(T, device=device)


def causal_mask(T: int, S: int | None = None, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
    """Each token may look at itself and at what came before it.

    The T queries are the *last* T of the S positions, so the mask is right also when earlier keys come from a cache.
    (torch's `is_causal=True` counts from the first position instead, which is another mask when T != S.)
    """
    S = T if S is None else S
    if S < T:
        raise ValueError(
            f"causal_mask: {T} queries cannot be the last positions of only {S} keys; S must be at least T"
        )
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(diagonal=S - T)


def padding_mask(tokens: Int[Tensor, "B S"], pad: int) -> Bool[Tensor, "B 1 1 S"]:
    """Nobody may look at padding. The two middle axes stretch over heads and queries; `&` joins it to another mask."""
    return (tokens != pad)[:, None, None]


class KVCache:
    """The keys and values of one layer's past, so that generating a token costs one step and not a whole sequence.

    They lie in a store that is made twice as long as needed when it is full, so that the next tokens are written behind
    the others, which need not be copied. `key` and `value` are the part that is filled, or None.

    makes_room: False for what will not grow, such as the source of a translation: the store is then just long enough.
    """

    def __init__(self, *, makes_room: bool = True) -> None:
        self._length = 0
        self._makes_room = makes_room
        self._keys: Float[Tensor, "B H N D"] | None = None
        self._values: Float[Tensor, "B H N E"] | None = None

    @property
    def key(self) -> Float[Tensor, "B H S D"] | None:
        """The keys of all positions so far."""
        return None if self._keys is None else self._keys[..., : self._length, :]

    @property
    def value(self) -> Float[Tensor, "B H S E"] | None:
        """The values of all positions so far."""
        return None if self._values is None else self._values[..., : self._length, :]

    def __len__(self) -> int:
        """How many positions are stored: the position of the next token."""
        return self._length

    @property
    def room(self) -> int:
        """How many positions can be added before a longer store has to be made."""
        return 0 if self._keys is None else self._keys.shape[-2] - self._length

    def append(
        self, key: Float[Tensor, "B H T D"], value: Float[Tensor, "B H T E"]
    ) -> tuple[Float[Tensor, "B H S D"], Float[Tensor, "B H S E"]]:
        """Add T positions, and return the keys and values of all positions so far."""
        start, self._length = self._length, self._length + key.shape[-2]
        self._keys = _written(self._keys, key, start, make_room=self._makes_room)
        self._values = _written(self._values, value, start, make_room=self._makes_room)
        return self.key, self.value

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Keep these rows of the batch, in this order; a row may be taken twice. Beam search needs it at every token.

        All that is stored is copied then, so from now on the cache makes no room, which would be copied with it.
        """
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self.key.index_select(0, rows), self.value.index_select(0, rows)
            self._makes_room = False

    def crop(self, length: int) -> None:
        """Forget all but the first `length` positions; a shorter cache stays as it is. Speculative decoding needs it.

        Raises ValueError for a length below 0.
        """
        if length < 0:
            raise ValueError(f"length={length}: a cache keeps 0 positions or more; count from its beginning")
        self._length = min(self._length, length)


def _written(store: Tensor | None, new: Tensor, start: int, *, make_room: bool) -> Tensor:
    """The store with the new positions from `start` on; a longer one where there is no room for them.

    Where gradients are kept track of, nothing may be written over: the store is then no longer than what it holds.
    """
    if store is not None and store.requires_grad:
        make_room = False  # a backward pass may still read it
    if torch.is_grad_enabled() or not make_room:
        # Laid out head by head once, for it is read at every token.
        return new.contiguous() if store is None else torch.cat([store[..., :start, :], new], dim=-2)
    end = start + new.shape[-2]
    if store is None or store.shape[-2] < end:
        *batch, _, width = new.shape
        longer = new.new_empty(*batch, max(2 * end, LEAST_ROOM), width)
        if store is not None:
            longer[..., :start, :] = store[..., :start, :]
        store = longer
    store[..., start:end, :] = new
    return store


class DotProductAttention(nn.Module):
    """`scaled_dot_product_attention` as a module without weights: the place where hooks watch or change the heads."""

    def forward(
        self,
        query: Float[Tensor, "B H T D"],
        key: Float[Tensor, "B H S D"],
        value: Float[Tensor, "B H S D"],
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "B H T D"]:
        """What each head read, before the heads are laid side by side."""
        return scaled_dot_product_attention(query, key, value, mask)


def split_heads(x: Float[Tensor, "B T C"], n_heads: int) -> Float[Tensor, "B H T D"]:
    """Cut the width into heads, C = H * D: head h sees columns h * D to (h + 1) * D."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B H T D"]) -> Float[Tensor, "B T C"]:
    """Lay the heads side by side again, C = H * D."""
    return x.transpose(1, 2).flatten(2)


def share_heads(x: Float[Tensor, "B K S D"], n_heads: int) -> Float[Tensor, "B H S D"]:
    """Let groups of H / K neighbouring query heads read the same key (or value) head, by repeating it."""
    return x if x.shape[1] == n_heads else repeat(x, "B K S D -> B (K group) S D", group=n_heads // x.shape[1])


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each on its own slice of the projected width; `out` mixes what they read.

    n_kv_heads: how many heads the keys and values have. Fewer than `n_heads` makes a cache smaller: several query heads
        then share one (grouped-query attention; with 1, multi-query). Sources: Shazeer (2019), Ainslie et al. (2023).
    rotate: `rotate(x, start)` turns queries and keys by their position (see `transformer.RotaryPositions`); None leaves
        the layer blind to order.
    qk_norm: bring queries and keys of every head to size √D before they are compared (after Henry et al., 2020, who
        bring them to length 1 and learn one scale).

    With `context` the keys and values come from another sequence: cross-attention.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        bias: bool = True,
        rotate: Callable[[Tensor, int], Tensor] | None = None,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(
                f"d_model={d_model} cannot be cut into n_heads={n_heads} equal heads; use a multiple of n_heads"
            )
        self.n_heads, self.n_kv_heads = n_heads, n_heads if n_kv_heads is None else n_kv_heads
        if self.n_kv_heads < 1 or n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads={n_heads} cannot share n_kv_heads={n_kv_heads} evenly; use a divisor of n_heads")
        d_head = d_model // n_heads
        self.rotate = rotate
        self.query = nn.Linear(d_model, d_model, bias=bias)
        self.key = nn.Linear(d_model, self.n_kv_heads * d_head, bias=bias)
        self.value = nn.Linear(d_model, self.n_kv_heads * d_head, bias=bias)
        self.attend = DotProductAttention()
        self.out = nn.Linear(d_model, d_model, bias=bias)
        self.query_norm = nn.RMSNorm(d_head) if qk_norm else None
        self.key_norm = nn.RMSNorm(d_head) if qk_norm else None

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        context: Float[Tensor, "B S C"] | None = None,
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Each position's blend of what it may see; the mask broadcasts against (B, H, T, S).

        A cache remembers the layer's own past. Of a context, which does not grow, it keeps what the first call read.
        """
        start = 0 if cache is None else len(cache)
        query = split_heads(self.query(x), self.n_heads)
        if self.query_norm is not None:
            query = self.query_norm(query)
        if self.rotate is not None and context is None:
            query = self.rotate(query, start)
        if context is not None and cache is not None and start:
            key, value = cache.key, cache.value
        else:
            key, value = self._keys_and_values(x if context is None else context, start, context is None)
            if cache is not None:
                key, value = cache.append(key, value)
        if self.n_kv_heads != self.n_heads:
            key, value = share_heads(key, self.n_heads), share_heads(value, self.n_heads)
        return self.out(merge_heads(self.attend(query, key, value, mask)))

    def _keys_and_values(
        self, source: Float[Tensor, "B S C"], start: int, is_own: bool
    ) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        """What the source's positions hold up and say; only a sequence's own positions are turned."""
        key = split_heads(self.key(source), self.n_kv_heads)
        if self.key_norm is not None:
            key = self.key_norm(key)
        if self.rotate is not None and is_own:
            key = self.rotate(key, start)
        return key, split_heads(self.value(source), self.n_kv_heads)
