"""Exercises of chapter 18b: what mixing costs, experts, forgetting, and risk."""

import math
import random

import torch
from torch.nn import functional as F

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = "18b"


class PredictTheCostOfMixing(Exercise):
    """Predict, then run: what does it cost not to know the domain?"""

    prompt = (
        "Predict before you run the next cell. A text mixes four domains, all equally likely. Its sentences have ten tokens, "
        "and one of their words tells the domain. A model is perfect in all four. How many nats a token does it lose "
        "more than four perfect models that were told the domain? Give a number."
    )
    difficulty, minutes, tolerance = 1, 4, 2e-3
    hints = (
        "Which of four it is, must be learned once a sentence. How many nats is that?",
        "A fair choice among four costs ln 4 nats, spread over ten tokens.",
    )
    praise = "correct: ln 4 / 10 = 0.139. No larger model can save it; being told the domain does."

    @solution
    def cost():
        return math.log(4) / 10

    @mistake("That is the cost of a whole sentence. Asked for is the cost of a token.")
    def a_sentence():
        return math.log(4)

    @mistake("That is in bits. The losses of this course are in nats: the natural logarithm.")
    def in_bits():
        return math.log2(4) / 10

    @mistake(
        "The word that tells the domain has to be predicted as well, and before it nobody knows which domain's words to "
        "expect."
    )
    def nothing():
        return 0

    @mistake(
        "A quarter is the probability of the right domain. The cost is its surprise, -ln(1/4), over the ten tokens."
    )
    def a_quarter_for_its_surprise():
        return 1 / 4

    @mistake("You have it cost ln 4 at every second token or so. The domain is learned once, and then known.")
    def at_every_word():
        return math.log(4) / 2


class RouteToOne(Exercise):
    """The output of a mixture of experts, of which one works."""

    prompt = (
        "Write `mix(scores, outputs)`: for router scores of shape (T, E) and the outputs of all experts, of shape (T, E, C), "
        "the result of shape (T, C): for each token the output of the expert with the highest score, times that expert's "
        "probability, a softmax over *all* its scores."
    )
    difficulty, minutes = 1, 8
    hints = (
        "Which expert, and with what probability? One call gives both.",
        "`probabilities = scores.softmax(dim=-1)`, then `gate, chosen = probabilities.max(dim=-1)`.",
        "`outputs[torch.arange(T), chosen]` takes one row for each token.",
        "Multiply by `gate[:, None]`: without the gate nothing tells the router whether it chose well.",
    )
    praise = "correct. Only through the gate does the router learn from the prediction."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        return [
            (torch.randn(T, E, generator=generator) - 1, torch.randn(T, E, 4, generator=generator))
            for T, E in ((6, 3), (3, 3))
        ]

    @solution
    def mix(scores, outputs):
        gate, chosen = scores.softmax(dim=-1).max(dim=-1)
        return gate[:, None] * outputs[torch.arange(len(scores)), chosen]

    @mistake(
        "You take the chosen expert's output without its gate, or with a softmax of its score alone, which is 1. Choosing has no "
        "gradient, so the router would never learn."
    )
    def without_the_gate(scores, outputs):
        return outputs[torch.arange(len(scores)), scores.argmax(-1)]

    @mistake("You mix all experts. That is a fine layer, and every expert computes for every token: nothing is saved.")
    def all_experts(scores, outputs):
        return (scores.softmax(-1)[..., None] * outputs).sum(1)

    @mistake(
        "You multiply by the score, not by its probability. Scores can be negative, and then the expert's advice is turned "
        "round."
    )
    def score_for_gate(scores, outputs):
        score, chosen = scores.max(-1)
        return score[:, None] * outputs[torch.arange(len(scores)), chosen]

    @mistake("Your softmax runs over the tokens. Each token shares its probability out among the experts: `dim=-1`.")
    def softmax_over_tokens(scores, outputs):
        gate, chosen = scores.softmax(0).max(-1)
        return gate[:, None] * outputs[torch.arange(len(scores)), chosen]

    @mistake("You choose the expert with the lowest score.")
    def the_worst_expert(scores, outputs):
        gate, chosen = scores.softmax(-1).min(-1)
        return gate[:, None] * outputs[torch.arange(len(scores)), chosen]

    @mistake("You send all tokens to the expert that is best for them together. Each token has a choice of its own.")
    def one_for_all(scores, outputs):
        probabilities = scores.softmax(-1)
        best = int(probabilities.sum(0).argmax())
        return probabilities[:, best, None] * outputs[:, best]


class KeepAllExpertsBusy(Exercise):
    """The load-balance loss."""

    prompt = (
        "Write `balance(gates, counts)`: for the router's probabilities of shape (T, E), and a boolean row of length T that is "
        "True at the tokens that are no padding, the loss E · Σ f_i · P_i, a tensor without dimensions. Over the tokens that "
        "count, f_i is the share whose highest probability is expert i's, and P_i the mean probability of expert i."
    )
    difficulty, minutes = 2, 12
    hints = (
        "First leave the padding out: `gates = gates[counts]`.",
        "f: `torch.bincount(gates.argmax(dim=-1), minlength=E) / len(gates)`. P: `gates.mean(dim=0)`.",
        "Multiply the two rows, sum, and times E: then even use gives 1, whatever E is.",
    )
    praise = "correct. f says what happens, and P, which has a gradient, is what the router can change."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)

        def case(T, E, bias):
            scores = 2 * torch.randn(T, E, generator=generator)
            scores[:, 0] += bias
            counts = torch.arange(T) < T - 3
            scores[~counts, -1] += 6
            return scores.softmax(-1), counts

        idle = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])  # the last expert
        return [case(15, 4, 0.0), (idle, torch.tensor([True, True, True, False]))]

    @classmethod
    def observe(cls, answer, probe):
        """The value, and what it would have each probability do."""
        gates, counts = probe
        gates = gates.clone().requires_grad_()
        value, gradient = answer(gates, counts), None
        if isinstance(value, torch.Tensor) and value.dim() == 0 and value.requires_grad:
            gradient = torch.autograd.grad(value, gates, allow_unused=True)[0]
        value = value.detach() if isinstance(value, torch.Tensor) else value
        return [value, torch.zeros_like(gates) if gradient is None else gradient]

    @solution
    def balance(gates, counts):
        gates = gates[counts]
        n_experts = gates.shape[-1]
        f = torch.bincount(gates.argmax(dim=-1), minlength=n_experts) / len(gates)
        return n_experts * (f * gates.mean(dim=0)).sum()

    @mistake("You count the padding. It says nothing about the text, and it all goes to one expert: `gates[counts]`.")
    def counts_padding(gates, counts):
        n_experts = gates.shape[-1]
        f = torch.bincount(gates.argmax(-1), minlength=n_experts) / len(gates)
        return n_experts * (f * gates.mean(0)).sum()

    @mistake(
        "You multiply P by itself. A router that gives every expert a little and chooses one of them always would look even."
    )
    def probabilities_only(gates, counts):
        gates = gates[counts]
        return gates.shape[-1] * gates.mean(0).square().sum()

    @mistake("You multiply f by itself. Counting has no gradient: this loss has the right size, and changes nothing.")
    def shares_only(gates, counts):
        gates = gates[counts]
        f = F.one_hot(gates.argmax(-1), gates.shape[-1]).float().mean(0)
        return gates.shape[-1] * f.square().sum()

    @mistake(
        "The factor E is missing, or you take a mean over the experts, which divides by E again. With E and a sum, even use "
        "gives 1, however many experts there are."
    )
    def without_the_number_of_experts(gates, counts):
        gates = gates[counts]
        f = F.one_hot(gates.argmax(-1), gates.shape[-1]).float().mean(0)
        return (f * gates.mean(0)).sum()

    @mistake(
        "You compare f with P token by token: that is the mean of the highest probabilities. It asks for doubt, and a "
        "doubtful router can use one expert only."
    )
    def mean_of_the_highest(gates, counts):
        gates = gates[counts]
        return gates.shape[-1] * gates.max(-1).values.mean()

    @mistake(
        "The last expert is missing from your counts when no token chose it: give `bincount` a `minlength`, the number of experts."
    )
    def forgets_the_idle(gates, counts):
        gates = gates[counts]
        f = torch.bincount(gates.argmax(dim=-1)) / len(gates)
        return gates.shape[-1] * (f * gates.mean(dim=0)).sum()

    @mistake("f or P is a sum over the tokens; make it a share, or a mean. As it is, a longer batch has a larger loss.")
    def counts_for_shares(gates, counts):
        gates = gates[counts]
        f = F.one_hot(gates.argmax(-1), gates.shape[-1]).float().sum(0)
        return gates.shape[-1] * (f * gates.mean(0)).sum()


class MeanForgetting(Exercise):
    """Read a forgetting matrix."""

    prompt = (
        "Write `forgetting(losses)`: `losses[i][j]` is the loss on domain j after training on the domains 0 to i, one after "
        "the other. Return how much the loss of a domain has risen, from right after it was trained on to the end, on "
        "average over the domains that could be forgotten: all but the last."
    )
    difficulty, minutes = 2, 8
    hints = (
        "Right after domain j was trained on, its loss is `losses[j][j]`. At the end it is `losses[-1][j]`.",
        "The last domain is at its end right after its training: nothing can be forgotten yet.",
    )
    praise = "correct. The diagonal says what was learned, the last row what is left of it."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)

        def matrix(n):
            return [
                [round(generator.uniform(0.9, 1.1) if i == j else generator.uniform(2, 7), 3) for j in range(n)]
                for i in range(n)
            ]

        helped = [[1.0, 3.0, 4.0], [0.8, 1.1, 3.0], [0.9, 2.0, 1.0]]  # the first domain gains by the second
        return [(matrix(4),), (helped,)]

    @solution
    def forgetting(losses):
        old = range(len(losses) - 1)
        return sum(losses[-1][j] - losses[j][j] for j in old) / len(old)

    @mistake(
        "You average over all domains, the last one too. It has had no time to be forgotten, and its 0 hides the others."
    )
    def counts_the_last(losses):
        return sum(losses[-1][j] - losses[j][j] for j in range(len(losses))) / len(losses)

    @mistake("Rows and columns are swapped: `losses[i]` is a moment, and `losses[i][j]` the loss on domain j then.")
    def rows_for_columns(losses):
        old = range(len(losses) - 1)
        return sum(losses[j][-1] - losses[j][j] for j in old) / len(old)

    @mistake(
        "You compare with the beginning, when most domains had not been learned yet. Forgetting is counted from the moment "
        "when a domain had just been trained on, `losses[j][j]`."
    )
    def from_the_first_row(losses):
        old = range(len(losses) - 1)
        return sum(losses[-1][j] - losses[0][j] for j in old) / len(old)

    @mistake(
        "You cut off at 0. A domain can gain by what is learned after it, and that counts against what others lose."
    )
    def never_a_gain(losses):
        old = range(len(losses) - 1)
        return sum(max(0.0, losses[-1][j] - losses[j][j]) for j in old) / len(old)

    @mistake(
        "You compare with the best that a domain's loss ever was. Asked for is the rise from right after it was trained on, "
        "`losses[j][j]`."
    )
    def from_its_best(losses):
        old = range(len(losses) - 1)
        return sum(losses[-1][j] - min(row[j] for row in losses) for j in old) / len(old)

    @mistake("The sign is the other way round: a loss that has risen is forgetting, and counts above 0.")
    def gain_for_loss(losses):
        old = range(len(losses) - 1)
        return sum(losses[j][j] - losses[-1][j] for j in old) / len(old)

    @mistake("You look one training further, not at the end: a domain may go on being forgotten.")
    def only_the_next(losses):
        old = range(len(losses) - 1)
        return sum(losses[j + 1][j] - losses[j][j] for j in old) / len(old)


class UnacceptableErrors(Exercise):
    """The number of a risk sheet: how often the one error happens that must not."""

    prompt = (
        "Write `rate(cases, domain)`. Each case is a dictionary with the keys `'domain'`, `'truth'`, `'said'` (a meaning, or None "
        "when the model referred the case to a person) and `'sure'` (its probability). The unacceptable error is a wrong "
        "meaning said with a probability of at least 0.9. Return its share of all cases of that domain, those that were "
        "referred too. Return None for a domain without cases: nothing was measured."
    )
    difficulty, minutes = 2, 10
    hints = (
        "First keep the cases of the domain. How many are there?",
        "A case that was referred is not an error, and it does count among the cases.",
        "An error needs three things: something was said, it is not the truth, and `sure >= 0.9`.",
    )
    praise = "correct. It is one number a domain, and an average over domains would have hidden it."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)

        def case(domain, wrong, referred, sure):
            said = None if referred else "lien" if wrong else "oxygen"
            return {"domain": domain, "truth": "oxygen", "said": said, "sure": sure}

        cases = [case("clinic", k % 3 == 0, k % 4 == 1, (0.95, 0.6, 0.9)[k % 3 if k % 2 else 0]) for k in range(12)]
        cases += [case("clinic", True, False, 0.5), case("clinic", True, True, 0.99), case("clinic", True, False, 0.9)]
        cases += [case("clinic", False, False, 0.99)]
        cases += [case("ledger", k == 0, False, 0.97) for k in range(9 + generator.randrange(3))]
        generator.shuffle(cases)
        return [(cases, "clinic"), (cases, "contract")]

    @solution
    def rate(cases, domain):
        own = [case for case in cases if case["domain"] == domain]
        if not own:
            return None
        errors = [c for c in own if c["said"] is not None and c["said"] != c["truth"] and c["sure"] >= 0.9]
        return len(errors) / len(own)

    @mistake(
        "You count over all domains. A domain that goes well, and has many cases, hides one in which people are harmed."
    )
    def over_all_domains(cases, domain):
        errors = [c for c in cases if c["said"] is not None and c["said"] != c["truth"] and c["sure"] >= 0.9]
        return len(errors) / len(cases)

    @mistake(
        "A case that was referred to a person is not an error: nobody was told anything wrong. None is no meaning."
    )
    def referral_is_an_error(cases, domain):
        own = [c for c in cases if c["domain"] == domain]
        return sum(c["said"] != c["truth"] and c["sure"] >= 0.9 for c in own) / len(own) if own else None

    @mistake(
        "You divide by the cases in which the model said something. Then a model that refers nearly everything looks worse "
        "than it is; asked for is the share of all cases of the domain."
    )
    def of_the_answered(cases, domain):
        own = [c for c in cases if c["domain"] == domain and c["said"] is not None]
        return sum(c["said"] != c["truth"] and c["sure"] >= 0.9 for c in own) / len(own) if own else None

    @mistake("You count every wrong meaning. Here the error is the one that sounds certain: probability at least 0.9.")
    def doubtful_errors_too(cases, domain):
        own = [c for c in cases if c["domain"] == domain]
        return sum(c["said"] is not None and c["said"] != c["truth"] for c in own) / len(own) if own else None

    @mistake(
        "Of a domain without cases you report 0: the sheet would say that it is safe. Nothing was measured; return None."
    )
    def unmeasured_is_safe(cases, domain):
        own = [c for c in cases if c["domain"] == domain]
        errors = [c for c in own if c["said"] is not None and c["said"] != c["truth"] and c["sure"] >= 0.9]
        return len(errors) / max(1, len(own))

    @mistake("A probability of exactly 0.9 is at least 0.9: use `>=`.")
    def strictly_above(cases, domain):
        own = [c for c in cases if c["domain"] == domain]
        errors = [c for c in own if c["said"] is not None and c["said"] != c["truth"] and c["sure"] > 0.9]
        return len(errors) / len(own) if own else None
