"""`occ` says what was planted: exact probabilities, an even base rate, a proxy, and a text that keeps to them."""

import math
from collections import Counter
from itertools import islice

import pytest

from llmcourse.corpora import occupations as occ

GRAMMAR = occ.occupation_grammar()


def she_share(p):
    return p["she"] / (p["she"] + p["he"])


def test_the_pronoun_is_as_likely_as_planted_in_every_prompt():
    for occupation, planted in occ.PLANTED.items():
        for prompt in occ.prompts(occupation):
            assert she_share(GRAMMAR.next_words(prompt)) == pytest.approx(planted)


def test_names_are_facts_and_the_neutral_word_says_nothing():
    for prompt in occ.prompts("anna"):
        assert "he" not in GRAMMAR.next_words(prompt)
    for prompt in occ.prompts("tom"):
        assert "she" not in GRAMMAR.next_words(prompt)
    for prompt in occ.prompts(occ.NEUTRAL):
        assert she_share(GRAMMAR.next_words(prompt)) == pytest.approx(0.5)


def test_a_small_vocabulary_and_a_finite_language_whose_probabilities_sum_to_one():
    every = occ.every_sentence()
    assert 20 <= len(occ.WORDS) <= 30
    assert sum(every.values()) == pytest.approx(1)
    for words, p in islice(every.items(), 0, None, 17):
        assert GRAMMAR.log_probability(words) == pytest.approx(math.log(p))


def test_the_text_as_a_whole_is_balanced():
    every = occ.every_sentence()
    she, he = (sum(p for words, p in every.items() if pronoun in words) for pronoun in ("she", "he"))
    assert she == pytest.approx(he)


def test_the_possessive_goes_with_the_pronoun():
    for words in occ.every_sentence():
        if "lost" in words:
            assert words[words.index("lost") + 1] == occ.POSSESSIVE[words[words.index("lost") - 1]]


def test_unnormalised_probabilities_would_put_the_doctor_behind_the_lawyer():
    doctor, lawyer = (GRAMMAR.next_words(occ.prompts(who)[0]) for who in ("doctor", "lawyer"))
    assert doctor["she"] < lawyer["she"]
    assert she_share(doctor) > she_share(lawyer)


def test_the_proxy_tells_of_the_deleted_occupation_exactly_as_much_as_computed():
    for tool in occ.TOOLS:
        kept = Counter()
        for words, p in occ.every_sentence().items():
            if tool in words and not set(words) & set(occ.NAMES):
                kept[words[words.index("that") + 1]] += p
        assert occ.proxy_probability(tool) == pytest.approx(she_share(kept))
    assert occ.proxy_probability("clipboard") > 0.65 and occ.proxy_probability("radio") < 0.35


def test_a_blinded_sentence_holds_no_occupation():
    for words in occ.every_sentence():
        blinded = occ.without_occupation(words)
        assert not set(blinded) & set(occ.PLANTED) and len(blinded) == len(words)


@pytest.mark.parametrize("seed", range(3))
def test_the_corpus_holds_each_sentence_as_often_as_its_probability_says(seed):
    counts, every = Counter(occ.corpus(seed=seed)), occ.every_sentence()
    assert counts.total() == 3000
    assert all(abs(counts[words] - 3000 * p) < 1 for words, p in every.items())


def test_corpus_and_stream_are_the_same_for_the_same_seed_only():
    assert occ.corpus(500, seed=3) == occ.corpus(500, seed=3) != occ.corpus(500, seed=4)
    first, again, other = (list(islice(occ.sentences(seed), 50)) for seed in (5, 5, 6))
    assert first == again != other
    assert set(first) <= set(occ.every_sentence())


def test_another_plan_can_be_planted():
    upside_down = {occupation: 1 - p for occupation, p in occ.PLANTED.items()}
    grammar = occ.occupation_grammar(upside_down)
    assert she_share(grammar.next_words(occ.prompts("nurse")[0])) == pytest.approx(0.1)
    assert occ.proxy_probability("radio", upside_down) == pytest.approx(1 - occ.proxy_probability("radio"))


def test_impossible_plans_people_tools_and_sizes_are_refused():
    with pytest.raises(ValueError, match="give each of nurse"):
        occ.occupation_grammar({"nurse": 0.5})
    with pytest.raises(ValueError, match="between 0 and 1"):
        occ.occupation_grammar(occ.PLANTED | {"nurse": 1.0})
    with pytest.raises(ValueError, match="does not speak"):
        occ.prompts("astronaut")
    with pytest.raises(ValueError, match="no tool"):
        occ.proxy_probability("spoon")
    with pytest.raises(ValueError, match="n=0"):
        occ.corpus(0)
