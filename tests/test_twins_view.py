"""Two models side by side: the numbers of both, and the largest difference anywhere."""

import re

import pytest
import torch

from llmcourse.visualize.twins import largest_differences, side_by_side
from tests.view_catalogue import TOKENS


def recorded(seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"tokens": (2, 5, 4), "attention.weights": (2, 3, 5, 5), "head": (2, 5, 7)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


def moved(by=1e-3):
    tensors = {name: tensor.clone() for name, tensor in recorded().items()}
    tensors["head"][1, 4, 6] += by  # in the second sentence, which is not shown
    return tensors


def rows(html):
    """The heading and the cells of every row of a table; HTML ends both by itself."""
    found = re.findall(r'<tr><th scope="row">([^<]*)((?:<td>[^<]*)*)', html)
    return [(heading, [cell.strip() for cell in cells.split("<td>")[1:]]) for heading, cells in found]


def test_the_largest_difference_is_found_wherever_it_is():
    gaps = largest_differences(recorded() | {"mine": torch.zeros(1)}, moved(-0.5))
    assert gaps == {"tokens": 0, "attention.weights": 0, "head": pytest.approx(0.5)}


def test_every_number_of_the_first_sentence_and_head_is_shown_for_both():
    html, ours, theirs = side_by_side(recorded(), recorded(1), TOKENS)._repr_html_(), recorded(), recorded(1)
    for name in ours:
        details = html.split(f"<summary>{name}</summary>")[1].split("</details>")[0]
        for table, tensors in zip(details.split("<table>")[1:], (ours, theirs), strict=True):
            cells = [float(cell) for _, row in rows(table) for cell in row]
            matrix = tensors[name][0] if tensors[name].dim() == 3 else tensors[name][0, 0]
            assert cells == pytest.approx(matrix.flatten().tolist(), abs=6e-4)


def test_the_overview_has_a_row_a_layer_with_its_shape_and_difference():
    view = side_by_side(recorded(), moved(), TOKENS, names=("NumPy", "torch"))
    found = rows(view._repr_html_().split("</table>")[0])
    assert [name for name, _ in found] == list(recorded())
    assert [cells[0] for _, cells in found] == ["2 × 5 × 4", "2 × 3 × 5 × 5", "2 × 5 × 7"]
    assert [cells[3] for _, cells in found] == ["0e+00", "0e+00", "1e-03"]
    assert repr(view).splitlines()[2].endswith("1e-03")


def test_the_view_is_safe_stands_alone_and_is_the_same_each_time():
    html = side_by_side(recorded(), moved(), TOKENS)._repr_html_()
    assert html == side_by_side(recorded(), moved(), TOKENS)._repr_html_()
    assert "<script" not in html
    assert not re.search(r"https?://", html)
    assert 'role="group" aria-label="What every layer computes in torch and in TensorFlow"' in html


def test_what_cannot_be_compared_is_said():
    with pytest.raises(ValueError, match="no layer of the same name"):
        side_by_side(recorded(), {"other": torch.zeros(2)}, TOKENS)
    with pytest.raises(ValueError, match=r"'head' has shape \(2, 5, 7\) on one side and \(2, 5, 6\)"):
        side_by_side(recorded(), recorded() | {"head": torch.zeros(2, 5, 6)}, TOKENS)
    with pytest.raises(ValueError, match="too many for a page"):
        side_by_side({"a": torch.zeros(1, 5, 10_000)}, {"a": torch.zeros(1, 5, 10_000)}, TOKENS)
    with pytest.raises(ValueError, match=r"the layer 'tokens' has shape \(5, 4\)"):
        side_by_side(recorded(), recorded(), ["the", "cat"])
