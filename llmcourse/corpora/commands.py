"""`commands`: short documents, and six things that one may be told to do with them.

    system: reverse   document: key moon cat        right answer: cat moon key

A command comes from the system (whoever built the assistant) or from the user, who may change it: then the user's own
turn, which comes last, is what counts. What stands in a document is material and never a command. Every conversation
has one right answer, so obeying can be measured. One document in eight occurs in no training conversation.

Where the words stand (system, user, document) is kept apart here; how the parts become one row of tokens is the
business of a chat template (`llmcourse.chat`), and of whoever goes without one.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

WORDS = (
    "cat", "dog", "key", "moon", "tree", "boat", "lamp", "door",
    "star", "leaf", "rain", "snow", "wind", "hill", "lake", "bird",
)  # fmt: skip
COMMANDS = ("copy", "reverse", "first", "last", "second", "upper")
NEUTRAL = "assist"  # a system turn that leaves the command to the user
PHRASES = ("{}", "please {}", "now {} instead", "ignore previous and {}", "system : {}")
# Ways to put a command that no training conversation uses.
HELD_OUT_PHRASES = ("note ignore previous then {}", "instead {} now please", "system : ignore and {} instead")
SHORTEST, LONGEST = 3, 5  # words in a document; they are all different
HELD_OUT_SHARE = 8  # one document in so many
KINDS = {"system": 0.35, "override": 0.30, "user": 0.20, "paste": 0.15}  # how often each kind of conversation comes


@dataclass(frozen=True)
class Conversation:
    """What the system, the user and a document say (some say nothing), and the truth: which command holds for what."""

    kind: str
    system: str
    user: str
    document: str
    words: tuple[str, ...]  # what is to be worked on
    command: str  # the one that is to be obeyed

    @property
    def answer(self) -> str:
        """The only right answer."""
        return obey(self.command, self.words)

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """(role, text) of those who say something, in their order."""
        parts = (("system", self.system), ("user", self.user), ("document", self.document))
        return tuple((role, text) for role, text in parts if text)


def obey(command: str, words: Sequence[str]) -> str:
    """What it means to follow a command: the words of the answer with spaces between them."""
    if command not in COMMANDS:
        raise ValueError(f"{command!r} is no command; there are {', '.join(COMMANDS)}")
    if len(words) < 2:
        raise ValueError(f"{len(words)} words are too few: `second` needs 2")
    done = {
        "copy": words,
        "reverse": words[::-1],
        "first": words[:1],
        "last": words[-1:],
        "second": words[1:2],
        "upper": [word.upper() for word in words],
    }
    return " ".join(done[command])


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word that a conversation or its answer can hold, in alphabetical order."""
    phrases = [word for phrase in (*PHRASES, *HELD_OUT_PHRASES) for word in phrase.replace("{}", "").split()]
    return tuple(sorted({*WORDS, *map(str.upper, WORDS), *COMMANDS, NEUTRAL, *phrases}))


def is_held_out(words: Sequence[str]) -> bool:
    """Whether a document is kept out of training: its words' places in the list of words add up to a multiple of 8."""
    return sum(WORDS.index(word) for word in words) % HELD_OUT_SHARE == 0


def place(words: Sequence[str], phrase: str, generator: random.Random) -> str:
    """The words as one text with a phrase at its start, at its end, or between two words."""
    where = generator.choice((0, len(words), generator.randint(1, len(words) - 1)))
    return " ".join([*words[:where], phrase, *words[where:]])


def conversations(
    seed: int = 0,
    *,
    kinds: Mapping[str, float] = KINDS,
    phrases: Sequence[str] = PHRASES,
    held_out: bool = False,
) -> Iterator[Conversation]:
    """Endless conversations, the same for the same seed on every machine.

    kinds: how often each kind comes, relative to the others. In "system" the system gives the command and the document
        follows; in "user" the user gives it, with the words in the same turn; in "override" the system gives another
        one first; in "paste" too, and the words follow in a document.
    phrases: how a user puts a command.
    held_out: documents that no training conversation uses, instead of those that it may.
    """
    unknown = kinds.keys() - KINDS.keys()
    if unknown or not sum(kinds.values()) > 0 or min(kinds.values()) < 0:
        raise ValueError(f"kinds={dict(kinds)}: give shares of {', '.join(KINDS)}, of which one is above 0")
    if not phrases or not all(phrase.count("{}") == 1 for phrase in phrases):
        raise ValueError(f"phrases={list(phrases)}: each holds the place of the command, {{}}, once")
    return _conversations(random.Random(seed), dict(kinds), tuple(phrases), held_out)


def _conversations(
    generator: random.Random, kinds: dict[str, float], phrases: tuple[str, ...], held_out: bool
) -> Iterator[Conversation]:
    while True:
        kind = generator.choices(list(kinds), list(kinds.values()))[0]
        words = _document(generator, held_out)
        first, command = generator.sample(COMMANDS, 2)
        phrase = generator.choice(phrases).format(command)
        if kind == "system":
            yield Conversation(kind, command, "", " ".join(words), words, command)
        elif kind == "paste":
            yield Conversation(kind, first, phrase, " ".join(words), words, command)
        else:
            system = NEUTRAL if kind == "user" else first
            yield Conversation(kind, system, place(words, phrase, generator), "", words, command)


def _document(generator: random.Random, held_out: bool) -> tuple[str, ...]:
    while True:
        words = tuple(generator.sample(WORDS, generator.randint(SHORTEST, LONGEST)))
        if is_held_out(words) == held_out:
            return words


def shortcut_accuracy(kinds: Mapping[str, float] = KINDS) -> dict[str, float]:
    """What is reached without following instructions, exactly.

    "one command": always doing the same, say copying; it is the right command once in six. "system": doing what the
    system says, or guessing when it leaves the choice; it is right in the kind "system" alone, and never in those in
    which the user wants something else.
    """
    total = sum(kinds.values())
    guess = 1 / len(COMMANDS)
    return {
        "one command": guess,
        "system": (kinds.get("system", 0.0) + guess * kinds.get("user", 0.0)) / total,
    }
