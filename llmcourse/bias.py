"""Bias, measured: how far a model ties a word to a group, whether a figure is more than luck, and what fair could mean.

Four parts: scores of a language model (log-odds, association test), intervals by the bootstrap, counterfactual
augmentation, and criteria of fairness for decisions about groups. All are pure functions of numbers or words.

Letters: B prompts, V vocabulary, K choices, N items, C width of a vector.
"""

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

Item = TypeVar("Item")
MAX_EXACT = 20_000  # partitions that a permutation test lists one by one; beyond that it draws as many
TINY = 1e-9  # sums in another order differ in their last digits; a tie must stay a tie


def choice_probabilities(logits: Float[Tensor, "B V"], choices: Sequence[int]) -> Float[Tensor, "B K"]:
    """P(choice) among the choices alone, so that each row sums to 1: what else could be said takes no part.

    A prompt after which a third word is likely leaves little to every choice. Without this step it would look biased.
    """
    if not choices or not 0 <= min(choices) <= max(choices) < logits.shape[-1]:
        raise ValueError(f"choices={list(choices)}: give tokens from 0 to {logits.shape[-1] - 1}, at least one")
    return logits[:, list(choices)].softmax(dim=-1)


def log_odds_bias(p: Float[Tensor, "B 2"], base: Float[Tensor, "B 2"]) -> float:
    """How far a word moves the odds of the first choice against the second, in nats: 0 is not at all.

    p: the probabilities of the two choices after each prompt that holds the word, base: after the same prompts with a
    neutral word in its place. The mean of log(p1 / p2) - log(base1 / base2) over the prompts. Raises ValueError for a
    probability of 0. After Kurita et al. (2019), who hide the word instead of exchanging it.
    """
    if p.min() <= 0 or base.min() <= 0:
        raise ValueError("log-odds of a probability of 0 are infinite; use a model that excludes nothing")
    return ((p[:, 0] / p[:, 1]).log() - (base[:, 0] / base[:, 1]).log()).mean().item()


class Association(NamedTuple):
    """The result of `association_test`."""

    effect: float  # in standard deviations, from -2 to 2; positive when X goes with A, and Y with B
    p_value: float  # the share of partitions into sets of these sizes that are tied as strongly, or more


def association_test(
    x: Float[Tensor, "N C"], y: Float[Tensor, "N C"], a: Float[Tensor, "M C"], b: Float[Tensor, "K C"], *, seed: int = 0
) -> Association:
    """Are the vectors x nearer to a, and y nearer to b, than if the labels x and y had been dealt by chance?

    A vector's association is its mean cosine with a less that with b; the effect is the difference of the mean
    associations of x and y, over the standard deviation (divided by 2N - 1) of all of them. The p-value is one-sided:
    all partitions are tried, or `MAX_EXACT` random ones where there are more. Rows must be independent items: averages over templates,
    not one row a template. Word vectors: Caliskan et al. (2017); states of sentences: May et al. (2019).
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"x has {len(x)} vectors and y {len(y)}; give as many of both, at least 2")
    rows = F.normalize(torch.cat([x, y]).double(), dim=-1)
    a, b = (F.normalize(part.double(), dim=-1) for part in (a, b))
    association = (rows @ a.T).mean(dim=1) - (rows @ b.T).mean(dim=1)
    n, spread = len(x), association.std()
    if spread < TINY:
        raise ValueError("all vectors are tied alike: there is no effect to measure")
    effect = (association[:n].mean() - association[n:].mean()) / spread
    values, found = association.tolist(), association[:n].sum().item()
    if math.comb(2 * n, n) <= MAX_EXACT:
        sums = [sum(values[i] for i in chosen) for chosen in combinations(range(2 * n), n)]
    else:
        draw = random.Random(seed)
        sums = [found, *(sum(draw.sample(values, n)) for _ in range(MAX_EXACT))]  # the labels as given count too
    return Association(effect.item(), sum(total >= found - TINY for total in sums) / len(sums))


def bootstrap_interval(
    items: Sequence[Item],
    statistic: Callable[[Sequence[Item]], float] = fmean,
    *,
    level: float = 0.95,
    n_samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Between which numbers would the statistic lie, had other items been drawn? The percentile interval.

    Draws as many items as there are, with replacement, again and again, and cuts off (1 - level) / 2 of the results on
    either side. An item is what was drawn independently: a sentence with all its tokens, not a token. Covers a little less
    than `level` for few items. Source: Efron & Tibshirani (1993), chapter 13.
    """
    if len(items) < 2 or not 0 < level < 1 or n_samples < 1:
        raise ValueError(
            f"{len(items)} items, level={level}, n_samples={n_samples}: give 2 items, 0 < level < 1, a sample"
        )
    draw = random.Random(seed)
    results = torch.tensor(
        [statistic(draw.choices(items, k=len(items))) for _ in range(n_samples)], dtype=torch.float64
    )
    low, high = results.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2]).double()).tolist()
    return low, high


SWAPS = {"he": "she", "she": "he", "him": "her", "himself": "herself", "herself": "himself"}  # the words of one meaning


def counterfactual(
    words: Sequence[str], *, nouns: Collection[str] = (), names: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The same sentence about somebody of the other pronoun; done twice, it is the sentence again, unless `him` stands before
    one of the `nouns`, or `hers` does.

    `her` is two words in one: before one of the `nouns` it owns, and becomes `his`, elsewhere it becomes `him`; `his`
    becomes `her` before a noun and `hers` elsewhere. names: pairs of people who change places with each other; without
    them a name keeps its place and gets the other pronoun, and a fact about that person is lost. Sources: Lu et al.
    (2018), Zmigrod et al. (2019).
    """
    pairs = SWAPS | dict(names or {}) | {second: first for first, second in (names or {}).items()}
    swapped = []
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word in ("her", "his", "hers"):
            owns = following in nouns
            swapped.append({"her": "his" if owns else "him", "his": "her" if owns else "hers", "hers": "his"}[word])
        else:
            swapped.append(pairs.get(word, word))
    return tuple(swapped)


def with_counterfactuals(
    sentences: Iterable[Sequence[str]], *, nouns: Collection[str] = (), names: Mapping[str, str] | None = None
) -> Iterator[tuple[str, ...]]:
    """Each sentence and, right behind it, its counterfactual: in every even number of sentences the pronouns balance."""
    for words in sentences:
        yield tuple(words)
        yield counterfactual(words, nouns=nouns, names=names)


class GroupRates(NamedTuple):
    """What became of one group: shares from 0 to 1, NaN where there is nobody to count."""

    n: int
    base_rate: float  # of all, those whose label is 1
    selected: float  # of all, those decided for: demographic parity asks for equal ones
    true_positive: float  # of those with label 1, those decided for: equal opportunity asks for equal ones
    false_positive: float  # of those with label 0, those decided for: equalised odds ask for both to be equal
    precision: float  # of those decided for, those with label 1: predictive parity asks for equal ones


def group_rates(
    labels: Bool[Tensor, "N"], decisions: Bool[Tensor, "N"], groups: Sequence[str]
) -> dict[str, GroupRates]:
    """The rates of each group, in the order in which the groups first appear."""
    if not len(labels) == len(decisions) == len(groups) > 0:
        raise ValueError(f"{len(labels)} labels, {len(decisions)} decisions and {len(groups)} groups: give one each")

    def share(part: Tensor, of: Tensor) -> float:
        return (part & of).sum().item() / of.sum().item() if of.any() else math.nan

    rates = {}
    for group in dict.fromkeys(groups):
        inside = torch.tensor([name == group for name in groups])
        label, decision = labels[inside], decisions[inside]
        everybody = torch.ones_like(label)
        rates[group] = GroupRates(
            n=len(label),
            base_rate=share(label, everybody),
            selected=share(decision, everybody),
            true_positive=share(decision, label),
            false_positive=share(decision, ~label),
            precision=share(label, decision),
        )
    return rates


def rate_gap(rates: Mapping[str, GroupRates], rate: str) -> float:
    """How far the groups lie apart in one rate: the largest less the smallest; NaN where a group has nobody to count."""
    values = [getattr(group, rate) for group in rates.values()]
    return math.nan if any(map(math.isnan, values)) else max(values) - min(values)


def fairness_gaps(rates: Mapping[str, GroupRates]) -> dict[str, float]:
    """How far the groups lie apart by each criterion: 0 is equal, 1 as unequal as can be; NaN where a rate is missing.

    Equalised odds are the larger of two gaps. Sources: demographic parity, Dwork et al. (2012); equal opportunity and
    equalised odds, Hardt et al. (2016); predictive parity, Chouldechova (2017).
    """
    opportunity, alarms = rate_gap(rates, "true_positive"), rate_gap(rates, "false_positive")
    return {
        "demographic parity": rate_gap(rates, "selected"),
        "equal opportunity": opportunity,
        "equalised odds": math.nan if math.isnan(opportunity + alarms) else max(opportunity, alarms),
        "predictive parity": rate_gap(rates, "precision"),
    }


def calibration_by_group(
    labels: Bool[Tensor, "N"], scores: Float[Tensor, "N"] | Int[Tensor, "N"], groups: Sequence[str]
) -> dict[str, dict[float, float]]:
    """{group: {score: share of label 1 among those with that score}}: calibrated where the two are equal.

    For scores of a few values; put others into bins first.
    """
    table: dict[str, dict[float, float]] = {}
    for group in dict.fromkeys(groups):
        inside = torch.tensor([name == group for name in groups])
        of_group = scores[inside]
        table[group] = {
            score.item(): labels[inside][of_group == score].double().mean().item() for score in of_group.unique()
        }
    return table


def implied_false_positive_rate(base_rate: int | float, precision: int | float, true_positive: int | float) -> float:
    """The false-positive rate that follows from three others: there is no freedom left.

    base / (1 - base) · (1 - precision) / precision · true positive. So two groups with different base rates that agree on
    precision and on true positives cannot agree on false positives, unless nobody is decided for wrongly (a
    precision of 1) or nobody who should be is. Source: Chouldechova (2017).
    """
    if not (0 < base_rate < 1 and 0 < precision <= 1 and 0 <= true_positive <= 1):
        raise ValueError(
            f"base_rate={base_rate} and precision={precision} must lie above 0, the first below 1; rates are shares"
        )
    return base_rate / (1 - base_rate) * (1 - precision) / precision * true_positive
