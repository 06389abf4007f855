"""Memorised secrets: canaries, exposure, and gradients of single rows."""

import math
from itertools import islice

import pytest
import torch

from llmcourse.data import Batch, sentence_batches
from llmcourse.memorising import (
    N_CANDIDATES,
    canaries,
    clipped_sum,
    code_scores,
    exposure,
    exposures,
    gradients_of_each,
    line_tokenizer,
    private_loss,
    small_talk,
    with_canaries,
    without_repeats,
)
from llmcourse.models import GPT
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig

TOKENIZER = line_tokenizer()
BEGIN, PAD = TOKENIZER.special_id("[BEGIN]"), TOKENIZER.special_id("[PAD]")


def small_gpt(seed=0):
    torch.manual_seed(seed)
    return GPT(TransformerConfig(n_vocab=len(TOKENIZER), context=16, d_model=16, n_heads=2, n_layers=1))


def batch_of(lines):
    return next(sentence_batches([TOKENIZER.encode(line) for line in lines], len(lines), begin=BEGIN, pad=PAD))


def some_lines(n=5):
    return list(islice(small_talk(3), n))


def test_every_canary_stands_in_the_text_as_often_as_it_says():
    planted = canaries((0, 1, 4, 16), seed=2)
    lines = with_canaries(planted, n_lines=300)
    assert [lines.count(one.text) for one in planted] == [one.repeats for one in planted]
    assert len({one.name for one in planted}) == 32
    assert [sum(one.repeats == n for one in planted) for n in (0, 1, 4, 16)] == [8, 8, 8, 8]


def test_small_talk_never_tells_a_code_and_every_line_can_be_read():
    lines = list(islice(small_talk(1), 500))
    assert not any("code" in line for line in lines)
    assert all(TOKENIZER.decode(TOKENIZER.encode(line)) == line for line in lines)


def test_lines_are_the_same_for_the_same_seed():
    assert with_canaries(canaries((0, 2)), 50, seed=4) == with_canaries(canaries((0, 2)), 50, seed=4)


def test_without_repeats_keeps_every_line_once_in_its_order():
    assert without_repeats(["b", "a", "b", "c", "a"]) == ["b", "a", "c"]


def test_exposure_by_hand():
    scores = {"a": -1.0, "b": -2.0, "c": -3.0, "d": -4.0}
    assert [exposure(scores, code) for code in "abcd"] == pytest.approx([2, 1, 2 - math.log2(3), 0])
    tied = {"a": -1.0, "b": -2.0, "c": -2.0, "d": -2.0}
    assert exposure(tied, "c") == pytest.approx(2 - math.log2(1 + 1 + 1))


def test_exposure_refuses_a_secret_that_is_no_candidate():
    with pytest.raises(ValueError, match="candidates"):
        exposure({"a": 0.0}, "b")


def test_code_scores_are_the_probabilities_of_the_chain():
    model = small_gpt().eval()
    scores = code_scores(model, "anna", TOKENIZER)
    assert len(scores) == N_CANDIDATES
    row = torch.tensor([[BEGIN, *TOKENIZER.encode("the code of anna is 4 7 1")]])
    log_p = model(row)[0].log_softmax(-1)
    by_hand = sum(log_p[t, row[0, t + 1]].item() for t in (5, 6, 7))
    assert scores["4 7 1"] == pytest.approx(by_hand, abs=1e-4)


def test_a_model_that_knows_the_code_exposes_it_fully():
    planted = canaries((0, 30), seed=0)[15:17]  # one never, one often
    model = small_gpt()
    lines = [planted[1].text] * 8
    stream = (batch_of(lines) for _ in range(60))
    for _ in train(model, stream, next_token_loss, TrainConfig(steps=60, rate=1e-2, warm_up=5)):
        pass
    assert exposures(model, planted, TOKENIZER)[30] == [pytest.approx(math.log2(1000))]


def test_gradients_of_each_row_are_those_of_the_row_alone():
    model, lines = small_gpt(), some_lines()
    each = gradients_of_each(model, batch_of(lines))
    for i, line in enumerate(lines):
        model.zero_grad()
        next_token_loss(model, batch_of([line])).backward()
        for name, weight in model.named_parameters():
            torch.testing.assert_close(each[f"model.{name}"][i], weight.grad, atol=1e-5, rtol=1e-4)


def test_clipping_cuts_a_long_row_to_the_limit_and_leaves_a_short_one():
    rows = {"a": torch.tensor([[3.0, 0.0], [0.1, 0.0]]), "b": torch.tensor([[4.0], [0.2]])}  # lengths 5 and 0.22
    total = clipped_sum(rows, longest=1.0)
    torch.testing.assert_close(total["a"], torch.tensor([0.6 + 0.1, 0.0]))
    torch.testing.assert_close(total["b"], torch.tensor([0.8 + 0.2]))


def test_one_row_cannot_move_the_sum_by_more_than_the_limit():
    generator = torch.Generator().manual_seed(0)
    rows = {"a": torch.randn(6, 5, generator=generator) * 100}
    without = clipped_sum({"a": rows["a"][1:]}, longest=0.3)["a"]
    assert (clipped_sum(rows, longest=0.3)["a"] - without).norm() <= 0.3 + 1e-5


def test_private_loss_without_limit_and_noise_is_the_mean_over_the_rows():
    model, lines = small_gpt(), some_lines(3)
    loss = private_loss(longest=1e9, noise=0.0)(model, batch_of(lines))
    loss.backward()
    found = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    (sum(next_token_loss(model, batch_of([line])) for line in lines) / 3).backward()
    for mine, weight in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad, atol=1e-5, rtol=1e-4)
    assert loss.item() == pytest.approx(next_token_loss(model, batch_of(lines)).item(), abs=1e-6)


def test_the_noise_is_as_large_as_it_says():
    model, batch = small_gpt(), batch_of(some_lines(4))
    gradients = []
    for noise in (0.0, 2.0):
        model.zero_grad()
        private_loss(longest=0.5, noise=noise, seed=1)(model, batch).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    difference = gradients[1] - gradients[0]
    assert difference.std().item() == pytest.approx(2.0 * 0.5 / 4, rel=0.05)


def test_a_model_with_dropout_gets_gradients_of_each_row():
    model = GPT(TransformerConfig(n_vocab=9, context=8, d_model=8, n_heads=2, n_layers=1, dropout=0.5)).train()
    rows = torch.randint(9, (3, 8), generator=torch.Generator().manual_seed(0))
    gradients = gradients_of_each(model, Batch(rows, rows))
    assert all(len(each) == 3 and each.isfinite().all() for each in gradients.values())
