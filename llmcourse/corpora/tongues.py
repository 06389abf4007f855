"""`tongues`: six invented languages that use the same eighteen words, each for other things. Which one is spoken?

    cat mip ; boat zob ; rose tav ; cup kel ...        entries of one dictionary; its name is not said
    oak cat mip ; elm cat sil ; ...                    named entries, which say whose they are

After a few entries the language can be inferred, and with it the word for the next thing: learning from examples in the
prompt, without a step of training. All dictionaries are known, so the best possible guess is known exactly.

Things come in groups of three, and an unnamed text takes at most one of each group. Two things of one group, *strangers*,
never stand in one unnamed text: examples by strangers test whether a model infers the language, or knows by heart which
entries go together.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

NAMES = ("oak", "elm", "ash", "fir", "yew", "bay")
GROUPS = (
    ("cat", "dog", "fox"), ("boat", "cart", "sled"), ("rose", "fern", "moss"),
    ("cup", "bowl", "spoon"), ("rain", "snow", "wind"), ("book", "drum", "lamp"),
)  # fmt: skip
THINGS = tuple(thing for group in GROUPS for thing in group)
WORDS = (
    "mip", "zob", "tav", "kel", "rus", "dob", "fen", "lom", "sil",
    "gat", "hup", "wex", "nar", "pim", "jov", "bec", "yod", "cru",
)  # fmt: skip
STOP = ";"
N_NAMED = 4  # entries in a text of named entries
P_NAMED = 0.3  # how often a text is one of named entries
SEED = 34  # of the dictionaries: one with which knowing nothing helps little

Dictionary = Mapping[str, str]  # from each thing to its word
Entry = tuple[str, str]


def new_dictionary(generator: random.Random) -> dict[str, str]:
    """A language of its own: every thing has one of the words, no two the same."""
    return dict(zip(THINGS, generator.sample(WORDS, len(WORDS)), strict=True))


@cache
def dictionaries() -> dict[str, dict[str, str]]:
    """The six languages, by name."""
    generator = random.Random(SEED)
    return {name: new_dictionary(generator) for name in NAMES}


def vocabulary() -> tuple[str, ...]:
    """Everything that can stand in a text."""
    return (STOP, *NAMES, *THINGS, *WORDS)


def strangers(thing: str) -> tuple[str, ...]:
    """The things that no training text puts beside this one, unnamed."""
    return tuple(other for group in GROUPS if thing in group for other in group if other != thing)


def texts(seed: int = 0, named: float = P_NAMED) -> Iterator[list[str]]:
    """An endless stream of texts, the same for the same seed; `named` is the share of texts of named entries."""
    if not 0 <= named <= 1:
        raise ValueError(f"named={named} is a share: use 0 (never) to 1 (always)")
    return _texts(random.Random(seed), named)


def _texts(generator: random.Random, named: float) -> Iterator[list[str]]:
    tongues = dictionaries()
    while True:
        if generator.random() < named:
            entries = [(generator.choice(NAMES), generator.choice(THINGS)) for _ in range(N_NAMED)]
            yield in_one_row([(name, thing, tongues[name][thing]) for name, thing in entries])
        else:
            tongue = tongues[generator.choice(NAMES)]
            yield in_one_row([(thing, tongue[thing]) for thing in _one_of_each_group(generator)])


def _one_of_each_group(generator: random.Random) -> list[str]:
    return [generator.choice(group) for group in generator.sample(GROUPS, len(GROUPS))]


def in_one_row(entries: Sequence[tuple[str, ...]]) -> list[str]:
    """Entries as one text, with a stop between two of them."""
    return [word for entry in entries for word in (*entry, STOP)][:-1]


def questions(
    n_examples: int, seed: int = 0, *, by_strangers: bool = False, tongue: Dictionary | None = None
) -> Iterator[tuple[list[Entry], str, str]]:
    """Endless (examples, thing asked for, its word), in a random one of the six languages or in a given one.

    by_strangers: the examples are entries of the things that never stood beside the one asked for; there are two.
    """
    most = len(GROUPS[0]) - 1 if by_strangers else len(GROUPS) - 1
    if not 0 <= n_examples <= most:
        raise ValueError(f"n_examples={n_examples}: give 0 to {most}{' strangers' if by_strangers else ''}")
    return _questions(random.Random(seed), n_examples, by_strangers, tongue)


def _questions(
    generator: random.Random, n_examples: int, by_strangers: bool, tongue: Dictionary | None
) -> Iterator[tuple[list[Entry], str, str]]:
    while True:
        spoken = tongue or dictionaries()[generator.choice(NAMES)]
        *others, asked = _one_of_each_group(generator)
        if by_strangers:
            others = generator.sample(strangers(asked), len(GROUPS[0]) - 1)
        yield [(thing, spoken[thing]) for thing in others[:n_examples]], asked, spoken[asked]


def prompt(examples: Sequence[Entry], asked: str) -> list[str]:
    """The text up to the word that is asked for."""
    return in_one_row([*examples, (asked,)])


def answer(examples: Sequence[Entry], asked: str) -> dict[str, float]:
    """The exact probability of each word for the thing asked for: all languages that fit the examples are equally likely.

    Empty when none of the six fits.
    """
    fits = [tongue for tongue in dictionaries().values() if all(tongue[thing] == word for thing, word in examples)]
    return {word: count / len(fits) for word, count in Counter(tongue[asked] for tongue in fits).items()}


def best_accuracy(n_examples: int, *, by_strangers: bool = False) -> float:
    """How often the best possible guesser is right after so many examples: exact, over all questions.

    It says the likeliest word of `answer`. No model can be right more often, unless it has learned questions by heart.
    """
    return sum(share * max(answer) for share, answer in _cases(n_examples, by_strangers))


def lowest_loss(n_examples: int, *, by_strangers: bool = False) -> float:
    """The entropy of the word asked for after so many examples, in nats: the floor of any model's mean loss."""
    return sum(-share * sum(p * math.log(p) for p in answer) for share, answer in _cases(n_examples, by_strangers))


@cache
def _cases(n_examples: int, by_strangers: bool) -> list[tuple[float, tuple[float, ...]]]:
    """All kinds of questions: how likely each is, and the exact probabilities of its answers.

    What the examples say is which languages still fit. So the questions are counted by that set alone, one group of
    things after the other, and never listed one by one.
    """
    tongues, cases = list(dictionaries().values()), []
    for asked in THINGS:
        groups = [(other,) for other in strangers(asked)] if by_strangers else [g for g in GROUPS if asked not in g]
        for spoken in tongues:
            ways = _ways(groups, n_examples, spoken, tongues)
            total = sum(ways.values())
            for fits, count in ways.items():
                words = Counter(tongues[number][asked] for number in fits)
                share = count / total / len(THINGS) / len(tongues)
                cases.append((share, tuple(n / len(fits) for n in words.values())))
    return cases


def _ways(
    groups: Sequence[Sequence[str]], n_examples: int, spoken: Dictionary, tongues: Sequence[Dictionary]
) -> Counter[frozenset[int]]:
    """In how many ways n examples, at most one of a group, leave exactly this set of languages."""
    reached = Counter({(0, frozenset(range(len(tongues)))): 1})  # by the number of examples, and what still fits
    for group in groups:
        further = Counter(reached)
        for (n, fits), count in reached.items():
            for thing in group:
                left = frozenset(number for number in fits if tongues[number][thing] == spoken[thing])
                further[n + 1, left] += count
        reached = further
    return Counter({fits: count for (n, fits), count in reached.items() if n == n_examples})
