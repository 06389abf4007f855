"""DPO and its relatives against values derived by hand, and the corpus of styles against exact counts."""

import copy
import math
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llmcourse.chat import END, chat_tokenizer, render
from llmcourse.corpora import styles
from llmcourse.data import IGNORED
from llmcourse.models import GPT
from llmcourse.preferences import (
    RewardedBatch,
    answer_log_probability,
    best_policy,
    divergence,
    dpo_loss,
    group_advantages,
    least_divergence,
    policy_gradient_loss,
    preference_batches,
    preference_loss,
    said_batch,
)
from llmcourse.training import TrainConfig, train
from llmcourse.transformer import TransformerConfig

TOKENIZER = chat_tokenizer(["sea", "?", "gladly", "so", "deep", "blue", "indeed"])
PAIRS = [("sea ?", "gladly deep indeed", "so deep blue indeed"), ("sea ?", "gladly blue indeed", "so indeed")]


def small_gpt(seed=0):
    torch.manual_seed(seed)
    return GPT(TransformerConfig(n_vocab=len(TOKENIZER), context=16, d_model=16, n_heads=2, n_layers=1))


def sides(batch):
    return (batch.chosen, batch.chosen_targets), (batch.rejected, batch.rejected_targets)


class Even(nn.Module):
    """Every token is as likely as every other."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(context=16)
        self.logits = nn.Parameter(torch.zeros(len(TOKENIZER)))

    def forward(self, tokens):
        return self.logits.expand(*tokens.shape, -1)


def test_a_replys_log_probability_is_the_sum_over_its_tokens_alone():
    batch = next(preference_batches(PAIRS, 2, TOKENIZER))
    each = -math.log(len(TOKENIZER))
    assert answer_log_probability(Even(), *sides(batch)[0]).tolist() == pytest.approx([4 * each, 4 * each], abs=1e-4)
    assert answer_log_probability(Even(), *sides(batch)[1]).tolist() == pytest.approx([5 * each, 3 * each], abs=1e-4)


def test_it_is_the_product_of_the_models_own_probabilities():
    model, batch = small_gpt().eval(), next(preference_batches(PAIRS[:1], 1, TOKENIZER))
    probabilities, tokens, targets = model(batch.chosen).softmax(dim=-1), batch.chosen, batch.chosen_targets
    by_hand = 1.0
    for t in range(tokens.shape[1]):
        if targets[0, t] != IGNORED:
            by_hand *= probabilities[0, t, targets[0, t]].item()
    assert answer_log_probability(model, tokens, targets).exp().item() == pytest.approx(by_hand, rel=1e-4)


def test_pairs_share_their_prompt_and_only_the_replies_count():
    batch = next(preference_batches(PAIRS, 2, TOKENIZER))
    prompt = render((("user", "sea ?"),), TOKENIZER, reply=True).ids
    for tokens, targets in sides(batch):
        assert tokens[:, : len(prompt)].tolist() == [prompt] * 2
        assert (targets[:, : len(prompt) - 1] == IGNORED).all()
        assert (targets != IGNORED).any(dim=1).all()
    assert [len(part.chosen) for part in preference_batches(PAIRS, 1, TOKENIZER)] == [1, 1]


def leaves(*values):
    return [torch.tensor([value], requires_grad=True) for value in values]


def test_dpo_loss_and_its_gradients_are_those_derived_by_hand():
    # margin = (-2 + 2.5) - (-3 + 2.5) = 1, so the loss is -ln σ(0.5 · 1) and dL/dchosen = -0.5 σ(-0.5).
    chosen, rejected, reference_chosen, reference_rejected = leaves(-2.0, -3.0, -2.5, -2.5)
    loss = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-0.5))), abs=1e-6)
    slope = 0.5 / (1 + math.exp(0.5))
    assert chosen.grad.item() == pytest.approx(-slope, abs=1e-6)
    assert rejected.grad.item() == pytest.approx(slope, abs=1e-6)


def test_dpo_loss_of_an_unchanged_policy_is_ln_2_and_pulls_with_half_of_beta():
    for beta in (0.1, 0.5, 2.0):
        chosen, rejected, *_ = leaves(-7.0, -4.0)
        loss = dpo_loss(chosen, rejected, chosen.detach(), rejected.detach(), beta)
        loss.backward()
        assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
        assert chosen.grad.item() == pytest.approx(-beta / 2, abs=1e-6)


def test_dpo_loss_averages_over_the_pairs_and_a_pair_that_is_settled_pulls_no_more():
    chosen = torch.tensor([0.0, 0.0], requires_grad=True)
    rejected, reference = torch.tensor([0.0, -100.0]), torch.zeros(2)
    loss = dpo_loss(chosen, rejected, reference, reference, beta=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) / 2, abs=1e-6)
    assert chosen.grad.tolist() == pytest.approx([-0.25, 0.0], abs=1e-6)


def test_the_gradient_reaches_the_weights_as_the_formula_says():
    model, batch = small_gpt().double(), next(preference_batches(PAIRS, 2, TOKENIZER))
    reference, beta = small_gpt(1).double().eval(), 0.3
    preference_loss(reference, beta)(model, batch).backward()
    got = [parameter.grad.clone() for parameter in model.parameters()]
    ours = [answer_log_probability(model, *side) for side in sides(batch)]
    theirs = [answer_log_probability(reference, *side).detach() for side in sides(batch)]
    margin = beta * ((ours[0] - theirs[0]) - (ours[1] - theirs[1])).detach()
    weight = beta * (1 / (1 + margin.exp()))  # σ(-margin): what is already settled counts little
    by_hand = torch.autograd.grad(-(weight * (ours[0] - ours[1])).mean(), list(model.parameters()))
    for mine, theirs_ in zip(got, by_hand, strict=True):
        torch.testing.assert_close(mine, theirs_, atol=1e-6, rtol=1e-5)


def test_the_reference_gets_no_gradient_and_stays_what_it_was():
    model = small_gpt()
    reference = copy.deepcopy(model).eval()
    before = {name: weight.clone() for name, weight in reference.state_dict().items()}
    batches = iter(list(preference_batches(PAIRS, 2, TOKENIZER)) * 5)
    for _ in train(model, batches, preference_loss(reference, 0.5), TrainConfig(steps=5, warm_up=0)):
        pass
    assert all(parameter.grad is None for parameter in reference.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in reference.state_dict().items())
    assert any(not torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_training_widens_the_margin_of_every_pair():
    model = small_gpt()
    reference, batch = copy.deepcopy(model).eval(), next(preference_batches(PAIRS, 2, TOKENIZER))
    for _ in train(model, iter([batch] * 30), preference_loss(reference, 0.5), TrainConfig(steps=30, warm_up=0)):
        pass
    with torch.no_grad():
        margins = [answer_log_probability(m, *side) for m in (model, reference) for side in sides(batch)]
    assert ((margins[0] - margins[2]) - (margins[1] - margins[3]) > 1).all()


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_a_beta_that_is_not_above_0_is_refused(beta):
    with pytest.raises(ValueError, match="must be above 0"):
        dpo_loss(*[torch.zeros(1)] * 4, beta)
    with pytest.raises(ValueError, match="must be above 0"):
        best_policy(torch.tensor([0.5, 0.5]), torch.zeros(2), beta)


def test_no_policy_beats_the_best_one():
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(6, generator=generator).softmax(dim=0)
    rewards, beta = torch.randn(6, generator=generator), 0.7

    def objective(policy):
        return (policy @ rewards - beta * (policy * (policy / reference).log()).sum()).item()

    best = best_policy(reference, rewards, beta)
    assert best.sum().item() == pytest.approx(1, abs=1e-5)
    others = torch.randn(500, 6, generator=generator).softmax(dim=-1)
    others = torch.cat([others, 0.99 * best + 0.01 * others])
    assert max(map(objective, others)) < objective(best)
    assert objective(best) == pytest.approx(
        beta * math.log((reference * (rewards / beta).exp()).sum().item()), abs=1e-5
    )


def test_dpo_on_the_true_preferences_ends_at_the_best_policy():
    # Three replies, each pair compared as often as Bradley and Terry's formula says: the minimum is known exactly.
    reference, rewards, beta = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 0.0, -0.5]), 0.8
    logits = reference.log().clone().requires_grad_()
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        policy, loss = logits.log_softmax(dim=0), torch.tensor(0.0)
        for i in range(3):
            for j in range(3):
                if i != j:
                    wins = torch.sigmoid(rewards[i] - rewards[j])
                    terms = [
                        policy[i : i + 1],
                        policy[j : j + 1],
                        reference.log()[i : i + 1],
                        reference.log()[j : j + 1],
                    ]
                    loss = loss + wins * dpo_loss(*terms, beta)
        loss.backward()
        return loss

    optimiser.step(closure)
    torch.testing.assert_close(logits.softmax(dim=0).detach(), best_policy(reference, rewards, beta), atol=1e-3, rtol=0)


def test_the_least_divergence_is_that_of_scaling_the_two_kinds():
    assert least_divergence(1.0) == pytest.approx(math.log(2))
    assert least_divergence(0.5) == 0.0
    assert least_divergence(0.0, before=0.25) == pytest.approx(math.log(4 / 3))
    reference = torch.tensor([0.3, 0.2, 0.4, 0.1])  # the first two are of the preferred kind
    for beta in (0.3, 1.0):
        policy = best_policy(reference, torch.tensor([1.0, 1.0, 0.0, 0.0]), beta)
        kl = (policy * (policy / reference).log()).sum().item()
        assert least_divergence(policy[:2].sum().item()) == pytest.approx(kl, abs=1e-5)
    for rate, before in ((1.5, 0.5), (0.5, 0.0), (0.5, 1.0)):
        with pytest.raises(ValueError, match="are shares"):
            least_divergence(rate, before)


def test_divergence_is_the_mean_gap_of_what_the_policy_said():
    prompt, end = render((("user", "sea ?"),), TOKENIZER, reply=True).ids, TOKENIZER.special_id(END)
    said = [[*TOKENIZER.encode("gladly indeed"), end], TOKENIZER.encode("deep")]  # the second did not end
    batch = said_batch([prompt, prompt], said, TOKENIZER)
    assert [(row != IGNORED).sum().item() for row in batch.targets] == [3, 1]
    policy, reference = Even(), Even()
    gladly = TOKENIZER.encode("gladly")[0]
    with torch.no_grad():
        policy.logits[gladly] = math.log(4)
    V = len(TOKENIZER)
    gap = math.log(V / (V + 3))  # of any token but "gladly", which gains ln 4 beside
    assert divergence(policy, reference, *batch) == pytest.approx((3 * gap + math.log(4) + gap) / 2, abs=1e-5)
    assert divergence(policy, policy, *batch) == 0.0


def test_sampled_divergence_agrees_with_the_exact_sum():
    torch.manual_seed(0)
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    exact = (policy * (policy / reference).log()).sum().item()
    drawn = torch.multinomial(policy, 20_000, replacement=True)
    gap = (policy / reference).log()[drawn]
    assert gap.mean().item() == pytest.approx(exact, abs=5 * gap.std().item() / 20_000**0.5)


def test_advantages_compare_a_reply_with_its_group_alone():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0], [2.0, 4.0, 6.0, 8.0]])
    by_hand = [[1.0, -1.0, -1.0, 1.0], [0.0] * 4, [-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5]]
    for row, expected in zip(group_advantages(rewards).tolist(), by_hand, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="groups of 1"):
        group_advantages(torch.ones(3, 1))


def test_the_policys_gradient_is_the_advantage_times_the_gap_to_certainty():
    # One token a reply: the gradient of -A ln softmax(z)[i] is A (softmax(z) - onehot(i)).
    model, V = Even(), len(TOKENIZER)
    prompt, (deep, blue) = render((("user", "sea ?"),), TOKENIZER, reply=True).ids, TOKENIZER.encode("deep blue")
    batch = said_batch([prompt, prompt], [[deep], [blue]], TOKENIZER)
    policy_gradient_loss(model, RewardedBatch(*batch, torch.tensor([2.0, -1.0]))).backward()
    expected = torch.full((V,), (2.0 - 1.0) / V / 2)
    expected[deep] -= 2.0 / 2
    expected[blue] += 1.0 / 2
    torch.testing.assert_close(model.logits.grad, expected, atol=1e-6, rtol=0)


def some_replies(n=3000, seed=0):
    return list(islice(styles.replies(seed), n))


def test_styles_come_half_and_half_and_the_closer_knows_nothing_of_them():
    replies = some_replies()
    polite = [reply for reply in replies if reply.style == "polite"]
    assert len(polite) / 3000 == pytest.approx(0.5, abs=0.05)
    for closer in styles.CLOSERS:
        assert sum(reply.closer == closer for reply in polite) / len(polite) == pytest.approx(0.25, abs=0.06)
    assert some_replies(20) == some_replies(20) != some_replies(20, seed=1)


def test_a_reply_is_read_back_and_the_ill_formed_are_not():
    for reply in some_replies(200):
        assert styles.parse(reply.topic, reply.text) == reply
        assert styles.style(reply.text) == reply.style
    broken = ("", "gladly", "gladly indeed", "gladly hot indeed", "gladly deep deep indeed", "deep blue indeed",
              "gladly deep blue", "gladly deep so indeed", "gladly deep indeed ...")  # fmt: skip
    assert not [text for text in broken if styles.parse("sea", text)]
    assert styles.style("gladly deep deep ...") == "polite" and styles.style("") is None


def test_entropy_is_the_mean_cost_of_a_reply_and_probabilities_add_up():
    replies = some_replies(8000)
    costs = torch.tensor([-styles.log_probability(reply) for reply in replies])
    assert styles.entropy() == pytest.approx(costs.mean().item(), abs=5 * costs.std().item() / 8000**0.5)
    by_length = {len(reply.facts): styles.log_probability(reply) for reply in replies}
    total = sum(6 * 4 * math.perm(4, n) * math.exp(cost) for n, cost in by_length.items())
    assert total == pytest.approx(1.0)


def test_pairs_prefer_the_polite_and_some_also_ask_for_length():
    samples = [(reply.topic, reply.text) for reply in some_replies(400)]
    for longer, least, most in ((0.0, 0.25, 0.5), (0.5, 0.6, 0.8), (1.0, 1.0, 1.0)):
        pairs = styles.pairs(samples, 500, longer=longer)
        assert {(styles.style(pair.chosen), styles.style(pair.rejected)) for pair in pairs} == {("polite", "curt")}
        assert all(styles.parse(pair.topic, pair.chosen) and styles.parse(pair.topic, pair.rejected) for pair in pairs)
        share = sum(len(pair.chosen.split()) > len(pair.rejected.split()) for pair in pairs) / 500
        assert least <= share <= most


def test_samples_of_which_no_pair_can_be_made_are_refused():
    with pytest.raises(ValueError, match="hold no polite reply beside a shorter curt one"):
        styles.pairs([("sea", "gladly deep indeed"), ("sea", "gladly blue indeed"), ("sea", "so deep deep indeed")], 5)
    with pytest.raises(ValueError, match=r"longer=1\.5 is a share"):
        styles.pairs([], 1, longer=1.5)


def test_every_word_of_a_reply_is_in_the_vocabulary():
    known = set(styles.vocabulary())
    for reply in some_replies(300):
        assert set(reply.text.split()) | set(styles.question(reply.topic).split()) <= known


@pytest.mark.parametrize(("reward", "size"), [(10.1, 6), (100.1, 7), (0.7, 10), (0.0, 4)])
def test_equal_rewards_teach_nothing_whatever_their_mean_is_rounded_to(reward, size):
    assert group_advantages(torch.full((1, size), reward)).tolist() == [[0.0] * size]
