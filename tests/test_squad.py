"""Exact match and F1 as SQuAD's script counts them, case by case; and abstention by hand."""

import pytest

from llmcourse.squad import abstention, is_exact, normalised_answer, score_answers, token_f1

# guess, gold, exact match, F1: each worked out by hand from the published definition.
CASES = [
    ("the old cat", "old cat", 1, 1.0),  # articles do not count,
    ("An old cat", "a old cat", 1, 1.0),
    ("theatre", "atre", 0, 0.0),  # but only as whole words
    ("Paris.", "paris", 1, 1.0),  # nor do signs and capitals
    ("U.S.", "US", 1, 1.0),  # signs are deleted, not replaced by a space:
    ("well-known", "wellknown", 1, 1.0),
    ("well-known", "well known", 0, 0.0),
    ("a-b", "ab", 1, 1.0),  # signs go first, so this a is no article
    ("the a", "an", 1, 1.0),  # nothing is left of either
    ("the", "cat", 0, 0.0),
    ("", "", 1, 1.0),  # no answer, and none was given
    ("", "cat", 0, 0.0),
    ("cat", "", 0, 0.0),
    ("  old \t cat\n", "old cat", 1, 1.0),
    ("the cat sleeps", "cat", 0, 2 / 3),  # precision 1/2, recall 1
    ("cat", "old red cat", 0, 1 / 2),  # precision 1, recall 1/3
    ("cat cat", "cat", 0, 2 / 3),  # the second one is not right again
    ("cat cat dog", "cat cat", 0, 4 / 5),
    ("cat old", "old cat", 0, 1.0),  # order counts for exact match alone
    ("\u201ccat\u201d", "cat", 0, 0.0),  # curly quotes are no ASCII punctuation
    ("$5,000", "5000", 1, 1.0),
]


@pytest.mark.parametrize(("guess", "gold", "exact", "f1"), CASES)
def test_a_tricky_case_counts_as_published(guess, gold, exact, f1):
    assert is_exact(guess, gold) == bool(exact)
    assert token_f1(guess, gold) == pytest.approx(f1)
    assert token_f1(gold, guess) == pytest.approx(f1)  # F1 is symmetric


def test_cleaning_lowers_then_deletes_signs_then_articles_then_spaces():
    assert normalised_answer("The  U.S.A.,  a (great) Country") == "usa great country"


def test_the_best_of_several_right_answers_counts_for_each_score_by_itself():
    assert score_answers(["old cat"], [["cat", "the old cat", "red"]]) == (1.0, 1.0)
    assert score_answers(["old cat"], [["cat", "the old grey cat"]]) == (0.0, pytest.approx(0.8))
    assert score_answers(["cat", "dog"], [["cat"], ["cat"]]) == (0.5, 0.5)


def test_no_right_answer_means_that_only_the_empty_one_is_right():
    assert score_answers(["", "cat"], [[], []]) == (0.5, 0.5)
    assert score_answers([""], [["", "the"]]) == (1.0, 1.0)
    assert score_answers([""], [["cat", ""]]) == (0.0, 0.0)  # an empty gold among others is left out, as in the script


def test_as_many_guesses_as_questions():
    with pytest.raises(ValueError, match="1 guesses for 2 questions"):
        score_answers(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="at least 1"):
        score_answers([], [])


def test_abstention_by_hand():
    found = abstention([True, True, True, False, False], [True, True, False, True, False])
    assert found == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert abstention([True] * 4, [True, False, False, False]) == (0.25, 1.0, pytest.approx(0.4))
    assert abstention([False, False], [True, False]) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="1 decisions for 2 questions"):
        abstention([True], [True, False])
