"""Latent attention: the cache keeps one short row a token, from which the keys and values of all heads are made again.

DeepSeek-AI (2024), DeepSeek-V2, section 2.1. A token's row h is pressed into a latent c of R numbers; keys and values are
linear in c. A rotation between the two would stand in the way, so places go another way: one more key of P rotated
numbers, which all heads share, and P more numbers in each query. Cached are c and that key, R + P numbers a token.

Because a key is linear in c, its matrix can be moved over to the query, and that of the values behind the attention: in
this *absorbed* form all heads attend to the latents themselves, and no key or value is ever made.

Letters: B batch, T query positions, S key positions, C width of the model, H heads, D width of a head, R width of the
latent, P width of the rotated part.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmcourse.attention import (
    DotProductAttention,
    KVCache,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from llmcourse.models import GPT
from llmcourse.transformer import RotaryPositions, TransformerConfig, initialise


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """The widths of latent attention. DeepSeek-V2 takes R = 4 D, P = D / 2."""

    d_latent: int  # R, of the row that keys and values are made from
    d_rope: int  # P, of the part that carries the place; even
    d_query_latent: int | None = None  # presses queries too, which saves memory in training only; None does not

    def __post_init__(self) -> None:
        if self.d_latent < 1 or (self.d_query_latent is not None and self.d_query_latent < 1):
            raise ValueError(
                f"d_latent={self.d_latent}, d_query_latent={self.d_query_latent}: a latent has at least 1 number"
            )
        if self.d_rope < 2 or self.d_rope % 2:
            raise ValueError(
                f"d_rope={self.d_rope}: rotary positions turn pairs of numbers; use an even width from 2 on"
            )


class LatentCache(KVCache):
    """The latents of one layer's past, in place of the keys, and its shared rotated keys, in place of the values."""


class UnequalAttention(DotProductAttention):
    """`DotProductAttention` for values of another width than the keys; hooks find it all the same."""

    def forward(
        self,
        query: Float[Tensor, "B H T D"],
        key: Float[Tensor, "B H S D"],
        value: Float[Tensor, "B H S E"],
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "B H T E"]:
        """What each head read."""
        return scaled_dot_product_attention(query, key, value, mask)


class LatentAttention(nn.Module):
    """H attentions whose keys and values are made from a latent: softmax((q·W c + r·k) / √(D + P)) V c.

    q and r are the two parts of a head's query, k the rotated key that all heads share.

    absorbed: attend to the latents themselves. The result is the same; it pays when few queries meet many keys, which is
        how a text is generated. The plain form pays when a whole text is read at once, as in training.
    """

    def __init__(self, d_model: int, n_heads: int, latent: LatentConfig, rotate: RotaryPositions) -> None:
        super().__init__()
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(
                f"d_model={d_model} cannot be cut into n_heads={n_heads} equal heads; use a multiple of n_heads"
            )
        self.n_heads, self.d_head, self.absorbed = n_heads, d_model // n_heads, False
        self.rotate = rotate
        width = n_heads * (self.d_head + latent.d_rope)
        self.query = nn.Linear(d_model, width, bias=False)
        if latent.d_query_latent is not None:
            press = nn.Linear(d_model, latent.d_query_latent, bias=False)
            spread = nn.Linear(latent.d_query_latent, width, bias=False)
            self.query = nn.Sequential(press, nn.RMSNorm(latent.d_query_latent), spread)
        self.press = nn.Linear(d_model, latent.d_latent, bias=False)
        self.latent_norm = nn.RMSNorm(latent.d_latent)
        self.rotated_key = nn.Linear(d_model, latent.d_rope, bias=False)
        self.key = nn.Linear(latent.d_latent, d_model, bias=False)
        self.value = nn.Linear(latent.d_latent, d_model, bias=False)
        self.attend = UnequalAttention()
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        cache: LatentCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Each position's blend of what it may see; the mask broadcasts against (B, H, T, S)."""
        start = 0 if cache is None else len(cache)
        content, place = split_heads(self.query(x), self.n_heads).tensor_split([self.d_head], dim=-1)
        place = self.rotate(place, start)
        latent = self.latent_norm(self.press(x))[:, None]
        turned = self.rotate(self.rotated_key(x)[:, None], start)
        if cache is not None:
            latent, turned = cache.append(latent, turned)
        read = self._absorbed if self.absorbed else self._plain
        return self.out(merge_heads(read(content, place, latent, turned, mask)))

    def _plain(
        self,
        content: Float[Tensor, "B H T D"],
        place: Float[Tensor, "B H T P"],
        latent: Float[Tensor, "B 1 S R"],
        turned: Float[Tensor, "B 1 S P"],
        mask: Tensor | None,
    ) -> Float[Tensor, "B H T D"]:
        """Make the keys and values of every head, and attend to them."""
        key, value = (split_heads(make(latent[:, 0]), self.n_heads) for make in (self.key, self.value))
        key = torch.cat([key, turned.expand(-1, self.n_heads, -1, -1)], dim=-1)
        return self.attend(torch.cat([content, place], dim=-1), key, value, mask)

    def _absorbed(
        self,
        content: Float[Tensor, "B H T D"],
        place: Float[Tensor, "B H T P"],
        latent: Float[Tensor, "B 1 S R"],
        turned: Float[Tensor, "B 1 S P"],
        mask: Tensor | None,
    ) -> Float[Tensor, "B H T D"]:
        """q·(W c) = (Wᵀq)·c, and the blend of V c is V times the blend of c."""
        by_head = {
            part: getattr(self, part).weight.unflatten(0, (self.n_heads, self.d_head)) for part in ("key", "value")
        }
        query = torch.cat([torch.einsum("bhtd,hdr->bhtr", content, by_head["key"]), place], dim=-1)
        # The kernel divides by the root of its own width, R + P; the formula by that of the plain key's.
        query = query * math.sqrt(query.shape[-1] / (self.d_head + place.shape[-1]))
        key = torch.cat([latent, turned], dim=-1).expand(-1, self.n_heads, -1, -1)
        blend = self.attend(query, key, latent.expand(-1, self.n_heads, -1, -1), mask)
        return torch.einsum("bhtr,hdr->bhtd", blend, by_head["value"])


class LatentGPT(GPT):
    """A GPT with latent attention in every block; generation, training and hooks work as with any GPT.

    `absorb` reads the matrices of keys and values: a LoRA beside them must be merged and taken out before.

    Needs `positions="rotary"`. `n_kv_heads` and `qk_norm` speak of another attention and are refused; `bias` says nothing here, there is none.
    """

    def __init__(self, config: TransformerConfig, latent: LatentConfig) -> None:
        if config.positions != "rotary":
            raise ValueError(f"positions={config.positions!r}: latent attention has a key for places; use 'rotary'")
        if config.n_kv_heads is not None or config.qk_norm:
            raise ValueError(
                "latent attention shares one latent and has its own norm; leave out n_kv_heads and qk_norm"
            )
        super().__init__(config)
        self.latent = latent
        for block in self.blocks:
            rotate = RotaryPositions(latent.d_rope, config.context, config.rotary_base)
            block.attention = LatentAttention(config.d_model, config.n_heads, latent, rotate)
            initialise(block.attention, config)
            if config.norm_place == "pre":  # small steps, as `initialise` gives each of a block's two sub-layers
                block.attention.out.weight.data.div_(math.sqrt(2 * config.n_layers))

    def new_cache(self) -> list[KVCache]:
        """An empty cache, one part a layer, of R + P numbers a token."""
        return [LatentCache() for _ in self.blocks]

    def absorb(self, absorbed: bool = True) -> "LatentGPT":
        """Attend to the latents themselves from now on, or no longer. Returns the model itself."""
        for block in self.blocks:
            block.attention.absorbed = absorbed
        return self
