"""What a pickle would do, read and never run.

A pickle is a program for a small stack machine. Three of its instructions fetch any function by its name, five call what was
fetched: whoever loads the file runs its author's choice. `pickletools` lists the instructions without following them
(the module's documentation in Python says so), and the calls can be read from the list.

Nothing here loads a pickle.
"""

import pickletools
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

LARGEST = 50_000_000  # bytes of a pickle; the tensors of a checkpoint lie beside it
CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}  # they call what was fetched
EXTENSIONS = {"EXT1", "EXT2", "EXT4"}  # they fetch by a number: which function, the file does not say
TENSOR_NAMES = frozenset(
    {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
    | {f"torch.{kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Bool")}
)  # what a dictionary of tensors needs


@dataclass(frozen=True)
class Instruction:
    """One step of the machine."""

    at: int  # byte
    name: str
    argument: object  # None for most


@dataclass(frozen=True)
class Report:
    """What a pickle fetches and whether it calls anything."""

    names: tuple[str, ...]  # "module.function", in the order of the file
    n_calls: int

    def unexpected(self, expected: Collection[str] = TENSOR_NAMES) -> list[str]:
        """The names that no dictionary of tensors needs. An empty list is good; anything else is a reason not to load."""
        return [name for name in self.names if name not in expected]


def instructions(content: bytes) -> list[Instruction]:
    """The program, step by step. Raises ValueError for bytes that are no pickle, or hold anything behind its end."""
    try:
        steps = [Instruction(at, op.name, argument) for op, argument, at in pickletools.genops(content)]
    except ValueError as error:
        raise ValueError(f"these {len(content)} bytes are no pickle ({error}); give the .pkl of a checkpoint") from None
    if rest := len(content) - steps[-1].at - 1:
        raise ValueError(
            f"{rest} bytes stand behind the pickle's end, and may be another program: whoever loads a file may load that too"
        )
    return steps


def read_report(content: bytes) -> Report:
    """Which names a pickle fetches and how often it calls.

    A name stands in the file whole (GLOBAL), or as two strings put on the stack before (STACK_GLOBAL), which may also come
    from the machine's memory. The stack is not followed any further: a name of which that is not enough is reported as
    "?". Who hides a name has a reason.
    """
    names: list[str] = []
    strings: list[str | None] = []  # what was put on the stack, as far as it is text; None for anything else
    memory: dict[int, str | None] = {}
    steps = instructions(content)
    for step in steps:
        if step.name in ("GLOBAL", "INST"):
            names.append(str(step.argument).replace(" ", "."))
            strings.append(None)
        elif step.name == "STACK_GLOBAL":
            parts = strings[-2:]
            names.append(".".join(parts) if len(parts) == 2 and None not in parts else "?")
            strings[-2:] = [None]
        elif step.name in EXTENSIONS:
            names.append("?")
        elif step.name == "MEMOIZE":
            memory[len(memory)] = strings[-1] if strings else None
        elif step.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memory[int(step.argument)] = strings[-1] if strings else None
        elif step.name in ("GET", "BINGET", "LONG_BINGET"):
            strings.append(memory.get(int(step.argument)))
        elif step.name not in ("PROTO", "FRAME"):  # all others change the stack in a way that is not followed
            strings.append(step.argument if isinstance(step.argument, str) else None)
    return Report(tuple(names), sum(step.name in CALLS for step in steps))


def pickles_inside(path: Path | str) -> dict[str, bytes]:
    """The pickles of a checkpoint as `torch.save` writes it: a zip archive that holds one.

    Raises ValueError for a file that is no such archive or holds none, for a pickle of more than LARGEST bytes, which would
    fill memory, and where two entries have one name (torch does not look at its case): it is not told which one is loaded.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = Counter(one.filename.lower() for one in archive.infolist())
            if twice := [name for name, count in names.items() if count > 1]:
                raise ValueError(f"{path} holds {names[twice[0]]} entries named {twice[0]!r}; do not load it")
            found = [one for one in archive.infolist() if one.filename.lower().endswith(".pkl")]
            if not found:
                raise ValueError(f"{path} is an archive without a pickle; give a checkpoint that torch.save wrote")
            if large := [one for one in found if one.file_size > LARGEST]:
                raise ValueError(f"{path} holds a pickle of {large[0].file_size:,} bytes; at most {LARGEST:,} are read")
            return {one.filename: archive.read(one) for one in found}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is no whole zip archive ({error}); give a checkpoint that torch.save wrote") from None


def listing(steps: Iterable[Instruction]) -> str:
    """The program for reading: byte, instruction, argument."""
    shown = ((step, "" if step.argument is None else repr(step.argument)) for step in steps)
    return "\n".join(f"{step.at:4} {step.name:16} {argument}".rstrip() for step, argument in shown)
