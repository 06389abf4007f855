"""Figures, drawn with matplotlib on a white ground, so that they stay readable on a dark page.

Every function returns a figure; make it the last line of a cell to show it. Colour-blind readers can tell the colours
apart: viridis for weights, the palette of Okabe and Ito (2008) for lines and bars.

Letters: B batch, H heads, T query positions, S key positions.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator
from torch import Tensor

from llmcourse.visualize.page import checked, first_row

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
FLOOR = "#000000"
MAX_CELLS_WITH_NUMBERS = 12 * 12
NAME_HEIGHT = 0.07  # of a line's name beside its end, as a share of the axes


def heatmap(
    weights: Tensor,
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    title: str = "",
    numbers: bool | None = None,
    x_label: str = "key: looked at",
    y_label: str = "query: who looks",
) -> Figure:
    """A matrix as a picture, lighter where a number is larger; by default one attention map: a row for each query.

    columns: the keys, when they are not the queries' own tokens.
    numbers: write each weight into its cell; by default where there is room.
    """
    columns = rows if columns is None else columns
    weights = checked(weights, "weights", (len(rows), len(columns)))
    ax = _new_axes(1.6 + 0.5 * len(columns), 1.2 + 0.45 * len(rows))
    _draw_weights(ax, weights)
    ax.set_xticks(range(len(columns)), _plain(columns), rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), _plain(rows))
    ax.set(xlabel=x_label, ylabel=y_label, title=_plain([title])[0])
    if weights.numel() <= MAX_CELLS_WITH_NUMBERS if numbers is None else numbers:
        _write_numbers(ax, weights)
    return _finished(ax.figure)


def attention_grid(maps: Mapping[str, Tensor], tokens: Sequence[str]) -> Figure:
    """Every head of every layer, for the first sentence of the batch: a row a layer, a column a head.

    maps: what `record_attention` collects. The tokens are written where there are at most 12 of them.
    """
    layers = first_row(maps, tokens)
    n_heads = max(len(weights) for weights in layers.values())
    size = 1.4 if len(tokens) > 12 else 0.9 + 0.16 * len(tokens)
    figure = plt.figure(figsize=(1 + size * n_heads, 0.8 + size * len(layers)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(layers), n_heads, squeeze=False, sharex=True, sharey=True).tolist()
    for row, (name, weights) in zip(axes, layers.items(), strict=True):
        for ax in row[len(weights) :]:
            ax.set_axis_off()
        for head, (ax, head_weights) in enumerate(zip(row, weights, strict=False)):
            _draw_weights(ax, head_weights)
            ax.set_title(f"head {head}", fontsize=9)
        row[0].set_ylabel(name, fontsize=9)
    _label_tokens(axes, tokens)
    figure.supxlabel("key: looked at", fontsize=10)
    figure.supylabel("query: who looks", fontsize=10)
    return _finished(figure)


def ladder(losses: Mapping[str, int | float], floor: int | float, *, unit: str = "nats per token") -> Figure:
    """Models as a ladder of losses, with a line at the entropy: no model's true loss can be lower.

    losses: by the model's name, from the top rung to the bottom one.
    """
    if not losses:
        raise ValueError("the ladder has no rungs; give at least one loss, such as {'uniform': math.log(52)}")
    ax = _new_axes(7, 1.2 + 0.5 * len(losses))
    bars = ax.barh(_plain(losses), list(losses.values()), color=COLOURS[0], height=0.6)
    ax.bar_label(bars, [f"{loss:.2f}" for loss in losses.values()], padding=4)
    _mark_floor(ax.axvline, floor)
    where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    ax.annotate(f"entropy {floor:.2f}", (floor, 1), (0, 4), **where, ha="center", color=FLOOR)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(f"loss ({unit})")
    return _finished(ax.figure)


def curves(
    series: Mapping[str, tuple[Sequence[int | float], Sequence[int | float]]],
    *,
    floor: int | float | None = None,
    floor_name: str = "entropy",
    x_label: str = "step",
    y_label: str = "loss (nats per token)",
    y_limits: tuple[int | float, int | float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Lines with their names at their right ends: {"name": (xs, ys)}; `floor` is a dashed one.

    y_limits: where the vertical axis begins and ends; None fits it to the lines. Raises ValueError where a logarithmic axis
    has no place for a number.
    """
    if not series:
        raise ValueError("there is no curve to draw; give some, such as {'training': (steps, losses)}")
    if log_x and min((x for xs, _ in series.values() for x in xs), default=1) <= 0:
        raise ValueError("a logarithmic axis has no place for 0 or less; leave it out, or take log_x=False")
    ax = _new_axes(7, 4)
    for number, (name, (xs, ys)) in enumerate(series.items()):
        if len(xs) != len(ys) or len(xs) == 0:
            raise ValueError(f"the curve {name!r} has {len(xs)} xs and {len(ys)} ys; give one y for each x")
        colour = COLOURS[number % len(COLOURS)]
        marker, is_cut = "o" if len(xs) < 12 else None, y_limits is not None  # else a dot at the edge is drawn whole
        ax.plot(xs, ys, color=colour, linewidth=2, marker=marker, label=name, clip_on=is_cut)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.set(xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
    measured = sorted({x for xs, _ in series.values() for x in xs})
    if log_x and len(measured) < 12:
        _mark_measured(ax, measured)
    if floor is not None:
        _mark_floor(ax.axhline, floor, label=f"{floor_name} {floor:.2f}")
    ax.margins(x=0)
    if y_limits is not None:
        ax.set_ylim(y_limits)
    _name_lines(ax)
    return _finished(ax.figure)


def bars(groups: Mapping[str, Mapping[str, int | float]], *, y_label: str, digits: int = 2) -> Figure:
    """Grouped bars: {"BPE": {"English": 0.3, "Chinese": 1.1}} is one group; each language has a colour."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    if not names:
        raise ValueError("there is no bar to draw; give groups, such as {'BPE': {'English': 0.3}}")
    each = max(0.6 * len(names), 0.1 * max(map(len, groups)))  # inches: bars, or the words under them
    ax = _new_axes(max(4, 1 + each * len(groups)) + 1.2 * (len(names) > 1), 3.6)  # and the legend beside them
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [(i, group[name]) for i, group in enumerate(groups.values()) if name in group]
        left = [i + width * (number - (len(names) - 1) / 2) for i, _ in places]
        heights, colour = [height for _, height in places], COLOURS[number % len(COLOURS)]
        drawn = ax.bar(left, heights, width * 0.92, label=name, color=colour)
        ax.bar_label(drawn, fmt=f"{{:.{digits}f}}", padding=2)
    ax.set_xticks(range(len(groups)), _plain(groups))
    ax.set_ylabel(y_label)
    ax.margins(y=0.12)
    if len(names) > 1:
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return _finished(ax.figure)


def paths(strengths: Float[Tensor, "above below"], *, chance: float, title: str = "") -> Figure:
    """Heads of two layers as two rows of dots; a line is the thicker, the further a connection lies above chance."""
    if not chance > 0:
        raise ValueError(f"chance={chance} must be above 0; it is what a connection between unrelated heads would have")
    n_above, n_below = strengths.shape
    ax = _new_axes(5.5, 3.2)
    excess = (strengths / chance - 1).clamp(min=0)
    for above, below in itertools.product(range(n_above), range(n_below)):
        width = 10 * excess[above, below].item()
        ax.plot([below, above], [0, 1], linewidth=width, color=COLOURS[below % len(COLOURS)], alpha=0.7, zorder=1)
    for height, count in enumerate((n_below, n_above)):
        ax.scatter(range(count), [height] * count, s=260, color="white", edgecolor="black", zorder=2)
        for head in range(count):
            ax.annotate(str(head), (head, height), ha="center", va="center", zorder=3)
    ax.set_yticks([0, 1], ["layer below", "layer above"])
    ax.set_xticks([])
    ax.set(ylim=(-0.3, 1.3), xlim=(-0.6, max(n_above, n_below) - 0.4), title=_plain([title])[0])
    ax.spines[:].set_visible(False)
    return _finished(ax.figure)


def _finished(figure: Figure) -> Figure:
    """Take the figure out of pyplot's hands: a cell that ends with it then shows it once, not twice."""
    plt.close(figure)
    return figure


def _new_axes(width: int | float, height: int | float) -> Axes:
    _, ax = plt.subplots(figsize=(min(width, 12), min(height, 12)), layout="constrained", facecolor="white")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _draw_weights(ax: Axes, weights: Tensor) -> None:
    low, high = min(0.0, weights.min().item()), max(1.0, weights.max().item())
    ax.imshow(weights.numpy(), cmap="viridis", vmin=low, vmax=high, aspect="equal")
    ax.spines[:].set_visible(False)


def _write_numbers(ax: Axes, weights: Tensor) -> None:
    share = ax.images[-1].norm
    for i, row in enumerate(weights.tolist()):
        for j, weight in enumerate(row):
            colour = "black" if share(weight) > 0.45 else "white"  # there viridis turns from dark to light
            number = round(weight, 2) + 0.0  # which makes -0.0 a 0
            ax.text(j, i, f"{number:.2f}", ha="center", va="center", fontsize=8, color=colour)


def _label_tokens(axes: list[list[Axes]], tokens: Sequence[str]) -> None:
    names = _plain(tokens) if len(tokens) <= 12 else []
    for ax in axes[-1]:
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    for row in axes:
        row[0].set_yticks(range(len(names)), names, fontsize=7)


def _mark_floor(line: Callable, floor: int | float, **style: str) -> None:
    if not math.isfinite(floor):
        raise ValueError(f"floor={floor} is no height on an axis; give the entropy in the unit of the losses")
    line(floor, color=FLOOR, linestyle="--", linewidth=1.5, **style)


def _name_lines(ax: Axes) -> None:
    """Each name beside the right end of its line; where two would touch, or a line ends early, a dotted line leads to it."""
    ax.autoscale_view()  # matplotlib fits the axes lazily, and the places below depend on them
    ends = []
    for line in ax.get_lines():
        to_axes = line.get_transform() + ax.transAxes.inverted()
        ends.append((*to_axes.transform((line.get_xdata()[-1], line.get_ydata()[-1])), line))
    ends.sort(key=lambda end: end[1])
    for (x, y, line), height in zip(ends, _keep_apart([end[1] for end in ends], NAME_HEIGHT), strict=True):
        (name,), colour = _plain([line.get_label()]), line.get_color()
        is_apart = abs(height - y) > NAME_HEIGHT / 4 or x < 0.98
        leader = {"arrowstyle": "-", "color": colour, "linestyle": ":", "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3}
        ax.annotate(
            name, (x, y), (1.03 if is_apart else 1.02, height), xycoords="axes fraction", textcoords="axes fraction",
            va="center", color=colour, annotation_clip=False, arrowprops=leader if is_apart else None,
        )  # fmt: skip


def _keep_apart(heights: Sequence[float], least: float) -> list[float]:
    """The nearest heights, in the sense of least squares, from 0 on, of which none is less than `least` above the one before.

    heights: ascending. Neighbours that would touch form a group around the mean of where they belong.
    """
    groups: list[list[float]] = []  # where each would stand if all lay on one another
    for place, height in enumerate(heights):
        groups.append([height - place * least])
        while len(groups) > 1 and fmean(groups[-2]) > fmean(groups[-1]):
            later = groups.pop()
            groups[-1] += later
    means = [max(0.0, fmean(group)) for group in groups for _ in group]
    return [mean + place * least for place, mean in enumerate(means)]


def _mark_measured(ax: Axes, xs: Sequence[int | float]) -> None:
    """On a logarithmic axis, marks at what was measured, as far as their numbers have room."""
    marked = [xs[0]]
    for x in xs[1:]:
        if math.log(x / marked[-1]) > 0.06 * math.log(xs[-1] / xs[0]):
            marked.append(x)
    shorter = EngFormatter(places=0, sep="")
    ax.set_xticks(marked, [f"{x:,g}" if x < 10_000 else shorter(x) for x in marked])
    ax.xaxis.set_minor_locator(NullLocator())


def _plain(texts: Iterable[object]) -> list[str]:
    """Texts whose dollar signs are dollar signs, not mathematics."""
    return [str(text).replace("$", r"\$") for text in texts]
