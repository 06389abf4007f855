"""Preferences: from pairs of which one reply was preferred to a model that prefers it too, and what that costs.

Bradley and Terry (1952): the chosen reply wins with probability σ(r_chosen - r_rejected), r being a reward. The policy
that gains the most reward for its distance from a reference is known, π(y) ∝ π_ref(y) e^(r(y) / β), so a reward can be
read off a policy: r(y) = β ln(π(y) / π_ref(y)) + a constant. Put together, the pairs train the policy itself: direct
preference optimisation (DPO; Rafailov et al., 2023, equation 7). For rewards that a program can verify there is the
other way, to sample and to reinforce: group-relative policy optimisation (Shao et al., 2024).

Letters: B pairs or replies, T positions, G replies to one question.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.chat import Rendered, answer_batch, counted_batch
from llmcourse.data import IGNORED, Batch, in_groups
from llmcourse.tokenizers import WordTokenizer
from llmcourse.training import Loss


class PreferenceBatch(NamedTuple):
    """Pairs of conversations that differ in the assistant's reply; targets of -100 are not part of it."""

    chosen: Int[Tensor, "B T"]
    chosen_targets: Int[Tensor, "B T"]
    rejected: Int[Tensor, "B T2"]
    rejected_targets: Int[Tensor, "B T2"]


def preference_batches(
    pairs: Iterable[tuple[str, str, str]], size: int, tokenizer: WordTokenizer
) -> Iterator[PreferenceBatch]:
    """(question, chosen reply, rejected reply), `size` at a time; when the stream ends, the last batch is smaller."""
    for group in in_groups(pairs, size):
        sides = [
            answer_batch([(("user", pair[0]), ("assistant", pair[side])) for pair in group], tokenizer)
            for side in (1, 2)
        ]
        yield PreferenceBatch(*sides[0], *sides[1])


def answer_log_probability(
    model: nn.Module, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
) -> Float[Tensor, "B"]:
    """ln π(reply | conversation) of each row: the sum, over the reply's tokens, of their log-probabilities.

    A sum and no mean: the probability of a reply is the product of its tokens' probabilities.
    """
    logits = model(tokens).float()
    lost = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return -lost.view(targets.shape).sum(dim=-1)


def dpo_loss(
    chosen: Float[Tensor, "B"],
    rejected: Float[Tensor, "B"],
    reference_chosen: Float[Tensor, "B"],
    reference_rejected: Float[Tensor, "B"],
    beta: float,
) -> Float[Tensor, ""]:
    """-ln σ(β [(ln π(chosen) - ln π_ref(chosen)) - (ln π(rejected) - ln π_ref(rejected))]), averaged over the pairs.

    All four are log-probabilities of whole replies. beta: how dear it is to leave the reference; small is bold.
    Source: Rafailov et al. (2023), equation 7.
    """
    if not beta > 0:
        raise ValueError(f"beta={beta} must be above 0: at 0 the pairs would teach nothing, below 0 the opposite")
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -F.logsigmoid(beta * margin).mean()


def preference_loss(reference: nn.Module, beta: float) -> Loss:
    """The loss to give to `train`: DPO against a reference that gets no gradient.

    The reference must be a model of its own, such as `copy.deepcopy(model).eval()`: one that shares its weights with
    the trained model would move with it, and every margin would stay 0.
    """

    def loss(model: nn.Module, batch: PreferenceBatch) -> Float[Tensor, ""]:
        sides = ((batch.chosen, batch.chosen_targets), (batch.rejected, batch.rejected_targets))
        with torch.no_grad():
            theirs = [answer_log_probability(reference, *side) for side in sides]
        ours = [answer_log_probability(model, *side) for side in sides]
        return dpo_loss(*ours, *theirs, beta)

    return loss


def best_policy(
    reference: Float[Tensor, "*batch n"], rewards: Float[Tensor, "*batch n"], beta: float
) -> Float[Tensor, "*batch n"]:
    """The exact optimum of E[reward] - β KL(π || reference) over n replies: reference · e^(reward / β), summing to 1.

    Source: Rafailov et al. (2023), equation 4.
    """
    if not beta > 0:
        raise ValueError(f"beta={beta} must be above 0; towards 0 the best policy is the best reply alone")
    return (reference.log() + rewards / beta).softmax(dim=-1)


def least_divergence(rate: float, before: float = 0.5) -> float:
    """The smallest KL, in nats, at which a share `before` of all replies becomes the share `rate`.

    It is reached by scaling the two kinds of replies and leaving the proportions within each as they were:
    rate ln(rate / before) + (1 - rate) ln((1 - rate) / (1 - before)).
    """
    if not (0 < before < 1 and 0 <= rate <= 1):
        raise ValueError(f"rate={rate} and before={before} are shares: from 0 to 1, and before between them")
    return sum(p * math.log(p / q) for p, q in ((rate, before), (1 - rate, 1 - before)) if p > 0)


def said_batch(prompts: Sequence[list[int]], said: Sequence[list[int]], tokenizer: WordTokenizer) -> Batch:
    """Replies as they were sampled, also those that did not end, each behind its prompt; only the reply counts.

    prompts: the ids that the reply followed, as `render(turns, tokenizer, reply=True)` gives them.
    said: the ids of the replies, as `reply_tokens` gives them.
    """
    rows = [Rendered(p + s, [False] * len(p) + [True] * len(s)) for p, s in zip(prompts, said, strict=True)]
    return counted_batch(rows, tokenizer)


@torch.no_grad()
def divergence(
    policy: nn.Module, reference: nn.Module, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
) -> float:
    """KL(policy || reference) in nats a reply, estimated from replies that the *policy* sampled at temperature 1.

    The mean of ln π(y) - ln π_ref(y); right on average, and a little off with each finite sample.
    """
    gap = answer_log_probability(policy, tokens, targets) - answer_log_probability(reference, tokens, targets)
    return gap.mean().item()


def group_advantages(rewards: Float[Tensor, "B G"]) -> Float[Tensor, "B G"]:
    """How much better each reply is than the others to the same question: (r - mean) / standard deviation.

    A group in which all are equally good teaches nothing, and gets zeros. Source: Shao et al. (2024), section 4.1.
    """
    if rewards.shape[-1] < 2:
        raise ValueError(f"groups of {rewards.shape[-1]}: a reply is compared with others, so take at least 2")
    centred = rewards - rewards.mean(dim=-1, keepdim=True)
    spread = rewards.std(dim=-1, keepdim=True, unbiased=False)
    # Equal numbers may differ from their own mean, which is rounded: so they are compared with each other.
    equal = rewards.amax(dim=-1, keepdim=True) == rewards.amin(dim=-1, keepdim=True)
    return torch.where(equal, torch.zeros_like(rewards), centred / spread.clamp(min=1e-6))


class RewardedBatch(NamedTuple):
    """Sampled replies, and how much better each was than the others to its question; targets as in `said_batch`."""

    tokens: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    advantages: Float[Tensor, "B"]

    @property
    def weight(self) -> int:
        """Its rows, for the loss is a mean over replies: so `train` weighs it when it adds up several."""
        return len(self.tokens)


def policy_gradient_loss(model: nn.Module, batch: RewardedBatch) -> Float[Tensor, ""]:
    """-advantage · ln π(reply), averaged: one step makes good replies likelier, and bad ones less likely.

    With rewards in place of advantages, a step down this loss is a step up the expected reward, as long as the replies are
    the model's own, freshly sampled (Williams, 1992); dividing by a group's deviation weighs the questions differently.
    GRPO also averages over a reply's tokens, limits how far several steps may go on one sample, and stays near a reference.
    """
    return -(batch.advantages * answer_log_probability(model, batch.tokens, batch.targets)).mean()
