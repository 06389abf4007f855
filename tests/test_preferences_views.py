"""The figures of preferences draw the numbers that they are given."""

import math
import re

import pytest

from llmcourse.preferences import least_divergence
from llmcourse.visualize.preferences import best_replies, frontier
from llmcourse.visualize.widgets import explore
from tests.browsing import NARROW

REFERENCE = {"kind": 0.5, "<curt>": 0.25, "broken": 0.25}
REWARDS = {"kind": 1.0, "<curt>": 0.0, "broken": 0.5}


def page(beta=1.0):
    return best_replies(REFERENCE, REWARDS, beta)


def test_bars_are_the_reference_and_its_tilt_by_hand():
    weights = [0.5 * math.e, 0.25, 0.25 * math.e**0.5]
    after = [weight / sum(weights) for weight in weights]
    shares = [float(share) for share in re.findall(r"--share:([\d.]+)", page().html)]
    assert shares[::2] == [0.5, 0.25, 0.25]
    assert shares[1::2] == pytest.approx(after, abs=1e-4)
    kl = sum(p * math.log(p / q) for p, q in zip(after, [0.5, 0.25, 0.25], strict=True))
    assert f"mean reward {after[0] + 0.5 * after[2]:.2f}, KL {kl:.2f} nats" in page().text


def test_a_reply_of_which_nothing_is_left_is_no_error_and_names_are_text():
    assert "KL 0.69 nats" in page(1e-3).text and "nan" not in page(1e-3).html
    assert "<curt>" not in page().html and "&lt;curt&gt;" in page().html
    with pytest.raises(ValueError, match="give a reward to each reply"):
        best_replies(REFERENCE, {"kind": 1.0}, 1.0)


def test_the_frontier_draws_every_point_beside_the_least_divergence():
    paths = {"β = 0.5": [(0.0, 0.5), (0.7, 0.95)], "β = 0.05": [(0.0, 0.5), (2.0, 0.98), (4.0, 1.0)]}
    (ax,) = frontier(paths, before=0.5, y_label="polite share").axes
    least, *drawn = ax.get_lines()
    assert [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in drawn] == list(paths.values())
    assert [line.get_label() for line in drawn] == list(paths)
    assert all(
        x == pytest.approx(least_divergence(y, 0.5)) for x, y in zip(least.get_xdata(), least.get_ydata(), strict=True)
    )
    assert (least.get_xdata()[-1], least.get_ydata()[-1]) == pytest.approx((math.log(2), 1.0))
    with pytest.raises(ValueError, match="no path to draw"):
        frontier({"β = 1": []}, before=0.5, y_label="share")


@pytest.mark.parametrize("width", [NARROW, 1000])
def test_the_slider_turns_the_pages_over_and_nothing_is_wider_than_the_page(open_page, width):
    tab = open_page(explore(page, beta=[0.1, 1.0, 5.0]).page, viewport={"width": width, "height": 900})
    seen = lambda: tab.locator(".page:visible .number").all_inner_texts()[1]  # noqa: E731
    assert seen() == "1.00"
    tab.get_by_label("β", exact=True).focus()
    tab.keyboard.press("ArrowRight")
    assert seen() == "0.67"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
