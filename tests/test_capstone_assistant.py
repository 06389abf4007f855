"""Texts are cut as people would cut them, questions know their truth, look-alikes are named, and the rubric keeps its word."""

import inspect
import sys
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest
import torch

from llmcourse.capstone import lookalikes, reading
from llmcourse.capstone.bases import (
    ATTACKS,
    UNLISTED,
    attacked_base,
    attacks,
    default_base,
    edited_base,
    fresh_base,
    questions,
    stated,
)
from llmcourse.capstone.facts import FACT_WORDS, LANGUAGES, Base, Fact, pieces_of, read_base, read_passage, sentence_of
from llmcourse.capstone.judging_assistant import (
    CLAIMED,
    Examined,
    Measured,
    Reply,
    examine,
    examine_all,
    look_alikes,
    measure,
)
from llmcourse.capstone.reading import (
    SYMBOLS,
    find,
    frame_batch,
    frame_stream,
    frames_right,
    released_reader,
    symbols_for,
)
from llmcourse.capstone.rubric import (
    SECTIONS,
    assistant_lines,
    card_lines,
    card_text,
    false_claims,
    judge,
    missing_parts,
)
from llmcourse.exercises.capstone_assistant import SubmitAssistant, WriteCard, admit
from llmcourse.weights import load_tensors

TARN = default_base()
GOOD = Measured(0.99, 0.97, 1.0, 0.99, 0.98, 0.02, 1.0, 0.003)


@cache
def small_base():
    return fresh_base(3, n_places=4, n_relations=3)


def oracle(base, reader=None):
    """One who reads passages by their six forms: no model, always right, and as sure as it should be."""
    facts, admitted = stated(base), set(admit(base))

    def ask(question):
        names = [piece.word for piece in pieces_of(question, base.names) if piece.kind != "plain"]
        for x, r in (names, names[::-1]):
            place, fact = facts.get((x, r), (None, None))
            if place in admitted:
                return Reply(base.called(fact.y, lookalikes.seems(question)), place, 1.0)
        return Reply(None, None, 1.0)

    return ask


def test_a_text_is_cut_at_the_longest_name():
    names = (("Lind", "林"), ("Linden", "林德"), ("Old Town", "老城"), ("mayor", "镇长"))
    words = lambda text: [(piece.word, piece.kind) for piece in pieces_of(text, names)]  # noqa: E731
    assert words("林德的镇长") == [("Linden", "name"), ("的", "plain"), ("mayor", "name")]
    assert words("the Mayor of old town") == [
        ("the", "plain"),
        ("mayor", "name"),
        ("of", "plain"),
        ("Old Town", "name"),
    ]
    assert words("Linda Lindens is") == [("linda lindens", "unknown"), ("is", "plain")]
    assert words("Lind的镇长") == [("Lind", "name"), ("的", "plain"), ("mayor", "name")]


def test_pieces_say_where_they_stand():
    text = "塔恩的镇长是Odile。"
    assert [text[piece.start : piece.end] for piece in pieces_of(text, TARN.names)] == [
        "塔恩",
        "的",
        "镇长",
        "是",
        "Odile",
        "。",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("way", range(3))
def test_a_fact_is_read_as_it_was_said(language, way):
    fact = Fact("Sorrow Bay", "ferry", "Grey Heron")
    assert read_passage(sentence_of(fact, TARN, language, way), TARN) == (fact, language, way)


def test_what_is_no_plain_fact_is_not_read_as_one():
    for passage in (
        "The mayor of Tarn is not Odile.",
        "The mayor of Tarn is Nobody.",
        "Tell me the mayor of Tarn.",
        "Odile.",
    ):
        assert read_passage(passage, TARN) is None, passage


def test_a_knowledge_base_is_read_line_by_line():
    base = read_base("# a comment\nTarn = 塔恩\nmayor = 镇长\n\nIvo = 伊沃\nThe mayor of Tarn is Ivo.\n")
    assert base == Base(("The mayor of Tarn is Ivo.",), (("Tarn", "塔恩"), ("mayor", "镇长"), ("Ivo", "伊沃")))
    assert (base.called("Tarn", "zh"), base.called("Tarn", "en"), base.called("Rome", "zh")) == ("塔恩", "Tarn", "Rome")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("塔恩 = Tarn\nx", "English first"),
        ("Tarn =\nx", "no pair"),
        ("Tarn = 塔恩\nTARN = 塔\nx", "listed twice"),
        ("the = 塔恩\nx", "plain words"),
        ("Tarn = 塔恩", "0 passages"),
    ],
)
def test_a_faulty_knowledge_base_is_refused_with_the_way_out(text, words):
    with pytest.raises(ValueError, match=words):
        read_base(text)


def test_the_shipped_knowledge_base_is_plain_and_mixed():
    assert len(stated(TARN)) == len(TARN.passages) == len(admit(TARN))
    languages = [read_passage(passage, TARN)[1] for passage in TARN.passages]
    assert min(languages.count(one) for one in LANGUAGES) >= 10


def test_fresh_bases_differ_by_seed_and_hold_turned_facts():
    assert fresh_base(1) == fresh_base(1) != fresh_base(2)
    with pytest.raises(ValueError, match="names are more than"):
        fresh_base(0, n_places=1_000, n_relations=12)
    for seed in range(5):
        facts = stated(fresh_base(seed))
        assert len(facts) == len(fresh_base(seed).passages) > 25
        turned = [pair for pair in facts if any((f.y, f.r) == pair for _, f in facts.values())]
        assert len(turned) >= 3, "who goes by words alone must be misled"


def test_questions_know_their_truth_in_both_languages():
    base = fresh_base(4)
    facts, asked = stated(base), questions(base, 4)
    for one in asked:
        place, fact = facts.get(one.pair, (None, None))
        assert one.evidence == place
        assert one.answer == (fact and base.called(fact.y, one.language))
        assert {one.answer, one.translation} == (
            {None} if fact is None else {base.called(fact.y, x) for x in LANGUAGES}
        )
        assert lookalikes.seems(one.text) == one.language
    assert (
        {one.language for one in asked if one.answer}
        == {one.language for one in asked if not one.answer}
        == set(LANGUAGES)
    )
    assert any(one.pair[0] == UNLISTED for one in questions(base, 4, 400))
    assert asked == questions(base, 4)


def test_an_edit_changes_values_and_nothing_else():
    after, changed = edited_base(TARN, 1)
    before, now = stated(TARN), stated(after)
    assert before.keys() == now.keys() and len(changed) == len(before) // 2
    for pair, (place, fact) in now.items():
        assert (place, fact == before[pair][1]) == (before[pair][0], pair not in changed)


@pytest.mark.parametrize("change", [edited_base, attacks])
def test_a_base_of_one_value_cannot_be_lied_about(change):
    names = "Tarn = 塔恩\nBray = 布雷\nmayor = 镇长\nOdile = 奥迪尔\n"
    same = read_base(names + "The mayor of Tarn is Odile.\nThe mayor of Bray is Odile.\n")
    with pytest.raises(ValueError, match="state no other value than Odile"):
        change(same)


def test_attacks_leave_the_facts_and_are_never_plain():
    base, under = small_base(), attacked_base(small_base(), 2)
    planted = attacks(base, 2)
    assert len(planted) == sum(map(len, ATTACKS.values())) == len(under.passages) - len(base.passages)
    assert [under.passages[place] for place in admit(under)] == list(base.passages)
    for attack in planted:
        assert stated(base)[attack.pair][1].y not in attack.wanted
        assert any(name in attack.passage for name in attack.wanted)


def test_frames_say_what_their_answer_says():
    for frame in islice(frame_stream(7), 200):
        names = [word for word in frame.question.split() if word in SYMBOLS]
        holding = [place for place, text in enumerate(frame.sentences) if all(name in text.split() for name in names)]
        if frame.evidence is None:
            assert frame.answer is None
        else:
            assert frame.evidence in holding
            assert frame.answer in frame.sentences[frame.evidence].split()
            assert frame.answer not in names
    assert any(frame.evidence is None for frame in islice(frame_stream(7), 50))


@pytest.mark.parametrize("choices", [{"ways": 0}, {"unanswerable": 1.5}])
def test_impossible_frames_are_refused(choices):
    with pytest.raises(ValueError, match="ways="):
        frame_stream(**choices)


def test_names_become_symbols_the_same_in_both_languages():
    question, passage = (
        pieces_of("Who is the mayor of Tarn?", TARN.names),
        pieces_of("塔恩的镇长是奥迪勒。", TARN.names),
    )
    assert symbols_for(question, passage) == ["who is the s0 of s1 ?", "s1 的 s0 是 s2 。"]
    with pytest.raises(ValueError, match="read fewer passages"):
        symbols_for(*(pieces_of(f"name{number} is", ()) for number in range(len(SYMBOLS) + 1)))


def test_the_reader_cannot_tell_one_name_from_another():
    ask = lambda names: find(  # noqa: E731
        released_reader(),
        pieces_of(f"who is the mayor of {names[0]} ?", ()),
        [pieces_of(f"{names[0]} has {names[1]} as its mayor.", ())],
    )
    one, other = ask(("Tarn", "Ivo")), ask(("Mars", "Xerxes"))
    assert (one.piece.word, other.piece.word) == ("ivo", "xerxes")
    assert one.confidence == other.confidence


def test_the_released_reader_reads_both_languages():
    for language in LANGUAGES:
        assert frames_right(released_reader(), frame_batch(300, 60, languages=(language,))) >= 0.95
    assert frames_right(reading.new_reader(), frame_batch(300, 60)) <= 0.2
    assert reading.RELEASED.stat().st_size < 200_000


def test_the_command_writes_a_reader_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "trained_reader", reading.new_reader)
    assert reading.main([str(tmp_path / "reader.safetensors")]) == 0
    assert load_tensors(tmp_path / "reader.safetensors")[0].keys() == released_reader().state_dict().keys()
    assert reading.main([]) == 2
    assert "FILE" in capsys.readouterr().err


def test_an_oracle_passes_every_line_and_is_no_look_alike():
    card = WriteCard.solution(GOOD)
    report = judge(
        oracle, released_reader(), TARN, card | {"figures": measure(oracle, released_reader(), TARN)._asdict()}
    )
    assert report.accepted and report.points == 100, report


NAMED = {
    "words alone": "goes by which words stand together",
    "always answers": "always answers",
    "always abstains": "always abstains",
    "English only": "knows one language",
    "whole passage": "repeats whole passages",
    "majority answer": "has a favourite",
    "remembers": "remembers a knowledge base",
    "peeks": "judge's answers",
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("seed", range(3))
def test_each_look_alike_is_named_and_fails(name, seed):
    report = judge(lookalikes.LOOK_ALIKES[name], released_reader(), TARN, {}, seed)
    assert NAMED[name] in report.look_alikes[0], report
    assert report.points <= 60


def test_one_who_answers_by_the_order_of_questions_is_found():
    def moody(base, reader):
        ask, asked = oracle(base), []

        def answer(question):
            asked.append(question)
            return ask(question) if len(asked) % 3 else Reply("what?", 0, 1.0)

        return answer

    assert "order of the questions" in look_alikes(examine_all(moody, released_reader(), TARN))[0]


def test_one_who_answers_in_the_other_language_is_found():
    def turned(base, reader):
        other = replace(base, names=tuple(pair[::-1] for pair in base.names))
        ask = oracle(base)

        def answer(question):
            reply = ask(question)
            if reply.text is None:
                return reply
            return reply._replace(
                text=next(b if a == reply.text else a for a, b in other.names if reply.text in (a, b))
            )

        return answer

    assert "wrong language" in look_alikes(examine_all(turned, released_reader(), TARN))[0]


def test_one_who_obeys_is_found():
    def obedient(base, reader):
        ask, planted = oracle(base), attacks(fresh_base(1000), 0)
        under = len(base.passages) > len(fresh_base(1000).passages)

        def answer(question):
            names = [piece.word for piece in pieces_of(question, base.names) if piece.kind == "name"]
            for attack in planted:
                if under and set(attack.pair) == set(names):
                    return Reply(attack.wanted[lookalikes.seems(question) == "zh"], 0, 1.0)
            return ask(question)

        return answer

    assert "obeys commands" in look_alikes(examine_all(obedient, released_reader(), TARN, seed=0))[0]


def test_no_variable_of_the_examination_holds_what_is_right_while_an_assistant_answers():
    held = set()

    def spy(base, reader):
        def ask(question):
            frame = sys._getframe()
            while frame.f_code is not inspect.unwrap(examine_all).__code__:
                frame = frame.f_back
            held.update(frame.f_locals)
            assert not any(isinstance(one, Examined) for one in frame.f_locals.values())
            return Reply(None, None, 1.0)

        return ask

    examine_all(spy, released_reader(), small_base(), n=4)
    assert {"own", "bases"} <= held
    assert held.isdisjoint({"asked_own", "before", "wanted", "turned_pairs"})


def test_the_truth_does_not_exist_while_the_assistant_answers(monkeypatch):
    from llmcourse.capstone import judging_assistant

    made = []
    monkeypatch.setattr(judging_assistant, "questions", lambda *given: made.append("truth") or questions(*given))

    def build(base, reader):
        def ask(question):
            made.append("asked")
            return Reply(None, None, 1.0)

        return ask

    examine(build, released_reader(), small_base(), n=8)
    assert made[0] == made[-1] == "truth" and made.count("truth") == 2 and "asked" in made[1:-1]


@pytest.mark.parametrize(
    ("reply", "words"),
    [(None, "NoneType"), (Reply(3, None, 1.0), "a string or None"), (Reply("x", 0, 1.5), "between 0")],
)
def test_a_reply_of_another_kind_is_refused(reply, words):
    with pytest.raises(ValueError, match=words):
        examine(lambda base, reader: lambda question: reply, released_reader(), TARN)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ValueError, match="returns the function"):
        examine(lambda base, reader: None, released_reader(), TARN)


def test_bounds_hold_at_their_edges():
    edge = Measured(0.95, 0.95, 0.95, 0.95, 0.9, 0.1, 0.95, 0.25)
    assert all(line.reason is None for line in assistant_lines(edge))
    assert sum(line.out_of for line in assistant_lines(edge)) == 90
    for name in Measured._fields:
        worse = 0.01 if name in ("calibration", "seconds") else -0.01
        lines = assistant_lines(edge._replace(**{name: getattr(edge, name) + worse}))
        assert sum(line.reason is not None for line in lines) == 1, name


def test_a_card_is_held_to_its_figures_on_both_sides():
    card = WriteCard.solution(GOOD)
    assert all(line.reason is None for line in card_lines(card, GOOD))
    for off in (-0.06, 0.06):
        claims = card["figures"] | {"chinese": GOOD.chinese + off}
        (fault,) = false_claims(card | {"figures": claims}, GOOD)
        assert "chinese" in fault and "0.97" in fault
    assert false_claims(card | {"figures": card["figures"] | {"english": float("nan")}}, GOOD)
    edge = GOOD._replace(english=0.95)  # 0.05 off is allowed, and 1 - 0.95 is a little more
    assert not false_claims(card | {"figures": {"english": 1.0}}, edge)


def test_a_card_without_a_part_is_told_which():
    card = WriteCard.solution(GOOD)
    for name in SECTIONS:
        assert name in missing_parts(card | {name: "too short"})[0]
    assert missing_parts({}) and len(missing_parts({})) == len(SECTIONS) + len(CLAIMED)
    untrue = card_lines(card | {"figures": {}}, GOOD)[1]
    assert untrue.reason == "it claims nothing that could be measured"


def test_a_card_becomes_text_with_the_lines_for_machines():
    text = card_text(WriteCard.solution(GOOD))
    assert text.startswith("---\nlicense: mit\nlanguage:\n- en\n- zh\n")
    assert "| chinese | 0.97 |" in text and "## Intended use" in text


def test_words_of_questions_and_denials_are_no_words_of_facts():
    assert FACT_WORDS.isdisjoint({"what", "who", "tell", "me", "not", "什么", "谁", "请", "告诉", "不"})
    assert {"the", "is", "的", "是"} <= FACT_WORDS


def has_all_points(reader, seed):
    assert frames_right(reader, frame_batch(1000, 995, unanswerable=0.0)) >= 0.98
    assert frames_right(reader, frame_batch(1000, 994, unanswerable=1.0)) >= 0.95
    for judged in (seed, seed + 10):
        card = WriteCard.solution(measure(SubmitAssistant.solution, reader, TARN))
        report = judge(SubmitAssistant.solution, reader, TARN, card, judged)
        assert report.accepted and report.points == 100, report


@pytest.mark.slow
def test_the_stored_command_makes_the_released_reader_and_the_reference_has_all_points_with_it():
    made, stored = reading.trained_reader(0), released_reader()
    batch = frame_batch(500, 61)
    with torch.no_grad():
        first, second = (reader(batch.tokens, batch.segments).argmax(dim=1) for reader in (made, stored))
    assert (first == second).float().mean() >= 0.97
    has_all_points(made, 0)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_the_reference_has_all_points_whichever_seed_its_reader_has(seed):
    has_all_points(reading.trained_reader(seed), seed)
