"""Rows in groups of like length: each once, little padding left, and every loss what it is without groups."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from llmcourse import lengths
from llmcourse.bert import PreTrainingBert
from llmcourse.data import IGNORED, translation_batch
from llmcourse.lengths import row_ends, rows_by_length
from llmcourse.models import EncoderDecoder
from llmcourse.pretraining import hidden_states
from llmcourse.training import translation_loss
from llmcourse.transformer import TransformerConfig

SIZES = TransformerConfig(n_vocab=20, context=16, d_model=16, n_heads=2, positions="learned", pad=0)


def test_a_row_ends_behind_its_last_filled_column_and_never_before_the_first():
    filled = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    assert row_ends(filled).tolist() == [2, 3, 1, 4]


def test_every_row_is_in_one_group_and_groups_grow_in_length(monkeypatch):
    monkeypatch.setattr(lengths, "GROUP", 10)
    ends = torch.randint(1, 9, (23,), generator=torch.Generator().manual_seed(0))
    groups = rows_by_length(ends, 60)
    assert len(groups) == 6
    assert sorted(torch.cat(groups).tolist()) == list(range(23))
    assert len(rows_by_length(ends, 20)) == 2
    widths = [sorted(ends[rows].tolist()) for rows in groups]
    assert all(shorter[-1] <= longer[0] for shorter, longer in pairwise(widths))


@pytest.mark.parametrize("why", ["a small batch", "equal rows", "several processes"])
def test_a_batch_stays_one_group_in_its_own_order(why, monkeypatch):
    monkeypatch.setattr(lengths, "GROUP", 51 if why == "a small batch" else 10)
    if why == "several processes":
        monkeypatch.setenv("WORLD_SIZE", "2")
    ends = torch.full((9,), 4) if why == "equal rows" else torch.arange(9, 0, -1)
    (rows,) = rows_by_length(ends, 100)
    assert rows.tolist() == list(range(9))


def uneven_rows(B: int, T: int) -> torch.Tensor:
    """Rows of 2 to 12 tokens; one has padding also between its words, and one is nothing else."""
    tokens = torch.randint(4, 20, (B, T), generator=torch.Generator().manual_seed(1))
    tokens = tokens.masked_fill(torch.arange(T) >= torch.arange(B)[:, None] % 11 + 2, 0)
    tokens[5, 1], tokens[7] = 0, 0
    return tokens


@pytest.mark.parametrize("pad", [0, None])
def test_bert_reads_in_groups_what_it_reads_at_once_and_far_less_padding(pad, monkeypatch):
    torch.manual_seed(0)
    bert, tokens, shapes = PreTrainingBert(replace(SIZES, pad=pad)).eval().bert, uneven_rows(24, 12), []
    segments, is_word = torch.zeros_like(tokens), (tokens != 0)[..., None]
    at_once = bert(tokens, segments)
    weights = torch.randn(at_once.shape, generator=torch.Generator().manual_seed(3)) * is_word
    expected = torch.autograd.grad((at_once * weights).sum(), list(bert.encoder.parameters()))
    monkeypatch.setattr(lengths, "GROUP", 48)
    bert.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[:2])))
    grouped = hidden_states(bert, tokens, segments)
    torch.testing.assert_close(grouped * is_word, at_once * is_word)
    found = torch.autograd.grad((grouped * weights).sum(), list(bert.encoder.parameters()))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    if pad is None:  # then nothing is padding, and all is read
        assert shapes == [(24, 12)]
        return
    assert len(shapes) == 6
    assert sum(rows for rows, _ in shapes) == len(tokens)
    read, words = sum(rows * width for rows, width in shapes), int(is_word.sum())
    assert read - words < (tokens.numel() - words) / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_translation_loss_in_groups_is_that_at_once_with_far_less_padding(smoothing, monkeypatch):
    torch.manual_seed(0)
    model, shapes = EncoderDecoder(SIZES).eval(), []
    draws = torch.Generator().manual_seed(2)
    rows = [torch.randint(4, 20, (n % 9 + 2,), generator=draws).tolist() for n in range(40)]
    pairs = list(zip(rows[:20], reversed(rows[20:]), strict=True))
    batch = translation_batch(pairs, begin=1, end=2, pad=0)
    batch = batch._replace(targets=batch.targets.index_fill(0, torch.tensor([4]), IGNORED))  # a row without targets
    at_once = translation_loss(model, batch, smoothing)
    expected = torch.autograd.grad(at_once, list(model.parameters()))
    monkeypatch.setattr(lengths, "GROUP", 50)
    model.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[:2].numel()))
    grouped = translation_loss(model, batch, smoothing)
    torch.testing.assert_close(grouped, at_once)
    torch.testing.assert_close(torch.autograd.grad(grouped, list(model.parameters())), expected, atol=1e-6, rtol=1e-4)
    assert len(shapes) > 2
    assert sum(shapes) < 0.9 * batch.tokens.numel()
