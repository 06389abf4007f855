"""`domains`: notes of a clinic, clauses of contracts and lines of a ledger, which share their grammar and four words.

    the nurse checks the acute patient with the charge of oxygen overnight .
    the tenant breaches the lease with the charge of lien herein .

A sentence of one domain: the [adjective] thing verb the [adjective] thing [with the SHARED of follower] tail. The shared
words mean something else in each domain (a charge of oxygen, of lien, of interest), and what follows them is fixed by
the domain. A sentence across two domains opens and ends in one, and speaks of the other in between:

    the patient under the lease breaches the charge of lien overnight .

Of the six ordered pairs of domains two are held out, so that what was learned of pairs can be told from what follows
from the parts. Every grammar is exact: the floors are known, apart, mixed and across.
"""

import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Literal, get_args

from llmcourse.corpora.grammar import END, START, Arc, Grammar

Domain = Literal["clinic", "contract", "ledger"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
FIELDS = {"clinic": "medicine", "contract": "law", "ledger": "finance"}  # what each stands for
SHARED = ("charge", "record", "term", "balance")  # one word, three meanings
ADJECTIVE = 0.4  # how often a thing has one
ASIDE = 0.6  # how often a sentence has a part with a shared word
ACROSS = 0.05  # the share of sentences across two domains in a mixed text
Pair = tuple[Domain, Domain]
PAIRS: tuple[Pair, ...] = tuple(permutations(DOMAINS, 2))
HELD_OUT: tuple[Pair, ...] = (("clinic", "ledger"), ("ledger", "contract"))  # never in a training text
SEEN: tuple[Pair, ...] = tuple(pair for pair in PAIRS if pair not in HELD_OUT)


@dataclass(frozen=True)
class Words:
    """The words of one domain by their part in a sentence."""

    things: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    tails: tuple[str, ...]
    followers: Mapping[str, str]  # what comes after "SHARED of"


WORDS: dict[Domain, Words] = {
    "clinic": Words(
        ("nurse", "doctor", "patient", "ward", "dose", "wound"),
        ("checks", "treats", "admits", "monitors"),
        ("acute", "chronic", "stable"),
        ("overnight", "intravenously", "hourly"),
        {"charge": "oxygen", "record": "allergies", "term": "pregnancy", "balance": "fluids"},
    ),
    "contract": Words(
        ("tenant", "landlord", "lease", "clause", "party", "court"),
        ("breaches", "waives", "enforces", "amends"),
        ("binding", "void", "prior"),
        ("herein", "thereof", "forthwith"),
        {"charge": "lien", "record": "title", "term": "notice", "balance": "probabilities"},
    ),
    "ledger": Words(
        ("account", "invoice", "auditor", "client", "fund", "payment"),
        ("debits", "credits", "audits", "settles"),
        ("overdue", "gross", "net"),
        ("quarterly", "annually", "upfront"),
        {"charge": "interest", "record": "sales", "term": "deposit", "balance": "trade"},
    ),
}
_SHARED_GRAMMAR = ("the", "with", "of", "under", ".")


@dataclass(frozen=True)
class Sentence:
    """A sentence with the domain that it is of; across two domains, the one that it speaks of in between."""

    words: tuple[str, ...]
    opening: Domain
    domain: Domain  # whose meaning its shared word has

    @property
    def follower(self) -> int | None:
        """The place of the word that the domain decides, or None without a shared word."""
        return self.words.index("of") + 1 if "of" in self.words else None


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word, in alphabetical order."""
    own = [
        word for one in WORDS.values() for part in (one.things, one.verbs, one.adjectives, one.tails) for word in part
    ]
    followers = [word for one in WORDS.values() for word in one.followers.values()]
    return tuple(sorted({*own, *followers, *SHARED, *_SHARED_GRAMMAR}))


@cache
def grammar(domain: Domain) -> Grammar:
    """The exact grammar of one domain."""
    return Grammar({START: [Arc(1.0, "the", (domain, "open"))], **_arcs(domain)})


@cache
def mixture() -> Grammar:
    """The grammar of a text in which every sentence is of any domain, equally likely, and none goes across.

    Its first word is always "the". Only the second word tells the domain: to somebody who does not know it in advance
    that costs ln 3 nats a sentence, and nothing else does.
    """
    arcs: dict[Hashable, list[Arc]] = {START: [Arc(1.0, "the", "open")], "open": []}
    for domain in DOMAINS:
        ways = _arcs(domain)
        arcs["open"] += [Arc(arc.probability / len(DOMAINS), arc.word, arc.state) for arc in ways[domain, "open"]]
        arcs |= ways
    return Grammar(arcs)


@cache
def across(pair: Pair) -> Grammar:
    """The exact grammar of sentences that open and end in the first domain, and speak of the second."""
    first, second = WORDS[pair[0]], WORDS[pair[1]]
    arcs = {
        START: [Arc(1.0, "the", "thing")],
        "thing": _choices(first.things, "under"),
        "under": [Arc(1.0, "under", "article")],
        "article": [Arc(1.0, "the", "other")],
        "other": _choices(second.things, "verb"),
        "verb": _choices(second.verbs, "determiner"),
        "determiner": [Arc(1.0, "the", "shared")],
        "tail": _choices(first.tails, "stop"),
        "stop": [Arc(1.0, ".", END)],
    }
    return Grammar(arcs | _shared_arcs("shared", pair[1], "tail"))


def sentences(domain: Domain, seed: int = 0) -> Iterator[Sentence]:
    """Endless sentences of one domain, the same for the same seed on every machine."""
    generator = random.Random(f"{domain} {seed}")
    while True:
        yield Sentence(tuple(word for _, word in grammar(domain).sample(generator)), domain, domain)


def crossing(pairs: Sequence[Pair] = SEEN, seed: int = 0) -> Iterator[Sentence]:
    """Endless sentences across two domains, every pair equally likely."""
    if not pairs or not set(pairs) <= set(PAIRS):
        raise ValueError(f"pairs={tuple(pairs)}: use some of {PAIRS}")
    generator = random.Random(f"crossing {seed}")
    while True:
        pair = generator.choice(pairs)
        yield Sentence(tuple(word for _, word in across(pair).sample(generator)), *pair)


def mixed(seed: int = 0, share_across: float = ACROSS) -> Iterator[Sentence]:
    """Endless sentences of all three domains, and this share of them across two (never of a pair that is held out)."""
    if not 0 <= share_across < 1:
        raise ValueError(f"share_across={share_across} is the share of sentences across two domains: 0 to below 1")
    generator = random.Random(f"mixed {seed}")
    own, between = {domain: sentences(domain, seed) for domain in DOMAINS}, crossing(SEEN, seed)
    while True:
        yield next(between if generator.random() < share_across else own[generator.choice(DOMAINS)])


def _choices(words: Sequence[str], state: Hashable, total: float = 1.0) -> list[Arc]:
    return [Arc(total / len(words), word, state) for word in words]


def _arcs(domain: Domain) -> dict[Hashable, list[Arc]]:
    """All states of a domain but the first; their names hold the domain, so that three can stand in one grammar."""
    own = WORDS[domain]

    def noun_phrase(before: str, after: str) -> dict[Hashable, list[Arc]]:
        bare = (domain, f"{before} thing")
        described = _choices(own.adjectives, bare, ADJECTIVE)
        return {
            (domain, before): [*described, *_choices(own.things, (domain, after), 1 - ADJECTIVE)],
            bare: _choices(own.things, (domain, after)),
        }

    return {
        **noun_phrase("open", "verb"),
        (domain, "verb"): _choices(own.verbs, (domain, "article")),
        (domain, "article"): [Arc(1.0, "the", (domain, "object"))],
        **noun_phrase("object", "aside"),
        (domain, "aside"): [
            Arc(ASIDE, "with", (domain, "determiner")),
            *_choices(own.tails, (domain, "stop"), 1 - ASIDE),
        ],
        (domain, "determiner"): [Arc(1.0, "the", (domain, "shared"))],
        **_shared_arcs((domain, "shared"), domain, (domain, "tail")),
        (domain, "tail"): _choices(own.tails, (domain, "stop")),
        (domain, "stop"): [Arc(1.0, ".", END)],
    }


def _shared_arcs(state: Hashable, domain: Domain, after: Hashable) -> dict[Hashable, list[Arc]]:
    """A shared word, "of", and what the domain makes of it."""
    arcs: dict[Hashable, list[Arc]] = {state: [Arc(1 / len(SHARED), word, (domain, word)) for word in SHARED]}
    for word in SHARED:
        arcs[domain, word] = [Arc(1.0, "of", (domain, f"{word} of"))]
        arcs[domain, f"{word} of"] = [Arc(1.0, WORDS[domain].followers[word], after)]
    return arcs
