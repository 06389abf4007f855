"""`domains`: three grammars whose floors, apart, mixed and across, follow from each other; and what no shortcut can know."""

import math
from collections import Counter
from itertools import islice

import pytest

from llmcourse.corpora import domains as dm

EACH = {domain: list(islice(dm.sentences(domain, 1), 400)) for domain in dm.DOMAINS}
CROSSING = list(islice(dm.crossing(dm.PAIRS, 1), 600))


def test_the_sentences_of_the_module_are_its_own():
    for domain, pair in (("clinic", None), ("contract", None), (None, ("clinic", "contract"))):
        grammar = dm.across(pair) if pair else dm.grammar(domain)
        lines = [line.split() for line in dm.__doc__.splitlines() if line.startswith("    the ")]
        assert sum(_can_say(grammar, line) for line in lines) == 1


def _can_say(grammar, words):
    try:
        return grammar.log_probability(words) < 0
    except ValueError:
        return False


def test_domains_have_words_of_their_own_and_share_the_four_words():
    parts = {
        domain: {*one.things, *one.verbs, *one.adjectives, *one.tails, *one.followers.values()}
        for domain, one in dm.WORDS.items()
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    assert all(tuple(one.followers) == dm.SHARED for one in dm.WORDS.values())
    assert len(dm.vocabulary()) == sum(map(len, parts.values())) + len(dm.SHARED) + 5
    assert set(dm.FIELDS) == set(dm.DOMAINS)


def test_length_and_entropy_of_a_domain_by_hand():
    grammar = dm.grammar("clinic")
    # the thing verb the thing tail . are 7 words, two adjectives may come, and "with the SHARED of follower" adds 5
    assert grammar.mean_length == pytest.approx(7 + 2 * 0.4 + 0.6 * 5)
    maybe = lambda p: -p * math.log(p) - (1 - p) * math.log(1 - p)  # noqa: E731
    phrase = maybe(0.4) + math.log(6) + 0.4 * math.log(3)
    by_hand = 2 * phrase + math.log(4) + maybe(0.6) + 0.6 * math.log(4) + math.log(3)
    assert grammar.entropy == pytest.approx(by_hand)


def test_not_knowing_the_domain_costs_ln_3_a_sentence_and_nothing_else():
    apart = [dm.grammar(domain) for domain in dm.DOMAINS]
    assert dm.mixture().entropy == pytest.approx(sum(one.entropy for one in apart) / 3 + math.log(3))
    assert dm.mixture().mean_length == pytest.approx(apart[0].mean_length)


@pytest.mark.parametrize("domain", dm.DOMAINS)
def test_sentences_are_of_their_grammar_and_cost_its_entropy(domain):
    grammar = dm.grammar(domain)
    surprises = [-grammar.log_probability(one.words) for one in EACH[domain]]
    assert sum(surprises) / len(surprises) == pytest.approx(grammar.entropy, abs=0.2)
    assert {one.domain for one in EACH[domain]} == {one.opening for one in EACH[domain]} == {domain}


def test_sentences_across_open_in_one_domain_and_mean_the_other():
    for one in CROSSING:
        assert dm.across((one.opening, one.domain)).log_probability(one.words) < 0
        assert one.words[1] in dm.WORDS[one.opening].things and one.words[4] in dm.WORDS[one.domain].things
        assert one.words[-2] in dm.WORDS[one.opening].tails
        shared = one.words[one.follower - 2]
        assert one.words[one.follower] == dm.WORDS[one.domain].followers[shared]
    assert {(one.opening, one.domain) for one in CROSSING} == set(dm.PAIRS)
    assert len(CROSSING[0].words) == pytest.approx(dm.across(dm.PAIRS[0]).mean_length)


def test_the_place_of_the_follower_is_none_without_a_shared_word():
    for one in EACH["ledger"]:
        assert (one.follower is None) == (not set(one.words) & set(dm.SHARED))


def test_who_sees_only_the_shared_word_guesses_its_follower_one_time_in_three():
    for shared in dm.SHARED:
        counts = Counter(dm.WORDS[domain].followers[shared] for domain in dm.DOMAINS)
        assert max(counts.values()) / sum(counts.values()) == pytest.approx(1 / 3)


def test_who_believes_the_opening_is_always_wrong_across():
    for one in CROSSING:
        shared = one.words[one.follower - 2]
        assert dm.WORDS[one.opening].followers[shared] != one.words[one.follower]


def test_a_mixed_text_holds_a_few_sentences_across_and_none_of_a_held_out_pair():
    text = list(islice(dm.mixed(3), 4000))
    pairs = [(one.opening, one.domain) for one in text if one.opening != one.domain]
    assert len(pairs) / len(text) == pytest.approx(dm.ACROSS, abs=5 * (0.05 * 0.95 / 4000) ** 0.5)
    assert set(pairs) == set(dm.SEEN) and len(dm.SEEN) == 4 and not set(dm.SEEN) & set(dm.HELD_OUT)
    own = Counter(one.domain for one in text if one.opening == one.domain)
    assert all(count / 3800 == pytest.approx(1 / 3, abs=0.04) for count in own.values())
    assert all(one.opening == one.domain for one in islice(dm.mixed(3, share_across=0.0), 500))


def test_every_held_out_domain_is_met_in_both_roles():
    """So that each pair that is held out is new, and none of its parts is."""
    for place in (0, 1):
        assert {pair[place] for pair in dm.SEEN} == set(dm.DOMAINS)


def test_sentences_are_the_same_for_the_same_seed():
    for stream in (lambda seed: dm.sentences("clinic", seed), lambda seed: dm.crossing(seed=seed), dm.mixed):
        one, two, other = (list(islice(stream(seed), 30)) for seed in (4, 4, 5))
        assert one == two != other


def test_what_is_no_pair_and_no_share_is_refused():
    with pytest.raises(ValueError, match="use some of"):
        next(dm.crossing([("clinic", "clinic")]))
    with pytest.raises(ValueError, match="share_across=1"):
        next(dm.mixed(share_across=1.0))
