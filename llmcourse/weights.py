"""Tensors in files: safetensors, written atomically. Nothing that is read here can run code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from llmcourse.files import write_atomically

# How files of other formats begin.
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it, with a pickle in it",
    b"\x80": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
}


class Damaged(ValueError):
    """A file is not what was once written into it."""

    def __init__(self, what: str, advice: str = "make it again") -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what


def save_tensors(
    path: Path | str, tensors: dict[str, Tensor], metadata: dict | None = None, *, keep: Path | None = None
) -> None:
    """Write named tensors and a JSON-able description as one safetensors file, atomically, with a checksum of it all.

    keep: a second name for what the file held until now.
    """
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    notes = {"description": metadata or {}, "sha256": checksum(flat, json.dumps(metadata or {}))}
    # A single note: safetensors writes several in any order, and the same tensors should be the same bytes.
    write_atomically(path, save(flat, {"checked": json.dumps(notes)}), keep=keep)


def load_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the description that `save_tensors` wrote.

    Raises ValueError when the file is damaged (Damaged) or of another format. Files of other authors are read too, with
    their description where it is a JSON object; they hold no checksum, and only what is missing from them is noticed.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; give the safetensors file that lies in it")
    try:
        with safe_open(path, framework="pt") as file:
            # Cloned, or they would still lie in the file, and change with it. The file is no dict.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            notes = file.metadata() or {}
    except SafetensorError as error:
        raise _not_tensors(path, error) from None
    if "checked" not in notes:
        if any('"sha256"' in note for note in notes.values()):
            raise Damaged(f"{path} was changed after it was written: its note has another name")
        return tensors, _as_object(notes.get("description", "{}")) or {}
    if (checked := _as_object(notes["checked"])) is None:
        raise Damaged(f"{path} has a description that is no JSON object, but {notes['checked'][:40]!r}")
    description = checked.get("description")
    if not isinstance(description, dict) or checked.get("sha256") != checksum(tensors, json.dumps(description)):
        raise Damaged(f"{path} was changed after it was written: its content does not have the checksum that it names")
    return tensors, description


def _not_tensors(path: Path | str, error: SafetensorError) -> ValueError:
    with open(path, "rb") as file:
        begin = file.read(9)
    if begin[8:] != b"{":  # where the header of safetensors begins
        for mark, kind in OTHER_FORMATS.items():
            if begin.startswith(mark):
                return ValueError(
                    f"{path} is not a whole safetensors file, but {kind}; give one that holds safetensors"
                )
    return Damaged(f"{path} is not a whole safetensors file ({error})")


def _as_object(text: str) -> dict | None:
    """The JSON object that a text is, or None."""
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def checksum(tensors: Mapping[str, Tensor], description: str) -> str:
    """The SHA-256 of all that a file holds. The format itself notices a byte that is missing, and none of the numbers' that is changed."""
    digest = hashlib.sha256(description.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


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
