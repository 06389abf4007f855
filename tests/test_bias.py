"""Measures of bias and fairness against counts by hand, formulas and simulation."""

import math
import random
import statistics
from itertools import permutations

import pytest
import torch

from llmcourse.bias import (
    MAX_EXACT,
    association_test,
    bootstrap_interval,
    calibration_by_group,
    choice_probabilities,
    counterfactual,
    fairness_gaps,
    group_rates,
    implied_false_positive_rate,
    log_odds_bias,
    with_counterfactuals,
)
from llmcourse.corpora import occupations as occ


def test_choices_are_compared_among_themselves():
    logits = torch.tensor([[1.0, 2.0, 0.0, 5.0], [0.0, 1.0, -1.0, -3.0]])
    p = choice_probabilities(logits, [1, 2])
    assert torch.allclose(p, torch.tensor([[1.0, math.exp(-2)]] * 2) / (1 + math.exp(-2)))


def test_log_odds_by_hand():
    p, base = torch.tensor([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    assert log_odds_bias(p, base) == pytest.approx((math.log(4) + math.log(4)) / 2)
    assert log_odds_bias(base, base) == 0
    assert log_odds_bias(p.flip(1), base.flip(1)) == pytest.approx(-log_odds_bias(p, base))
    assert log_odds_bias(p * 0.1, base) == pytest.approx(log_odds_bias(p, base), rel=1e-5)  # odds need no normalising
    with pytest.raises(ValueError, match="infinite"):
        log_odds_bias(torch.tensor([[1.0, 0.0]]), base[:1])


def vectors(*angles):
    return torch.tensor([[math.cos(angle), math.sin(angle)] for angle in angles])


def test_association_by_hand_and_its_p_value_over_all_partitions():
    x, y, a, b = vectors(0.1, 0.2), vectors(1.3, 1.5), vectors(0.0), vectors(math.pi / 2)
    result = association_test(x, y, a, b)
    ties = [math.cos(angle) - math.sin(angle) for angle in (0.1, 0.2, 1.3, 1.5)]
    expected = (sum(ties[:2]) - sum(ties[2:])) / 2 / statistics.stdev(ties)
    assert result.effect == pytest.approx(expected)
    assert result.p_value == pytest.approx(1 / 6)  # of the 6 partitions into two pairs, only this one
    assert association_test(y, x, a, b).effect == pytest.approx(-expected)
    assert association_test(y, x, a, b).p_value == 1


def test_the_p_value_is_uniform_when_the_labels_mean_nothing():
    generator, small = torch.Generator().manual_seed(0), 0
    for _ in range(200):
        x, y, a, b = torch.randn(4, 4, 5, generator=generator)
        small += association_test(x, y, a, b).p_value <= 0.1
    assert 8 <= small <= 32  # 20 expected; five standard deviations are 21


def test_many_partitions_are_drawn_and_none_gives_a_p_value_of_zero():
    torch.manual_seed(0)
    x, y = torch.randn(2, 12, 3) + torch.tensor([[[9.0, 0, 0]], [[-9.0, 0, 0]]])
    result = association_test(x, y, torch.tensor([[1.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))
    assert result.p_value == pytest.approx(1 / (MAX_EXACT + 1))


def test_association_refuses_unequal_sets_and_vectors_that_are_all_alike(without_shape_checks):
    with pytest.raises(ValueError, match="as many of both"):
        association_test(vectors(0, 1), vectors(0), vectors(0), vectors(1))
    with pytest.raises(ValueError, match="no effect"):
        association_test(vectors(0.0, 0.0), vectors(0.0, 0.0), vectors(0.0), vectors(1.0))


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "n"), [(0.3, 80), (0.56, 200)])
def test_nineteen_of_twenty_bootstrap_intervals_hold_the_truth(rate, n):
    draw, covered = random.Random(n), 0
    for trial in range(300):
        items = [float(draw.random() < rate) for _ in range(n)]
        low, high = bootstrap_interval(items, n_samples=300, seed=trial)
        covered += low <= rate <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_bootstrap_of_sentences_is_wider_than_of_tokens_when_the_tokens_of_a_sentence_agree():
    draw = random.Random(0)
    documents = [[float(draw.random() < 0.5)] * 10 for _ in range(40)]
    whole = bootstrap_interval(documents, lambda found: sum(map(sum, found)) / sum(map(len, found)))
    tokens = bootstrap_interval([token for document in documents for token in document])
    assert (whole[1] - whole[0]) / (tokens[1] - tokens[0]) == pytest.approx(math.sqrt(10), rel=0.15)


def test_bootstrap_has_the_width_of_theory_is_repeatable_and_grows_with_its_level():
    items = [0.0] * 100 + [1.0] * 100
    low, high = bootstrap_interval(items, n_samples=2000)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 200), rel=0.12)
    assert bootstrap_interval(items) == bootstrap_interval(items)
    assert bootstrap_interval(items, level=0.5)[1] < bootstrap_interval(items, level=0.99)[1]
    for bad in ({"level": 1.0}, {"n_samples": 0}):
        with pytest.raises(ValueError, match="give 2 items"):
            bootstrap_interval(items, **bad)
    with pytest.raises(ValueError, match="1 items"):
        bootstrap_interval([1.0])


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("she lost her key .", "he lost his key ."),
        ("anna thanked her .", "tom thanked him ."),
        ("tom thanked him for his key .", "anna thanked her for her key ."),
        ("the key is hers .", "the key is his ."),
        ("the nurse hurt herself .", "the nurse hurt himself ."),
        ("anna saw tom .", "tom saw anna ."),
        ("it was late .", "it was late ."),
    ],
)
def test_a_counterfactual_swaps_every_word_once_and_twice_gives_the_sentence_back(text, twin):
    swap = lambda words: counterfactual(words, nouns={"key"}, names={"anna": "tom"})  # noqa: E731
    assert swap(text.split()) == tuple(twin.split())
    assert swap(swap(text.split())) == tuple(text.split())


def test_without_names_a_person_keeps_the_name_and_loses_the_pronoun():
    assert counterfactual(("anna", "thought", "she", "slept")) == ("anna", "thought", "he", "slept")


def test_augmented_text_is_even_for_every_occupation_and_keeps_the_facts():
    text = list(with_counterfactuals(occ.corpus(600), nouns={"key"}, names={"anna": "tom"}))
    assert len(text) == 1200
    for occupation in occ.PLANTED:
        said = [words for words in text if occupation in words]
        assert sum("she" in words for words in said) == sum("he" in words for words in said) > 0
    assert set(text) <= set(occ.every_sentence())  # no sentence that the grammar could not say
    assert text[1] == counterfactual(text[0], nouns={"key"}, names={"anna": "tom"})


LABELS = torch.tensor([1, 1, 0, 0, 1, 0, 0, 0]).bool()
DECISIONS = torch.tensor([1, 0, 1, 0, 1, 0, 0, 0]).bool()
GROUPS = ["a"] * 4 + ["b"] * 4


def test_group_rates_and_gaps_by_hand():
    rates = group_rates(LABELS, DECISIONS, GROUPS)
    assert rates["a"] == (4, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert rates["b"] == (4, 0.25, 0.25, 1.0, 0.0, 1.0)
    gaps = fairness_gaps(rates)
    assert gaps == {
        "demographic parity": 0.25,
        "equal opportunity": 0.5,
        "equalised odds": 0.5,
        "predictive parity": 0.5,
    }


def test_a_rate_of_nobody_is_nan_and_sizes_must_agree(without_shape_checks):
    rates = group_rates(LABELS, torch.zeros(8).bool(), GROUPS)
    assert math.isnan(rates["a"].precision) and math.isnan(fairness_gaps(rates)["predictive parity"])
    no_label = group_rates(torch.zeros(8).bool(), DECISIONS, GROUPS)
    assert math.isnan(fairness_gaps(no_label)["equalised odds"])
    with pytest.raises(ValueError, match="give one each"):
        group_rates(LABELS, DECISIONS[:3], GROUPS)


def test_calibration_is_counted_within_each_group():
    scores = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25])
    assert calibration_by_group(LABELS, scores, GROUPS) == {"a": {0.5: 0.5}, "b": {0.25: 0.25}}


def test_the_implied_false_positive_rate_is_the_counted_one():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        labels, decisions = torch.rand(2, 60, generator=generator) < torch.tensor([[0.4], [0.6]])
        (rates,) = group_rates(labels, decisions, ["all"] * 60).values()
        implied = implied_false_positive_rate(rates.base_rate, rates.precision, rates.true_positive)
        assert implied == pytest.approx(rates.false_positive)


@pytest.mark.slow
def test_no_decisions_satisfy_all_criteria_where_base_rates_differ():
    """By enumeration: two groups of four, two and one of whom have label 1; every possible decision."""
    fair = []
    for number in range(2**8):
        decisions = torch.tensor([number >> i & 1 for i in range(8)]).bool()
        gaps = fairness_gaps(group_rates(LABELS, decisions, GROUPS))
        if gaps["equalised odds"] == 0 and gaps["predictive parity"] == 0:
            fair.append(decisions)
    assert len(fair) == 2  # the perfect one, and the one that is wrong about everybody
    assert all(any(torch.equal(decisions, wanted) for decisions in fair) for wanted in (LABELS, ~LABELS))
    with pytest.raises(ValueError, match="base_rate=1"):
        implied_false_positive_rate(1, 0.5, 0.5)


def test_association_does_not_depend_on_the_order_within_a_set():
    x, y, a, b = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    results = {round(association_test(x[list(order)], y, a, b).effect, 9) for order in permutations(range(3))}
    assert len(results) == 1
