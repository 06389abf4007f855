"""How far the numbers that cells print stand from a rounding edge, against how far they move from kernel to kernel.

`python -m tests.margins 03` runs the notebooks whose names begin so under several kernels of torch and numbers of threads,
and names each printed number whose distance from the nearest edge is under 100 times its spread over those runs.

Seen are the numbers that a cell's own f-strings round (`{loss:.2f}`, `{share:.0%}`), before they are rounded. Not seen are
those that the package formats (tables, views, claims) and texts of other kinds: of these, only runs are compared.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.notebooks import paths, read

ROOT = Path(__file__).parents[1]
TIMES = 100  # how often the spread fits between a number and the edge
SETTINGS = (
    {},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"OMP_NUM_THREADS": "2"},
)
ROUNDED = re.compile(r"\.(\d+)([f%])$")


class Printed(NamedTuple):
    """One number as it was before a cell rounded it."""

    cell: int
    spec: str
    value: float


class _Noting(ast.NodeTransformer):
    """Every `{value:spec}` of a cell is shown to `_note` before it is formatted."""

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.FormattedValue:
        self.generic_visit(node)
        if node.format_spec is not None:
            node.value = ast.Call(ast.Name("_note", ast.Load()), [node.value, node.format_spec], [])
        return ast.fix_missing_locations(node)


def run(path: Path) -> list[Printed]:
    """Run a notebook's cells in this process, and tell what those print whose output is compared.

    Raises what a cell raises: a claim must hold under every setting.
    """
    from IPython.core.interactiveshell import InteractiveShell

    seen, cell = [], None
    shell = InteractiveShell.instance()

    def note(value, spec):
        if cell is not None and ROUNDED.search(spec):
            seen.append(Printed(cell, spec, float(value)))
        return value

    shell.user_ns["_note"] = note
    shell.ast_transformers.append(_Noting())
    code = [part for part in read(path).cells if part.cell_type == "code"]
    for number, part in enumerate(code):
        cell = None if "nbval-ignore-output" in part.metadata.get("tags", []) else number
        ran = shell.run_cell(part.source, store_history=True)
        if "raises-exception" not in part.metadata.get("tags", []):
            ran.raise_error()
    return seen


def under(path: Path, setting: dict[str, str]) -> list[Printed]:
    """What a notebook prints in a process of its own, with some settings in its environment."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "printed.json")
        fixed = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "agg", "LLMCOURSE_HOME": folder}
        command = [sys.executable, "-m", "tests.margins", "--write", str(file), str(path)]
        subprocess.run(command, cwd=ROOT, env=os.environ | fixed | setting, stdout=subprocess.DEVNULL, check=True)
        return [Printed(*one) for one in json.loads(file.read_text(encoding="utf-8"))]


def distance(value: float, spec: str) -> float:
    """How far a number stands from the nearest place where its last printed digit would change."""
    digits, kind = ROUNDED.search(spec).groups()
    unit = 10.0 ** -(int(digits) + 2 * (kind == "%"))
    return abs(value / unit % 1 - 0.5) * unit


def too_near(runs: Sequence[Sequence[Printed]]) -> Iterator[str]:
    """A sentence for each number, of several runs of one notebook, that moves too much for where it stands."""
    for same in zip(*runs, strict=True):
        (cell, spec, value), values = same[0], [one.value for one in same]
        if (spread := max(values) - min(values)) and distance(value, spec) < TIMES * spread:
            yield (
                f"cell {cell} prints {value!r} as {value:{spec}}: it moves by {spread:.1e} and is "
                f"{distance(value, spec):.1e} from a rounding edge; print fewer digits, or a claim"
            )


def main(arguments: list[str]) -> int:
    """Look at the notebooks that begin with the given numbers, or with --write run one for `under`."""
    if arguments[:1] == ["--write"]:
        Path(arguments[1]).write_text(json.dumps(run(Path(arguments[2]))), encoding="utf-8")
        return 0
    found = []
    for path in paths():
        if any(path.name.startswith(prefix) for prefix in arguments):
            runs = [under(path, setting) for setting in SETTINGS]
            faults = list(too_near(runs))
            moved = sum(len({one.value for one in same}) > 1 for same in zip(*runs, strict=True))
            print(f"{path.name}: {len(runs[0])} numbers, {moved} of them move", *faults, sep="\n  ", flush=True)
            found += faults
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
