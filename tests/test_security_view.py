"""Trust boundaries: rollout against products by hand, and a page that shows the same shares."""

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.chat import chat_tokenizer
from llmcourse.corpora import commands
from llmcourse.injection import RoleMarked, as_attack, overrides
from llmcourse.models import GPT
from llmcourse.transformer import TransformerConfig
from llmcourse.visualize.security import Traced, injected_share, rollout, traced_reply, trust_boundaries
from tests.view_catalogue import ALL, traced_example


def test_rollout_is_the_product_of_the_layers_by_hand():
    maps = traced_example(0).maps
    by_hand = torch.eye(5, dtype=torch.double)
    for weights in maps.values():
        by_hand = (0.5 * weights[0].double().mean(0) + 0.5 * torch.eye(5, dtype=torch.double)) @ by_hand
    torch.testing.assert_close(rollout(maps), by_hand)
    torch.testing.assert_close(rollout(maps).sum(dim=1), torch.ones(5, dtype=torch.double))


def test_rollout_follows_a_word_through_a_word_between():
    first, second = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    first[..., range(3), (0, 0, 2)] = 1  # the second word reads the first, then the third reads the second
    second[..., range(3), (0, 1, 1)] = 1
    assert rollout({"a": first, "b": second})[2].tolist() == [0.25, 0.25, 0.5]


def test_the_injected_share_is_the_sum_over_its_words():
    traced = traced_example(0)
    assert injected_share(traced) == pytest.approx(rollout(traced.maps)[2, [1, 2]].sum().item())
    head = traced.maps["second"][0, 1, 2, [1, 2]].sum().item()
    assert injected_share(traced, layer="second", head=1) == pytest.approx(head)


@pytest.mark.parametrize("form", ["glued", "turns", "roles"])
def test_a_reply_is_traced_with_its_zones_and_the_injected_words(form):
    tokenizer = chat_tokenizer(commands.vocabulary())
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=len(tokenizer), context=48, d_model=16, n_heads=2, n_layers=2))
    model = RoleMarked(model).eval() if form == "roles" else model.eval()
    attack = as_attack(next(overrides(4, ("now {} instead",))))
    traced = traced_reply(model, attack, "cat dog", tokenizer, form)
    assert list(traced.tokens[traced.answer :]) == ["cat", "dog", "[END]"]
    assert traced.tokens[traced.answer - 1] == "[ASSISTANT]"
    injected = [traced.tokens[i] for i in traced.injected]
    assert (injected[0], injected[-1], len(injected)) == ("now", "instead", 3)
    assert {traced.zones[i] for i in traced.injected} == {"document"}
    material = [t for t, zone in zip(traced.tokens, traced.zones, strict=True) if zone == "document"]
    assert [t for t in material if t in commands.WORDS] == list(attack.words)
    assert all(len(weights[0, 0]) == len(traced.tokens) for weights in traced.maps.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"zones": ["user"]}, "zones"),
        ({"answer": 0}, "answer begins"),
        ({"answer": 5}, "answer begins"),
        ({"injected": [4]}, "before the answer"),
        ({"maps": {}}, "maps is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        trust_boundaries({"a": Traced(**(vars(traced_example(0)) | change))})


def test_no_model_and_a_word_that_was_not_said_are_refused():
    with pytest.raises(ValueError, match="no model"):
        trust_boundaries({})
    with pytest.raises(ValueError, match="word 7"):
        trust_boundaries({"a": traced_example(0)}, said=7)


def shown(page, name="data-share"):
    return {
        element.get_attribute(name): float(element.get_attribute("data-value"))
        for element in page.locator(f"[{name}]").all()
    }


def test_the_page_shows_the_shares_of_every_token_and_zone(open_page):
    page = open_page(ALL["trust_boundaries"]()[0])
    traced = traced_example(0)
    expected = rollout(traced.maps)[2]
    assert list(shown(page, "data-token").values()) == pytest.approx(expected.tolist(), abs=6e-4)
    shares = shown(page)
    assert shares["document"] == pytest.approx(expected[1:3].sum().item(), abs=2e-3)
    assert shares["injected"] == pytest.approx(injected_share(traced), abs=2e-3)
    assert sum(share for zone, share in shares.items() if zone != "injected") == pytest.approx(1, abs=3e-3)


def test_choosing_another_model_word_and_head_changes_what_is_shown(open_page):
    page = open_page(ALL["trust_boundaries"]()[0])
    said = page.get_by_role("combobox", name="Said").locator("option").all_text_contents()
    assert said == list(traced_example(0).tokens[3:])
    page.get_by_role("combobox", name="Model").select_option(index=1)
    page.get_by_role("combobox", name="Said").select_option(index=1)
    page.get_by_role("combobox", name="Traced through").select_option("layer 1, head 2")
    expected = traced_example(1).maps["second"][0, 2, 3].tolist()
    assert list(shown(page, "data-token").values()) == pytest.approx(expected, abs=6e-4)
    expect(page.locator(".work")).to_contain_text("from the injected words")
    page.get_by_role("combobox", name="Model").select_option(index=0)
    expect(page.get_by_role("combobox", name="Traced through")).to_have_value("layer 1, head 2")


def test_the_boxes_are_those_who_speak_and_injected_words_are_marked(open_page):
    page = open_page(ALL["trust_boundaries"]()[0])
    assert [box.get_attribute("data-zone") for box in page.locator("[data-zone]").all()] == [
        "system",
        "document",
        "assistant",
    ]
    assert [chip.get_attribute("data-token") for chip in page.locator(".piece.new").all()] == ["1", "2"]
