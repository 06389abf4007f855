"""The mask painter: what it says can reach what is what the gradients of real layers say."""

import json
import re

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.attention import MultiHeadAttention, causal_mask, padding_mask
from llmcourse.transformer import TransformerBlock, TransformerConfig
from llmcourse.visualize import masks

SIX = ["the", "cat", "near", "the", "trees", "sleeps"]
NAMES = list(masks.presets(6))


def random_mask(seed, T=6, share=0.25):
    return torch.rand(T, T, generator=torch.Generator().manual_seed(seed)) < share


def reach_by_gradient(mask, layers, seed=0):
    """Which input has a gradient at which output, in a stack of blocks that all have this mask: (T, T)."""
    torch.manual_seed(seed)
    config = TransformerConfig(n_vocab=2, d_model=8, n_heads=2, n_layers=layers, context=16)
    blocks = [TransformerBlock(config).double() for _ in range(layers)]
    x = torch.randn(1, len(mask), 8, dtype=torch.double, requires_grad=True)
    y = x
    for block in blocks:
        y = block(y, mask=mask)
    rows = []
    for t in range(len(mask)):
        weighted = (y[0, t] * torch.randn(8, dtype=torch.double)).sum()
        rows.append(torch.autograd.grad(weighted, x, retain_graph=True)[0][0].abs().sum(dim=-1) != 0)
    return torch.stack(rows)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_what_can_be_reached_is_what_has_a_gradient_in_real_blocks(name, layers):
    mask = masks.presets(6)[name]
    assert torch.equal(masks.layers_needed(mask, layers) >= 0, reach_by_gradient(mask, layers))


@pytest.mark.parametrize("seed", range(5))
def test_it_holds_for_any_mask_also_where_somebody_may_look_nowhere(seed):
    mask = random_mask(seed)
    mask[seed] = False
    for layers in (1, 2, 3, 5):
        assert torch.equal(masks.layers_needed(mask, layers) >= 0, reach_by_gradient(mask, layers, seed))


def test_without_a_residual_a_layer_of_attention_reaches_what_its_mask_allows_and_no_more():
    torch.manual_seed(0)
    mask = random_mask(1, share=0.4)
    layer = MultiHeadAttention(8, 2).double()
    x = torch.randn(1, 6, 8, dtype=torch.double, requires_grad=True)
    rows = [torch.autograd.grad(layer(x, mask=mask)[0, t].square().sum(), x)[0][0].abs().sum(-1) for t in range(6)]
    reached = torch.stack(rows) != 0
    alone = mask.sum(dim=1) == 1  # one key has all the attention, whatever its score: only its value counts
    assert torch.equal(reached[~alone] & ~torch.eye(6).bool()[~alone], mask[~alone] & ~torch.eye(6).bool()[~alone])
    assert not (reached & ~mask & ~torch.eye(6).bool()).any()


def test_layers_needed_counts_the_layers_as_by_hand():
    window = masks.presets(9)["sliding window"]
    needed = masks.layers_needed(window, 6)
    assert needed[8].tolist() == [4, 4, 3, 3, 2, 2, 1, 1, 0]
    assert (needed.triu(1) == masks.NEVER)[torch.ones(9, 9).triu(1).bool()].all()


def test_presets_are_the_masks_of_the_package():
    presets = masks.presets(6)
    assert torch.equal(presets["causal"], causal_mask(6))
    assert torch.equal(presets["padding"], padding_mask(torch.tensor([[1, 1, 1, 1, 0, 0]]), 0)[0, 0].expand(6, 6))
    assert presets["prefix"][:3, :3].all() and torch.equal(presets["prefix"][3:], causal_mask(6)[3:])
    assert presets["sliding window"].sum(dim=1).tolist() == [1, 2, 3, 3, 3, 3]


def test_the_view_holds_the_mask_and_a_table_of_the_layers_needed():
    mask = random_mask(3)
    view = masks.mask_painter(SIX, mask, layers=2)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', view.html, re.DOTALL)[1])
    assert data["mask"] == mask.int().tolist()
    assert list(data["presets"]) == NAMES
    for row, text in zip(masks.layers_needed(mask, 2).tolist(), repr(view).splitlines()[1:], strict=True):
        assert text.split("   ")[-1].split() == ["." if n < 0 else str(n) for n in row]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": ["one"]}, "1 tokens; give 2 to 10"),
        ({"tokens": ["x"] * 11}, "11 tokens"),
        ({"layers": 0}, "layers=0"),
        ({"layers": 7}, "1 to 6"),
        ({"output": 6}, "output=6"),
        ({"mask": torch.ones(6, 6)}, "boolean"),
        ({"mask": torch.ones(5, 6).bool()}, r"shape \(5, 6\)"),
    ],
)
def test_what_cannot_be_painted_is_refused(change, message, without_shape_checks):
    with pytest.raises(ValueError, match=message):
        masks.mask_painter(**{"tokens": SIX} | change)


def cells_of(page, name):
    """The 0/1 matrix that the page shows."""
    read = {
        "reach": "cells => cells.map((cell) => +cell.dataset.value)",
        "mask": "cells => cells.map((cell) => +(cell.getAttribute('aria-pressed') === 'true'))",
    }[name]
    values = page.locator(f"[data-name={name}]").evaluate_all(read)
    T = round(len(values) ** 0.5)
    return torch.tensor(values).view(T, T).bool()


def assert_page_says_what_gradients_say(page, layers):
    assert torch.equal(cells_of(page, "reach"), reach_by_gradient(cells_of(page, "mask"), layers))


@pytest.mark.slow
def test_every_preset_and_depth_on_the_page_equals_autograd(open_page):
    page = open_page(masks.mask_painter(SIX))
    for name in NAMES:
        page.get_by_role("combobox", name="Mask").select_option(name)
        assert torch.equal(cells_of(page, "mask"), masks.presets(6)[name])
        for layers in (1, 2, 4):
            page.get_by_role("slider", name="Layers").fill(str(layers))
            assert_page_says_what_gradients_say(page, layers)


@pytest.mark.slow
def test_a_mask_that_the_reader_paints_with_the_mouse_equals_autograd(open_page):
    page = open_page(masks.mask_painter(SIX, layers=2))
    box = lambda i, j: page.locator(f"[data-name=mask][data-row='{i}'][data-column='{j}']").bounding_box()  # noqa: E731
    middle = lambda at: (at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)  # noqa: E731
    page.mouse.move(*middle(box(1, 2)))
    page.mouse.down()
    page.mouse.move(*middle(box(1, 4)), steps=8)  # one stroke paints three cells
    page.mouse.up()
    page.mouse.move(*middle(box(0, 5)))  # and nothing more once the button is up
    expected = causal_mask(6)
    expected[1, 2:5] = True
    assert torch.equal(cells_of(page, "mask"), expected)
    page.mouse.click(*middle(box(5, 1)))
    expected[5, 1] = False
    assert torch.equal(cells_of(page, "mask"), expected)
    assert_page_says_what_gradients_say(page, 2)
    expect(page.get_by_role("combobox", name="Mask")).to_have_value("your own")


@pytest.mark.slow
def test_a_finger_paints_too(open_page):
    page = open_page(masks.mask_painter(SIX), has_touch=True, viewport={"width": 360, "height": 800})
    page.locator("[data-name=mask][data-row='2'][data-column='4']").tap()
    expected = causal_mask(6)
    expected[2, 4] = True
    assert torch.equal(cells_of(page, "mask"), expected)
    assert page.locator("[data-name=mask]").first.evaluate("cell => getComputedStyle(cell).touchAction") == "none"


@pytest.mark.slow
def test_the_grid_is_painted_by_keyboard(open_page):
    page = open_page(masks.mask_painter(SIX))
    page.get_by_role("slider", name="Layers").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="the looks at the").first).to_be_focused()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expected = causal_mask(6)
    expected[1, 2] = True
    assert torch.equal(cells_of(page, "mask"), expected)
    page.keyboard.press("Enter")
    assert torch.equal(cells_of(page, "mask"), causal_mask(6))
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.locator("[data-name=mask]:focus")).to_have_attribute("data-column", "2")  # where one left it


@pytest.mark.slow
def test_the_paths_of_a_chosen_end_are_drawn_and_said(open_page):
    window = masks.presets(6)["sliding window"]
    page = open_page(masks.mask_painter(SIX, window, layers=2, output=5))
    expect(page.locator(".work")).to_contain_text(
        "“sleeps” can be affected by “cat”, “near”, “the”, “trees”, “sleeps”."
    )
    lit = "lines => lines.filter((line) => line.style.opacity === '1' && line.getAttribute('stroke-width') !== '9').length"
    # Output 5 looks at 3, 4, 5, and these at 1..3, 2..4, 3..5: three looks above, nine below. The looks at oneself are the
    # straight lines.
    assert page.locator("line").evaluate_all(lit) == 3 + 9
    page.get_by_label("inputs").get_by_role("button", name="sleeps").click()
    expect(page.locator(".work")).to_contain_text("the input “sleeps” can affect the outputs of “sleeps”.")
    page.get_by_label("inputs").get_by_role("button", name="sleeps").click()
    expect(page.locator(".work")).to_contain_text("between 20 of 36 pairs")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "mutant"),
    [("mask[t][k] && reach[s]", "mask[k][t] && reach[s]"), ("layer <= layers", "layer < layers"), ("t === s ? 0", "t === s ? -1")],
)  # fmt: skip
def test_a_page_that_computes_another_reach_does_not_pass(open_page, line, mutant):
    view = masks.mask_painter(SIX, masks.presets(6)["sliding window"], layers=2)
    assert line in view.html
    page = open_page(view, mutate=lambda html: html.replace(line, mutant))
    with pytest.raises(AssertionError):
        assert_page_says_what_gradients_say(page, 2)
