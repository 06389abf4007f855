"""Speculative decoding says exactly what the target would have said, in fewer passes of it."""

import math
from collections import Counter
from functools import partial

import pytest
import torch

from llmcourse.data import random_windows
from llmcourse.generation import SamplingConfig, generate, next_token_probabilities, penalise_repetition
from llmcourse.models import GPT
from llmcourse.speculative import accept_probability, expected_speed_up, left_over, speculate, tokens_a_pass
from llmcourse.training import TrainConfig, next_token_loss, seed_everything, train
from llmcourse.transformer import TransformerConfig
from tests.timing import speed_ratio

PROMPT = torch.tensor([[1, 3]])
SETTINGS = {
    "plain": {},
    "sharp": {"temperature": 0.5},
    "flat": {"temperature": 2.0},
    "top-k": {"top_k": 3},
    "top-p": {"top_p": 0.7},
    "min-p": {"min_p": 0.4},
    "penalty": {"repetition_penalty": 1.8},
    "all": {"temperature": 0.8, "top_k": 4, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.2},
}


def random_gpt(seed, n_vocab=5, sharpness=4.0, **sizes):
    """A GPT whose predictions are far from even, and differ from seed to seed."""
    torch.manual_seed(seed)
    sizes = {"context": 16, "d_model": 8, "n_heads": 2, "n_layers": 1} | sizes
    model = GPT(TransformerConfig(n_vocab=n_vocab, **sizes)).eval()
    with torch.no_grad():
        model.head.weight.mul_(sharpness / model.head.weight.std() / 8**0.5)
    return model


@torch.no_grad()
def probabilities_of_continuations(model, n, config, prompt=PROMPT):
    """{continuation: probability} of all continuations by n tokens, by the chain rule and without a cache."""
    found = {(): 1.0}
    for _ in range(n):
        longer = {}
        for said, probability in found.items():
            tokens = torch.cat([prompt, torch.tensor([said], dtype=prompt.dtype)], dim=-1)
            logits = penalise_repetition(model(tokens)[:, -1], tokens, config.repetition_penalty)
            row = next_token_probabilities(logits, config)[0].tolist()
            longer |= {(*said, token): probability * p for token, p in enumerate(row)}
        found = longer
    return found


def worst_deviation(counts, probabilities):
    """The largest distance of a count from its expectation, in standard deviations; infinite for the impossible."""
    n, worst = sum(counts.values()), 0.0
    for said, p in probabilities.items():
        if p in (0.0, 1.0):
            worst = math.inf if counts[said] != n * p else worst
        elif n * p * (1 - p) > 1:  # rarer ones have no normal distribution
            worst = max(worst, abs(counts[said] - n * p) / math.sqrt(n * p * (1 - p)))
    return worst


def continuations(say, n_runs, length=PROMPT.shape[-1]):
    torch.manual_seed(1)
    return Counter(tuple(say()[0, length:].tolist()) for _ in range(n_runs))


def test_keeping_and_replacing_gives_the_targets_distribution_whatever_the_draft():
    torch.manual_seed(0)
    p, q = (
        (3 * torch.randn(50, 6, dtype=torch.float64)).softmax(-1),
        (3 * torch.randn(50, 6, dtype=torch.float64)).softmax(-1),
    )
    p[0, :3], q[1, 2:] = 0, 0  # a top-k of its own for each
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    kept = q * accept_probability(p, q)
    said = kept + (1 - kept.sum(-1, keepdim=True)) * left_over(p, q)
    torch.testing.assert_close(said, p)


def test_three_tokens_worked_out_by_hand():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.25, 0.75, 0.0])
    torch.testing.assert_close(accept_probability(p, q), torch.tensor([1.0, 0.4, 0.0]))
    torch.testing.assert_close(left_over(p, q), torch.tensor([0.25 / 0.45, 0.0, 0.2 / 0.45]))


def test_equal_distributions_owe_nothing():
    p = torch.tensor([0.5, 0.3, 0.2])
    assert torch.equal(accept_probability(p, p), torch.ones(3))
    assert torch.equal(left_over(p, p), p)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("name", ["all"])
def test_two_tokens_have_exactly_the_targets_distribution(name):
    _exact(name, n_runs=150)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("name", SETTINGS)
def test_two_tokens_have_exactly_the_targets_distribution_under_every_setting(name):
    _exact(name, n_runs=1200)


def _exact(name, n_runs):
    """Chosen so that the draft's own draws would be seen to be wrong."""
    config, target, draft = SamplingConfig(**SETTINGS[name]), random_gpt(0), random_gpt(1)
    truth = probabilities_of_continuations(target, 2, config)
    assert math.isclose(sum(truth.values()), 1, rel_tol=1e-5)
    # Three tokens are said and two compared: the second is then a judged draft, and not only the target's own.
    said = continuations(lambda: speculate(target, draft, PROMPT, 3, config, n_drafts=2).tokens[:, :4], n_runs)
    assert worst_deviation(said, truth) < 5
    drafts_own = continuations(lambda: generate(draft, PROMPT, 2, config), 150)
    assert worst_deviation(drafts_own, truth) > 5


@pytest.mark.parametrize("n_drafts", [1, 2, 5])
def test_greedy_says_what_generate_says(n_drafts):
    greedy = SamplingConfig(temperature=0.0)
    target, draft = random_gpt(2, n_vocab=20, context=64), random_gpt(3, n_vocab=20, context=64)
    said = speculate(target, draft, PROMPT, 40, greedy, n_drafts=n_drafts)
    assert torch.equal(said.tokens, generate(target, PROMPT, 40, greedy))
    assert max(said.drafted) == n_drafts


def test_a_target_that_drafts_for_itself_refuses_nothing():
    model = random_gpt(0, n_vocab=20, context=64)
    said = speculate(model, model, PROMPT, 25, SamplingConfig(seed=0), n_drafts=4)
    assert said.tokens.shape == (1, 27)
    assert said.drafted == said.accepted == (4, 4, 4, 4, 4)
    assert said.n_passes == 5
    assert said.acceptance == 1


def test_a_draft_that_is_always_wrong_costs_time_and_changes_nothing():
    greedy, target, draft = SamplingConfig(temperature=0.0), random_gpt(2, n_vocab=9), random_gpt(2, n_vocab=9)
    with torch.no_grad():
        draft.head.weight.neg_()
    said = speculate(target, draft, PROMPT, 6, greedy, n_drafts=3)
    assert torch.equal(said.tokens, generate(target, PROMPT, 6, greedy))
    assert said.n_passes == 6
    assert said.acceptance == 0


@pytest.mark.parametrize(("context", "draft_context"), [(8, 8), (8, 30), (30, 6), (7, 3), (5, 1), (1, 4)])
def test_a_full_context_slides_as_in_generate(context, draft_context):
    greedy = SamplingConfig(temperature=0.0)
    target, draft = random_gpt(4, n_vocab=20, context=context), random_gpt(5, n_vocab=20, context=draft_context)
    prompt = torch.tensor([[1, 3, 2, 7, 5]])[:, :context]
    said = speculate(target, draft, prompt, 45, greedy, n_drafts=4)
    assert torch.equal(said.tokens, generate(target, prompt, 45, greedy))


def test_the_drafts_context_slides_and_its_guesses_stay_its_own():
    greedy = SamplingConfig(temperature=0.0)
    model = random_gpt(4, n_vocab=20, context=8)
    said = speculate(model, model, PROMPT, 40, greedy, n_drafts=3)
    assert torch.equal(said.tokens, generate(model, PROMPT, 40, greedy))
    assert said.acceptance == 1


def test_a_prompt_that_fills_the_context_is_read_whole():
    greedy, model = SamplingConfig(temperature=0.0), random_gpt(4, n_vocab=20, context=6)
    prompt = torch.tensor([[1, 3, 2, 7, 5, 0]])
    said = speculate(model, random_gpt(5, n_vocab=20, context=4), prompt, 10, greedy)
    assert torch.equal(said.tokens, generate(model, prompt, 10, greedy))


@pytest.mark.parametrize("n_drafts", [1, 4])
def test_nothing_follows_a_stop(n_drafts):
    greedy, target = SamplingConfig(temperature=0.0), random_gpt(2, n_vocab=20, context=64)
    whole = generate(target, PROMPT, 30, greedy)
    last = int(whole[0, 9])
    config = SamplingConfig(temperature=0.0, stop=(last, 19))
    said = speculate(target, target, PROMPT, 30, config, n_drafts=n_drafts)
    assert torch.equal(said.tokens, generate(target, PROMPT, 30, config))
    assert said.tokens.shape[-1] <= 10 and int(said.tokens[0, -1]) in config.stop


def test_the_same_seed_draws_the_same_tokens_and_leaves_torchs_own_state():
    target, draft, config = random_gpt(0), random_gpt(1), SamplingConfig(seed=3)
    state = torch.get_rng_state()
    first, second = (speculate(target, draft, PROMPT, 10, config) for _ in range(2))
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(torch.get_rng_state(), state)
    others = {tuple(speculate(target, draft, PROMPT, 10, SamplingConfig(seed=k)).tokens[0].tolist()) for k in range(5)}
    assert len(others) > 1


def test_no_new_tokens_need_no_pass():
    said = speculate(random_gpt(0), random_gpt(1), PROMPT, 0)
    assert torch.equal(said.tokens, PROMPT)
    assert said.n_passes == 0 and math.isnan(said.acceptance)


def test_the_acceptance_is_what_the_two_distributions_share():
    """Of a draft drawn from q, min(1, p/q) is kept: in all the sum of min(p, q). (Leviathan et al., theorem 3.5.)"""
    target, draft = random_gpt(0, context=600), random_gpt(1, context=600)
    torch.manual_seed(0)
    with torch.no_grad():
        for model in (target, draft):  # which tokens came before makes no difference to these two
            model.blocks[0].attention.out.weight.zero_(), model.blocks[0].feed_forward.requires_grad_(False)
            for weight in model.blocks[0].feed_forward.parameters():
                weight.zero_()
            model.blocks[0].attention.out.bias.zero_()
            model.embedding.tokens.weight.copy_(model.embedding.tokens.weight[:1].expand(5, -1).clone())
        p, q = (model(PROMPT)[0, -1].softmax(-1) for model in (target, draft))
    shared = torch.minimum(p, q).sum().item()
    said = speculate(target, draft, PROMPT, 200, SamplingConfig(seed=0), n_drafts=3)
    n = sum(said.accepted) / said.acceptance
    assert 0.1 < shared < 0.9
    assert abs(said.acceptance - shared) < 5 * math.sqrt(shared * (1 - shared) / n)
    per_pass = tokens_a_pass(shared, 3)
    assert abs(200 / said.n_passes - per_pass) < 5 * 3 / math.sqrt(said.n_passes)


@pytest.mark.parametrize(
    ("acceptance", "n_drafts", "expected"), [(0.0, 4, 1.0), (1.0, 4, 5.0), (0.5, 2, 1.75), (0.9, 0, 1.0)]
)
def test_tokens_a_pass_worked_out_by_hand(acceptance, n_drafts, expected):
    assert math.isclose(tokens_a_pass(acceptance, n_drafts), expected)


def test_the_expected_speed_up_is_leviathans_formula():
    a, n, c = 0.8, 5, 0.05
    assert math.isclose(expected_speed_up(a, n, c), (1 - a ** (n + 1)) / ((1 - a) * (n * c + 1)))
    assert expected_speed_up(0.0, 4, 0.5) == 1 / 3  # three times slower than the target alone
    assert expected_speed_up(1.0, 4, 0.0) == 5


def test_what_cannot_be_done_is_refused_with_the_way_out():
    model = random_gpt(0)
    for arguments, options, words in (
        ((model, random_gpt(1, n_vocab=6), PROMPT, 3), {}, "5 tokens and the draft 6"),
        ((model, model, PROMPT.expand(2, -1), 3), {}, "2 rows"),
        ((model, model, PROMPT[:, :0], 3), {}, "empty"),
        ((model, model, torch.ones(1, 17, dtype=torch.long), 3), {}, "17 tokens and this model's context holds 16"),
        ((model, model, PROMPT, -3), {}, "n_new=-3"),
        ((model, model, PROMPT, 3), {"n_drafts": 0}, "n_drafts=0"),
    ):
        with pytest.raises(ValueError, match=words):
            speculate(*arguments, **options)
    for wrong in ((1.1, 2, 0.1), (-0.1, 2, 0.1), (0.5, -1, 0.1), (0.5, 2, -0.1)):
        with pytest.raises(ValueError, match=r"acceptance=|n_drafts=|cost="):
            expected_speed_up(*wrong)


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
def test_a_cheap_draft_makes_a_large_target_at_least_twice_as_fast_and_a_small_target_hardly_faster():
    """Trained on a text of which each letter follows from the last ones, so that the draft can know nearly all of it."""
    seed_everything(0)
    words = torch.randint(0, 8, (1500,), generator=torch.Generator().manual_seed(0))
    tokens = (words[:, None] + torch.tensor([0, 3, 6, 9])).flatten()  # four tokens that the first decides
    sizes = {"n_vocab": 17, "context": 96, "rotary_base": 100.0, "bias": False}

    def trained(steps, rate, **more):
        model = GPT(TransformerConfig(**sizes, **more))
        for _ in train(model, random_windows(tokens, 96, 4), next_token_loss, TrainConfig(steps=steps, rate=rate)):
            pass
        return model

    large = trained(60, 1.5e-3, d_model=320, n_heads=4, n_layers=6)
    small = trained(200, 1e-2, d_model=48, n_heads=2, n_layers=1)
    draft = trained(300, 1e-2, d_model=32, n_heads=2, n_layers=1)
    prompt, config = tokens[None, :4], SamplingConfig(seed=0)

    def gain(target):
        ahead = partial(speculate, target, draft, prompt, 90, config, n_drafts=8)
        return speed_ratio(partial(generate, target, prompt, 90, config), ahead)

    assert speculate(large, draft, prompt, 90, config, n_drafts=8).acceptance > 0.8
    assert gain(large) >= 2
    assert gain(small) < 1.3
