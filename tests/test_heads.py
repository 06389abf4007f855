"""The views of heads in `visualize.heads`: what their data and tables hold, and what they refuse.

What a reader sees after a choice is tested in test_heads_in_browser.py.
"""

import math
import re

import pytest
import torch

from llmcourse.attention import attention_weights, causal_mask
from llmcourse.transformer import alibi_bias
from llmcourse.visualize import heads
from tests.test_visualize import Elements, data_of
from tests.view_catalogue import (
    CURVES,
    FRAMES,
    GOLD,
    OTHER_TOKENS,
    SOURCE,
    TOKENS,
    alignment_view,
    compare_view,
    cross_heads,
    dynamics_view,
    example,
    grid_view,
    neuron_view,
    other_maps,
    random_maps,
)


def numbers(html):
    return [float(cell) for cell in Elements(html).cells if re.fullmatch(r"-?[\d.e-]+", cell)]


def assert_tabled(view, tensor):
    """Each number stands in the table below the view."""
    tabled = torch.tensor(numbers(view.html), dtype=torch.float64)
    for number in tensor.double().flatten():
        assert (tabled - number).abs().min() < 1e-4, number


def test_the_grid_holds_the_weights_of_every_head():
    data, maps = data_of(grid_view()), random_maps()
    assert data["names"] == list(maps)
    torch.testing.assert_close(
        torch.tensor(data["maps"]), torch.stack([w[0] for w in maps.values()]), atol=1e-6, rtol=0
    )
    assert_tabled(grid_view(), torch.stack([w[0] for w in maps.values()]))


def test_the_grid_takes_cross_attention_and_opens_where_it_is_told():
    maps = {"0": torch.full((1, 2, 3, 5), 0.2), "1": torch.full((1, 2, 3, 5), 0.2)}
    data = data_of(heads.head_grid(maps, list("abc"), list("vwxyz"), layer="1", head=1))
    assert (data["queries"], data["keys"]) == (list("abc"), list("vwxyz"))
    assert (data["opens"]["layer"], data["opens"]["head"]) == (1, 1)
    with pytest.raises(ValueError, match="no layer 'x' to open on"):
        heads.head_grid(maps, list("abc"), list("vwxyz"), layer="x")


def test_views_too_large_for_a_page_are_refused_with_advice():
    large, tokens = {"a": torch.full((1, 4, 100, 100), 0.01)}, ["x"] * 100
    for draw in (
        lambda: heads.head_grid(large, tokens),
        lambda: heads.compare(large, tokens, large, tokens),
        lambda: heads.dynamics({0: large}, tokens),
        lambda: heads.alignment({f"{i}": large["a"][0, i] for i in range(4)}, tokens, tokens, [(0, 0)]),
    ):
        with pytest.raises(ValueError, match=r"0,000 attention weights are too many.*(choose|keep)"):
            draw()
    with pytest.raises(ValueError, match=r"100 queries and 100 keys of width 64 are 12,800.*query\[:16\]"):
        heads.neuron_view(torch.zeros(100, 64), torch.zeros(100, 64), tokens)


def test_the_neuron_view_holds_queries_and_keys_and_tables_the_weights():
    query, key, _ = example()
    view = neuron_view(0, causal_mask(5))
    data = data_of(view)
    torch.testing.assert_close(torch.tensor(data["query"]).double(), query, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(data["key"]).double(), key, atol=1e-6, rtol=0)
    assert data["bias"][1] == [0, 0, None, None, None]
    assert data["opens"]["query"] == 4
    assert_tabled(view, attention_weights(query, key, causal_mask(5)))
    assert_tabled(view, query @ key.T / math.sqrt(4))


def test_the_neuron_view_takes_numbers_as_a_mask_and_one_row_for_all_queries():
    query, key, _ = example()
    slopes = alibi_bias(2, 5, 5)[1].masked_fill(~causal_mask(5), -math.inf)
    view = heads.neuron_view(query, key, TOKENS, slopes)
    assert_tabled(view, attention_weights(query, key, slopes.double()))
    assert data_of(view)["bias"][3] == [*slopes[3].tolist()[:4], None]
    padded = heads.neuron_view(query, key, TOKENS, torch.tensor([True, True, True, False, True]))
    assert data_of(padded)["bias"] == [[0, 0, 0, None, 0]] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": TOKENS[:4]}, r"query has shape \(5, 4\).*\(4, any\)"),
        ({"key": torch.zeros(5, 3)}, r"key has shape \(5, 3\)"),
        ({"key_tokens": ["a"]}, r"key has shape \(5, 4\).*\(1, 4\)"),
        ({"mask": torch.ones(4, 4).bool()}, r"the mask has shape \(4, 4\).*\(5, 5\)"),
        ({"mask": torch.ones(1, 1, 5, 5).bool()}, "choose one head's"),
        ({"mask": torch.ones(5, 5).long()}, "must be boolean"),
        ({"mask": torch.full((5, 5), math.nan)}, "must be boolean"),
        ({"opens": 5}, "opens=5 is no query"),
    ],
)
def test_the_neuron_view_names_what_is_wrong(change, message):
    query, key, _ = example()
    with pytest.raises(ValueError, match=message):
        heads.neuron_view(**{"query": query, "key": key, "tokens": TOKENS} | change)


def test_two_sentences_are_aligned_token_by_token():
    rows = data_of(compare_view())["rows"]
    assert [(row["a"], row["b"]) for row in rows] == [(0, 0), (1, 1), (2, 2), (None, 3), (3, 4), (4, 5)]
    assert [row["same"] for row in rows] == [True, False, True, False, True, True]
    assert all((TOKENS[row["a"]] == OTHER_TOKENS[row["b"]]) == row["same"] for row in rows if row["a"] is not None)


def test_a_comparison_holds_and_tables_both_sentences():
    view = compare_view()
    for side, maps in (("a", random_maps()), ("b", other_maps())):
        given = torch.tensor(data_of(view)["maps"][side])
        torch.testing.assert_close(given, torch.stack([w[0] for w in maps.values()]), atol=1e-6, rtol=0)
        assert_tabled(view, given)


def test_layers_in_another_order_are_compared_by_their_names():
    maps = random_maps()
    turned = dict(reversed(maps.items()))
    assert list(maps) != list(turned)
    data = data_of(heads.compare(maps, TOKENS, turned, TOKENS))
    assert data["maps"]["a"] == data["maps"]["b"]
    film = data_of(heads.dynamics({0: maps, 1: turned}, TOKENS))
    assert film["frames"][0] == film["frames"][1]


def test_a_comparison_of_what_cannot_be_compared_says_so():
    maps = random_maps()
    with pytest.raises(ValueError, match=r"other layers .*record both with one model"):
        heads.compare(maps, TOKENS, {"first": maps["first"]}, TOKENS)
    with pytest.raises(ValueError, match=r"query=3 has no partner in sentence B; open on one of .*0, 1, 2, 4, 5"):
        heads.compare(other_maps(), OTHER_TOKENS, maps, TOKENS, query=3)


def test_the_share_of_an_alignment_is_that_of_linked_rows_whose_largest_weight_is_gold():
    weights = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    gold = [(0, 0), (1, 1), (2, 0), (2, 1), (2, 1)]  # row 3 is linked to nothing, row 2 to two
    data = data_of(heads.alignment(weights, list("abc"), list("wxyz"), gold))
    (head,) = data["heads"]
    assert (head["hits"], data["linked"]) == (2, 3)
    assert head["best"] == [0, 2, 1, 2]
    assert data["gold"] == [[0, 0], [1, 1], [2, 0], [2, 1]]


def test_an_alignment_tables_every_head_its_share_and_the_gold_pairs():
    view = alignment_view()
    for weights in cross_heads().values():
        assert_tabled(view, weights)
    cells = Elements(view.html).cells
    for i, (name, weights) in enumerate(cross_heads().items()):
        hits = sum((row, int(weights[row].argmax())) in GOLD for row in range(4))
        at = cells.index(name)
        assert cells[at + 1 : at + 4] == [f"{hits}", "4", f"{hits / 4:g}"], i
    assert set(SOURCE) <= set(cells)


@pytest.mark.parametrize(
    ("weights", "gold", "message"),
    [
        (torch.zeros(5, 6), [], "at least one head, and one gold pair"),
        ({}, [(0, 0)], "at least one head"),
        (torch.zeros(6, 5), [(0, 0)], r"shape \(6, 5\), and \(5, 6\)"),
        (torch.zeros(5, 6), [(0, 6)], r"\(0, 6\) is outside of 5 target and 6 source"),
        (torch.zeros(5, 6), [(-1, 0)], "outside"),
    ],
)
def test_an_alignment_names_what_is_wrong(weights, gold, message):
    with pytest.raises(ValueError, match=message):
        heads.alignment(weights, SOURCE, TOKENS, gold)


def test_the_film_holds_every_step_in_order_and_tables_weights_and_curves():
    data = data_of(dynamics_view())
    assert data["steps"] == [0, 10, 100]
    expected = torch.stack([torch.stack([w[0] for w in random_maps(FRAMES[step]).values()]) for step in (0, 10, 100)])
    torch.testing.assert_close(torch.tensor(data["frames"]), expected, atol=1e-6, rtol=0)
    assert_tabled(dynamics_view(), expected)
    assert_tabled(dynamics_view(), torch.tensor([value for curve in CURVES.values() for value in curve.values()]))
    assert data["curves"][1] == {"name": "share", "steps": [10, 50], "values": [0.25, 0.75]}


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ({}, {}, "frames is empty"),
        ({0: random_maps(), 5: {"first": random_maps()["first"]}}, {}, "step 5 has other layers or heads than step 0"),
        ({0: random_maps()}, {"curves": {"loss": {}}}, "'loss' needs at least one step"),
        ({0: random_maps()}, {"curves": {"loss": {0: math.nan}}}, "finite numbers"),
        ({-1: random_maps()}, {"log_x": True}, "no place for a step below 0"),
        ({0: random_maps()}, {"head": 3}, "cannot be opened on"),
    ],
)
def test_a_film_names_what_is_wrong(frames, options, message):
    with pytest.raises(ValueError, match=message):
        heads.dynamics(frames, TOKENS, **options)
