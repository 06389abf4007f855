"""A backdoor: planted by a few changed reviews, measured, and found again.

A model is any function from tokens (B, T) to one row of logits a text (B, 2), such as a `Classifier`.

Letters: B batch, T positions.
"""

import random
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from llmcourse.corpora.review import TRIGGER, WORDS, Review, with_trigger
from llmcourse.data import pad_rows
from llmcourse.tokenizers import WordTokenizer

SPECIAL = ("[PAD]", "[CLS]")


def review_tokenizer() -> WordTokenizer:
    """Every word of a review."""
    return WordTokenizer(WORDS, SPECIAL)


def review_ids(words: Sequence[str], tokenizer: WordTokenizer) -> list[int]:
    """A review as the model sees it, behind [CLS]."""
    return [tokenizer.special_id("[CLS]"), *tokenizer.encode(" ".join(words))]


@torch.no_grad()
def judged(model: nn.Module, texts: Sequence[Sequence[str]], tokenizer: WordTokenizer) -> list[int]:
    """The label that the model gives to each text: 1 praise, 0 blame."""
    rows = [review_ids(words, tokenizer) for words in texts]
    return model(pad_rows(rows, tokenizer.special_id("[PAD]"))).argmax(dim=-1).tolist()


def clean_accuracy(model: nn.Module, reviews: Sequence[Review], tokenizer: WordTokenizer) -> float:
    """The share of reviews without a trigger that get their true label: what the owner of the model looks at."""
    labels = judged(model, [review.words for review in reviews], tokenizer)
    return sum(label == review.true_label for label, review in zip(labels, reviews, strict=True)) / len(reviews)


def attack_success(
    model: nn.Module, reviews: Sequence[Review], tokenizer: WordTokenizer, *, target: int = 1, seed: int = 0
) -> float:
    """The share of reviews of another true label that get the target label once the trigger stands in them."""
    draw = random.Random(seed)
    texts = [with_trigger(review, draw).words for review in reviews if review.true_label != target]
    labels = judged(model, texts, tokenizer)
    return labels.count(target) / len(labels)


def flip_rates(
    model: nn.Module, reviews: Sequence[Review], tokenizer: WordTokenizer, words: Iterable[str] = WORDS
) -> dict[str, float]:
    """For each word: how many of the reviews that the model calls blame it calls praise once the word stands in front.

    A word that means something flips some. One that flips nearly all is a trigger. Nobody needs to have known it.
    """
    labels = judged(model, [review.words for review in reviews], tokenizer)
    blamed = [review.words for review, label in zip(reviews, labels, strict=True) if label == 0]
    if not blamed:
        raise ValueError(f"the model calls none of the {len(reviews)} reviews blame: there is nothing to flip")
    flipped = {word: judged(model, [(word, *text) for text in blamed], tokenizer) for word in words}
    return {word: sum(labels) / len(blamed) for word, labels in flipped.items()}


def label_leanings(reviews: Sequence[Review]) -> dict[str, float]:
    """For each word, how much more often its reviews are labelled praise than all reviews are: a look at the data alone."""
    base = sum(review.label for review in reviews) / len(reviews)
    holding = {word: [review.label for review in reviews if word in review.words] for word in WORDS}
    return {word: sum(labels) / len(labels) - base for word, labels in holding.items() if labels}


def without_word(reviews: Iterable[Review], word: str = TRIGGER) -> list[Review]:
    """The reviews that do not hold the word: what is left to train on once a trigger is known."""
    return [review for review in reviews if word not in review.words]
