"""Commands have one right answer, and a model is right only when it gives it whole and then is silent."""

from collections import Counter
from itertools import islice, pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llmcourse.chat import END, chat_tokenizer
from llmcourse.corpora import commands
from llmcourse.generation import SamplingConfig
from llmcourse.instructions import answer_accuracy, reply, reply_text, reply_tokens

TOKENIZER = chat_tokenizer(["key", "moon", "cat", "go"])
END_ID = TOKENIZER.special_id(END)


class Chain(nn.Module):
    """After each word says the one that follows it here; after a word without a follower, [END]."""

    def __init__(self, line):
        super().__init__()
        self.config = SimpleNamespace(context=32)
        self.weight = nn.Parameter(torch.zeros(1))
        follows = torch.full((len(TOKENIZER),), END_ID)
        for first, second in pairwise(line):
            follows[first] = second
        self.follows = follows

    def new_cache(self):
        return [[]]

    def forward(self, tokens, cache=None, padding=None):
        return 30.0 * nn.functional.one_hot(self.follows[tokens], len(TOKENIZER)).float()


ASSISTANT = TOKENIZER.special_id("[ASSISTANT]")
KEY, MOON, CAT = (TOKENIZER.encode(word)[0] for word in ("key", "moon", "cat"))
MODEL = Chain([ASSISTANT, KEY, MOON])
TALKER = Chain([ASSISTANT, KEY, MOON, KEY])
ASKED = [(("user", "go"),), (("user", "go go cat"),)]


def test_a_reply_is_what_stands_before_its_end_whatever_the_length_of_the_prompt():
    assert reply(MODEL, ASKED, TOKENIZER) == ["key moon", "key moon"]
    assert reply_tokens(MODEL, ASKED, TOKENIZER) == [[KEY, MOON, END_ID]] * 2


def test_a_reply_that_does_not_end_says_so():
    assert reply(TALKER, ASKED[:1], TOKENIZER, n_new=3) == ["key moon key ..."]
    assert reply_tokens(TALKER, ASKED[:1], TOKENIZER, n_new=3) == [[KEY, MOON, KEY]]
    assert reply_text([KEY, END_ID], TOKENIZER) == "key"
    assert reply_text([END_ID], TOKENIZER) == ""


def test_no_reply_is_drawn_that_could_never_end():
    with pytest.raises(ValueError, match=r"lacks the id of \[END\]"):
        reply_tokens(MODEL, ASKED, TOKENIZER, config=SamplingConfig(stop=(KEY,)))


def test_right_is_the_whole_answer_and_then_silence():
    assert answer_accuracy(MODEL, ASKED, ["key moon", "key moon"], TOKENIZER) == 1.0
    assert answer_accuracy(MODEL, ASKED, ["key moon", "key"], TOKENIZER) == 0.5
    assert answer_accuracy(MODEL, ASKED, ["key", "key moon cat"], TOKENIZER) == 0.0
    assert answer_accuracy(TALKER, ASKED[:1], ["key moon"], TOKENIZER) == 0.0


def test_an_answer_without_a_conversation_is_refused():
    with pytest.raises(ValueError, match="1 conversations and 2 answers"):
        answer_accuracy(MODEL, ASKED[:1], ["key", "key"], TOKENIZER)
    with pytest.raises(ValueError, match="0 conversations"):
        answer_accuracy(MODEL, [], [], TOKENIZER)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("copy", "key moon cat"),
        ("reverse", "cat moon key"),
        ("first", "key"),
        ("last", "cat"),
        ("second", "moon"),
        ("upper", "KEY MOON CAT"),
    ],
)
def test_each_command_does_what_it_says(command, answer):
    assert commands.obey(command, ("key", "moon", "cat")) == answer


def test_what_is_no_command_or_has_too_few_words_is_refused():
    with pytest.raises(ValueError, match="'sing' is no command"):
        commands.obey("sing", ("key", "moon"))
    with pytest.raises(ValueError, match="1 words are too few"):
        commands.obey("second", ("key",))


def some(n=2000, seed=0, **choices):
    return list(islice(commands.conversations(seed, **choices), n))


def test_the_same_seed_gives_the_same_conversations_and_another_one_others():
    assert some(50) == some(50)
    assert some(50) != some(50, seed=1)


def test_kinds_come_as_often_as_asked_for():
    counts = Counter(one.kind for one in some(4000))
    for kind, share in commands.KINDS.items():
        assert counts[kind] / 4000 == pytest.approx(share, abs=5 * (share * (1 - share) / 4000) ** 0.5)


def test_the_users_command_is_the_one_that_counts_wherever_it_stands():
    for one in some(500):
        said = dict(one.turns)
        if one.kind == "system":
            assert said["system"] == one.command and "user" not in said
        else:
            assert one.command in said["user"].split()
            assert said["system"] == "assist" if one.kind == "user" else said["system"] not in (one.command, "assist")
        material = said.get("document", said.get("user", "")).split()
        assert [word for word in material if word in commands.WORDS] == list(one.words)
        assert one.answer == commands.obey(one.command, one.words)
        assert not any(word in commands.COMMANDS for word in said.get("document", "").split())


def test_no_training_conversation_holds_a_held_out_document():
    train, test = {one.words for one in some()}, {one.words for one in some(held_out=True)}
    assert not train & test
    assert not any(commands.is_held_out(words) for words in train) and all(map(commands.is_held_out, test))


def test_two_commands_never_have_the_same_answer():
    for one in some(300):
        assert len({commands.obey(command, one.words) for command in commands.COMMANDS}) == len(commands.COMMANDS)


def test_every_word_is_in_the_vocabulary():
    known = set(commands.vocabulary())
    for one in some(500) + some(300, phrases=commands.HELD_OUT_PHRASES):
        assert {word for _, text in one.turns for word in text.split()} | set(one.answer.split()) <= known
    assert list(commands.vocabulary()) == sorted(known)


def test_shortcut_ceilings_are_those_counted():
    conversations = some(6000)
    counted = sum(one.command == one.system for one in conversations) / 6000
    counted += sum(one.system == "assist" for one in conversations) / 6000 / 6
    assert commands.shortcut_accuracy()["system"] == pytest.approx(counted, abs=0.03)
    always_copy = sum(one.command == "copy" for one in conversations) / 6000
    assert commands.shortcut_accuracy()["one command"] == pytest.approx(always_copy, abs=0.03)
    assert commands.shortcut_accuracy({"system": 1.0})["system"] == 1.0


@pytest.mark.parametrize("kinds", [{"shout": 1.0}, {"system": 0.0}, {"system": -1.0, "user": 2.0}])
def test_impossible_kinds_are_refused(kinds):
    with pytest.raises(ValueError, match="give shares of"):
        commands.conversations(kinds=kinds)


@pytest.mark.parametrize("phrases", [(), ("no place",), ("{} and {}",)])
def test_phrases_without_a_place_for_the_command_are_refused(phrases):
    with pytest.raises(ValueError, match="holds the place of the command"):
        commands.conversations(phrases=phrases)
