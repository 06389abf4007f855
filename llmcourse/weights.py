"""Tensors in files: safetensors, written atomically. Nothing that is read here can run code."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from llmcourse.files import write_atomically


def save_tensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict | None = None) -> None:
    """Write named tensors and a JSON-able description as one safetensors file, atomically."""
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(flat, {"description": json.dumps(metadata or {})}))


def load_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the description that `save_tensors` wrote. Raises ValueError when the file is damaged."""
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; give the safetensors file that lies in it")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a dict
            return tensors, json.loads((file.metadata() or {}).get("description", "{}"))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); make it again") from None


def mismatches(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """A sentence for each tensor that is missing, unexpected or of another shape, in alphabetical order."""
    faults = [f"missing {name}" for name in expected.keys() - tensors.keys()]
    faults += [f"unexpected {name}" for name in tensors.keys() - expected.keys()]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & tensors.keys()
        if tensors[name].shape != expected[name].shape
    ]
    return sorted(faults)


def load_weights(model: torch.nn.Module, tensors: dict[str, Tensor], source: Path | str) -> None:
    """Put tensors into a model, or raise a ValueError that names each missing, unexpected or misshapen one."""
    faults = mismatches(model.state_dict(), tensors)
    if faults:
        raise ValueError(f"{source} holds another model: {'; '.join(faults)}")
    model.load_state_dict(tensors)
