"""How tests judge time: processor time, which a busy machine changes little, beside what the machine can do now."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

BUDGET = 120  # seconds that a notebook may use, of a machine like the one on which the course was written
WRITTEN_AT = 0.35  # seconds that `products` may take before a machine counts as slower; 0.26 were measured there


class Spent(NamedTuple):
    """What some work took, in seconds."""

    processor: float  # on all cores together
    wall: float


def spent_by(work: Callable[[], object]) -> Spent:
    """What some work takes, the programs that it starts and waits for included."""
    processor, children, wall = time.process_time(), seconds_of_children(), time.perf_counter()
    work()
    spent = time.process_time() - processor + seconds_of_children() - children
    return Spent(spent, time.perf_counter() - wall)


def seconds_of(work: Callable[[], object]) -> float:
    """The processor time that some work takes."""
    return spent_by(work).processor


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


def take_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Spent]]:
    """Every work once a round, in order: what slows the machine for a while slows all of them.

    The first call of each is not counted: it pays for what later ones reuse.
    """
    for work in works.values():
        work()
    spent: dict[str, list[Spent]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            spent[name].append(spent_by(work))
    return spent


def ratios(theirs: list[Spent], ours: list[Spent]) -> list[float]:
    """How many times faster ours was, round by round, in processor time."""
    return [one.processor / other.processor for one, other in zip(theirs, ours, strict=True)]


def speed_ratio(theirs: Callable[[], object], ours: Callable[[], object], rounds: int = 7) -> float:
    """How many times faster ours is: the median of the ratios of processor time over interleaved rounds."""
    spent = take_turns({"theirs": theirs, "ours": ours}, rounds)
    return statistics.median(ratios(spent["theirs"], spent["ours"]))
