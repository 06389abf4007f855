"""A claim that holds prints the same line everywhere; one that does not is an error with the measured value."""

import math

import pytest

from llmcourse.claims import ClaimFailed, claim


@pytest.mark.parametrize(
    ("value", "bound", "line"),
    [
        (0.93, {"at_least": 0.9}, "at least 0.9"),
        (0.9, {"at_least": 0.9}, "at least 0.9"),
        (0.02, {"at_most": 0.1}, "at most 0.1"),
        (0.5, {"at_least": 0.25, "at_most": 0.75}, "at least 0.25, at most 0.75"),
        (-1.0, {"at_most": 0.0}, "at most 0.0"),
        (5, {"equals": 5}, "exactly 5"),
        (0, {"at_least": 0}, "at least 0"),
        (False, {"equals": False}, "exactly False"),
        ("cat", {"equals": "cat"}, "exactly cat"),
    ],
)
def test_a_claim_that_holds_prints_its_bound_and_never_the_value(value, bound, line, capsys, without_shape_checks):
    claim("head 2 looks at the subject", value, **bound)
    assert capsys.readouterr().out == f"\u2713 head 2 looks at the subject: {line}\n"


@pytest.mark.parametrize(
    ("value", "bound", "condition"),
    [
        (0.89, {"at_least": 0.9}, "at least 0.9"),
        (0.11, {"at_most": 0.1}, "at most 0.1"),
        (0.8, {"at_least": 0.25, "at_most": 0.75}, "at least 0.25, at most 0.75"),
        (0.2, {"at_least": 0.25, "at_most": 0.75}, "at least 0.25, at most 0.75"),
        (1.0 + 1e-9, {"equals": 1.0}, "exactly 1.0"),
        (True, {"equals": False}, "exactly False"),
        (math.nan, {"at_least": 0.0}, "at least 0.0"),
        (math.nan, {"at_most": 0.0}, "at most 0.0"),
        (math.nan, {"equals": math.nan}, "exactly nan"),
    ],
)
def test_a_claim_that_does_not_hold_fails_with_the_value_and_prints_nothing(value, bound, condition, capsys):
    with pytest.raises(ClaimFailed) as failed:
        claim("the loss is low", value, **bound)
    assert str(failed.value) == f"the loss is low: claimed {condition}, measured {value}"
    assert isinstance(failed.value, AssertionError)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({}, "states nothing"),
        ({"equals": 1.0, "at_least": 1.0}, "leaves nothing"),
        ({"equals": 1.0, "at_most": 2.0}, "leaves nothing"),
    ],
)
def test_a_claim_without_one_clear_bound_is_an_error(bound, words):
    with pytest.raises(ValueError, match=words):
        claim("something", 1.0, **bound)
