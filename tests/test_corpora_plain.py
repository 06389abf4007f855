"""The written corpus is clean, paired, of the promised size, and its hand-made morphology fits its words."""

import re
import unicodedata
from collections import Counter

import pytest

from llmcourse.corpora import plain

# Full-width , . ! ? : ; then the enumeration comma, the ellipsis and both quotation marks.
CHINESE_MARKS = "\uff0c\u3002\uff01\uff1f\uff1a\uff1b\u3001\u2026\u201c\u201d"
LANGUAGES = pytest.mark.parametrize("read", [plain.english, plain.chinese])


def texts(corpus):
    return corpus.rstrip("\n").split("\n\n\n")


def body(text):
    return text.split("\n\n", 1)[1]


def sentences(corpus):
    """Sentences without quotation marks and case; what follows speech (`"Why?" asked Lin.`) belongs to it."""
    english, chinese = r'(?<=[.!?])"?\s+(?=["A-Z])', r"(?<=[\u3002\uff01\uff1f])(?!\u201d)"
    found = (
        re.sub('["\u201c\u201d]', "", part).strip().lower() for part in re.split(rf"{english}|{chinese}|\n+", corpus)
    )
    return [sentence for sentence in found if sentence]


def test_sizes_are_what_the_course_counts_on():
    assert 30_000 <= len(plain.english().encode()) <= 40_000
    assert 22_000 <= len(plain.chinese().encode()) <= 32_000


@LANGUAGES
def test_characters_are_composed_and_white_space_is_plain(read):
    corpus = read()
    assert unicodedata.is_normalized("NFC", corpus)
    assert not set("\t\r\ufeff\u00a0\u3000") & set(corpus)
    assert all(line == line.strip() for line in corpus.split("\n"))
    assert corpus.endswith("\n")
    assert not corpus.endswith("\n\n")


def test_english_is_ascii():
    assert plain.english().isascii()


def test_chinese_has_only_chinese_characters_and_marks_and_a_few_quoted_english_words():
    english_words = re.findall(r"[A-Za-z]+(?:[' ][A-Za-z]+)*", plain.chinese())
    assert set(english_words) <= {"can't", "ice cream", "kind", "kindness", "unkindness", "happy", "unhappy"}
    rest = re.sub(r"[A-Za-z]+(?:[' ][A-Za-z]+)*", "", plain.chinese())
    assert re.sub(rf"[\u4e00-\u9fff{CHINESE_MARKS}\n]", "", rest) == ""


@LANGUAGES
def test_every_text_is_a_title_and_paragraphs(read):
    for text in texts(read()):
        title, *paragraphs = text.split("\n\n")
        assert len(paragraphs) >= 3
        assert all(part and "\n" not in part for part in [title, *paragraphs])
        assert all(part[-1] in '.?!"\u3002\uff01\uff1f\u201d' for part in paragraphs), title


@LANGUAGES
def test_quotation_marks_come_in_pairs_in_every_paragraph(read):
    for paragraph in read().split("\n\n"):
        assert paragraph.count('"') % 2 == 0, paragraph
        marks = re.sub("[^\u201c\u201d]", "", paragraph)
        assert marks == "\u201c\u201d" * (len(marks) // 2), paragraph


def test_english_texts_are_short_and_there_are_thirty_to_forty():
    corpus = texts(plain.english())
    assert 30 <= len(corpus) <= 40
    for text in corpus:
        assert 100 <= len(body(text).split()) <= 220, text.split("\n")[0]


@LANGUAGES
def test_no_sentence_and_no_title_occurs_twice(read):
    repeated = [sentence for sentence, times in Counter(sentences(read())).items() if times > 1]
    assert repeated == []


def test_the_sentence_cutter_finds_a_repetition():
    assert sentences('A lamp. "Go on!" said Oda.\n\n"Why?" A LAMP.') == [
        "a lamp.",
        "go on! said oda.",
        "why?",
        "a lamp.",
    ]
    assert sentences("\u706f\u3002\u201c\u706f\u3002\u201d\u706f\u3002") == [
        "\u706f\u3002",
        "\u706f\u3002\u706f\u3002",
    ]


def test_every_chinese_text_has_its_english_twin_in_the_same_order():
    english, chinese = (list(language) for language in zip(*plain.pairs(), strict=True))
    assert chinese == texts(plain.chinese())
    assert english == [text for text in texts(plain.english()) if text in set(english)]
    assert len(set(english)) == len(english) > len(texts(plain.english())) / 2


def test_a_translation_is_about_as_long_as_its_original_and_has_about_as_many_paragraphs():
    for english, chinese in plain.pairs():
        assert 1.2 <= len(re.findall(r"[\u4e00-\u9fff]", chinese)) / len(english.split()) <= 1.7, english[:30]
        assert english.count("\n\n") == chinese.count("\n\n"), english[:30]


def test_the_whole_corpus_is_english_then_chinese_with_the_same_separator():
    assert texts(plain.text()) == texts(plain.english()) + texts(plain.chinese())


def test_morphemes_spell_their_word_and_the_word_occurs():
    words = set(re.findall(r"[a-z]+", plain.english().lower()))
    parts = plain.morphology()
    assert len(parts) >= 120
    for word, morphemes in parts.items():
        assert "".join(morphemes) == word
        assert len(morphemes) >= 2
        assert all(morphemes)
        assert word in words


def test_morphology_holds_cuts_known_by_hand():
    parts = plain.morphology()
    assert parts["unkindness"] == ["un", "kind", "ness"]
    assert parts["walkers"] == ["walk", "er", "s"]
    assert parts["innkeeper"] == ["inn", "keep", "er"]
