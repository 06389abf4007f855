"""Quiz questions come back: soon when they were missed, later and later when they are known."""

import csv
import datetime
import json
import re
from datetime import timedelta

import pytest
from bs4 import BeautifulSoup

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
    reviewing.path().write_text(json.dumps({reviewing.cards()[0].name: {"due": "soon"}, "x": 3}), encoding="utf-8")
    assert reviewing.waiting(NOW) == 0 and reviewing.due(NOW, 1) == reviewing.cards()[:1]


def test_no_questions_cannot_be_asked_for(capsys):
    assert cli.main(["review", "--count", "-5"]) == 1
    assert "count=-5" in capsys.readouterr().err


def test_the_end_of_what_is_typed_stops_the_session(monkeypatch, capsys):
    def nobody(prompt=""):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    assert cli.main(["review"]) == 0


def imported(text: str) -> tuple[dict[str, str], list[list[str]]]:
    """What Anki reads: the settings of the first lines, and the rows, whose fields may be quoted."""
    lines = text.splitlines()
    settings = dict(line[1:].split(":", 1) for line in lines if line.startswith("#"))
    assert settings["separator"] == "tab" and settings["html"] == "true"
    rows = [line for line in lines if not line.startswith("#")]
    return settings, list(csv.reader(rows, delimiter="\t", quotechar='"', strict=True))


def said(html: str) -> str:
    return " ".join(BeautifulSoup(html, "html.parser").get_text(" ").split())


def words(text: str) -> str:
    return " ".join(re.sub(r"[`*]", " ", text).split())


def test_what_anki_imports_is_the_question_bank_again():
    deck = reviewing.cards()
    settings, rows = imported(reviewing.anki(deck))
    assert settings["guid column"] == "1" and settings["tags column"] == "4" and settings["deck"] == "llmcourse"
    for card, (guid, front, back, tag) in zip(deck, rows, strict=True):
        assert (guid, tag) == (card.name, card.chapter)
        options = [said(str(item)) for item in BeautifulSoup(front, "html.parser").find_all("li")]
        assert sorted(options) == sorted(words(option["text"]) for option in card.options)
        assert said(front.split("<ul>")[0]) == words(card.ask)
        assert said(back) == words(f"{card.right['text']} {card.right['why']}")
    assert len({row[0] for row in rows}) == len(deck)


def test_the_deck_for_anki_shows_html_as_text_and_code_as_code():
    options = ({"text": 'say "yes"', "why": "a < b", "right": True}, {"text": "no\tnever", "why": ""})
    card = reviewing.Card("x", "Is `<b>` a tag?", options)
    _, [(_, front, back, _)] = imported(reviewing.anki([card]))
    assert "Is <code>&lt;b&gt;</code> a tag?" in front and "a &lt; b" in back
    assert said(back) == 'say "yes" a < b' and "no never" in front


def test_only_questions_that_were_put_off_and_are_due_again_are_waiting():
    deck = reviewing.cards()
    assert reviewing.waiting(NOW) == 0
    reviewing.answer(deck[0], False, NOW)
    again = reviewing.answer(deck[1], True, NOW)
    assert reviewing.waiting(NOW) == 0 and reviewing.waiting(again + timedelta(days=1)) == 2


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
