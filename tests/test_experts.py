"""Experts: one works for each token, the router reads no future, the balance has its closed forms, purity its counts."""

import math
from functools import partial

import pytest
import torch

from llmcourse.data import IGNORED, Batch
from llmcourse.experts import (
    ExpertConfig,
    ExpertGPT,
    Experts,
    expert_loss,
    load_balance,
    opening_mean,
    purity,
    routing_table,
)
from llmcourse.generation import CompiledSteps
from llmcourse.models import GPT, count_parameters
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig

CONFIG = TransformerConfig(n_vocab=11, context=12, d_model=8, n_heads=2, n_layers=2, d_feed_forward=16)


def new(evidence="opening", **settings):
    torch.manual_seed(0)
    return ExpertGPT(CONFIG, ExpertConfig(evidence=evidence, d_hidden=4, **settings)).eval()


def test_the_output_is_the_chosen_expert_s_times_its_gate():
    torch.manual_seed(1)
    layer, x = Experts(8, ExpertConfig(d_hidden=4)), torch.randn(2, 5, 8)
    gates = layer.gates(torch.randn(2, 5, 8))
    found = layer(x, gates)
    for b in range(2):
        for t in range(5):
            best = int(gates[b, t].argmax())
            torch.testing.assert_close(found[b, t], gates[b, t, best] * layer.experts[best](x[b, t]))


def test_gates_are_probabilities():
    gates = Experts(8, ExpertConfig()).gates(torch.randn(2, 5, 8))
    torch.testing.assert_close(gates.sum(dim=-1), torch.ones(2, 5))
    assert gates.min() >= 0


def test_an_expert_that_is_not_chosen_learns_nothing_and_the_router_does():
    layer = Experts(8, ExpertConfig(d_hidden=4))
    gates = layer.gates(torch.randn(1, 4, 8))
    layer(torch.randn(1, 4, 8), gates).square().sum().backward()
    chosen = set(gates.argmax(dim=-1).flatten().tolist())
    for number, expert in enumerate(layer.experts):
        gradient = expert.expand.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == (number in chosen)
    assert layer.router.weight.grad.abs().sum() > 0


def test_the_opening_is_the_mean_of_the_words_so_far_and_stands_still_after_three():
    x = torch.arange(7.0)[None, :, None].expand(1, 7, 2) ** 2
    found = opening_mean(x)[0, :, 0].tolist()
    assert found == pytest.approx([0, 1, (1 + 4) / 2, (1 + 4 + 9) / 3] + [(1 + 4 + 9) / 3] * 3)
    assert opening_mean(x[:, :1]).shape == (1, 1, 2)
    assert opening_mean(x[:, :3])[0, :, 0].tolist() == pytest.approx(found[:3])


@pytest.mark.parametrize("evidence", ["opening", "token"])
def test_no_position_reads_the_future(evidence):
    model, tokens = new(evidence), torch.tensor([[1, 4, 2, 7, 3, 9, 5]])
    before = model.logits_and_gates(tokens)
    for t in range(1, 7):
        changed = tokens.clone()
        changed[0, t:] = 10
        for one, two in zip(before, model.logits_and_gates(changed), strict=True):
            torch.testing.assert_close(one[:, :t], two[:, :t])


def test_a_text_keeps_its_expert_after_its_opening_and_a_token_router_does_not_have_to():
    tokens = torch.randint(11, (16, 12), generator=torch.Generator().manual_seed(2))
    later = {kind: new(kind).logits_and_gates(tokens)[1][:, 3:] for kind in ("opening", "token")}
    assert torch.allclose(later["opening"], later["opening"][:, :1])
    assert not torch.allclose(later["token"], later["token"][:, :1])


def test_logits_are_the_model_s_own_whoever_asks():
    model, tokens = new(), torch.randint(11, (2, 9))
    logits, gates = model.logits_and_gates(tokens)
    assert torch.equal(model(tokens), logits) and logits.shape == (2, 9, 11) and gates.shape == (2, 9, 3)
    assert isinstance(model, GPT)


def test_more_experts_are_more_parameters_and_the_same_work():
    three, six = new(n_experts=3), new(n_experts=6)
    expert = 2 * 4 * 8 + 4 + 8
    assert count_parameters(six) - count_parameters(three) == 3 * expert + 3 * 9  # and a row of the router each
    assert six.active_parameters() - three.active_parameters() == 3 * 9
    assert count_parameters(three) - three.active_parameters() == 2 * expert


def test_a_tied_model_stays_tied():
    model = ExpertGPT(TransformerConfig(n_vocab=11, d_model=8, n_heads=2, tied=True), ExpertConfig())
    assert model.head.weight is model.embedding.tokens.weight


def test_balance_is_1_when_even_and_the_number_of_experts_at_collapse():
    everything = torch.ones(6, dtype=torch.bool)
    assert load_balance(torch.eye(3).repeat(2, 1), everything).item() == pytest.approx(1)
    assert load_balance(torch.eye(3)[:1].repeat(6, 1), everything).item() == pytest.approx(3)
    half = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]])
    by_hand = 2 * (2 / 3 * (1.3 / 3) + 1 / 3 * (1.7 / 3))
    assert load_balance(half, everything[:3]).item() == pytest.approx(by_hand)


def test_padding_does_not_count_in_the_balance():
    gates = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [1.0, 0.0]]])
    counts = torch.tensor([[True, True, False]])
    assert torch.equal(load_balance(gates, counts), load_balance(gates[:, :2], counts[:, :2]))


def test_the_loss_is_cross_entropy_and_a_share_of_balance():
    model = new()
    tokens, targets = torch.randint(11, (2, 6)), torch.randint(11, (2, 6))
    targets[1, 4:] = IGNORED
    batch = Batch(tokens, targets)
    plain = next_token_loss(model, batch)
    torch.testing.assert_close(expert_loss(model, batch, balance=0.0), plain)
    balance = load_balance(model.logits_and_gates(tokens)[1], targets != IGNORED)
    torch.testing.assert_close(expert_loss(model, batch, balance=0.5), plain + 0.5 * balance)


def test_one_batch_can_be_learned_by_heart():
    model, tokens = new(), torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(3))
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    config = TrainConfig(steps=100, rate=1e-2, warm_up=10)
    *_, last = train(model, iter(lambda: batch, None), partial(expert_loss, balance=0.0), config)
    assert last.loss < 0.7 * next_token_loss(new(), batch).item()


def test_purity_takes_the_best_matching():
    kinds = [0, 0, 1, 1, 2, 2]
    assert purity([2, 2, 0, 0, 1, 1], kinds, 3) == 1
    assert purity([2, 2, 0, 1, 1, 1], kinds, 3) == pytest.approx(5 / 6)
    assert purity([1] * 6, kinds, 3) == pytest.approx(2 / 6)  # one expert cannot be the own one of three kinds
    with pytest.raises(ValueError, match="0 choices"):
        purity([], [], 3)


def test_a_routing_table_has_a_row_of_shares_for_each_kind():
    table = routing_table([0, 0, 1, 2], [0, 0, 0, 1], 3, 3)
    torch.testing.assert_close(table, torch.tensor([[2 / 3, 1 / 3, 0], [0, 0, 1.0], [0, 0, 0]]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_experts": 1}, "n_experts=1"),
        ({"d_hidden": 0}, "width 0"),
        ({"evidence": "tea"}, "evidence='tea'; use one of"),
    ],
)
def test_what_is_no_choice_of_experts_is_refused(settings, words, without_shape_checks):
    with pytest.raises(ValueError, match=words):
        ExpertConfig(**settings)


def test_a_program_of_a_step_is_not_made_of_what_it_would_leave_out():
    with pytest.raises(TypeError, match="not ExpertGPT"):
        CompiledSteps(new())


def test_experts_learn_in_mixed_precision():
    tokens = torch.randint(11, (4, 12), generator=torch.Generator().manual_seed(0))
    model, batch = new(), Batch(tokens, tokens.roll(-1, 1))
    losses = [
        step.loss for step in train(model, iter([batch] * 3), expert_loss, TrainConfig(steps=3, precision="bfloat16"))
    ]
    assert all(math.isfinite(loss) for loss in losses)
