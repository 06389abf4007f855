"""The views as a reader meets them, in Chromium: the numbers on the page equal torch's, also after a change.

Each page is opened from a disk, holds two views of a kind, asks nothing of another place, and logs no error.
"""

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.attention import attention_weights, causal_mask
from llmcourse.display import Html
from llmcourse.generation import SamplingConfig, next_token_probabilities
from llmcourse.tokenizers import BPETokenizer
from llmcourse.visualize import views
from tests.browsing import NARROW
from tests.view_catalogue import (
    ALL,
    TEXT,
    TOKENS,
    bars_view,
    example,
    heads_view,
    logits,
    merges_view,
    random_maps,
    steps_view,
    tokenizer,
)

pytestmark = pytest.mark.slow
PHONE = {"width": NARROW, "height": 740}
each_view = pytest.mark.parametrize("name", ALL)


def tensor_of(view, name):
    """The matrix that stands in the cells of this name, read from the page."""
    cells = view.locator(f"[data-name={name}]").evaluate_all(
        "cells => cells.map(({dataset: {row, column, value}}) => [+row, +(column ?? 0), value])"
    )
    assert cells, f"no cells of {name}"
    matrix = torch.full(
        (max(i for i, _, _ in cells) + 1, max(j for _, j, _ in cells) + 1), torch.nan, dtype=torch.float64
    )
    for i, j, value in cells:
        matrix[i, j] = float(value.replace("Infinity", "inf"))
    return matrix


def assert_steps_equal(view, query, key, value, mask=None):
    scores = query @ key.T
    scaled = scores / query.shape[-1] ** 0.5
    weights = attention_weights(query, key, mask)
    masked = scaled if mask is None else scaled.masked_fill(~mask, -torch.inf)
    expected = {
        "scores": scores,
        "scaled": scaled,
        "masked": masked,
        "weights": weights,
        "output": weights @ value,
    }
    for name, matrix in expected.items():
        torch.testing.assert_close(
            tensor_of(view, name), matrix, atol=1e-5, rtol=0, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_every_step_of_attention_equals_torch(open_page):
    page = open_page(*ALL["attention_steps"]())
    first, second = page.locator(".llmcourse-view").all()
    assert_steps_equal(first, *example(0), causal_mask(5))
    assert_steps_equal(second, *example(1))


def test_a_changed_number_changes_everything_that_follows_from_it(open_page):
    page = open_page(*ALL["attention_steps"]())
    first, second = page.locator(".llmcourse-view").all()
    query, key, value = example(0)
    for number, (name, tensor) in enumerate({"query": query, "key": key, "value": value}.items()):
        box = first.get_by_label(f"{name} of sat, number 1")
        box.fill(str(1.5 + number))
        tensor[2, 1] = 1.5 + number
        assert_steps_equal(first, query, key, value, causal_mask(5))
    box.press("ArrowUp")
    value[2, 1] = 3.6
    assert_steps_equal(first, query, key, value, causal_mask(5))
    assert_steps_equal(second, *example(1))  # the neighbour is left alone
    box.fill("")
    assert box.get_attribute("aria-invalid") == "true"
    assert_steps_equal(first, query, key, value, causal_mask(5))  # an empty box changes nothing
    first.get_by_role("button", name="Reset the numbers").click()
    assert_steps_equal(first, *example(0), causal_mask(5))


def test_a_query_that_may_look_nowhere_reads_nothing(open_page):
    mask = torch.eye(5).bool()
    mask[2] = False
    page = open_page(steps_view(0, mask))
    assert tensor_of(page, "weights")[2].tolist() == [0] * 5
    assert_steps_equal(page, *example(0), mask)


@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ("Math.sqrt(D)", "1*(D)"),
        ("dot(q, k)", "dot(k, k)"),
        ("mask[i][j] ? score", "mask[j][i] ? score"),
        ("power / sum)", "power / 1)"),
        ("v[d])))", "v[0])))"),
    ],
)
def test_a_broken_formula_does_not_pass(open_page, line, mutant):
    view = steps_view(0, causal_mask(5))
    assert line in view.html
    page = open_page(view, mutate=lambda html: html.replace(line, mutant))
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        assert_steps_equal(page, *example(0), causal_mask(5))


def test_the_steps_of_attention_by_keyboard(open_page):
    page = open_page(steps_view(0, causal_mask(5)))
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="1 Q, K, V")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="3 ÷ √D")).to_have_attribute("aria-current", "step")
    visible = page.locator("table:has(td[data-name]) caption >> visible=true").all_inner_texts()
    assert visible == ["Scores QKᵀ", "Scores ÷ √D"]
    page.locator("td[data-name=scaled][tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.locator("td:focus")).to_have_attribute("data-row", "1")
    query, key, _ = example(0)
    score = (query[1] @ key[1]).item()
    sentence = f"“cat”, “cat”: {score:.2f} ÷ √4 = {score / 2:.2f}".replace("-", "\N{MINUS SIGN}")
    expect(page.locator(".work")).to_have_text(sentence)


def test_back_and_next_visit_every_step(open_page):
    page = open_page(steps_view(1))
    labels = []
    for _ in range(7):
        labels.append(page.locator("[aria-current=step]").inner_text())
        page.get_by_role("button", name="Next").click()
    assert [label.split()[0] for label in labels] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "5",
        "5",
    ]  # no mask: five steps
    page.get_by_role("button", name="Back").click()
    expect(page.locator("[aria-current=step]")).to_contain_text("softmax")


def test_the_chosen_head_is_drawn(open_page):
    page = open_page(*ALL["attention_heads"]())
    first = page.locator(".llmcourse-view").first
    maps = random_maps(0)
    for name in ("first", "second"):
        first.get_by_role("combobox", name="Layer").select_option(name)
        for head in range(3):
            first.get_by_role("combobox", name="Head").select_option(str(head))
            torch.testing.assert_close(tensor_of(first, "weights"), maps[name][0, head].double(), atol=5.01e-4, rtol=0)
            widths = first.locator("line").evaluate_all(
                "lines => lines.map(line => +line.getAttribute('stroke-width'))"
            )
            expected = 0.5 + 5 * maps[name][0, head].flatten().double()
            torch.testing.assert_close(torch.tensor(widths, dtype=torch.float64), expected, atol=0.003, rtol=0)


def test_a_line_ends_where_its_tokens_stand(open_page):
    page = open_page(heads_view())
    middles = "boxes => boxes.map((box) => box.getBoundingClientRect()).map((box) => (box.top + box.bottom) / 2)"
    buttons = page.get_by_label("queries").locator("button").evaluate_all(middles)
    ends = page.locator("line").evaluate_all(
        "lines => lines.map((line) => line.ownerSVGElement.getBoundingClientRect().top + +line.getAttribute('y1'))"
    )
    assert max(abs(end - buttons[i // 5]) for i, end in enumerate(ends)) < 2


def test_the_view_opens_on_the_head_and_the_query_it_is_told(open_page):
    page = open_page(views.attention_heads(random_maps(), TOKENS, layer="second", head=1, query=2))
    torch.testing.assert_close(tensor_of(page, "weights"), random_maps()["second"][0, 1].double(), atol=5.01e-4, rtol=0)
    expect(page.get_by_role("combobox", name="Layer")).to_have_value("second")
    expect(page.get_by_role("combobox", name="Head")).to_have_value("1")
    expect(page.locator(".work")).to_contain_text(f"“{TOKENS[2]}” looks most at")
    page.get_by_role("combobox", name="Layer").select_option("first")
    torch.testing.assert_close(tensor_of(page, "weights"), random_maps()["first"][0, 0].double(), atol=5.01e-4, rtol=0)


def test_a_token_can_be_followed_by_keyboard(open_page):
    page = open_page(heads_view())
    weights = random_maps()["first"][0, 0]
    token = page.get_by_label("queries").get_by_role("button", name="sat")
    token.focus()
    best = weights[2].argmax().item()
    expect(page.locator(".work")).to_contain_text(f"“sat” looks most at “{TOKENS[best]}” {weights[2, best]:.2f}")
    page.keyboard.press("Space")
    expect(token).to_have_attribute("aria-pressed", "true")
    opacity = page.locator("line").evaluate_all("lines => lines.map(line => line.style.opacity > 0)")
    assert torch.equal(torch.tensor(opacity).view(5, 5).any(dim=1), torch.arange(5) == 2)
    page.get_by_label("keys").get_by_role("button", name="cat").focus()
    best = weights[:, 1].argmax().item()
    expect(page.locator(".work")).to_contain_text(f"“cat” is looked at most by “{TOKENS[best]}”")
    token.press("Space")
    token.blur()
    expect(page.locator(".work")).to_have_text("Choose a token to follow its lines.")


def test_the_text_is_cut_as_after_so_many_merges(open_page):
    page = open_page(*ALL["merge_steps"]())
    view = page.locator(".llmcourse-view").first
    range_ = view.get_by_role("slider", name="Merges", exact=True)
    for _ in range(int(range_.get_attribute("max")) + 1):
        merges = int(view.locator("output").inner_text().split()[0])
        expected = [piece.replace(" ", "␣") for piece in BPETokenizer(tokenizer().merges[:merges]).tokens(TEXT)]
        assert view.locator("[data-name=token]").all_inner_texts() == expected
        assert (
            f" {len(expected)} tokens, {len(TEXT) / len(expected):.2f} characters" in view.locator(".work").inner_text()
        )
        range_.press("ArrowRight")
    assert expected == [piece.replace(" ", "␣") for piece in tokenizer().tokens(TEXT)]
    view.get_by_role("button", name="one step back").click()
    assert int(range_.input_value()) == int(range_.get_attribute("max")) - 1


SETTINGS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"temperature": 0.0},
    {"top_k": 1},
    {"top_k": 7, "temperature": 1.5},
    {"top_p": 0.8},
    {"top_p": 0.05},
    {"temperature": 0.7, "top_k": 5, "top_p": 0.9},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_probabilities_equal_those_that_generate_draws_from(open_page, settings):
    page = open_page(*ALL["next_token_bars"]())
    first, second = page.locator(".llmcourse-view").all()
    labels = {"temperature": "Temperature", "top_k": "Top-k", "top_p": "Top-p"}
    for name, value in settings.items():
        first.get_by_role("slider", name=labels[name], exact=True).fill(f"{value:g}")
    for view, seed, config in [(first, 0, SamplingConfig(**settings)), (second, 1, SamplingConfig())]:
        expected = next_token_probabilities(logits(seed), config)
        drawn = dict(
            view.locator("[data-name=probability]").evaluate_all("bars => bars.map(({dataset: d}) => [d.row, d.value])")
        )
        likeliest = logits(seed).argsort(descending=True)[:15].tolist()
        assert list(map(int, drawn)) == likeliest
        for i in likeliest:
            assert abs(float(drawn[str(i)]) - expected[i].item()) < 1e-6
        assert f"{int((expected > 0).sum())} of 30 can come next" in view.locator(".work").inner_text()
        assert view.locator("s").count() == sum(expected[i] == 0 for i in likeliest)


def test_a_slider_moves_by_keyboard_and_says_its_value(open_page):
    page = open_page(bars_view())
    temperature = page.get_by_role("slider", name="Temperature", exact=True)
    temperature.focus()
    page.keyboard.press("ArrowLeft")
    assert temperature.get_attribute("aria-valuetext") == "0.95"
    drawn = [float(x) for x in page.locator("li").evaluate_all("bars => bars.map(bar => bar.dataset.value)")]
    expected = (logits() / 0.95).softmax(-1).sort(descending=True).values[:15]
    torch.testing.assert_close(torch.tensor(drawn, dtype=torch.float64), expected, atol=1e-6, rtol=0)


def test_equal_logits_are_cut_in_the_order_of_the_vocabulary(open_page):
    page = open_page(views.next_token_bars(["a", "b", "c", "d"], torch.tensor([0.0, 1.0, 1.0, 1.0])))
    page.get_by_role("slider", name="Top-k").fill("2")
    assert page.locator("li:not(.cut)").evaluate_all("bars => bars.map(bar => +bar.dataset.row)") == [1, 2]


def test_without_a_limit_no_token_is_cut_however_sure_the_first_one_is(open_page):
    page = open_page(views.next_token_bars(["yes", "no", "maybe"], torch.tensor([40.0, 0.0, -1.0])))
    assert page.locator("s").count() == 0 and "3 of 3 can come next" in page.locator(".work").inner_text()


def test_layers_named_by_numbers_keep_their_order(open_page):
    maps = {"2": torch.eye(2)[None, None], "1": torch.ones(1, 1, 2, 2) / 2}
    page = open_page(views.attention_heads(maps, ["a", "b"], layer="2"))
    assert page.get_by_label("Layer").locator("option").all_inner_texts()[:2] == ["2", "1"]


def test_the_true_probability_is_marked_where_it_lies(open_page):
    page = open_page(bars_view())
    row = page.locator("li").first
    share = row.locator(".tick").evaluate("tick => +tick.style.getPropertyValue('--share')")
    exact = logits(1).softmax(-1)[int(row.get_attribute("data-row"))].item()
    assert abs(share - exact) < 1e-6


def test_a_flip_book_shows_the_chosen_output_alone(open_page):
    page = open_page(*ALL["flip_book"]())
    book = page.locator("[data-view=flip_book]").first
    for n in (5, 9):
        for kind in ("a", "bb"):
            book.get_by_role("slider", name="n", exact=True).fill(str((5, 9).index(n)))
            book.get_by_role("combobox", name="kind").select_option(kind)
            expect(book.locator(".page >> visible=true")).to_have_count(1)
            expect(book.locator(".page >> visible=true")).to_contain_text(f"n = {n}, kind = {kind}")
            shown = book.locator(".page >> visible=true").locator("[data-name=probability]")
            values = torch.tensor([float(x) for x in shown.evaluate_all("bars => bars.map(bar => bar.dataset.value)")])
            expected = logits(len(kind))[:n].softmax(-1).sort(descending=True).values
            torch.testing.assert_close(values.double(), expected, atol=1e-6, rtol=0)


@each_view
def test_a_narrow_page_does_not_scroll_sideways(open_page, name):
    page = open_page(*ALL[name](), viewport=PHONE)
    assert page.locator(".stage > *").count() > 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@each_view
def test_without_javascript_the_numbers_stand_in_a_table(open_page, name):
    page = open_page(*ALL[name](), java_script_enabled=False)
    for details in page.locator("summary").all():
        details.click()
    assert page.locator("table >> visible=true").count() >= 2
    assert page.locator("td >> visible=true").count() > 20


@each_view
def test_tokens_that_look_like_html_are_shown_as_text(open_page, name):
    page = open_page(*ALL[name]())
    assert page.locator(".stage script").count() == 0
    if name not in ("merge_steps", "reliability", "selective"):  # the first has other tokens, the others numbers alone
        assert (
            "</script>" in page.locator(".stage").first.inner_text()
            or "</script>" in page.locator(".pages").first.inner_text()
        )


@each_view
@pytest.mark.parametrize("dark", ["prefers", "pydata", "jupyterlab"])
def test_a_dark_page_gets_a_dark_view_with_letters_that_contrast(open_page, name, dark):
    page = open_page(*ALL[name](), color_scheme="dark" if dark == "prefers" else "light")
    if dark == "pydata":
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
    if dark == "jupyterlab":
        page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    view = page.locator(".llmcourse-view").first
    style = "view => [getComputedStyle(view).backgroundColor, getComputedStyle(view).color]"
    assert view.evaluate(style) == ["rgb(20, 24, 29)", "rgb(238, 241, 244)"]


@each_view
def test_a_light_theme_wins_over_a_dark_system(open_page, name):
    page = open_page(*ALL[name](), color_scheme="dark")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    view = page.locator(".llmcourse-view").first
    assert view.evaluate("view => getComputedStyle(view).backgroundColor") == "rgb(255, 255, 255)"


NOTEBOOK = """(outputs) => { for (const html of outputs) {
    const output = document.createElement("div");
    output.innerHTML = html;
    for (const old of output.querySelectorAll("script")) {
        const script = document.createElement("script");
        for (const { name, value } of old.attributes) script.setAttribute(name, value);
        script.textContent = old.textContent;
        old.replaceWith(script);
    }
    document.body.append(output);
} }"""


@each_view
def test_a_view_starts_where_a_notebook_inserts_it(open_page, name):
    """JupyterLab sets innerHTML, which runs no script, and then puts a copy of each script into its place."""
    page = open_page(Html("<p>a notebook</p>", ""))
    page.evaluate(NOTEBOOK, [output.html for output in ALL[name]()])
    page.evaluate("new Promise(requestAnimationFrame)")
    stages = page.locator(f"[data-view={name}] > .stage").all()
    assert len(stages) == 2
    assert all(stage.locator("> *").count() for stage in stages)


@each_view
def test_a_view_starts_in_a_sandboxed_frame(open_page, name):
    """Colab shows each output in a frame of its own that may run scripts and share nothing."""
    page = open_page(Html("<p>a notebook</p>", ""))
    page.evaluate(
        """html => { const frame = document.createElement("iframe");
        frame.setAttribute("sandbox", "allow-scripts"); frame.srcdoc = html;
        document.body.append(frame); }""",
        ALL[name]()[0].html,
    )
    stage = page.frame_locator("iframe").locator(f"[data-view={name}] > .stage > *")
    expect(stage.first).to_be_attached()


def test_a_view_that_the_browser_has_not_read_to_its_end_is_left_alone(open_page):
    unfinished = Html('<div class="llmcourse-view" data-view="merge_steps"></div>', "")
    page = open_page(merges_view(), unfinished)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator("[data-ready]").count() == 1


def test_a_view_leaves_no_name_in_the_page(open_page):
    names = "() => Object.keys(window).sort()"
    empty = open_page(Html("<p>empty</p>", "")).evaluate(names)
    assert open_page(*(view()[0] for view in ALL.values())).evaluate(names) == empty
