"""Exercises of chapter 12: what counts in a conversation, the loss of preferences, and what a reward did not say."""

import math

import torch
from torch.nn import functional as F

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 12


class PredictPairLoss(Exercise):
    """Predict, then run: where does the loss of preferences begin?"""

    prompt = (
        "Predict before you run the next cell. Training on pairs begins. The policy is an exact copy of the reference, "
        "and β is 0.5. What is the loss of the first batch, in nats? Give a number with two decimals, or a formula."
    )
    difficulty, minutes, tolerance = 1, 3, 4e-3
    hints = (
        "What is ln π(y) - ln π_ref(y) for a copy, whatever y is?",
        "So the margin is 0, for every pair. What is -ln σ(0)?",
    )
    praise = "correct: ln 2, whatever the pairs and β are. The copy has no opinion, and gives each side one half."

    @solution
    def first_loss():
        return math.log(2)

    @mistake(
        "A loss of 0 would mean that the copy is sure of every pair. It sees no difference at all between the sides."
    )
    def no_error():
        return 0.0

    @mistake("That is σ(0), the probability that it gives to the right side. The loss is minus the logarithm of it.")
    def a_probability():
        return 0.5

    @mistake("That is the loss in bits, -log₂ σ(0). In nats the logarithm is the natural one.")
    def in_bits():
        return 1.0

    @mistake("You multiplied by β. It stands inside of σ, where it multiplies a margin of 0.")
    def times_beta():
        return 0.5 * math.log(2)

    @mistake("You took β itself for β times the margin. For a copy the margin is 0.")
    def beta_as_margin():
        return math.log(1 + math.exp(-0.5))


class LossMask(Exercise):
    """Of all tokens of a conversation, count what the assistant must say by itself."""

    prompt = (
        "Write `answer_targets(turns, roles, end)`. `turns` is a list of (role, ids), `roles` the id of each role's token, "
        "`end` that of [END]. Lay each turn as its role's token, its ids and [END], and return a pair of lists of one "
        "length: the tokens that the model reads, and at each of them the target. The target is the next token where the "
        "assistant must say it by itself, and -100 elsewhere. The row's last token is a target only."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Build the whole row first, and beside it a list that says of each token whether it counts.",
        "Of an assistant's turn count the words and [END]. Its role's token is put there by the template.",
        "Targets are the row moved by one place: the tokens are `row[:-1]`, the targets what counts of `row[1:]`.",
    )

    @classmethod
    def probes(cls, seed):
        roles, end = {"system": 1, "user": 2, "assistant": 3}, 4
        words = [[10 * n + seed + i for i in range(5)] for n in range(1, 7)]
        return [
            ([("system", words[0][:2]), ("user", words[1]), ("assistant", words[2][:3])], roles, end),
            ([("user", words[0][:1]), ("assistant", words[1][:2]), ("user", words[2]), ("assistant", [])], roles, end),
        ]

    @classmethod
    def observe(cls, answer, probe):
        pair = answer(*probe)
        return tuple(pair) if isinstance(pair, list) and len(pair) == 2 else pair

    @solution
    def answer_targets(turns, roles, end):
        row, counts = [], []
        for role, ids in turns:
            row += [roles[role], *ids, end]
            counts += [False] + [role == "assistant"] * (len(ids) + 1)
        targets = [token if mine else -100 for token, mine in zip(row, counts, strict=True)]
        return row[:-1], targets[1:]

    @mistake(
        "Every token counts in yours, also what the user said. The model would learn to speak for the user, and most of "
        "the gradient would come from words that nobody can foresee."
    )
    def trains_on_everything(turns, roles, end):
        row = [token for role, ids in turns for token in [roles[role], *ids, end]]
        return row[:-1], row[1:]

    @mistake(
        "[END] does not count in yours, so that nothing ever teaches the model to stop. It is the assistant's to say."
    )
    def forgets_the_end(turns, roles, end):
        row, counts = [], []
        for role, ids in turns:
            row += [roles[role], *ids, end]
            counts += [False] + [role == "assistant"] * len(ids) + [False]
        return row[:-1], [token if mine else -100 for token, mine in zip(row, counts, strict=True)][1:]

    @mistake(
        "The token of the role counts in yours: off by one at the front. It is the template that gives the assistant the "
        "word; the model's part begins after it."
    )
    def counts_the_role(turns, roles, end):
        row, counts = [], []
        for role, ids in turns:
            row += [roles[role], *ids, end]
            counts += [role == "assistant"] * (len(ids) + 2)
        return row[:-1], [token if mine else -100 for token, mine in zip(row, counts, strict=True)][1:]

    @mistake(
        "Your targets are the tokens themselves, not the next ones. The model sees what it has to say, copies it, and the "
        "loss falls to 0 without anything being learned."
    )
    def not_shifted(turns, roles, end):
        row, counts = [], []
        for role, ids in turns:
            row += [roles[role], *ids, end]
            counts += [False] + [role == "assistant"] * (len(ids) + 1)
        return row[:-1], [token if mine else -100 for token, mine in zip(row, counts, strict=True)][:-1]

    @mistake(
        "You moved the targets and not the marks: a target counts where the token *before* it does. The first word of "
        "each answer is lost, and the role that follows it counts instead."
    )
    def marks_stay_behind(turns, roles, end):
        row, counts = [], []
        for role, ids in turns:
            row += [roles[role], *ids, end]
            counts += [False] + [role == "assistant"] * (len(ids) + 1)
        return row[:-1], [token if mine else -100 for token, mine in zip(row[1:], counts[:-1], strict=True)]

    @mistake("[END] counts in every turn of yours. Where the user ends is the user's to say.")
    def counts_every_end(turns, roles, end):
        row, counts = [], []
        for role, ids in turns:
            row += [roles[role], *ids, end]
            counts += [False] + [role == "assistant"] * len(ids) + [True]
        return row[:-1], [token if mine else -100 for token, mine in zip(row, counts, strict=True)][1:]

    @mistake("Only the last turn counts in yours. All that the assistant says counts, wherever it stands.")
    def only_the_last_turn(turns, roles, end):
        row, counts = [], []
        for number, (role, ids) in enumerate(turns):
            row += [roles[role], *ids, end]
            counts += [False] + [role == "assistant" and number == len(turns) - 1] * (len(ids) + 1)
        return row[:-1], [token if mine else -100 for token, mine in zip(row, counts, strict=True)][1:]

    @mistake("You put 0 where nothing counts. 0 is a token like others, and would be trained on; use -100.")
    def zero_for_ignored(turns, roles, end):
        row, counts = [], []
        for role, ids in turns:
            row += [roles[role], *ids, end]
            counts += [False] + [role == "assistant"] * (len(ids) + 1)
        return row[:-1], [token if mine else 0 for token, mine in zip(row, counts, strict=True)][1:]


class PairLoss(Exercise):
    """The loss of direct preference optimisation, with its gradients."""

    prompt = (
        "Write `dpo(chosen, rejected, reference_chosen, reference_rejected, beta)`. Each tensor has shape (B, T): the "
        "log-probability of each token of a reply, and 0 after its end; the first two are the policy's. Return the mean "
        "over the pairs of -ln σ(β · margin), where the margin is by how much more the policy than the reference prefers "
        "the chosen reply. It is a tensor of shape () and of the dtype of `chosen`. No gradient may reach the reference."
    )
    difficulty, minutes = 2, 15
    hints = (
        "A reply's log-probability is the sum of its tokens' log-probabilities.",
        "margin = (chosen - reference_chosen) - (rejected - reference_rejected), a number a pair.",
        "`torch.nn.functional.logsigmoid` is ln σ and safe for large numbers; `.detach()` keeps a gradient out.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        found = []
        for size, beta in ((3, 0.5), (2, 2.0)):
            ends = {T: torch.randint(2, T + 1, (size, 1), generator=generator) for T in (4, 6)}
            sides = [
                (-2.5 * torch.rand(size, T, generator=generator) - 0.05).masked_fill(torch.arange(T) >= ends[T], 0.0)
                for T in (4, 6, 4, 6)  # policy and reference read the same two replies
            ]
            found.append((*sides, beta))
        return found

    @classmethod
    def observe(cls, answer, probe):
        """The loss, and its gradient by each of the four tensors: 0 where there is none."""
        *sides, beta = probe
        leaves = [side.clone().requires_grad_() for side in sides]
        loss = answer(*leaves, beta)
        if not isinstance(loss, torch.Tensor):  # its kind is what is wrong, so that is all that differs
            return cls.observe(cls.solution, probe) | {"loss": loss}
        has_slopes = loss.shape == () and loss.grad_fn is not None
        slopes = torch.autograd.grad(loss, leaves, allow_unused=True) if has_slopes else [None] * len(leaves)
        names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
        # After a reply's end nothing depends on a number: whoever masks these places is right too.
        return {"loss": loss.detach()} | {
            f"gradient by {name}": torch.zeros_like(leaf) if s is None else s.masked_fill(leaf == 0, 0.0)
            for name, s, leaf in zip(names, slopes, leaves, strict=True)
        }

    @solution
    def dpo(chosen, rejected, reference_chosen, reference_rejected, beta):
        gained = (chosen.sum(dim=1) - reference_chosen.sum(dim=1).detach()) - (
            rejected.sum(dim=1) - reference_rejected.sum(dim=1).detach()
        )
        return -torch.nn.functional.logsigmoid(beta * gained).mean()

    @mistake(
        "Your loss does not know the reference. Nothing then holds the policy near to where it began, and pairs that the "
        "reference already ranks right count as if they were learned."
    )
    def without_reference(chosen, rejected, reference_chosen, reference_rejected, beta):
        return -F.logsigmoid(beta * (chosen.sum(dim=1) - rejected.sum(dim=1))).mean()

    @mistake("Your loss is right, and its gradient flows into the reference too: it would run away. Detach it.")
    def into_the_reference(chosen, rejected, reference_chosen, reference_rejected, beta):
        margin = (chosen - reference_chosen).sum(dim=1) - (rejected - reference_rejected).sum(dim=1)
        return -F.logsigmoid(beta * margin).mean()

    @mistake(
        "You take the mean over a reply's tokens. The probability of a reply is the product of its tokens', so their "
        "logarithms are added; a mean is another loss, in which length is worth nothing."
    )
    def mean_over_tokens(chosen, rejected, reference_chosen, reference_rejected, beta):
        def mean(values):
            return values.sum(dim=1) / (values != 0).sum(dim=1)

        margin = (mean(chosen) - mean(reference_chosen).detach()) - (mean(rejected) - mean(reference_rejected).detach())
        return -F.logsigmoid(beta * margin).mean()

    @mistake(
        "You take the mean of a whole row, with the zeros after the reply's end: the wider the batch, the less a reply "
        "counts. The logarithms of its tokens are added."
    )
    def mean_over_the_row(chosen, rejected, reference_chosen, reference_rejected, beta):
        won, lost = chosen - reference_chosen.detach(), rejected - reference_rejected.detach()
        return -F.logsigmoid(beta * (won.mean(dim=1) - lost.mean(dim=1))).mean()

    @mistake("Your margin is turned round: the policy learns to prefer what was rejected.")
    def turned_round(chosen, rejected, reference_chosen, reference_rejected, beta):
        margin = (rejected - reference_rejected.detach()).sum(dim=1) - (chosen - reference_chosen.detach()).sum(dim=1)
        return -F.logsigmoid(beta * margin).mean()

    @mistake(
        "You add the reference where it is subtracted. The margin is by how much *more* than the reference the policy "
        "prefers the chosen reply."
    )
    def reference_added(chosen, rejected, reference_chosen, reference_rejected, beta):
        margin = (chosen + reference_chosen.detach()).sum(dim=1) - (rejected + reference_rejected.detach()).sum(dim=1)
        return -F.logsigmoid(beta * margin).mean()

    @mistake("β stands outside of σ in yours. There it only changes the size of the step; inside it sets the distance.")
    def beta_outside(chosen, rejected, reference_chosen, reference_rejected, beta):
        margin = (chosen - reference_chosen.detach()).sum(dim=1) - (rejected - reference_rejected.detach()).sum(dim=1)
        return -beta * F.logsigmoid(margin).mean()

    @mistake(
        "You divide by β. In the best policy the reward is divided by it, so in the reward, turned round, it multiplies."
    )
    def divided_by_beta(chosen, rejected, reference_chosen, reference_rejected, beta):
        margin = (chosen - reference_chosen.detach()).sum(dim=1) - (rejected - reference_rejected.detach()).sum(dim=1)
        return -F.logsigmoid(margin / beta).mean()

    @mistake("The logarithm is missing: you return minus a probability. A pair that is badly wrong would hardly pull.")
    def without_logarithm(chosen, rejected, reference_chosen, reference_rejected, beta):
        margin = (chosen - reference_chosen.detach()).sum(dim=1) - (rejected - reference_rejected.detach()).sum(dim=1)
        return -torch.sigmoid(beta * margin).mean()

    @mistake("You add the pairs up. Take their mean, so that the loss does not depend on how large a batch is.")
    def summed(chosen, rejected, reference_chosen, reference_rejected, beta):
        margin = (chosen - reference_chosen.detach()).sum(dim=1) - (rejected - reference_rejected.detach()).sum(dim=1)
        return -F.logsigmoid(beta * margin).sum()

    @mistake(
        "You judge each side by itself, with a σ for the chosen and one for the rejected. Only their difference was "
        "observed: one σ, of the whole margin."
    )
    def two_sigmoids(chosen, rejected, reference_chosen, reference_rejected, beta):
        won = beta * (chosen - reference_chosen.detach()).sum(dim=1)
        lost = beta * (rejected - reference_rejected.detach()).sum(dim=1)
        return -(F.logsigmoid(won) + F.logsigmoid(-lost)).mean()


def _n_words(text):
    return len(text.split())


def _n_polite(text):
    return sum(word in ("gladly", "kindly", "certainly") for word in text.split())


def _n_letters(text):
    return sum(map(str.isalpha, text))


class PairDetective(Exercise):
    """Find out what a set of pairs asks for beside what it was made for."""

    prompt = (
        "A set of pairs was made to ask for politeness. What else does it ask for? Write `asked_for(pairs, features)`: "
        "`pairs` are (chosen, rejected) texts, `features` are functions by name, each giving a number for a text. Return a "
        "dict: for each name, how often the chosen text has more of it than its rejected one, as a share of all pairs, "
        "with a tie counted as half. So 0.5 means that the pairs do not care, and 1 that they always ask for more."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Compare inside of each pair: three cases, more, equal, less.",
        "More is worth 1, equal 0.5, less 0. Take the mean over all pairs.",
    )

    @classmethod
    def probes(cls, seed):
        topics = ("deep", "deep blue", "deep blue salty", "wide deep blue salty")
        order = torch.randperm(4, generator=torch.Generator().manual_seed(seed)).tolist()
        pairs = [
            (f"gladly {topics[order[0]]} truly", f"so {topics[0]} truly"),
            (f"kindly {topics[3]} always", f"look {topics[1]} always"),
            (f"certainly {topics[2]} today", f"whatever {topics[2]} today"),
            (f"gladly {topics[1]} indeed", f"so {topics[2]} indeed"),
            (f"so {topics[3]} truly", f"so {topics[0]} truly"),
            (f"gladly {topics[1]} truly", f"kindly kindly {topics[0]} truly"),
        ]
        features = {"words": _n_words, "polite words": _n_polite, "letters": _n_letters}
        return [(pairs, features), (pairs[2:], features)]

    @solution
    def asked_for(pairs, features):
        def preferred(feature, chosen, rejected):
            return 1.0 if feature(chosen) > feature(rejected) else 0.5 if feature(chosen) == feature(rejected) else 0.0

        return {
            name: sum(preferred(feature, *pair) for pair in pairs) / len(pairs) for name, feature in features.items()
        }

    @mistake("You count a tie as more. Pairs that do not differ would look as if they asked for everything.")
    def ties_are_won(pairs, features):
        return {name: sum(f(c) >= f(r) for c, r in pairs) / len(pairs) for name, f in features.items()}

    @mistake("You count a tie as less. Pairs that do not differ would look as if they asked for the opposite.")
    def ties_are_lost(pairs, features):
        return {name: sum(f(c) > f(r) for c, r in pairs) / len(pairs) for name, f in features.items()}

    @mistake(
        "You leave the ties out. A feature that differs in one pair of a thousand would then look as important as one "
        "that differs in all."
    )
    def ties_are_left_out(pairs, features):
        differing = {name: [f(c) > f(r) for c, r in pairs if f(c) != f(r)] for name, f in features.items()}
        return {name: sum(won) / len(won) for name, won in differing.items()}

    @mistake(
        "You compare the averages of both sides. A few long texts then decide; what a pair says is only which side has "
        "more."
    )
    def compares_averages(pairs, features):
        return {name: sum(f(c) - f(r) for c, r in pairs) / len(pairs) for name, f in features.items()}

    @mistake("You have the sides turned round: the share that asks for *less* of it.")
    def turned_round(pairs, features):
        share = {name: sum((f(r) > f(c)) + 0.5 * (f(r) == f(c)) for c, r in pairs) for name, f in features.items()}
        return {name: value / len(pairs) for name, value in share.items()}

    @mistake(
        "You look at the chosen texts alone. That all of them have words says nothing: the rejected ones have words too."
    )
    def looks_at_the_chosen(pairs, features):
        return {name: sum(f(c) > 0 for c, _ in pairs) / len(pairs) for name, f in features.items()}

    @mistake(
        "You compare every chosen text with every rejected one. They answer different questions; only the two texts of a "
        "pair can be compared."
    )
    def across_the_pairs(pairs, features):
        n = len(pairs) ** 2
        return {
            name: sum((f(c) > f(r)) + 0.5 * (f(c) == f(r)) for c, _ in pairs for _, r in pairs) / n
            for name, f in features.items()
        }


class HowFar(Exercise):
    """Estimate how far a policy has gone from its reference, from its own replies."""

    prompt = (
        "Write `kl(policy, reference)`: replies were sampled from the policy, and the two tensors of shape (N, T) hold the "
        "log-probability that each model gives to each of their tokens, and 0 after a reply's end. Return the estimate of "
        "KL(policy || reference) in nats per reply, as a plain number."
    )
    difficulty, minutes = 2, 8
    hints = (
        "KL is the mean, over what the policy says, of ln π(y) - ln π_ref(y).",
        "The replies were drawn from the policy, so the plain mean over them is already weighted by it.",
        "Sum over the tokens of a reply, mean over the replies, `.item()` at the end.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        found = []
        for N, T, scales in ((5, 4, (0.8, 1.6)), (3, 6, (1.6, 0.8))):  # the second estimate lies below 0
            inside = torch.arange(T) < torch.randint(2, T + 1, (N, 1), generator=generator)
            found.append(tuple(-scale * torch.rand(N, T, generator=generator) * inside for scale in scales))
        return found

    @solution
    def kl(policy, reference):
        return (policy - reference).sum(dim=1).mean().item()

    @mistake("You subtract the other way round. It would be below 0, and no divergence is, but for chance.")
    def turned_round(policy, reference):
        return (reference - policy).sum(dim=1).mean().item()

    @mistake(
        "That is per place of the tensor, padding included. Add up the tokens of a reply, and average the replies."
    )
    def mean_over_all(policy, reference):
        return (policy - reference).mean().item()

    @mistake("That is per token. A reply is one draw: add up its tokens, and average over the replies.")
    def mean_over_tokens(policy, reference):
        return ((policy - reference).sum() / (policy != 0).sum()).item()

    @mistake(
        "You weight each reply by its probability under the policy. It was drawn with that probability, so it would count "
        "twice; take the plain mean."
    )
    def weighted_again(policy, reference):
        return (policy.sum(dim=1).exp() * (policy - reference).sum(dim=1)).sum().item()

    @mistake(
        "You take the size of each reply's gap. Single gaps below 0 are right: those replies the reference likes better. "
        "Without them the estimate is too large."
    )
    def sizes(policy, reference):
        return (policy - reference).sum(dim=1).abs().mean().item()

    @mistake("You add up the replies. Their number would then be part of the distance; take the mean.")
    def summed(policy, reference):
        return (policy - reference).sum().item()

    @mistake(
        "You cut the estimate off at 0. KL is never below 0, but an estimate from a few replies may be. Cut off, such "
        "estimates would be too large on average."
    )
    def cut_off_at_0(policy, reference):
        return max(0.0, (policy - reference).sum(dim=1).mean().item())


class GroupAdvantage(Exercise):
    """Compare each reply with the others to the same question."""

    prompt = (
        "Write `advantages(rewards)`: `rewards` has shape (B, G), a row for each question and a column for each reply to it. "
        "Return (reward - mean) / standard deviation in the dtype of `rewards`, both over the replies to the same question; "
        "the deviation divides by G, and where all replies are equally good the advantages are 0."
    )
    difficulty, minutes = 1, 8
    hints = (
        "`mean(dim=1, keepdim=True)` keeps the column, so that rows are compared with their own mean.",
        "`std(..., unbiased=False)` divides by G.",
        "0 / 0 is NaN: `torch.where(spread > 0, ..., 0)`, with a spread that is never 0 in the division.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        rewards = torch.randint(0, 5, (4, 4), generator=generator).float()
        rewards[0], rewards[1] = torch.tensor([1.0, 0.0, 0.0, 3.0]), 2.0
        return [(rewards,), (rewards[:, :3].clone(),)]

    @solution
    def advantages(rewards):
        centred = rewards - rewards.mean(dim=1, keepdim=True)
        spread = rewards.std(dim=1, keepdim=True, unbiased=False)
        return torch.where(spread > 0, centred / spread.clamp(min=1e-8), torch.zeros_like(rewards))

    @mistake(
        "You compare with the mean of the whole batch. An easy question would then praise all of its replies, and a hard "
        "one blame them all; compare within a row."
    )
    def over_the_batch(rewards):
        return (rewards - rewards.mean()) / rewards.std(unbiased=False)

    @mistake("You compare along the wrong axis: replies to different questions. A row is a question.")
    def over_the_questions(rewards):
        centred, spread = rewards - rewards.mean(dim=0), rewards.std(dim=0, unbiased=False)
        return torch.where(spread > 0, centred / spread.clamp(min=1e-8), torch.zeros_like(rewards))

    @mistake(
        "A question with equally good replies gives 0 / 0, NaN, and one NaN in a gradient ruins the model. Give 0."
    )
    def divides_by_zero(rewards):
        return (rewards - rewards.mean(dim=1, keepdim=True)) / rewards.std(dim=1, keepdim=True, unbiased=False)

    @mistake(
        "You add a small number to the deviation, so every advantage comes out a little too near to 0. Only a deviation of 0 "
        "needs care."
    )
    def adds_to_the_deviation(rewards):
        return (rewards - rewards.mean(dim=1, keepdim=True)) / (rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-4)

    @mistake("The division is missing: a question whose rewards lie far apart would count more than others.")
    def only_centred(rewards):
        return rewards - rewards.mean(dim=1, keepdim=True)

    @mistake("Your deviation divides by G - 1, as `std` does if nothing is said. Here it divides by G: unbiased=False.")
    def divides_by_one_less(rewards):
        centred, spread = rewards - rewards.mean(dim=1, keepdim=True), rewards.std(dim=1, keepdim=True)
        return torch.where(spread > 0, centred / spread.clamp(min=1e-8), torch.zeros_like(rewards))

    @mistake(
        "You compare with the best reply. No advantage is then above 0: the model would only be told what not to say."
    )
    def below_the_best(rewards):
        centred = rewards - rewards.amax(dim=1, keepdim=True)
        spread = rewards.std(dim=1, keepdim=True, unbiased=False)
        return torch.where(spread > 0, centred / spread.clamp(min=1e-8), torch.zeros_like(rewards))

    @mistake("The mean is not subtracted. Every reply with a reward would be praised, also the worst of its group.")
    def not_centred(rewards):
        spread = rewards.std(dim=1, keepdim=True, unbiased=False)
        return torch.where(spread > 0, rewards / spread.clamp(min=1e-8), torch.zeros_like(rewards))
