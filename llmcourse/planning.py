"""The estimate sheet: what a training takes in memory, messages, time and money, before anything is bought or begun.

    tokens a second = devices · peak · utilisation / FLOPs a token
    FLOPs a token   = 6 N + 12 L T C,   a third more when every block is computed twice

The first term is that of `scaling.training_flops`; the second is attention's own products, counted as if every token saw
all T. Sources: Chowdhery et al. (2022), appendix B; Narayanan et al. (2021), section 5.1, for the third more.

A *layout* says how the devices share the work. `data` copies of the model read different texts and add up gradients;
`tensor` devices share each matrix; `pipeline` groups hold different layers; with `sharded`, the copies keep parts of what
would otherwise be the same on all (ZeRO, FSDP). An all-reduce of n numbers among d devices sends 2 (d-1)/d n from each, an
all-gather or a reduce-scatter half of that.

Letters: N parameters, L layers, T tokens of a sequence, C width of the model.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import get_args

import torch

from llmcourse.footprint import STATES, Memory, Number, Precision, Recompute, kept_states, layer_bytes, step_memory
from llmcourse.models import GPT, count_parameters
from llmcourse.scaling import FLOPS_A_PARAMETER_AND_TOKEN
from llmcourse.transformer import TransformerConfig

DAY = 86_400  # seconds


@cache
def parameters_of(config: TransformerConfig) -> int:
    """N, counted on GPTs of one and of two layers that hold no numbers; every further layer adds the same."""
    with torch.device("meta"):
        one, two = (count_parameters(GPT(replace(config, n_layers=layers))) for layers in (1, 2))
    return one + (config.n_layers - 1) * (two - one)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is to be trained, on how much text, in which form."""

    model: TransformerConfig
    tokens: Number  # of the whole training
    batch: int  # sequences a step, on all devices together
    length: int | None = None  # tokens of a sequence; None is the model's context
    precision: Precision = "mixed"  # "float32" counts our own trainer's memory on a CPU
    recompute: Recompute = "none"  # what is computed again in the backward pass instead of kept

    def __post_init__(self) -> None:
        if not (self.tokens > 0 and self.batch > 0 and (self.length is None or self.length > 0)):
            raise ValueError(
                f"tokens={self.tokens}, batch={self.batch}, length={self.length}: a training reads something"
            )
        for name, known in {"precision": get_args(Precision), "recompute": get_args(Recompute)}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; use one of {', '.join(map(repr, known))}")
        if self.precision == "float32" and self.recompute != "none":
            raise ValueError("precision='float32' is our own trainer, which recomputes nothing; use recompute='none'")

    @property
    def T(self) -> int:
        """Tokens of a sequence."""
        return self.model.context if self.length is None else self.length


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One device, and the lines that leave it."""

    name: str
    memory: Number  # bytes
    flops: Number  # the highest rate at which it multiplies, in floating-point operations a second
    utilisation: float  # the share of that rate kept up over a whole training, waiting included: measure it
    bandwidth: Number  # bytes a second between its memory and its cores
    link: Number  # bytes a second to other devices
    near_link: Number | None = None  # to those with which it shares matrices, in one case; None is as the others
    price: Number = 0  # of an hour

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation={self.utilisation} is a share: above 0, at most 1; 0.3 to 0.5 is usual")
        for name in ("memory", "flops", "bandwidth", "link"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: a machine has some")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the devices share the work; their number is data * tensor * pipeline."""

    data: int = 1  # copies of the model
    tensor: int = 1  # devices that share each matrix
    pipeline: int = 1  # groups of layers, one after the other
    sharded: int = 0  # what the copies keep a part of: 1 the optimiser, 2 gradients too, 3 weights too (FSDP)
    micro_batch: int = 1  # sequences that a copy computes at a time

    def __post_init__(self) -> None:
        for name in ("data", "tensor", "pipeline", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; 1 leaves the work undivided")
        if self.sharded not in range(4):
            raise ValueError(
                f"sharded={self.sharded}; use 0 nothing, 1 the optimiser, 2 gradients too, or 3 weights too"
            )

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return self.data * self.tensor * self.pipeline


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The sheet. Bytes and messages are those of one device; str(plan) is a table."""

    training: Training
    machine: Machine
    layout: Layout
    parameters: int
    flops_a_token: float
    micro_batches: int  # m, of each copy in a step
    memory: Memory
    messages: dict[str, float]  # bytes that a device sends in a step, by what they are for

    @property
    def needed(self) -> Number:
        """Bytes a device must have: gradients made anew each step never meet all activations, others do."""
        fresh = self.training.precision == "float32" and self.micro_batches == 1
        return self.memory.peak if fresh else self.memory.total

    @property
    def fits(self) -> bool:
        """Whether the device has so much memory."""
        return self.needed <= self.machine.memory

    @property
    def bubble(self) -> float:
        """(p-1)/m: how long a pipeline fills and empties, as a share of the time it is full (Narayanan et al., 2021)."""
        return (self.layout.pipeline - 1) / self.micro_batches

    @property
    def tokens_a_second(self) -> float:
        """Of all devices together. The utilisation is of whole steps, so no bubble or message is taken off again."""
        return self.layout.devices * self.machine.flops * self.machine.utilisation / self.flops_a_token

    @property
    def flops(self) -> float:
        """Floating-point operations of the whole training."""
        return self.flops_a_token * self.training.tokens

    @property
    def step_seconds(self) -> float:
        """How long a step takes."""
        return self.training.batch * self.training.T / self.tokens_a_second

    @property
    def link_seconds(self) -> float:
        """How long a step's messages take on the line alone; near a step's time, they and not the cores set the pace."""
        near = self.machine.near_link or self.machine.link
        far = sum(self.messages.values()) - self.messages["tensor"]
        return far / self.machine.link + self.messages["tensor"] / near

    @property
    def days(self) -> float:
        """How long the training takes."""
        return self.training.tokens / self.tokens_a_second / DAY

    @property
    def device_hours(self) -> float:
        """What is paid for."""
        return self.days * 24 * self.layout.devices

    @property
    def cost(self) -> float:
        """In the currency of the price."""
        return self.device_hours * self.machine.price

    def rows(self) -> list[tuple[str, str]]:
        """The sheet's lines: what, and how much with its unit."""
        sums = {f"memory: {name}": amount for name, amount in self.memory._asdict().items()}
        sums |= {"memory needed": self.needed, "memory there is": self.machine.memory}
        sums |= {f"sent a step: {name}": amount for name, amount in self.messages.items()}
        return [
            ("parameters", f"{self.parameters:,}"),
            ("devices", f"{self.layout.devices:,} x {self.machine.name}"),
            *((name, _in_bytes(amount)) for name, amount in sums.items()),
            ("pipeline bubble", f"{self.bubble:.1%}"),
            ("a step", f"{self.step_seconds:,.3g} s, of which messages at least {self.link_seconds:,.3g} s"),
            ("operations", f"{self.flops:.3g}"),
            ("tokens a second", f"{self.tokens_a_second:,.3g}"),
            ("days", f"{self.days:,.3g}"),
            ("device hours", f"{self.device_hours:,.3g}"),
            ("cost", f"{self.cost:,.3g}"),
        ]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        return "\n".join(f"{name:{width}}  {amount}" for name, amount in self.rows())


def _in_bytes(amount: Number) -> str:
    """In GB or MB where there is at least one of them, else in kB."""
    size, unit = next((one for one in ((1e9, "GB"), (1e6, "MB")) if amount >= one[0]), (1e3, "kB"))
    return f"{amount / size:,.3g} {unit}"


def plan(training: Training, machine: Machine, layout: Layout | None = None) -> Plan:
    """The sheet of a training on so many machines. Raises ValueError when the work cannot be shared as the layout says."""
    layout = layout or Layout()
    share = layout.data * layout.micro_batch
    if training.batch % share:
        raise ValueError(
            f"batch={training.batch} is no multiple of data * micro_batch = {share}; each copy takes as many sequences"
        )
    if training.model.n_layers % layout.pipeline:
        raise ValueError(f"{training.model.n_layers} layers make no {layout.pipeline} equal groups; use a divisor")
    if training.model.n_heads % layout.tensor:
        raise ValueError(f"{training.model.n_heads} heads cannot be shared by tensor={layout.tensor}; use a divisor")
    parameters, micro_batches = parameters_of(training.model), training.batch // share
    return Plan(
        training=training,
        machine=machine,
        layout=layout,
        parameters=parameters,
        flops_a_token=flops_a_token(training),
        micro_batches=micro_batches,
        memory=memory(training, layout, micro_batches),
        messages=messages(training, layout, micro_batches),
    )


def flops_a_token(training: Training) -> float:
    """6 N + 12 L T C, and a third more when every block is computed twice; the output, which is not, is counted so too."""
    config = training.model
    once = FLOPS_A_PARAMETER_AND_TOKEN * parameters_of(config) + 12 * config.n_layers * training.T * config.d_model
    return float(once * 4 / 3 if training.recompute == "full" else once)


def memory(training: Training, layout: Layout, micro_batches: int) -> Memory:
    """Bytes on the device that holds most: in a pipeline the first, which has begun p batches before the first returns.

    tensor: what is kept is divided evenly, which takes sequence parallelism (Korthikanti et al., 2022, section 4.2.2).
    The embedding and the output are shared among a pipeline as if they were layers.
    """
    config, B, T = training.model, layout.micro_batch, training.T
    parameters = parameters_of(config) / (layout.tensor * layout.pipeline)
    kept = kept_states(parameters, training.precision, data=layout.data, sharded=layout.sharded)
    if training.precision == "float32":
        if layout.tensor * layout.pipeline > 1:
            raise ValueError("precision='float32' counts our own trainer, on whole models; use 'mixed', or data alone")
        return kept._replace(activations=step_memory(config, int(parameters), B, T).activations)
    layers = config.n_layers / layout.pipeline * min(layout.pipeline, micro_batches)
    activations = layers * layer_bytes(config, B, T, training.recompute)
    if training.recompute == "full":
        activations += layer_bytes(config, B, T)  # the block that is being computed again
    if layout.pipeline == 1:
        activations += 4 * B * T * (config.d_model + config.n_vocab)  # last norm, output, and its logits in 32 bits
    return kept._replace(activations=activations / layout.tensor)


def messages(training: Training, layout: Layout, micro_batches: int) -> dict[str, float]:
    """Bytes that a device sends in a step: gradients (and, with FSDP, weights) between copies, and rows between parts.

    Sharded weights are gathered for the forward and again for the backward pass of every micro-batch, and their gradients
    scattered after it (Rajbhandari et al., 2020, section 7; Zhao et al., 2023). A block shared by `tensor` devices takes
    two all-reduces forward and two backward (Shoeybi et al., 2019, section 3), two more when it is computed twice.
    """
    config, d, t, p = training.model, layout.data, layout.tensor, layout.pipeline
    weight, gradient, _ = STATES[training.precision]
    N, half = parameters_of(config) / (t * p), (d - 1) / d
    copies = {
        0: 2 * gradient,
        1: gradient + weight,
        2: micro_batches * gradient + weight,
        3: micro_batches * (2 * weight + gradient),
    }
    rows = layout.micro_batch * training.T * config.d_model * weight * micro_batches
    reduces = 6 if training.recompute == "full" else 4
    return {
        "data": half * copies[layout.sharded] * N,
        "tensor": config.n_layers / p * reduces * 2 * (t - 1) / t * rows,
        "pipeline": (2 if p > 2 else p - 1) * rows / t,  # an inner group sends forward and back
    }
