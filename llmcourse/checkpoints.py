"""Checkpoints: all that a training needs to go on to the same numbers, in one file that is whole or not there.

A checkpoint holds the model, what its optimisers remember, the state of each process's random numbers, and a description:
`done`, the steps taken; `config`, the settings; `begins`, a checksum of the first batch. The save before it stays beside
it, for the day on which the last one is damaged.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from llmcourse.distributed import Team
from llmcourse.optimisers import state_tensors
from llmcourse.weights import Damaged, load_tensors, save_tensors

LISTED = 3  # settings that differ, named in an error


def save_checkpoint(path: Path | str, team: Team, optimisers: list[torch.optim.Optimizer], description: dict) -> None:
    """Model, optimisers and random states in one file, written atomically, by one process.

    Raises NotWritten when the disk is full or the folder read-only; the saves that are there stay as they are.
    """
    tensors = {f"model.{name}": tensor for name, tensor in team.model.state_dict().items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in state_tensors(optimisers).items()}
    tensors = team.whole(tensors) | team.random_states()
    if team.number == 0:
        save_tensors(path, tensors, description, keep=previous_save(path))
    team.wait()  # until the file is there: what another process does next may need it


def previous_save(path: Path | str) -> Path:
    """Where the save before the last one is kept."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def read_checkpoint(path: Path | str, settings: Mapping) -> tuple[dict[str, Tensor], dict]:
    """What the checkpoint holds and its description, both empty when there is no file.

    settings: what must be as it was when the file was saved. Raises ValueError for a file that is damaged, no checkpoint,
    or of another training.
    """
    if not Path(path).exists():
        return {}, {}
    try:
        tensors, description = load_tensors(path)
    except Damaged as error:
        raise Damaged(error.what, _way_back(previous_save(path))) from None
    if not {"done", "config"} <= description.keys():
        raise ValueError(
            f"{path} holds tensors but no training, as a model's file does; choose another checkpoint file"
        )
    theirs = description["config"]
    if not isinstance(theirs, dict):
        raise ValueError(f"{path} does not say its settings; choose another checkpoint file")
    if changed := [name for name in theirs | settings if theirs.get(name) != settings.get(name)]:
        listed = ", ".join(f"{name} {theirs.get(name)!r}, not {settings.get(name)!r}" for name in changed[:LISTED])
        listed += f", and {len(changed) - LISTED} more" if len(changed) > LISTED else ""
        raise ValueError(
            f"{path} was saved with other settings ({listed}); use them again, or choose another checkpoint file"
        )
    return tensors, description


def _way_back(previous: Path) -> str:
    """How to go on when a checkpoint is damaged."""
    try:
        done = load_tensors(previous)[1]["done"]
    except (OSError, ValueError, KeyError):
        return "delete it to begin again"
    return f"put {previous}, which is whole and of step {done}, in its place, or delete it to begin again"


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins so, without that beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
