"""`stories` tells the truth about itself: its antecedents, its labels, its exact posteriors, and what shortcuts reach."""

import math
from collections import Counter
from itertools import islice

import pytest

from llmcourse.corpora import stories
from llmcourse.corpora.stories import GENDER, MASK, P_SWAPPED, TOPICS, Noise, first_sentences, second_sentences


def within_five_sigma(hits, n, p):
    return abs(hits - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def sample(n, seed=0, **options):
    return list(islice(stories.stories(seed, **options), n))


def test_probabilities_of_all_sentences_sum_to_1_and_no_sentence_stands_twice():
    for sentences in (first_sentences(), second_sentences()):
        assert sum(sentence.probability for sentence in sentences) == pytest.approx(1)
        assert len({sentence.words for sentence in sentences}) == len(sentences)


def test_the_stream_draws_sentences_as_often_as_they_are_likely():
    seen = Counter(story.first for story in sample(20_000))
    for length in (8, 9, 10, 11):
        kept = [first for first in first_sentences() if len(first.words) == length]
        share = sum(first.probability for first in kept)
        assert within_five_sigma(sum(seen[first.words] for first in kept), 20_000, share)
    forms = Counter(len(first.words) for first in first_sentences())
    assert sum(forms.values()) == 2 * (8 + 8 * 7) * 36
    assert seen.keys() <= {first.words for first in first_sentences()}


def test_the_same_seed_tells_the_same_stories():
    assert sample(300, seed=4) == sample(300, seed=4)
    assert sample(300, seed=4) != sample(300, seed=5)


def test_the_antecedent_is_the_one_who_did_it_and_the_pronoun_has_their_gender():
    for story in sample(2000, swapped=0.0):
        name = story.first[story.antecedent]
        assert GENDER[name] == story.second[0]
        assert story.first[story.antecedent + 1] in stories.VERBS
        assert story.is_coherent and not story.swapped
        topic = TOPICS[story.topics[0]]
        assert topic.place in story.first or any(thing in story.first for thing in topic.things)
        assert story.second[1] in TOPICS[story.topics[1]].deeds


def test_half_are_swapped_and_one_swap_in_twelve_agrees_by_chance():
    drawn = sample(12_000)
    swapped = [story for story in drawn if story.swapped]
    assert within_five_sigma(len(swapped), 12_000, P_SWAPPED)
    assert within_five_sigma(sum(story.is_coherent for story in swapped), len(swapped), 1 / 12)
    assert all(story.is_coherent for story in drawn if not story.swapped)


def test_shortcuts_to_the_antecedent_fail_in_a_quarter_of_the_stories():
    """The first name and the nearest name are each right unless the companion stands there."""
    drawn = sample(8000, swapped=0.0)
    for pick in (0, -1):
        guesses = [[i for i, word in enumerate(story.first) if word in GENDER][pick] for story in drawn]
        hits = sum(guess == story.antecedent for guess, story in zip(guesses, drawn, strict=True))
        assert within_five_sigma(hits, 8000, 0.75)


@pytest.mark.parametrize("use_gender", [True, False])
def test_the_best_judge_is_as_right_as_its_formula_says(use_gender):
    drawn = sample(12_000, seed=3)
    says = [not (s.is_coherent if use_gender else s.topics[0] == s.topics[1]) for s in drawn]
    hits = sum(said == story.swapped for said, story in zip(says, drawn, strict=True))
    assert within_five_sigma(hits, 12_000, stories.best_swap_accuracy(use_gender=use_gender))
    assert stories.best_swap_accuracy() == pytest.approx(23 / 24)


def chance(word, shown, noise, chosen=False):
    """P(shown | word) by the definition: chosen or not, then hidden, replaced or kept."""
    n = len(stories.words())
    if_chosen = noise.masked * (shown == MASK) + noise.random / n * (shown != MASK)
    if_chosen += (1 - noise.masked - noise.random) * (shown == word)
    return noise.share * if_chosen + (0 if chosen else (1 - noise.share) * (shown == word))


def enumerated(first, second, noise, place=None):
    """P(written and shown) of each pair of sentences, one by one."""
    shown = (*first, *second)
    for a in first_sentences():
        if len(a.words) != len(first):
            continue
        for b in second_sentences():
            agrees = a.topic == b.topic and a.pronoun == b.words[0]
            follows = 12 * b.probability * agrees
            weight = math.prod(
                chance(word, seen, noise, at == place)
                for at, (word, seen) in enumerate(zip((*a.words, *b.words), shown, strict=True))
            )
            yield (
                (*a.words, *b.words),
                a.probability * 0.5 * follows * weight,
                a.probability * 0.5 * b.probability * weight,
            )


SHOWN = [
    ("anna found the rose in the garden .", "[MASK] watered it again .", 8),
    ("[MASK] found the [MASK] in the garden .", "she [MASK] it again .", 0),
    ("anna saw the soup in the barn .", "he fed it [MASK] .", 3),  # a chosen word that was left or replaced
    ("in the school , tom saw the [MASK] .", "he rose it slowly .", 10),
]


@pytest.mark.parametrize("noise", [Noise(), Noise(0.3, 0.5, 0.4)])
@pytest.mark.parametrize(("first", "second", "place"), SHOWN)
def test_posteriors_equal_an_enumeration_of_all_pairs(first, second, place, noise):
    first, second = first.split(), second.split()
    found = Counter()
    for words, together, apart in enumerated(first, second, noise, place):
        found[words[place]] += together + apart
    total = sum(found.values())
    posterior = stories.hidden_word(first, second, place, noise)
    assert sum(posterior.values()) == pytest.approx(1)
    for word in stories.words():
        assert posterior.get(word, 0.0) == pytest.approx(found[word] / total, abs=1e-9)
    pairs = list(enumerated(first, second, noise))
    apart, together = sum(pair[2] for pair in pairs), sum(pair[1] for pair in pairs)
    assert stories.is_swapped(first, second, noise) == pytest.approx(apart / (apart + together), abs=1e-9)


def test_a_hidden_pronoun_is_certain_but_for_swaps():
    story = "with ben , anna found the rose in the garden . [MASK] watered it again ."
    first, second = story.split()[:11], story.split()[11:]
    posterior = stories.hidden_word(first, second, len(first))
    # Given the same topic: follows with 1/2 and then surely she; swapped with 1/2 and probability 1/6 of this topic.
    swapped = 1 / 6
    assert posterior["she"] == pytest.approx((1 + swapped / 2) / (1 + swapped), abs=0.01)
    assert set(stories.words()) >= set(posterior)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"swapped=1\.5"):
        stories.stories(swapped=1.5)
    with pytest.raises(ValueError, match="has 3 words"):
        stories.hidden_word(["anna", "saw", "."], ["she", "fed", "it", "again", "."], 0)
