"""Calibration to operate: a reliability diagram with its temperature, and what is said and withheld at a threshold.

Letters: N answers, K choices.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmcourse.calibration import (
    confidence_and_choice,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)
from llmcourse.display import Html
from llmcourse.visualize.page import block, checked, folded, rounded, table

MAX_ANSWERS, MAX_CHOICES, MAX_BINS = 1000, 16, 20
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.25, 15.0
LOGIT_DECIMALS = 3
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the questions, in the table of `selective`


def reliability(
    logits: Float[Tensor, "N K"],
    labels: Int[Tensor, "N"],
    *,
    n_bins: int = 10,
    temperature: int | float = 1.0,
    fitted: float | None = None,
) -> Html:
    """How often answers of each confidence are right, as bars, and a slider for the temperature.

    The page divides the logits itself, takes the softmax, and sorts the answers into bins again.

    temperature: where the slider stands first, from 0.25 to 15.
    fitted: a temperature to which a button leads.
    """
    N, K = len(logits), logits.shape[-1]
    if not (1 <= N <= MAX_ANSWERS and 2 <= K <= MAX_CHOICES and 2 <= n_bins <= MAX_BINS) or len(labels) != N:
        raise ValueError(
            f"{N} answers, {len(labels)} labels, {K} choices, {n_bins} bins: give up to {MAX_ANSWERS} answers with a "
            f"label each, 2 to {MAX_CHOICES} choices and 2 to {MAX_BINS} bins"
        )
    for chosen in (temperature, temperature if fitted is None else fitted):
        if not LEAST_TEMPERATURE <= chosen <= MOST_TEMPERATURE:
            raise ValueError(f"temperature {chosen}; the slider goes from {LEAST_TEMPERATURE} to {MOST_TEMPERATURE}")
    scores = torch.tensor(rounded(checked(logits, "logits", (N, K)), LOGIT_DECIMALS), dtype=torch.float64)
    data = {
        "logits": scores.tolist(),
        "labels": labels.tolist(),
        "bins": n_bins,
        "temperature": temperature,
        "fitted": fitted,
        "most": MOST_TEMPERATURE,
    }
    twin, lines = "", []
    for chosen in dict.fromkeys((temperature, temperature if fitted is None else fitted)):
        confidence, choice = confidence_and_choice(scores / chosen)
        right = choice == labels.cpu()
        caption = f"Temperature {chosen:.2f}: expected calibration error {expected_calibration_error(confidence, right, n_bins):.3f}"
        bins = [part for part in reliability_bins(confidence, right, n_bins) if part.n]
        rows = [(f"to {part.high:g}", [part.n, round(part.confidence, 3), round(part.accuracy, 3)]) for part in bins]
        twin += table(caption, ["answers", "mean confidence", "right"], rows)
        lines += [caption, *(f"  {name}: {n} answers, confidence {p:.2f}, right {r:.2f}" for name, (n, p, r) in rows)]
    return block("reliability", "Reliability diagram", data, folded("The numbers as tables", twin), "\n".join(lines))


def selective(
    confidence: Float[Tensor, "N"],
    right: Bool[Tensor, "N"],
    *,
    best: Sequence[tuple[float, float]] | None = None,
    answered: float = 0.5,
) -> Html:
    """The risk-coverage curve with a slider: answer the surest questions only, and see what is wrong and what is lost.

    best: (coverage, risk) of the best possible guesser, drawn as a dashed line.
    answered: the share of the questions on which the view opens.
    """
    N = len(confidence)
    if not 2 <= N <= MAX_ANSWERS or not 0 < answered <= 1:
        raise ValueError(f"{N} answers, answered={answered}: give 2 to {MAX_ANSWERS} answers and a share above 0")
    curve = risk_coverage(checked(confidence, "confidence", (N,)), right.cpu())
    data = {
        "confidence": rounded(curve.threshold),
        "risk": rounded(curve.risk, 9),
        "best": None if best is None else [list(point) for point in best],
        "answered": max(1, round(answered * N)),
    }
    rows = []
    for share in SHARES:
        count = max(1, round(share * N))
        rows.append((count, [round(curve.threshold[count - 1].item(), 3), round(curve.risk[count - 1].item(), 3)]))
    twin = table("The surest answers", ["confidence from", "share wrong"], rows)
    text = "\n".join(f"{count} of {N} answered, from confidence {p:.2f}: {risk:.2f} wrong" for count, (p, risk) in rows)
    return block("selective", "Risk and coverage", data, folded("The numbers as a table", twin), text)
