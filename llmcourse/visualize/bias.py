"""Bias to look at: what was planted against what was learned, and what a threshold does to two groups."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from llmcourse.bias import group_rates, rate_gap
from llmcourse.display import Html, escape
from llmcourse.visualize.page import static
from llmcourse.visualize.plots import COLOURS

MARKERS = "os^Dv"
RATES = {  # what is counted, and the criterion that asks for equal ones
    "selected": ("decided for, of all", "demographic parity"),
    "true_positive": ("decided for, of those who would succeed", "equal opportunity"),
    "false_positive": ("decided for, of those who would not", "equalised odds: this gap and the one above"),
    "precision": ("would succeed, of those decided for", "predictive parity"),
}


def planted_and_learned(
    planted: Mapping[str, float],
    learned: Mapping[str, Mapping[str, float]],
    *,
    x_label: str = "planted P(she | occupation)",
    y_label: str = "learned P(she | occupation)",
) -> Figure:
    """A point for each word: across what the text says, upward what the model says; on the diagonal they agree.

    learned: {"model": {word: probability}}, a mark for each model. The words are written at the points of the first.
    """
    if not learned:
        raise ValueError("there is no model to draw; give one, such as {'trained': {'nurse': 0.9}}")
    for name, points in learned.items():
        if set(points) != set(planted):
            raise ValueError(f"{name!r} has {sorted(points)}, and {sorted(planted)} were planted: give the same words")
    figure, ax = plt.subplots(figsize=(7, 4.6), layout="constrained", facecolor="white")
    ax.spines[["top", "right"]].set_visible(False)
    ax.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="the text itself")
    for number, (name, points) in enumerate(learned.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        ax.plot(list(planted.values()), [points[word] for word in planted], marker, color=colour, label=name)
    first = next(iter(learned.values()))
    for word, x in planted.items():
        left = x > 0.5  # away from the diagonal, into the wider corner
        place = {
            "xytext": (-9, 4) if left else (9, -11),
            "textcoords": "offset points",
            "ha": "right" if left else "left",
        }
        ax.annotate(word, (x, first[word]), **place, fontsize=9)
    ax.set(xlabel=x_label, ylabel=y_label, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    plt.close(figure)  # a cell that ends with it shows it once
    return figure


def decided(labels: Tensor, scores: Tensor, groups: Sequence[str], thresholds: Mapping[str, float]) -> Html:
    """Who is decided for when each group has its threshold: four rates as bars, with the gap between the groups.

    labels: True for those who would succeed; scores: decided for are those with at least their group's threshold.
    thresholds: one for each group. Made to be turned over by `widgets.explore`; needs no script.
    """
    missing = set(groups) - set(thresholds)
    if missing:
        raise ValueError(f"the groups {sorted(missing)} have no threshold; give each group one")
    if not scores.is_floating_point():
        scores = scores.double()  # a threshold may lie between two whole numbers
    cuts = scores.new_tensor([thresholds[group] for group in groups])
    rates = group_rates(labels, scores >= cuts, groups)
    bars, lines = "", []
    for rate, (words, criterion) in RATES.items():
        values = {group: getattr(of_group, rate) for group, of_group in rates.items()}
        gap = rate_gap(rates, rate)
        note = f"{words}: {'no gap to measure' if math.isnan(gap) else f'gap {gap:.2f}'} ({criterion})"
        bars += f'<div><p class="note">{escape(note)}</p><ol class="bars">{_bars(values)}</ol></div>\n'
        lines.append(note + "; " + ", ".join(f"{group} {_number(value)}" for group, value in values.items()))
    label = ", ".join(f"threshold {thresholds[group]:g} for {group}" for group in rates)
    return Html(
        f'<div class="llmcourse-view" role="group" aria-label="{escape(label)}">\n<style>\n{static("views.css")}</style>\n'
        f'<div class="stage">{bars}</div></div>',
        "\n".join(lines),
    )


def _number(value: float) -> str:
    return "nobody" if math.isnan(value) else f"{value:.2f}"


def _bars(values: Mapping[str, float]) -> str:
    """One rate of every group, as bars with their numbers."""
    return "".join(
        f'<li><span class="word">{escape(group)}</span><span class="track"><span class="fill" '
        f'style="--share:{0 if math.isnan(value) else value:.4f}"></span></span>'
        f'<span class="number">{_number(value)}</span></li>'
        for group, value in values.items()
    )
