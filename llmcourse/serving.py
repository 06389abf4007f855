"""Inference at scale: what the cache takes, and how fast a machine can generate before anything is measured.

A step of generation gives each of B texts one token. For that the machine reads every weight once, whatever B is, and of
each text its whole cache; it computes 2 operations for each weight and text, and attention's. The step takes as long as
the longer of the two, reading or computing (the roofline: Williams et al., 2009). Few texts wait for memory, so more of
them come nearly for free, until their caches or the cores are what takes the time. Source: Pope et al. (2023), section 2.

Letters: B texts, T tokens so far in each, C width of the model, L layers, K heads of keys and values, D width of a head.
"""

from dataclasses import dataclass

from llmcourse.footprint import Number
from llmcourse.latent import LatentConfig
from llmcourse.planning import Machine, parameters_of
from llmcourse.transformer import TransformerConfig


def cache_numbers(config: TransformerConfig, latent: LatentConfig | None = None) -> int:
    """Numbers that a model's cache holds for each token: 2 L K D, or with latent attention L (R + P).

    K is the number of heads (multi-head), fewer (grouped-query), or 1 (multi-query). Source: DeepSeek-AI (2024), table 1.
    """
    if latent is not None:
        return config.n_layers * (latent.d_latent + latent.d_rope)
    heads = config.n_heads if config.n_kv_heads is None else config.n_kv_heads
    return 2 * config.n_layers * heads * config.d_model // config.n_heads


def cache_bytes(
    config: TransformerConfig, tokens: int = 1, *, latent: LatentConfig | None = None, bytes_each: Number = 2
) -> Number:
    """What the cache takes after so many tokens, of all texts together. Our own models have 4 bytes a number."""
    return tokens * bytes_each * cache_numbers(config, latent)


def read_parameters(config: TransformerConfig) -> int:
    """The weights that every token meets: all but the tables of which it looks up one row."""
    tables = 0 if config.tied else config.n_vocab * config.d_model
    return parameters_of(config) - tables - (config.context * config.d_model if config.positions == "learned" else 0)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """One step of generation of B texts on one machine, as an estimate: from above where it waits for memory, and
    for the cores as good as the machine's `utilisation` is."""

    batch: int  # B
    weight_bytes: Number  # read once a step
    cache_bytes: Number  # read in a step, of all texts
    flops: Number  # of a step
    memory_seconds: float  # to read both
    compute_seconds: float
    fits: bool  # whether weights and caches are no more than the machine's memory

    @property
    def step_seconds(self) -> float:
        """Between two tokens of a text."""
        return max(self.memory_seconds, self.compute_seconds)

    @property
    def tokens_a_second(self) -> float:
        """Of all texts together."""
        return self.batch / self.step_seconds

    @property
    def intensity(self) -> float:
        """Floating-point operations for each byte read."""
        return self.flops / (self.weight_bytes + self.cache_bytes)

    @property
    def bound(self) -> str:
        """What the step waits for: "memory" or "compute"."""
        return "memory" if self.memory_seconds >= self.compute_seconds else "compute"


def decoding(
    config: TransformerConfig,
    machine: Machine,
    batch: int,
    length: int,
    *,
    weight_bytes: Number = 2,
    cache_bytes_each: Number = 2,
) -> Decoding:
    """A step of `batch` texts of `length` tokens each.

    weight_bytes: of each weight; 1 after `quantise`, 4 for our own models. The machine multiplies at its peak times its
    utilisation, and reads at its full bandwidth.
    """
    if batch < 1 or length < 0:
        raise ValueError(f"batch={batch}, length={length}: a step is of at least 1 text, of at least 0 tokens")
    parameters = read_parameters(config)
    weights = parameters * weight_bytes
    caches = cache_bytes(config, batch * length, bytes_each=cache_bytes_each)
    # Scores and the blend: a product of two numbers and a sum, for each token so far, layer and number of the width.
    flops = batch * (2 * parameters + 4 * config.n_layers * length * config.d_model)
    return Decoding(
        batch=batch,
        weight_bytes=weights,
        cache_bytes=caches,
        flops=flops,
        memory_seconds=(weights + caches) / machine.bandwidth,
        compute_seconds=flops / (machine.flops * machine.utilisation),
        fits=parameters_of(config) * weight_bytes + caches <= machine.memory,
    )


def ridge(machine: Machine, weight_bytes: Number = 2) -> float:
    """The batch from which a step waits for the cores and no longer for the weights, if there were no caches."""
    return machine.flops * machine.utilisation * weight_bytes / 2 / machine.bandwidth
