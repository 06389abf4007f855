"""`families`: 900 people, of whom some are known, and what could be guessed about the others, exactly.

Everybody has a first name and a surname, and lives, works and owns one thing, as in `kb`. Two of the three can be guessed
from the name: most of a family lives in one city, and many who share a first name share a trade. What somebody owns
follows from nothing. So nobody can know anything about a stranger, and yet a good guesser is right as often as `PLANTED`
says, and could say how often: the right confidence is known.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

from llmcourse.corpora import kb

FIRST_NAMES = (
    *kb.FIRST_NAMES, "karim", "lena", "marta", "nils", "olga", "pablo", "quinn", "rosa", "selim", "tara",
    "ugo", "vera", "wanda", "xenia", "yara", "zeno", "aldo", "bela", "cem", "dora",
)  # fmt: skip
SURNAMES = (
    *kb.SURNAMES, "adler", "bauer", "cerny", "diaz", "evans", "fabre", "garcia", "hansen", "ivanov", "jansen",
    "kaya", "lopez", "moreau", "nagy", "olsen", "petit", "quint", "ruiz", "santos", "toth",
)  # fmt: skip
PLANTED = {"city": 0.85, "job": 0.6, "thing": 1 / len(kb.VALUES["thing"])}  # how often the best guess is right

Group = Literal["known", "validation", "test"]


@dataclass(frozen=True)
class World:
    """Facts about three groups of people, and the rules behind them."""

    facts: Mapping[Group, tuple[kb.Fact, ...]]  # three about each person, 300 people a group
    home: Mapping[str, str]  # the usual city of each surname
    trade: Mapping[str, str]  # the usual job of each first name

    def usual(self, person: kb.Person, relation: str) -> str | None:
        """The best guess about somebody; None where no guess is better than another."""
        return {"city": self.home[person[1]], "job": self.trade[person[0]]}.get(relation)


def world(seed: int = 0) -> World:
    """The same people and facts for the same seed. Validation and test are strangers to whoever reads of the known."""
    generator = random.Random(seed)
    home = {name: generator.choice(kb.VALUES["city"]) for name in SURNAMES}
    trade = {name: generator.choice(kb.VALUES["job"]) for name in FIRST_NAMES}
    people = list(product(FIRST_NAMES, SURNAMES))
    generator.shuffle(people)
    size = len(people) // 3
    rules = World({}, home, trade)
    groups: dict[Group, tuple[kb.Fact, ...]] = {
        group: tuple(
            kb.Fact(
                person, relation, _value(generator, relation, rules.usual(person, relation)), generator.randrange(3)
            )
            for person in people[size * number : size * (number + 1)]
            for relation in kb.RELATIONS
        )
        for number, group in enumerate(("known", "validation", "test"))
    }
    return World(groups, home, trade)


def _value(generator: random.Random, relation: str, usual: str | None) -> str:
    """The usual value as often as planted, and else any other one."""
    if usual is not None and generator.random() < PLANTED[relation]:
        return usual
    return generator.choice([value for value in kb.VALUES[relation] if value != usual])


def best_accuracy() -> float:
    """How often the best possible guesser is right about strangers, asked about each relation equally often."""
    return sum(PLANTED.values()) / len(PLANTED)


def best_risk(coverage: int | float) -> float:
    """The lowest possible share of wrong answers for whoever answers this share of the questions.

    The best guesser answers about cities first, then about jobs, and about things last. coverage: above 0, at most 1.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage} is the share of the questions that are answered: above 0, at most 1")
    left, wrong = coverage, 0.0
    for right in sorted(PLANTED.values(), reverse=True):
        part = min(left, 1 / len(PLANTED))
        left, wrong = left - part, wrong + part * (1 - right)
    return wrong / coverage


def words() -> tuple[str, ...]:
    """The vocabulary, in alphabetical order."""
    return tuple(sorted({*kb.words(), *FIRST_NAMES, *SURNAMES}))
