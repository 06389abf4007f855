"""Exercises of chapter 16: a guess, calibration, a temperature, selective answers, claims, a watermark, an assessment."""

import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from llmcourse.assessments import RUBRIC, case, gaps, model_answer
from llmcourse.exercises import Exercise, Wrong, mistake, solution

CHAPTER = 16


class PredictGuess(Exercise):
    """Predict, then run: how often somebody is right who cannot know."""

    prompt = (
        "Predict before you run the next cell. What somebody owns follows from no rule: each of eight things is equally "
        "likely. The model has learned by heart what 300 people own, and is asked about strangers. It is sure of itself, at "
        "0.8 on average. How many of 1,000 such answers are right? Give a number."
    )
    difficulty, minutes, tolerance = 1, 3, 1e-9
    hints = (
        "Does the answer depend on how the model chooses among the eight?",
        "Whatever it says, the truth was drawn without asking it: one in eight.",
    )
    praise = "correct: 125, on average. How sure it is has nothing to do with it."

    @solution
    def right_answers():
        return 125

    @mistake("That is how sure it *is*. Nothing makes it right that often: it was never told about these people.")
    def as_sure_as_it_says():
        return 800

    @mistake("It knows nothing, and yet it says one of eight things. Somebody who guesses is sometimes right.")
    def never():
        return 0

    @mistake("That is how many are *wrong*: seven of eight.")
    def the_wrong_ones():
        return 875

    @mistake("Right or wrong are two cases, but not two equally likely ones: there are eight things.")
    def half():
        return 500


def _by_bin(p, n_bins):
    """The number of the bin of each confidence, the upper edge included."""
    return (p * n_bins).ceil().long().clamp(1, n_bins) - 1


class CalibrationError(Exercise):
    """How far confidence and accuracy lie apart."""

    prompt = (
        "Write `ece(probabilities, labels, n_bins)`: `probabilities` (N, K) of K choices for each of N questions, and the "
        "right choices. The answer to a question is the likeliest choice, and its confidence that choice's probability. Sort "
        "the answers into `n_bins` bins of equal width between 0 and 1. Return, as a plain number, the sum over the bins of "
        "(share of all answers that are in it) · |mean confidence − share of right ones|. Bins can be empty, and "
        "a confidence can be exactly 1."
    )
    difficulty, minutes = 2, 15
    hints = (
        "`confidence, choice = probabilities.max(dim=-1)`. What is right is `choice == labels`.",
        "The number of a bin: `(confidence * n_bins).long().clamp(max=n_bins - 1)`. Without the clamp a confidence of 1 has "
        "a bin of its own that nobody visits.",
        "Leave empty bins out: the mean of nothing is NaN.",
    )
    praise = "correct. Remember what it hides: within a bin, too sure and not sure enough cancel out."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        probes = []
        for N, K, n_bins, rate in ((60, 4, 10, 0.5), (40, 3, 5, 0.97), (80, 6, 8, 0.6)):
            logits = 2.5 * torch.randn(N, K, generator=generator, dtype=torch.float64)
            logits[: N // 10, 0] = 1000.0  # quite certain
            labels = torch.where(
                torch.rand(N, generator=generator) < rate,
                logits.argmax(-1),
                torch.randint(K, (N,), generator=generator),
            )
            probes.append((logits.softmax(-1), labels, n_bins))
        certain = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.95, 0.05], [0.92, 0.08]], dtype=torch.float64)
        return [*probes, (certain, torch.tensor([0, 1, 0, 0]), 10)]

    @solution
    def ece(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        number = (confidence * n_bins).long().clamp(max=n_bins - 1)
        total = 0.0
        for i in range(n_bins):
            inside = number == i
            if inside.any():
                accuracy = (choice == labels)[inside].double().mean()
                total += inside.double().mean() * (confidence[inside].mean() - accuracy).abs()
        return float(total)

    @mistake(
        "You take the probability of the *right* choice for the confidence. A model does not know which one is right; its "
        "confidence is the probability of what it answers."
    )
    def confidence_of_the_label(probabilities, labels, n_bins):
        confidence, right = probabilities.gather(1, labels[:, None])[:, 0], probabilities.argmax(-1) == labels
        return _weighted(confidence, right, n_bins, lambda p, r: abs(p.mean() - r.mean()))

    @mistake("You take the mean over the bins. A bin with two answers then counts as much as one with two hundred.")
    def bins_count_alike(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        found = [
            abs(confidence[inside].mean() - (choice == labels)[inside].double().mean())
            for i in range(n_bins)
            if (inside := _by_bin(confidence, n_bins) == i).any()
        ]
        return float(sum(found) / len(found))

    @mistake("An empty bin makes your result NaN: the mean of nothing. Leave such bins out; they hold no answers.")
    def empty_bins(probabilities, labels, n_bins):
        return math.nan

    @mistake(
        "You drop the sign bars. Bins that are too sure and bins that are not sure enough then cancel each other out, and "
        "a model that is wrong about both looks calibrated."
    )
    def signed(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        return float(confidence.mean() - (choice == labels).double().mean())

    @mistake(
        "You use one bin for everything, or take the size only after adding up. That compares two averages, and says nothing "
        "about who is sure of what."
    )
    def one_bin(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        return float(abs(confidence.mean() - (choice == labels).double().mean()))

    @mistake("You compare with the middle of the bin. The mean of the confidences that are in it can lie elsewhere.")
    def middle_of_the_bin(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        number = _by_bin(confidence, n_bins)
        middles = (number + 0.5) / n_bins
        return _weighted(confidence, choice == labels, n_bins, lambda p, r: abs(p.mean() - r.mean()), middles)

    @mistake(
        "Answers with a confidence of exactly 1 fall out of your last bin. Those are the ones whose being wrong is worst."
    )
    def certainty_falls_out(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        inside = confidence < 1
        kept = _weighted(confidence[inside], (choice == labels)[inside], n_bins, lambda p, r: abs(p.mean() - r.mean()))
        return kept * inside.double().mean().item()

    @mistake(
        "Answers with a confidence of exactly 1 have a bin of their own after your last one. They belong into the last, with "
        "those that are nearly as sure."
    )
    def certainty_by_itself(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        number, right = (confidence * n_bins).long(), (choice == labels).double()
        insides = [number == i for i in number.unique()]
        return float(sum(i.double().mean() * abs(confidence[i].mean() - right[i].mean()) for i in insides))

    @mistake("You square the gap. That is another measure, which forgives small gaps; take its size.")
    def squared(probabilities, labels, n_bins):
        confidence, choice = probabilities.max(dim=-1)
        return _weighted(confidence, choice == labels, n_bins, lambda p, r: (p.mean() - r.mean()) ** 2)


def _weighted(confidence, right, n_bins, gap: Callable, stands_for=None) -> float:
    """The mean gap over the bins, each counting as often as it has answers; `stands_for` replaces the confidence."""
    number, p = _by_bin(confidence, n_bins), confidence if stands_for is None else stands_for
    insides = [number == i for i in range(n_bins)]
    return float(
        sum(inside.double().mean() * gap(p[inside], right[inside].double()) for inside in insides if inside.any())
    )


class Answered(NamedTuple):
    """Logits and labels of some questions; a learner reads how many there are."""

    logits: Tensor
    labels: Tensor

    def __repr__(self) -> str:
        return f"{len(self.labels)} questions"


class ChooseTemperature(Exercise):
    """One number, fitted where it may be."""

    prompt = (
        "Write `choose(train, validation, test, temperatures)`. The first three are pairs (logits (N, K), labels (N,)): of "
        "questions that the model was trained on, of new ones for choosing, and of new ones that your result will be judged "
        "by. Return the one of `temperatures` with the lowest mean cross-entropy when the logits are divided by it, on the "
        "data on which it may be chosen."
    )
    difficulty, minutes = 2, 10
    hints = (
        "On what the model has learned by heart it is right and sure. What temperature would suit that?",
        "A number that was chosen on the test says how well one can choose, not how well it will do.",
        "`min(temperatures, key=lambda t: F.cross_entropy(logits / t, labels).item())`, on validation.",
    )
    praise = "correct. One number, chosen on one set, judged on another."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        temperatures = [round(0.3 * 1.2**i, 2) for i in (*range(4, 14), *range(4))]

        def answers(true_temperature, N=1500, K=5):
            logits = 3 * torch.randn(N, K, generator=generator)
            p = (logits / true_temperature).softmax(-1)
            return Answered(logits, torch.multinomial(p, 1, generator=generator)[:, 0])

        def mixed(*true_temperatures):
            return Answered(*map(torch.cat, zip(*map(answers, true_temperatures), strict=True)))

        return [
            (answers(0.55), answers(2.2), answers(1.3), temperatures),
            (answers(0.55), mixed(0.6, 4.0), answers(2.6), temperatures),
        ]

    @solution
    def choose(train, validation, test, temperatures):
        logits, labels = validation
        losses = [torch.nn.functional.cross_entropy(logits / t, labels).item() for t in temperatures]
        return temperatures[losses.index(min(losses))]

    @mistake(
        "You choose on the training data. The model knows them by heart, so the number that suits them makes it *more* "
        "sure of what it does not know."
    )
    def on_train(train, validation, test, temperatures):
        return min(temperatures, key=lambda t: F.cross_entropy(train[0] / t, train[1]).item())

    @mistake(
        "You choose on the test. The result would be reported on the data that it was made for, and nobody would know how it "
        "does on new ones."
    )
    def on_test(train, validation, test, temperatures):
        return min(temperatures, key=lambda t: F.cross_entropy(test[0] / t, test[1]).item())

    @mistake("You choose on validation and test together. Whatever the test takes part in, it cannot judge.")
    def on_both(train, validation, test, temperatures):
        logits, labels = (torch.cat(parts) for parts in zip(validation, test, strict=True))
        return min(temperatures, key=lambda t: F.cross_entropy(logits / t, labels).item())

    @mistake(
        "You look for the highest accuracy. Every temperature has the same one, for the likeliest choice stays the likeliest; "
        "so yours is simply the first of the list."
    )
    def most_accurate(train, validation, test, temperatures):
        return temperatures[0]

    @mistake(
        "You choose by the calibration error. It agrees with the cross-entropy where one temperature suits all questions; "
        "where it does not, the two part, and the prompt asks for the lowest mean cross-entropy."
    )
    def best_calibrated(train, validation, test, temperatures):
        logits, labels = validation
        return min(temperatures, key=lambda t: CalibrationError.solution((logits / t).softmax(-1), labels, 10))

    @mistake("You multiply by the temperature. Logits are divided by it: above 1 must make the model less sure.")
    def multiplies(train, validation, test, temperatures):
        return min(temperatures, key=lambda t: F.cross_entropy(validation[0] * t, validation[1]).item())

    @mistake("You return the temperature with the *highest* loss. The lowest cross-entropy is the best.")
    def worst(train, validation, test, temperatures):
        return max(temperatures, key=lambda t: F.cross_entropy(validation[0] / t, validation[1]).item())


class AnswerTheSurest(Exercise):
    """What is wrong among the answers that are given."""

    prompt = (
        "Write `risk(confidence, right, coverage)`: two lists, the confidence of each answer and whether it is right. The "
        "surest `round(coverage * N)` of the N answers are given, at least one; the others are withheld. Return the "
        "share of wrong ones among those that are given. No two answers are equally sure."
    )
    difficulty, minutes = 1, 8
    hints = (
        "Sort by confidence, the surest first.",
        "`sorted(zip(confidence, right), reverse=True)[:given]`. Which of those are wrong?",
    )
    praise = "correct. Withheld answers are not wrong, and not right either: report the coverage beside the risk."

    @classmethod
    def probes(cls, seed):
        draw = random.Random(seed)
        probes = []
        for n, coverage in ((8, 0.4), (8, 1.0), (10, 0.01)):
            confidence = draw.sample(range(1, 100), n)
            right = [draw.random() * 100 < 0.25 * value + 35 for value in confidence]
            right[confidence.index(max(confidence))] = False
            probes.append(([value / 100 for value in confidence], right, coverage))
        rounded_up = [0.9, 0.72, 0.97, 0.96, 0.84, 0.91, 0.93, 0.98]
        return [*probes, (rounded_up, [True, False, True, False, True, True, False, True], 0.45)]

    @solution
    def risk(confidence, right, coverage):
        given = max(1, round(coverage * len(right)))
        surest = sorted(zip(confidence, right, strict=True), reverse=True)[:given]
        return sum(not correct for _, correct in surest) / given

    @mistake("You divide by all questions. Who answers one question, wrongly, is then wrong in hardly any case.")
    def of_all(confidence, right, coverage):
        given = max(1, round(coverage * len(right)))
        surest = sorted(zip(confidence, right, strict=True), reverse=True)[:given]
        return sum(not correct for _, correct in surest) / len(right)

    @mistake("You give the *least* sure answers: sort from the highest confidence down.")
    def least_sure(confidence, right, coverage):
        given = max(1, round(coverage * len(right)))
        return sum(not correct for _, correct in sorted(zip(confidence, right, strict=True))[:given]) / given

    @mistake("You return the share of *right* answers. Risk counts the wrong ones.")
    def accuracy(confidence, right, coverage):
        given = max(1, round(coverage * len(right)))
        return sum(correct for _, correct in sorted(zip(confidence, right, strict=True), reverse=True)[:given]) / given

    @mistake("You give the first answers of the list, however sure they are. Sort by confidence first.")
    def unsorted(confidence, right, coverage):
        given = max(1, round(coverage * len(right)))
        return sum(not correct for correct in right[:given]) / given

    @mistake(
        "You use the coverage as a threshold on the confidence. Half of the answers need not have a confidence above one half."
    )
    def as_threshold(confidence, right, coverage):
        given = [correct for p, correct in zip(confidence, right, strict=True) if p >= coverage]
        return sum(not correct for correct in given) / max(1, len(given))

    @mistake(
        "You use the coverage as a threshold on the confidence. At a coverage of 1 nothing is sure enough: you give none, and "
        "divide by 0. All answers are to be given there."
    )
    def as_threshold_of_nobody(confidence, right, coverage):
        given = [correct for p, correct in zip(confidence, right, strict=True) if p >= coverage]
        return sum(not correct for correct in given) / len(given)

    @mistake(
        "You use 1 - coverage as a threshold on the confidence. That gives the wanted number of answers only if their "
        "confidences are spread evenly from 0 to 1. Count the surest instead."
    )
    def as_threshold_turned_round(confidence, right, coverage):
        given = [correct for p, correct in zip(confidence, right, strict=True) if p >= 1 - coverage]
        return sum(not correct for correct in given) / max(1, len(given))

    @mistake("You cut the number of answers off where the prompt rounds it: of 3.6 answers 4 are given.")
    def cuts_off(confidence, right, coverage):
        given = max(1, int(coverage * len(right)))
        return sum(not r for _, r in sorted(zip(confidence, right, strict=True), reverse=True)[:given]) / given

    @mistake("At a small coverage you give no answer at all. At least one is to be given, the surest.")
    def gives_none(confidence, right, coverage):
        given = round(coverage * len(right))
        surest = sorted(zip(confidence, right, strict=True), reverse=True)[:given]
        return sum(not correct for _, correct in surest) / max(1, given)

    @mistake("You count the wrong answers and do not divide. A risk is a share from 0 to 1.")
    def counted(confidence, right, coverage):
        given = max(1, round(coverage * len(right)))
        return float(sum(not r for _, r in sorted(zip(confidence, right, strict=True), reverse=True)[:given]))


class JudgeClaim(Exercise):
    """Supported, contradicted, or not found."""

    prompt = (
        "Write `judge(claim, evidence)`: the claim is a triple (who, relation, value), the evidence a list of such triples. "
        "Everybody has one value of each relation. Return `'supported'` when the evidence states the claim, "
        "`'contradicted'` when it states another value for the same person and relation, also if it states the "
        "claim besides, and `'not found'` when it is silent."
    )
    difficulty, minutes = 1, 8
    hints = (
        "What of the evidence speaks about this person *and* this relation at all?",
        "Collect its values: `{v for w, r, v in evidence if (w, r) == claim[:2]}`. There are three cases.",
    )
    praise = "correct. *Not found* is a verdict of its own: silence is no proof, in either direction."

    @classmethod
    def probes(cls, seed):
        draw = random.Random(seed)
        ana, bo, cleo = draw.sample(("ana", "boris", "clara", "dario", "elif"), 3)
        evidence = [
            (ana, "city", "oslo"), (bo, "city", "lima"), (ana, "job", "judge"), (bo, "job", "nurse"),
            (cleo, "city", "oslo"), (cleo, "city", "turin"), (cleo, "likes", "oslo"),
        ]  # fmt: skip
        claims = [
            (ana, "city", "oslo"), (ana, "city", "lima"), (cleo, "city", "oslo"), (cleo, "city", "turin"),
            (bo, "likes", "lima"), (bo, "likes", "oslo"),
        ]  # fmt: skip
        return [(claim, evidence) for claim in claims]

    @solution
    def judge(claim, evidence):
        values = {value for who, relation, value in evidence if (who, relation) == claim[:2]}
        if not values:
            return "not found"
        return "supported" if values == {claim[2]} else "contradicted"

    @mistake(
        "You call a claim contradicted when nothing speaks of it. The evidence is silent about most true things; say `'not "
        "found'`."
    )
    def closed_world(claim, evidence):
        values = {value for who, relation, value in evidence if (who, relation) == claim[:2]}
        return "supported" if values == {claim[2]} else "contradicted"

    @mistake("You call a claim supported as soon as one piece states it, though another states the opposite.")
    def any_support(claim, evidence):
        values = {value for who, relation, value in evidence if (who, relation) == claim[:2]}
        if not values:
            return "not found"
        return "supported" if claim[2] in values else "contradicted"

    @mistake(
        "You say contradicted only when the evidence disagrees with itself. One piece with another value for the same person and "
        "relation is enough."
    )
    def two_values_needed(claim, evidence):
        values = {value for who, relation, value in evidence if (who, relation) == claim[:2]}
        if len(values) > 1:
            return "contradicted"
        return "supported" if values == {claim[2]} else "not found"

    @mistake("You look at the first piece of evidence on the matter only. A later one may say something else.")
    def first_only(claim, evidence):
        for who, relation, value in evidence:
            if (who, relation) == claim[:2]:
                return "supported" if value == claim[2] else "contradicted"
        return "not found"

    @mistake(
        "You do not look at *who* it is about. Evidence about somebody else supports nothing; this is how a citation looks "
        "right and is wrong."
    )
    def about_anybody(claim, evidence):
        values = {value for _, relation, value in evidence if relation == claim[1]}
        if not values:
            return "not found"
        return "supported" if claim[2] in values else "contradicted"

    @mistake(
        "What another person has supports your claim. You ask about whom it is when you look for a contradiction, and forget it when "
        "you look for support."
    )
    def supported_by_anybody(claim, evidence):
        values = {value for who, relation, value in evidence if (who, relation) == claim[:2]}
        if values - {claim[2]}:
            return "contradicted"
        return "supported" if any(piece[1:] == claim[1:] for piece in evidence) else "not found"

    @mistake("You do not look at the relation. Who likes oslo need not live there.")
    def any_relation(claim, evidence):
        values = {value for who, _, value in evidence if who == claim[0]}
        if not values:
            return "not found"
        return "supported" if claim[2] in values else "contradicted"

    @mistake(
        "You count how many of the three parts agree. Two of three is what a claim about the wrong person or with the wrong "
        "value has, too."
    )
    def two_of_three(claim, evidence):
        overlap = max(sum(a == b for a, b in zip(claim, piece, strict=True)) for piece in evidence)
        return "supported" if overlap >= 2 else "not found"


class WatermarkScore(Exercise):
    """How many more green words than by chance."""

    prompt = (
        "Write `z(tokens, green, share)`: `green[i]` is the set of tokens that are green after token i, a share `share` of all. "
        "Take the pairs (token, next token) of the text, each *different* pair once. Of n such pairs g have a green "
        "second token. Return (g − share · n) / √(n · share · (1 − share))."
    )
    difficulty, minutes = 2, 10
    hints = (
        "All pairs: `set(zip(tokens[:-1], tokens[1:]))`. The first token is in no pair as the second.",
        "A pair (a, b) is green when `b in green[a]`.",
    )
    praise = "correct. In text without the mark it scatters around 0 by about 1: above 4 chance is a poor explanation."

    @classmethod
    def probes(cls, seed):
        draw = random.Random(seed)
        probes = []
        for n_vocab, share, length in ((8, 0.375, 40),):
            green = [set(draw.sample(range(n_vocab), round(share * n_vocab))) for _ in range(n_vocab)]
            tokens = [draw.randrange(n_vocab) for _ in range(length)]
            probes.append((tokens + tokens[: length // 2], green, share))
        return [*probes, ([0, 1, 2, 1, 0, 2], [{1}, {2}, {2}], 0.4)]  # the last pair is a new one

    @solution
    def z(tokens, green, share):
        pairs = {(tokens[i], tokens[i + 1]) for i in range(len(tokens) - 1)}
        n, found = len(pairs), sum(second in green[first] for first, second in pairs)
        return (found - share * n) / (n * share * (1 - share)) ** 0.5

    @mistake(
        "You count a pair as often as it occurs. Copies are not new chances: a text that repeats itself would look "
        "marked, or the opposite."
    )
    def counts_repeats(tokens, green, share):
        n = len(tokens) - 1
        found = sum(b in green[a] for a, b in pairwise(tokens))
        return (found - share * n) / (n * share * (1 - share)) ** 0.5

    @mistake("Your last pair is missing. Of T tokens there are T - 1 pairs.")
    def without_the_last_pair(tokens, green, share):
        return WatermarkScore.solution(tokens[:-1], green, share)

    @mistake("You ask whether the *first* token of a pair is green after the second. The earlier one chooses the set.")
    def turned_round(tokens, green, share):
        pairs = set(pairwise(tokens))
        n, found = len(pairs), sum(first in green[second] for first, second in pairs)
        return (found - share * n) / (n * share * (1 - share)) ** 0.5

    @mistake("You return the share of green words. Without the number of words it does not say what chance could do.")
    def only_the_share(tokens, green, share):
        pairs = set(pairwise(tokens))
        return sum(second in green[first] for first, second in pairs) / len(pairs)

    @mistake("You take it that half of the words are green. Use `share`.")
    def always_half(tokens, green, share):
        pairs = set(pairwise(tokens))
        n, found = len(pairs), sum(second in green[first] for first, second in pairs)
        return (found - n / 2) / (n / 4) ** 0.5

    @mistake("Your standard deviation lacks the (1 − share): that of a count is √(n · share · (1 − share)).")
    def other_deviation(tokens, green, share):
        pairs = set(pairwise(tokens))
        n, found = len(pairs), sum(second in green[first] for first, second in pairs)
        return (found - share * n) / (n * share) ** 0.5

    @mistake("You divide by the variance. A number of standard deviations is divided by their size: take the root.")
    def by_the_variance(tokens, green, share):
        pairs = set(pairwise(tokens))
        n, found = len(pairs), sum(second in green[first] for first, second in pairs)
        return (found - share * n) / (n * share * (1 - share))


class AssessLoanLetters(Exercise):
    """An impact assessment that leaves nothing out."""

    prompt = (
        "Assess the third case, `case('finance')`: friendly reasons for refused loans. Write `assess(text)`, which is given "
        "the case's text and returns a dictionary with the fields of `FIELDS`, in your own words. The checker knows the rubric, and names what is "
        "missing: it judges whether your assessment is complete, not whether it is right."
    )
    difficulty, minutes = 2, 30
    hints = (
        "Begin with the people: who is concerned who never sees the system? What is the worst that a convincing, wrong reason "
        "does to them?",
        "Each severe harm needs an entry in `measures` and one in `safeguards` that name it by its id. A measure has a "
        "metric, a bound, and at least two groups.",
        "`print(as_text(model_answer('finance')))` shows one complete assessment of many.",
    )
    praise = "complete. Now let somebody whom the letters concern read it."

    @classmethod
    def probes(cls, seed):
        return [(case("finance"),)]

    @classmethod
    def observe(cls, answer, probe):
        return tuple(gaps(answer(*probe)))

    @classmethod
    def verify(cls, answer, seed=0):
        missing = cls.observe(answer, cls.probes(seed)[0])
        if missing:
            raise Wrong("not complete: " + "; ".join(RUBRIC[name][0] for name in missing) + ".")

    @solution
    def assess(text):
        from llmcourse.assessments import model_answer  # as_text(...) shows it

        return model_answer("finance")

    @mistake(
        "You think of those who use the system, and of nobody else. Those whom a wrong reason harms most never see it: name "
        "them."
    )
    def users_only(text):
        form = model_answer("finance")
        harms = [harm | {"who": "bank staff"} for harm in form["harms"]]
        return form | {"affected": ["bank staff"], "harms": harms}

    @mistake(
        "Your measures are averages over everybody, or their groups are no list. An average hides whom the system fails: take "
        "them for two groups or more."
    )
    def averages(text):
        form = model_answer("finance")
        return form | {"measures": [one | {"groups": ["everybody"]} for one in form["measures"]]}

    @mistake(
        "A severe harm has no measure that names it (`harm` holds its id). What nobody counts is noticed by those whom it happens "
        "to, and by no one else."
    )
    def uncounted(text):
        form = model_answer("finance")
        return form | {"measures": form["measures"][:1]}

    @mistake("A measure has no bound. Decide before you measure at which number you would stop.")
    def without_bounds(text):
        form = model_answer("finance")
        return form | {"measures": [one | {"bound": ""} for one in form["measures"]]}

    @mistake(
        "A severe harm has no safeguard that names it (`harm` holds its id). To have noticed it is not to have done something about it."
    )
    def unguarded(text):
        form = model_answer("finance")
        return form | {"safeguards": form["safeguards"][:1]}

    @mistake(
        "Your human in the loop cannot overrule the system, or has no time to: that is a signature, and no oversight. `minutes` is "
        "a number, and `can_overrule` is True or False."
    )
    def rubber_stamp(text):
        form = model_answer("finance")
        return form | {"oversight": {"who": "a credit officer", "minutes": 0, "can_overrule": False}}

    @mistake("Nobody is told that a program wrote the reasons. Who does not know it cannot doubt it.")
    def undisclosed(text):
        return model_answer("finance") | {"disclosure": ""}

    @mistake(
        "Nothing says how a result is contested, and by when it is answered, as a table with `how` and `days`, a number. People "
        "need a way back."
    )
    def no_way_back(text):
        return model_answer("finance") | {"redress": {}}

    @mistake("The system has no limits. Name at least one question for which it must not be used.")
    def unlimited(text):
        return model_answer("finance") | {"limits": []}

    @mistake(
        "Nobody owns this, or nothing triggers a second look: the table has `owner` and `after`. Models, people and laws change."
    )
    def for_ever(text):
        return model_answer("finance") | {"review": {}}
