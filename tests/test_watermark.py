"""The watermark against counts by hand, chance, and a model whose words are all equally likely."""

import math
import statistics
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llmcourse.attention import KVCache
from llmcourse.generation import SamplingConfig, generate
from llmcourse.models import GPT
from llmcourse.speculative import speculate
from llmcourse.transformer import TransformerConfig
from llmcourse.watermark import Watermarked, WatermarkKey, watermark_score

V = 20


class Uniform(nn.Module):
    """Says every word equally often; its cache counts the words that were read."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(context=500)

    def new_cache(self):
        return [KVCache()]

    def forward(self, tokens, cache=None):
        if cache is not None:
            cache[0].append(torch.zeros(1, 1, tokens.shape[1], 1), torch.zeros(1, 1, tokens.shape[1], 1))
        return torch.zeros(*tokens.shape, V)


def key(seed=3, **settings):
    return WatermarkKey(n_vocab=V, seed=seed, **settings)


def text(strength, key, n=150, rows=20):
    tokens = generate(Watermarked(Uniform(), key, strength), torch.zeros(rows, 1).long(), n, SamplingConfig(seed=0))
    return tokens.tolist()


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_each_row_has_its_share_of_green_words_and_another_secret_other_ones(share):
    table = key(share=share).green()
    assert table.sum(dim=1).tolist() == [round(share * V)] * V
    assert torch.equal(table, key(share=share).green())
    assert not torch.equal(table, key(4, share=share).green())
    assert not torch.equal(table[0], table[1])


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 0.01}, {"share": 0.99}, {"context": 0}])
def test_a_key_that_marks_nothing_is_refused(settings):
    with pytest.raises(ValueError, match="green"):
        key(**settings)


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="lean away"):
        Watermarked(Uniform(), key(), -1)


def test_green_words_get_the_strength_after_the_word_that_chooses_them():
    marked, tokens = Watermarked(Uniform(), key(), 2.0), torch.tensor([[4, 7, 1]])
    assert torch.equal(marked(tokens)[0], 2.0 * key().green()[tokens[0]])
    two = Watermarked(Uniform(), key(context=2), 2.0)(tokens)[0]
    assert torch.equal(two[1:], 2.0 * key().green()[[11, 8]])
    assert not two[0].any()  # one word is no context of two


@pytest.mark.parametrize("context", [1, 2, 3])
def test_a_cache_gives_the_same_logits_as_the_whole_text(context):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=V, context=16, d_model=16, n_heads=2, n_layers=1)).eval()
    marked, tokens = Watermarked(model, key(context=context), 1.5), torch.randint(V, (2, 9))
    cache = marked.new_cache()
    parts = [marked(part, cache) for part in tokens.split((1, 1, 3, 1, 3), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), marked(tokens), atol=1e-5, rtol=0)


def test_the_score_by_hand():
    green, share = key(share=0.25).green(), 0.25
    tokens = [0, 5, 9, 0, 5, 3]  # the pair (0, 5) twice
    pairs = [(0, 5), (5, 9), (9, 0), (5, 3)]
    found = sum(bool(green[a, b]) for a, b in pairs)
    assert watermark_score(tokens, key(share=0.25)) == pytest.approx((found - 1) / math.sqrt(4 * share * (1 - share)))
    found += bool(green[0, 5])
    repeated = watermark_score(tokens, key(share=0.25), count_repeats=True)
    assert repeated == pytest.approx((found - 1.25) / math.sqrt(5 * share * (1 - share)))
    with pytest.raises(ValueError, match="too few"):
        watermark_score([1, 2], key(context=2))


@pytest.mark.parametrize("context", [1, 2])
def test_an_infinitely_strong_mark_is_all_green_and_a_share_follows_from_the_strength(context):
    chosen = key(context=context)
    n = 149 + 1 - context
    assert all(
        watermark_score(row[:150], chosen, count_repeats=True) == pytest.approx(math.sqrt(n), rel=0.06)
        for row in text(100.0, chosen)
    )
    scores = [watermark_score(row, chosen, count_repeats=True) for row in text(1.0, chosen)]
    green = math.e / (math.e + 1)  # of equally likely words, half of them green
    assert statistics.fmean(scores) == pytest.approx((2 * green - 1) * math.sqrt(151 - context), rel=0.1)


def test_text_without_the_mark_and_text_with_another_key_scatter_around_zero_by_one():
    plain = [watermark_score(row, key()) for row in text(0.0, key(), rows=150)]
    other = [watermark_score(row, key(seed=9)) for row in text(4.0, key(), rows=20)]
    assert abs(statistics.fmean(plain)) < 0.35 and statistics.stdev(plain) == pytest.approx(1, abs=0.3)
    assert max(map(abs, other)) < 4


def test_a_strength_of_zero_changes_nothing():
    tokens = torch.randint(V, (2, 6))
    assert torch.equal(Watermarked(Uniform(), key(), 0)(tokens), Uniform()(tokens))


def test_copies_are_no_new_chances():
    row = text(0.0, key(), n=40, rows=1)[0]
    looped = row[:-1] * 5 + row[:1]
    once, all_of_them = watermark_score(looped, key()), watermark_score(looped, key(), count_repeats=True)
    assert abs(all_of_them) == pytest.approx(abs(once) * math.sqrt(5), rel=0.3)


@pytest.mark.parametrize("context", [1, 2, 3])
def test_speculative_decoding_writes_what_the_marked_model_writes(context):
    torch.manual_seed(0)
    config = TransformerConfig(n_vocab=V, context=64, d_model=16, n_heads=2, n_layers=1)
    target, draft, greedy = (
        Watermarked(GPT(config), key(context=context), 3.0),
        GPT(config),
        SamplingConfig(temperature=0.0),
    )
    prompt = torch.tensor([[4, 7, 1]])
    found = speculate(target, draft, prompt, 40, greedy)
    assert torch.equal(found.tokens, generate(target, prompt, 40, greedy))
    assert found.acceptance < 1  # some drafts were refused, and forgotten with what they choose


def test_a_tensor_is_scored_as_its_list(without_shape_checks):
    tokens = torch.tensor([4, 7, 1, 4, 7, 1, 4, 7, 1, 5, 2, 2, 2])
    assert watermark_score(tokens, key()) == watermark_score(tokens.tolist(), key())
