"""What a row of the bench is: contestants that do the same work, checked to agree, then timed turn by turn."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from tests.timing import Spent, ratios, take_turns

OURS = "llmcourse"


class Contestant(NamedTuple):
    """One implementation, made ready: nothing of what it needs to be made is timed."""

    work: Callable[[], object]  # what is timed
    result: Callable[[], object] | None = None  # what must be the same for all: a loss, an output, ids; None has none


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same work by several contestants, each made by a function when the row is run.

    A contestant whose library is not installed raises ModuleNotFoundError while it is made; the row says so and goes on
    without it. The reference, and what is ours, must be there.
    """

    title: str
    unit: str  # what one round of one contestant does
    reference: str  # the contestant that counts as 1.00
    contestants: Mapping[str, Callable[[], Contestant]]
    goals: Mapping[str, float] = field(default_factory=dict)  # the least ratio, by contestant
    ahead_of_all: bool = False  # whether OURS has to be the fastest, its own other forms and bare limits left out
    tolerance: float = 1e-4  # how far results of numbers may differ, absolutely
    rounds: int = 7

    def run(self, *, short: bool = False) -> dict:
        """Make, check, and time: what `results.json` holds of this row. short: three rounds at most."""
        made, absent = {}, {}
        for name, make in self.contestants.items():
            try:
                made[name] = make()
            except ModuleNotFoundError as error:
                absent[name] = str(error)
        for name in {self.reference, *self.goals} & set(absent):
            raise ModuleNotFoundError(f"{self.title}: {absent[name]}; `make bench` installs what the rows need")
        check_same({name: one.result for name, one in made.items() if one.result is not None}, self.tolerance)
        rounds = min(3, self.rounds) if short else self.rounds
        spent = take_turns({name: one.work for name, one in made.items()}, rounds)
        return {
            "kind": "comparison",
            "title": self.title,
            "unit": self.unit,
            "reference": self.reference,
            "rounds": rounds,
            "goals": dict(self.goals),
            "ahead_of_all": self.ahead_of_all,
            "absent": sorted(absent),
            "contestants": {name: summary(spent[self.reference], spent[name]) for name in made},
        }


def summary(reference: list[Spent], own: list[Spent]) -> dict:
    """The median ratio with its quartiles, and the median seconds."""
    low, median, high = quartiles(ratios(reference, own))
    return {
        "ratio": round(median, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "processor": rounded(statistics.median(one.processor for one in own)),
        "wall": rounded(statistics.median(one.wall for one in own)),
    }


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def rounded(seconds: float) -> float:
    """Seconds with four significant digits."""
    return float(f"{seconds:.4g}")


def check_same(results: Mapping[str, Callable[[], object]], tolerance: float) -> None:
    """Raise AssertionError unless all contestants come to what the first comes to."""
    found = {name: result() for name, result in results.items()}
    first = next(iter(found), None)
    for name, value in found.items():
        if isinstance(value, (float, torch.Tensor)):
            expected, value = torch.as_tensor(found[first]), torch.as_tensor(value)
            assert expected.shape == value.shape, f"{name} and {first} come to results of other shapes"
            far = (expected - value).abs().max().item()
            assert far <= tolerance, f"{name} and {first} differ by {far:.2g}, more than {tolerance:.2g}"
        else:
            assert value == found[first], f"{name} and {first} come to other results"
