"""Scaling laws: how a loss falls with the size of the model, fitted; and the size to choose for a given amount of compute.

    L(N) = E + A / N^α                      the loss of models of N parameters, all trained well
    L(N, D) = E + A / N^α + B / D^β         and of those trained on D tokens
    C = 6 N D                               what such a training computes, in floating-point operations

E is the irreducible loss, the entropy of the text: no size brings it down. Sources: Kaplan et al. (2020), section 2.1 for
6ND (2 for each parameter and token forward, 4 backward); Hoffmann et al. (2022), section 3.3 for the surface.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmcourse.search import lowest_point

FLOPS_A_PARAMETER_AND_TOKEN = 6


@dataclass(frozen=True)
class ScalingLaw:
    """L(N) = floor + factor / N^exponent, in nats a token, with how well it fits."""

    floor: float
    factor: float
    exponent: float
    r_squared: float  # of ln(L - floor) against ln N: 1 is a straight line

    def loss(self, size: int | float) -> float:
        """What the law says of a model of this many parameters. Raises ValueError for a size that is not above 0."""
        if not size > 0:
            raise ValueError(f"size={size}: a law of sizes speaks of those above 0")
        return self.floor + self.factor * size**-self.exponent


def fit_law(sizes: Sequence[int | float], losses: Sequence[int | float], floor: int | float) -> ScalingLaw:
    """The law whose floor is given: a straight line of ln(L - floor) over ln N, by least squares.

    floor: 0 fits the pure power law, which says that a large enough model could lose nothing.
    Raises ValueError when fewer than two sizes are given, or a loss does not lie above the floor.
    """
    _check(sizes, losses)
    if not min(losses) > floor:
        raise ValueError(f"a loss of {min(losses):.4g} does not lie above floor={floor:.4g}; the floor is too high")
    x, y = [math.log(size) for size in sizes], [math.log(loss - floor) for loss in losses]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    left = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    total = sum((b - mean_y) ** 2 for b in y)
    return ScalingLaw(floor, math.exp(mean_y - slope * mean_x), -slope, 1 - left / total if total else 1.0)


def fit_floor(sizes: Sequence[int | float], losses: Sequence[int | float]) -> ScalingLaw:
    """The law whose floor is fitted too: of all floors, the one over which the points lie straightest.

    Three numbers from few points: give sizes that reach far, for the floor shows only where the curve bends to it.
    Searched between 0 and the lowest loss.
    """
    _check(sizes, losses, least=4)
    if not min(losses) > 0:
        raise ValueError(f"a loss of {min(losses):.4g} leaves no room for a floor above 0; give losses above 0")

    def crookedness(floor: int | float) -> float:
        return 1 - fit_law(sizes, losses, floor).r_squared

    return fit_law(sizes, losses, lowest_point(crookedness, 0.0, min(losses) - 1e-9, precision=1e-7))


def _check(sizes: Sequence[int | float], losses: Sequence[int | float], least: int = 2) -> None:
    if len(sizes) != len(losses) or len(set(sizes)) < least:
        raise ValueError(
            f"{len(sizes)} sizes and {len(losses)} losses: give one loss for each of at least {least} different sizes"
        )
    if not all(map(math.isfinite, (*sizes, *losses))):
        raise ValueError("a size or a loss is not a finite number; leave out trainings that failed")
    if not min(sizes) > 0:
        raise ValueError(f"a size of {min(sizes)} has no logarithm; give sizes above 0")


def training_flops(parameters: int | float, tokens: int | float) -> float:
    """6ND: the floating-point operations of a training. Attention's own products, large only in long texts, are left out."""
    return FLOPS_A_PARAMETER_AND_TOKEN * parameters * tokens


@dataclass(frozen=True, kw_only=True)
class LossSurface:
    """L(N, D) = floor + size_factor / N^size_exponent + data_factor / D^data_exponent, in nats a token."""

    floor: float
    size_factor: float
    size_exponent: float
    data_factor: float
    data_exponent: float

    def loss(self, parameters: int | float, tokens: int | float) -> float:
        """What a model of this size, trained on so many tokens, is expected to lose. ValueError for a size of 0."""
        if not (parameters > 0 and tokens > 0):
            raise ValueError(f"parameters={parameters} and tokens={tokens} must both be above 0")
        lack_of_size = self.size_factor / parameters**self.size_exponent
        return self.floor + lack_of_size + self.data_factor / tokens**self.data_exponent

    def optimal_size(self, flops: int | float) -> float:
        """The parameters with which this much compute reaches the lowest loss; the tokens are then flops / (6 N).

        Where one part more for N or for D would gain the same: α A / N^α = β B / D^β.
        Source: Hoffmann et al. (2022), equation 4.
        """
        a, b = self.size_exponent, self.data_exponent
        if flops <= 0:
            raise ValueError(f"flops={flops}: nothing can be trained without computing")
        balance = (a * self.size_factor / (b * self.data_factor)) ** (1 / (a + b))
        return balance * (flops / FLOPS_A_PARAMETER_AND_TOKEN) ** (b / (a + b))


# Two fits: the paper's own to its training runs, and a later one to what could be read of them off a figure, which found
# the first to be rounded and not converged. Sources: Hoffmann et al. (2022), appendix D.2; Besiroglu et al. (2024), table 1.
HOFFMANN = LossSurface(floor=1.69, size_factor=406.4, size_exponent=0.34, data_factor=410.7, data_exponent=0.28)
BESIROGLU = LossSurface(
    floor=1.8172, size_factor=482.01, size_exponent=0.3478, data_factor=2085.43, data_exponent=0.3658
)
