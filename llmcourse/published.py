"""Trainings of others, and what the estimate sheet says of them: a check of the sheet against what was really spent.

The figures and their sources lie in `published_runs.toml`. What the sheet is told of a run (a speed that was measured) and
what it is checked against (hours, days, operations) are different figures.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from llmcourse.files import read_text
from llmcourse.planning import Layout, Machine, Plan, Training, flops_a_token, plan
from llmcourse.transformer import TransformerConfig

# Filled in where a publication says nothing; no figure that is checked depends on them.
UNSAID = {"memory": 80e9, "bandwidth": 2e12, "link": 25e9}


class Comparison(NamedTuple):
    """One published figure beside ours."""

    run: str
    what: str  # the name of the figure in `Plan`
    published: float
    ours: float
    given: str  # what the sheet was told
    source: str

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.published


@cache
def _runs() -> dict[str, Mapping]:
    text = read_text(Path(__file__).with_name("published_runs.toml"))
    return {run["name"]: run for run in tomllib.loads(text)["run"]}


def _utilisation(run: Mapping) -> float:
    """The share of its devices' peak that a run kept up, from the speed it published."""
    if "like" in run:
        return _utilisation(_runs()[run["like"]])
    if "tokens_a_second" in run:
        return run["tokens_a_second"] * flops_a_token(training_of(run["name"])) / run["peak"]
    return run["rate"] / run["peak"] if "rate" in run else 1.0


def names() -> list[str]:
    """The published trainings."""
    return list(_runs())


def training_of(name: str) -> Training:
    """What was trained. Raises ValueError when no such run is listed."""
    if name not in _runs():
        raise ValueError(f"no published run is called {name!r}; use one of {', '.join(map(repr, names()))}")
    run = _runs()[name]
    model = TransformerConfig(**run["model"])
    return Training(model=model, tokens=run["tokens"], batch=run["batch"], recompute=run.get("recompute", "none"))


def plan_of(name: str, layout: Layout | None = None) -> Plan:
    """The sheet of a published run. Without a layout every device is a copy: that changes memory, and no speed or price."""
    training, run = training_of(name), _runs()[name]
    machine = Machine(name="device", flops=run.get("peak", 312e12), utilisation=_utilisation(run), **UNSAID)
    layout = layout or Layout(data=run["devices"])
    if layout.devices != run["devices"]:
        raise ValueError(f"{name} ran on {run['devices']} devices, and this layout has {layout.devices}")
    share = layout.data * layout.micro_batch  # batches that grew, or were not published, are rounded up to fit
    return plan(replace(training, batch=-(-training.batch // share) * share), machine, layout)


def published() -> list[Comparison]:
    """Every published figure beside ours."""
    return [
        Comparison(name, what, float(figure), float(getattr(plan_of(name), what)), run["given"], run["source"])
        for name, run in _runs().items()
        for what, figure in run["checks"].items()
    ]
