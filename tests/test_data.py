"""Every target is the token that follows, nothing is shown twice while measuring, nothing is lost."""

import math
from itertools import islice

import pytest
import torch

from llmcourse.data import (
    IGNORED,
    next_token_batch,
    pad_rows,
    random_windows,
    sentence_batches,
    shuffled,
    source_rows,
    split,
    translation_batch,
    translation_batches,
    windows_in_order,
)

BEGIN, PAD, END = 90, 91, 92
SPECIAL = {"begin": BEGIN, "end": END, "pad": PAD}


def test_rows_are_filled_up_on_the_right():
    assert pad_rows([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [4, 9, 9]]


@pytest.mark.parametrize(("rows", "words"), [([], "0 rows"), ([[1], []], "2 rows of which 1 are empty")])
def test_empty_rows_make_no_batch(rows, words):
    with pytest.raises(ValueError, match=words):
        pad_rows(rows, 0)


def test_sentences_are_shifted_behind_the_begin_token():
    tokens, targets = next_token_batch([[1, 2, 3], [4]], begin=BEGIN, pad=PAD)
    assert tokens.tolist() == [[BEGIN, 1, 2], [BEGIN, PAD, PAD]]
    assert targets.tolist() == [[1, 2, 3], [4, IGNORED, IGNORED]]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_every_sentence_of_a_stream_is_in_one_batch(size):
    sentences = [[1, 2, 3], [4], [5, 6], [7], [8, 9]]
    batches = list(sentence_batches(iter(sentences), size, begin=BEGIN, pad=PAD))
    found = [[token for token in row if token != IGNORED] for _, targets in batches for row in targets.tolist()]
    assert found == sentences
    assert all(len(batch.tokens) == size for batch in batches[:-1])
    for tokens, targets in batches:
        assert (tokens[:, 0] == BEGIN).all()
        assert torch.equal(tokens[:, 1:][targets[:, 1:] != IGNORED], targets[:, :-1][targets[:, 1:] != IGNORED])


def test_an_endless_stream_is_read_no_further_than_needed():
    def stream():
        yield from [[1, 2]] * 4
        raise AssertionError("read too far")

    assert len(list(islice(sentence_batches(stream(), 2, begin=BEGIN, pad=PAD), 2))) == 2


def test_a_translation_is_shifted_behind_begin_and_closed_by_end():
    batch = translation_batch([([1, 2, 3], [5, 6]), ([4], [7, 8, 9])], **SPECIAL)
    assert batch.source.tolist() == [[1, 2, 3, END], [4, END, PAD, PAD]]
    assert batch.tokens.tolist() == [[BEGIN, 5, 6, PAD], [BEGIN, 7, 8, 9]]
    assert batch.targets.tolist() == [[5, 6, END, IGNORED], [7, 8, 9, END]]
    assert torch.equal(source_rows([[1, 2, 3], [4]], end=END, pad=PAD), batch.source)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_every_pair_of_a_stream_is_in_one_batch(size):
    pairs = [([1, 2], [3]), ([4], [5, 6]), ([7], [8]), ([9], [10, 11, 12]), ([13, 14, 15], [16])]
    batches, found = list(translation_batches(iter(pairs), size, **SPECIAL)), []
    for batch in batches:
        for row, targets in zip(batch.source.tolist(), batch.targets.tolist(), strict=True):
            found.append((row[: row.index(END)], targets[: targets.index(END)]))
    assert found == pairs
    assert all(len(batch.source) == size for batch in batches[:-1])


def test_an_endless_stream_of_pairs_is_read_no_further_than_needed():
    def stream():
        yield from [([1], [2])] * 4
        raise AssertionError("read too far")

    assert len(list(islice(translation_batches(stream(), 2, **SPECIAL), 2))) == 2


def test_shuffling_shows_everything_once_a_round_in_an_order_of_its_own():
    items = list(range(50))
    rounds = [list(islice(stream, 50)) for stream in [shuffled(items, seed=3)] for _ in range(3)]
    assert all(sorted(one) == items for one in rounds)
    assert rounds[0] != rounds[1] != rounds[2] != items
    assert list(islice(shuffled(items, seed=3), 150)) == [item for one in rounds for item in one]
    assert list(islice(shuffled(items, seed=4), 50)) != rounds[0]
    assert items == list(range(50)), "the reader's list stays as it was"
    with pytest.raises(ValueError, match="nothing to shuffle"):
        shuffled([])


def test_a_random_window_is_a_piece_of_the_text():
    text = torch.arange(100, 150)
    for tokens, targets in islice(random_windows(text, context=7, size=5), 20):
        assert tokens.shape == targets.shape == (5, 7)
        assert torch.equal(targets, tokens + 1)  # in this text, the next token is the next number
        assert ((tokens[:, :1] + torch.arange(7)) == tokens).all()


def test_random_windows_reach_both_ends_of_the_text():
    text = torch.arange(12)
    starts = {int(row[0]) for batch in islice(random_windows(text, context=8, size=16), 20) for row in batch.tokens}
    assert starts == {0, 1, 2, 3}
    assert next(random_windows(torch.arange(9), context=8, size=1)).targets.tolist() == [list(range(1, 9))]


def test_random_windows_are_the_same_for_the_same_seed_and_leave_torchs_numbers_alone():
    text, state = torch.arange(1000), torch.get_rng_state()
    one, same, other = (
        torch.stack([batch.tokens for batch in islice(random_windows(text, 5, 4, seed), 10)]) for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match=r"8 tokens.*context=8 need at least 9"):
        next(random_windows(torch.arange(8), context=8, size=1))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9, 10, 31])
def test_windows_in_order_predict_every_token_but_the_first_once(n, size):
    text = torch.arange(n) + 50
    batches = windows_in_order(text, context=4, size=size)
    predicted = [t for batch in batches for t in batch.targets.flatten().tolist() if t != IGNORED]
    assert predicted == text[1:].tolist()
    for tokens, targets in batches:
        assert len(tokens) <= size
        assert tokens.shape[1] <= 4
        assert torch.equal(targets[targets != IGNORED], tokens[targets != IGNORED] + 1)


def test_a_text_of_one_token_predicts_nothing():
    with pytest.raises(ValueError, match="1 tokens has nothing to predict"):
        windows_in_order(torch.tensor([5]), context=4, size=2)


@pytest.mark.parametrize(("n", "share", "held_out"), [(100, 0.1, 10), (10, 0.9, 9), (10, 0.3, 3), (7, 0.5, 4)])
def test_a_split_keeps_the_order_and_loses_nothing(n, share, held_out):
    known, unseen = split(torch.arange(n), share)
    assert torch.equal(torch.cat([known, unseen]), torch.arange(n))
    assert len(unseen) == held_out


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_split_needs_two_parts(share):
    with pytest.raises(ValueError, match="validation_share"):
        split(torch.arange(10), share)


def test_targets_that_do_not_count_have_the_number_that_torch_leaves_out():
    logits, targets = torch.zeros(2, 3), torch.tensor([1, IGNORED])
    assert torch.nn.functional.cross_entropy(logits, targets) == pytest.approx(math.log(3))
