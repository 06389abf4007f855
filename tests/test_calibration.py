"""Calibration against counts by hand, closed forms and simulation."""

import math

import pytest
import torch
from torch.nn import functional as F

from llmcourse.calibration import (
    area_under_roc,
    confidence_and_choice,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    risk_coverage,
    threshold_for_risk,
)

CONFIDENCE = torch.tensor([0.05, 0.5, 0.55, 0.6, 0.95, 1.0], dtype=torch.float64)
RIGHT = torch.tensor([False, True, True, False, True, False])


def test_confidence_is_the_probability_of_what_is_answered():
    confidence, choice = confidence_and_choice(torch.tensor([[0.0, math.log(3)], [2.0, -50.0]]))
    assert torch.allclose(confidence, torch.tensor([0.75, 1.0])) and choice.tolist() == [1, 0]


def test_bins_hold_their_upper_edge_and_certainty_has_a_place():
    bins = reliability_bins(CONFIDENCE, RIGHT, 10)
    assert [part.n for part in bins] == [1, 0, 0, 0, 1, 2, 0, 0, 0, 2]
    assert (bins[5].confidence, bins[5].accuracy) == (pytest.approx(0.575), 0.5)
    assert math.isnan(bins[1].accuracy) and bins[9].high == 1
    assert reliability_bins(torch.zeros(1), RIGHT[:1], 4)[0].n == 1


def test_calibration_error_by_hand():
    by_hand = (0.05 + 0.5 + 2 * (0.575 - 0.5) + 2 * (0.975 - 0.5)) / 6
    assert expected_calibration_error(CONFIDENCE, RIGHT) == pytest.approx(by_hand)
    assert expected_calibration_error(CONFIDENCE, RIGHT, 1) == pytest.approx(abs(CONFIDENCE.mean().item() - 0.5))


def test_calibration_error_of_answers_that_are_right_as_often_as_they_say_is_near_zero():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(50_000, generator=generator)
    right = torch.rand(50_000, generator=generator) < confidence
    assert expected_calibration_error(confidence, right) < 0.01
    assert expected_calibration_error(confidence.sqrt(), right) > 0.1


def test_what_is_no_probability_is_refused(without_shape_checks):
    with pytest.raises(ValueError, match="from 0 to 1"):
        reliability_bins(CONFIDENCE + 0.1, RIGHT)
    with pytest.raises(ValueError, match="as many of both"):
        reliability_bins(CONFIDENCE, RIGHT[:2])
    with pytest.raises(ValueError, match="as many of both"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0).long())
    with pytest.raises(ValueError, match="as many of both"):
        risk_coverage(CONFIDENCE, RIGHT[:2])


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true):
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial((logits / true).softmax(-1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)


def test_no_temperature_near_the_fitted_one_has_a_lower_loss_and_no_answer_changes():
    generator = torch.Generator().manual_seed(2)
    logits, labels = 4 * torch.randn(300, 6, generator=generator), torch.randint(6, (300,), generator=generator)
    fitted = fit_temperature(logits, labels)
    losses = [F.cross_entropy(logits.double() / t, labels).item() for t in (fitted * 0.99, fitted, fitted * 1.01)]
    assert min(losses) == losses[1]
    assert torch.equal((logits / fitted).argmax(-1), logits.argmax(-1))


def test_risk_by_hand():
    curve = risk_coverage(CONFIDENCE, RIGHT)
    assert curve.coverage.tolist() == pytest.approx([i / 6 for i in range(1, 7)])
    assert curve.risk.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 3 / 6])
    assert curve.threshold.tolist() == pytest.approx([1.0, 0.95, 0.6, 0.55, 0.5, 0.05])
    assert (curve.at(1.0), curve.at(0.5), curve.at(0.01)) == pytest.approx((0.5, 2 / 3, 1.0))
    with pytest.raises(ValueError, match="above 0"):
        curve.at(0)


def test_risk_grows_with_coverage_when_confidence_means_something():
    generator = torch.Generator().manual_seed(3)
    confidence = torch.rand(20_000, generator=generator)
    curve = risk_coverage(confidence, torch.rand(20_000, generator=generator) < confidence)
    assert [round(curve.at(c), 2) for c in (0.2, 0.6, 1.0)] == pytest.approx([0.1, 0.3, 0.5], abs=0.02)


def test_the_threshold_keeps_its_risk_and_no_lower_one_does():
    assert threshold_for_risk(CONFIDENCE, RIGHT, 0.4) == pytest.approx(0.5)
    assert threshold_for_risk(CONFIDENCE, RIGHT, 0.5) == pytest.approx(0.05)
    assert threshold_for_risk(CONFIDENCE, RIGHT, 0.2) == math.inf


def test_equally_sure_answers_are_given_or_withheld_together():
    confidence, right = torch.tensor([0.9, 0.8, 0.8]), torch.tensor([True, True, False])
    assert threshold_for_risk(confidence, right, 0.1) == pytest.approx(0.9)
    assert threshold_for_risk(confidence, right, 1 / 3) == pytest.approx(0.8)


def test_area_counts_pairs():
    assert area_under_roc([3, 2], [1, 2]) == (1 + 1 + 1 + 0.5) / 4
    assert area_under_roc([1.0], [2.0]) == 0
    with pytest.raises(ValueError, match="at least one of each"):
        area_under_roc([], [1.0])
