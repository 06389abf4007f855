"""The knowledge base on the page finds what BM25 finds and points where torch points, also after an edit."""

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.answering import KnowledgeBase, lay
from llmcourse.visualize import knowledge
from llmcourse.visualize.live import as_on_page
from tests.browsing import NARROW
from tests.view_catalogue import ASKED, FACTS, TOKENS, facts_view, small_reader


def on_page(seed=0):
    """The reader as the page has it, in double precision, and its tokenizer."""
    reader, tokenizer = small_reader(seed)
    matrix = reader.ask.weight.detach().double().T @ reader.offer.weight.detach().double()
    bert = as_on_page(knowledge._as_bert(reader)).double()
    return knowledge._OnPage(bert, (matrix * 1e6).round() / 1e6), tokenizer


def assert_page_equals_torch(page, facts, question, k, seed=0):
    """Scores, what was found, the probability of every word, and the answer."""
    twin, tokenizer = on_page(seed)
    base = KnowledgeBase(facts, twin, tokenizer)
    scores = [
        float(v) for v in page.locator(".knowledge .number").evaluate_all("all => all.map((e) => e.dataset.value)")
    ]
    assert scores == pytest.approx(base.scores(question), abs=1e-9)
    found = base.ask(question, k)
    listed = page.locator(".facts li").evaluate_all("all => all.map((e) => e.value - 1)")
    assert tuple(listed) == found.retrieved
    places = sorted(found.retrieved)
    laid = lay(tokenizer, [facts[i] for i in places], question)
    with torch.no_grad():
        p = twin(torch.tensor([laid.tokens]), torch.tensor([laid.segments]))[0].softmax(dim=-1).tolist()
    for position, place in enumerate(listed):
        shown = (
            page.locator(".facts li")
            .nth(position)
            .locator("[data-p]")
            .evaluate_all("all => all.map((e) => +e.dataset.p)")
        )
        start = laid.starts[places.index(place)]
        assert shown == pytest.approx(p[start : start + len(shown)], abs=1e-5)
    assert float(page.locator(".answer").get_attribute("data-none")) == pytest.approx(p[0], abs=1e-5)
    assert page.locator(".answer strong").inner_text() == (found.text or "No answer")
    assert page.locator(".facts .evidence").count() == (found.evidence is not None)


def test_the_pointer_as_one_matrix_gives_the_reader_s_scores():
    reader, tokenizer = small_reader()
    laid = lay(tokenizer, FACTS[:3], ASKED)
    row, segments = torch.tensor([laid.tokens]), torch.tensor([laid.segments])
    matrix = reader.ask.weight.detach().T @ reader.offer.weight.detach()
    joined = knowledge._OnPage(knowledge._as_bert(reader).eval(), matrix)(row, segments)
    torch.testing.assert_close(joined, reader(row, segments), atol=1e-4, rtol=1e-4)


def test_the_table_below_says_what_python_computes():
    view, (twin, tokenizer) = facts_view(0), on_page()
    found = KnowledgeBase(FACTS, twin, tokenizer).ask(ASKED)
    assert f"with probability {found.confidence:.2f}" in view.html
    assert f"The answer: {found.text or 'no answer'}" in repr(view).replace("&lt;", "<")


@pytest.mark.parametrize(("choices", "words"), [({"k": 0}, "k=0"), ({"k": 6}, "k=6")])
def test_what_a_page_cannot_show_is_refused(choices, words):
    with pytest.raises(ValueError, match=words):
        facts_view(**choices)
    with pytest.raises(ValueError, match="21 facts"):
        knowledge.ask_facts(*small_reader(), FACTS[:1] * 21, ASKED)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_page_finds_and_points_as_torch_does(open_page, seed):
    page = open_page(facts_view(seed))
    assert_page_equals_torch(page, FACTS, ASKED, 4, seed)
    for question, k in (("the cat ?", 2), (f"{TOKENS[3]} again sat ?", 5), ("it it again ?", 1)):
        page.get_by_label("Your question").fill(question)
        page.get_by_role("slider", name="Facts to read").fill(str(k))
        assert_page_equals_torch(page, FACTS, question, k, seed)


@pytest.mark.slow
def test_an_edited_fact_is_found_and_read_at_once_and_an_empty_one_is_gone(open_page):
    page = open_page(facts_view(0))
    changed = [*FACTS]
    changed[1] = "it slept the cat again ."
    page.get_by_label("Fact 2").fill("It slept the cat again.")  # capitals and a glued full stop are put right
    assert_page_equals_torch(page, changed, ASKED, 4)
    page.get_by_label("Fact 5").fill("")
    shown = page.locator(".facts li").evaluate_all("all => all.map((e) => e.value)")
    assert 5 not in shown and len(shown) == 4
    for number in (1, 2, 3, 4):
        page.get_by_label(f"Fact {number}").fill(" ")
    expect(page.get_by_text("Nothing is known: write a fact.")).to_be_visible()


@pytest.mark.slow
def test_unknown_words_and_too_much_text_are_said_and_mended(open_page):
    page = open_page(facts_view(0))
    page.get_by_label("Fact 1").fill("the zebra sat .")
    expect(page.get_by_text("“zebra” is none of the")).to_be_visible()
    assert page.get_by_label("Fact 1").get_attribute("aria-invalid") == "true"
    assert not page.locator(".answer").is_visible()
    page.get_by_label("Fact 1").fill(FACTS[0])
    assert_page_equals_torch(page, FACTS, ASKED, 4)
    page.get_by_label("Fact 1").fill("it again " * 8)
    page.get_by_label("Your question").fill("it again " * 8)
    expect(page.get_by_text("read fewer facts")).to_be_visible()
    page.get_by_label("Your question").fill("")
    expect(page.get_by_text("Ask something.")).to_be_visible()


@pytest.mark.slow
def test_it_fits_a_small_phone_and_works_by_keyboard(open_page):
    page = open_page(facts_view(0), viewport={"width": NARROW, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    page.keyboard.press("Tab")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("the cat")
    assert_page_equals_torch(page, FACTS, "the cat ?", 4)
