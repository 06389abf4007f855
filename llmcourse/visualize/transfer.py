"""The figure of transfer: how good a model gets from how few labels, over several runs."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from llmcourse.visualize.plots import curves

MARGIN = 0.03


def label_efficiency(
    accuracies: Mapping[str, Mapping[int, Sequence[float]]], *, chance: int | float, task: str = "accuracy"
) -> Figure:
    """Accuracy against the number of labels, on a logarithmic axis: a line through the means, a band over all runs.

    accuracies: {"pre-trained": {8: [0.93, 0.97, 0.95], 16: [...]}}, one value a run. The band reaches from the lowest to
        the highest: with a handful of runs that says more than a standard error.
    chance: the accuracy of a blind guess, drawn as a dashed line.
    """
    empty = [name for name, runs in accuracies.items() if not runs or not all(len(values) for values in runs.values())]
    if empty:
        raise ValueError(f"{empty[0]!r} has a number of labels without a run; give one accuracy a run")
    means = {
        name: (list(runs), [sum(values) / len(values) for values in runs.values()]) for name, runs in accuracies.items()
    }
    lowest = min(chance, *(value for runs in accuracies.values() for values in runs.values() for value in values))
    figure = curves(
        means, floor=chance, floor_name="chance", x_label="labelled examples", y_label=task, log_x=True,
        y_limits=(lowest - MARGIN, 1 + MARGIN),
    )  # fmt: skip
    (ax,) = figure.axes
    for line, runs in zip(ax.get_lines(), accuracies.values(), strict=False):  # the last line is that of chance
        low, high = [min(values) for values in runs.values()], [max(values) for values in runs.values()]
        ax.fill_between(list(runs), low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        for n, values in runs.items():
            ax.plot([n] * len(values), values, ".", color=line.get_color(), markersize=4, alpha=0.7)
    sizes = sorted({n for runs in accuracies.values() for n in runs})
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    return figure
