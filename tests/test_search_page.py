"""The search finds: for words that a reader types, the right page stands among the first three."""

import pytest

from tests.browsing import BOOK, Visitor

pytestmark = pytest.mark.slow
WANTED = {  # what is typed, and the page that is about it
    "scaled dot product": "notebooks/03_self_attention.html",
    "byte pair encoding": "notebooks/02_tokens.html",
    "perplexity": "notebooks/01_language_models.html",
    "rotary positions": "notebooks/04_transformer_block.html",
    "padding mask decoder": "notebooks/05_encoder_decoder.html",
    "beam search": "notebooks/06_translation.html",
    "masked language modelling": "notebooks/07_bert.html",
    "LoRA": "notebooks/08_fine_tuning.html",
    "KV cache": "notebooks/09_gpt.html",
    "induction head": "notebooks/10_inside.html",
    "BM25": "notebooks/11_question_answering.html",
    "DPO": "notebooks/12_instructions.html",
    "model card": "notebooks/13_hugging_face.html",
    "counterfactual": "notebooks/15_bias.html",
    "calibration": "notebooks/16_misleading_output.html",
    "backdoor": "notebooks/17_security.html",
    "scaling law": "notebooks/18_scaling.html",
    "speculative decoding": "notebooks/18c_machines.html",
    "causal_mask": "book/api/models.html",
}


def found(tab) -> list[str]:
    """The pages of the results, in their order, each once."""
    tab.get_by_text("Search finished").wait_for()
    links = tab.locator("#search-results ul.search > li > a").evaluate_all("all => all.map((one) => one.href)")
    pages = [link.split("#")[0].split("?")[0].removeprefix(f"{BOOK.as_uri()}/") for link in links]
    return list(dict.fromkeys(pages))


def test_the_right_page_is_among_the_first_three(browser, built):
    visitor, missed = Visitor(browser, BOOK.as_uri(), "light"), {}
    for words, page in WANTED.items():
        with visitor.visit(f"search.html?q={words.replace(' ', '+')}") as tab:
            pages = found(tab)
        if page not in pages[:3]:
            missed[words] = (pages.index(page) + 1 if page in pages else None, pages[:3])
    assert visitor.faults == []
    assert missed == {}


def test_what_is_not_in_the_book_is_not_found(browser, built):
    visitor = Visitor(browser, BOOK.as_uri(), "light")
    with visitor.visit("search.html?q=zygomorphic") as tab:
        tab.get_by_text("did not match any documents").wait_for()
        assert tab.locator("#search-results ul.search li").count() == 0
    assert visitor.faults == []
