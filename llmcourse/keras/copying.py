"""From torch to TensorFlow and back: weights by name, and what every layer computed.

A weight's name is its path of attributes, which is the same on both sides; only its last part differs, and a kernel is
laid the other way round. A matrix that two layers share has two names, as in torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import torch
from torch import nn

from llmcourse import attention
from llmcourse.keras.layers import DotProductAttention, TiedDense, attention_weights
from llmcourse.weights import mismatches

# What torch calls these variables of a Keras layer.
NAMES = {
    keras.layers.Dense: {"weight": "kernel", "bias": "bias"},
    keras.layers.Embedding: {"weight": "embeddings"},
    keras.layers.LayerNormalization: {"weight": "gamma", "bias": "beta"},
    keras.layers.RMSNormalization: {"weight": "scale"},
    TiedDense: {"weight": "matrix", "bias": "bias"},
}
HAND_ON = (nn.Identity, nn.Dropout, keras.layers.Identity, keras.layers.Dropout)  # what they return was recorded before


class Slot(NamedTuple):
    """A variable of the twin, and whether it lies the other way round than in torch."""

    variable: keras.Variable
    is_turned: bool

    def as_torch(self) -> torch.Tensor:
        """A copy, laid as torch lays it."""
        value = self.variable.numpy()
        return torch.from_numpy(np.array(value.T if self.is_turned else value, order="C"))


def parts(layer: keras.layers.Layer, name: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """The layer and all layers in it, each with the name that torch has for it."""
    yield name, layer
    for attribute, value in vars(layer).items():
        children = value if isinstance(value, list | tuple) else [value]
        for number, child in enumerate(children):
            if isinstance(child, keras.layers.Layer) and not attribute.startswith("_"):
                path = attribute if child is value else f"{attribute}.{number}"
                yield from parts(child, f"{name}.{path}".lstrip("."))


def slots(model: keras.layers.Layer) -> dict[str, Slot]:
    """Every variable of the twin by the name that its weight has in torch."""
    found = {}
    for name, layer in parts(model):
        for theirs, ours in NAMES.get(type(layer), {}).items():
            variable = getattr(layer, ours)
            if variable is not None:
                found[f"{name}.{theirs}".lstrip(".")] = Slot(variable, ours == "kernel")
    return found


def torch_weights(model: keras.layers.Layer) -> dict[str, torch.Tensor]:
    """The twin's weights as its torch model names and lays them; `torch_model.load_state_dict` takes them."""
    return {name: slot.as_torch() for name, slot in slots(model).items()}


def copy_weights(model: keras.layers.Layer, weights: Mapping[str, torch.Tensor] | nn.Module) -> None:
    """Put the weights of the torch model, or its `state_dict()`, into the twin.

    Raises ValueError that names every weight that is missing, unexpected or of another shape, and every shared matrix
    that has two different values; the twin is then as it was.
    """
    weights = dict(weights.state_dict() if isinstance(weights, nn.Module) else weights)
    faults, targets = mismatches(torch_weights(model), weights), slots(model)
    firsts: dict[int, str] = {}
    for name, slot in targets.items() if not faults else ():
        first = firsts.setdefault(id(slot.variable), name)
        if not torch.equal(weights[first], weights[name]):
            faults.append(f"{first} and {name} are one matrix here, and two different ones there")
    if faults:
        raise ValueError(f"these weights are of another model: {'; '.join(faults)}")
    for name, slot in targets.items():
        value = weights[name].detach().float().cpu().numpy()
        slot.variable.assign(value.T if slot.is_turned else value)


@contextmanager
def record(model: nn.Module | keras.layers.Layer) -> Iterator[dict[str, np.ndarray]]:
    """Collect what every layer of either model computes: `with record(model) as tensors: model(tokens)`.

    `tensors["blocks.0.attention.query"]` is what that layer returned, and `tensors["blocks.0.attention.weights"]` the
    attention weights (B, H, T, S), all in the order of computing; the last pass counts. Dropout is left out: it only hands
    on. Call a twin directly, not through tf.function.
    """
    watch = _watch_torch if isinstance(model, nn.Module) else _watch_twin
    tensors: dict[str, np.ndarray] = {}
    with watch(model, tensors):
        yield tensors


@contextmanager
def _watch_torch(model: nn.Module, tensors: dict[str, np.ndarray]) -> Iterator[None]:
    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            if isinstance(module, attention.DotProductAttention):
                query, key, _, mask = inputs
                weights = attention.attention_weights(query, key, mask)
                tensors[f"{name.removesuffix('attend')}weights"] = weights.detach().numpy()
            tensors[name] = output.detach().numpy()

        return hook

    layers = [(name, module) for name, module in model.named_modules() if name and not isinstance(module, HAND_ON)]
    handles = [module.register_forward_hook(note(name)) for name, module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watch_twin(model: keras.layers.Layer, tensors: dict[str, np.ndarray]) -> Iterator[None]:
    def watched(name: str, layer: keras.layers.Layer):
        def call(*inputs: tf.Tensor | None, **options: object) -> tf.Tensor:
            output = type(layer).call(layer, *inputs, **options)
            if isinstance(layer, DotProductAttention):
                query, key, _, *mask = inputs
                weights = attention_weights(query, key, mask[0] if mask else options.get("may_look"))
                tensors[f"{name.removesuffix('attend')}weights"] = weights.numpy()
            tensors[name] = output.numpy()
            return output

        return call

    layers = [(name, layer) for name, layer in parts(model) if name and not isinstance(layer, HAND_ON)]
    for name, layer in layers:
        vars(layer)["call"] = watched(name, layer)  # found before the class's own, until it is taken away
    try:
        yield
    finally:
        for _, layer in layers:
            vars(layer).pop("call", None)
