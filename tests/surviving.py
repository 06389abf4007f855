"""A process that is killed: `python -m tests.surviving` loads torch once, and then forks a child for every command.

A command is one line of JSON; the answer is the child's number. The child is kept until an empty line comes, so that its
number is nobody else's, and then the answer is how it ended.
"""

import faulthandler
import io
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from llmcourse import files, sources, weights
from llmcourse.data import Batch, next_token_batch, random_windows
from llmcourse.models import GPT
from llmcourse.training import TrainConfig, next_token_loss, seed_everything, train
from llmcourse.transformer import TransformerConfig

TOKENS = torch.randint(11, (300,), generator=torch.Generator().manual_seed(0))
STEPS = 12
OPTIONS = {
    "plain": {},
    "all": {"optimiser": "muon", "precision": "bfloat16", "accumulate": 2, "schedule": "trapezoid", "fall": 0.5},
}
LONGEST = 120  # seconds; a child that hangs says where, and ends
PIECE, DELAY = 2048, 2e-3  # a slow disk takes so many bytes in so many seconds


class SlowFile(io.FileIO):
    """A file on a disk so slow that a save takes as long as several steps: most kills fall into it."""

    def write(self, content: bytes) -> int:
        for start in range(0, len(content), PIECE):
            super().write(content[start : start + PIECE])
            time.sleep(DELAY)
        return len(content)


def write_carelessly(path: Path, content: bytes, *, keep: Path) -> None:
    """What `write_atomically` is not: the fault that is planted."""
    if path.exists():
        keep.write_bytes(path.read_bytes())
    with SlowFile(path, "wb") as file:
        file.write(content)


def new_model() -> GPT:
    """A small model with dropout, always of the same weights."""
    torch.manual_seed(0)
    return GPT(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, dropout=0.2))


def drawn_batches() -> Iterator[Batch]:
    """Batches drawn with the same random numbers as dropout: where the data stand is part of the random state."""
    while True:
        starts = torch.randint(len(TOKENS) - 8, (4,)).tolist()
        yield next_token_batch([TOKENS[start : start + 8].tolist() for start in starts], begin=0, pad=0)


def windows() -> Iterator[Batch]:
    """Batches drawn from a seed of their own."""
    return random_windows(TOKENS, context=8, size=4, seed=1)


STREAMS = {"windows": windows, "drawn": drawn_batches}


def train_and_save(
    checkpoint: str, log: str, options: str, stream: str, disk: str = "fast", full_after: int = 0
) -> None:
    """Train with a save after every step, and note each step in the log before the next one begins.

    full_after: the step behind which no file may be larger than 1 kB.
    """
    if disk == "slow":
        files.os.fdopen = SlowFile
    if disk == "careless":
        weights.write_atomically = write_carelessly
    config = TrainConfig(steps=STEPS, warm_up=3, checkpoint=Path(checkpoint), checkpoint_every=1, **OPTIONS[options])
    with open(log, "ab", buffering=0) as file:
        for step in train(new_model(), STREAMS[stream](), next_token_loss, config):
            file.write(f"\n{json.dumps(step)}".encode())
            if step.number == full_after:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


def fetch(home: str, address: str, sha256: str, disk: str = "fast") -> None:
    """Download a file."""
    if disk == "slow":
        files.os.fdopen = SlowFile
    os.environ["LLMCOURSE_HOME"] = home
    sources.fetch(address, sha256)


def draw_a_bar() -> None:
    """Be at the place where a bar is drawn, until killed."""
    with tqdm.get_lock():
        time.sleep(LONGEST)


COMMANDS = {one.__name__: one for one in (train_and_save, fetch, draw_a_bar)}


def serve() -> None:
    """Fork a child for each line, and wait for its end when an empty line comes."""
    seed_everything(0)
    # A bar's own lock is one for all children, and stays taken when a child is killed in it; this one each child has for itself.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0  # its thread may hold a lock at the moment of a fork, and the child would wait for ever
    for _ in train(new_model(), windows(), next_token_loss, TrainConfig(steps=1)):
        pass  # what torch loads late is loaded before the first child is born
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            try:
                COMMANDS[command.pop("run")](**command)
            except BaseException:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        sys.stdin.readline()
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    serve()
