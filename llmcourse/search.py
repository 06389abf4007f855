"""Where a curve with one valley is lowest, found by its values alone."""

import math
from collections.abc import Callable

GOLDEN = (math.sqrt(5) - 1) / 2


def lowest_point(curve: Callable[[float], float], low: float, high: float, precision: float = 1e-9) -> float:
    """The place between `low` and `high` where the curve is lowest, by golden-section search.

    Each turn compares two places inside and keeps the part around the lower one. Source: Kiefer, Sequential Minimax Search
    for a Maximum (1953). Raises ValueError for a stretch that is none, and for a precision that numbers do not have.
    """
    finest = 4 * math.ulp(max(abs(low), abs(high)))
    if not low <= high or not precision > finest:
        raise ValueError(
            f"low={low}, high={high}, precision={precision}: give low before high, and a precision above {finest:.1g}"
        )
    while high - low > precision:
        width = GOLDEN * (high - low)
        first, second = high - width, low + width
        low, high = (low, second) if curve(first) <= curve(second) else (first, high)
    return (low + high) / 2
