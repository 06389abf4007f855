"""Calibration: does a model that says 0.8 turn out right eight times in ten, and what to do when it does not.

A confidence is the probability of the answer that was given. Two uses: mend it (temperature), and act on it (answer only
when it is high).

Letters: N answers, K choices.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmcourse.search import lowest_point

LOWEST, HIGHEST = 1e-3, 1e3  # between which temperatures is searched


def confidence_and_choice(logits: Float[Tensor, "N K"]) -> tuple[Float[Tensor, "N"], Int[Tensor, "N"]]:
    """The probability of the likeliest choice, and that choice, which is what is answered."""
    return logits.softmax(dim=-1).max(dim=-1)


class Bin(NamedTuple):
    """The answers whose confidence lies above `low` and at most at `high`."""

    low: float
    high: float
    n: int
    confidence: float  # their mean; NaN where there are none
    accuracy: float  # the share of them that is right; NaN where there are none


def reliability_bins(confidence: Float[Tensor, "N"], right: Bool[Tensor, "N"], n_bins: int = 10) -> list[Bin]:
    """The answers sorted into bins of equal width. A confidence of exactly 0 belongs to the first bin."""
    if not len(confidence) == len(right) > 0 or n_bins < 1:
        raise ValueError(f"{len(confidence)} confidences, {len(right)} results, {n_bins} bins: give as many of both")
    if not (confidence.min() >= 0 and confidence.max() <= 1):
        raise ValueError(
            f"confidences run from {confidence.min():.3g} to {confidence.max():.3g}, and probabilities from 0 to 1; "
            "put logits through confidence_and_choice first"
        )
    number = (confidence.double() * n_bins).ceil().long().clamp(1, n_bins) - 1
    bins = []
    for i in range(n_bins):
        inside = number == i
        p, r = confidence[inside].double(), right[inside].double()
        bins.append(Bin(i / n_bins, (i + 1) / n_bins, len(p), p.mean().item(), r.mean().item()))
    return bins


def expected_calibration_error(confidence: Float[Tensor, "N"], right: Bool[Tensor, "N"], n_bins: int = 10) -> float:
    """How far confidence and accuracy lie apart, on average over the answers: 0 is calibrated, 1 as wrong as can be.

    Within a bin the two are averaged first, so errors can hide in a wide bin, and few answers a bin make it too large.
    Source: Naeini et al. (2015); Guo et al. (2017), section 2.
    """
    bins = reliability_bins(confidence, right, n_bins)
    return sum(part.n * abs(part.confidence - part.accuracy) for part in bins if part.n) / len(confidence)


def fit_temperature(logits: Float[Tensor, "N K"], labels: Int[Tensor, "N"]) -> float:
    """The number that logits must be divided by for the lowest cross-entropy: above 1 for a model that is too sure.

    Give answers that the model was not trained on and that are not the test: it fits them. No answer changes, for the
    likeliest choice stays the likeliest. The loss has one valley in 1/T, and a search finds it.
    Source: Guo et al. (2017), section 4.2.
    """
    if not len(logits) == len(labels) > 0:
        raise ValueError(f"{len(logits)} rows of logits and {len(labels)} labels: give as many of both, at least 1")
    if not 0 <= labels.min() <= labels.max() < logits.shape[-1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, and the choices from 0 to {logits.shape[-1] - 1}; "
            "give each answer the number of its right choice"
        )
    scores = logits.double()

    def loss(x: float) -> float:
        return F.cross_entropy(scores * math.exp(-x), labels).item()

    return math.exp(lowest_point(loss, math.log(LOWEST), math.log(HIGHEST)))


class RiskCoverage(NamedTuple):
    """What happens when only the surest answers are given: `risk[i]` of the surest `coverage[i]` are wrong."""

    coverage: Float[Tensor, "N"]  # 1/N, 2/N, ..., 1
    risk: Float[Tensor, "N"]
    threshold: Float[Tensor, "N"]  # the lowest confidence among those that are given

    def at(self, coverage: int | float) -> float:
        """The risk when this share of the questions is answered, above 0 and at most 1."""
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage={coverage} is the share of the questions that are answered: above 0, at most 1")
        return self.risk[max(1, round(coverage * len(self.risk))) - 1].item()


def risk_coverage(confidence: Float[Tensor, "N"], right: Bool[Tensor, "N"]) -> RiskCoverage:
    """The curve of all thresholds on the confidence. Equally sure answers keep their order.

    Source: El-Yaniv & Wiener (2010); Geifman & El-Yaniv (2017).
    """
    if not len(confidence) == len(right) > 0:
        raise ValueError(f"{len(confidence)} confidences and {len(right)} results: give as many of both, at least 1")
    threshold, order = confidence.sort(descending=True, stable=True)
    given = torch.arange(1, len(right) + 1, dtype=torch.float64)
    wrong = (~right[order]).double().cumsum(dim=0)
    return RiskCoverage(given / len(right), wrong / given, threshold)


def threshold_for_risk(confidence: Float[Tensor, "N"], right: Bool[Tensor, "N"], risk: int | float) -> float:
    """The lowest confidence from which on at most this share of the answers is wrong; infinity when there is none.

    It holds for these answers. For new ones it is an estimate: choose it on a validation set, and leave some room.
    """
    curve = risk_coverage(confidence, right)
    last = torch.cat([curve.threshold[1:] < curve.threshold[:-1], torch.tensor([True])])  # equally sure: all or none
    kept = ((curve.risk <= risk) & last).nonzero().flatten()
    return curve.threshold[kept[-1]].item() if len(kept) else math.inf


def area_under_roc(positives: Sequence[int | float], negatives: Sequence[int | float]) -> float:
    """How often a random positive scores higher than a random negative, a tie counting half: 1 is perfect, 0.5 chance."""
    if not len(positives) or not len(negatives):
        raise ValueError(f"{len(positives)} positives and {len(negatives)} negatives: give at least one of each")
    first, second = (torch.as_tensor(scores, dtype=torch.float64) for scores in (positives, negatives))
    gaps = first[:, None] - second
    return ((gaps > 0).double() + 0.5 * (gaps == 0)).mean().item()
