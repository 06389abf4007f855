"""The views of a block: the parts of the stream add up, and what the pages show is what torch computes."""

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.models import GPT
from llmcourse.transformer import RotaryPositions, TransformerConfig
from llmcourse.visualize import blocks
from tests.test_views_in_browser import tensor_of
from tests.view_catalogue import TOKENS, clock_pair, clock_view, stream, stream_view


def small_gpt(**choices):
    torch.manual_seed(0)
    config = TransformerConfig(n_vocab=11, context=9, d_model=8, n_heads=2, n_layers=3, **choices)
    return GPT(config)


@pytest.mark.parametrize("choices", [{}, {"positions": "learned", "norm": "rms"}, {"activation": "swiglu"}], ids=str)
def test_the_parts_of_the_stream_add_up_to_what_the_last_norm_reads(choices):
    model, tokens, read = small_gpt(**choices), torch.tensor([[1, 4, 2, 9]]), []
    norm = next(module for name, module in model.named_modules() if name.endswith("norm") and "blocks" not in name)
    norm.register_forward_hook(lambda module, inputs, output: read.append(inputs[0][0]))
    parts = blocks.stream_parts(model, tokens)
    assert list(parts)[:3] == ["embedding", "blocks.0.attention", "blocks.0.feed_forward"]
    assert len(parts) == 7
    torch.testing.assert_close(sum(parts.values()), read[0])


def test_looking_at_the_stream_leaves_the_model_as_it_was():
    model, tokens = small_gpt(dropout=0.5).train(), torch.tensor([[1, 4, 2, 9]])
    first, second = blocks.stream_parts(model, tokens), blocks.stream_parts(model, tokens)
    assert model.training
    assert all(torch.equal(first[name], second[name]) for name in first)  # no dropout while looking
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_post_norm_stream_is_refused_because_it_is_no_sum():
    with pytest.raises(ValueError, match="no pre-norm"):
        blocks.stream_parts(small_gpt(norm_place="post"), torch.tensor([[1, 2]]))


def test_the_lengths_in_the_table_are_norms_of_the_parts_and_of_their_running_sum():
    html = stream_view(0, torch.arange(6.0)).html
    parts = torch.stack(list(stream(0).values()))
    for number in (parts[1, 3].norm(), parts[:3, 1].sum(0).norm(), parts[2, 4] @ torch.arange(6.0).double()):
        assert f"<td>{round(number.item(), 4):g}" in html


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: blocks.residual_stream({}, TOKENS), "0 parts"),
        (lambda: blocks.residual_stream(stream(), TOKENS[:3]), "has shape"),
        (lambda: blocks.residual_stream(stream(), TOKENS, position=5), "position=5"),
        (lambda: blocks.residual_stream(stream(), TOKENS, direction=torch.ones(5)), "direction has shape"),
        (lambda: blocks.rope_clock(torch.ones(3), torch.ones(3)), "even width"),
        (lambda: blocks.rope_clock(torch.ones(4), torch.ones(6)), "key has shape"),
        (lambda: blocks.rope_clock(torch.ones(4), torch.ones(4), positions=1), "positions=1"),
        (lambda: blocks.rope_clock(torch.ones(4), torch.ones(4), base=0.0), "base=0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_way_out(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.slow
def test_the_page_shows_the_stream_at_the_chosen_token(open_page):
    direction = torch.arange(6.0).double()
    page = open_page(stream_view(0, direction), stream_view(1))
    view, other = page.locator(".llmcourse-view").all()
    parts = torch.stack(list(stream(0).values()))
    for token in (2, 0, 4):
        view.get_by_role("button", name=TOKENS[token], exact=True).click()
        torch.testing.assert_close(tensor_of(view, "adds")[:, 0], parts[:, token].norm(dim=-1), atol=1e-6, rtol=0)
        running = parts[:, token].cumsum(0).norm(dim=-1)
        torch.testing.assert_close(tensor_of(view, "stream")[:, 0], running, atol=1e-6, rtol=0)
        torch.testing.assert_close(tensor_of(view, "push")[:, 0], parts[:, token] @ direction, atol=1e-6, rtol=0)
    assert other.locator("[data-name=push]").count() == 0


@pytest.mark.slow
def test_the_stream_is_drawn_as_thick_as_it_is_long(open_page):
    page = open_page(stream_view(0))
    widths = page.locator(".stage svg").evaluate_all(
        "all => all.map((svg) => [...svg.children].map((line) => parseFloat(line.style.strokeWidth)))"
    )
    parts = torch.stack(list(stream(0).values()))
    longest = max(parts.norm(dim=-1).max(), parts.cumsum(0).norm(dim=-1).max())
    drawn = torch.tensor(widths, dtype=torch.float64)
    torch.testing.assert_close(drawn[:, 0], 26 * parts[:, 2].norm(dim=-1) / longest, atol=1e-3, rtol=0)
    torch.testing.assert_close(drawn[:, 2], 26 * parts[:, 2].cumsum(0).norm(dim=-1) / longest, atol=1e-3, rtol=0)
    torch.testing.assert_close(drawn[1:, 1], drawn[:-1, 2])  # a row begins as thick as the one above it ends


@pytest.mark.slow
def test_the_clock_turns_as_the_model_does(open_page):
    page = open_page(clock_view(0))
    query, key = clock_pair(0)
    rotate = RotaryPositions(8, 40, 100.0).double()
    for place, distance in ((0, 3), (5, 3), (11, 11)):
        page.get_by_role("slider", name="Place of “cat”").fill(str(place))
        page.get_by_role("slider", name="“</script>” so many places later").fill(str(distance))
        turned_query, turned_key = rotate(query[None], place + distance)[0], rotate(key[None], place)[0]
        products = (turned_query * turned_key).view(2, 4).sum(0)
        torch.testing.assert_close(tensor_of(page, "pairs")[:, 4], products, atol=1e-5, rtol=0)
        torch.testing.assert_close(tensor_of(page, "score")[0, 0], products.sum(), atol=1e-5, rtol=0)
        rates = 100.0 ** (-torch.arange(0, 8, 2).double() / 8)
        torch.testing.assert_close(tensor_of(page, "pairs")[:, 3], distance * rates, atol=1e-9, rtol=0)


@pytest.mark.slow
def test_moving_both_tokens_turns_the_hands_and_keeps_the_score(open_page):
    page = open_page(clock_view(0))
    hand = page.locator(".stage svg").first.locator("line").first
    score, before = tensor_of(page, "score").item(), hand.get_attribute("x2")
    slider = page.get_by_role("slider", name="Place of “cat”")
    slider.focus()
    for place in range(1, 12):
        page.keyboard.press("ArrowRight")
        expect(page.locator(".work")).to_contain_text(f"“cat” at {place}: distance 3")
        assert abs(tensor_of(page, "score").item() - score) < 1e-9
        assert hand.get_attribute("x2") != before
    page.get_by_role("slider", name="so many places later").fill("4")
    assert abs(tensor_of(page, "score").item() - score) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ("(-2 * i) / x.length", "(-1 * i) / x.length"),
        ("x[i] * cos - x[i + half] * sin", "x[i] * cos + x[i + half] * sin"),
        ("const at = place + distance", "const at = distance"),
    ],
)
def test_a_broken_clock_does_not_pass(open_page, line, mutant):
    view = clock_view(0)
    assert line in view.html
    page = open_page(view, mutate=lambda html: html.replace(line, mutant))
    page.get_by_role("slider", name="Place of “cat”").fill("5")
    query, key = clock_pair(0)
    rotate = RotaryPositions(8, 40, 100.0).double()
    expected = rotate(query[None], 8)[0] @ rotate(key[None], 5)[0]
    assert abs(tensor_of(page, "score").item() - expected.item()) > 1e-3
