"""How many bytes a model takes, before anything is allocated.

To run, a model holds its weights and the keys and values of all positions so far. To train, it holds the weights, a gradient
for each, and what the optimiser remembers of each. Activations come on top: they depend on the batch and on what is recomputed.

Letters: L layers, B batch, K heads of keys and values, T positions, D width of a head.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from llmcourse.bert import Bert, PreTrainingBert
from llmcourse.models import GPT, count_parameters
from llmcourse.transformer import TransformerConfig

Optimiser = Literal["sgd", "momentum", "adamw"]
BYTES_OF = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5}  # per number
KEPT = {"sgd": 0, "momentum": 1, "adamw": 2}  # numbers that an optimiser remembers of each parameter


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by purpose."""

    weights: float
    cache: float = 0.0  # keys and values
    gradients: float = 0.0
    optimiser: float = 0.0  # what it remembers, and its own float32 copy of the weights where there is one

    @property
    def total(self) -> float:
        """All of it, without activations."""
        return self.weights + self.cache + self.gradients + self.optimiser


def bytes_of(dtype: str) -> float:
    """Bytes of one number. Raises ValueError for a format that is not in the list."""
    if dtype not in BYTES_OF:
        raise ValueError(f"dtype={dtype!r}; use one of {', '.join(BYTES_OF)}")
    return BYTES_OF[dtype]


def parameters_of(config: TransformerConfig, kind: type = GPT) -> int:
    """How many parameters a model of this config has; counted on shapes alone, so that size costs nothing."""
    with torch.device("meta"):
        return count_parameters(kind(config))


def cache_bytes(
    *, n_layers: int, n_kv_heads: int, d_head: int, length: int, batch: int = 1, dtype: str = "float32"
) -> float:
    """2 L B K T D numbers: a key and a value in every layer, for every head of keys, at every position.

    Query heads that share a head of keys share its cache too (grouped-query attention). Int8 and int4 leave out the few
    numbers by which they are scaled.
    """
    sizes = {"n_layers": n_layers, "n_kv_heads": n_kv_heads, "d_head": d_head, "length": length, "batch": batch}
    for name, size in sizes.items():
        if size < (least := 0 if name == "length" else 1):
            raise ValueError(f"{name}={size}: a cache has at least {least} of them")
    return 2 * n_layers * batch * n_kv_heads * length * d_head * bytes_of(dtype)


def memory_to_run(
    config: TransformerConfig, *, length: int | None = None, batch: int = 1, dtype: str = "float32", kind: type = GPT
) -> Memory:
    """What it takes to generate `length` positions (None: the whole context) in each of `batch` rows.

    An encoder (`Bert`, `PreTrainingBert`) keeps no cache; of an encoder-decoder, what it keeps of the source is not counted.
    Raises ValueError when the length is above the context.
    """
    length = config.context if length is None else length
    if length > config.context:
        raise ValueError(f"length={length} is more than the context of {config.context}; take at most that")
    weights = parameters_of(config, kind) * bytes_of(dtype)
    if issubclass(kind, (Bert, PreTrainingBert)):
        return Memory(weights=weights)
    cache = cache_bytes(
        n_layers=config.n_layers, n_kv_heads=config.n_kv_heads or config.n_heads,
        d_head=config.d_model // config.n_heads, length=length, batch=batch, dtype=dtype,
    )  # fmt: skip
    return Memory(weights=weights, cache=cache)


def memory_to_train(
    n_parameters: int, *, optimiser: Optimiser = "adamw", dtype: str = "float32", master_copy: bool = False,
    n_trained: int | None = None,
) -> Memory:  # fmt: skip
    """What it takes to train, without activations.

    dtype: of weights and gradients. master_copy: mixed precision, in which the optimiser keeps weights and moments of its
        own in float32 (Micikevicius et al., 2018). n_trained: how many parameters change, such as LoRA's; None is all.
    """
    if optimiser not in get_args(Optimiser):
        raise ValueError(f"optimiser={optimiser!r}; use one of {', '.join(get_args(Optimiser))}")
    if dtype.startswith("int") and (n_trained is None or n_trained > 0):
        raise ValueError(f"dtype={dtype!r}: whole numbers have no gradients; train in float32 or bfloat16")
    trained, each = n_parameters if n_trained is None else n_trained, bytes_of(dtype)
    own = 4.0 if master_copy else each
    kept = trained * (KEPT[optimiser] * own + (4.0 if master_copy else 0.0))
    return Memory(weights=n_parameters * each, gradients=trained * each, optimiser=kept)
