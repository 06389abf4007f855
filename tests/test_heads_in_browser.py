"""The views of heads as a reader meets them, in Chromium: the numbers on the page equal torch's, after every choice.

What holds for all views (no request, tokens as text, dark, narrow, without JavaScript) is in test_views_in_browser.py.
"""

import base64
import math
from importlib import metadata

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.attention import causal_mask
from llmcourse.models import GPT
from llmcourse.recording import record_attention, record_heads
from llmcourse.transformer import TransformerConfig
from llmcourse.visualize import bertviz, heads, views
from tests.pages import extension
from tests.view_catalogue import (
    ALL,
    CURVES,
    FRAMES,
    GOLD,
    OTHER_TOKENS,
    TOKENS,
    alignment_view,
    compare_view,
    cross_heads,
    dynamics_view,
    example,
    neuron_view,
    other_maps,
    random_maps,
)

pytestmark = pytest.mark.slow
READ = "cells => cells.map(({dataset: {row, column, value}}) => [+row, +column, value])"


def matrix_of(view, name):
    """The numbers of the cells of this name, laid out as on the page; NaN where there is none."""
    cells = view.locator(f"td[data-name={name}]").evaluate_all(READ)
    assert cells, f"no cells of {name}"
    left = min(column for _, column, _ in cells)
    shape = (max(row for row, _, _ in cells) + 1, max(column for _, column, _ in cells) + 1 - left)
    matrix = torch.full(shape, torch.nan, dtype=torch.float64)
    for row, column, value in cells:
        matrix[row, column - left] = float(value.replace("Infinity", "inf"))
    return matrix


def assert_shows(view, name, expected, atol=1e-6):
    torch.testing.assert_close(
        matrix_of(view, name), expected.double(), atol=atol, rtol=0, msg=lambda m: f"{name}: {m}", equal_nan=True
    )


def test_the_chosen_head_of_the_grid_stands_large_with_its_numbers(open_page):
    first, second = open_page(*ALL["head_grid"]()).locator(".llmcourse-view").all()
    for layer in ("second", "first"):
        for head in (2, 0, 1):
            first.get_by_role("button", name=f"{layer}, head {head}").click()
            assert_shows(first, "weights", random_maps(0)[layer][0, head])
            expect(first.locator("button[aria-pressed=true]")).to_have_attribute("aria-label", f"{layer}, head {head}")
    assert_shows(second, "weights", random_maps(1)["first"][0, 0])


def test_every_small_picture_has_the_weights_of_its_head(open_page):
    page = open_page(ALL["head_grid"]()[0])
    for layer, weights in random_maps(0).items():
        for head in range(3):
            drawn = (
                page.get_by_role("button", name=f"{layer}, head {head}")
                .locator("rect")
                .evaluate_all("rects => rects.map(r => ['x', 'y', 'fill-opacity'].map(name => +r.getAttribute(name)))")
            )
            matrix = torch.zeros(5, 5, dtype=torch.float64)
            for j, i, weight in drawn:
                matrix[int(i), int(j)] = weight
            torch.testing.assert_close(matrix, weights[0, head].double(), atol=1e-6, rtol=0)


def test_the_grid_is_used_by_keyboard(open_page):
    page = open_page(ALL["head_grid"]()[0])
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="first, head 0")).to_be_focused()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("button", name="second, head 1")).to_be_focused()
    assert_shows(page, "weights", random_maps()["second"][0, 1])
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    weight = random_maps()["second"][0, 1, 1, 0]
    expect(page.locator(".work")).to_have_text(f"second, head 1: “cat” gives “the” {weight:.3f} of its attention.")


def assert_neuron_view_equals(view, query, key, i, mask=None):
    products = torch.stack([query[i] * k for k in key])
    scores = torch.stack([(query[i] * k).sum() for k in key])
    scaled = scores / math.sqrt(query.shape[-1])
    masked = scaled if mask is None else scaled.masked_fill(~mask[i], -torch.inf)
    assert_shows(view, "products", products)
    assert_shows(view, "sum", scores[:, None])
    assert_shows(view, "scaled", scaled[:, None])
    assert_shows(view, "weights", masked.softmax(-1)[:, None])
    if mask is not None:
        assert_shows(view, "masked", masked[:, None])


def choose_query(view, i):
    view.get_by_role("group", name="Query").get_by_role("button").nth(i).click()


def test_products_sums_scores_and_weights_of_a_query_equal_torch(open_page):
    first, second = open_page(*ALL["neuron_view"]()).locator(".llmcourse-view").all()
    query, key, _ = example(0)
    wide_query, wide_key, _ = example(1, D=16)
    assert_neuron_view_equals(first, query, key, 4, causal_mask(5))  # it opens on the last query
    for i in range(5):
        choose_query(first, i)
        assert_neuron_view_equals(first, query, key, i, causal_mask(5))
        choose_query(second, i)
        assert_neuron_view_equals(second, wide_query, wide_key, i)


@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ("query[i][d] * x", "key[i][d] * query[0][d]"),
        ("key.map((k) => k.map((x, d) => query[i][d] * x))", "query.map((k) => k.map((x, d) => key[i][d] * x))"),
        ("/ Math.sqrt(D)", "/ 1"),
        ("bias[i][j] === null ? -Infinity", "bias[i][j] === null ? score"),
        ("power / sum)", "power / 1)"),
    ],
)
def test_a_broken_formula_in_the_neuron_view_does_not_pass(open_page, line, mutant):
    view, (query, key, _) = neuron_view(0, causal_mask(5)), example(0)
    assert line in view.html
    page = open_page(view, mutate=lambda html: html.replace(line, mutant))
    choose_query(page, 1)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        assert_neuron_view_equals(page, query, key, 1, causal_mask(5))


def test_a_recorded_head_of_a_model_gives_the_weights_that_the_model_computed(open_page):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=11, context=12, d_model=24, n_heads=3, positions="alibi")).eval()
    with record_heads(model) as recorded, record_attention(model) as maps, torch.no_grad():
        model(torch.tensor([[1, 2, 3, 4, 5]]))
    head = recorded["blocks.1.attention"].head(2)
    page = open_page(heads.neuron_view(head.query, head.key, TOKENS, head.mask))
    for i in range(5):
        choose_query(page, i)
        assert_shows(page, "weights", maps["blocks.1.attention"][0, 2, i][:, None], atol=1e-5)


def test_the_neuron_view_says_how_a_number_comes_about(open_page):
    page = open_page(neuron_view(0, causal_mask(5)))
    (query, key, _), says = example(0), page.locator(".work")
    choose_query(page, 1)
    page.locator("td[data-name=products][data-row='0'][data-column='2']").focus()
    q, k = query[1, 2].item(), key[0, 2].item()
    text = f"“cat” and “the”, number 2: q {q:.2f} × k {k:.2f} = {q * k:.2f}".replace("-", "\N{MINUS SIGN}")
    expect(says).to_have_text(text)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    score = (query[1] @ key[0]).item()
    expect(says).to_have_text(f"“cat” and “the”, {score:.2f} ÷ √4 = {score / 2:.2f}".replace("-", "\N{MINUS SIGN}"))
    page.locator("td[data-name=masked][data-row='3']").hover()
    expect(says).to_have_text("“cat” and “</script>”, hidden by the mask: −∞")


def test_what_a_query_gives_in_two_sentences_and_what_changed(open_page):
    first, second = open_page(*ALL["compare"]()).locator(".llmcourse-view").all()
    pairs = [(0, 0), (1, 1), (2, 2), (3, 4), (4, 5)]
    for layer, head, query in [("first", 0, 0), ("first", 2, 3), ("second", 1, 4), ("second", 0, 1)]:
        first.get_by_role("combobox", name="Layer").select_option(layer)
        first.get_by_role("combobox", name="Head").select_option(f"{head}")
        choose_query(first, query)
        a, b = random_maps(0)[layer][0, head].double(), other_maps()[layer][0, head].double()
        assert_shows(first, "map_a", a)
        assert_shows(first, "map_b", b)
        in_a, in_b = a[pairs[query][0]], b[pairs[query][1]]
        assert_shows(first, "weights_a", in_a[:, None])
        assert_shows(first, "weights_b", in_b[:, None])
        change = torch.tensor([in_b[j] - in_a[i] for i, j in pairs]).double()
        expected = torch.cat([change[:3], torch.tensor([math.nan]), change[3:]])  # “down” stands in B only
        assert_shows(first, "change", expected[:, None], atol=2e-6)
        i, j = pairs[int(change.abs().argmax())]
        expect(first.locator(".work")).to_contain_text(f"{in_a[i]:.3f} (A) and {in_b[j]:.3f} (B)")
    assert_shows(second, "map_a", random_maps(1)["first"][0, 0])


def test_tokens_that_differ_are_marked(open_page):
    page = open_page(compare_view())
    assert page.locator("td b").all_inner_texts() == ["≠ cat", "≠ dog", "≠ down"]
    assert page.locator("tr:has(b) td.word-cell").all_inner_texts() == ["≠ cat", "≠ dog", "≠ down"]
    shown = page.get_by_role("group", name="Query").get_by_role("button").all_inner_texts()
    assert shown == ["the", "cat / dog", "sat", "</script>", "<script>alert(1)</script>"]


def test_the_same_sentence_twice_has_no_change(open_page):
    page = open_page(heads.compare(other_maps(), OTHER_TOKENS, other_maps(), OTHER_TOKENS, query=3))
    expect(page.locator(".work")).to_have_text("“down” gives each key the same weight (A and B).")
    assert_shows(page, "change", torch.zeros(6, 1))


def test_the_two_sides_of_a_comparison_can_be_named_and_equal_tokens_need_no_note(open_page):
    same = [heads.compare(other_maps(), OTHER_TOKENS, other_maps(1), OTHER_TOKENS, names=("before", "after"))]
    page = open_page(*same)
    assert page.get_by_role("columnheader", name="after − before").count() == 1
    assert page.locator("caption", has_text="before, all queries").count() == 1
    assert page.get_by_text("≠ marks").count() == 0
    expect(page.locator(".work")).to_contain_text(" (before) and ")


def test_a_matrix_scrolls_to_the_largest_weight_of_the_chosen_query_and_the_page_does_not(open_page):
    tokens = [f"token{i}" for i in range(24)]
    weights = torch.full((1, 1, 24, 24), 0.005)
    weights[..., 2, 20] = weights[..., 3, 1] = 0.885
    page = open_page(views.attention_heads({"layer": weights}, tokens, query=2), viewport={"width": 390, "height": 800})
    inside = """([query, key]) => {
        const cell = document.querySelector(`td[data-row="${query}"][data-column="${key}"]`).getBoundingClientRect();
        return cell.left > 0 && cell.right < document.documentElement.clientWidth && document.documentElement.scrollLeft === 0;
    }"""
    page.wait_for_function(inside, arg=[2, 20])
    page.get_by_role("group", name="queries").get_by_role("button").nth(3).click()
    page.wait_for_function(inside, arg=[3, 1])
    assert not page.evaluate(inside, [2, 20])


def test_gold_is_framed_the_largest_is_marked_and_the_share_is_that_of_torch(open_page):
    first, second = open_page(*ALL["alignment"]()).locator(".llmcourse-view").all()
    at = "cells => cells.map(({dataset: {row, column}}) => [+row, +column])"
    for number in (1, 0):
        weights = cross_heads(0)[f"head {number}"]
        first.get_by_role("combobox", name="Head").select_option(index=number)
        assert_shows(first, "weights", weights)
        best = {(i, j) for i, j in enumerate(weights.argmax(-1).tolist())}
        assert {tuple(x) for x in first.locator("td:has(.dot)").evaluate_all(at)} == best
        assert {tuple(x) for x in first.locator("td.gold").evaluate_all(at)} == GOLD
        share = len(best & GOLD) / 4
        assert float(first.locator("[data-name=share]").get_attribute("data-value")) == share
        expect(first.locator("[data-name=share]")).to_contain_text(f"{len(best & GOLD)} of 4 linked target tokens")
    assert_shows(second, "weights", cross_heads(1)["head 0"])


def test_a_cell_of_an_alignment_is_read_by_keyboard(open_page):
    page = open_page(alignment_view())
    page.locator("td[data-row='0'][data-column='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    weight = cross_heads()["head 0"][1, 1].item()
    says = page.locator(".work").nth(1)
    expect(says).to_contain_text(f"“cat” gives “chat” {weight:.3f}")
    expect(says).to_contain_text("; a gold pair.")
    page.keyboard.press("ArrowRight")
    expect(says).to_contain_text("; no gold pair.")


def test_the_slider_shows_the_weights_of_each_stored_step(open_page):
    first, second = open_page(*ALL["dynamics"]()).locator(".llmcourse-view").all()
    slider = first.get_by_role("slider", name="Step", exact=True)
    for frame, step in enumerate((0, 10, 100)):
        slider.fill(f"{frame}")
        assert slider.get_attribute("aria-valuetext") == f"{step}"
        for layer, head in (("second", 2), ("first", 1)):
            first.get_by_role("combobox", name="Layer").select_option(layer)
            first.get_by_role("combobox", name="Head").select_option(f"{head}")
            assert_shows(first, "weights", random_maps(FRAMES[step])[layer][0, head])
    assert_shows(second, "weights", random_maps(FRAMES[0])["first"][0, 0])
    first.get_by_role("button", name="one step back").click()
    assert_shows(first, "weights", random_maps(FRAMES[10])["first"][0, 1])


def test_the_mark_on_a_curve_is_the_last_value_measured_by_the_chosen_step(open_page):
    page = open_page(dynamics_view())
    slider = page.get_by_role("slider", name="Step", exact=True)
    marks = lambda: page.locator("circle").evaluate_all("dots => dots.map(({dataset: d}) => [+d.step, +d.value])")  # noqa: E731
    film = torch.stack([random_maps(seed)["first"][0, 0] for seed in FRAMES.values()])
    most = (film.max(0).values - film.min(0).values).argmax()  # what the view opens on
    weight = lambda step: pytest.approx(  # noqa: E731
        random_maps(FRAMES[step])["first"][0, 0].flatten()[most].item(), abs=1e-6
    )
    assert marks() == [[0, weight(0)], [0, CURVES["loss of </script>"][0]]]  # the share is not measured yet
    slider.press("ArrowRight")
    assert marks() == [[10, weight(10)], [10, 2.0], [10, 0.25]]
    slider.press("ArrowRight")
    assert marks() == [[100, weight(100)], [100, 1.25], [50, 0.75]]
    expect(page.locator(".panel").nth(2)).to_contain_text("0.750 (at step 50)")


def test_a_line_is_drawn_through_the_measured_values(open_page):
    page = open_page(dynamics_view())
    points = page.locator("polyline").nth(1).get_attribute("points").split()
    x, y = torch.tensor([[float(number) for number in point.split(",")] for point in points]).T
    curve = CURVES["loss of </script>"]
    expected = torch.tensor([math.log(step + 1) for step in curve])
    torch.testing.assert_close((x - x[0]) / (x[-1] - x[0]), expected / expected[-1], atol=1e-3, rtol=0)
    values = torch.tensor(list(curve.values()))
    torch.testing.assert_close((y[-1] - y) / (y[-1] - y[0]), (values - 1.25) / 2.25, atol=1e-3, rtol=0)


def test_a_chosen_cell_is_followed_through_training(open_page):
    page = open_page(dynamics_view())
    cell = page.locator("td[data-row='2'][data-column='1']")
    cell.click()
    panel = page.locator(".panel").first
    expect(panel.locator("b")).to_have_text("“sat” to “cat”")
    page.get_by_role("slider", name="Step", exact=True).fill("2")
    expected = random_maps(FRAMES[100])["first"][0, 0, 2, 1].item()
    assert float(panel.locator("circle").get_attribute("data-value")) == pytest.approx(expected, abs=1e-6)
    page.get_by_role("combobox", name="Layer").select_option("second")
    expected = random_maps(FRAMES[100])["second"][0, 0, 2, 1].item()
    assert float(panel.locator("circle").get_attribute("data-value")) == pytest.approx(expected, abs=1e-6)


def on_local_copies(html):
    """The page as the book serves it: bertviz's scripts run on copies of d3 and jQuery, when it is near."""
    offline, when_near = extension("offline"), extension("when_near")
    installed = {"sphinxcontrib-jquery": "jquery.js", "mpld3": "d3.v5.min.js"}
    scripts = (
        next(file for file in metadata.files(package) if file.name == name).locate().read_bytes()
        for package, name in installed.items()
    )
    here = when_near.NEAR + when_near.BERTVIZ % tuple(
        f"data:text/javascript;base64,{base64.b64encode(script).decode()}" for script in scripts
    )
    return here + offline.REQUIRE_PATHS.sub("", offline.REQUIRE_JS.sub("", html))


def recorded_model(seed):
    torch.manual_seed(seed)
    model = GPT(TransformerConfig(n_vocab=11, context=12, d_model=24, n_heads=3)).eval()
    with record_heads(model) as recorded, torch.no_grad():
        model(torch.tensor([[1, 2, 3, 4, 5]]))
    return recorded


def test_bertviz_draws_our_models_products_in_each_of_two_views(open_page):
    models = [recorded_model(0), recorded_model(1)]
    page = open_page(*(bertviz.neuron_view(model, TOKENS) for model in models), mutate=on_local_copies)
    for view, model in zip(page.locator('[id^="bertviz"]').all(), models, strict=True):
        view.locator("#att_head").select_option("2")
        view.locator("#layer").select_option("1")
        token = view.locator("#collapsed #leftText text").nth(4)
        token.hover()
        assert token.text_content() == TOKENS[4]
        view.locator("#collapsed #leftText g:has(path.plus-sign) rect").last.click(force=True)
        view.locator("#expanded #leftText text").nth(4).hover()
        read = "rects => rects.map(rect => +rect.dataset.value)"
        query, key = model["blocks.1.attention"].query[0, 2, 4], model["blocks.1.attention"].key[0, 2]
        products = torch.tensor(view.locator("#product .element").evaluate_all(read)).view(5, 8)
        torch.testing.assert_close(products, key * query, atol=5e-3, rtol=0)
        scores = torch.tensor(view.locator("#dotproducts rect").evaluate_all(read))
        torch.testing.assert_close(scores, key @ query / math.sqrt(8), atol=1e-2, rtol=0)
