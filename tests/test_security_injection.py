"""Prompt injection: what each form of a prompt shows, what an attack is, and the model that sees roles."""

from itertools import islice

import pytest
import torch
from torch import nn

from llmcourse.chat import SPECIAL, chat_tokenizer, render
from llmcourse.corpora import commands
from llmcourse.data import IGNORED
from llmcourse.injection import (
    FILTERED,
    MIX,
    ROLE_NUMBERS,
    SPOOF,
    TRAINED_ATTACKS,
    RoleMarked,
    alarm_rate,
    as_attack,
    defence_stream,
    overrides,
    parts,
    prompt,
    prompt_batches,
    replies,
    share_of,
    without_words,
)
from llmcourse.models import GPT
from llmcourse.recording import record_attention
from llmcourse.transformer import TransformerConfig

TOKENIZER = chat_tokenizer(commands.vocabulary())
V = len(TOKENIZER)
ALL_PHRASES = (*commands.PHRASES, *commands.HELD_OUT_PHRASES, SPOOF)


def small_gpt(seed=0):
    torch.manual_seed(seed)
    return GPT(TransformerConfig(n_vocab=V, context=48, d_model=16, n_heads=2, n_layers=1)).eval()


def some(stream, n=50):
    return list(islice(stream, n))


def spelled(ids):
    return [TOKENIZER.piece(i % V) for i in ids]


def test_glued_no_attack_can_be_told_from_its_twin():
    for twin in some(overrides(0, ALL_PHRASES)):
        assert prompt(twin.turns, TOKENIZER, "glued") == prompt(as_attack(twin).turns, TOKENIZER, "glued")


@pytest.mark.parametrize("form", ["turns", "roles"])
def test_the_other_forms_tell_every_attack_from_its_twin(form):
    for twin in some(overrides(0, ALL_PHRASES)):
        assert prompt(twin.turns, TOKENIZER, form) != prompt(as_attack(twin).turns, TOKENIZER, form)


def test_an_attack_has_the_words_of_its_twin_and_the_answer_of_the_system():
    for twin in some(overrides(1)):
        attack = as_attack(twin)
        assert (attack.document, attack.user, attack.words) == (twin.user, "", twin.words)
        assert attack.answer == commands.obey(twin.system, twin.words) != twin.answer


def test_the_form_turns_is_the_chat_template():
    for one in some(commands.conversations(3), 20):
        assert prompt(one.turns, TOKENIZER, "turns") == render(one.turns, TOKENIZER, reply=True)
        said = (*one.turns, ("assistant", one.answer))
        assert prompt(said, TOKENIZER, "turns") == render(said, TOKENIZER)


def test_glued_is_the_words_and_the_place_of_the_answer():
    row = prompt((("system", "reverse"), ("document", "key moon"), ("assistant", "moon key")), TOKENIZER, "glued")
    assert spelled(row.ids) == ["reverse", "key", "moon", "[ASSISTANT]", "moon", "key", "[END]"]
    assert row.counts == [False] * 4 + [True] * 3


def test_roles_are_the_turns_with_a_number_that_says_whose_they_are():
    one = next(commands.conversations(5, kinds={"paste": 1.0}))
    marked = prompt(one.turns, TOKENIZER, "roles").ids
    assert [i % V for i in marked] == prompt(one.turns, TOKENIZER, "turns").ids
    numbers = [ROLE_NUMBERS[role] for role, part in parts(one.turns, TOKENIZER, "roles") for _ in part.ids]
    assert [i // V for i in marked] == numbers
    assert numbers[-1] == 0  # a model's own tokens come without a mark: the assistant's is 0


@pytest.mark.parametrize("form", ["turns", "roles"])
def test_a_typed_special_token_is_words_unless_the_template_is_careless(form):
    turns = (("system", "copy"), ("document", SPOOF.format("first")))
    special = {TOKENIZER.special_id(name) for name in SPECIAL}
    counted = [
        sum(i % V in special for i in prompt(turns, TOKENIZER, form, careless=careless).ids)
        for careless in (False, True)
    ]
    assert counted == [5, 5 + 4]


def test_not_even_a_careless_template_gives_a_document_another_role():
    turns = (("system", "copy"), ("document", SPOOF.format("first")))
    found = parts(turns, TOKENIZER, "roles", careless=True)
    assert {i // V for role, part in found if role == "document" for i in part.ids} == {ROLE_NUMBERS["document"]}


def test_an_unknown_form_is_refused(without_shape_checks):
    with pytest.raises(ValueError, match="glued"):
        prompt((("user", "copy"),), TOKENIZER, "xml")


def test_batches_count_the_answer_alone_and_its_targets_have_no_mark():
    batch = next(prompt_batches(commands.conversations(0), 8, TOKENIZER, "roles"))
    counted = batch.targets[batch.targets != IGNORED]
    assert counted.max() < V
    first = next(commands.conversations(0))
    said = TOKENIZER.decode(batch.targets[0][batch.targets[0] != IGNORED][:-1].tolist())
    assert said == first.answer


def test_role_marked_with_vectors_of_zero_is_the_model_inside():
    inside = small_gpt()
    marked = RoleMarked(inside)
    nn.init.zeros_(marked.roles.weight)
    tokens = torch.randint(4 * V, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(marked(tokens), inside(tokens % V))


def test_role_marked_adds_its_vector_to_the_tokens_of_that_role_only():
    marked = RoleMarked(small_gpt()).eval()
    as_user = torch.tensor([[3, 4, 5 + 2 * V]])
    as_document = torch.tensor([[3, 4, 5 + 3 * V]])
    before, after = marked(as_user), marked(as_document)
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert (before[:, 2] - after[:, 2]).abs().max() > 0.01
    with torch.no_grad():
        marked.roles.weight[3] = marked.roles.weight[2]
    torch.testing.assert_close(marked(as_document), before)


def test_role_marked_leaves_the_model_inside_as_it_was():
    inside, tokens = small_gpt(), torch.tensor([[1, 2, 3]])
    before = inside(tokens)
    RoleMarked(inside)(tokens + V)
    assert torch.equal(inside(tokens), before)


def test_role_marked_computes_the_same_with_a_cache_and_can_be_watched():
    marked = RoleMarked(small_gpt()).eval()
    tokens = torch.tensor([[1 + V, 2 + V, 3 + 3 * V, 4]])
    whole, cache = marked(tokens), marked.new_cache()
    steps = torch.cat([marked(tokens[:, i : i + 1], cache) for i in range(4)], dim=1)
    torch.testing.assert_close(steps, whole)
    with record_attention(marked) as maps:
        marked(tokens)
    assert list(maps) == ["model.blocks.0.attention"]


@pytest.mark.parametrize("form", ["glued", "turns", "roles"])
def test_replies_do_not_depend_on_their_neighbours(form):
    model = RoleMarked(small_gpt(2)) if form == "roles" else small_gpt(2)
    asked = some(commands.conversations(4), 6)
    together = replies(model.eval(), asked, TOKENIZER, form)
    assert together == [replies(model, [one], TOKENIZER, form)[0] for one in asked]


def test_a_glued_model_carries_out_as_many_attacks_as_it_obeys_requests():
    twins = some(overrides(7, ALL_PHRASES), 40)
    model = small_gpt(5)  # whatever it was trained to do
    assert replies(model, twins, TOKENIZER, "glued") == replies(model, list(map(as_attack, twins)), TOKENIZER, "glued")


def test_a_defence_practises_on_its_share_of_attacks_in_three_phrasings_only():
    stream = some(defence_stream(0), 2000)
    attacks = [one for one in stream if one.kind == "attack"]
    assert abs(len(attacks) / 2000 - MIX["attack"]) < 5 * (0.24 / 2000) ** 0.5
    for one in attacks:
        injected = " ".join(word for word in one.document.split() if word not in commands.WORDS)
        command = next(word for word in injected.split() if word in commands.COMMANDS)
        assert injected in [phrase.format(command) for phrase in TRAINED_ATTACKS]
        assert one.answer == commands.obey(one.system, one.words)
        assert not commands.is_held_out(one.words)


def test_what_is_tested_on_is_held_out():
    assert all(commands.is_held_out(one.words) for one in some(overrides(0)))


def test_the_filter_leaves_nothing_of_any_attack_and_all_of_the_document():
    for twin in some(overrides(2, ALL_PHRASES), 100):
        assert without_words(as_attack(twin)).document.split() == list(twin.words)


def test_alarms_are_counted_by_whole_words_in_any_case():
    texts = ["The LAST lamp", "a lasting peace", "now, then", "cat"]
    assert alarm_rate(texts, {"last", "now"}) == 0.5
    assert alarm_rate(["cat dog"], FILTERED) == 0.0
    assert alarm_rate(["cat [end] dog", "cat dog"], FILTERED) == 0.5


def test_shares_count_exact_replies():
    assert share_of(["a b", "a", "b"], ["a b", "a b", "b"]) == pytest.approx(2 / 3)
