"""Generated text has the probabilities it claims, its ground truth is true, and shortcuts fail where they should."""

import math
import random
import re
from collections import Counter
from itertools import islice

import pytest
import torch

from llmcourse.corpora import agree, cards, reference
from llmcourse.corpora.grammar import END, START, Arc, Grammar

# Small enough to list: 5 sentences of 1 to 3 words.
SMALL = Grammar(
    {
        START: [Arc(0.5, "a", "left"), Arc(0.3, "b", "right"), Arc(0.2, "c", END)],
        "left": [Arc(0.25, "x", END), Arc(0.75, "y", "right")],
        "right": [Arc(0.9, "a", END), Arc(0.1, "z", END)],
    }
)
SENTENCES = {
    ("a", "x"): 0.125,
    ("a", "y", "a"): 0.3375,
    ("a", "y", "z"): 0.0375,
    ("b", "a"): 0.27,
    ("b", "z"): 0.03,
    ("c",): 0.2,
}

NOUN, VERB, PREPOSITION, ADJECTIVE, ADVERB = (
    f"(?:{'|'.join(words)})"
    for words in (
        agree.SINGULAR_NOUNS + agree.PLURAL_NOUNS,
        agree.SINGULAR_VERBS + agree.PLURAL_VERBS,
        agree.PREPOSITIONS,
        agree.ADJECTIVES,
        agree.ADVERBS,
    )
)
PHRASE = f"{PREPOSITION} the (?:{ADJECTIVE} )?{NOUN} "
SHAPE = re.compile(
    f"(?P<fronted>(?:{PHRASE}){{1,2}}, )?the (?:{ADJECTIVE} )?(?P<subject>{NOUN}) "
    f"(?P<between>(?:{PHRASE}){{0,2}})(?P<verb>{VERB}) (?:{ADVERB} )?\\."
)


def some_sentences(n, **settings):
    return list(islice(agree.sentences(**settings), n))


def whole_sentences(grammar, prefix=()):
    """Every sentence with its probability, found by asking for the next word again and again."""
    following = grammar.next_words(prefix)
    if not following:
        yield prefix, 1.0
    for word, probability in following.items():
        for sentence, rest in whole_sentences(grammar, (*prefix, word)):
            yield sentence, probability * rest


def is_plural(noun):
    return noun in agree.PLURAL_NOUNS


def test_every_sentence_of_a_small_grammar_has_the_probability_worked_out_by_hand():
    found = dict(whole_sentences(SMALL))
    assert found == pytest.approx(SENTENCES)
    assert sum(found.values()) == pytest.approx(1)
    for sentence, probability in SENTENCES.items():
        assert SMALL.log_probability(sentence) == pytest.approx(math.log(probability))
    assert SMALL.words == ("a", "b", "c", "x", "y", "z")


def test_entropy_length_and_floor_equal_sums_over_all_sentences():
    entropy = -sum(p * math.log(p) for p in SENTENCES.values())
    length = sum(p * len(sentence) for sentence, p in SENTENCES.items())
    assert SMALL.entropy == pytest.approx(entropy)
    assert SMALL.mean_length == pytest.approx(length)
    assert SMALL.floor == pytest.approx(entropy / length)


def test_samples_come_as_often_as_their_probability_says():
    n, generator = 20_000, random.Random(0)
    counts = Counter(tuple(word for _, word in SMALL.sample(generator)) for _ in range(n))
    assert counts.keys() == SENTENCES.keys()
    for sentence, p in SENTENCES.items():
        assert abs(counts[sentence] - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_a_sample_says_which_state_said_each_word():
    for path in (SMALL.sample(random.Random(seed)) for seed in range(20)):
        assert path[0][0] == START
        for state, word in path:
            assert word in {arc.word for arc in SMALL.arcs[state]}


def test_words_that_the_grammar_cannot_say_are_named():
    with pytest.raises(ValueError, match="word 1 is 'z', and after 'a' only this can come: x, y"):
        SMALL.next_words(("a", "z"))
    with pytest.raises(ValueError, match="word 1 is 'a', and after 'c' only this can come: the end of the sentence"):
        SMALL.log_probability(("c", "a"))
    with pytest.raises(ValueError, match="'a y' is the beginning of a sentence"):
        SMALL.log_probability(("a", "y"))


@pytest.mark.parametrize(
    ("arcs", "words"),
    [
        ({START: [Arc(0.5, "a", END), Arc(0.4, "b", END)]}, r"sum to 0\.9"),
        ({START: [Arc(1.5, "a", END), Arc(-0.5, "b", END)]}, "never taken"),
        ({START: [Arc(1.0, "a", END), Arc(0.0, "b", END)]}, "never taken"),
        ({START: [Arc(0.5, "a", END), Arc(0.5, "a", "more")], "more": [Arc(1.0, "b", END)]}, "one word on two arcs"),
        ({START: [Arc(1.0, "a", "nowhere")]}, "leads to 'nowhere'"),
        ({START: []}, "sum to 0"),
        ({"begin": [Arc(1.0, "a", END)]}, "'start'"),
        ({START: [Arc(0.5, "a", START), Arc(0.5, "b", END)]}, "cycle"),
    ],
)
def test_what_is_no_grammar_is_refused(arcs, words):
    with pytest.raises(ValueError, match=words):
        Grammar(arcs)


@pytest.mark.parametrize("fronted", [0.0, 0.6, 1.0])
def test_the_next_words_of_agree_sum_to_1_after_every_beginning(fronted):
    grammar = agree.agreement_grammar(fronted)
    for sentence in some_sentences(200, fronted=fronted):
        for i in range(len(sentence.words)):
            following = grammar.next_words(sentence.words[:i])
            assert sum(following.values()) == pytest.approx(1)
            assert sentence.words[i] in following
        assert grammar.next_words(sentence.words) == {}


@pytest.mark.parametrize("fronted", [0.0, 0.6])
def test_the_floor_of_agree_is_what_knowing_the_grammar_costs_on_average(fronted):
    """Entropy and mean length against 3,000 sentences, within four standard errors each."""
    grammar, sentences = agree.agreement_grammar(fronted), some_sentences(3000, seed=1, fronted=fronted)
    surprise = torch.tensor([-grammar.log_probability(sentence.words) for sentence in sentences])
    length = torch.tensor([float(len(sentence.words)) for sentence in sentences])
    for measured, exact in ((surprise, grammar.entropy), (length, grammar.mean_length)):
        assert abs(measured.mean().item() - exact) < 4 * measured.std().item() / math.sqrt(3000)
    assert grammar.floor == grammar.entropy / grammar.mean_length


def test_words_of_agree_are_as_rare_as_their_rank():
    following = agree.agreement_grammar(0.0).next_words(("the", "old"))
    for nouns in (agree.SINGULAR_NOUNS, agree.PLURAL_NOUNS):
        assert sum(following[noun] for noun in nouns) == pytest.approx(0.5)
        assert [following[nouns[0]] / following[noun] for noun in nouns] == pytest.approx(range(1, 11))


def test_every_annotation_is_true():
    """Subject and verb are found a second time, by the shape of the sentence."""
    kinds = Counter()
    for sentence in some_sentences(2000):
        text = " ".join(sentence.words)
        shape = SHAPE.fullmatch(text)
        assert shape, text
        subject, verb = shape["subject"], shape["verb"]
        assert sentence.words[sentence.subject] == subject
        assert sentence.subject == len(text[: shape.start("subject")].split())
        assert sentence.words[sentence.verb] == verb
        assert sentence.verb == len(text[: shape.start("verb")].split())
        # English: the plural noun has an s (or is "children"), its verb has none.
        assert (subject.endswith("s") or subject == "children") != verb.endswith("s")
        assert sentence.number == ("plural" if is_plural(subject) else "singular")
        others = re.findall(rf"\b{NOUN}\b", (shape["fronted"] or "") + shape["between"])
        assert [sentence.words[i] for i in sentence.attractors] == [
            n for n in others if is_plural(n) != is_plural(subject)
        ]
        if shape["fronted"]:
            assert sentence.subject > sentence.words.index(",")
        kinds[bool(shape["fronted"]), bool(sentence.attractors)] += 1
    assert len(kinds) == 4


def test_the_sentence_of_the_module_is_one_of_its_own():
    words = re.search(r"^ {4}(.+)$", agree.__doc__, re.MULTILINE)[1].split()
    assert agree.agreement_grammar().log_probability(words) < 0


def test_sentences_are_the_same_for_the_same_seed():
    assert some_sentences(20, seed=5) == some_sentences(20, seed=5)
    assert some_sentences(20, seed=5) != some_sentences(20, seed=6)


def shortcut_scores(sentences):
    """How often the verb's number is that of the first noun, of the last noun before the verb, of the commoner number."""
    hits = Counter()
    for sentence in sentences:
        nouns = [word for word in sentence.words if word in agree.SINGULAR_NOUNS + agree.PLURAL_NOUNS]
        plural = sentence.number == "plural"
        hits["first noun"] += is_plural(nouns[0]) == plural
        hits["last noun"] += is_plural(nouns[-1]) == plural
        hits["plural"] += plural
    scores = {name: count / len(sentences) for name, count in hits.items()}
    scores["majority"] = max(scores["plural"], 1 - scores.pop("plural"))
    return scores


def test_no_shortcut_solves_agree():
    """A noun's number is a fair coin, so a shortcut is right when its noun is the subject, and half the time otherwise."""
    n = 4000
    scores = shortcut_scores(some_sentences(n, seed=2))
    margin = 4 * math.sqrt(0.25 / n)
    assert scores["first noun"] == pytest.approx(0.4 + 0.6 / 2, abs=margin)  # 0.4 have no fronted phrase
    assert scores["last noun"] == pytest.approx(0.25 + 0.75 / 2, abs=margin)  # 0.25 have no phrase after the subject
    assert scores["majority"] == pytest.approx(0.5, abs=margin)


def test_the_first_noun_solves_agree_without_fronted_phrases():
    scores = shortcut_scores(some_sentences(1000, seed=2, fronted=0.0))
    assert scores["first noun"] == 1
    assert scores["last noun"] < 0.7


@pytest.mark.parametrize("fronted", [-0.1, 1.1, math.nan])
def test_how_often_is_a_probability(fronted):
    with pytest.raises(ValueError, match=f"fronted={fronted}"):
        agree.agreement_grammar(fronted)


@pytest.mark.parametrize("n_cards", [1, 2, 6, 20])
def test_the_answer_stands_on_the_card_that_is_asked_for(n_cards):
    for batch in islice(cards.batches(50, n_cards), 4):
        assert batch.cards.shape == (50, n_cards + 1, 2)
        for row, answer, place in zip(batch.cards.tolist(), batch.answer.tolist(), batch.place.tolist(), strict=True):
            *shown, (asked, question) = row
            assert cards.COLOURS[question] == "?"
            assert shown[place] == [asked, answer]
            assert len({noun for noun, _ in shown}) == n_cards
            assert all(1 <= colour < len(cards.COLOURS) and 0 <= noun < len(cards.NOUNS) for noun, colour in shown)


def test_nouns_colours_and_places_are_all_equally_likely():
    n, batch = 20_000, next(cards.batches(20_000, 6))
    for drawn, among in (
        (batch.cards[:, 0, 0], len(cards.NOUNS)),
        (batch.cards[:, 3, 1] - 1, len(cards.COLOURS) - 1),
        (batch.place, 6),
    ):
        counts = drawn.bincount(minlength=among)
        assert len(counts) == among
        assert (counts - n / among).abs().max() < 5 * math.sqrt(n / among)


@pytest.mark.parametrize("n_cards", [1, 2, 6])
def test_guessing_a_colour_of_the_row_is_right_as_often_as_said(n_cards):
    n, p = 20_000, cards.row_guess(n_cards)
    batch = next(cards.batches(n, n_cards, seed=3))
    guessed = torch.randint(n_cards, (n,), generator=torch.Generator().manual_seed(0))
    hits = batch.cards[torch.arange(n), guessed, 1] == batch.answer
    assert abs(hits.float().mean().item() - p) <= 4 * math.sqrt(p * (1 - p) / n)


def test_cards_are_the_same_for_the_same_seed():
    one, same, other = (next(cards.batches(8, 5, seed)).cards for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_cards_read_as_words():
    row = torch.tensor([[0, 1], [5, 3], [5, 0]])
    assert cards.words(row) == ["cat red", "boat green", "boat ?"]


@pytest.mark.parametrize("n_cards", [0, 21])
def test_a_row_needs_a_noun_for_every_card(n_cards):
    with pytest.raises(ValueError, match=f"n_cards={n_cards}: a row holds 1 to 20"):
        next(cards.batches(2, n_cards))


def test_the_reference_is_real_english_in_a_fixed_order():
    text = reference.text()
    assert text == reference.text()
    assert 300_000 < len(text.encode()) < 2_000_000
    assert "\n\nfor\n\n" in text
    common = Counter(text.lower().split()).most_common(5)
    assert "the" in dict(common)
    topics = [text.index(f"\n\n{name}\n\n") for name in ("break", "for", "if", "while")]
    assert topics == sorted(topics)
