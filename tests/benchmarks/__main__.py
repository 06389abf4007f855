"""Measure, and write down: `python -m tests.benchmarks [--short] [ROW ...]`.

Without names all rows are measured, which takes hours of a quiet machine; a name stands for every row that begins with
it, so that `training` is the whole group. Each row is written into `results.json` as soon as it is there, with its day
and machine, and the tables and plots of `book/performance.md` are written anew from the file. --short takes three rounds
and one seed: good for a look, and marked as such.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path

import torch

from tests.benchmarks import (
    attention,
    bert,
    bpe,
    encoder_decoder,
    generation,
    growth,
    learning,
    report,
    start,
    training,
)

RESULTS = Path(__file__).with_name("results.json")
GROUPS = (training, generation, attention, bpe, bert, encoder_decoder, learning, start, growth)
ROWS = {name: row for group in GROUPS for name, row in group.ROWS.items()}
PEERS = ("torch", "transformers", "tokenizers", "x-transformers", "litgpt", "tiktoken", "rustbpe")
TELLING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides how fast a processor multiplies matrices


def machine() -> dict:
    """What the numbers depend on: the processor, its instructions, the GPU if there is one, and the versions."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"model name\s*: (.*)", cpu)
    kind = re.search(r"cpu family\s*: (.*)\nmodel\s*: (.*)", cpu)  # virtual machines often hide the name, and not this
    flags = set(re.search(r"flags\s*: (.*)", cpu).group(1).split()) if "flags" in cpu else set()
    versions = {"python": platform.python_version()}
    for peer in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[peer] = importlib.metadata.version(peer)
    return {
        "processor": named.group(1) if named else platform.processor() or platform.machine(),
        "family": f"{kind.group(1)}, model {kind.group(2)}" if kind else None,
        "instructions": [flag for flag in TELLING if flag in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),  # other work at the time: 0 is a quiet machine
        "versions": versions,
    }


def stored() -> dict:
    """What was measured before."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def measure(name: str, short: bool) -> None:
    """One row, measured and written into the file."""
    found = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "short": short, "machine": machine()}
    found |= ROWS[name].run(short=short)
    results = stored() | {name: found}
    ordered = {row: results[row] for row in ROWS if row in results}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
    print(name, report.in_short(found), flush=True)


def main() -> None:
    """Measure the rows that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"beginnings of: {', '.join(ROWS)}")
    parser.add_argument("--short", action="store_true", help="three rounds and one seed")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the page from what is stored")
    given = parser.parse_args()
    for beginning in given.rows:
        if not any(name.startswith(beginning) for name in ROWS):
            parser.error(f"no row begins with {beginning!r}; there are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    for name in ROWS:
        if not given.report and (not given.rows or any(name.startswith(beginning) for beginning in given.rows)):
            measure(name, given.short)
    report.write(stored())


if __name__ == "__main__":
    main()
