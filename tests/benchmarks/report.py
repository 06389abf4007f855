"""From `results.json` to the page `book/performance.md`: tables between its markers, and plots beside it."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator

from tests.benchmarks.measuring import OURS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "book" / "performance.md"
PLOTS = ROOT / "book" / "_static" / "performance"
LIMITS = ("matrix products alone", "reading the weights")  # what no model can be faster than


def is_reached(row: Mapping) -> bool | None:
    """Whether a row came to its goals; None where it has none."""
    if row["kind"] == "comparison":
        ratios = {name: one["ratio"] for name, one in row["contestants"].items()}
        rivals = [ratio for name, ratio in ratios.items() if not name.startswith(OURS) and name not in LIMITS]
        ahead = not row["ahead_of_all"] or ratios[OURS] >= max(rivals)
        if not row["goals"]:
            return None
        return ahead and all(ratios[name] >= goal for name, goal in row["goals"].items())
    if row["kind"] == "learning":
        return row["ratio"] is not None and row["ratio"] >= row["goal"]
    if row["kind"] == "growth":
        return row["expected"][0] <= row["exponent"] <= row["expected"][1]
    return all(row["times"][name]["wall"] <= goal for name, goal in row["goals"].items())


def in_short(row: Mapping) -> str:
    """A row in one line."""
    if row["kind"] == "comparison":
        found = ", ".join(f"{name} {one['ratio']:.2f}" for name, one in row["contestants"].items())
    elif row["kind"] == "growth":
        found = f"exponent {row['exponent']}"
    elif row["kind"] == "learning":
        found = f"ratio {row['ratio']}"
    else:
        found = ", ".join(f"{name} {one['wall']} s" for name, one in row["times"].items())
    return f"{found} {({True: 'reached', False: 'not reached', None: ''})[is_reached(row)]}"


def tables(results: Mapping[str, Mapping]) -> dict[str, str]:
    """The text for each marker of the page."""
    kinds = {"ratios": "comparison", "growth": "growth", "learning": "learning", "times": "times"}
    makers = {"ratios": _ratios, "growth": _growth, "learning": _learning, "times": _times}
    texts = {}
    for marker, kind in kinds.items():
        rows = [row for row in results.values() if row["kind"] == kind]
        texts[marker] = "\n".join(makers[marker](rows)) if rows else "Not measured yet."
    return texts | {"machine": _machine(results)}


def _ratios(rows: list[Mapping]) -> Iterator[str]:
    """A sentence and a small table for each row: one large table would be too wide for a phone."""
    for row in rows:
        yield f"**{row['title']}**: {row['unit']}" + " (short)" * row["short"] + "."
        yield ""
        yield "| by | ratio | goal | quartiles | processor s | wall s |"
        yield "|---|---|---|---|---|---|"
        for name, one in row["contestants"].items():
            low, high = one["quartiles"]
            goal = ""
            if name in row["goals"]:
                reached = one["ratio"] >= row["goals"][name]
                goal = f"{row['goals'][name]:.2f}, {'' if reached else 'not '}reached"
            # Rounded down, so that nothing looks like its goal that falls short of it.
            ratio = "1" if name == row["reference"] else f"{math.floor(100 * one['ratio']) / 100:.2f}"
            spread = "" if name == row["reference"] else f"{low:.2f} to {high:.2f}"
            yield f"| {name} | {ratio} | {goal} | {spread} | {one['processor']:g} | {one['wall']:g} |"
        for name in row["absent"]:
            yield f"| {name} | not installed | | | | |"
        yield ""


def _growth(rows: list[Mapping]) -> Iterator[str]:
    yield "| what | what grows | expected | exponent, expected | exponent, measured |"
    yield "|---|---|---|---|---|"
    for row in rows:
        low, high = row["expected"]
        grows = f"{row['size']}, {row['sizes'][0]:,} to {row['sizes'][-1]:,}"
        yield f"| {row['title']} | {grows} | {row['law']} | {low:g} to {high:g} | {row['exponent']:.2f}{_where(row)} |"


def _where(row: Mapping) -> str:
    """What is to be said beside an exponent that leaves a constant part out."""
    return f", beyond {row['sizes'][0]:,}" if row.get("beyond_smallest") else ""


def _learning(rows: list[Mapping]) -> Iterator[str]:
    yield "| corpus | seeds | times sooner, mean | each seed | goal |"
    yield "|---|---|---|---|---|"
    for row in rows:
        each = ", ".join("not reached" if run["ratio"] is None else f"{run['ratio']:.1f}" for run in row["runs"])
        mean = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
        name = row["title"] + " (short)" * row["short"]
        yield f"| {name} | {len(row['runs'])} | {mean} | {each} | {row['goal']:g} |"


def _times(rows: list[Mapping]) -> Iterator[str]:
    yield "| what | processor s | wall s | goal, wall s |"
    yield "|---|---|---|---|"
    for row in rows:
        for name, one in row["times"].items():
            goal = f"{row['goals'][name]:g}" if name in row["goals"] else ""
            yield f"| {row['title']}, {name} | {one['processor']:g} | {one['wall']:g} | {goal} |"


def _machine(results: Mapping[str, Mapping]) -> str:
    lines = []
    for row in results.values():
        one = row["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        family = f", family {one['family']}" if one.get("family") else ""
        device = one["gpu"] or f"{one['processor']}{family} ({', '.join(one['instructions'])}), no GPU"
        lines.append(f"{row['date']}: {device}, {one['cores']} cores, {one['threads']} thread; {versions}.")
    return "\n\n".join(dict.fromkeys(lines)) or "Not measured yet."


def plot_growth(rows: list[Mapping]) -> None:
    """Seconds against size, both logarithmic: a power law is a straight line."""
    columns = 4
    figure, axes = plt.subplots(
        -(-len(rows) // columns), columns, figsize=(12, 5.5), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(rows) :]:
        axis.remove()
    for axis, row in zip(axes.flat[: len(rows)], rows, strict=True):
        axis.loglog(row["sizes"], row["processor"], "o-", color="#0072b2")
        axis.set(
            title=f"{row['title']}: {row['exponent']:.2f}{_where(row)}", xlabel=row["size"], ylabel="processor seconds"
        )
        axis.set_xticks(row["sizes"], labels=map(EngFormatter(places=0, sep=""), row["sizes"]))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.title.set_size(9), axis.xaxis.label.set_size(8), axis.yaxis.label.set_size(8)
    _save(figure, "growth")


def plot_learning(rows: list[Mapping]) -> None:
    """Validation loss against processor time, a line for each seed."""
    figure, axes = plt.subplots(1, len(rows), figsize=(5 * len(rows), 3.6), layout="constrained", squeeze=False)
    for axis, row in zip(axes.flat, rows, strict=True):
        for recipe, color in (("GPT-2", "#d55e00"), ("modern", "#0072b2")):
            for number, run in enumerate(row["runs"]):
                axis.plot(*zip(*run[recipe], strict=True), color=color, label=recipe if number == 0 else None)
        axis.set(title=row["title"], xlabel="processor seconds of training", ylabel="validation loss, nats a character")
        axis.legend()
    _save(figure, "learning")


def plot_watching(row: Mapping) -> None:
    """The two passes side by side."""
    figure, axis = plt.subplots(figsize=(5, 2), layout="constrained")
    names = list(row["contestants"])
    axis.barh(names, [row["contestants"][name]["processor"] for name in names], color=["#0072b2", "#d55e00"])
    axis.set(xlabel="processor seconds a pass")
    _save(figure, "watching")


def _save(figure: plt.Figure, name: str) -> None:
    PLOTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOTS / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def filled(page: str, texts: Mapping[str, str]) -> str:
    """The page with new text between each pair of its markers. Raises ValueError for a marker that it does not have."""
    for marker, text in texts.items():
        pattern = re.compile(rf"(<!-- {marker}: .*? -->\n).*?(\n<!-- end of {marker} -->)", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"{PAGE} has no lines '<!-- {marker}: ... -->' and '<!-- end of {marker} -->'")
        page = pattern.sub(lambda found, text=text: found.group(1) + "\n" + text + "\n" + found.group(2), page)
    return page


def write(results: Mapping[str, Mapping]) -> None:
    """Tables into the page, and the plots of what was measured."""
    PAGE.write_text(filled(PAGE.read_text(), tables(results)))
    kinds = {kind: [row for row in results.values() if row["kind"] == kind] for kind in ("growth", "learning")}
    if kinds["growth"]:
        plot_growth(kinds["growth"])
    if kinds["learning"]:
        plot_learning(kinds["learning"])
    if "watching" in results:
        plot_watching(results["watching"])
