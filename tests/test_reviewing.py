"""Quiz questions come back: soon when they were missed, later and later when they are known."""

import datetime
import json
from datetime import timedelta

import pytest

from llmcourse import cli
from llmcourse.exercises import reviewing
from llmcourse.exercises.quiz import questions

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))


def test_every_question_of_the_quizzes_is_a_card_in_the_order_of_the_course():
    deck = reviewing.cards()
    assert [card.chapter for card in deck][:1] == ["start_here"]
    first = questions("language_models")
    assert [card.ask for card in deck if card.chapter == "language_models"] == [item["ask"] for item in first]
    assert len({card.name for card in deck}) == len(deck) > 30


def test_new_questions_come_in_order_until_some_are_due():
    deck = reviewing.cards()
    assert reviewing.due(NOW, 3) == deck[:3]
    reviewing.answer(deck[0], True, NOW)
    assert reviewing.due(NOW, 3) == deck[1:4]
    assert reviewing.due(NOW + timedelta(days=400), 1) == [deck[0]]  # what was learned comes before what is new


def test_the_longest_waiting_question_comes_first():
    deck = reviewing.cards()
    reviewing.answer(deck[5], False, NOW)
    reviewing.answer(deck[2], False, NOW + timedelta(hours=1))
    assert reviewing.due(NOW + timedelta(days=1), 2) == [deck[5], deck[2]]


def test_a_right_answer_makes_the_wait_longer_each_time_and_a_wrong_one_short():
    card, now, waits = reviewing.cards()[0], NOW, []
    for _ in range(6):
        again = reviewing.answer(card, True, now)
        waits.append(again - now)
        now = again
    assert waits == sorted(waits) and waits[-1] > 10 * waits[1]
    assert reviewing.answer(card, False, now) - now < timedelta(hours=1)


def test_a_damaged_record_starts_anew():
    reviewing.path().write_text("{", encoding="utf-8")
    assert reviewing.due(NOW, 1) == reviewing.cards()[:1]


def test_the_deck_for_anki_has_a_line_for_each_question_and_shows_html_as_text():
    lines = reviewing.anki(reviewing.cards()).splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert len(rows) == len(reviewing.cards())
    assert {len(row) for row in rows} == {4}
    assert all(
        card.right["text"].split()[0] in row[2]
        for card, row in zip(reviewing.cards(), rows, strict=True)
        if "<" not in card.right["text"]
    )
    card = reviewing.Card(
        "x", "Is <b> a tag?", ({"text": "yes", "why": "a < b", "right": True}, {"text": "no", "why": ""})
    )
    (row,) = [line for line in reviewing.anki([card]).splitlines() if not line.startswith("#")]
    assert "Is &lt;b&gt; a tag?" in row and "a &lt; b" in row


def test_the_command_asks_says_why_and_stops_when_told(monkeypatch, capsys):
    card = reviewing.cards()[0]
    place = next(i for i, option in enumerate(card.shuffled(0)) if option.get("right"))
    answers = iter(["?", "abc"[place], ""])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(answers))
    assert cli.main(["review", "--count", "2"]) == 0
    said = capsys.readouterr().out
    assert card.ask in said and card.right["why"] in " ".join(said.split())
    assert "1 of 1 right" in said
    assert list(json.loads(reviewing.path().read_text("utf-8"))) == [card.name]


def test_the_command_writes_a_deck(tmp_path, capsys):
    assert cli.main(["review", "--anki", str(tmp_path / "deck.txt")]) == 0
    assert (tmp_path / "deck.txt").read_text("utf-8").startswith("#separator:tab")
    assert "deck.txt" in capsys.readouterr().out
