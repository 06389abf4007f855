"""How tests judge time: processor time, which a busy machine changes little, beside what the machine can do now."""

import os
import statistics
import time
from collections.abc import Callable

import torch

BUDGET = 120  # seconds that a notebook may use, of a machine like the one on which the course was written
WRITTEN_AT = 0.35  # seconds that `products` may take before a machine counts as slower; 0.26 were measured there


def seconds_of(work: Callable[[], object]) -> float:
    """The processor time that some work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def seconds_of_children() -> float:
    """The processor time of all programs that this one has started and that have ended."""
    now = os.times()
    return now.children_user + now.children_system


def products() -> None:
    """A hundred matrix products of the shapes that the course's small models have."""
    a, b = torch.ones(2048, 128), torch.ones(128, 512)
    for _ in range(100):
        a @ b


def pace() -> float:
    """How many times longer this machine takes now than the one on which the course was written; 1 where it is faster."""
    return max(1.0, statistics.median(seconds_of(products) for _ in range(3)) / WRITTEN_AT)


def speed_ratio(theirs: Callable[[], object], ours: Callable[[], object], rounds: int = 7) -> float:
    """How many times faster ours is: the median of the ratios of processor time over interleaved rounds."""
    seconds_of(theirs), seconds_of(ours)  # the first call of each pays for what later ones reuse
    return statistics.median(seconds_of(theirs) / seconds_of(ours) for _ in range(rounds))
