"""A conversation becomes one row, and the loss counts what the assistant says by itself: checked token by token."""

import math

import pytest
import torch
from torch import nn

from llmcourse.chat import END, PAD, SPECIAL, answer_batch, answer_batches, chat_tokenizer, counted_batch, render
from llmcourse.data import IGNORED
from llmcourse.training import next_token_loss

TOKENIZER = chat_tokenizer(["key", "moon", "reverse"])
TURNS = (("system", "reverse"), ("document", "key moon"), ("assistant", "moon key"))
PIECES = ["[SYSTEM]", "reverse", "[END]", "[DOCUMENT]", "key", "moon", "[END]", "[ASSISTANT]", "moon", "key", "[END]"]


def pieces(ids):
    return [TOKENIZER.piece(i) for i in ids]


def test_each_turn_is_its_role_its_words_and_an_end():
    assert pieces(render(TURNS, TOKENIZER).ids) == PIECES


def test_what_counts_is_the_assistants_words_and_the_end_after_them():
    counts = render(TURNS, TOKENIZER).counts
    assert counts == [False] * 8 + [True] * 3  # [ASSISTANT] is set by the template, and is never the model's to say


def test_an_earlier_reply_of_the_assistant_counts_too():
    turns = (("user", "key"), ("assistant", "moon"), ("user", "moon"), ("assistant", "key"))
    counts = render(turns, TOKENIZER).counts
    assert [piece for piece, one in zip(pieces(render(turns, TOKENIZER).ids), counts, strict=True) if one] == [
        "moon", "[END]", "key", "[END]",
    ]  # fmt: skip


def test_a_row_that_asks_for_a_reply_ends_with_the_assistants_token():
    asked = render(TURNS[:2], TOKENIZER, reply=True)
    assert pieces(asked.ids) == PIECES[:8]
    assert not any(asked.counts)


def test_nobody_opens_or_closes_a_turn_by_typing():
    for name in SPECIAL:
        said = render((("user", f"key {name}"),), TOKENIZER).ids
        assert len(said) == 4
        assert said[2] != TOKENIZER.special_id(name)
        assert TOKENIZER.piece(said[2]) == name  # it looks the same, and is a word


def test_a_role_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'boss' is no role"):
        render((("boss", "key"),), TOKENIZER)


def test_the_target_is_the_next_token_where_it_counts_and_ignored_elsewhere():
    batch = answer_batch([TURNS], TOKENIZER)
    assert pieces(batch.tokens[0]) == PIECES[:-1]
    targets = batch.targets[0].tolist()
    assert targets[:7] == [IGNORED] * 7
    assert pieces(targets[7:]) == ["moon", "key", "[END]"]  # the first word is said where [ASSISTANT] stands


def test_padding_never_counts():
    short = (("user", "key"), ("assistant", "key"))
    batch = answer_batch([TURNS, short], TOKENIZER)
    assert batch.tokens.shape == batch.targets.shape == (2, 10)
    assert (batch.tokens[1] == TOKENIZER.special_id(PAD)).sum() == 5
    assert (batch.targets[1] != IGNORED).nonzero().flatten().tolist() == [3, 4]


class Sure(nn.Module):
    """Gives each next token the probability that a table of (row, position) holds, and spreads the rest evenly."""

    def __init__(self, table, following):
        super().__init__()
        self.table, self.following = table, following

    def forward(self, tokens):
        V = len(TOKENIZER)
        probabilities = torch.empty(*tokens.shape, V)
        for b, row in enumerate(self.table):
            for t, p in enumerate(row):
                probabilities[b, t] = (1 - p) / (V - 1)
                probabilities[b, t, self.following[b][t]] = p
        return probabilities.log()


def test_the_loss_is_the_mean_over_the_three_tokens_by_hand():
    batch, ids = answer_batch([TURNS], TOKENIZER), render(TURNS, TOKENIZER).ids
    model = Sure([[0.01] * 7 + [0.5, 0.25, 0.8]], [ids[1:]])
    by_hand = -(math.log(0.5) + math.log(0.25) + math.log(0.8)) / 3
    assert next_token_loss(model, batch).item() == pytest.approx(by_hand, abs=1e-5)


def test_a_batch_in_which_the_assistant_says_nothing_is_refused():
    with pytest.raises(ValueError, match="the assistant says nothing"):
        answer_batch([TURNS[:2]], TOKENIZER)


def test_a_stream_becomes_batches_of_a_size_and_the_last_holds_the_rest():
    batches = list(answer_batches(iter([TURNS] * 5), 2, TOKENIZER))
    assert [len(batch.tokens) for batch in batches] == [2, 2, 1]


def test_rendered_rows_make_the_batch_that_their_conversations_make():
    rendered = counted_batch([render(TURNS, TOKENIZER)], TOKENIZER)
    assert torch.equal(rendered.targets, answer_batch([TURNS], TOKENIZER).targets)


def test_every_special_token_has_a_name_of_its_own():
    assert len({TOKENIZER.special_id(name) for name in SPECIAL}) == len(SPECIAL)
    assert {PAD, END} < set(SPECIAL)
