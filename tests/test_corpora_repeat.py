"""Rows repeat a block of different tokens, the known places are right, and the baselines are what they say."""

import math
from itertools import islice

import pytest

from llmcourse.corpora import repeat


def some(n, **sizes):
    return list(islice(repeat.rows(7, **sizes), n))


def test_a_row_is_one_block_of_different_tokens_again_and_again():
    for row in some(300):
        assert len(row.tokens) == 48
        assert len(set(row.tokens[: row.block])) == row.block
        assert row.tokens[row.block :] == row.tokens[: -row.block]


def test_every_length_of_block_comes_equally_often():
    counts = [0] * 21
    for row in some(6500):
        counts[row.block] += 1
    assert counts[:8] == [0] * 8
    assert all(abs(count - 500) < 5 * math.sqrt(500) for count in counts[8:])


def test_the_source_follows_the_previous_occurrence_and_holds_the_next_token():
    for row in some(100):
        for i, source in enumerate(row.sources):
            earlier = [j for j in range(i) if row.tokens[j] == row.tokens[i]]
            assert source == (earlier[-1] + 1 if earlier else None)
            if source is not None and i + 1 < len(row.tokens):
                assert row.tokens[source] == row.tokens[i + 1]


def test_same_seed_same_rows():
    assert some(5) == some(5)
    assert some(5) != list(islice(repeat.rows(8), 5))


def test_order_blind_accuracy_equals_a_guess_among_the_other_tokens():
    assert repeat.order_blind_accuracy(3, 3) == 0.5
    assert repeat.order_blind_accuracy(3, 5) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


def test_entropy_equals_that_of_all_rows_counted():
    # 4 tokens, blocks of 2 or 3, rows of 4: each of the 12 + 24 blocks makes one row, and the first token is given.
    rows = [1 / 2 / 12] * 12 + [1 / 2 / 24] * 24
    whole = -sum(p * math.log(p) for p in rows)
    assert repeat.entropy(4, 4, 2, 3) == pytest.approx((whole - math.log(4)) / 3)


@pytest.mark.parametrize("sizes", [{"shortest": 1}, {"longest": 33}, {"shortest": 9, "longest": 8}, {"length": 20}])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="blocks of"):
        repeat.rows(0, **sizes)
