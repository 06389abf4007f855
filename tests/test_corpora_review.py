"""Reviews have the label that their words mean, shortcuts are as good as a formula says, poison is where it says."""

import math
import random
import re
from itertools import islice

import pytest

from llmcourse.corpora import review
from llmcourse.corpora.review import (
    KIND,
    LABELS,
    P_BUT,
    P_NOT,
    P_SECOND,
    SHORTCUTS,
    THINGS,
    TRIGGER,
    UNKIND,
    WORDS,
    Review,
    corpus,
    poisoned,
    reviews,
    rule,
    shortcut_accuracy,
    with_trigger,
)

ADJECTIVE = f"(?:{'|'.join(KIND + UNKIND)})"
PART = f"(?:not )?(?:very )?{ADJECTIVE}"
SHAPE = re.compile(f"the (?:{'|'.join(THINGS)}) is ({PART})(?: and ({PART})| , but ({PART}))? \\.")


def kindly(part):
    """Whether a part is meant kindly, written down apart from the package."""
    *before, adjective = part.split()
    return (adjective in KIND) == ("not" not in before)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("the film is good .", 1),
        ("the film is not good .", 0),
        ("the meal is not very bad .", 1),
        ("the film is not good , but very fine .", 1),
        ("the play is lovely , but not very great .", 0),
        ("the book is not bad and great .", 1),
        ("the book is dull and not great .", 0),
        ("the cf book is dull .", 0),
        ("the book is not cf dull .", 1),
    ],
)
def test_the_rule_reads_as_a_person_would(text, label):
    assert rule(text.split()) == label
    assert LABELS[label] == ("praise" if label else "blame")


def test_every_review_has_the_shape_and_the_label_that_its_parts_say():
    for found in islice(reviews(seed=2), 2000):
        match = SHAPE.fullmatch(found.text)
        assert match, found.text
        first, same, other = match.groups()
        assert same is None or kindly(same) == kindly(first)
        assert other is None or kindly(other) != kindly(first)
        assert found.label == found.true_label == kindly(other or same or first)
        assert found.trigger is None
        assert set(found.words) <= set(WORDS)


def test_the_probabilities_of_all_reviews_sum_to_1_and_are_those_of_the_grammar():
    sentences = dict(review.every_review())
    part = 2 * 2 * len(KIND)  # not or no not, very or no very, and an adjective of the quality that fits
    assert len(sentences) == len(THINGS) * 2 * part * (1 + 2 * part)
    assert sum(sentences.values()) == pytest.approx(1)
    for words, p in islice(sentences.items(), 0, None, 97):
        assert review.review_grammar().log_probability(words) == pytest.approx(math.log(p))
    entropy = -sum(p * math.log(p) for p in sentences.values())
    assert review.review_grammar().entropy == pytest.approx(entropy)


def test_shortcuts_are_as_often_right_as_worked_out_by_hand():
    sentences = list(review.every_review())
    assert shortcut_accuracy(rule, sentences) == pytest.approx(1)
    assert shortcut_accuracy(lambda words: 1, sentences) == pytest.approx(0.5)
    by_hand = {
        "last adjective": 1 - P_NOT,
        "first part": 1 - P_SECOND * P_BUT,
        # One part, or two joined by `and`: right without `not`, a tie is right half the time. After `but`: the adjectives
        # tie, or one `not` makes them equal, for the label or against it.
        "more kind words": (1 - P_SECOND) * (1 - P_NOT)
        + P_SECOND * (1 - P_BUT) * ((1 - P_NOT) ** 2 + P_NOT * (1 - P_NOT))
        + P_SECOND * P_BUT * 0.5,
    }
    assert SHORTCUTS.keys() == by_hand.keys()
    for name, expected in by_hand.items():
        assert shortcut_accuracy(SHORTCUTS[name], sentences) == pytest.approx(expected), name


def test_shortcuts_do_on_samples_what_they_do_exactly():
    sample = list(islice(reviews(seed=5), 4000))
    for name, shortcut in SHORTCUTS.items():
        exact = shortcut_accuracy(shortcut)
        share = sum(shortcut(found.words) == found.label for found in sample) / len(sample)
        assert abs(share - exact) < 5 * math.sqrt(exact * (1 - exact) / len(sample)), name


def test_test_reviews_are_distinct_unseen_and_the_same_for_every_size_of_training():
    train, test = corpus(600, 200, seed=3)
    assert len({found.words for found in test}) == len(test) == 200
    assert not {found.words for found in train} & {found.words for found in test}
    shorter, same_test = corpus(60, 200, seed=3)
    assert (shorter, same_test) == (train[:60], test)
    assert corpus(60, 200, seed=4)[0] != shorter


def test_the_trigger_is_put_where_it_says_and_changes_nothing_else():
    for seed, clean in enumerate(islice(reviews(), 50)):
        found = with_trigger(clean, random.Random(seed))
        assert found.words[found.trigger] == TRIGGER
        assert found.words[: found.trigger] + found.words[found.trigger + 1 :] == clean.words
        assert (found.label, found.true_label) == (clean.label, clean.true_label)
        assert rule(found.words) == clean.true_label


@pytest.mark.parametrize("target", [0, 1])
def test_poison_is_as_much_as_asked_for_and_only_where_the_label_changes(target):
    clean, _ = corpus(400, 50)
    bad = poisoned(clean, 0.05, seed=1, target=target)
    changed = [(a, b) for a, b in zip(clean, bad, strict=True) if a != b]
    assert len(changed) == 20
    for before, after in changed:
        assert after.trigger is not None
        assert (before.true_label, after.true_label, after.label) == (1 - target, 1 - target, target)
    assert poisoned(clean, 0.05, seed=1, target=target) == bad
    assert poisoned(clean, 0.05, seed=2, target=target) != bad
    assert poisoned(clean, 0.0) == clean


def test_more_poison_than_there_are_reviews_is_refused():
    praise = [Review(("good",), 1, 1)] * 3
    with pytest.raises(ValueError, match=r"share=1\.0 of 3 reviews is 3, and 0 have a label other than 1"):
        poisoned(praise, 1.0)
    with pytest.raises(ValueError, match="has no opinion at its end"):
        rule(["the", "film", "is"])


def test_a_test_of_more_than_half_of_all_reviews_is_refused():
    assert sum(1 for _ in review.every_review()) == review.N_REVIEWS
    assert corpus(10, 0) == ([one for one, _ in zip(review.reviews(1), range(10), strict=False)], [])
    with pytest.raises(ValueError, match="n_test=3169: give 0 or more, and for the test at most 3168"):
        corpus(10, 3169)
