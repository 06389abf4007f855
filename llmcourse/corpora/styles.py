"""`styles`: short replies about eight topics, polite or curt, whose probabilities are known exactly.

    sea ?    gladly deep blue indeed

A reply is an opener, one to four facts of the topic in any order, and a closer. Openers are polite or curt, half and
half. So "prefer the polite reply" has an exact optimum: keep everything, and drop the curt half. The polite share is
then 1, at a distance of KL = ln 2 = 0.69 nats from what was, and the replies are as well-formed as before.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

FACTS = {
    "sun": ("hot", "bright", "round", "far"),
    "sea": ("deep", "blue", "salty", "wide"),
    "bee": ("small", "busy", "striped", "quick"),
    "oak": ("tall", "old", "green", "strong"),
    "ice": ("cold", "clear", "hard", "smooth"),
    "owl": ("wise", "grey", "shy", "silent"),
    "road": ("long", "dusty", "straight", "empty"),
    "bread": ("warm", "brown", "fresh", "soft"),
}
TOPICS = tuple(FACTS)
OPENERS = {"polite": ("gladly", "kindly", "certainly"), "curt": ("look", "so", "whatever")}
CLOSERS = ("indeed", "always", "today", "truly")
MOST_FACTS = 4


class Pair(NamedTuple):
    """Two replies to one question, of which somebody preferred the first."""

    topic: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Reply:
    """A well-formed reply in its parts."""

    topic: str
    opener: str
    facts: tuple[str, ...]
    closer: str

    @property
    def text(self) -> str:
        """The reply's words with spaces between them."""
        return " ".join([self.opener, *self.facts, self.closer])

    @property
    def style(self) -> str:
        """'polite' or 'curt'."""
        return "polite" if self.opener in OPENERS["polite"] else "curt"


def question(topic: str) -> str:
    """What is asked about a topic."""
    return f"{topic} ?"


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of a question or a reply, in alphabetical order."""
    facts = [fact for facts in FACTS.values() for fact in facts]
    openers = [opener for openers in OPENERS.values() for opener in openers]
    return tuple(sorted({*TOPICS, *facts, *openers, *CLOSERS, "?"}))


def replies(seed: int = 0) -> Iterator[Reply]:
    """Endless replies, the same for the same seed on every machine."""
    generator = random.Random(seed)
    while True:
        topic, style = generator.choice(TOPICS), generator.choice(tuple(OPENERS))
        facts = tuple(generator.sample(FACTS[topic], generator.randint(1, MOST_FACTS)))
        yield Reply(topic, generator.choice(OPENERS[style]), facts, generator.choice(CLOSERS))


def parse(topic: str, text: str) -> Reply | None:
    """The reply in its parts, or None for a text that is no well-formed reply about the topic."""
    opener, *facts, closer = text.split() if len(text.split()) >= 3 else ("", "", "")
    known = [word for words in OPENERS.values() for word in words]
    fits = len(set(facts)) == len(facts) <= MOST_FACTS and set(facts) <= set(FACTS[topic])
    return Reply(topic, opener, tuple(facts), closer) if opener in known and closer in CLOSERS and fits else None


def style(text: str) -> str | None:
    """'polite' or 'curt' by its first word, also of a text that is not well-formed; None without an opener."""
    first = text.split()[0] if text.split() else ""
    return next((name for name, openers in OPENERS.items() if first in openers), None)


def log_probability(reply: Reply) -> float:
    """ln P(reply | topic) in the corpus, in nats."""
    n_openers = sum(map(len, OPENERS.values()))
    orders = math.perm(MOST_FACTS, len(reply.facts))
    return -math.log(n_openers * MOST_FACTS * orders * len(CLOSERS))


def entropy() -> float:
    """The exact entropy of a reply given its topic, in nats: no model's mean loss a reply is truly lower."""
    orders = [math.log(math.perm(MOST_FACTS, n)) for n in range(1, MOST_FACTS + 1)]
    return math.log(sum(map(len, OPENERS.values())) * MOST_FACTS * len(CLOSERS)) + sum(orders) / MOST_FACTS


def pairs(samples: Sequence[tuple[str, str]], n: int, seed: int = 0, *, longer: float = 0.5) -> list[Pair]:
    """`n` pairs from (topic, text) samples of a model: the chosen reply is polite, the rejected one curt.

    longer: in this share of the pairs the chosen reply must also have more words, as people often like the longer one.
        Nobody meant to ask for length, and yet the pairs say it.
    Raises ValueError when no topic has a polite reply beside a shorter curt one, whatever `longer` is.
    """
    if not 0 <= longer <= 1:
        raise ValueError(f"longer={longer} is a share: use 0 (never asked for) to 1 (always)")
    generator, sides = random.Random(seed), {(topic, name): [] for topic in TOPICS for name in OPENERS}
    for topic, text in samples:
        if parse(topic, text):
            sides[topic, style(text)].append(text)
    possible = [topic for topic in TOPICS if _can_pair(sides[topic, "polite"], sides[topic, "curt"])]
    if not possible:
        raise ValueError(f"{len(samples)} samples hold no polite reply beside a shorter curt one; draw more of them")
    return [_pair(generator, sides, possible, ask_longer=generator.random() < longer) for _ in range(n)]


def _pair(
    generator: random.Random, sides: dict[tuple[str, str], list[str]], topics: Sequence[str], *, ask_longer: bool
) -> Pair:
    while True:
        topic = generator.choice(topics)
        chosen, rejected = (generator.choice(sides[topic, name]) for name in ("polite", "curt"))
        if not ask_longer or len(chosen.split()) > len(rejected.split()):
            return Pair(topic, chosen, rejected)


def _can_pair(polite: Sequence[str], curt: Sequence[str]) -> bool:
    length = [[len(text.split()) for text in side] for side in (polite, curt)]
    return bool(polite and curt) and max(length[0]) > min(length[1])
