"""The figure of label efficiency draws the runs that it was given: means, lowest and highest, and chance."""

import pytest

from llmcourse.visualize.transfer import label_efficiency

RUNS = {
    "pre-trained": {8: [0.9, 0.8, 1.0], 32: [0.95, 1.0, 0.99]},
    "from scratch": {8: [0.3, 0.5, 0.4], 32: [0.7, 0.6, 0.8]},
}


def test_lines_run_through_the_means_and_bands_from_the_lowest_to_the_highest_run():
    figure = label_efficiency(RUNS, chance=0.25)
    (ax,) = figure.axes
    lines = [line for line in ax.get_lines() if line.get_linestyle() == "-"]
    for line, runs in zip(lines, RUNS.values(), strict=True):
        assert list(line.get_xdata()) == [8, 32]
        assert list(line.get_ydata()) == pytest.approx([sum(values) / 3 for values in runs.values()])
    for band, runs in zip(ax.collections, RUNS.values(), strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(min(map(min, runs.values())))
        assert heights.max() == pytest.approx(max(map(max, runs.values())))
    points = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in points) == 12


def test_chance_is_marked_and_every_number_of_labels_has_a_tick():
    (ax,) = label_efficiency(RUNS, chance=0.25).axes
    (dashed,) = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert set(dashed.get_ydata()) == {0.25}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "32"]
    assert ax.get_ylim()[0] < 0.25 and ax.get_ylim()[1] > 1


def test_the_name_of_a_line_stands_at_its_end():
    """The axis ends at 1 whatever the lines do: a name that was placed before that stood far above its line."""
    (ax,) = label_efficiency({"low": {8: [0.3], 32: [0.4]}, "lower": {8: [0.2], 32: [0.25]}}, chance=0.1).axes
    to_axes = ax.transData - ax.transAxes
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    for name, end in {"low": 0.4, "lower": 0.25, "chance 0.10": 0.1}.items():
        assert heights[name] == pytest.approx(to_axes.transform((32, end))[1])


def test_a_number_of_labels_without_a_run_is_refused():
    with pytest.raises(ValueError, match="'a' has a number of labels without a run"):
        label_efficiency({"a": {8: []}}, chance=0.5)
