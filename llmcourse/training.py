"""Training: a generator that takes one step at a time and hands each to the reader's own loop.

    for step in train(model, batches, next_token_loss, TrainConfig(steps=500)):
        if step.number % 100 == 0:
            print(step.number, step.loss)

What the loop's body does (plot, sample, stop early) is plain Python. The optimisers are in `optimisers.py`, and what
several processes do together is in `distributed.py`.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, is_dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from llmcourse.checkpoints import read_checkpoint, save_checkpoint, under
from llmcourse.data import IGNORED, Batch, TranslationBatch
from llmcourse.distributed import AnyBatch, RaisedByAll, Team, is_first_process, placed_like, taking_part, whole
from llmcourse.files import require_writable
from llmcourse.lengths import filled, row_ends, rows_by_length
from llmcourse.optimisers import OPTIMISERS, OptimiserName, build_optimisers, load_state_tensors
from llmcourse.weights import load_weights

Schedule = Literal["linear", "cosine", "constant", "trapezoid", "inverse_sqrt"]
SCHEDULES = get_args(Schedule)
Precision = Literal["float32", "bfloat16"]
PRECISIONS = get_args(Precision)
Loss = Callable[[nn.Module, AnyBatch], Tensor]
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")  # as torch's devices say it


def seed_everything(seed: int = 0) -> None:
    """Make what follows the same each time: Python's and torch's random numbers, and one thread.

    One thread, because sums over several are added in another order, and because on a busy machine two threads that
    wait for each other are slower than one.
    """
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train: how long, how fast, and where to keep what was reached."""

    steps: int
    rate: float = 3e-3  # the highest learning rate
    warm_up: int = 50  # steps over which the rate grows to its highest
    schedule: Schedule = "linear"  # how the rate falls after that
    # Where the rate would be one step after the last, as a share of the highest; constant and inverse_sqrt ignore it.
    final_rate: float = 0.05
    fall: float = 0.2  # the last share of all steps, over which a trapezoid's rate falls
    optimiser: OptimiserName = "adamw"  # or "muon", for the matrices of the blocks; the rest stays with AdamW
    weight_decay: float = 0.01  # on matrices only
    betas: tuple[float, float] = (0.9, 0.98)  # how slowly AdamW forgets past gradients and their squares
    clip: float = 1.0  # a longer gradient is cut to this length
    accumulate: int = 1  # batches a step: their gradients are added up before the weights move
    precision: Precision = "float32"  # or "bfloat16": the products of matrices in 16 bits, the weights stay in 32
    compiled: bool = False  # whether torch.compile makes the model faster first; that takes a minute
    sharded: bool = False  # under torchrun: each process holds a share of the model, for one that fits no device
    rate_shares: Mapping[str, float] = field(default_factory=dict)  # see `rate_share`
    checkpoint: Path | None = None  # the file to save to, and to go on from when it is there; the save before is kept
    checkpoint_every: int = 100  # steps

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "warm_up": 0, "checkpoint_every": 1, "accumulate": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}; it must be at least {least}")
        if not (self.rate > 0 and self.clip > 0):
            raise ValueError(f"rate={self.rate} and clip={self.clip} must be above 0, or nothing is learned")
        if not (0 <= self.final_rate <= 1 and self.weight_decay >= 0):
            raise ValueError(
                f"final_rate={self.final_rate} is a share from 0 to 1, and weight_decay={self.weight_decay} at least 0"
            )
        if not all(share >= 0 for share in self.rate_shares.values()):
            raise ValueError(f"rate_shares={dict(self.rate_shares)}: a share below 0 would climb instead of descending")
        if not 0 < self.fall <= 1:
            raise ValueError(
                f"fall={self.fall} is the share of the steps over which the rate falls: above 0, at most 1"
            )
        for setting, chosen in {"optimiser='muon'": self.optimiser == "muon", "compiled=True": self.compiled}.items():
            if self.sharded and chosen:
                raise ValueError(f"{setting} needs whole matrices, and sharded=True leaves none; set one of the two")
        for name, known in {"schedule": SCHEDULES, "optimiser": OPTIMISERS, "precision": PRECISIONS}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}; use one of {', '.join(map(repr, known))}")

    def rate_at(self, step: int) -> float:
        """The learning rate of this step, counted from 0.

        `trapezoid` warms up, holds, and falls in a straight line over the last steps: how long it holds can be decided
        late, which `linear` and `cosine` do not allow (Hägele et al., 2024; as warmup-stable-decay, Hu et al., 2024).
        `inverse_sqrt` falls with the square root of the step's number, at first fast and then ever more slowly, and
        needs no last step to be known. Source: Vaswani et al. (2017), section 5.3.
        """
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        if self.schedule == "inverse_sqrt":
            return self.rate * math.sqrt(max(1, self.warm_up) / (step + 1))
        if self.schedule == "trapezoid":
            turn = max(self.warm_up, self.steps * (1 - self.fall))
            height = min(1.0, (self.steps - step) / max(1, self.steps - turn))
            return self.rate * (self.final_rate + (1 - self.final_rate) * height)
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        height = {"linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "constant": 1.0}[self.schedule]
        return self.rate * (self.final_rate + (1 - self.final_rate) * height)

    def rate_share(self, parameter: str) -> float:
        """The share of the learning rate at which this parameter learns: 1, unless `rate_shares` names a part it is in.

        {"encoder": 0.1, "encoder.blocks.1": 0.5} lets all of the encoder learn ten times more slowly, but for its second
        block: the longest name counts.
        """
        parts = [part for part in self.rate_shares if f"{parameter}.".startswith(f"{part}.")]
        return self.rate_shares[max(parts, key=len)] if parts else 1.0


class Step(NamedTuple):
    """What one step did."""

    number: int  # counted from 1
    loss: float  # on this step's batch or batches, before the step
    rate: float
    gradient: float  # the length of the whole gradient, before it was cut


class TrainingDiverged(RaisedByAll, ArithmeticError):
    """The loss is no longer a number."""


class BatchesRanOut(RaisedByAll, ValueError):
    """There are fewer batches than the steps need."""


class TrainingOutOfMemory(MemoryError):
    """A step needs more memory than there is."""


def next_token_loss(model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
    """The mean cross-entropy of the tokens that count, in nats per token."""
    logits = model(batch.tokens).float()  # a sum of many exponentials is no work for 16 bits
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)


def translation_loss(model: nn.Module, batch: TranslationBatch, smoothing: float = 0.0) -> Float[Tensor, ""]:
    """The mean cross-entropy of the target tokens that count, given the source, in nats per token.

    smoothing: this share of every target's probability is spread evenly over the whole vocabulary, so that the model
    is not rewarded for being ever more certain (label smoothing: Szegedy et al., 2016; 0.1 in the Transformer's paper).
    To train with it: `functools.partial(translation_loss, smoothing=0.1)`.

    Pairs of like length are computed together, so that little is computed for padding.
    """
    counted, losses = batch.targets != IGNORED, []
    sources, targets = row_ends(filled(batch.source, model.config.pad)), row_ends(counted)
    for rows in rows_by_length(sources + targets, max(batch.source.numel(), batch.tokens.numel())):
        S, T = int(sources[rows].max()), int(targets[rows].max())
        logits = model(batch.source[rows, :S], batch.tokens[rows, :T]).float().flatten(0, 1)
        wanted = batch.targets[rows, :T].flatten()
        losses.append(F.cross_entropy(logits, wanted, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"))
    return torch.stack(losses).sum() / counted.sum()


def train(model: nn.Module, batches: Iterable[AnyBatch], loss: Loss, config: TrainConfig) -> Iterator[Step]:
    """Train the model in place, yielding after every step.

    With `config.accumulate` above 1, each step takes so many batches and moves as one large batch would, each batch
    counting by its `weight` where it has one, else by its targets that count (a loss that is a mean over these is then
    exact), or by its rows when it has no `targets`.

    With `config.checkpoint`, an interrupted training goes on where its file was last saved, and on a CPU to the same
    numbers, if `batches` starts anew from the same seed (those already seen are passed over) and the reader's loop draws
    no numbers from torch. However the loop ends, the model is left ready to use. Raises TrainingDiverged when the loss or
    its gradient is not finite, and ValueError when the batches run out, the checkpoint is damaged, no checkpoint, or of
    another training (it knows settings, weights and first batch), or the device has no 16-bit numbers of the kind asked
    for; NotWritten when nothing can be saved, before the first step if that shows by then; and TrainingOutOfMemory. None
    of these touches what was last saved.

    Started by torchrun, the processes share out the rows of every batch (each must be given the same stream), and every
    one of them yields the whole step. The numbers are one process's, as far as with `accumulate`, but for dropout:
    each process draws its own. Only the first saves, to a file that any number of processes can go on from, and that
    all must be able to read.
    """
    settings, saved, description = _fingerprint(config, model), {}, {}
    if config.checkpoint:
        saved, description = read_checkpoint(config.checkpoint, settings)
    stream, begins = _peeked(batches)
    if description.get("begins", begins) != begins:
        raise ValueError(
            f"{config.checkpoint} was saved while training on other batches: their first one differs; "
            "use the same data and seed again, or choose another checkpoint file"
        )
    if saved:  # only now: a training that is refused leaves the model as it is
        load_weights(model, under("model.", saved), config.checkpoint)
    done = description.get("done", 0)
    if config.checkpoint and done < config.steps and is_first_process():
        require_writable(config.checkpoint)
    with taking_part(model, loss, sharded=config.sharded, compiled=config.compiled) as team:
        optimisers = _optimisers(team.model, config)
        computing = _computing(config.precision, team.device)
        if done:
            load_state_tensors(optimisers, under("optimiser.", saved), placed_like)
        _pass_over(stream, done * config.accumulate)
        if done:
            team.restore_random_state(saved)  # only now: batches may be drawn with the same random numbers
        saved.clear()  # it is as large as the model and its optimisers together
        quiet = {"disable": True} if team.number else {}  # one bar for all; what is not said here, TQDM_DISABLE decides
        numbers = range(done, config.steps)
        with tqdm(numbers, initial=done, total=config.steps, desc="training", unit="step", **quiet) as steps:
            for number in steps:
                group = list(islice(stream, config.accumulate))
                if len(group) < config.accumulate:
                    raise BatchesRanOut(
                        f"the batches ran out at step {number + 1} of {config.steps}; pass an endless stream"
                    )
                if number == done:
                    team.require_same(done, group)
                team.losses.train()  # the reader's loop may have switched to evaluation
                for optimiser in optimisers:
                    optimiser.zero_grad()
                with _saying_what_to_reduce(number, group[0]):
                    value = _add_up_gradients(team, group, computing)
                    step = _move(team.model, value, optimisers, config, number)
                    if config.checkpoint and (
                        step.number % config.checkpoint_every == 0 or step.number == config.steps
                    ):
                        reached = {"done": step.number, "begins": begins, "config": settings}
                        save_checkpoint(config.checkpoint, team, optimisers, reached)
                yield step


def _peeked(batches: Iterable[AnyBatch]) -> tuple[Iterator[AnyBatch], str]:
    """The stream, and the SHA-256 of its first batch, by which a checkpoint knows that it goes on with the same data."""
    stream = iter(batches)
    first = list(islice(stream, 1))
    content = repr([part.tolist() for batch in first for part in batch])
    return chain(first, stream), hashlib.sha256(content.encode()).hexdigest()


def _pass_over(stream: Iterator[AnyBatch], count: int) -> None:
    for _ in islice(stream, count):
        pass


@contextmanager
def _saying_what_to_reduce(number: int, batch: AnyBatch) -> Iterator[None]:
    """Turn what torch's devices say when memory ends, each in its own words, into one error with a way out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(one in str(error) for one in NO_MEMORY)
        if not known:
            raise
        raise TrainingOutOfMemory(
            f"step {number + 1} needs more memory than there is, with batches of {' x '.join(map(str, batch[0].shape))}; "
            "use half of the rows and accumulate=2, which moves as before, or a shorter context, or a smaller model"
        ) from error


def _computing(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager]:
    """Makes the surroundings in which a loss is computed."""
    if precision == "float32":
        return nullcontext
    available = torch.amp.is_autocast_available(device.type)
    if not available or (device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)):
        raise ValueError(f"precision='bfloat16': this {device.type} device cannot; use precision='float32'")
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def _add_up_gradients(team: Team, group: list[AnyBatch], computing: Callable[[], AbstractContextManager]) -> float:
    """Leave in the parameters the gradient of one large batch, and return its loss."""
    weigh = _weight if any(map(_weight, group)) else _n_rows
    total, value = sum(map(weigh, group)), 0.0
    if not total:
        raise ValueError("a batch has no rows; give at least one")
    # A mean over nothing is no number: where nothing counts, nothing is computed.
    counted = [batch for batch in group if weigh(batch)]
    for number, batch in enumerate(counted, start=1):
        rows, share = _own_part(team, batch, weigh, total)
        with team.adding_up(last=number == len(counted)):
            with computing():
                part = team.losses(rows) * share
            (part * team.size).backward()  # the engines average the processes' gradients, and their sum is meant
        value += part.item()
    return team.total(value)


def _own_part(team: Team, batch: AnyBatch, weigh: Callable[[AnyBatch], int], total: int) -> tuple[AnyBatch, float]:
    """This process's rows of a batch, and the share of all targets that is theirs.

    A process in whose rows nothing counts computes all rows, times 0: the others wait for it to take part.
    """
    rows = team.rows(batch)
    count = weigh(rows)
    return rows if count else team.to_device(batch), count / total


def _weight(batch: AnyBatch) -> int:
    """How much of a mean a batch is: what it says itself, how many of its targets count, or how many rows it has."""
    if hasattr(batch, "weight"):
        return batch.weight
    targets = getattr(batch, "targets", None)
    return _n_rows(batch) if targets is None else int((targets != IGNORED).sum())


def _n_rows(batch: AnyBatch) -> int:
    return len(batch[0])


def _move(
    model: nn.Module, value: float, optimisers: list[torch.optim.Optimizer], config: TrainConfig, number: int
) -> Step:
    """Follow the gradient downhill."""
    rate = config.rate_at(number)
    gradient = whole(nn.utils.clip_grad_norm_(model.parameters(), config.clip, foreach=True)).item()
    if not (math.isfinite(value) and math.isfinite(gradient)):
        raise TrainingDiverged(
            f"at step {number + 1} the loss is {value} and its gradient {gradient}, with a learning rate "
            f"of {rate:.2g}; try a third of the rate, a longer warm_up or a smaller clip"
        )
    for optimiser in optimisers:
        for settings in optimiser.param_groups:
            settings["lr"] = rate * settings["rate_share"]
        optimiser.step()
    return Step(number + 1, value, rate, gradient)


def _optimisers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    names = [name for name, _ in model.named_parameters()]
    for part in config.rate_shares:
        if not any(f"{name}.".startswith(f"{part}.") for name in names):
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ValueError(f"rate_shares names {part!r}, and {type(model).__name__} has no such part; it has {parts}")
    return build_optimisers(
        model,
        config.optimiser,
        rate_share=config.rate_share,
        weight_decay=config.weight_decay,
        betas=config.betas,
    )


def _fingerprint(config: TrainConfig, model: nn.Module) -> dict:
    """What must be the same for a checkpoint to be continued: all but where and when it is saved, and if it is sharded.

    The settings of the model and of its parts belong to it, and the types of its numbers: heads and dropout change what is
    computed, and no shape.
    """
    settings = {name: value for name, value in asdict(config).items() if not name.startswith("checkpoint")}
    del settings["sharded"]
    for name, part in model.named_modules():
        own = getattr(part, "config", None)
        of_part = dict(asdict(own)) if is_dataclass(own) else {}
        if not type(part).__module__.startswith("torch.") or isinstance(part, nn.Dropout):
            plain = {one: value for one, value in vars(part).items() if type(value) in (bool, int, float, str)}
            of_part |= {one: value for one, value in plain.items() if one not in ("training", "merged")}
        settings |= {".".join(filter(None, ("model", name, one))): value for one, value in of_part.items()}
    settings["model.dtype"] = sorted({str(weight.dtype) for weight in model.parameters()})
    return json.loads(json.dumps(settings, default=str))  # as a file gives them back
