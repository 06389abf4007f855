"""The losses count hidden words and pairs, each once, and what is not counted changes nothing."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from llmcourse.bert import PreTrainingBert
from llmcourse.data import IGNORED
from llmcourse.masking import PreTrainingBatch
from llmcourse.pretraining import (
    judgements,
    masked_accuracy,
    masked_loss,
    next_sentence_accuracy,
    next_sentence_loss,
    pretraining_loss,
)
from llmcourse.training import TrainConfig, train
from llmcourse.transformer import TransformerConfig

CONFIG = TransformerConfig(n_vocab=20, context=12, d_model=16, n_heads=2, positions="learned", pad=0)


def test_dropout_is_off_where_answers_are_counted():
    torch.manual_seed(0)
    model = PreTrainingBert(replace(CONFIG, dropout=0.5)).train()
    tokens, segments = torch.randint(1, 20, (40, 12)), torch.zeros(40, 12, dtype=torch.long)
    assert torch.equal(judgements(model, tokens, segments), judgements(model.train(), tokens, segments))
    batch = PreTrainingBatch(tokens, segments, tokens, torch.zeros(40, dtype=torch.long))
    assert masked_accuracy(model.train(), batch) == masked_accuracy(model.train(), batch)


def small_bert(seed=0):
    torch.manual_seed(seed)
    return PreTrainingBert(CONFIG).eval()


def some_batch(seed=1, B=6, T=10):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, 20, (B, T), generator=generator)
    tokens[0, 6:], tokens[3, 8:] = 0, 0
    segments = (torch.arange(T) >= 5).long().expand(B, T) * (tokens != 0)
    chosen = (torch.rand(B, T, generator=generator) < 0.3) & (tokens != 0)
    targets = torch.randint(4, 20, (B, T), generator=generator).masked_fill(~chosen, IGNORED)
    return PreTrainingBatch(tokens, segments, targets, torch.arange(B) % 2)


def test_masked_loss_equals_torch_on_the_whole_rectangle():
    model, batch = small_bert(), some_batch()
    logits = model(batch.tokens, batch.segments)
    expected = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(masked_loss(model, batch), expected)


def test_every_hidden_word_counts_the_same_however_they_are_spread_over_rows():
    model, batch = small_bert(), some_batch()
    counts, total = [], 0.0
    for row in range(len(batch.tokens)):
        alone = PreTrainingBatch(*(part[row : row + 1] for part in batch))
        counts.append(int((alone.targets != IGNORED).sum()))
        total += counts[-1] * masked_loss(model, alone).item()
    assert len(set(counts)) > 1
    assert masked_loss(model, batch).item() == pytest.approx(total / sum(counts), rel=1e-5)


def test_the_joint_loss_is_the_sum_and_so_is_its_gradient():
    model, batch = small_bert(), some_batch()
    joint = torch.autograd.grad(pretraining_loss(model, batch), list(model.parameters()))
    parts = torch.autograd.grad(masked_loss(model, batch) + next_sentence_loss(model, batch), list(model.parameters()))
    torch.testing.assert_close(joint, parts, atol=1e-5, rtol=1e-4)
    expected = F.cross_entropy(model.follows(batch.tokens, batch.segments), batch.swapped)
    torch.testing.assert_close(next_sentence_loss(model, batch), expected)


def test_the_vocabulary_is_computed_for_hidden_words_alone():
    model, batch, rows = small_bert(), some_batch(), []
    model.masked_lm.decoder.register_forward_hook(lambda layer, inputs, output: rows.append(output.shape))
    pretraining_loss(model, batch)
    assert rows == [(int((batch.targets != IGNORED).sum()), CONFIG.n_vocab)]


def test_padding_and_words_in_sight_have_no_gradient_in_the_masked_loss():
    model, batch, seen = small_bert(), some_batch(), []
    model.bert.register_forward_hook(lambda module, inputs, output: seen.append(output))
    (gradient,) = torch.autograd.grad(masked_loss(model, batch), seen)
    assert (gradient[batch.targets == IGNORED] == 0).all()
    assert (gradient[batch.targets != IGNORED] != 0).any(dim=-1).all()


def test_a_batch_without_hidden_words_costs_nothing_and_can_be_trained_on():
    model, batch = small_bert(), some_batch()
    nothing = batch._replace(targets=torch.full_like(batch.targets, IGNORED))
    loss = masked_loss(model, nothing)
    loss.backward()
    assert loss.item() == 0
    with pytest.raises(ValueError, match="at least one hidden word"):
        masked_accuracy(model, nothing)


def test_an_untrained_judge_pays_about_ln_2_and_accuracies_are_shares_of_hits():
    model, batch = small_bert(), some_batch()
    assert next_sentence_loss(model, batch).item() == pytest.approx(math.log(2), abs=0.5)
    chosen = batch.targets != IGNORED
    hits = (model(batch.tokens, batch.segments).argmax(dim=-1) == batch.targets)[chosen]
    assert masked_accuracy(model, batch) == pytest.approx(hits.float().mean().item())
    judged = judgements(model, batch.tokens, batch.segments)
    assert torch.equal(judged, model.follows(batch.tokens, batch.segments).argmax(dim=-1))
    one_wrong = batch._replace(swapped=torch.cat([judged[:5], 1 - judged[5:]]))
    assert next_sentence_accuracy(model, one_wrong) == pytest.approx(5 / 6)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["pre", "post"])
def test_a_small_model_learns_one_batch_by_heart(place):
    torch.manual_seed(0)
    config = TransformerConfig(
        n_vocab=20, context=12, d_model=32, n_heads=2, positions="learned", norm_place=place, pad=0
    )
    model, batch = PreTrainingBert(config), some_batch()
    steps = list(train(model, [batch] * 150, pretraining_loss, TrainConfig(steps=150, rate=3e-3, warm_up=20)))
    assert steps[0].loss > 3
    assert masked_accuracy(model, batch) == 1.0 and next_sentence_accuracy(model, batch) == 1.0
