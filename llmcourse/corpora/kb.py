"""`kb`: people, what is known about them, and questions whose answers stand in one fact each.

    ana silva lives in porto . the baker is called ana costa . ...   [SEP]   where does ana silva live ?

A fact is a person, a relation and a value, and can be said in three ways; in some of them the value comes first. In a
*frame* of four facts two people have two relations each, with different values. So whoever looks only at the relation
finds two facts and must guess, and so does whoever looks only at the name: `shortcut_accuracy` counts these ceilings
exactly. In half of the frames the two people share their first name or their surname. Some people occur in no training
frame; their names are made of words that do occur, in new combinations.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Literal, get_args

FIRST_NAMES = ("ana", "boris", "clara", "dario", "elif", "farid", "greta", "hugo", "ines", "jonas")
SURNAMES = ("silva", "costa", "novak", "meyer", "tanaka", "okoro", "lund", "rossi", "dubois", "park")
VALUES = {
    "city": ("porto", "oslo", "lima", "cairo", "delhi", "kyoto", "quito", "turin"),
    "job": ("baker", "pilot", "nurse", "painter", "judge", "miner", "tailor", "singer"),
    "thing": ("boat", "piano", "tractor", "camera", "horse", "drum", "kite", "lamp"),
}
RELATIONS = tuple(VALUES)
SENTENCES = {
    "city": ("{name} lives in {value} .", "{value} is the home of {name} .", "the city of {name} is {value} ."),
    "job": ("{name} works as a {value} .", "the {value} is called {name} .", "the job of {name} is {value} ."),
    "thing": ("{name} owns a {value} .", "the {value} belongs to {name} .", "the thing of {name} is a {value} ."),
}
QUESTIONS = {
    "city": ("where does {name} live ?", "what is the home of {name} ?"),
    "job": ("what does {name} work as ?", "what is the job of {name} ?"),
    "thing": ("what does {name} own ?", "what belongs to {name} ?"),
}
TRIPLE, TRIPLE_QUESTIONS = "{name} {relation} {value} .", {"city": "where", "job": "work", "thing": "owns"}
P_SHARED = (0.5, 0.25, 0.25)  # that the two people of a frame share no name, the first name, the surname

Person = tuple[str, str]  # first name and surname
Style = Literal["triples", "one way", "english"]
PEOPLE = tuple(product(FIRST_NAMES, SURNAMES))
# Two surnames for each first name, and two first names for each surname.
HELD_OUT = tuple((FIRST_NAMES[i], SURNAMES[(i + shift) % 10]) for i in range(10) for shift in (0, 3))
SEEN = tuple(person for person in PEOPLE if person not in HELD_OUT)


@dataclass(frozen=True)
class Fact:
    """One thing that is known."""

    person: Person
    relation: str
    value: str
    way: int = 0  # which of the relation's three sentences says it

    @property
    def sentence(self) -> str:
        """The fact in English, words and signs with spaces between them."""
        return SENTENCES[self.relation][self.way].format(name=" ".join(self.person), value=self.value)


@dataclass(frozen=True)
class Example:
    """Sentences, a question, and the truth: which sentence is the evidence, and which word the answer."""

    sentences: tuple[str, ...]
    question: str
    evidence: int | None  # the place of the sentence that tells; None when none does
    answer: str | None


@dataclass(frozen=True)
class Question:
    """A question to a whole knowledge base, with the place of the fact that answers it, if there is one."""

    text: str
    person: Person
    relation: str
    answer: str | None
    evidence: int | None


@cache
def words() -> tuple[str, ...]:
    """The vocabulary, in alphabetical order."""
    every = [*FIRST_NAMES, *SURNAMES, *RELATIONS, *TRIPLE_QUESTIONS.values(), ".", "?"]
    every += [value for values in VALUES.values() for value in values]
    frames = [text for kinds in (SENTENCES, QUESTIONS) for texts in kinds.values() for text in texts]
    every += [word for text in frames for word in text.split() if "{" not in word]
    return tuple(sorted(set(every)))


def question(person: Person, relation: str, form: int = 0) -> str:
    """What is asked about a person, in one of two forms."""
    return QUESTIONS[relation][form].format(name=" ".join(person))


def examples(
    seed: int = 0, *, style: Style = "english", people: Sequence[Person] = SEEN, unanswerable: float = 0.0
) -> Iterator[Example]:
    """Endless frames of four facts with a question each, the same for the same seed.

    style: "triples" says name, relation, value and a full stop; "one way" says each relation by its first sentence;
        "english" by any of the three.
    unanswerable: the share of questions that no fact of the frame answers: about the third relation, or about somebody
        else, who in half of the cases is chosen to share a name with a given one of the two.
    """
    if style not in get_args(Style):
        raise ValueError(f"style={style!r}; use one of {', '.join(map(repr, get_args(Style)))}")
    if not 0 <= unanswerable <= 1:
        raise ValueError(f"unanswerable={unanswerable} is a share: use 0 (none) to 1 (all)")
    if len(people) < 3:
        raise ValueError(f"{len(people)} people are too few: a frame holds two, and a question may ask for a third")
    return _examples(random.Random(seed), style, tuple(people), unanswerable)


def _examples(
    generator: random.Random, style: Style, people: tuple[Person, ...], unanswerable: float
) -> Iterator[Example]:
    while True:
        person = generator.choice(people)
        pair = (person, _another(generator, people, [person], person))
        relations = generator.sample(RELATIONS, 3)
        facts = [
            Fact(one, relation, value, generator.randrange(3) if style == "english" else 0)
            for relation in relations[:2]
            for one, value in zip(pair, generator.sample(VALUES[relation], 2), strict=True)
        ]
        generator.shuffle(facts)
        evidence = generator.randrange(4)
        asked, relation = facts[evidence].person, facts[evidence].relation
        if generator.random() < unanswerable:
            evidence = None
            if generator.random() < 0.5:
                relation = relations[2]
            else:
                asked = _another(generator, people, pair, generator.choice(pair))
        text = _asked(asked, relation, style, generator.randrange(2))
        said = tuple(_said(fact, style) for fact in facts)
        yield Example(said, text, evidence, None if evidence is None else facts[evidence].value)


def _another(
    generator: random.Random, people: tuple[Person, ...], without: Sequence[Person], similar: Person
) -> Person:
    """Somebody else, who with the chances of `P_SHARED` has a name in common with `similar`."""
    part = generator.choices((None, 0, 1), P_SHARED)[0]
    for choice in (part, None):  # where everybody who shares the name is left out, somebody who does not
        if others := [one for one in _related(people, similar, choice) if one not in without]:
            return generator.choice(others)
    return generator.choice([one for one in people if one not in without])


@cache
def _related(people: tuple[Person, ...], similar: Person, part: int | None) -> tuple[Person, ...]:
    """The people who share this part of the name; None for those who share neither."""
    if part is None:
        return tuple(one for one in people if not set(one) & set(similar))
    return tuple(one for one in people if one != similar and one[part] == similar[part])


def _said(fact: Fact, style: Style) -> str:
    if style == "triples":
        return TRIPLE.format(name=" ".join(fact.person), relation=fact.relation, value=fact.value)
    return fact.sentence


def _asked(person: Person, relation: str, style: Style, form: int) -> str:
    if style == "triples":
        return f"{TRIPLE_QUESTIONS[relation]} {' '.join(person)} ?"
    return question(person, relation, form)


SHORTCUTS: dict[str, Callable[[Fact, Person, str], bool]] = {
    "any fact": lambda fact, person, relation: True,
    "relation only": lambda fact, person, relation: fact.relation == relation,
    "name only": lambda fact, person, relation: fact.person == person,
    "first name and relation": lambda fact, person, relation: fact.person[0] == person[0] and fact.relation == relation,
    "surname and relation": lambda fact, person, relation: fact.person[1] == person[1] and fact.relation == relation,
    "name and relation": lambda fact, person, relation: fact.person == person and fact.relation == relation,
}


def shortcut_accuracy(shortcut: str) -> float:
    """How often a reader is right who keeps the facts that fit the shortcut and guesses among them: exactly.

    The sum runs over the three kinds of pairs, with their chances, and over the four questions of a frame.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(f"{shortcut!r} is no shortcut; use one of {', '.join(map(repr, SHORTCUTS))}")
    total = 0.0
    for chance, other in zip(P_SHARED, (("b", "y"), ("a", "y"), ("b", "x")), strict=True):
        facts = [Fact(person, relation, "") for person in (("a", "x"), other) for relation in ("city", "job")]
        for asked in facts:
            fitting = [fact for fact in facts if SHORTCUTS[shortcut](fact, asked.person, asked.relation)]
            total += chance / len(facts) * (asked in fitting) / len(fitting)
    return total


def knowledge_base(seed: int = 0, *, unknown: int = 10, incomplete: int = 18) -> list[Fact]:
    """Facts about all people but `unknown` of them; of `incomplete` people one of the three relations is not known.

    Each fact is said in one of its three ways. The facts stand in random order.
    """
    if not (unknown >= 0 and incomplete >= 0 and unknown + incomplete < len(PEOPLE)):
        raise ValueError(f"unknown={unknown} and incomplete={incomplete} leave nobody of {len(PEOPLE)} people")
    generator = random.Random(seed)
    known = generator.sample(PEOPLE, len(PEOPLE) - unknown)
    missing = {person: generator.choice(RELATIONS) for person in known[:incomplete]}
    facts = [
        Fact(person, relation, generator.choice(VALUES[relation]), generator.randrange(3))
        for person in known
        for relation in RELATIONS
        if missing.get(person) != relation
    ]
    generator.shuffle(facts)
    return facts


def questions(facts: Sequence[Fact], seed: int = 0) -> list[Question]:
    """A question about every person and every relation, in one of two forms: first those that a fact answers."""
    generator = random.Random(seed)
    places = {(fact.person, fact.relation): place for place, fact in enumerate(facts)}
    asked = []
    for person, relation in product(PEOPLE, RELATIONS):
        place = places.get((person, relation))
        text = question(person, relation, generator.randrange(2))
        asked.append(Question(text, person, relation, None if place is None else facts[place].value, place))
    generator.shuffle(asked)
    return sorted(asked, key=lambda one: one.answer is None)


def edited(facts: Sequence[Fact], share: float = 0.2, seed: int = 0) -> tuple[list[Fact], list[int]]:
    """The facts with a new value for this share of them, and the places of those that changed."""
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} is a share: use 0 (none) to 1 (all)")
    generator = random.Random(seed)
    changed = sorted(generator.sample(range(len(facts)), round(share * len(facts))))
    after = list(facts)
    for place in changed:
        others = [value for value in VALUES[facts[place].relation] if value != facts[place].value]
        after[place] = replace(facts[place], value=generator.choice(others))
    return after, changed
