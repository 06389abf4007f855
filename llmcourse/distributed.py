"""One training on several processes: each takes its share of every batch's rows, and all of them move alike.

    torchrun --nproc-per-node 4 my_training.py

`torchrun` starts a script so many times and tells each process its number; `train` finds that out by itself. Two of
torch's engines do the work. `DistributedDataParallel` keeps the whole model on every process and averages the
gradients while they are computed (Li et al., 2020). `fully_shard` leaves each process only its share of the weights, of
their gradients and of what the optimiser remembers, and collects a block's weights just when it computes: for models
that are too large for one device (Rajbhandari et al., 2020; Zhao et al., 2023).
"""

import atexit
import copy
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from llmcourse.transformer import TransformerBlock

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}  # how processes talk, by the kind of device that computes
AnyBatch = tuple[Tensor, ...]  # any of the named tuples of `data.py`


class RaisedByAll(Exception):
    """An error that every process raises at the same step, so that they can still put the model together again."""


def is_first_process() -> bool:
    """Whether this process is the one that prints and saves: the first of those that torchrun started, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0


def count_processes() -> int:
    """How many processes train together, this one included."""
    return int(os.environ.get("WORLD_SIZE", 1))


class LossOf(nn.Module):
    """A loss as a module. The engines act when a module is called, and so the loss may do with its model what it likes."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, AnyBatch], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = partial(loss)  # so that a loss that is itself a module does not become a part of this one

    def forward(self, batch: AnyBatch) -> Tensor:
        """The loss on this batch."""
        return self.loss(self.model, batch)


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process's place among those that train together; a process of its own is a team of one."""

    losses: nn.Module  # gives the loss on a batch, and lets the engine share the gradients
    model: nn.Module  # whose parameters move
    device: torch.device
    number: int = 0  # of this process, counted from 0
    size: int = 1  # how many processes there are

    def to_device(self, batch: AnyBatch) -> AnyBatch:
        """A batch where the model computes."""
        return batch._make(part.to(self.device) for part in batch)

    def rows(self, batch: AnyBatch) -> AnyBatch:
        """This process's rows of a batch; none when there are more processes than rows."""
        if self.size == 1:
            return self.to_device(batch)
        if len(lengths := {len(part) for part in batch}) > 1:
            raise ValueError(f"parts of a batch have {sorted(lengths)} rows; to be shared out they need as many each")
        return self.to_device(batch._make(part.tensor_split(self.size)[self.number] for part in batch))

    def adding_up(self, *, last: bool) -> AbstractContextManager:
        """Where the parts of one step are computed: the whole model's gradients are exchanged once, after the last.

        Shares of a model are exchanged after every part: until then each process would have to hold all gradients.
        """
        replicated = isinstance(self.losses, DistributedDataParallel)
        return self.losses.no_sync() if replicated and not last else nullcontext()

    def total(self, value: float) -> float:
        """The sum of what the processes have each: the same number, or the same NaN, on all of them."""
        if self.size == 1:
            return value
        held = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(held)
        return held.item()

    def require_same(self, done: int, group: Sequence[AnyBatch]) -> None:
        """Raise a ValueError, on all processes, unless all begin behind the same step and with the same batches."""
        if self.size == 1:
            return
        content = repr([part.tolist() for batch in group for part in batch])
        found = self._from_all((done, hashlib.sha256(content.encode()).hexdigest()))
        for what, theirs in zip(("steps already done", "first batch"), zip(*found, strict=True), strict=True):
            if odd := [number for number in range(self.size) if theirs[number] != theirs[0]]:
                raise ValueError(
                    f"process {odd[0]} of {self.size} differs from process 0 ({what}); give all of them the same "
                    "stream of batches, from the same seed, and the same checkpoint file"
                )

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a file should hold: sharded tensors put together one by one. Only the first process keeps them."""
        kept = {}
        for name, tensor in tensors.items():
            full = whole(tensor)  # all processes take part in this
            if self.number == 0:
                kept[name] = full if full is tensor else full.cpu()
        return kept

    def random_states(self) -> dict[str, Tensor]:
        """The state of each process's random numbers, by the name under which a checkpoint keeps it."""
        states = self._from_all(torch.get_rng_state())
        return {self._random_name(number): state for number, state in enumerate(states)}

    def restore_random_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with this process's random numbers; one that the checkpoint's training did not have keeps its own."""
        if (name := self._random_name(self.number)) in tensors:
            torch.set_rng_state(tensors[name])

    def wait(self) -> None:
        """Until all processes have come this far."""
        if self.size > 1:
            dist.barrier()

    @staticmethod
    def _random_name(number: int) -> str:
        return f"random.{number}" if number else "random"

    def _from_all(self, mine: object) -> list:
        found = [mine] * self.size
        if self.size > 1:
            dist.all_gather_object(found, mine)
        return found


@contextmanager
def taking_part(
    model: nn.Module, loss: Callable[[nn.Module, AnyBatch], Tensor], *, sharded: bool, compiled: bool
) -> Iterator[Team]:
    """Join the other processes, if torchrun started any, and leave them afterwards with the model ready to use.

    The first process's weights count. Sharded, the model holds no weights in the meantime, and gets all of them back,
    on its own device, when every process leaves the loop at the same step.
    """
    size = count_processes()
    try:
        if size == 1:
            runs = torch.compile(model) if compiled else model  # another name for the same weights
            yield Team(losses=LossOf(runs, loss), model=model, device=next(model.parameters()).device)
        else:
            device = _device(model, sharded)
            _connect(device)
            number = dist.get_rank()
            torch.manual_seed(torch.initial_seed() + number)  # or all would drop out the same places
            joined = _sharded if sharded else _replicated
            with joined(model, loss, device, compiled) as (losses, trained):
                yield Team(losses=losses, model=trained, device=device, number=number, size=size)
    finally:
        model.eval()


def _device(model: nn.Module, sharded: bool) -> torch.device:
    """Where this process computes: where the model is, on a GPU of its own; a model to be sharded goes to the GPUs."""
    kind = next(model.parameters()).device.type
    if sharded and torch.cuda.is_available():
        kind = "cuda"
    if kind not in BACKENDS:
        raise ValueError(
            f"a model on {kind!r} cannot be trained by several processes; move it to {' or '.join(BACKENDS)}"
        )
    if kind == "cpu":
        return torch.device(kind)
    local, n_devices = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= n_devices:
        raise ValueError(f"process {local} of this machine has no GPU of its own; use --nproc-per-node {n_devices}")
    torch.cuda.set_device(local)
    return torch.device(kind, local)


def _connect(device: torch.device) -> None:
    """Connect the processes, once; a connection that the reader's script has made is used.

    It stays until the script ends, for its next training: a second one under the same store would find the addresses
    of the first, and wait for them for ever.
    """
    if not dist.is_initialized():
        dist.init_process_group(BACKENDS[device.type])
        atexit.register(_disconnect)


def _disconnect() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _replicated(
    model: nn.Module, loss: Callable, device: torch.device, compiled: bool
) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The whole model on every process.

    Unused parameters are looked for, since some losses leave parts of a model out. The gradients are then added up in
    the same order at every step, which an interrupted training needs in order to go on to the same bits.
    """
    model.to(device)
    runs = torch.compile(model) if compiled else model
    losses = LossOf(runs, loss)
    losses.idle = nn.Parameter(torch.zeros(1, device=device))  # torch warns where looking finds no unused parameter
    yield DistributedDataParallel(losses, find_unused_parameters=True), model


@contextmanager
def _sharded(
    model: nn.Module, loss: Callable, device: torch.device, compiled: bool
) -> Iterator[tuple[nn.Module, nn.Module]]:
    """A share of the model on every process, in a copy whose blocks collect their weights when they compute."""
    from torch.distributed.fsdp import fully_shard  # imported late: it takes a second, and few need it

    for tensor in model.state_dict().values():
        held = tensor.to(device)
        dist.broadcast(held, src=0)
        tensor.copy_(held)
    shards = copy.deepcopy(model)
    mesh = dist.init_device_mesh(device.type, (dist.get_world_size(),))
    losses = LossOf(shards, loss)
    for module in [*(part for part in shards.modules() if isinstance(part, TransformerBlock)), losses]:
        fully_shard(module, mesh=mesh)
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
    refusal = model.register_forward_pre_hook(_refuse)
    try:
        yield losses, shards
    except (GeneratorExit, RaisedByAll):
        _put_together(model, shards)
        raise
    else:
        _put_together(model, shards)
    finally:
        refusal.remove()


def _refuse(model: nn.Module, inputs: tuple) -> None:
    raise ValueError(
        "sharded=True: while it trains, this model's weights are spread over the processes; use it afterwards"
    )


def _put_together(model: nn.Module, shards: nn.Module) -> None:
    """Give the model its weights back. Not while Python shuts down: then this process may have failed alone."""
    if sys.is_finalizing():
        return
    for parameter, shard in zip(model.parameters(), shards.parameters(), strict=True):
        parameter.data = whole(shard.data).to(parameter.device)
    for buffer, theirs in zip(model.buffers(), shards.buffers(), strict=True):
        buffer.copy_(theirs)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of which each process holds a share, and any other tensor as it is. All processes must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def placed_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This process's share of a tensor that belongs to a sharded parameter; with any other parameter, the tensor."""
    if not hasattr(parameter, "full_tensor") or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
