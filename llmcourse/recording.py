"""Watching a model while it computes, and changing what a head says to see whether it matters.

Everything here is done by hooks on `DotProductAttention`: a model that nobody watches does no extra work, and a watched
model computes the same output, bit for bit.

Letters: B batch, H heads, T query positions, S key positions, D width of a head.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.attention import DotProductAttention, attention_weights


def _attention_layers(model: nn.Module) -> dict[str, DotProductAttention]:
    """The attention layers by name, such as "blocks.0.attention"; "" when the model is itself one layer."""
    layers = {
        name.removesuffix("attend").removesuffix("."): module
        for name, module in model.named_modules()
        if isinstance(module, DotProductAttention)
    }
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no attention layer of this course to watch; give a model that has"
        )
    return layers


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Float[Tensor, "B H T S"]]]:
    """Collect the attention weights of every layer: `with record_attention(model) as maps: model(tokens)`.

    `maps["blocks.0.attention"]` is then of shape (B, H, T, S); the last pass through the model counts.
    """
    maps: dict[str, Tensor] = {}

    def watch(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            query, key, _, mask = inputs
            maps[name] = attention_weights(query, key, mask).detach()

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in _attention_layers(model).items()]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


class HeadInputs(NamedTuple):
    """What the heads of one layer were given: queries and keys as they were compared, after any rotation."""

    query: Float[Tensor, "B H T D"]
    key: Float[Tensor, "B H S D"]
    value: Float[Tensor, "B H S D"]
    mask: Tensor | None  # as the layer was given it; None hides nothing

    def head(self, number: int, row: int = 0) -> "HeadInputs":
        """One head of one sentence: query (T, D), key and value (S, D), mask (T, S) or None."""
        B, H, T, _ = self.query.shape
        if not (0 <= number < H and 0 <= row < B):
            raise ValueError(f"head {number} of row {row} was not recorded: there are {H} heads and {B} rows, from 0")
        mask = self.mask
        if mask is not None:
            mask = mask.broadcast_to(B, H, T, self.key.shape[-2])[row, number]
        return HeadInputs(self.query[row, number], self.key[row, number], self.value[row, number], mask)


@contextmanager
def record_heads(model: nn.Module) -> Iterator[dict[str, HeadInputs]]:
    """Collect every layer's queries, keys and values: `with record_heads(model) as heads: model(tokens)`.

    `heads["blocks.0.attention"].query` is then of shape (B, H, T, D); the last pass through the model counts. Where
    query heads share keys and values, each query head is shown with those that it reads.
    """
    heads: dict[str, HeadInputs] = {}

    def watch(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            query, key, value, mask = inputs
            heads[name] = HeadInputs(
                query.detach(), key.detach(), value.detach(), None if mask is None else mask.detach()
            )

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in _attention_layers(model).items()]
    try:
        yield heads
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def ablate_heads(model: nn.Module, heads: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Silence heads while the block runs: `with ablate_heads(model, {"blocks.1.attention": [0]}): model(tokens)`.

    A silenced head says the same at every position: the mean of what it says over the positions of the whole batch
    (mean ablation). It keeps its usual size and loses its content. Raises ValueError for a layer or a head that the
    model does not have.
    """
    layers = _attention_layers(model)
    for name in heads:
        if name not in layers:
            raise ValueError(f"there is no attention layer {name!r}; this model has {', '.join(layers)}")

    def silence(chosen: Sequence[int]):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
            if not all(0 <= head < output.shape[1] for head in chosen):
                raise ValueError(
                    f"heads {list(chosen)} are asked for, and this layer has heads 0 to {output.shape[1] - 1}"
                )
            changed = output.clone()
            chosen_heads = torch.tensor(list(chosen), dtype=torch.long)
            changed[:, chosen_heads] = output[:, chosen_heads].mean(dim=(0, 2), keepdim=True)
            return changed

        return hook

    handles = [layers[name].register_forward_hook(silence(chosen)) for name, chosen in heads.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def logit_lens(model: nn.Module, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "layers B T V"]:
    """What the model would say if it stopped early: its last norm and its head, read on the residual stream.

    The first of the L + 1 rows is the embedding alone, the next what leaves the first block; the last row is a
    GPT's own logits (not an `ExpertGPT`'s, whose experts come after its blocks). Source: nostalgebraist, "Interpreting GPT:
    the logit lens" (2020). Raises ValueError for a model without `blocks`, `norm` and `head`.
    """
    if not all(hasattr(model, part) for part in ("blocks", "norm", "head")):
        raise ValueError(f"{type(model).__name__} has no blocks, norm and head to stop in between; use a GPT")
    streams: list[Tensor] = []
    handles = [model.blocks[0].register_forward_pre_hook(lambda block, inputs: streams.append(inputs[0]))]
    handles += [
        block.register_forward_hook(lambda block, inputs, output: streams.append(output)) for block in model.blocks
    ]
    was_training = model.training
    try:
        model.eval()(tokens)
        return torch.stack([model.head(model.norm(stream)) for stream in streams])
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
