"""What figures and views hold: the tensors' own numbers, the same characters on every run, tokens as text.

What a reader sees of the views after a click is tested in test_views_in_browser.py.
"""

import gzip
import json
import re
import sys
from html.parser import HTMLParser

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
import itertools

import matplotlib.pyplot as plt
import nbformat
from nbclient import NotebookClient

from llmcourse.attention import MultiHeadAttention, attention_weights, causal_mask
from llmcourse.display import Html
from llmcourse.recording import record_attention, record_heads
from llmcourse.tokenizers import BPETokenizer
from llmcourse.visualize import bertviz, heads, plots, views, widgets
from tests.kernels import PortlessKernelManager
from tests.view_catalogue import ALL, STILL

TOKENS = ["the", "cat", "</script>", "<script>alert(1)</script>", "sat", "& mat"]
TEXT = "the cat sat on the mat and that was that. 猫坐在垫子上。猫坐在那里。\n"
WORDS = ["cat", "dog", "</script>", "<script>alert(1)</script>", "<!--", "she said \"no\" & 'yes'"]


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


def head(T=6, D=4, seed=0):
    return torch.randn(3, T, D, generator=torch.Generator().manual_seed(seed))


def recorded_maps(n_layers=2, n_heads=4, T=6):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(MultiHeadAttention(16, n_heads) for _ in range(n_layers)))
    with record_attention(layers) as maps, torch.no_grad():
        layers(torch.randn(2, T, 16))
    return maps


each_view = pytest.mark.parametrize("name", ALL)


class Elements(HTMLParser):
    """The elements of a page, and the texts of its tables' cells."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.cells, self._inside = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside in ("td", "th"):
            self.cells.append(data.strip())


def data_of(html: Html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html.html, re.DOTALL)[1])


@each_view
def test_a_view_is_the_same_on_every_run(name):
    assert [view.html for view in ALL[name]()] == [view.html for view in ALL[name]()]


@each_view
def test_a_view_asks_no_other_place_for_anything(name):
    for html in (view.html for view in ALL[name]()):
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", html)) - {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xhtml",
        }
        assert not addresses
        assert not re.search(r"@import|\burl\(|\bfetch\(|\bimport\b|document\.write|innerHTML|XMLHttpRequest", html)
        assert not {key for key, _ in Elements(html).attributes} & {"src", "href", "onclick", "id"}


@each_view
def test_tokens_cannot_become_elements(name):
    for html in (view.html for view in ALL[name]()):
        scripts = re.findall(r"<script[^>]*>", html)
        assert scripts.count('<script type="application/json">') == html.count('class="llmcourse-view"')
        assert set(scripts) == {"<script>", '<script type="application/json">'}
        assert "alert(1)</script>" not in html
        assert len(re.findall("</script", html)) == len(scripts)


@pytest.mark.parametrize("name", STILL)
def test_a_view_without_a_script_keeps_to_the_same_rules(name):
    for view in STILL[name]():
        assert len(repr(view).splitlines()) > 1
        assert "<script" not in view.html
        assert "alert(1)</script>" not in view.html
        assert not re.search(r"https?://|@import|\burl\(", view.html)
        assert not {key for key, _ in Elements(view.html).attributes} & {"src", "href", "onclick", "onerror", "id"}


@each_view
def test_a_view_has_a_text_twin_and_a_table_without_javascript(name):
    for view in ALL[name]():
        assert len(repr(view).splitlines()) > 1
        assert "table" in Elements(view.html).tags


@each_view
def test_the_scripts_that_an_output_carries_stay_small(name):
    for view in ALL[name]():
        scripts = set(re.findall(r"<script>(.*?)</script>", view.html, re.DOTALL))
        assert 0 < sum(len(script.encode()) for script in scripts) < 30_000


def test_the_scripts_of_a_page_with_every_view_stay_small_when_compressed():
    scripts = re.findall(r"<script>(.*?)</script>", "".join(ALL[name]()[0].html for name in ALL), re.DOTALL)
    assert len(scripts) > len(ALL)
    assert len(gzip.compress("".join(scripts).encode())) < 100_000


def test_attention_steps_holds_the_tensors_and_tables_the_formula():
    query, key, value = head()
    view = views.attention_steps(query, key, value, TOKENS, causal_mask(6))
    data = data_of(view)
    for name, tensor in {"query": query, "key": key, "value": value}.items():
        torch.testing.assert_close(torch.tensor(data[name]), tensor, atol=1e-6, rtol=0)
    assert data["mask"] == causal_mask(6).tolist()
    assert data["tokens"] == TOKENS
    cells = Elements(view.html).cells
    for weight in attention_weights(query, key, causal_mask(6)).flatten().tolist():
        assert any(abs(float(cell) - weight) < 1e-4 for cell in cells if re.fullmatch(r"-?[\d.e-]+", cell)), weight
    assert set(TOKENS) <= set(cells)


def test_attention_steps_takes_tensors_that_are_being_trained():
    query = head()[0].requires_grad_()
    assert data_of(views.attention_steps(query, query, query.half(), TOKENS))["mask"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": TOKENS[:5]}, r"query has shape \(6, 4\).*\(5, any\)"),
        ({"key": torch.zeros(6, 3)}, r"key has shape \(6, 3\).*\(6, 4\)"),
        ({"query": torch.full((6, 4), torch.nan)}, "query holds NaN or infinity"),
        ({"query": torch.zeros(1, 6, 4)}, "choose one sentence and one head"),
    ],
)
def test_attention_steps_names_what_is_wrong(change, message):
    query, key, value = head()
    with pytest.raises(ValueError, match=message):
        views.attention_steps(**{"query": query, "key": key, "value": value, "tokens": TOKENS} | change)


def test_attention_steps_refuses_what_nobody_can_follow():
    with pytest.raises(ValueError, match=r"12 tokens.*query\[:6, :4\]"):
        views.attention_steps(*head(T=12), list("abcdefghijkl"))
    with pytest.raises(ValueError, match="width 9"):
        views.attention_steps(*head(T=2, D=9), ["a", "b"])
    with pytest.raises(TypeError, match="boolean"):
        views.attention_steps(*head(), TOKENS, torch.ones(6, 6))


def test_attention_heads_holds_the_recorded_weights_of_the_first_sentence():
    maps = recorded_maps()
    layers = data_of(views.attention_heads(maps, TOKENS))["layers"]
    assert list(layers) == list(maps)
    for name, weights in maps.items():
        torch.testing.assert_close(torch.tensor(layers[name]), weights[0], atol=5.01e-4, rtol=0)


def test_attention_heads_takes_cross_attention():
    data = data_of(views.attention_heads({"cross": torch.full((1, 2, 3, 5), 0.2)}, list("abc"), list("vwxyz")))
    assert (data["queries"], data["keys"]) == (list("abc"), list("vwxyz"))


@pytest.mark.parametrize(
    "draw",
    [
        views.attention_heads,
        plots.attention_grid,
        bertviz.head_view,
        heads.head_grid,
        lambda maps, tokens: heads.compare(maps, tokens, maps, tokens),
        lambda maps, tokens: heads.dynamics({0: maps}, tokens),
    ],
)
def test_maps_that_do_not_fit_their_tokens_are_refused(draw):
    with pytest.raises(ValueError, match="6 queries and 6 keys, and 5 and 5 tokens"):
        draw(recorded_maps(), TOKENS[:5])
    with pytest.raises(ValueError, match="maps is empty"):
        draw({}, TOKENS)
    with pytest.raises(ValueError, match=r"layer.*NaN"):
        draw({"layer": torch.full((1, 1, 1, 1), torch.nan)}, ["a"])


@pytest.mark.parametrize("wrong", [{"layer": "nowhere"}, {"head": 2}, {"query": -1}])
def test_attention_heads_opens_only_on_what_is_there(wrong):
    with pytest.raises(ValueError, match=r"open on|opened on"):
        views.attention_heads({"a": torch.full((1, 2, 3, 3), 1 / 3)}, list("abc"), **wrong)


def test_attention_heads_refuses_a_large_model_with_advice():
    with pytest.raises(ValueError, match=r"40,000 attention weights.*choose layers, such as .*'a'"):
        views.attention_heads({"a": torch.full((1, 4, 100, 100), 0.01)}, ["x"] * 100)


def test_merge_steps_are_the_tokenizers_own_segmentations():
    tokenizer = BPETokenizer.train(TEXT * 2, 300)
    steps = data_of(views.merge_steps(tokenizer, TEXT))["steps"]
    by_merges = {step["merges"]: step["tokens"] for step in steps}
    latest = None
    for n in range(len(tokenizer.merges) + 1):
        expected = [
            piece.replace(" ", "␣").replace("\n", "↵") for piece in BPETokenizer(tokenizer.merges[:n]).tokens(TEXT)
        ]
        assert (n in by_merges) == (expected != latest), n
        assert by_merges.get(n, latest) == expected
        latest = expected
    assert len(steps[0]["tokens"]) == len(TEXT.encode())


def test_merge_steps_name_the_merge_and_what_it_makes():
    step = data_of(views.merge_steps(BPETokenizer([(b"+", b"+")]), "a++b"))["steps"][1]
    assert (step["pair"], step["made"], step["tokens"]) == ("+++", "++", ["a", "++", "b"])


@pytest.mark.parametrize("text", ["", "x" * 401])
def test_merge_steps_refuses_no_text_and_a_long_one(text):
    with pytest.raises(ValueError, match=f"the text has {len(text)} characters; give 1 to 400"):
        views.merge_steps(BPETokenizer([]), text)


def test_next_token_bars_hold_every_logit_and_table_the_probabilities():
    logits = torch.tensor([1.0, -2.0, 3.25, 0.0, 3.25, 17.123456789])
    view = views.next_token_bars(WORDS, logits)
    assert data_of(view)["logits"] == [1.0, -2.0, 3.25, 0.0, 3.25, 17.123457]
    cells = Elements(view.html).cells
    assert [cell for cell in cells if cell in WORDS] == [WORDS[i] for i in (5, 2, 4, 0, 3, 1)]  # likeliest first
    assert cells[cells.index("cat") + 1] == "1"


@pytest.mark.parametrize(
    ("words", "logits", "message"),
    [
        (["a"], torch.zeros(2), r"logits has shape \(2,\), and \(1\) is needed"),
        (["a", "b"], torch.tensor([0.0, -torch.inf]), "NaN or infinity"),
        (["a"] * 5001, torch.zeros(5001), "5001 words"),
        ([], torch.zeros(0), "0 words"),
    ],
)
def test_next_token_bars_name_what_is_wrong(words, logits, message):
    with pytest.raises(ValueError, match=message):
        views.next_token_bars(words, logits)


def test_heatmap_draws_the_weights_and_names_both_axes():
    weights = torch.rand(3, 5)
    (ax,) = plots.heatmap(weights, ["a", "$b$", "c"], list("vwxyz"), title="a head").axes
    torch.testing.assert_close(torch.as_tensor(ax.images[0].get_array().data), weights.double())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", r"\$b\$", "c"]
    assert [text.get_text() for text in ax.texts] == [f"{weight:.2f}" for weight in weights.flatten().tolist()]
    assert ax.get_xlabel().startswith("key")
    assert ax.get_ylabel().startswith("query")
    assert ax.get_title() == "a head"
    ax.figure.canvas.draw()


def test_heatmap_writes_numbers_only_where_there_is_room_or_where_asked():
    tokens = ["x"] * 13
    assert not plots.heatmap(torch.zeros(13, 13), tokens).axes[0].texts
    assert len(plots.heatmap(torch.zeros(13, 13), tokens, numbers=True).axes[0].texts) == 169
    assert not plots.heatmap(torch.zeros(2, 2), ["a", "b"], numbers=False).axes[0].texts


def test_a_figure_is_shown_by_the_cell_that_ends_with_it_and_by_nothing_else():
    plots.heatmap(torch.eye(2), ["a", "b"])
    assert plt.get_fignums() == []


def test_attention_grid_has_a_picture_for_every_head():
    maps = recorded_maps(n_layers=3, n_heads=2)
    figure = plots.attention_grid(maps, TOKENS)
    assert len(figure.axes) == 6
    drawn = [ax.images[0].get_array().data for ax in figure.axes]
    expected = torch.cat([weights[0] for weights in maps.values()]).double()
    torch.testing.assert_close(torch.stack([torch.as_tensor(image) for image in drawn]), expected)
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == list(maps)
    assert figure.get_supxlabel()
    assert figure.get_supylabel()
    figure.canvas.draw()


def test_ladder_has_a_rung_for_each_model_and_a_line_at_the_floor():
    (ax,) = plots.ladder({"uniform": 3.95, "bigram": 2.0, "transformer": 1.71}, 1.7045).axes
    assert [bar.get_width() for bar in ax.patches] == [3.95, 2.0, 1.71]
    assert {"3.95", "2.00", "1.71", "entropy 1.70"} == {text.get_text() for text in ax.texts}
    assert list(ax.lines[0].get_xdata()) == [1.7045, 1.7045]
    assert ax.get_xlabel() == "loss (nats per token)"


def test_curves_are_named_at_their_ends_without_overlap():
    series = {"training": ([1, 10, 100], [3, 2, 1.71]), "validation": ([1, 10, 100], [3, 2, 1.72])}
    (ax,) = plots.curves(series, floor=1.7045, log_x=True).axes
    assert [text.get_text() for text in ax.texts] == ["entropy 1.70", "training", "validation"]
    heights = sorted(text.xyann[1] for text in ax.texts)
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.05
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),  # nothing touches
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.52, 0.9], [0.46, 0.56, 0.9]),
        ([0.2, 0.4, 0.41, 0.42], [0.2, 0.31, 0.41, 0.51]),  # three around their middle, which is 0.41
        ([0.01, 0.02, 0.9], [0.0, 0.1, 0.9]),  # none stands below the axis
        ([], []),
    ],
)
def test_names_that_would_touch_are_moved_apart_as_little_as_possible(heights, expected):
    assert plots._keep_apart(heights, 0.1) == pytest.approx(expected)


def test_a_line_leads_to_a_name_that_does_not_stand_at_the_end_of_its_curve():
    series = {"early": ([1, 2], [3.0, 1.0]), "whole": ([1, 2, 9], [3.0, 2.0, 1.5]), "near": ([1, 9], [3.0, 1.52])}
    (ax,) = plots.curves(series).axes
    leaders = {text.get_text(): text.arrow_patch is not None for text in ax.texts}
    assert leaders == {"early": True, "whole": True, "near": True}
    (ax,) = plots.curves({"one": ([1, 9], [3.0, 1.0]), "other": ([1, 9], [3.0, 2.0])}).axes
    assert [text.arrow_patch for text in ax.texts] == [None, None]
    assert [text.xy for text in ax.texts] == [
        pytest.approx((1, 1 / 22)),
        pytest.approx((1, 0.5)),
    ]  # with margins above and below


def test_a_logarithmic_axis_is_marked_where_something_was_measured():
    (ax,) = plots.curves({"a": ([256, 300, 1400], [1, 2, 3]), "b": ([256, 262], [1, 2])}, log_x=True).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["256", "300", "1,400"], "262 has no room"


def test_bars_of_a_group_stand_side_by_side():
    (ax,) = plots.bars(
        {"BPE": {"English": 0.25, "Chinese": 1.5}, "bytes": {"Chinese": 3}}, y_label="tokens per character"
    ).axes
    assert [bar.get_height() for bar in ax.patches] == [0.25, 1.5, 3]
    edges = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert edges[0][1] <= edges[1][0] < edges[1][1] <= edges[2][0]
    assert ax.get_ylabel() == "tokens per character"
    assert [text.get_text() for text in ax.get_legend().texts] == ["English", "Chinese"]


def test_a_path_is_the_thicker_the_further_its_connection_lies_above_chance():
    (ax,) = plots.paths(torch.tensor([[0.25, 0.5], [0.1, 1.0], [0.25, 0.25]]), chance=0.25).axes
    widths = {tuple(line.get_xdata()): line.get_linewidth() for line in ax.lines}  # (head below, head above)
    assert widths == {(0, 0): 0, (1, 0): 10, (0, 1): 0, (1, 1): 30, (0, 2): 0, (1, 2): 0}
    assert [text.get_text() for text in ax.texts] == ["0", "1", "0", "1", "2"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["layer below", "layer above"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.paths(torch.ones(1, 1), chance=0.0), "chance=0.0"),
        (lambda: plots.ladder({}, 1.0), "no rungs"),
        (lambda: plots.ladder({"a": 1.0}, float("nan")), "floor=nan"),
        (lambda: plots.curves({}), "no curve"),
        (lambda: plots.curves({"a": ([1, 2], [1])}), "'a' has 2 xs and 1 ys"),
        (lambda: plots.bars({}, y_label="y"), "no bar"),
        (lambda: plots.heatmap(torch.zeros(2, 3), ["a", "b"]), r"weights has shape \(2, 3\), and \(2, 2\)"),
    ],
)
def test_a_figure_of_nothing_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


each_bertviz = pytest.mark.parametrize("draw", [bertviz.head_view, bertviz.model_view])


def bertviz_params(view: Html):
    return json.JSONDecoder().raw_decode(view.html.split("const params = ")[1])[0]


@each_bertviz
def test_bertviz_is_given_our_weights_and_tokens(draw):
    maps = recorded_maps()
    params = bertviz_params(draw(maps, TOKENS))
    shown = params["attention"][0]
    expected = torch.stack([weights[0] for weights in maps.values()])
    torch.testing.assert_close(torch.tensor(shown["attn"]), expected, atol=5.01e-4, rtol=0)
    assert shown["left_text"] == shown["right_text"] == TOKENS


@each_bertviz
def test_bertviz_views_are_the_same_on_every_run_and_differ_with_the_data(draw):
    ids = [re.findall(r'id="(bertviz-[0-9a-f]{32})"', draw(recorded_maps(n_heads=n), TOKENS).html) for n in (4, 4, 2)]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 1
    view = draw(recorded_maps(), TOKENS)
    assert view.html == draw(recorded_maps(), TOKENS).html
    assert bertviz_params(view)["root_div_id"] == ids[0][0]


@each_bertviz
def test_bertviz_shows_a_token_as_text(draw):
    html = draw(recorded_maps(), TOKENS).html
    assert html.count("</script>") == html.count("<script")
    assert "alert(1)<" not in html
    assert "</script>" in bertviz_params(draw(recorded_maps(), TOKENS))["attention"][0]["left_text"]


@each_bertviz
def test_bertviz_shows_the_chosen_layers_under_their_numbers(draw):
    maps = recorded_maps(n_layers=3)
    params = bertviz_params(draw(maps, TOKENS, layers=["2"]))
    assert params["include_layers"] == [2]
    assert len(params["attention"][0]["attn"]) == 1
    torch.testing.assert_close(torch.tensor(params["attention"][0]["attn"][0]), maps["2"][0], atol=5.01e-4, rtol=0)
    with pytest.raises(ValueError, match="no attention layer 'x'; this model has 0, 1, 2"):
        draw(maps, TOKENS, layers=["x"])
    with pytest.raises(ValueError, match="shows nothing"):
        draw(maps, TOKENS, layers=[])


def recorded_heads(n_layers=2, T=6, rows=2):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(MultiHeadAttention(16, 4) for _ in range(n_layers)))
    with record_heads(layers) as recorded, record_attention(layers) as maps, torch.no_grad():
        x = torch.randn(rows, T, 16)
        for layer in layers:
            x = layer(x, mask=causal_mask(T))
    return recorded, maps


def test_bertviz_neuron_view_is_given_our_models_queries_keys_and_weights():
    recorded, maps = recorded_heads()
    params = bertviz_params(bertviz.neuron_view(recorded, TOKENS))
    shown = params["attention"]["all"]
    for name, expected in {
        "attn": list(maps.values()),
        "queries": [layer.query for layer in recorded.values()],
        "keys": [layer.key for layer in recorded.values()],
    }.items():
        given = torch.tensor(shown[name])
        torch.testing.assert_close(given, torch.stack([x[0] for x in expected]), atol=5.01e-4, rtol=0)
    assert shown["left_text"] == shown["right_text"] == TOKENS
    assert params["bidirectional"] is False


def test_bertviz_neuron_view_knows_whether_a_token_may_look_ahead():
    with record_heads(layer := MultiHeadAttention(8, 2)) as recorded:
        layer(torch.randn(1, 3, 8))
    assert bertviz_params(bertviz.neuron_view(recorded, ["a", "b", "c"]))["bidirectional"] is True


def test_bertviz_neuron_view_shows_tokens_as_text_and_keeps_to_itself():
    recorded, _ = recorded_heads()
    html = bertviz.neuron_view(recorded, TOKENS).html
    assert html == bertviz.neuron_view(recorded, TOKENS).html
    assert html.count("</script>") == html.count("<script")
    assert "alert(1)<" not in html
    assert "window.bertviz_params" not in html and 'select("#vis")' not in html
    params = bertviz_params(bertviz.neuron_view(recorded, TOKENS, layers=["1"]))
    torch.testing.assert_close(
        torch.tensor(params["attention"]["all"]["queries"][0]), recorded["1"].query[0], atol=5.01e-4, rtol=0
    )
    assert f'id="{params["root_div_id"]}"' not in html


def test_bertviz_neuron_view_says_what_it_cannot_show():
    recorded, _ = recorded_heads()
    with pytest.raises(ValueError, match="heads is empty"):
        bertviz.neuron_view({}, TOKENS)
    with pytest.raises(ValueError, match="no attention layer 'x'; this model has 0, 1"):
        bertviz.neuron_view(recorded, TOKENS, layers=["x"])
    with pytest.raises(ValueError, match="the queries of '0' has shape"):
        bertviz.neuron_view(recorded, TOKENS[:5])
    large, _ = recorded_heads(n_layers=6, T=128, rows=1)
    with pytest.raises(ValueError, match=r"MB of HTML.*choose layers, such as layers=\['0'\]"):
        bertviz.neuron_view(large, ["x"] * 128)


def test_a_bertviz_view_too_large_for_a_page_is_refused_with_advice():
    maps = {f"blocks.{i}": torch.full((1, 4, 128, 128), 1 / 128) for i in range(6)}
    with pytest.raises(ValueError, match=r"2\.\d MB of HTML.*choose layers, such as layers=\['blocks.0'\]"):
        bertviz.head_view(maps, ["x"] * 128)


def test_without_bertviz_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bertviz", None)
    with pytest.raises(ImportError, match="pip install bertviz"):
        bertviz.head_view(recorded_maps(), TOKENS)


def show(size: float, kind: str) -> Html:
    return Html(f"<b>{kind} of {size:g}</b>", f"{kind} of {size:g}")


def test_a_flip_book_holds_every_combination_in_order():
    page = widgets.explore(show, size=[0.5, 2], kind=["line", "bar", "dot"])._repr_html_()
    assert re.findall("<b>(.*?)</b>", page) == [
        f"{kind} of {size}" for size in ("0.5", "2") for kind in ("line", "bar", "dot")
    ]
    assert "size = 0.5, kind = bar" in page


def test_without_a_kernel_no_widget_is_made(monkeypatch):
    monkeypatch.setattr(widgets, "controls", lambda *_: pytest.fail("a widget was made"))
    bundle = widgets.explore(show, size=[1], kind=["line"])._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}


def test_styles_and_scripts_that_pages_share_are_stored_once():
    page = ALL["flip_book"]()[0].html
    assert page.count("function nextTokenBars(") == 1
    assert page.count("function flipBook(") == 1


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "nothing to choose"),
        ({"size": []}, "nothing to choose"),
        ({"size": range(8), "kind": "abcdef"}, "8 size x 6 kind are 48"),
    ],
)
def test_explore_refuses_nothing_and_too_much(choices, message):
    with pytest.raises(ValueError, match=message):
        widgets.explore(show, **choices)


def test_explore_wants_a_view_that_returns_html():
    with pytest.raises(TypeError, match="returned a str"):
        widgets.explore(str, object=["a"])


def test_controls_are_sliders_for_numbers_and_lists_for_words():
    size, kind, _ = widgets.controls(show, {"size": [0.5, 2], "kind": ["line", "bar"]}).children
    assert (type(size).__name__, type(kind).__name__) == ("SelectionSlider", "Dropdown")
    assert (size.description, size.value, kind.value) == ("size", 0.5, "line")


def test_in_a_kernel_the_output_is_both_a_widget_and_a_page():
    code = """
from llmcourse.display import Html
from llmcourse.visualize.widgets import explore
explore(lambda size: Html(f"<b>{size}</b>", str(size)), size=[1, 2])
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=60, kernel_name="python3", kernel_manager_class=PortlessKernelManager).execute()
    data = next(output["data"] for output in notebook.cells[0].outputs if "data" in output)
    assert set(data) == {"text/html", "text/plain", widgets.WIDGET}
    models = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert data[widgets.WIDGET]["model_id"] in models
    shown = [output["data"]["text/html"] for model in models.values() for output in model["state"].get("outputs", [])]
    assert shown == ["<b>1</b>"]


@pytest.mark.parametrize("least", [0, -1])
def test_a_logarithmic_axis_has_no_place_for_nothing(least):
    with pytest.raises(ValueError, match="no place for 0 or less"):
        plots.curves({"a": ([least, 2], [1.0, 2.0])}, log_x=True)
