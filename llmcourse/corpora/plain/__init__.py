"""Fables and short explanations written for this course, in English and Chinese, free to use under CC BY 4.0.

36 English texts (38 kB) and 29 of them again in Chinese (30 kB of UTF-8, about 10,000 characters). The same
village, lamps, letters and animals come back throughout, so that a small model meets its words often. In both
files a text is a title line, a blank line and paragraphs, one line each; two blank lines stand between texts.
`morphology` cuts 151 of the English words into their parts by hand: the truth beside which a subword
tokenizer's pieces can be held.
"""

import tomllib
from importlib.resources import files


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _by_title(texts: str) -> dict[str, str]:
    return {text.split("\n", 1)[0]: text for text in texts.strip().split("\n\n\n")}


def english() -> str:
    """All English texts, as one string that ends with a line break."""
    return _read("english.txt")


def chinese() -> str:
    """The Chinese texts, in the order of the English ones: a translation of 29 of the 36."""
    return _read("chinese.txt")


def text() -> str:
    """The whole corpus: English, then Chinese."""
    return f"{english()}\n\n{chinese()}"


def pairs() -> list[tuple[str, str]]:
    """Each text that exists twice, as (English, Chinese): title and paragraphs, no line break at the end."""
    originals, translations = _by_title(english()), _by_title(chinese())
    titles = tomllib.loads(_read("titles.toml"))
    return [(originals[title], translations[translated]) for title, translated in titles.items()]


def morphology() -> dict[str, list[str]]:
    """Words of the English texts cut into morphemes by hand: `{"unkind": ["un", "kind"], ...}`."""
    return tomllib.loads(_read("morphology.toml"))
