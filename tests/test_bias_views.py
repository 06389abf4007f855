"""The figures of bias draw the numbers that they are given."""

import re

import pytest
import torch

from llmcourse.visualize.bias import decided, planted_and_learned
from llmcourse.visualize.widgets import explore
from tests.browsing import NARROW

PLANTED = {"nurse": 0.9, "pilot": 0.2}
LABELS = torch.tensor([1, 1, 0, 0, 1, 0, 0, 0]).bool()
SCORES = torch.tensor([0.7, 0.3, 0.7, 0.3, 0.7, 0.3, 0.3, 0.3])
GROUPS = ["A"] * 4 + ["<b>"] * 4


def page(threshold=0.5):
    return decided(LABELS, SCORES, GROUPS, {"A": threshold, "<b>": threshold})


def test_each_word_stands_at_its_planted_and_learned_probability():
    learned = {"one": {"pilot": 0.25, "nurse": 0.85}, "two": {"nurse": 0.5, "pilot": 0.5}}
    (ax,) = planted_and_learned(PLANTED, learned).axes
    diagonal, *models = ax.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in models] == [
        ([0.9, 0.2], [0.85, 0.25]),
        ([0.9, 0.2], [0.5, 0.5]),
    ]
    assert [(note.get_text(), note.xy) for note in ax.texts] == [("nurse", (0.9, 0.85)), ("pilot", (0.2, 0.25))]


def test_other_words_than_planted_and_no_model_are_refused():
    with pytest.raises(ValueError, match="give the same words"):
        planted_and_learned(PLANTED, {"one": {"nurse": 0.5}})
    with pytest.raises(ValueError, match="no model"):
        planted_and_learned(PLANTED, {})


def test_bars_and_gaps_are_those_counted_by_hand():
    shares = [float(share) for share in re.findall(r"--share:([\d.]+)", page().html)]
    assert shares == [0.5, 0.25, 0.5, 1.0, 0.5, 0.0, 0.5, 1.0]
    assert "decided for, of all: gap 0.25 (demographic parity); A 0.50, <b> 0.25" in page().text
    assert [float(gap) for gap in re.findall(r"gap ([\d.]+) ", page().html)] == [0.25, 0.5, 0.5, 0.5]


def test_each_group_has_its_own_threshold():
    own = decided(LABELS, SCORES, GROUPS, {"A": 0.0, "<b>": 0.5})
    shares = [float(share) for share in re.findall(r"--share:([\d.]+)", own.html)]
    assert shares[:2] == [1.0, 0.25]
    with pytest.raises(ValueError, match="no threshold"):
        decided(LABELS, SCORES, GROUPS, {"A": 0.5})


def test_a_threshold_between_two_whole_scores_is_not_cut():
    view = decided(torch.tensor([True, True, False]), torch.tensor([1, 2, 1]), ["A", "A", "A"], {"A": 1.5})
    assert "A 0.33" in view.text
    equal = decided(torch.tensor([True, False]), torch.tensor([0.9, 0.1]), ["A", "A"], {"A": 0.9})
    assert "A 0.50" in equal.text  # a score of just the threshold is decided for, in 32 bits too


def test_nobody_is_named_as_nobody_and_names_are_text():
    assert "nobody" in page(0.9).html and "no gap to measure" in page(0.9).html and "nan" not in page(0.9).html
    assert "<b>" not in page().html and "&lt;b&gt;" in page().html


@pytest.mark.parametrize("width", [NARROW, 1000])
def test_the_sliders_turn_the_pages_over_and_nothing_is_wider_than_the_page(open_page, width):
    show = lambda a, b: decided(LABELS, SCORES, GROUPS, {"A": a, "<b>": b})  # noqa: E731
    tab = open_page(explore(show, a=[0.1, 0.5, 0.9], b=[0.1, 0.5, 0.9]).page, viewport={"width": width, "height": 900})
    seen = lambda: tab.locator(".page:visible .number").all_inner_texts()[:2]  # noqa: E731
    assert seen() == ["1.00", "1.00"]
    tab.get_by_label("a", exact=True).focus()
    tab.keyboard.press("ArrowRight")
    assert seen() == ["0.50", "1.00"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
