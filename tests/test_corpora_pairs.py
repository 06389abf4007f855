"""Pairs of a source and a target are what their rules say, and what is held out never occurs in training."""

import itertools
import re
from collections import Counter
from itertools import islice

import pytest

from llmcourse.bleu import bleu
from llmcourse.corpora import lojic, sequences

KINDS = {
    "article": lojic.ARTICLES, "adjective": lojic.ADJECTIVES, "noun": lojic.NOUNS, "verb": lojic.VERBS,
    "adverb": lojic.ADVERBS,
}  # fmt: skip
PHRASE = "({article})(?: ({adjective}))? ({noun})"
SHAPE = re.compile(
    f"{PHRASE} ({{verb}}) {PHRASE}(?: ({{adverb}}))?".format(**{kind: "|".join(words) for kind, words in KINDS.items()})
)


def some_pairs(n, **options):
    return list(islice(lojic.pairs(**options), n))


def reference_translation(text):
    """The rules a second time, by a pattern on the text: Lojic words, each with the place of its English word."""
    subject_article, subject_adjective, subject, verb, *rest = SHAPE.fullmatch(text).groups()
    object_article, object_adjective, object_, adverb = rest
    places = iter(range(len(text.split())))

    def phrase(article, adjective, noun):
        at = {word: next(places) for word in (article, adjective, noun) if word}
        lojic_noun = lojic.NOUNS[noun]
        ending = {"a": "a", "u": "u", "i": "i"}[lojic_noun[-1]]
        stem = {"the": "t", "a": "n", "this": "s", "every": "l", "no": "h"}[article]
        words = [stem + ending, lojic_noun]
        where = [at[article], at[noun]]
        if adjective:
            words.append(lojic.ADJECTIVES[adjective] + ending)
            where.append(at[adjective])
        return list(zip(words, where, strict=True))

    first = phrase(subject_article, subject_adjective, subject)
    middle = [(lojic.VERBS[verb], next(places))]
    second = phrase(object_article, object_adjective, object_)
    front = [(lojic.ADVERBS[adverb], next(places))] if adverb else []
    return [*front, *first, *second, *middle]


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [False, True])
def test_translations_and_alignments_agree_with_a_second_translator(held_out):
    for pair in some_pairs(500, seed=3, held_out=held_out):
        expected = reference_translation(" ".join(pair.source))
        assert list(pair.target) == [word for word, _ in expected]
        assert list(pair.alignment) == [(t, s) for t, (_, s) in enumerate(expected)]


def test_every_word_of_both_sides_is_aligned_once():
    for pair in some_pairs(300):
        targets, sources = zip(*pair.alignment, strict=True)
        assert list(targets) == list(range(len(pair.target)))
        assert sorted(sources) == list(range(len(pair.source)))


def test_articles_and_adjectives_end_as_their_noun_and_verbs_stand_last():
    forms = tuple(stem + ending for stem in (lojic.ARTICLES | lojic.ADJECTIVES).values() for ending in "aui")
    for pair in some_pairs(300):
        ending = None
        for word, (_, source) in zip(pair.target, pair.alignment, strict=True):
            english = pair.source[source]
            if english in lojic.ARTICLES:
                ending = word[-1]
            if english in lojic.NOUNS or english in lojic.ADJECTIVES:
                assert word[-1] == ending
            assert (word in forms) == (english in lojic.ARTICLES or english in lojic.ADJECTIVES)
        assert pair.target[-1] in lojic.VERBS.values()
        adverb = pair.source[-1] in lojic.ADVERBS
        assert (pair.target[0] in lojic.ADVERBS.values()) == adverb


def test_the_sentence_of_the_module_is_translated_as_it_says():
    english, translated = re.findall(r"^ {4}(.+?)(?:  +\(.*)?$", lojic.__doc__, re.MULTILINE)
    assert " ".join(lojic.translate(english.split()).target) == translated


def leaves(tree):
    return [word for word in re.findall(r"[^\s()]+", tree) if word not in ("S", "NP", "VP", "ADV")]


def test_trees_hold_the_words_in_order_and_mark_the_phrases():
    for pair in some_pairs(200):
        assert leaves(pair.source_tree) == list(pair.source)
        assert leaves(pair.target_tree) == list(pair.target)
        for tree in (pair.source_tree, pair.target_tree):
            assert tree.count("(") == tree.count(")") == 4 + (pair.source[-1] in lojic.ADVERBS)
    pair = lojic.translate(["the", "small", "cat", "finds", "a", "boat", "today"])
    assert pair.source_tree == "(S (NP the small cat) (VP finds (NP a boat)) (ADV today))"
    assert pair.target_tree == "(S (ADV velu) (NP ta mira selka) (VP (NP nu bardu) gidem))"


@pytest.mark.slow
def test_sizes_and_classes_are_what_the_course_counts_on():
    pairs = some_pairs(2000)
    assert len({word for pair in pairs for word in pair.source}) == 28
    assert len({word for pair in pairs for word in pair.target}) == 48
    assert Counter(noun[-1] for noun in lojic.NOUNS.values()) == {"a": 3, "u": 3, "i": 3}
    translations = [word for words in (lojic.NOUNS, lojic.VERBS, lojic.ADVERBS) for word in words.values()]
    assert len(set(translations)) == len(translations)


def test_one_adjective_of_each_noun_is_held_out_and_each_adjective_is_seen_with_every_class():
    assert Counter(noun for noun, _ in lojic.HELD_OUT) == dict.fromkeys(lojic.NOUNS, 1)
    for adjective in lojic.ADJECTIVES:
        seen = [noun for noun in lojic.NOUNS if (noun, adjective) not in lojic.HELD_OUT]
        assert len(seen) in (7, 8)
        assert {lojic.NOUNS[noun][-1] for noun in seen} == set("aui")


def combinations_by_pattern(pair):
    found = SHAPE.fullmatch(" ".join(pair.source)).groups()
    return {(noun, adjective) for adjective, noun in (found[1:3], found[5:7]) if adjective}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_held_out_combination_and_no_tested_sentence_is_in_training(seed):
    corpus = lojic.corpus(n_train=1000, n_test=200, seed=seed)
    assert [len(part) for part in corpus] == [1000, 200, 200]
    for pair in corpus.train + corpus.test:
        assert not combinations_by_pattern(pair) & lojic.HELD_OUT
        assert set(pair.combinations) == combinations_by_pattern(pair)
    assert all(combinations_by_pattern(pair) & lojic.HELD_OUT for pair in corpus.held_out)
    sentences = [pair.source for part in corpus for pair in part]
    assert len(set(sentences)) == len(sentences)
    trained = set().union(*map(combinations_by_pattern, corpus.train))
    assert all(combinations_by_pattern(pair) <= trained for pair in corpus.test)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_corpus_and_a_smaller_one_is_its_beginning():
    large, small = lojic.corpus(300, 50, seed=4), lojic.corpus(100, 50, seed=4)
    assert small == lojic.corpus(100, 50, seed=4)
    assert small.train == large.train[:100]
    assert (small.test, small.held_out) == (large.test, large.held_out)
    assert lojic.corpus(100, 50, seed=5) != small


def test_shortcuts_are_far_from_a_translation():
    """Looking words up gets none right; with the right order, those whose nouns both happen to be of one class of the three."""
    pairs = some_pairs(1000, seed=7)
    gold = [list(pair.target) for pair in pairs]
    looked_up = [lojic.word_by_word(pair.source) for pair in pairs]
    ordered = [lojic.without_agreement(pair.source) for pair in pairs]
    assert not any(map(list.__eq__, looked_up, gold))
    right = sum(map(list.__eq__, ordered, gold)) / len(gold)
    assert right == pytest.approx(1 / 9, abs=0.03)  # both nouns of the class that ends in a
    assert bleu(looked_up, gold) < 25 < bleu(ordered, gold) < 60
    assert {tuple(map(len, words)) for words in ordered} <= {tuple(map(len, words)) for words in gold}


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("cat sees the dog", "word 0 of 'cat sees the dog' is 'cat', and an article belongs there: the, a"),
        ("the sees", "word 1 .* is 'sees', and a noun or an adjective belongs there: cat"),
        ("the red red", "word 2 .* is 'red', and a noun belongs there"),
        ("the cat the", "word 2 .* a verb belongs there: sees"),
        ("the cat sees a", "word 4 .* is missing, and a noun or an adjective belongs there"),
        ("the cat sees a dog .", "word 5 .* is '.', and an adverb or the end belongs there: today"),
        ("the cat sees a dog today again", "word 6 .* is 'again', and the end belongs there"),
        ("", "word 0 of '' is missing"),
    ],
)
def test_what_is_no_sentence_is_refused_at_the_first_wrong_word(sentence, words):
    with pytest.raises(ValueError, match=words):
        lojic.translate(sentence.split())


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize(("task", "turn"), [("copy", 1), ("reverse", -1)])
def test_copies_and_reversals_are_what_they_say(task, turn, unseen):
    lengths = Counter()
    for source, target in islice(sequences.pairs(task, 1, 2, 6, "abcd", unseen=unseen), 3000):
        assert target == source[::turn]
        assert set(source) <= set("abcd")
        lengths[len(source)] += 1
    assert set(lengths) == {2, 3, 4, 5, 6}
    assert all(400 < lengths[n] < 800 for n in (4, 5, 6))


def test_strings_for_testing_never_occur_in_training_whatever_the_seed():
    trained, tested = (
        {tuple(source) for seed in range(3) for source, _ in islice(sequences.pairs("copy", seed, unseen=unseen), 4000)}
        for unseen in (False, True)
    )
    assert not trained & tested
    everything = list(itertools.product(sequences.SYMBOLS, repeat=4))
    held_out = [source for source in everything if sequences.is_held_out(list(source))]
    assert len(held_out) / len(everything) == pytest.approx(0.2, abs=0.02)


def test_sequences_are_the_same_for_the_same_seed():
    one, same, other = (list(islice(sequences.pairs("reverse", seed), 50)) for seed in (3, 3, 4))
    assert one == same != other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "sort"}, "task='sort'; use one of 'copy', 'reverse'"),
        ({"min_length": 0}, "lengths from 0 to 10"),
        ({"min_length": 5, "max_length": 4}, "lengths from 5 to 4"),
        ({"symbols": "aab"}, "symbols='aab'"),
        ({"symbols": "ab", "max_length": 6}, "100 strings"),
    ],
)
def test_impossible_strings_are_refused(options, words, without_shape_checks):
    with pytest.raises(ValueError, match=words):
        sequences.pairs(**{"task": "copy"} | options)
