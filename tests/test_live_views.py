"""Views that compute a small model on the page, and the logit lens: in Chromium their numbers equal torch's.

What holds for all views (no request, tokens as text, dark, narrow, without JavaScript) is in test_views_in_browser.py.
"""

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.bert import PreTrainingBert
from llmcourse.models import EncoderDecoder
from llmcourse.recording import ablate_heads, logit_lens, record_attention
from llmcourse.tokenizers import CharTokenizer
from llmcourse.transformer import TransformerConfig
from llmcourse.visualize import live
from tests.view_catalogue import (
    BLANKS,
    LIVE_IDS,
    TOKENS,
    ablate_view,
    blanks_view,
    lens_view,
    small_bert,
    small_gpt,
    words,
)

READ = "cells => cells.map(({ dataset: d }) => [+d.row, +(d.column ?? 0), +d.value])"
slow = pytest.mark.slow


@pytest.mark.parametrize("settings", [{}, {"norm": "rms", "tied": True}, {"norm_place": "post"}], ids=str)
@torch.no_grad()
def test_the_logit_lens_reads_the_head_on_every_stream(settings):
    """Against the model's own parts, run by hand."""
    model, tokens = small_gpt(**settings), torch.tensor([LIVE_IDS, LIVE_IDS[::-1]])
    lens = logit_lens(model, tokens)
    assert lens.shape == (3, 2, 7, 12)
    assert torch.equal(lens[-1], model(tokens))
    mask = torch.ones(7, 7).tril().bool()
    x = model.embedding(tokens)
    for layer, block in enumerate([*model.blocks, None]):
        normal = model.norm(x)
        torch.testing.assert_close(lens[layer], normal @ model.head.weight.T, atol=1e-5, rtol=0)
        x = block(x, mask=mask) if block else x


def test_the_logit_lens_leaves_the_model_as_it_was():
    model = small_gpt(dropout=0.5).train()
    first, second = logit_lens(model, torch.tensor([LIVE_IDS])), logit_lens(model, torch.tensor([LIVE_IDS]))
    assert torch.equal(first, second)  # without dropout
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with pytest.raises(ValueError, match="Linear has no blocks, norm and head"):
        logit_lens(torch.nn.Linear(2, 2), torch.tensor([[0]]))


def test_the_model_on_the_page_has_the_weights_of_16_bits_and_the_reader_s_keeps_its_own():
    model = small_gpt()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    twin = live.as_on_page(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
        assert torch.equal(twin.state_dict()[name], weight.half().float())
    model.head.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"head\.weight: numbers that 16 bits cannot hold"):
        live.as_on_page(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": words(11)}, "11 words for a vocabulary of 12"),
        ({"tokens": []}, "0 tokens; give 1 to 12"),
        ({"tokens": [0] * 13}, "13 tokens; give 1 to 12"),
        ({"position": 7}, "position=7 is none of the 7 tokens"),
        ({"off": {2: [0]}}, "layer 2 has no head 0"),
        ({"model": small_gpt(V=2000, d_model=64)}, r"parameters, and a page bears 150,000.*d_model=48 with 2 layers"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_ablate_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        live.ablate(**{"model": small_gpt(), "tokens": LIVE_IDS, "words": words(12)} | change)


def test_a_model_that_the_engine_does_not_compute_is_refused():
    config = TransformerConfig(n_vocab=12, d_model=8, n_heads=2)
    with pytest.raises(TypeError, match=r"a EncoderDecoder is not computed on a page.*attention_heads"):
        live.ablate(EncoderDecoder(config), LIVE_IDS, words(12))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"text": "the whale sat"}, ValueError, "the word 'whale' is none of the 10 known words"),
        ({"text": "the cat " * 8}, ValueError, "18 tokens, and the model reads 16"),
        ({"head": 2}, ValueError, "no head 2 of layer 0"),
        ({"model": small_gpt(V=14)}, TypeError, "a GPT and a WordTokenizer cannot fill blanks"),
        ({"tokenizer": CharTokenizer("abc")}, TypeError, "a PreTrainingBert and a CharTokenizer"),
        ({"model": PreTrainingBert(TransformerConfig(n_vocab=9, d_model=8))}, ValueError, "14 words, and the model 9"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_fill_blanks_names_what_is_wrong(without_shape_checks, change, error, message):
    model, tokenizer = small_bert()
    with pytest.raises(error, match=message):
        live.fill_blanks(**{"model": model, "tokenizer": tokenizer, "text": BLANKS} | change)


def test_segments_belong_to_a_bert_and_to_each_of_its_tokens():
    model, tokenizer = small_bert()
    for arguments in ((small_gpt(), LIVE_IDS, words(12)), (model, [1, 4, 2, 5], tokenizer.vocabulary)):
        with pytest.raises(ValueError, match=r"7 segments for [47] tokens; a BERT takes one for each, a GPT none"):
            live.ablate(*arguments, segments=[0] * 7)


# In a browser


def likeliest(page):
    return page.locator("li[data-name=probability]").evaluate_all(
        "rows => rows.map(({ dataset: d }) => [d.word, +d.value])"
    )


@slow
def test_every_cell_of_the_lens_shows_what_torch_says(open_page):
    page = open_page(lens_view())
    model = small_gpt().double()
    x, streams = model.embedding(torch.tensor([LIVE_IDS])), []
    for block in [*model.blocks, None]:
        streams.append(model.head(model.norm(x))[0].detach().softmax(-1))
        x = block(x, mask=torch.ones(7, 7).tril().bool()) if block else x
    for layer, probabilities in enumerate(streams):
        for t in range(7):
            cell = page.locator(f"td[data-name=lens][data-row='{layer}'][data-column='{t}']")
            cell.click()
            top = probabilities[t].sort(descending=True)
            wanted = [words(12)[i] for i in top.indices[:8].tolist()]
            found = likeliest(page)
            assert [word for word, _ in found] == wanted
            assert [p for _, p in found] == pytest.approx(top.values[:8].tolist(), abs=2e-6)
            expect(cell).to_have_text(wanted[0])
            if t < 6:
                following = probabilities[t, LIVE_IDS[t + 1]]
                rank = int((probabilities[t] > following).sum()) + 1
                expect(page.locator(".work")).to_contain_text(f"has {following:.3f} and is number {rank}.")
                assert ("gold" in cell.get_attribute("class")) == (rank == 1)


@slow
def test_the_lens_is_used_by_keyboard(open_page):
    page = open_page(lens_view())
    page.keyboard.press("Tab")
    expect(page.locator("td:focus")).to_have_attribute("data-column", "6")
    for key in ("ArrowUp", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator(".work")).to_contain_text(f"After layer 0, at “{words(12)[1]}”")
    expect(page.locator("td.here")).to_have_count(1)


@torch.no_grad()
def silenced(model, off):
    with record_attention(model) as maps, ablate_heads(model, {f"blocks.{k}.attention": v for k, v in off.items()}):
        logits = model(torch.tensor([LIVE_IDS]))[0]
    return logits.double(), [weights[0].double() for weights in maps.values()]


def assert_ablated(page, off, position):
    model = live.as_on_page(small_gpt()).double()
    (intact, maps), (changed, moved) = silenced(model, {}), silenced(model, off)
    columns = [intact, changed] if off else [intact]
    expect(page.locator(".column >> visible=true")).to_have_count(len(columns))
    for number, logits in enumerate(columns):
        rows = page.locator(".column").nth(number).locator("[data-name=probability]").evaluate_all(READ)
        assert len(rows) == 12
        for token, _, p in rows:
            assert p == pytest.approx(logits[position].softmax(-1)[token].item(), abs=1e-6)
    for layer, head, share in page.locator("[data-name=moved]").evaluate_all(READ):
        wanted = (maps[layer][head] - moved[layer][head]).abs().sum(-1).mean() / 2
        assert share == pytest.approx(wanted.item(), abs=1e-6)
    for layer in range(2):
        page.get_by_role("combobox", name="Layer").select_option(str(layer))
        for head in range(2):
            page.get_by_role("combobox", name="Head").select_option(str(head))
            for i, j, weight in page.locator("td[data-name=weights]").evaluate_all(READ):
                assert weight == pytest.approx(moved[layer][head, i, j].item(), abs=1e-5)


@slow
def test_ablation_on_the_page_is_that_of_torch(open_page):
    page = open_page(ablate_view())
    assert_ablated(page, {}, 6)
    page.get_by_role("button", name="Switch off layer 0, head 1").click()
    assert_ablated(page, {0: [1]}, 6)
    page.get_by_role("combobox", name="Read at").select_option("3: </script>".replace("3", "1", 1))
    assert_ablated(page, {0: [1]}, 1)
    page.get_by_role("button", name="Switch off layer 1, head 0").press("Enter")
    assert_ablated(page, {0: [1], 1: [0]}, 1)
    page.get_by_role("button", name="All heads on").click()
    assert_ablated(page, {}, 1)


@slow
def test_ablate_opens_with_the_heads_off_that_it_is_told(open_page):
    page = open_page(ablate_view(off={0: [0], 1: [1]}, position=2))
    expect(page.locator("[aria-pressed=true][data-head]")).to_have_count(2)
    assert_ablated(page, {0: [0], 1: [1]}, 2)


@slow
@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ("row = attend(query, keys, at, from,", "row = attend(keys[start + t], queries, from, at,"),
        ("dot / Math.sqrt(D)", "dot"),
        ("tokens[s] === pad : distance < 0)", "tokens[s] === pad : false)"),
        ("row.set(said[silenced], from)", "row.fill(0, from, from + D)"),
        ("/ read.length)", "/ 1)"),
    ],
    ids=["q and k swapped", "no root of D", "no mask", "zeros instead of the mean", "a sum, no mean"],
)
def test_a_faulty_engine_in_a_view_does_not_pass(open_page, line, mutant):
    view = ablate_view(off={0: [1]})
    assert view.html.count(line) == 1
    page = open_page(view, mutate=lambda html: html.replace(line, mutant))
    with pytest.raises(AssertionError):
        assert_ablated(page, {0: [1]}, 6)


@torch.no_grad()
def filled(ids, segments):
    """What torch says of a text: probabilities at each position, that sentence 2 follows, and attention."""
    model = live.as_on_page(small_bert()[0]).double()
    tokens, segments = torch.tensor([ids]), torch.tensor([segments])
    with record_attention(model) as maps:
        probabilities = model(tokens, segments)[0].softmax(-1)
    follows = model.follows(tokens, segments)[0].softmax(-1)[0].item()
    return probabilities, follows, [weights[0] for weights in maps.values()]


def assert_filled(page, first, second=()):
    """The page's answer for these words, laid out by hand as [CLS] first [SEP] second [SEP]."""
    tokenizer = small_bert()[1]
    number = {word: i for i, word in enumerate(tokenizer.vocabulary)}
    laid = ["[CLS]", *first, "[SEP]", *second, *(["[SEP]"] if second else [])]
    ids, segments = [number[word] for word in laid], [int(i > len(first) + 1) for i in range(len(laid))]
    probabilities, follows, maps = filled(ids, segments)
    blanks = [i for i, word in enumerate(laid) if word == "[MASK]"]
    expect(page.locator("[data-blank]")).to_have_count(len(blanks))
    for box, place in zip(page.locator("[data-blank]").all(), blanks, strict=True):
        top = probabilities[place].sort(descending=True)
        found = likeliest(box)
        assert [word for word, _ in found] == [tokenizer.vocabulary[i] for i in top.indices[:5].tolist()]
        assert [p for _, p in found] == pytest.approx(top.values[:5].tolist(), abs=1e-6)
    judged = page.get_by_text("That the second sentence follows")
    expect(judged).to_have_count(1)
    assert judged.is_visible() == bool(second)
    assert float(judged.get_attribute("data-value")) == pytest.approx(follows, abs=1e-6)
    for layer in range(2):
        page.get_by_role("combobox", name="Layer").select_option(str(layer))
        for i, j, weight in page.locator("td[data-name=weights]").evaluate_all(READ):
            assert weight == pytest.approx(maps[layer][0, i, j].item(), abs=1e-5)
    assert page.get_by_label("queries").locator("button").all_text_contents() == laid


@slow
def test_blanks_are_filled_as_torch_fills_them(open_page):
    page = open_page(blanks_view())
    assert_filled(page, ["the", "cat", "[MASK]", "."], ["it", "[MASK]", "again", "."])
    typed = page.get_by_label("Your text; [MASK] or _ is a blank")
    typed.fill("The cat, it ___ again.")
    assert_filled(page, ["the", "cat", ",", "it", "[MASK]", "again", "."])
    typed.fill("the [mask] sat . it slept")
    assert_filled(page, ["the", "[MASK]", "sat", "."], ["it", "slept"])
    typed.fill(f"{TOKENS[3]} {TOKENS[4]} _")
    assert_filled(page, [TOKENS[3], TOKENS[4], "[MASK]"])


@slow
def test_what_the_model_cannot_read_is_refused_kindly_and_the_next_text_is_read(open_page):
    page = open_page(blanks_view())
    typed = page.get_by_label("Your text; [MASK] or _ is a blank")
    for text, answer in {
        "the whale sat": "“whale” is none of the 10 words that this model has learned.",
        "the [CLS] sat": "“[CLS]” is none of the 10 words",
        "<img src=x onerror=alert(1)>": "“<img” is none of the 10 words",
        "the cat " * 8: "The text has 18 tokens, and the model reads 16: make it shorter.",
        "": "Type a text; [MASK] or _ is a blank.",
    }.items():
        typed.fill(text)
        expect(page.locator(".work").first).to_contain_text(answer)
        expect(typed).to_have_attribute("aria-invalid", "true")
        assert page.locator("[data-name=weights] >> visible=true").count() == 0
    typed.fill("the cat sat")
    expect(page.locator(".work").first).to_contain_text("There is no blank.")
    page.get_by_role("button", name="Put a blank here").press("Enter")
    expect(typed).to_have_value("the cat sat [MASK] ")
    expect(typed).to_be_focused()
    assert_filled(page, ["the", "cat", "sat", "[MASK]"])


@slow
@torch.no_grad()
def test_heads_of_a_bert_are_switched_off_on_the_page(open_page):
    model, tokenizer = small_bert()
    ids, segments = [1, 4, 5, 3, 12, 2, 9, 3, 12, 2], [0] * 6 + [1] * 4
    page = open_page(live.ablate(model, ids, tokenizer.vocabulary, segments=segments, position=7))
    page.get_by_role("button", name="Switch off layer 0, head 1").click()
    twin = live.as_on_page(model).double()
    with ablate_heads(twin, {"bert.encoder.blocks.0.attention": [1]}):
        wanted = twin(torch.tensor([ids]), torch.tensor([segments]))[0, 7].softmax(-1)
    rows = page.locator(".column").nth(1).locator("[data-name=probability]").evaluate_all(READ)
    assert len(rows) == 14
    for token, _, p in rows:
        assert p == pytest.approx(wanted[token].item(), abs=1e-6)
