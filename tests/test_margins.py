"""Printed numbers stand 100 times further from a rounding edge than they move from kernel to kernel."""

import nbformat
import pytest

from tests.margins import SETTINGS, Printed, distance, too_near, under
from tests.notebooks import paths


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [(1.25, ".1f", 0.0), (1.2, ".1f", 0.05), (0.455, "6.2f", 0.0), (0.12, ".0%", 0.005), (-0.34, ".1f", 0.01)],
)
def test_the_distance_from_a_rounding_edge(value, spec, expected):
    assert distance(value, spec) == pytest.approx(expected, abs=1e-12)


def test_a_number_that_moves_near_an_edge_is_named_and_one_far_from_it_is_not():
    near = [[Printed(3, ".2f", 0.2351)], [Printed(3, ".2f", 0.23511)]]
    assert ["cell 3 prints 0.2351 as 0.24" in sentence for sentence in too_near(near)] == [True]
    far = [[Printed(3, ".2f", 0.2301)], [Printed(3, ".2f", 0.23011)]]
    still = [[Printed(3, ".2f", 0.235)]] * 2
    assert list(too_near(far)) == list(too_near(still)) == []


@pytest.mark.slow
def test_the_numbers_of_a_notebook_are_seen_before_they_are_rounded(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("x = 2 / 3\nprint(f'{x:.2f} {x} {3:4} {x:{6}.0%}')"),
        nbformat.v4.new_code_cell("print(f'{x:.2f}')", metadata={"tags": ["nbval-ignore-output"]}),
    ]
    path = tmp_path / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert under(path, {}) == [Printed(0, ".2f", 2 / 3), Printed(0, "6.0%", 2 / 3)]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_printed_numbers_keep_their_distance_from_rounding_edges(path):
    assert list(too_near([under(path, setting) for setting in SETTINGS])) == []
