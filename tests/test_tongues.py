"""`tongues` tells the truth about itself: its dictionaries, who stands beside whom, and the best possible guess."""

import math
import random
from collections import Counter
from itertools import islice, permutations

import pytest

from llmcourse.corpora import tongues
from llmcourse.corpora.tongues import GROUPS, NAMES, STOP, THINGS, WORDS, answer, dictionaries, questions


def entries(text):
    """A text as its entries, (thing, word) or (name, thing, word)."""
    return [tuple(part.split()) for part in " ".join(text).split(f" {STOP} ")]


def test_every_language_has_a_word_for_every_thing_and_none_twice():
    assert set(dictionaries()) == set(NAMES)
    for tongue in dictionaries().values():
        assert list(tongue) == list(THINGS)
        assert sorted(tongue.values()) == sorted(WORDS)
    assert len({tuple(tongue.items()) for tongue in dictionaries().values()}) == len(NAMES)
    assert len(set(tongues.vocabulary())) == len(tongues.vocabulary()) == 1 + 6 + 18 + 18


def test_texts_are_entries_of_one_unnamed_language_or_of_named_ones():
    named = 0
    for text in islice(tongues.texts(seed=3), 2000):
        parts = entries(text)
        if len(parts[0]) == 3:
            named += 1
            assert len(parts) == tongues.N_NAMED
            assert all(dictionaries()[name][thing] == word for name, thing, word in parts)
        else:
            assert any(all(tongue[thing] == word for thing, word in parts) for tongue in dictionaries().values())
            assert len(parts) == len(GROUPS)
    assert abs(named / 2000 - tongues.P_NAMED) < 5 * math.sqrt(0.3 * 0.7 / 2000)


def test_strangers_never_stand_in_one_unnamed_text():
    beside = set()
    for text in islice(tongues.texts(seed=4, named=0.0), 3000):
        beside |= set(permutations([thing for thing, _ in entries(text)], 2))
    for thing in THINGS:
        met = {other for one, other in beside if one == thing}
        assert met == set(THINGS) - {thing} - set(tongues.strangers(thing))
        assert len(tongues.strangers(thing)) == 2


def test_the_same_seed_gives_the_same_texts_and_questions():
    def first(stream):
        return list(islice(stream, 50))

    assert first(tongues.texts(1)) == first(tongues.texts(1)) != first(tongues.texts(2))
    assert first(questions(3, 1)) == first(questions(3, 1)) != first(questions(3, 2))


@pytest.mark.parametrize(("n", "by_strangers"), [(0, False), (4, False), (5, False), (1, True), (2, True)])
def test_questions_hold_what_they_say(n, by_strangers):
    for examples, asked, word in islice(questions(n, seed=5, by_strangers=by_strangers), 300):
        assert len(examples) == n
        shown = [thing for thing, _ in examples]
        assert len({*shown, asked}) == n + 1
        assert all((thing in tongues.strangers(asked)) == by_strangers for thing in shown)
        fitting = [t for t in dictionaries().values() if all(t[thing] == said for thing, said in examples)]
        assert word in {tongue[asked] for tongue in fitting}


def test_questions_in_a_given_language_are_in_that_language():
    seventh = tongues.new_dictionary(random.Random(1))
    for examples, asked, word in islice(questions(3, tongue=seventh), 100):
        assert dict(examples) == {thing: seventh[thing] for thing, _ in examples}
        assert word == seventh[asked]


def test_a_prompt_is_a_text_up_to_the_word():
    assert tongues.prompt([("cat", "mip"), ("cup", "zob")], "rain") == ["cat", "mip", ";", "cup", "zob", ";", "rain"]
    assert tongues.prompt([], "rain") == ["rain"]


def test_the_exact_answer_is_what_is_seen_in_many_texts():
    """P(word | one example), counted in texts drawn from the corpus, within five standard deviations."""
    counted = Counter()
    for text in islice(tongues.texts(seed=6, named=0.0), 60_000):
        first, second = entries(text)[:2]
        counted[first, second] += 1
    (first, second), _ = counted.most_common(1)[0]
    told = {after: n for (before, after), n in counted.items() if before == first and after[0] == second[0]}
    total, exact = sum(told.values()), answer([first], second[0])
    assert {word for _, word in told} == set(exact)
    for (_, word), n in told.items():
        p = exact[word]
        assert abs(n / total - p) <= 5 * math.sqrt(p * (1 - p) / total)
    assert total > 50


def test_no_example_leaves_all_six_and_a_foreign_one_none():
    for thing in THINGS:
        said = Counter(tongue[thing] for tongue in dictionaries().values())
        assert answer([], thing) == pytest.approx({word: n / 6 for word, n in said.items()})
    never = next(w for w in WORDS if all(tongue["cat"] != w for tongue in dictionaries().values()))
    assert answer([("cat", never)], "dog") == {}


@pytest.mark.parametrize(("n", "by_strangers"), [(0, False), (1, False), (2, False), (1, True), (2, True)])
def test_the_curve_by_counting_equals_the_one_by_listing_every_question(n, by_strangers):
    """The oracle lists all examples in all orders, each as likely as the corpus makes it."""
    right, entropy, n_listed = 0.0, 0.0, 0
    for asked in THINGS:
        others = [thing for thing in THINGS if asked not in next(g for g in GROUPS if thing in g)]
        for shown in permutations(tongues.strangers(asked) if by_strangers else others, n):
            if not by_strangers and len({next(g for g in GROUPS if thing in g) for thing in shown}) < n:
                continue
            for tongue in dictionaries().values():
                exact = answer([(thing, tongue[thing]) for thing in shown], asked)
                right += max(exact.values())
                entropy -= sum(p * math.log(p) for p in exact.values())
                n_listed += 1
    assert tongues.best_accuracy(n, by_strangers=by_strangers) == pytest.approx(right / n_listed)
    assert tongues.lowest_loss(n, by_strangers=by_strangers) == pytest.approx(entropy / n_listed)


def test_examples_help_and_four_are_enough():
    curve = [tongues.best_accuracy(n) for n in range(6)]
    assert curve == sorted(curve)
    assert curve[0] < 0.26
    assert curve[4] > 0.999


def test_a_guesser_that_follows_the_exact_answer_is_right_as_often_as_the_curve_says():
    for n in (0, 1, 2):
        right = [
            max(guess := answer(examples, asked), key=guess.get) == word
            for examples, asked, word in islice(questions(n, seed=7), 4000)
        ]
        best = tongues.best_accuracy(n)
        assert abs(sum(right) / 4000 - best) < 5 * math.sqrt(best * (1 - best) / 4000)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tongues.texts(named=1.5), r"named=1\.5"),
        (lambda: questions(6), "n_examples=6: give 0 to 5"),
        (lambda: questions(3, by_strangers=True), "give 0 to 2 strangers"),
        (lambda: questions(-1), "n_examples=-1"),
    ],
)
def test_impossible_wishes_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
