"""The memory of a training, counted before it runs: weights, gradients, what the optimiser remembers, and activations.

Activations are what the forward pass keeps for the backward pass. They are counted twice over, for two kinds of machine:

`kept_bytes`     our own models in 32 bits as torch runs them on a CPU, number by number, with its fused attention.
`layer_bytes`    a block of a large model in 16 bits, by the formula of Korthikanti et al. (2022), section 4: 34 bytes for
                 each number of the width and 5 for each attention weight of each head, for a GPT with dropout.

Bytes a parameter: 16 either way (Rajbhandari et al., 2020, section 3.1). In 32 bits 4 for the weight, 4 for its gradient,
8 for AdamW's two averages; in mixed precision 2, 2, and 12 for the averages and a weight of 32 bits.

Letters: B sequences at once, T tokens in each, C width of the model, F hidden width, H heads, V vocabulary, L layers.
"""

import os
from collections.abc import Callable
from typing import Literal, NamedTuple

from torch.profiler import ProfilerActivity, profile

from llmcourse.attention import SHORT
from llmcourse.transformer import TransformerConfig

Number = int | float
Precision = Literal["float32", "mixed"]
Recompute = Literal["none", "selective", "full"]
# Bytes of weight, gradient and optimiser for each parameter.
STATES = {"float32": (4, 4, 8), "mixed": (2, 2, 12)}
WIDE = {"relu": 1, "gelu": 2, "gelu_tanh": 2, "relu2": 2, "swiglu": 4}  # rows of F numbers that an activation keeps


class Memory(NamedTuple):
    """Bytes on one device."""

    weights: Number
    gradients: Number
    optimiser: Number
    activations: Number

    @property
    def total(self) -> Number:
        """All four at once: the most that is held when gradients are there while a forward pass runs."""
        return sum(self)

    @property
    def peak(self) -> Number:
        """The most that is held when gradients are made anew each step.

        When the backward pass begins there are activations and no gradients; when it ends, the other way round.
        """
        return self.weights + self.optimiser + max(self.gradients, self.activations)


def hidden_width(config: TransformerConfig) -> int:
    """F, of the feed-forward layers."""
    return 4 * config.d_model if config.d_feed_forward is None else config.d_feed_forward


def kept_states(parameters: Number, precision: Precision = "mixed", *, data: int = 1, sharded: int = 0) -> Memory:
    """Weights, gradients and optimiser of a device that shares them with the others of `data` copies.

    sharded: 0 every device has all; 1 each keeps its share of the optimiser; 2 of the gradients too; 3 of the weights too,
    as FSDP does. These are the stages of ZeRO: Rajbhandari et al. (2020), section 5.
    """
    weight, gradient, optimiser = (parameters * bytes_each for bytes_each in STATES[precision])
    return Memory(
        weight / (data if sharded >= 3 else 1),
        gradient / (data if sharded >= 2 else 1),
        optimiser / (data if sharded >= 1 else 1),
        0.0,
    )


def kept_bytes(config: TransformerConfig, B: int, T: int) -> int:
    """What one of our GPTs keeps for its backward pass, in 32 bits on a CPU, up to the loss; tokens included.

    Each tensor counts once, however many layers keep it: a norm's output serves three projections.
    """
    norm = {"layer": 2 * config.d_model + 2, "rms": 3 * config.d_model + 1}[config.norm]
    blocks = config.n_layers * (B * T * _block_numbers(config, T, norm) + _mask_numbers(config, T))
    last = norm if config.norm_place == "pre" else config.d_model
    embedding = config.d_model if config.dropout else 0  # which numbers were set to 0
    numbers = blocks + B * T * (embedding + last + config.n_vocab)  # the loss keeps a log probability for each token
    indices = 2 * B * T
    return 4 * numbers + 8 * indices


def _block_numbers(config: TransformerConfig, T: int, norm: int) -> int:
    """Numbers that a block keeps for each token."""
    C, H, F = config.d_model, config.n_heads, hidden_width(config)
    copied = config.positions == "rotary" or config.qk_norm  # the fused kernel then lays its heads out anew
    shared = C // H if config.n_kv_heads == 1 else C  # a single head is shown to all, several are repeated
    attention = 2 * (C + shared)  # queries, what was read, keys and values
    attention += C if copied and config.positions != "alibi" else 0
    # ALiBi's mask keeps torch from its fused kernel: the attention weights are kept. The kernel keeps a sum for each head.
    attention += H * T if config.positions == "alibi" else H
    if config.qk_norm:
        of_keys = C if config.n_kv_heads is None else C * config.n_kv_heads // H
        attention += 2 * (C + of_keys) + H + of_keys * H // C
    parts = 2 if F else 1
    return attention + WIDE[config.activation] * F + parts * (norm + (C if config.dropout else 0))


def _mask_numbers(config: TransformerConfig, T: int) -> int:
    """The kernel turns a mask of True and False into numbers, one for each pair of places. With a long text it gets none."""
    return 0 if config.positions == "alibi" or T > SHORT else T * T


def step_memory(config: TransformerConfig, parameters: int, B: int, T: int) -> Memory:
    """A step of `train` in 32 bits on a CPU; `peak` is what it takes, or `total` with `accumulate` above 1.

    Two more rows of V numbers a token are there while the loss's gradient is made from its log probabilities.
    """
    return kept_states(parameters, "float32")._replace(
        activations=kept_bytes(config, B, T) + 8 * B * T * config.n_vocab
    )


def layer_bytes(config: TransformerConfig, B: int, T: int, recompute: Recompute = "none") -> int:
    """What a block of a large model keeps, in 16 bits, without splitting.

    A GPT with dropout keeps B T C (34 + 5 H T / C) bytes. recompute: "selective" leaves out the attention weights, as
    FlashAttention does; "full" keeps the block's input alone, and computes the block a second time.
    Sources: Korthikanti et al. (2022), equations 1 and 6 and table 2; Dao et al. (2022).
    """
    C, H, F, dropped = config.d_model, config.n_heads, hidden_width(config), int(config.dropout > 0)
    if recompute == "full":
        return 2 * B * T * C
    of_keys = C if config.n_kv_heads is None else C * config.n_kv_heads // H
    attention = 2 * C + 2 * C + 4 * of_keys + 2 * C + dropped * C  # input, queries, keys and values, what was read
    feed_forward = 2 * C + 2 * WIDE[config.activation] * F + dropped * C
    weights = 0 if recompute == "selective" else H * T * (2 + 3 * dropped)
    return B * T * (attention + feed_forward + 4 * C + weights)


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes that torch held at once on the CPU during `work()`, of those that it took after the start.

    Counted by torch's own allocator, so that what a kernel takes for a moment counts too. Python's own objects, torch's
    code and what was there before do not.
    """
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "99"
    )  # the profiler writes its starts and stops to the terminal otherwise
    # Without acc_events, torch 2.11 warns that it forgets the events of earlier cycles, of which there are none.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        work()
    held = highest = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest
