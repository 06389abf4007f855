"""Right answers to the exercises of chapter 20, each written in another way than the solution."""

import math
import re
import unicodedata
from collections import Counter
from types import MappingProxyType

import numpy as np
import torch

from llmcourse.capstone.facts import FACT_WORDS, pieces_of
from llmcourse.capstone.judging_assistant import CLAIMED, Reply
from llmcourse.capstone.reading import K, find
from llmcourse.exercises.capstone_assistant import (
    AdmitPassages,
    LanguageOf,
    PredictSilence,
    SubmitAssistant,
    WriteCard,
)
from llmcourse.retrieval import BM25


def language_by_loop(question):
    chinese, words, before = 0, 0, ""
    for sign in question:
        if "\u4e00" <= sign <= "\u9fff":
            chinese += 1
        is_latin = sign.isascii() and sign.isalpha()
        words += is_latin and not (before.isascii() and before.isalpha())
        before = sign
    return "zh" if chinese > words else "en"


def language_by_names(question):
    kinds = [unicodedata.name(sign, "").split(" ")[0] for sign in question]
    words = "".join(sign if kind == "LATIN" else " " for sign, kind in zip(question, kinds, strict=True)).split()
    return ("en", "zh")[kinds.count("CJK") > len(words)]


def language_by_removal(question):
    others = re.sub(r"[\u4e00-\u9fff]", " ", question)
    n_chinese = sum(a != b for a, b in zip(question, others, strict=True))
    n_words = sum(bool(part) for part in re.split(r"[^a-z]+", others.lower()))
    return "en" if n_words >= n_chinese else "zh"


def admitted_by_loop(base):
    places = []
    for place in range(len(base.passages)):
        for piece in pieces_of(base.passages[place], base.names):
            if piece.kind != "name" and piece.word not in FACT_WORDS:
                break
        else:
            places.append(place)
    return places


def admitted_by_sets(base):
    others = [
        {piece.word for piece in pieces_of(passage, base.names) if piece.kind != "name"} for passage in base.passages
    ]
    return [place for place, words in enumerate(others) if words <= FACT_WORDS]


def admitted_by_tensor(base):
    kept = [
        math.prod(p.kind == "name" or p.word in FACT_WORDS for p in pieces_of(text, base.names))
        for text in base.passages
    ]
    return torch.tensor(kept).nonzero()[:, 0].tolist()


class Assistant:
    """The parts as an object that can be called."""

    def __init__(self, base, reader):
        self.base, self.reader, self.places = base, reader, admitted_by_loop(base)
        self.read = {place: pieces_of(base.passages[place], base.names) for place in self.places}
        self.index = BM25([[p.word for p in self.read[place] if p.kind == "name"] for place in self.places])

    def __call__(self, question):
        asked = pieces_of(question, self.base.names)
        best = [self.places[n] for n in self.index.rank([p.word for p in asked if p.kind == "name"], K)]
        number, piece, confidence = find(self.reader, asked, [self.read[place] for place in best])
        if number is None:
            return Reply(text=None, source=None, confidence=confidence)
        said = self.base.called(piece.word, language_by_loop(question))
        return Reply(text=said, source=best[number], confidence=confidence)


def built_with_a_count(base, reader):
    places = admitted_by_sets(base)
    passages = [pieces_of(base.passages[place], base.names) for place in places]
    names = [Counter(piece.word for piece in passage if piece.kind == "name") for passage in passages]
    rarity = Counter(word for count in names for word in count)
    chinese = dict(base.names)

    def ask(question):
        asked = pieces_of(question, base.names)
        wanted = [piece.word for piece in asked if piece.kind != "plain"]
        scores = [sum(1 / rarity[word] for word in wanted if word in count) for count in names]
        best = np.argsort(-np.array(scores), kind="stable")[:K].tolist()
        found = find(reader, asked, [passages[n] for n in best])
        if found.piece is None:
            return Reply(None, None, found.confidence)
        word = found.piece.word
        text = chinese.get(word, word) if language_by_removal(question) == "zh" else word
        return Reply(text, places[best[found.passage]], found.confidence)

    return ask


def built_that_cuts_anew(base, reader):
    def ask(question):
        asked = pieces_of(question, base.names)
        cut = [(place, pieces_of(base.passages[place], base.names)) for place in admitted_by_tensor(base)]
        wanted = {piece.word for piece in asked if piece.kind == "name"}
        cut.sort(key=lambda one: -len(wanted & {piece.word for piece in one[1]}))
        found = find(reader, asked, [pieces for _, pieces in cut[:K]])
        if found.passage is None:
            return Reply(None, None, found.confidence)
        return Reply(
            base.called(found.piece.word, language_by_names(question)), cut[found.passage][0], found.confidence
        )

    return ask


WORDS = {
    "data": "It was made of questions that I wrote by hand about towns that do not exist.",
    "intended use": "To ask who holds which office in one of these towns, in either language.",
    "limits": "Two offices in one question are more than it can tell apart, and it does not say so.",
    "risks": "If a wrong sentence is added to the towns, it will be repeated as if it were true.",
}


def card_by_names(measured):
    return WORDS | {"figures": {name: getattr(measured, name) for name in CLAIMED}}


def card_rounded(measured):
    figures = {name: round(value, 2) for name, value in measured._asdict().items() if name != "seconds"}
    return {"figures": figures, **WORDS}


def card_of_all_fields(measured):
    figures = dict(zip(measured._fields, measured, strict=True))
    figures.pop("seconds")
    return MappingProxyType({**WORDS, "figures": MappingProxyType(figures)})


RIGHT = {
    PredictSilence: [5, 5.0, torch.tensor(5), np.int64(5)],
    LanguageOf: [language_by_loop, language_by_names, language_by_removal],
    AdmitPassages: [admitted_by_loop, admitted_by_sets, admitted_by_tensor],
    SubmitAssistant: [Assistant, built_with_a_count, built_that_cuts_anew],
    WriteCard: [card_by_names, card_rounded, card_of_all_fields],
}
