"""Exercises of chapter 18: a law with a floor, the size to choose, the excess, and what limits a model."""

import math
import random

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 18


def _line(x, y):
    """Slope and intercept by least squares."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    return slope, mean_y - slope * mean_x


class FitAboveTheFloor(Exercise):
    """A scaling law as a straight line, once the floor is taken away."""

    prompt = (
        "Write `fit(sizes, losses, floor)`: the pair (A, alpha) for which `loss = floor + A / size**alpha` fits best, as the "
        "straight line of `ln(loss - floor)` over `ln(size)`, by least squares. alpha is positive when larger models lose less."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Take the floor away first, then the logarithm of both: ln(loss - floor) = ln A - alpha · ln size.",
        "The slope of a line by least squares: sum((x - mean x)(y - mean y)) / sum((x - mean x)²).",
        "alpha is minus the slope; A is `math.exp` of the intercept, mean y - slope · mean x.",
    )
    praise = "correct. The floor makes the difference between a line and a curve."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        sizes = [1000.0, 3000.0, 8000.0, 20000.0, 90000.0]

        def losses(floor, factor, alpha):
            return [floor + factor * n**-alpha * math.exp(generator.uniform(-0.05, 0.05)) for n in sizes]

        return [(sizes, losses(2.4, 900.0, 0.9), 2.4), (sizes[1:], losses(1.1, 40.0, 0.4)[1:], 1.1)]

    @solution
    def fit(sizes, losses, floor):
        x = [math.log(size) for size in sizes]
        y = [math.log(loss - floor) for loss in losses]
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
        return math.exp(mean_y - slope * mean_x), -slope

    @mistake(
        "You leave the floor in: you fit ln(loss), not ln(loss - floor). Such a law says that a large enough model loses "
        "nothing, which the entropy of the text forbids."
    )
    def forces_floor_to_zero(sizes, losses, floor):
        slope, start = _line([math.log(n) for n in sizes], [math.log(loss) for loss in losses])
        return math.exp(start), -slope

    @mistake(
        "You fit a line to the losses and sizes themselves. A power law is straight only when both are logarithms."
    )
    def fits_in_linear_space(sizes, losses, floor):
        slope, start = _line(sizes, [loss - floor for loss in losses])
        return start, -slope

    @mistake(
        "You take the logarithm of the size only. A / size**alpha is straight in ln size when the loss above the floor is a "
        "logarithm too."
    )
    def one_logarithm(sizes, losses, floor):
        slope, start = _line([math.log(n) for n in sizes], [loss - floor for loss in losses])
        return start, -slope

    @mistake("The line falls, so its slope is negative, and alpha is minus the slope.")
    def sign_of_alpha(sizes, losses, floor):
        slope, start = _line([math.log(n) for n in sizes], [math.log(loss - floor) for loss in losses])
        return math.exp(start), slope

    @mistake("The intercept of the line is ln A. A itself is `math.exp` of it.")
    def factor_left_as_logarithm(sizes, losses, floor):
        slope, start = _line([math.log(n) for n in sizes], [math.log(loss - floor) for loss in losses])
        return start, -slope

    @mistake(
        "You draw the line through the first and the last point only. Least squares lets all points speak: one unlucky run "
        "at an end would turn your line."
    )
    def first_and_last(sizes, losses, floor):
        x = [math.log(sizes[0]), math.log(sizes[-1])]
        slope, start = _line(x, [math.log(losses[0] - floor), math.log(losses[-1] - floor)])
        return math.exp(start), -slope


class ComputeOptimalSize(Exercise):
    """How large a model, and on how many tokens, for a given amount of compute."""

    prompt = (
        "Write `optimum(flops, A, alpha, B, beta)`: the pair (N, D) of parameters and tokens with `6 · N · D = flops` at which "
        "`A / N**alpha + B / D**beta` is smallest."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Put D = flops / (6 N) into the sum. Where is its derivative by N zero?",
        "There, alpha · A / N**alpha = beta · B / D**beta.",
        "N = (alpha · A / (beta · B)) ** (1 / (alpha + beta)) · (flops / 6) ** (beta / (alpha + beta)).",
    )
    praise = "correct. A fast gain from data (a large beta) lets more of the compute go into the model."

    @classmethod
    def probes(cls, seed):
        return [(1e18 * (1 + seed), 482.0, 0.35, 2085.0, 0.37), (6e12, 900.0, 0.9, 50.0, 0.3)]

    @solution
    def optimum(flops, A, alpha, B, beta):
        balance = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        n = balance * (flops / 6) ** (beta / (alpha + beta))
        return n, flops / (6 * n)

    @mistake(
        "You forgot the 6: each parameter takes 2 operations a token forward and 4 backward, so N · D = flops / 6."
    )
    def without_the_six(flops, A, alpha, B, beta):
        n = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * flops ** (beta / (alpha + beta))
        return n, flops / n

    @mistake(
        "The exponents are the other way round: N grows as flops ** (beta / (alpha + beta)). The faster size pays off, the "
        "sooner it has done its part."
    )
    def swapped_exponents(flops, A, alpha, B, beta):
        n = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (alpha / (alpha + beta))
        return n, flops / (6 * n)

    @mistake(
        "You make the two terms equal: A / N**alpha = B / D**beta. What must be equal is what one per cent more of each would gain, "
        "alpha · A / N**alpha = beta · B / D**beta."
    )
    def equal_terms(flops, A, alpha, B, beta):
        n = (A / B) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
        return n, flops / (6 * n)

    @mistake("N and D are right, and the wrong way round: return (N, D).")
    def returns_tokens_first(flops, A, alpha, B, beta):
        n = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
        return flops / (6 * n), n

    @mistake(
        "You took 20 tokens a parameter. That is the optimum of one published fit near one amount of compute; here the fit "
        "is given, and it says otherwise."
    )
    def twenty_tokens_a_parameter(flops, A, alpha, B, beta):
        n = math.sqrt(flops / 120)
        return n, 20 * n

    @mistake("You split the compute evenly, N = D. Nothing in the law says that a parameter is worth a token.")
    def as_many_tokens_as_parameters(flops, A, alpha, B, beta):
        return math.sqrt(flops / 6), math.sqrt(flops / 6)


class Excess(Exercise):
    """A loss without the luck of the sample."""

    prompt = (
        "Write `excess(probabilities, true_probabilities)`: two rows of equal length, for each word of a sample the "
        "probability that a model gave it, and the one that the text's own rule gives it. Return by how many nats a word the "
        "model's mean loss lies above the rule's, on these same words."
    )
    difficulty, minutes = 1, 8
    hints = (
        "The loss of a word is -ln of its probability. Do it for both rows.",
        "Take the mean of each, or the mean of the differences: it is the same.",
    )
    praise = "correct. A word that surprises everybody counts in both means, and falls out."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        true = [generator.choice((0.32, 0.24, 0.08, 0.01)) for _ in range(9)]
        given = [p * generator.uniform(0.3, 1.1) for p in true]
        return [(given, true), ([0.4, 0.3], [0.32, 0.24])]

    @solution
    def excess(probabilities, true_probabilities):
        pairs = zip(probabilities, true_probabilities, strict=True)
        return sum(math.log(true) - math.log(given) for given, true in pairs) / len(probabilities)

    @mistake("You add the surprises up. A nat a word is a mean: divide by the number of words.")
    def sum_for_mean(probabilities, true_probabilities):
        return sum(math.log(t / p) for p, t in zip(probabilities, true_probabilities, strict=True))

    @mistake(
        "The sign is the other way round: a model that knows less than the rule lies above it, and has a positive excess."
    )
    def other_sign(probabilities, true_probabilities):
        pairs = zip(probabilities, true_probabilities, strict=True)
        return sum(math.log(p / t) for p, t in pairs) / len(probabilities)

    @mistake(
        "You cut off at 0. On a small sample a model can be lucky and lie below the rule; to hide that would make the mean over "
        "many samples too large."
    )
    def never_below_zero(probabilities, true_probabilities):
        return max(0.0, Excess.solution(probabilities, true_probabilities))

    @mistake(
        "You report the model's loss. What the text itself surprises is still in it, and with it the luck of the sample."
    )
    def loss_of_the_model(probabilities, true_probabilities):
        return -sum(map(math.log, probabilities)) / len(probabilities)

    @mistake(
        "You compare the probabilities themselves. A loss is a surprise, -ln p: from 0.02 to 0.01 costs as much as from 0.8 to 0.4."
    )
    def difference_of_probabilities(probabilities, true_probabilities):
        pairs = zip(probabilities, true_probabilities, strict=True)
        return sum(t - p for p, t in pairs) / len(probabilities)

    @mistake("That is in bits. The losses of this course are in nats: the natural logarithm.")
    def in_bits(probabilities, true_probabilities):
        pairs = zip(probabilities, true_probabilities, strict=True)
        return sum(math.log2(t / p) for p, t in pairs) / len(probabilities)

    @mistake(
        "You weight each word by its true probability. That is right for a sum over all words that could stand there; these "
        "are a sample, in which likely words already come more often."
    )
    def weighted_again(probabilities, true_probabilities):
        pairs = zip(probabilities, true_probabilities, strict=True)
        return sum(t * math.log(t / p) for p, t in pairs) / sum(true_probabilities)


class WhatLimits(Exercise):
    """Size, training, or the text: what keeps a loss where it is?"""

    prompt = (
        "Write `limit(half, full, floor, larger)`: four losses in nats a word. `full` is that of a model at the end of its "
        "training and `half` of the same model trained for half the steps; `larger` is that of a model of twice the size, trained like "
        "`full`; `floor` is the entropy of the text. Return `'text'` when full is at most 0.02 above the floor. Otherwise "
        "compare what is won, as shares of what lies above the floor: by training, (half - full) / (half - floor), and by "
        "size, (full - larger) / (full - floor). Return `'training'` when the first is the larger one, else `'size'`."
    )
    difficulty, minutes = 1, 8
    hints = (
        "Begin with the text: `if full - floor <= 0.02`.",
        "Both shares are taken of what lay above the floor *before* the change.",
    )
    praise = "correct. The same loss can have three causes, and each asks for something else."

    @classmethod
    def probes(cls, seed):
        floor = 2.4 + 0.1 * seed
        cases = [  # half, full and larger above the floor
            (1.00, 0.70, 0.55), (0.09, 0.03, 0.001), (0.30, 0.299, 0.298), (0.30, 0.20, 0.145), (0.06, 0.018, 0.017),
        ]  # fmt: skip
        return [(floor + half, floor + full, floor, floor + larger) for half, full, larger in cases]

    @solution
    def limit(half, full, floor, larger):
        if full - floor <= 0.02:
            return "text"
        by_training = (half - full) / (half - floor)
        by_size = (full - larger) / (full - floor)
        return "training" if by_training > by_size else "size"

    @mistake(
        "You compare nats, or divide both by the same number, or by the whole loss, which hardly changes. Near the floor there are "
        "few nats to win by anything; compare shares of what lay above the floor before each change."
    )
    def in_nats(half, full, floor, larger):
        if full - floor <= 0.02:
            return "text"
        return "training" if half - full > full - larger else "size"

    @mistake(
        "You divide what size wins by what it leaves above the floor. A share is taken of what lay there before the change: who wins "
        "half of it has won one half, not one."
    )
    def of_what_is_left(half, full, floor, larger):
        if full - floor <= 0.02:
            return "text"
        return "training" if (half - full) / (half - floor) > (full - larger) / (larger - floor) else "size"

    @mistake("You ask how far the *half* training is from the floor. Where the text is all that limits, `full` tells.")
    def asks_the_half(half, full, floor, larger):
        return (
            "text" if half - floor <= 0.02 else WhatLimits.solution(half, full + (full - floor <= 0.02), floor, larger)
        )

    @mistake(
        "You say 'text' too seldom, or never. At the floor neither size nor training can win anything worth having."
    )
    def forgets_the_floor(half, full, floor, larger):
        return "training" if (half - full) / (half - floor) > (full - larger) / (full - floor) else "size"

    @mistake("It is the other way round: where longer training still wins the larger share, training is what limits.")
    def swapped(half, full, floor, larger):
        if full - floor <= 0.02:
            return "text"
        return "size" if (half - full) / (half - floor) > (full - larger) / (full - floor) else "training"

    @mistake(
        "You call any model 'text' that longer training no longer improves. A small model comes to rest far above the floor."
    )
    def rest_is_the_floor(half, full, floor, larger):
        if (half - full) / (half - floor) < 0.05:
            return "text"
        return "training" if (half - full) / (half - floor) > (full - larger) / (full - floor) else "size"
