"""Knowledge bases of the second capstone: short sentences, each in English or in Chinese, and a list of names in both.

    Tarn = 塔恩                           a name, as both languages write it
    mayor = 镇长
    The mayor of Tarn is Odile.          a passage; the next one says something of another place
    布雷的镇长是伊沃。

A fact has a place x, a relation r and a value y, and is said in one of three ways of either language. x, r and y are
*names*, everything else is one of two dozen *plain words*. Whoever knows the list of names can cut any text into these
pieces, and knows that 塔恩 and Tarn are the same.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
SENTENCES = {
    "en": ("the {r} of {x} is {y} .", "{y} is the {r} of {x} .", "{x} has {y} as its {r} ."),
    "zh": ("{x} 的 {r} 是 {y} 。", "{y} 是 {x} 的 {r} 。", "{x} 以 {y} 为 {r} 。"),
}
QUESTIONS = {
    "en": ("what is the {r} of {x} ?", "who is the {r} of {x} ?", "tell me the {r} of {x} ."),
    "zh": ("{x} 的 {r} 是 什么 ？", "{x} 的 {r} 是 谁 ？", "请 告诉 我 {x} 的 {r} 。"),
}
CHINESE = "\u4e00-\u9fff"  # the characters that nearly all Chinese text is written with


def _words_in(templates: dict) -> frozenset[str]:
    return frozenset(
        word for ways in templates.values() for way in ways for word in way.split() if not word.startswith("{")
    )


FACT_WORDS = _words_in(SENTENCES)  # what may stand in a passage beside names
PLAIN_WORDS = FACT_WORDS | _words_in(QUESTIONS)


class Fact(NamedTuple):
    """One thing that is known, by English names."""

    x: str
    r: str
    y: str


@dataclass(frozen=True)
class Base:
    """A knowledge base: passages, each in one language, and the names that they may hold as (English, Chinese)."""

    passages: tuple[str, ...]
    names: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not self.passages or not self.names:
            raise ValueError(f"{len(self.passages)} passages and {len(self.names)} names: give at least one of each")
        every = [name.lower() for pair in self.names for name in pair]
        twice = sorted({name for name in every if every.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice: a name has one line, and one translation")
        if plain := sorted(set(every) & PLAIN_WORDS):
            raise ValueError(
                f"{plain[0]!r} is one of the plain words, which hold sentences together: choose another name"
            )

    def called(self, name: str, language: Language) -> str:
        """How a language calls what is called so in English; a name that is not listed stays as it is."""
        return next((pair[LANGUAGES.index(language)] for pair in self.names if pair[0] == name), name)


def read_base(text: str) -> Base:
    """A knowledge base from its text: a line is a name (`Tarn = 塔恩`), a comment (`# ...`), or a passage.

    Raises ValueError for a line of names that does not give both languages, and for what `Base` refuses.
    """
    passages, names = [], []
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        if "=" not in line:
            passages.append(line)
            continue
        english, _, chinese = (part.strip() for part in line.partition("="))
        if not re.fullmatch(r"[^\W\d_][\w' -]*", english) or not re.fullmatch(rf"[{CHINESE}·]+", chinese):
            raise ValueError(f"line {number}: {line!r} is no pair of names; write it as `Tarn = 塔恩`, English first")
        names.append((english, chinese))
    return Base(tuple(passages), tuple(names))


class Piece(NamedTuple):
    """One piece of a text: a plain word in lower case, or a name, by its English form; unknown names stay as written."""

    word: str
    kind: Literal["plain", "name", "unknown"]
    start: int  # the first character of the piece in its text
    end: int  # one after the last


def pieces_of(text: str, names: Iterable[tuple[str, str]]) -> list[Piece]:
    """A text as pieces, the longest name first where several begin at one place.

    What is neither plain nor listed is unknown; neighbours of that kind are one piece. Signs other than full stops and
    question marks are unknown too. White space belongs to no piece.
    """
    pattern, english = _pattern(tuple(names))
    pieces: list[Piece] = []
    for found in pattern.finditer(text):
        word = found[0].lower()
        kind = "plain" if word in PLAIN_WORDS else "name" if word in english else "unknown"
        last = pieces[-1] if pieces else None
        if kind == "unknown" and last and last.kind == "unknown" and not text[last.end : found.start()].strip():
            pieces[-1] = Piece(text[last.start : found.end()].lower(), kind, last.start, found.end())
        else:
            pieces.append(Piece(english.get(word, word), kind, found.start(), found.end()))
    return pieces


@cache
def _pattern(names: tuple[tuple[str, str], ...]) -> tuple[re.Pattern, dict[str, str]]:
    """What finds the pieces, and the English form of every name in lower case."""
    english = {name.lower(): pair[0] for pair in names for name in pair}
    known = sorted([*english, *PLAIN_WORDS], key=lambda word: (-len(word), word))
    latin = [re.escape(word) for word in known if re.match(r"[^\W\d_]", word) and not re.search(f"[{CHINESE}]", word)]
    other = [re.escape(word) for word in known if re.search(f"[{CHINESE}.?。？]", word)]
    letter = rf"[^\W{CHINESE}]"  # of a word that is written with spaces around it
    pattern = rf"(?:{'|'.join(other)})|(?<!{letter})(?:{'|'.join(latin)})(?!{letter})|{letter}+|\S"
    return re.compile(pattern, flags=re.IGNORECASE), english


def filled_in(template: str, language: Language, names: Iterable[str]) -> str:
    """A template with its three names (x, r, y) filled in, as the language writes it: Chinese without spaces."""
    slots = dict(zip("xry", names, strict=False))
    if language == "zh":
        return template.replace(" ", "").format(**slots)
    text = re.sub(r" ([.?:])", r"\1", template).format(**slots)
    return text[0].upper() + text[1:]


def sentence_of(fact: Fact, base: Base, language: Language, way: int = 0) -> str:
    """The passage that states a fact."""
    return filled_in(SENTENCES[language][way], language, [base.called(name, language) for name in fact])


def asked(x: str, r: str, base: Base, language: Language, form: int = 0) -> str:
    """The question for the value of a relation."""
    return filled_in(QUESTIONS[language][form], language, [base.called(name, language) for name in (x, r)])


def read_passage(passage: str, base: Base) -> tuple[Fact, Language, int] | None:
    """The fact that a passage states, its language, and in which way; None when it is none of the six, word for word."""
    pieces = pieces_of(passage, base.names)
    for language, ways in SENTENCES.items():
        for way, template in enumerate(ways):
            slots = template.split()
            if len(slots) == len(pieces) and all(
                slot == piece.word if piece.kind == "plain" else slot.startswith("{") and piece.kind == "name"
                for slot, piece in zip(slots, pieces, strict=True)
            ):
                names = {slot[1]: piece.word for slot, piece in zip(slots, pieces, strict=True) if slot[0] == "{"}
                return Fact(names["x"], names["r"], names["y"]), language, way
    return None
