"""Are two results the same, and if not, how do they differ? In words a learner can use."""

import math
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

LONGEST = 120  # characters of a value that are shown


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Equal up to a relative tolerance (and the same absolute one), with the same types, shapes, dtypes and devices.

    NaN equals NaN here: the question is whether two answers do the same, not whether they are right.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
            return False
        if not (a.is_floating_point() and tolerance):
            return torch.equal(a.nan_to_num(), b.nan_to_num()) if a.is_floating_point() else torch.equal(a, b)
        return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if _is_number(a) and _is_number(b):
        tolerance *= 1 + 1e-9  # "0.05 more or less" of 1 takes in 0.95, though 1 - 0.95 is computed as a little more
        try:
            return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(a) and math.isnan(b))
        except OverflowError:  # a whole number that is larger than any float
            return a == b
    if hasattr(a, "kind") and hasattr(b, "kind"):
        return type(a) is type(b) and a.kind == b.kind
    return type(a) is type(b) and not isinstance(a, Tensor) and bool(a == b)


def holds_nan(value: Any) -> bool:
    """Whether this is a tensor with NaN in it; one on the device 'meta' holds no numbers at all."""
    return isinstance(value, Tensor) and not value.is_meta and bool(value.isnan().any())


def with_nan_of(value: Any, other: Any) -> Any:
    """The value with NaN in all places where another tensor of its shape has it; anything else stays as it is."""
    if holds_nan(other) and isinstance(value, Tensor) and value.is_floating_point() and value.shape == other.shape:
        return value.masked_fill(other.isnan(), math.nan)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)  # numpy's numbers and fractions are Real too


def difference(observed: Any, expected: Any, tolerance: float = 1e-5) -> str:
    """What is wrong with a result, beginning with what matters most: its kind, its shape, its numbers.

    Of a result with several parts that are tensors or too long to be shown: the first part that is wrong.
    """
    if observed is None:
        return "your code returned None. Is a `return` missing?"
    if isinstance(expected, Tensor):
        return _tensor_difference(observed, expected, tolerance)
    if _is_number(expected) and isinstance(observed, Tensor) and observed.numel() == 1:
        return (
            f"your code returned a tensor; a plain number is expected: end with `.item()`. (Expected {expected:.4g}.)"
        )
    if _is_number(expected) and _is_number(observed):
        return "your code returned NaN." if math.isnan(observed) else _apart(float(expected), float(observed), 6)
    place = _first_difference(observed, expected, tolerance)
    if place is not None and observed[place] is None:
        return f"at [{place!r}], None stands where {_kind(expected[place])} is expected."
    if place is not None:
        return f"at [{place!r}], " + difference(observed[place], expected[place], tolerance).replace("your code", "it")
    if type(observed) is not type(expected):
        return f"your code returned {_kind(observed)}; {_kind(expected)} is expected."
    return f"expected {_cut(expected)}, got {_cut(observed)}."


def _first_difference(observed: Any, expected: Any, tolerance: float) -> Any:
    """The key or place of the first part that differs, where two results have the same parts and are long."""
    parts = expected.values() if isinstance(expected, dict) else expected if isinstance(expected, (list, tuple)) else ()
    is_short = len(repr(expected)) <= LONGEST and not any(isinstance(part, Tensor) for part in parts)
    if type(observed) is not type(expected) or is_short:
        return None
    if isinstance(expected, dict) and observed.keys() == expected.keys():
        places = iter(expected)
    elif isinstance(expected, (list, tuple)) and len(observed) == len(expected):
        places = iter(range(len(expected)))
    else:
        return None
    return next((place for place in places if not same(observed[place], expected[place], tolerance)), None)


def _tensor_difference(observed: Any, expected: Tensor, tolerance: float) -> str:
    if not isinstance(observed, Tensor):
        return f"your code returned {_kind(observed)}; a tensor is expected."
    if observed.shape != expected.shape:
        return f"the result has shape {tuple(observed.shape)}; shape {tuple(expected.shape)} is expected."
    if observed.dtype != expected.dtype:
        return f"the result has dtype {observed.dtype}; {expected.dtype} is expected: add `.to({expected.dtype})`."
    if observed.device != expected.device:
        return (
            f"the result lies on the device '{observed.device}'; '{expected.device}' is expected: use `.to(x.device)`."
        )
    if observed.is_floating_point() and observed.isnan().any() and not expected.isnan().any():
        count = int(observed.isnan().sum())
        return (
            f"the result holds NaN in {count} of {observed.numel()} places: a 0/0, inf - inf or 0 * inf happened on the "
            "way, or a root or logarithm below 0."
        )
    tolerance = tolerance if expected.is_floating_point() else 0.0
    right = torch.isclose(observed, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    gap = (observed.double() - expected.double()).abs().nan_to_num(nan=math.inf).masked_fill(right, -1.0)
    place = tuple((gap == gap.max()).nonzero()[0].tolist())  # torch.unravel_index imports for a third of a second
    return f"the result is right in {int(right.sum())} of {right.numel()} places; at {list(place)} " + _apart(
        expected[place].item(), observed[place].item(), 4
    )


def _apart(expected: Real, observed: Real, digits: int) -> str:
    """Two numbers that differ, with this many digits, or as many more as it takes to see it."""
    while digits < 17 and f"{expected:.{digits}g}" == f"{observed:.{digits}g}":  # 17 tell any two floats apart
        digits += 1
    return f"expected {expected:.{digits}g}, got {observed:.{digits}g}."


def describe(probe: tuple, names: Sequence[str]) -> str:
    """The arguments of a call by name, short enough to read."""
    return ", ".join(f"{name} {_short(part)}" for name, part in zip(names, probe, strict=False))


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.numel() <= 6:
            return f"= {[round(x, 4) if isinstance(x, float) else x for x in value.flatten().tolist()]}"
        return f"of shape {tuple(value.shape)}"
    return f"= {_cut(repr(value) if isinstance(value, str) else value)}"


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(r"<function (?:\S+\.)?(\S+) at 0x\w+>", r"\1", text).replace("<lambda>", "a function")
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _kind(value: Any) -> str:
    name = type(value).__name__
    if type(value).__module__ == "numpy":  # its bool is no bool
        name = f"numpy.{name}"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
