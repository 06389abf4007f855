"""Faithfulness: is what was claimed what the evidence says? Claims are read as facts and compared with facts.

A claim is split off a text, evidence is searched for, and the verdict is one of three: supported, contradicted, not found.
Here claims and evidence come from known templates, so they can be read exactly. For free text a trained model reads them
(Thorne et al., 2018; Gao et al., 2023), and then its errors have to be measured too.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple

from llmcourse.corpora import kb
from llmcourse.retrieval import BM25, words_of

Verdict = Literal["supported", "contradicted", "not found"]


@cache
def _patterns() -> list[tuple[re.Pattern, str, int]]:
    """What each sentence of `kb` looks like, with its relation and its number; a name is two words, a value one."""
    patterns = []
    for relation, ways in kb.SENTENCES.items():
        for way, template in enumerate(ways):
            name, value = r"(?P<first>\w+) (?P<surname>\w+)", r"(?P<value>\w+)"
            patterns.append((re.compile(template.replace(".", r"\.").format(name=name, value=value)), relation, way))
    return patterns


def read_fact(sentence: str) -> kb.Fact | None:
    """The fact that a sentence states in one of the ways of `kb`; None when it is none of them, word for word."""
    for pattern, relation, way in _patterns():
        found = pattern.fullmatch(sentence.strip())
        if found and found["value"] in kb.VALUES[relation]:
            return kb.Fact((found["first"], found["surname"]), relation, found["value"], way)
    return None


def split_claims(text: str) -> list[str]:
    """A text as sentences, each with its full stop, in their order."""
    return [f"{part.strip()} ." for part in text.split(" .") if part.strip()]


def verdict(claim: kb.Fact, evidence: Iterable[kb.Fact]) -> Verdict:
    """Whether the evidence states the claim, states something else of this person and relation, or neither.

    A relation has one value here: who lives in oslo does not live in lima. Evidence for and against is a contradiction.
    """
    values = {fact.value for fact in evidence if (fact.person, fact.relation) == (claim.person, claim.relation)}
    if not values:
        return "not found"
    return "supported" if values == {claim.value} else "contradicted"


class Checked(NamedTuple):
    """A claim with its verdict and the places of the evidence it rests on."""

    claim: str
    verdict: Verdict | Literal["not read"]  # not read: the sentence states no fact that could be compared
    evidence: tuple[int, ...]


class ClaimChecker:
    """Sentences that are believed, and claims held against them: search, read, compare."""

    def __init__(self, sentences: Sequence[str], k: int = 5) -> None:
        """k: how many sentences the search brings."""
        self.sentences, self.k = list(sentences), k
        self._index = BM25([words_of(sentence) for sentence in sentences])

    def search(self, claim: str) -> list[int]:
        """The places of the sentences that share most with the claim; the name of its person, if it has one, counts twice."""
        fact = read_fact(claim)
        name = " ".join(fact.person) if fact else ""
        return self._index.rank(words_of(f"{name} {claim}"), self.k)

    def check(self, claim: str) -> Checked:
        """The verdict on one claim, with the sentences that decided it."""
        fact = read_fact(claim)
        if fact is None:
            return Checked(claim, "not read", ())
        about = {}
        for place in self.search(claim):
            found = read_fact(self.sentences[place])
            if found and (found.person, found.relation) == (fact.person, fact.relation):
                about[place] = found
        return Checked(claim, verdict(fact, about.values()), tuple(about))

    def check_text(self, text: str) -> list[Checked]:
        """The verdict on each sentence of a text."""
        return [self.check(claim) for claim in split_claims(text)]

    def cites(self, claim: str, place: int) -> bool:
        """Whether the sentence that a claim cites supports it: one that is true elsewhere does not count."""
        fact, cited = read_fact(claim), read_fact(self.sentences[place])
        return fact is not None and cited is not None and verdict(fact, [cited]) == "supported"


def word_overlap(claim: str, evidence: Sequence[str]) -> float:
    """The largest share of the claim's words that stand in one sentence: what a check by words alone would look at."""
    words = set(words_of(claim))
    if not words:
        return 0.0
    return max((len(words & set(words_of(sentence))) / len(words) for sentence in evidence), default=0.0)


def planted_falsehoods(
    facts: Sequence[kb.Fact], strangers: Sequence[kb.Person], seed: int = 0
) -> Iterator[tuple[str, kb.Fact]]:
    """Endless false claims with their kind: another value, another person of the same name, a person nobody knows.

    Each is said in a random way. Nothing else is false about them, so that a check cannot find them by their form.
    """
    generator, known = random.Random(seed), {(fact.person, fact.relation): fact.value for fact in facts}
    by_name: Mapping[str, list[kb.Person]] = {}
    for person in dict.fromkeys(fact.person for fact in facts):
        for name in person:
            by_name.setdefault(name, []).append(person)
    while True:
        for kind in ("value", "person", "stranger"):
            true = replace(generator.choice(facts), way=generator.randrange(3))
            values = [value for value in kb.VALUES[true.relation] if value != true.value]
            false = replace(true, value=generator.choice(values))
            if kind == "person":
                false = replace(true, person=generator.choice(by_name[generator.choice(true.person)]))
            elif kind == "stranger":
                false = replace(true, person=generator.choice(strangers))
            if known.get((false.person, false.relation)) != false.value:
                yield kind, false


def reworded(text: str, share: int | float = 1.0, seed: int = 0) -> str:
    """The text with this share of its facts said in another of their ways: other words, and the same facts.

    A sentence that states no fact stays as it is.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} is a share of the sentences: use 0 (none) to 1 (all)")
    generator, sentences = random.Random(seed), []
    for sentence in split_claims(text):
        fact = read_fact(sentence)
        if fact is not None and generator.random() < share:
            sentence = replace(fact, way=(fact.way + generator.choice((1, 2))) % 3).sentence
        sentences.append(sentence)
    return " ".join(sentences)
