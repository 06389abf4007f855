"""Public data sets of texts, labels and questions: WikiText-2, SST-2 and SQuAD, or texts of this course when offline.

Fetching, checksums and the cache are those of `sources`; `datasets.toml` holds the addresses and the licences.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from llmcourse.corpora import kb, reference, review
from llmcourse.sources import TIMEOUT, catalogue, fetch, lines_of, text_of

TWIN_SPLITS = {"train": 1, "validation": 2, "test": 3}  # the seed of each part of a generated twin
TWIN_SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}  # which part of the reference
TWIN_SIZE = 3000


@dataclass(frozen=True)
class Texts:
    """Texts, one an item; prints as what it is and where it comes from."""

    name: str
    lines: list[str]
    licence: str
    origin: str  # a sentence: which texts these are, and why

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.lines):,} lines; {self.origin}"


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with a label each, which is the number of its class."""

    name: str
    examples: list[tuple[str, int]]
    classes: tuple[str, ...]
    licence: str
    origin: str

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.examples):,} texts, {' or '.join(self.classes)}; {self.origin}"


class Gold(NamedTuple):
    """A right answer, and the character of the context at which it begins."""

    text: str
    start: int


@dataclass(frozen=True)
class AskedText:
    """A question to a text. Without an answer, the text does not tell."""

    question: str
    context: str
    answers: tuple[Gold, ...]


@dataclass(frozen=True)
class Questions:
    """Questions with the texts that answer them, or do not."""

    name: str
    examples: list[AskedText]
    licence: str
    origin: str

    def __repr__(self) -> str:
        without = sum(not one.answers for one in self.examples)
        return f"{self.name}: {len(self.examples):,} questions, {without:,} of them without an answer; {self.origin}"


def text_catalogue() -> dict[str, dict]:
    """The tables of `datasets.toml` by name."""
    return catalogue(Path(__file__).with_name("datasets.toml"))


def load_texts(
    name: str,
    split: str = "train",
    *,
    offline_ok: bool = True,
    known: Mapping[str, dict] | None = None,
    timeout: float = TIMEOUT,
) -> Texts:
    """The lines of one part of a public data set, such as "wikitext2"; empty lines are left out.

    When it cannot be reached and `offline_ok`, a part of the Python reference comes in its place, and says so. Raises
    ValueError when what came is not what was expected.
    """
    entry = _entry(name, split, "texts", known)
    content, origin = _content(name, entry, split, offline_ok, timeout)
    if content is None:
        lines = _filled(reference.text())
        begin, end = (round(share * len(lines)) for share in TWIN_SHARES[split])
        return Texts("reference", lines[begin:end], "PSF licence", origin)
    return Texts(name, _filled(content), entry["licence"], origin)


def load_labelled(
    name: str,
    split: str = "train",
    *,
    offline_ok: bool = True,
    known: Mapping[str, dict] | None = None,
    timeout: float = TIMEOUT,
) -> LabelledTexts:
    """The labelled texts of one part of a public data set, such as "sst2". Offline and errors: as `load_texts`."""
    entry = _entry(name, split, "labelled", known)
    content, origin = _content(name, entry, split, offline_ok, timeout)
    if content is None:
        found = islice(review.reviews(TWIN_SPLITS[split]), TWIN_SIZE)
        examples = [(one.text, one.label) for one in found]
        return LabelledTexts("review", examples, review.LABELS, "part of this course", origin)
    classes = tuple(entry["classes"])
    examples = list(_rows(content, entry["text"], entry["label"], len(classes), name))
    return LabelledTexts(name, examples, classes, entry["licence"], origin)


def load_questions(
    name: str,
    split: str = "train",
    *,
    offline_ok: bool = True,
    known: Mapping[str, dict] | None = None,
    timeout: float = TIMEOUT,
) -> Questions:
    """The questions of one part of a public data set in SQuAD's form, such as "squad". Offline and errors: as `load_texts`."""
    entry = _entry(name, split, "questions", known)
    content, origin = _content(name, entry, split, offline_ok, timeout)
    if content is None:
        examples = [_asked_frame(one) for one in islice(kb.examples(TWIN_SPLITS[split], unanswerable=0.3), TWIN_SIZE)]
        return Questions("kb", examples, "part of this course", origin)
    return Questions(name, list(_asked_texts(content, name)), entry["licence"], origin)


def _asked_frame(frame: kb.Example) -> AskedText:
    """A frame of `kb` in SQuAD's form: its sentences are the context."""
    if frame.evidence is None:
        return AskedText(frame.question, " ".join(frame.sentences), ())
    before = sum(len(sentence) + 1 for sentence in frame.sentences[: frame.evidence])
    start = before + f" {frame.sentences[frame.evidence]} ".index(f" {frame.answer} ")
    return AskedText(frame.question, " ".join(frame.sentences), (Gold(frame.answer, start),))


def _asked_texts(content: str, name: str) -> Iterator[AskedText]:
    """Every question of a file in SQuAD's form. Raises ValueError where it is of another one, or an answer is misplaced."""
    try:
        for article in json.loads(content)["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = tuple(Gold(one["text"], one["answer_start"]) for one in asked["answers"])
                    yield _checked(AskedText(asked["question"], paragraph["context"], answers), asked["id"], name)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{name} is not in the form of SQuAD ({type(error).__name__}: {error})") from None


def _checked(one: AskedText, number: str, name: str) -> AskedText:
    for text, start in one.answers:
        if start < 0 or one.context[start : start + len(text)] != text:
            raise ValueError(f"question {number} of {name}: {text!r} does not stand at character {start} of its text")
    return one


def _entry(name: str, split: str, kind: str, known: Mapping[str, dict] | None) -> dict:
    known = text_catalogue() if known is None else known
    fitting = [other for other, entry in known.items() if entry["kind"] == kind]
    if name not in fitting:
        raise ValueError(f"{name!r} is none of the known data sets of this kind: {', '.join(fitting)}")
    if split not in known[name]["splits"]:
        raise ValueError(f"{name} has no part {split!r}; use one of {', '.join(known[name]['splits'])}")
    return known[name]


def _content(name: str, entry: dict, split: str, offline_ok: bool, timeout: float) -> tuple[str | None, str]:
    """The text of this part and where it comes from; None and the reason when it cannot be reached.

    An address that holds {part} is that of one file for each part; any other is that of an archive of all.
    """
    try:
        address = entry["address"].format(part=entry["splits"][split])
        path = fetch(address, _of_part(entry, "sha256", split), timeout, size=_of_part(entry, "bytes", split))
    except (OSError, HTTPException) as error:
        if not offline_ok:
            raise ConnectionError(f"{name} could not be fetched ({error}); try again with a network") from error
        return None, f"the twin of {name}, which could not be reached ({type(error).__name__}: {error})"
    origin = f"from {urlsplit(address).netloc}, licence: {entry['licence']}"
    return text_of(path, entry["splits"][split]), origin


def _of_part(entry: dict, field: str, split: str) -> str | int | None:
    """What the catalogue says of the file of this part: one value for an archive of all, or one for each part."""
    known = entry.get(field)
    return known.get(split) if isinstance(known, dict) else known


def _filled(text: str) -> list[str]:
    return [line.strip() for line in lines_of(text) if line.strip()]


def _rows(content: str, text: str, label: str, n_classes: int, name: str) -> Iterator[tuple[str, int]]:
    """The rows of a table whose first line names its columns. Raises ValueError at the first that does not fit."""
    header, *lines = lines_of(content)
    columns = header.split("\t")
    if text not in columns or label not in columns:
        raise ValueError(f"{name} has the columns {', '.join(columns)}, and {text!r} and {label!r} are needed")
    for number, line in enumerate(lines, start=2):
        row = line.split("\t")
        value = row[columns.index(label)] if len(row) == len(columns) else None
        if value is None or value not in {str(known) for known in range(n_classes)}:
            raise ValueError(
                f"line {number} of {name} does not end in a label from 0 to {n_classes - 1}: {line[:60]!r}"
            )
        yield row[columns.index(text)].strip(), int(value)
