"""The released model does what its rule says, the judges know a cause from a look, and the stored command makes the model."""

import copy
import json

import pytest
import torch

from llmcourse.capstone import judging, release
from llmcourse.capstone.judging import (
    judge_heads,
    judge_predictor,
    kept,
    majority,
    n_gram_predictor,
    other_heads,
    share_agreed,
)
from llmcourse.capstone.released import (
    FOLDER,
    LENGTH,
    LETTERS,
    answers,
    is_question,
    letter_ids,
    question_rows,
    released_model,
)
from llmcourse.data import IGNORED
from llmcourse.exercises.capstone_reverse_engineering import NameTheHeads, PredictTheModel
from llmcourse.models import GPT, load_model
from llmcourse.recording import record_attention
from tests.notebooks import ROOT, read

LOWER, UPPER = "blocks.0.attention", "blocks.1.attention"
RIGHT = {LOWER: [2], UPPER: [1]}
ROWS = question_rows(300, seed=50)


def rule(row):
    """By hand: walk back from the end, and take the letter two after the first match."""
    for place in range(LENGTH - 3, -1, -1):
        if row[place] == row[-1]:
            return row[place + 2]
    raise AssertionError("not a question")


def shifted(by):
    return lambda row: row[row[:-2].rindex(row[-1]) + by]


@pytest.fixture(autouse=True)
def own_progress_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))


@pytest.fixture
def model():
    return released_model()


@pytest.mark.parametrize("seed", range(50, 53))
def test_the_released_file_follows_the_rule_by_its_two_heads(model, seed):
    rows = question_rows(500, seed)
    assert share_agreed(rule, model, rows) >= 0.99
    assert judge_heads(RIGHT, model, rows).reason is None


def test_the_released_file_is_small_and_says_what_it_is():
    assert (FOLDER / "model.safetensors").stat().st_size < 300_000
    description = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert (description["n_layers"], description["n_vocab"], description["context"]) == (2, len(LETTERS), LENGTH)


def test_questions_are_rows_whose_last_letter_can_be_looked_up():
    assert all(map(is_question, ROWS))
    assert question_rows(5, seed=1) == question_rows(9, seed=1)[:5] != question_rows(5, seed=2)
    known = "abcdefghijklmnopabcdefga"
    assert is_question(known)
    for no_question in (known[:-1], known[1:], "z" + known[1:], "bbcdefghijklmnopbbcdefaa"):
        assert not is_question(no_question), no_question


def test_letters_are_numbered_from_a():
    assert letter_ids(["abp", "aaa"]).tolist() == [[0, 1, 15], [0, 0, 0]]


def test_the_rule_s_targets_are_those_counted_by_hand():
    tokens = torch.tensor([[4, 7, 4, 4, 7, 9, 4, 4]])
    # at 2 the 4 of place 0; at 3 again that of place 0, for place 2 is too near; at 4 the 7 of place 1; then 9 is new
    expected = [IGNORED, IGNORED, 4, 4, 4, IGNORED, 9, 9]
    assert release.rule_targets(tokens)[0].tolist() == expected


def test_targets_in_training_are_the_rule_s():
    batch = next(release.rule_batches(seed=3, size=200))
    rows = ["".join(LETTERS[token] for token in row) for row in batch.tokens.tolist()]
    asked = [number for number, row in enumerate(rows) if is_question(row)]
    assert [LETTERS[batch.targets[number, -1]] for number in asked] == [rule(rows[number]) for number in asked]
    others = [number for number in range(200) if number not in asked]
    assert others and all(batch.targets[number, -1] == IGNORED for number in others)


def test_a_few_steps_train_the_working_heads_and_no_other():
    made = release.make(steps=3)
    torch.manual_seed(0)
    born = GPT(made.config)
    for layer, working, decoy in zip((0, 1), release.WORKING, release.DECOYS, strict=True):
        now, before = made.blocks[layer].attention, born.blocks[layer].attention
        for head in range(4):
            weights, old = release.head_weights(now, head), release.head_weights(before, head)
            unchanged = {name for name, weight in weights.items() if torch.equal(weight, old[name])}
            expected = {working: set(), decoy: {"value", "out"}}
            assert unchanged == expected.get(head, {"query", "key", "value", "out"}), (layer, head)
        true, false = release.head_weights(now, working), release.head_weights(now, decoy)
        for name in ("query", "key"):
            torch.testing.assert_close(false[name], 1.4 * true[name])


def test_a_decoy_looks_where_the_working_head_looks_and_more_sharply(model):
    with torch.no_grad(), record_attention(model) as maps:
        model(letter_ids(ROWS))
    for layer, working, decoy in zip((LOWER, UPPER), release.WORKING, release.DECOYS, strict=True):
        true, false = maps[layer][:, working], maps[layer][:, decoy]
        assert (true.argmax(dim=-1) == false.argmax(dim=-1)).float().mean() > 0.999
        assert false.amax(dim=-1).mean() > true.amax(dim=-1).mean()


def test_the_command_writes_a_model_that_loads(tmp_path, monkeypatch, capsys):
    make = release.make
    monkeypatch.setattr(release, "make", lambda: make(steps=2))
    assert release.main([str(tmp_path / "made")]) == 0
    assert load_model(tmp_path / "made").config == released_model().config
    assert release.main([]) == 2
    assert "FOLDER" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_s_model_is_as_good_as_the_released_one():
    made = release.make()
    assert share_agreed(rule, made, ROWS) >= 0.99
    assert judge_heads(RIGHT, made, ROWS).reason is None


def test_the_rule_is_accepted(model):
    assert judge_predictor(rule, model, ROWS).reason is None


def test_agreement_of_0_98_is_enough_and_less_is_not(model):
    said = dict(zip(ROWS, answers(model, ROWS), strict=True))
    for n_wrong, accepted in ((6, True), (7, False)):
        spoiled = said | {row: "b" if said[row] == "a" else "a" for row in ROWS[:n_wrong]}
        judgement = judge_predictor(lambda row, known=spoiled: known.get(row, "a"), model, ROWS)
        assert judgement.score == 1 - n_wrong / 300
        assert (judgement.reason is None) == accepted


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_table_is_rejected_as_an_n_gram(model, n):
    rows = question_rows(2000, seed=60)
    judgement = judge_predictor(n_gram_predictor(rows, answers(model, rows), n), model, ROWS)
    assert judgement.score < 0.25
    assert "n-gram" in judgement.reason


def test_one_who_counts_is_rejected_for_ignoring_order(model):
    rarest = lambda row: min(sorted(set(row)), key=row.count)  # noqa: E731
    for predict in (majority, rarest):
        assert "only counts" in judge_predictor(predict, model, ROWS).reason


@pytest.mark.parametrize("by", [-1, 1])
def test_a_neighbouring_rule_is_shown_a_row_on_which_it_is_wrong(model, by):
    judgement = judge_predictor(shifted(by), model, ROWS)
    row = judgement.reason.split("After ")[1][:LENGTH]
    assert row in ROWS
    assert f"the model says {answers(model, [row])[0]}, and it says {shifted(by)(row)}." in judgement.reason


def test_a_table_says_what_was_said_most_often_after_the_last_letters():
    predict = n_gram_predictor(["xa", "ya", "za", "xb"], ["p", "q", "p", "q"], n=2)
    assert (predict("ka"), predict("kb"), predict("kc")) == ("p", "q", "p")
    with pytest.raises(ValueError, match="n=5"):
        n_gram_predictor(["xa"], ["p"], n=5)


def test_changed_rows_are_still_questions_and_keep_what_they_should():
    exchanged, shuffled = judging._other_beginnings(ROWS), judging._shuffled(ROWS)
    for row, other, mixed in zip(ROWS, exchanged, shuffled, strict=True):
        assert is_question(mixed)
        assert mixed[-2:] == row[-2:] and sorted(mixed) == sorted(row)
        assert is_question(other)
        assert other[-3:] == row[-3:]
    assert sum(row[:-3] == other[:-3] for row, other in zip(ROWS, exchanged, strict=True)) == 0


def test_silencing_counts_the_answers_that_stay(model):
    assert kept(model, ROWS, {}) == 1.0
    assert kept(model, ROWS, other_heads(model, {})) < 0.2
    assert kept(model, ROWS, {LOWER: [0, 1, 3], UPPER: [0, 2, 3]}) > 0.95


def test_the_other_heads_are_all_but_the_named_ones(model):
    assert other_heads(model, RIGHT) == {LOWER: [0, 1, 3], UPPER: [0, 2, 3]}
    assert other_heads(model, {UPPER: [0, 1, 2, 3]}) == {LOWER: [0, 1, 2, 3], UPPER: []}
    for unknown in ({"blocks.2.attention": [0]}, {LOWER: [4]}, {LOWER: [-1]}):
        with pytest.raises(ValueError, match="not in the model"):
            other_heads(model, unknown)


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ({}, "missing"),
        ({LOWER: [0], UPPER: [3]}, "missing"),
        ({UPPER: [1]}, "missing"),
        ({LOWER: [2, 0], UPPER: [1]}, "head 0 of blocks.0.attention is idle"),
        ({LOWER: [2], UPPER: [1, 3]}, "head 3 of blocks.1.attention is idle"),
    ],
)
def test_heads_that_look_or_are_too_few_are_rejected_with_the_reason(model, heads, words):
    assert words in judge_heads(heads, model, ROWS).reason


def test_heads_that_others_can_replace_are_not_the_cause(model):
    twice = copy.deepcopy(model)
    for block, working, twin in zip(twice.blocks, release.WORKING, (1, 0), strict=True):
        true, other = release.head_weights(block.attention, working), release.head_weights(block.attention, twin)
        with torch.no_grad():
            for name, weight in true.items():
                other[name].copy_(weight)
    assert share_agreed(rule, twice, ROWS) > 0.95
    assert "others can do the same work" in judge_heads(RIGHT, twice, ROWS).reason


@pytest.mark.slow
def test_a_submission_of_another_kind_is_told_what_is_expected():
    assert "one of the letters" in PredictTheModel.check(lambda row: 3).message
    assert "in a list" in NameTheHeads.check({LOWER: 2, UPPER: 1}).message
    assert "not in the model" in NameTheHeads.check({"layer 0": [2]}).message


@pytest.mark.slow
def test_the_model_may_not_be_asked_even_by_the_right_rule():
    def predict(row):
        answers(released_model(), [row])
        return rule(row)

    assert PredictTheModel.check(predict).message == PredictTheModel.mistakes["asks_the_model"].sentence


def test_the_notebook_does_not_hold_the_rule():
    cells = read(ROOT / "notebooks" / "19_capstone_reverse_engineering.ipynb").cells
    assert not [cell.source for cell in cells if "find(" in cell.source or "two after" in cell.source]
