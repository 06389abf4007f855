"""Ten thousand hostile strings through every kind of tokenizer: the text comes back, or a named error says why not.

What test_tokenizers.py and test_interop_tokenizers.py leave out: every plane of Unicode with the code points that nobody
has assigned, lone surrogates, long runs of marks and bidi controls, emoji sequences that were cut, and lines of 100 kB.
"""

import random
import re
import time
import unicodedata
from collections import Counter
from functools import cache
from pydoc_data.topics import topics

import pytest

from llmcourse.interop import BorrowedTokenizer, save_tokenizer
from llmcourse.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
)

KINDS = (BPETokenizer, WordPieceTokenizer, UnigramTokenizer, WordTokenizer, CharTokenizer)
TEXT = "\n".join(topics[name] for name in sorted(topics)[:4]) + " 猫坐在垫子上。 naïve café 👩‍👩‍👧 مرحبا e\u0301"
BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROLS = "".join(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFF9, 0xE0001]))
MARKS = "\u0301\u0323\u034f\u0489\u0e33\u093f\u20dd\ufe0f\U000e0100\u200d\u200c"
EMOJI = ["👩", "👨", "👧", "🏳", "🌈", "🏴", "🇦", "🇹", "👍", "🏽", "❤", "\U000e0067", "\U000e007f", "⌚", "1", "#", "*"]
LONG = 100_000  # characters of a long line


def any_plane(draw: random.Random) -> str:
    """Code points of all 17 planes alike, assigned or not, but no surrogates."""
    points = (draw.randrange(17) * 0x10000 + draw.randrange(0x10000) for _ in range(draw.randrange(1, 20)))
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)


def lone_surrogates(draw: random.Random) -> str:
    """Ordinary text with a half of a pair in it, which no file in UTF-8 can hold."""
    halves = [chr(draw.randrange(0xD800, 0xE000)) for _ in range(draw.randrange(1, 4))]
    return draw.choice(["", "the cat", "猫"]) + "".join(halves) + draw.choice(["", " sat"])


def mixture(draw: random.Random, alphabet: str) -> str:
    """Characters of an alphabet between pieces of the training text."""
    start = draw.randrange(len(TEXT))
    signs = "".join(draw.choice(alphabet) for _ in range(draw.randrange(1, 25)))
    return signs + TEXT[start : start + draw.randrange(12)] + signs[::-1]


def one_line(draw: random.Random) -> str:
    """A line of 100,000 characters: words, or one word without end."""
    unit = draw.choice(["the cat sat ", "ab", "x", "猫", "e\u0301", "\u0301", "👩\u200d", " ", "\x00", "\u202e", "]]>"])
    return (unit * (LONG // len(unit) + 1))[:LONG]


FAMILIES = {
    "every plane": any_plane,
    "lone surrogates": lone_surrogates,
    "controls": lambda draw: mixture(draw, CONTROLS),
    "right to left": lambda draw: mixture(draw, BIDI + "שלום مرحبا"),
    "marks": lambda draw: mixture(draw, MARKS + "eaन"),
    "emoji": lambda draw: "".join(draw.choice([*EMOJI, "\u200d", "\ufe0f", " "]) for _ in range(draw.randrange(1, 25))),
}


def hostile_strings(n: int, n_long: int, seed: int = 0) -> list[tuple[str, str]]:
    """(family, text): the families in turn, and a few long lines; the same for the same seed."""
    draw, names = random.Random(seed), list(FAMILIES)
    found = [(names[i % len(names)], FAMILIES[names[i % len(names)]](draw)) for i in range(n - n_long)]
    return found + [("long line", one_line(draw)) for _ in range(n_long)]


@cache
def trained(kind: type[Tokenizer]) -> Tokenizer:
    return kind.train(TEXT, 700) if kind not in (WordTokenizer, CharTokenizer) else kind.train(TEXT[:300])


def fault(tokenizer: Tokenizer, text: str) -> str | None:
    """What is wrong with how a text is taken; None when it comes back, or is refused as the tokenizer's file says."""
    half = re.search("[\ud800-\udfff]", text)
    expected = " ".join(text.split()) if isinstance(tokenizer, WordTokenizer) else text
    try:
        came_back = tokenizer.decode(tokenizer.encode(text)) == expected
        return None if came_back and not half else f"{'took half a pair' if half else 'changed'}: {text[:50]!r}"
    except ValueError as error:
        if half:
            named = f"character {half.start()} is the lone surrogate U+{ord(half[0]):04X}" in str(error)
        elif isinstance(tokenizer, CharTokenizer):
            unknown = next(character for character in text if character not in tokenizer.vocabulary)
            named = f"U+{ord(unknown):04X}) is none of the" in str(error)
        else:
            named = isinstance(tokenizer, WordTokenizer) and "is none of the" in str(error) and len(str(error)) < 400
        return None if named else f"refused as {str(error)[:200]}"


def check(kind: type[Tokenizer], n: int, n_long: int) -> None:
    for family, text in hostile_strings(n, n_long):
        assert fault(trained(kind), text) is None, family


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_hostile_strings_come_back_or_are_refused_by_name(kind, without_shape_checks):
    check(kind, 2_000, 2)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_hostile_strings_come_back_or_are_refused_by_name(kind, without_shape_checks):
    check(kind, 10_000, 20)


def test_the_strings_are_hostile_indeed():
    found = hostile_strings(10_000, 20)
    texts = [text for _, text in found]
    assert len(texts) == 10_000 and Counter(family for family, _ in found)["lone surrogates"] > 1_000
    everything = set("".join(texts))
    assert {ord(character) >> 16 for character in everything} == set(range(17))
    assert {"Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "So", "Lo", "Zl", "Zp"} <= set(
        map(unicodedata.category, everything)
    )
    assert sum(len(text) >= LONG for text in texts) == 20
    assert hostile_strings(50, 1) == hostile_strings(50, 1)


def test_a_tokenizer_that_loses_something_is_seen(monkeypatch, without_shape_checks):
    tokenizer = trained(BPETokenizer)
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: encode(unicodedata.normalize("NFC", text)), raising=False)
    assert fault(tokenizer, "e\u0301") is not None
    monkeypatch.setattr(tokenizer, "encode", lambda text: encode(text.encode("utf-8", "replace").decode()))
    assert fault(tokenizer, "the \ud800") is not None


@pytest.mark.parametrize("kind", [BPETokenizer, WordPieceTokenizer, UnigramTokenizer])
def test_a_long_line_costs_in_proportion_to_its_length(kind, without_shape_checks):
    """Four times the length, far less than the sixteen times of a loop over all pairs."""
    tokenizer, draw = trained(kind), random.Random(0)
    word = "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(4_000))

    def seconds(text: str) -> float:
        tokenizer._cache.clear()
        began = time.process_time()
        tokenizer.encode(text)
        return time.process_time() - began

    assert min(seconds(word) for _ in range(3)) < 9 * min(seconds(word[:1_000]) for _ in range(3)) + 0.01


def test_a_borrowed_tokenizer_gives_back_the_same_texts(tmp_path, without_shape_checks):
    save_tokenizer(trained(BPETokenizer), tmp_path)
    borrowed = BorrowedTokenizer(tmp_path)
    for family, text in hostile_strings(600, 0):
        if family == "lone surrogates":
            with pytest.raises(ValueError, match="surrogate"):
                borrowed.encode(text)
        else:
            assert borrowed.decode(borrowed.encode(text)) == text
