"""Losses are their formulas, padding weighs nothing, and a measured model is left as it was."""

import math

import pytest
import torch
from torch import nn

from llmcourse.data import IGNORED, Batch, translation_batches, windows_in_order
from llmcourse.evaluation import (
    alignment_error_rate,
    attention_links,
    bits_per_byte,
    exact_match,
    mean_loss,
    perplexity,
)
from llmcourse.models import GPT, EncoderDecoder, NGram
from llmcourse.transformer import TransformerConfig


def small_gpt(**changes):
    torch.manual_seed(0)
    return GPT(TransformerConfig(n_vocab=7, context=8, d_model=16, n_heads=2, **changes))


def test_perplexity_is_1_over_the_geometric_mean_probability():
    probabilities = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]])
    # the targets had probabilities 0.5 and 0.1
    assert perplexity(probabilities.log(), torch.tensor([[0, 2]])) == pytest.approx((0.5 * 0.1) ** -0.5)
    assert perplexity(probabilities.log(), torch.tensor([[0, IGNORED]])) == pytest.approx(2)


def test_a_blind_guess_has_the_perplexity_of_the_vocabulary_and_certainty_has_1():
    targets = torch.tensor([[0, 3], [2, 1]])
    assert perplexity(torch.zeros(2, 2, 5), targets) == pytest.approx(5)
    assert perplexity(1000 * torch.eye(5)[targets], targets) == pytest.approx(1)


def test_perplexity_of_padding_alone_is_refused():
    with pytest.raises(ValueError, match="at least one target"):
        perplexity(torch.zeros(1, 2, 5), torch.full((1, 2), IGNORED))


def test_the_mean_loss_weighs_every_token_the_same_whatever_its_batch():
    model, text = small_gpt().eval(), torch.randint(7, (30,), generator=torch.Generator().manual_seed(0))
    batches = windows_in_order(text, context=8, size=3)  # 24 tokens, then 5
    with torch.no_grad():
        losses = []
        for start in range(0, 29, 8):
            piece = text[start : start + 9]
            log_probabilities = model(piece[None, :-1])[0].log_softmax(dim=-1)
            losses += [-row[target].item() for row, target in zip(log_probabilities, piece[1:], strict=True)]
    assert len(losses) == 29
    assert len(batches) == 2
    assert mean_loss(model, batches) == pytest.approx(sum(losses) / 29, rel=1e-5)


def test_a_counting_model_is_measured_like_any_other():
    tokens, targets = torch.tensor([[0, 1, 0, 1]]), torch.tensor([[1, 0, 1, 1]])
    model = NGram(3).fit(tokens, targets)  # P: 3/5 three times after 0 and 2/5 after 1, see test_models
    expected = -(2 * math.log(3 / 5) + 2 * math.log(2 / 5)) / 4
    assert mean_loss(model, [Batch(tokens, targets)]) == pytest.approx(expected)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_switches_dropout_off_and_leaves_the_mode_as_it_was(training):
    model = small_gpt(dropout=0.5).train(training)
    batches = [Batch(torch.ones(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long))]
    assert mean_loss(model, batches) == mean_loss(model, batches)
    assert model.training == training
    with pytest.raises(ValueError, match="0 to 6"):
        mean_loss(model, [Batch(torch.full((1, 2), 7), torch.zeros(1, 2, dtype=torch.long))])
    assert model.training == training


def test_a_mean_over_nothing_is_refused():
    for batches in ([], [Batch(torch.zeros(1, 2, dtype=torch.long), torch.full((1, 2), IGNORED))]):
        with pytest.raises(ValueError, match="at least one target"):
            mean_loss(small_gpt(), batches)


def test_bits_per_byte_worked_out_by_hand():
    assert bits_per_byte(math.log(256), 10, 10) == pytest.approx(8)  # guessing bytes blindly
    assert bits_per_byte(math.log(256), 10, 40) == pytest.approx(2)  # one token for four bytes
    assert bits_per_byte(math.log(2), 3, 6) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="n_bytes=0"):
        bits_per_byte(1.0, 0, 0)


def test_bits_per_byte_do_not_depend_on_the_cut():
    """16 fair coin flips, one a token or four a token, are the same text."""
    assert bits_per_byte(math.log(2), 16, 16) == pytest.approx(bits_per_byte(math.log(16), 4, 16))


def test_a_translator_is_measured_token_by_token_whatever_the_batch():
    torch.manual_seed(0)
    model = EncoderDecoder(TransformerConfig(n_vocab=9, context=8, d_model=16, n_heads=2, pad=0)).eval()
    pairs, special = [([3, 4], [5]), ([6], [7, 8, 3]), ([5, 5, 5], [4, 4])], {"begin": 1, "end": 2, "pad": 0}
    with torch.no_grad():
        losses = []
        for source, target in pairs:
            rows = model(torch.tensor([[*source, 2]]), torch.tensor([[1, *target]]))[0].log_softmax(dim=-1)
            losses += [-row[wanted].item() for row, wanted in zip(rows, [*target, 2], strict=True)]
    for size in (1, 2, 3):
        assert mean_loss(model, translation_batches(pairs, size, **special)) == pytest.approx(sum(losses) / 9, rel=1e-5)


def test_a_match_is_exact_or_none():
    assert exact_match([["a", "b"], ["a"], [], ["a", "b"]], [("a", "b"), ("a", "b"), (), ("b", "a")]) == 0.5
    with pytest.raises(ValueError, match="2 hypotheses and 1 references"):
        exact_match([[1], [2]], [[1]])
    with pytest.raises(ValueError, match="at least 1"):
        exact_match([], [])


def test_each_target_word_is_linked_to_the_source_word_that_got_most():
    assert attention_links(torch.tensor([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])) == [(0, 1), (1, 0)]


def test_the_alignment_error_rate_worked_out_by_hand():
    """Two of three guesses are sure and the third possible; one sure link of four is missed."""
    sure, possible = [(0, 0), (1, 2), (2, 1), (3, 3)], [(2, 2)]
    guess = [(0, 0), (1, 2), (2, 2)]
    assert alignment_error_rate([guess], [sure], [possible]) == pytest.approx(1 - (2 + 3) / (3 + 4))
    assert alignment_error_rate([guess], [sure]) == pytest.approx(1 - (2 + 2) / (3 + 4))
    assert alignment_error_rate([sure], [sure], [possible]) == 0
    assert alignment_error_rate([[(9, 9)]], [sure]) == 1
    with pytest.raises(ValueError, match="at least one link"):
        alignment_error_rate([[]], [[]])


def test_the_alignment_error_rate_counts_over_all_sentences_and_with_one_link_a_word_is_the_share_of_wrong_ones():
    gold = [[(t, t) for t in range(5)], [(0, 0)]]
    guesses = [[(t, max(0, t - 1)) for t in range(5)], [(0, 0)]]  # read one step late: only the first is right
    assert alignment_error_rate(guesses, gold) == pytest.approx(4 / 6)


def test_one_byte_is_text_enough():
    assert bits_per_byte(math.log(2), 1, 1) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_16_bits_is_scored_in_32(dtype):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=1000, context=128, d_model=16, n_heads=2, n_layers=1))
    tokens = torch.randint(1000, (80, 128))
    whole = mean_loss(model, [Batch(tokens, tokens)])
    assert mean_loss(model.to(dtype), [Batch(tokens, tokens)]) == pytest.approx(whole, rel=5e-3)
    assert perplexity(model(tokens), tokens) == pytest.approx(math.exp(whole), rel=2e-2)


def test_a_model_without_numbers_is_scored_too():
    class Even(nn.Module):
        def forward(self, tokens):
            return torch.zeros(*tokens.shape, 4)

    assert mean_loss(Even(), [Batch(torch.zeros(1, 2).long(), torch.zeros(1, 2).long())]) == pytest.approx(math.log(4))
