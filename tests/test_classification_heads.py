"""Heads read what they say they read: padding makes no difference, and a span is one that could be."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from llmcourse.bert import Bert
from llmcourse.data import IGNORED
from llmcourse.heads import (
    Classifier,
    LabelledBatch,
    SpanBatch,
    SpanReader,
    TokenClassifier,
    TokenLabels,
    best_spans,
    classification_loss,
    labelled_batch,
    labelled_batches,
    mean_pooling,
    span_loss,
    token_loss,
)
from llmcourse.models import EncoderDecoder
from llmcourse.training import TrainConfig, train
from llmcourse.transformer import TransformerConfig

PAD = 0
TOKENS = torch.tensor([[1, 5, 6, 7], [1, 8, PAD, PAD]])


def encoder(**changes):
    torch.manual_seed(0)
    return EncoderDecoder(TransformerConfig(n_vocab=11, context=12, d_model=16, n_heads=2, pad=PAD, **changes)).eval()


def hidden_states(n=3, T=5):
    return torch.randn(n, T, 4, generator=torch.Generator().manual_seed(1))


def test_the_mean_is_over_the_positions_that_count_wherever_they_stand():
    hidden = hidden_states()
    may_count = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 0, 1]], dtype=torch.bool)
    expected = torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0), (hidden[2, 2] + hidden[2, 4]) / 2])
    torch.testing.assert_close(mean_pooling(hidden, may_count), expected)
    hidden[1, 3], hidden[2, 0] = math.nan, math.inf  # whatever stands at the others
    torch.testing.assert_close(mean_pooling(hidden, may_count), expected)


def test_a_row_of_padding_has_no_mean():
    may_count = torch.tensor([[True, False], [False, False]])
    with pytest.raises(ValueError, match="row 1 is nothing but padding"):
        mean_pooling(torch.zeros(2, 2, 3), may_count)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi"])
def test_a_text_gets_the_same_logits_alone_and_in_a_padded_batch(pooling, positions):
    model = Classifier(encoder(positions=positions), 3, pooling=pooling).eval()
    together = model(TOKENS)
    torch.testing.assert_close(together[1:], model(TOKENS[1:, :2]), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together[:1], model(TOKENS[:1]), rtol=1e-4, atol=1e-6)


def test_pooling_takes_the_state_it_says_and_the_head_is_linear_in_it():
    for pooling in ("cls", "mean"):
        model = Classifier(encoder(), 3, pooling=pooling).eval()
        hidden = model.encoder.encode(TOKENS)
        wanted = hidden[:, 0] if pooling == "cls" else torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
        torch.testing.assert_close(model.pool(TOKENS), wanted)
        torch.testing.assert_close(model(TOKENS), wanted @ model.head.weight.T + model.head.bias)


def test_a_blank_is_read_where_it_stands_first_and_a_row_without_one_is_refused():
    model = Classifier(encoder(), 3, pooling=6).eval()
    tokens = torch.tensor([[1, 5, 6, 6], [6, 8, PAD, PAD]])
    hidden = model.encoder.encode(tokens)
    torch.testing.assert_close(model.pool(tokens), torch.stack([hidden[0, 2], hidden[1, 0]]))
    with pytest.raises(ValueError, match="a row has no token 6"):
        model.pool(TOKENS)


def test_bert_s_own_pooler_is_a_layer_and_tanh_on_the_first_state():
    torch.manual_seed(0)
    bert = Bert(TransformerConfig(n_vocab=11, context=12, d_model=16, n_heads=2, positions="learned", pad=PAD)).eval()
    model = Classifier(bert, 3, pooling="pooler").eval()
    first = bert(TOKENS)[:, 0]
    pooled = torch.tanh(first @ bert.pooler.weight.T + bert.pooler.bias)
    torch.testing.assert_close(model(TOKENS), pooled @ model.head.weight.T + model.head.bias)


@pytest.mark.slow
def test_a_classifier_learns_eight_random_labels_by_heart():
    torch.manual_seed(0)
    items = [([1, *torch.randint(3, 11, (4,)).tolist()], label) for label in (0, 1, 2, 0, 1, 2, 0, 1)]
    model = Classifier(encoder(), 3, pooling="mean")
    config = TrainConfig(steps=150, warm_up=5, rate=3e-3)
    for step in train(model, labelled_batches(items, 8, pad=PAD), classification_loss, config):
        last = step.loss
    assert last < 0.05
    batch = labelled_batch(items, pad=PAD)
    assert torch.equal(model(batch.tokens).argmax(dim=1), batch.labels)


def test_batches_hold_every_item_once_in_each_round_and_are_padded_on_the_right():
    items = [([1, 2], 0), ([3], 1), ([4, 5, 6], 0), ([7, 8], 1)]
    rounds = list(itertools.islice(labelled_batches(items, 2, pad=9, seed=3), 4))
    for batches in (rounds[:2], rounds[2:]):
        seen = [
            (tuple(t for t in row if t != 9), label)
            for b in batches
            for row, label in zip(b.tokens.tolist(), b.labels.tolist(), strict=True)
        ]
        assert sorted(seen) == sorted((tuple(ids), label) for ids, label in items)
    assert labelled_batch(items[:2], pad=9).tokens.tolist() == [[1, 2], [3, 9]]


def test_a_blind_guess_costs_ln_n_and_labels_of_minus_100_do_not_count():
    model = TokenClassifier(encoder(), 5)
    with torch.no_grad():
        model.head.weight.zero_()
    labels = torch.tensor([[0, 1, IGNORED, 2], [4, IGNORED, IGNORED, IGNORED]])
    assert token_loss(model, TokenLabels(TOKENS, labels)).item() == pytest.approx(math.log(5))
    blind = Classifier(model.encoder, 7)
    with torch.no_grad():
        blind.head.weight.zero_()
    assert classification_loss(blind, LabelledBatch(TOKENS, torch.tensor([3, 6]))).item() == pytest.approx(math.log(7))


def test_token_logits_are_the_head_at_every_position():
    model = TokenClassifier(encoder(), 5).eval()
    torch.testing.assert_close(
        model(TOKENS), F.linear(model.encoder.encode(TOKENS), model.head.weight, model.head.bias)
    )


def test_a_span_can_neither_begin_nor_end_on_padding_and_its_loss_is_that_of_two_choices():
    model = SpanReader(encoder()).eval()
    scores = model(TOKENS)
    assert scores[1, 2:].isneginf().all() and scores[0].isfinite().all() and scores[1, :2].isfinite().all()
    with torch.no_grad():
        model.head.weight.zero_()
    loss = span_loss(model, SpanBatch(TOKENS, torch.tensor([[1, 2], [1, 1]])))
    assert loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2)


@pytest.mark.parametrize("longest", [1, 2, 9])
def test_the_best_span_is_the_best_of_all_that_are_listed_one_by_one(longest):
    generator = torch.Generator().manual_seed(longest)
    scores = torch.randn(20, 6, 2, generator=generator)
    allowed = torch.rand(20, 6, generator=generator) < 0.7
    allowed[:, 2] = True
    for row, may, (first, last) in zip(scores, allowed, best_spans(scores, longest, allowed).tolist(), strict=True):
        candidates = [
            (start, end)
            for start in range(6)
            for end in range(start, min(6, start + longest))
            if may[start : end + 1].all()
        ]
        assert (first, last) == max(candidates, key=lambda span: row[span[0], 0] + row[span[1], 1])


def test_a_pooling_that_does_not_exist_is_refused(without_shape_checks):
    with pytest.raises(ValueError, match="pooling='max'; use one of 'cls', 'mean', 'pooler', or a token"):
        Classifier(encoder(), 3, pooling="max")


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match="n_classes=1"):
        Classifier(encoder(), 1)
    with pytest.raises(ValueError, match="longest=0"):
        best_spans(torch.zeros(1, 3, 2), 0)
    with pytest.raises(ValueError, match="in row 1 no place is allowed"):
        best_spans(torch.zeros(2, 3, 2), 2, torch.tensor([[True] * 3, [False] * 3]))
