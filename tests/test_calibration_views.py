"""The views of calibration: what the page computes is what the package computes, at every temperature and threshold."""

import json
import re

import pytest
import torch

from llmcourse.calibration import (
    confidence_and_choice,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)
from llmcourse.visualize import calibration
from tests.browsing import NARROW
from tests.view_catalogue import answered, answers, reliability_view, selective_view


def data_of(view):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', view.html, re.DOTALL)[1])


def numbers(page, name):
    return [
        float(value)
        for value in page.locator(f"[data-name={name}]").evaluate_all("all => all.map((e) => e.dataset.value)")
    ]


def test_the_page_holds_the_logits_and_the_text_the_bins():
    view, (logits, labels) = reliability_view(fitted=2.5), answers()
    assert data_of(view)["logits"] == logits.tolist() and data_of(view)["labels"] == labels.tolist()
    error = expected_calibration_error(*answered())
    assert f"Temperature 1.00: expected calibration error {error:.3f}" in view.text
    confidence, choice = confidence_and_choice(logits / 2.5)
    fitted = (
        f"Temperature 2.50: expected calibration error {expected_calibration_error(confidence, choice == labels):.3f}"
    )
    assert fitted in view.text and fitted in view.html
    filled = [part for part in reliability_bins(*answered()) if part.n]
    assert all(
        f"{part.n} answers, confidence {part.confidence:.2f}, right {part.accuracy:.2f}" in view.text for part in filled
    )


def test_the_page_holds_the_curve():
    data, curve = data_of(selective_view(best=[(0.5, 0.1), (1.0, 0.3)])), risk_coverage(*answered())
    torch.testing.assert_close(torch.tensor(data["risk"]).double(), curve.risk, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(data["confidence"]).double(), curve.threshold, atol=1e-6, rtol=0)
    assert data["best"] == [[0.5, 0.1], [1.0, 0.3]] and data["answered"] == 40
    assert (
        f"80 of 80 answered, from confidence {curve.threshold[-1]:.2f}: {curve.risk[-1]:.2f} wrong"
        in selective_view().text
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calibration.reliability(torch.zeros(3, 1), torch.zeros(3).long()), "2 to 16 choices"),
        (lambda: calibration.reliability(torch.zeros(3, 2), torch.zeros(2).long()), "3 answers, 2 labels"),
        (lambda: reliability_view(n_bins=1), "1 bins"),
        (lambda: reliability_view(temperature=0), "temperature 0"),
        (lambda: reliability_view(fitted=16.0), "temperature 16"),
        (lambda: calibration.reliability(torch.full((2, 2), torch.nan), torch.zeros(2).long()), "NaN"),
        (lambda: selective_view(answered=0.0), "answered=0"),
        (lambda: calibration.selective(torch.ones(1), torch.ones(1).bool()), "1 answers"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_way_out(call, words, without_shape_checks):
    with pytest.raises(ValueError, match=words):
        call()


def check_reliability(page, seed, temperature):
    logits, labels = answers(seed)
    confidence, choice = confidence_and_choice(logits / temperature)
    bins = reliability_bins(confidence, choice == labels)
    expected = [
        number for part in bins for number in ((part.n, part.confidence, part.accuracy) if part.n else (0, 0, 0))
    ]
    assert numbers(page, "bins") == pytest.approx(expected, abs=1e-9)
    error = float(page.locator(".work").get_attribute("data-value"))
    assert error == pytest.approx(expected_calibration_error(confidence, choice == labels), abs=1e-9)


@pytest.mark.slow
def test_the_page_sorts_into_bins_as_the_package_does_at_every_temperature(open_page):
    page = open_page(reliability_view(fitted=2.345))
    check_reliability(page, 0, 1.0)
    for temperature in (0.25, 1.75, 10):
        page.get_by_role("slider", name="Temperature").fill(str(temperature))
        check_reliability(page, 0, temperature)
    page.get_by_role("button", name="As fitted").click()
    check_reliability(page, 0, 2.345)


@pytest.mark.slow
def test_bars_are_as_high_as_the_share_of_right_answers(open_page):
    page = open_page(reliability_view())
    heights = page.locator(".stage svg rect").evaluate_all("all => all.map((bar) => +bar.getAttribute('height'))")
    bins = reliability_bins(*answered())
    assert heights == pytest.approx([228 * (part.accuracy if part.n else 0) for part in bins], abs=1e-6)


@pytest.mark.slow
def test_the_slider_counts_what_is_said_and_what_is_withheld(open_page):
    page, curve, right = (
        open_page(selective_view(best=[(0.5, 0.1), (1.0, 0.3)])),
        risk_coverage(*answered()),
        answered()[1],
    )
    order = answered()[0].argsort(descending=True, stable=True)
    for count in (40, 1, 17, 80):
        page.get_by_role("slider", name="Answered").fill(str(count))
        given = right[order][:count]
        wrong = int((~given).sum())
        expected = [count, wrong, wrong / count, int(right.sum()) - int(given.sum())]
        assert numbers(page, "counts") == pytest.approx(expected, abs=1e-9)
        threshold = float(page.locator(".work").get_attribute("data-value"))
        assert threshold == pytest.approx(curve.threshold[count - 1].item(), abs=1e-6)
    assert page.locator(".stage svg polyline").count() == 2


@pytest.mark.slow
@pytest.mark.parametrize("view", [reliability_view, selective_view])
def test_a_key_moves_the_slider_and_nothing_is_wider_than_a_phone(open_page, view):
    page = open_page(view(), viewport={"width": NARROW, "height": 800})
    before = page.locator(".work").inner_text()
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".work").inner_text() != before
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ("score / temperature", "score * temperature"),
        ("Math.ceil(top * nBins)", "Math.round(top * nBins)"),
        ("row.indexOf(Math.max(...row)) === labels[i]", "row.indexOf(Math.min(...row)) === labels[i]"),
    ],
)
def test_a_broken_diagram_does_not_pass(open_page, line, mutant):
    assert line in reliability_view().html
    page = open_page(reliability_view(), mutate=lambda html: html.replace(line, mutant))
    page.get_by_role("slider", name="Temperature").fill("2")
    with pytest.raises(AssertionError):
        check_reliability(page, 0, 2.0)


@pytest.mark.slow
def test_of_equally_sure_answers_not_all_are_said_to_be_there(open_page):
    view = calibration.selective(torch.tensor([0.9, 0.9, 0.9, 0.5]), torch.tensor([True, False, True, True]))
    assert (
        "of equally sure ones the first, from confidence 0.90: 2 of 4" in open_page(view).locator(".work").inner_text()
    )
