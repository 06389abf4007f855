"""The bench itself: what it compares, how it sums up, and the page that it writes."""

import json
import math

import pytest

from tests.benchmarks import growth, measuring, report
from tests.benchmarks.__main__ import RESULTS, ROWS
from tests.benchmarks.measuring import OURS, Comparison, Contestant
from tests.timing import Spent


def row(**changed):
    made = {"theirs": lambda: Contestant(lambda: sum(range(20_000)), lambda: 1.0),
            OURS: lambda: Contestant(lambda: sum(range(10_000)), lambda: 1.0)}  # fmt: skip
    settings = {"title": "Sums", "unit": "a sum", "reference": "theirs", "contestants": made, "goals": {OURS: 1.2}}
    return Comparison(**(settings | changed))


def test_half_the_work_is_about_twice_as_fast():
    found = row(rounds=15).run()
    assert 1.3 < found["contestants"][OURS]["ratio"] < 3
    assert found["contestants"]["theirs"]["ratio"] == 1
    assert report.is_reached(found)


@pytest.mark.parametrize("wrong", [1.01, math.nan, math.inf])
def test_contestants_that_come_to_something_else_are_not_timed(wrong):
    timed = []
    made = {"theirs": lambda: Contestant(lambda: timed.append(1), lambda: 1.0),
            OURS: lambda: Contestant(lambda: timed.append(1), lambda: wrong)}  # fmt: skip
    with pytest.raises(AssertionError, match="llmcourse and theirs differ"):
        row(contestants=made).run()
    assert timed == []


def test_other_ids_are_another_result():
    with pytest.raises(AssertionError, match="other results"):
        measuring.check_same({"a": lambda: [1, 2], "b": lambda: [1, 3]}, 1.0)


def test_a_library_that_is_not_there_is_said_to_be_absent_unless_the_row_stands_on_it():
    def missing():
        raise ModuleNotFoundError("No module named 'fastest'")

    contestants = row().contestants | {"fastest": missing}
    found = row(contestants=contestants).run(short=True)
    assert found["absent"] == ["fastest"]
    assert found["rounds"] == 3
    with pytest.raises(ModuleNotFoundError, match="make bench"):
        row(contestants=contestants, reference="fastest").run()


def test_a_summary_is_the_median_of_ratios_round_by_round():
    theirs = [Spent(2.0, 3.0), Spent(4.0, 5.0), Spent(6.0, 7.0)]
    ours = [Spent(1.0, 1.0), Spent(1.0, 2.0), Spent(6.0, 3.0)]
    assert measuring.summary(theirs, ours) == {
        "ratio": 2.0, "quartiles": [1.5, 3.0], "processor": 1.0, "wall": 2.0,
    }  # fmt: skip


def test_being_ahead_means_ahead_of_every_other_library_but_not_of_a_bare_limit():
    found = row(ahead_of_all=True).run()
    found["contestants"][OURS]["ratio"] = 1.5
    found["contestants"]["matrix products alone"] = {"ratio": 9.0}
    assert report.is_reached(found)
    found["contestants"]["another"] = {"ratio": 1.6}
    assert not report.is_reached(found)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power):
    sizes = [10, 100, 1000]
    assert growth.exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)
    seconds = [5_000 + 3 * (size - 10) ** power for size in sizes]
    assert growth.exponent(sizes, seconds) < 0.9 * power
    assert growth.exponent(sizes, seconds, beyond_smallest=True) == pytest.approx(power)


def test_what_does_not_grow_beyond_the_smallest_has_no_exponent():
    assert math.isnan(growth.exponent([10, 100, 1000], [5.0, 5.0, 6.0], beyond_smallest=True))
    found = {"kind": "growth", "expected": [0.8, 1.2], "exponent": math.nan}
    assert not report.is_reached(found)


def test_the_stored_results_are_those_that_the_page_shows():
    results = json.loads(RESULTS.read_text())
    assert set(results) <= set(ROWS)
    page = report.PAGE.read_text()
    assert report.filled(page, report.tables(results)) == page


def test_a_page_without_a_marker_is_refused():
    with pytest.raises(ValueError, match="<!-- ratios"):
        report.filled("# A page", {"ratios": "text"})
