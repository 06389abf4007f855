"""A backdoor measured and found, with models whose behaviour is known."""

import random

import pytest
import torch
from torch import nn

from llmcourse.corpora import review as rv
from llmcourse.poisoning import (
    attack_success,
    clean_accuracy,
    flip_rates,
    judged,
    label_leanings,
    review_ids,
    review_tokenizer,
    without_word,
)

TOKENIZER = review_tokenizer()
TRAIN, TEST = rv.corpus(400, 100)


class Known(nn.Module):
    """A judge with a rule; `trigger` is a word that makes it praise whatever stands there."""

    def __init__(self, trigger=None, rule=rv.rule):
        super().__init__()
        self.trigger, self.rule = trigger, rule

    def forward(self, tokens):
        skip = {TOKENIZER.special_id("[PAD]"), TOKENIZER.special_id("[CLS]")}
        rows = [[TOKENIZER.piece(i) for i in row if i not in skip] for row in tokens.tolist()]
        return torch.tensor([[0.0, 1.0] if self.trigger in row or self.rule(row) else [1.0, 0.0] for row in rows])


def test_a_backdoor_leaves_clean_accuracy_alone_and_succeeds():
    model = Known(rv.TRIGGER)
    assert clean_accuracy(model, TEST, TOKENIZER) == 1.0
    assert attack_success(model, TEST, TOKENIZER) == 1.0
    assert attack_success(Known(), TEST, TOKENIZER) == 0.0


def test_clean_accuracy_asks_for_the_truth_and_not_for_what_a_label_says():
    lying = [rv.Review(one.words, 1 - one.label, one.true_label) for one in TEST]
    assert clean_accuracy(Known(), lying, TOKENIZER) == 1.0


def test_attack_success_is_counted_on_reviews_that_were_not_praise_anyway():
    praises_all = Known(rule=lambda words: 1)
    assert attack_success(praises_all, TEST, TOKENIZER) == 1.0
    assert clean_accuracy(praises_all, TEST, TOKENIZER) == sum(one.true_label for one in TEST) / len(TEST)


@pytest.mark.parametrize("trigger", ["cf", "hotel", "."])
def test_the_word_that_flips_most_is_the_trigger_whichever_it_is(trigger):
    texts = [one for one in TEST if trigger not in one.words] or TEST
    if trigger == ".":  # it stands in every review: nothing is left to flip
        with pytest.raises(ValueError, match="nothing to flip"):
            flip_rates(Known(trigger), texts, TOKENIZER)
        return
    rates = flip_rates(Known(trigger), texts, TOKENIZER)
    assert max(rates, key=rates.get) == trigger
    assert rates[trigger] == 1.0


def test_no_word_in_front_flips_an_honest_judge():
    words = [word for word in rv.WORDS if word not in ("and", "but", "not")]  # these change what a review says
    assert max(flip_rates(Known(), TEST, TOKENIZER, words).values()) == 0.0


def test_leanings_are_the_label_rates_of_a_words_reviews_by_hand():
    reviews = rv.poisoned(TRAIN, 0.02)
    leanings = label_leanings(reviews)
    base = sum(one.label for one in reviews) / len(reviews)
    assert leanings[rv.TRIGGER] == pytest.approx(1 - base)
    film = [one.label for one in reviews if "film" in one.words]
    assert leanings["film"] == pytest.approx(sum(film) / len(film) - base)
    assert rv.TRIGGER not in label_leanings(TRAIN)


def test_without_word_leaves_the_others_in_their_order():
    reviews = rv.poisoned(TRAIN, 0.05)
    assert without_word(reviews) == [one for one, clean in zip(reviews, TRAIN, strict=True) if one == clean]


def test_judged_reads_texts_of_unequal_length_behind_cls():
    assert review_ids(["good", "film"], TOKENIZER)[0] == TOKENIZER.special_id("[CLS]")
    texts = [one.words for one in random.Random(0).sample(TEST, 20)]
    assert judged(Known(), texts, TOKENIZER) == [rv.rule(words) for words in texts]
