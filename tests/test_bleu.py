"""BLEU and chrF equal sacrebleu's, and what is worked out by hand."""

import math
import random

import pytest
from sacrebleu.metrics import BLEU, CHRF

from llmcourse.bleu import bleu, brevity_penalty, chrf, clipped_matches

CAT = ["the", "cat", "is", "on", "the", "mat"]


def corpus(seed, n_references, shortest=1, words=5):
    """Random hypotheses and references that share some runs of words."""
    generator = random.Random(seed)

    def sentence():
        return [generator.choice("abcdefghij"[:words]) for _ in range(generator.randint(shortest, 9))]

    references = [[sentence() for _ in range(12)] for _ in range(n_references)]
    hypotheses = [
        [word for word in line if generator.random() < 0.8] + sentence()[: generator.randint(0, 2)]
        for line in references[0]
    ]
    return hypotheses, references


def joined(lines):
    return [" ".join(line) for line in lines]


def reference_bleu(hypotheses, references):
    metric = BLEU(tokenize="none", force=True)
    return metric.corpus_score(joined(hypotheses), [joined(lines) for lines in references]).score


@pytest.mark.parametrize("n_references", [1, 2, 3])
@pytest.mark.parametrize("words", [2, 5, 10])
@pytest.mark.parametrize("seed", range(10))
def test_bleu_equals_sacrebleu_on_random_corpora(seed, words, n_references):
    hypotheses, references = corpus(seed, n_references, words=words)
    expected = reference_bleu(hypotheses, references)
    assert expected > 0
    assert bleu(hypotheses, *references) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [
        ([CAT], [[CAT]]),
        ([["the"] * 7], [[CAT]]),  # no run of two matches: three zeros in a row
        ([["a", "b", "c", "d", "e"]], [[["a", "b", "x", "d", "e"]]]),
        ([["a", "b", "c", "x", "d", "e"]], [[["a", "b", "c", "y", "d", "e"]]]),  # zeros from four on
        ([["w", "x", "y", "z"]], [[CAT]]),  # nothing matches
        ([["the", "cat", "is"]], [[CAT]]),  # too short to hold a run of four
        ([[], CAT], [[CAT, CAT]]),
        ([[]], [[CAT]]),
        ([CAT[:5]], [[CAT]]),
        ([CAT[:5]], [[CAT[:4]], [CAT]]),  # two references equally near in length
        ([["The", "cat", "is", "on", "the", "mat"]], [[CAT]]),
    ],
)
def test_bleu_equals_sacrebleu_at_the_edges(hypotheses, references):
    assert bleu(hypotheses, *references) == pytest.approx(reference_bleu(hypotheses, references), abs=1e-6)


def test_matches_are_clipped_as_in_the_paper():
    """Papineni et al. (2002), section 2.1: seven times "the" against two references with two and one."""
    assert clipped_matches(["the"] * 7, [CAT, ["there", "is", "a", "cat", "on", "the", "mat"]], 1) == 2
    assert clipped_matches(CAT, [CAT], 2) == 5


def test_a_score_worked_out_by_hand():
    """Of 5 words all 5 match, of 4 pairs 3, of 3 triples 2, of 2 quadruples 1; the reference is one word longer."""
    found = bleu([["the", "cat", "is", "on", "mat"]], [CAT])
    assert found == pytest.approx(100 * math.exp(-1 / 5) * (5 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))


def test_only_translations_that_are_too_short_are_punished():
    assert brevity_penalty(10, 8) == brevity_penalty(10, 10) == 1
    assert brevity_penalty(5, 10) == pytest.approx(math.exp(-1))


def test_bleu_is_of_the_corpus_and_no_mean_of_sentences():
    other = ["a", "dog", "ran"]  # alone it would score 0, as it holds no run of four
    whole = bleu([CAT, other], [CAT, other])
    assert whole == pytest.approx(100)
    assert bleu([other], [other]) == 0


@pytest.mark.parametrize("n_references", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_chrf_equals_sacrebleu_on_random_texts(seed, n_references):
    generator = random.Random(seed)

    def text():
        return "".join(generator.choice("abcd ") for _ in range(generator.randint(0, 25)))

    references = [[text() for _ in range(8)] for _ in range(n_references)]
    hypotheses = [line[: len(line) // 2] + text() for line in references[0]]
    expected = CHRF().corpus_score(hypotheses, references).score
    assert chrf(hypotheses, *references) == pytest.approx(expected, abs=1e-6)


def test_chrf_gives_credit_for_the_stem_of_a_word_with_a_wrong_ending():
    assert bleu([["ronku"]], [["ronka"]]) == 0
    assert chrf(["ronku"], ["ronka"]) > 50
    assert chrf(["xyz"], ["ronka"]) == 0


@pytest.mark.parametrize("score", [bleu, chrf])
def test_unequal_numbers_of_lines_are_refused(score):
    line = "a b" if score is chrf else ["a", "b"]
    with pytest.raises(ValueError, match=r"2 hypotheses and \[1\] references"):
        score([line, line], [line])
    with pytest.raises(ValueError, match="1 hypotheses and no references"):
        score([line])
    with pytest.raises(ValueError, match="0 hypotheses"):
        score([], [])


def test_texts_are_not_taken_for_tokens_nor_tokens_for_texts(without_shape_checks):
    with pytest.raises(TypeError, match="'the cat' is a str, and each sentence must be a list of tokens; split"):
        bleu(["the cat"], [["the", "cat"]])
    with pytest.raises(TypeError, match="must be a text; join"):
        chrf([["the", "cat"]], ["the cat"])


def test_a_translation_of_nothing_is_as_short_as_can_be():
    assert brevity_penalty(0, 5) == 0 and brevity_penalty(0, 0) == 1
