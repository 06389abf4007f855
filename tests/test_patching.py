"""Scores and patches, tried on a circuit written by hand, where the answer is known."""

import pytest
import torch

from llmcourse.circuits import induction_circuit
from llmcourse.models import GPT
from llmcourse.patching import (
    induction_score,
    key_connections,
    patch,
    patch_effects,
    previous_token_score,
    probe_accuracy,
    record_outputs,
)
from llmcourse.recording import ablate_heads, logit_lens, record_attention
from llmcourse.transformer import TransformerConfig

FIRST, SECOND = "blocks.0.attention", "blocks.1.attention"
CLEAN = torch.tensor([[0, 3, 1, 4, 2, 0]])  # after 0 came 3
CORRUPT = torch.tensor([[0, 5, 1, 4, 2, 0]])  # after 0 came 5
REPEATED = torch.tensor([[2, 0, 5, 3, 2, 0, 5, 3]])
SOURCES = torch.tensor([[-1, -1, -1, -1, 1, 2, 3, 4]])


def three_over_five(logits):
    return (logits[0, -1, 3] - logits[0, -1, 5]).item()


@pytest.fixture
def circuit():
    return induction_circuit()


def maps_of(model, tokens):
    with record_attention(model) as maps:
        model(tokens)
    return maps


def test_the_circuit_repeats_whatever_was_repeated(circuit):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        block = torch.randperm(6, generator=generator)[:4]
        row = block.repeat(3)[None]
        assert torch.equal(circuit(row)[0, 4:].argmax(-1)[:-1], row[0, 5:])


def test_the_circuit_s_heads_have_the_scores_they_were_built_for(circuit):
    maps = maps_of(circuit, REPEATED)
    torch.testing.assert_close(previous_token_score(maps[FIRST]), torch.tensor([1.0, 1 / 7]))
    torch.testing.assert_close(induction_score(maps[SECOND], SOURCES)[0], torch.tensor(1.0))
    assert induction_score(maps[SECOND], SOURCES)[1] < 0.2


def test_the_decoy_has_all_the_attention_and_no_effect(circuit):
    maps = maps_of(circuit, REPEATED)
    torch.testing.assert_close(maps[FIRST][0, 1, :, 0], torch.ones(8))
    with ablate_heads(circuit, {FIRST: [1], SECOND: [1]}):
        without_decoys = circuit(REPEATED)
    torch.testing.assert_close(without_decoys, circuit(REPEATED))
    with ablate_heads(circuit, {FIRST: [0]}):
        assert not torch.equal(circuit(REPEATED)[0, 4:-1].argmax(-1), REPEATED[0, 5:])


def test_scores_count_what_their_definition_says():
    weights = torch.arange(32.0).reshape(1, 2, 4, 4)  # head 0 holds 4 t + s, head 1 that plus 16
    torch.testing.assert_close(previous_token_score(weights), torch.tensor([(4 + 9 + 14) / 3, 25.0]))
    sources = torch.tensor([[-1, -1, 0, 2]])
    torch.testing.assert_close(induction_score(weights, sources), torch.tensor([(8 + 14) / 2, 27.0]))


def test_scores_of_nothing_are_refused():
    with pytest.raises(ValueError, match="one token"):
        previous_token_score(torch.ones(1, 1, 1, 1))
    with pytest.raises(ValueError, match="no position"):
        induction_score(torch.ones(1, 1, 2, 2), torch.tensor([[-1, -1]]))


def test_patching_the_circuit_finds_its_path_and_nothing_else(circuit):
    names = ["embedding", "blocks.0", "blocks.1"]
    expected = torch.zeros(3, 6)
    expected[0, 1] = expected[1, 1] = 1.0  # the token that differs is read where it stands ...
    expected[2, 5] = 1.0  # ... and layer 1 brings it to the end
    torch.testing.assert_close(patch_effects(circuit, CLEAN, CORRUPT, names, three_over_five), expected)


def test_heads_are_patched_one_by_one(circuit):
    with record_outputs(circuit, [SECOND], by_head=True) as clean:
        circuit(CLEAN)
    with patch(circuit, clean, heads=[1]):
        assert three_over_five(circuit(CORRUPT)) < 0
    with patch(circuit, clean, heads=[0], positions=[4]):
        assert three_over_five(circuit(CORRUPT)) < 0
    with patch(circuit, clean, heads=[0], positions=[5]):
        assert three_over_five(circuit(CORRUPT)) > 0


def test_patching_everything_is_the_other_run_and_patching_itself_is_nothing():
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=6, context=8, d_model=12, n_heads=3)).eval()
    with record_outputs(model, ["blocks.1"]) as clean:
        expected = model(CLEAN)
    with patch(model, clean):
        torch.testing.assert_close(model(CORRUPT), expected)
    with patch(model, clean, positions=[2, 4]):
        torch.testing.assert_close(model(CLEAN), expected)


def test_a_patch_changes_neither_what_was_recorded_nor_the_model(circuit):
    with record_outputs(circuit, ["blocks.0"]) as clean:
        circuit(CLEAN)
    kept, before = clean["blocks.0"].clone(), circuit(CORRUPT)
    with patch(circuit, clean, positions=[1]):
        circuit(CORRUPT)
    assert torch.equal(clean["blocks.0"], kept)
    assert torch.equal(circuit(CORRUPT), before)
    assert not any(module._forward_hooks for module in circuit.modules())


def test_the_lens_sees_the_circuit_s_answer_only_after_its_last_layer(circuit):
    lens = logit_lens(circuit, CLEAN)[:, 0, -1]
    torch.testing.assert_close(lens[:2], torch.zeros(2, 6))
    assert lens[2].argmax() == 3


def test_what_cannot_be_patched_is_refused(circuit):
    with record_outputs(circuit, ["blocks.0"]) as clean:
        circuit(CLEAN)
    with pytest.raises(ValueError, match="no module"), patch(circuit, {"blocks.7": clean["blocks.0"]}):
        pass
    with pytest.raises(ValueError, match="no heads"), patch(circuit, clean, heads=[0]):
        pass
    with pytest.raises(ValueError, match="no position 6"), patch(circuit, clean, positions=[6]):
        circuit(CORRUPT)
    with pytest.raises(ValueError, match="was recorded"), patch(circuit, clean):
        circuit(CORRUPT[:, :4])
    with pytest.raises(ValueError, match="both runs"):
        patch_effects(circuit, CLEAN, CLEAN, ["blocks.0"], three_over_five)
    with pytest.raises(ValueError, match="align"):
        patch_effects(circuit, CLEAN, CORRUPT[:, :4], ["blocks.0"], three_over_five)


@pytest.mark.parametrize("sizes", [(1, 4), (4, 1)])
def test_a_circuit_too_small_to_repeat_is_refused(sizes):
    with pytest.raises(ValueError, match="at least 2"):
        induction_circuit(*sizes)


def test_the_circuit_s_heads_are_connected_as_they_were_built(circuit):
    """The induction head's keys read what the previous-token head writes; what the decoy writes is zero."""
    strengths, chance = key_connections(circuit.blocks[0].attention, circuit.blocks[1].attention)
    assert strengths[0, 0] > 1.5 * chance
    strengths[0, 0] = 0.0
    assert strengths.abs().max() == 0.0


def test_connections_are_the_norms_of_the_product_and_of_chance_for_random_heads():
    model = GPT(TransformerConfig(n_vocab=5, context=8, d_model=48, n_heads=6, n_layers=2, n_kv_heads=3))
    below, above = (block.attention for block in model.blocks)
    strengths, chance = key_connections(below, above)
    value, key = below.value.weight[8:16], above.key.weight[16:24]  # the second and the third of three shared heads
    writes = below.out.weight[:, 16:24] @ value  # heads 2 and 3 share the second values
    assert strengths[4, 2].item() == pytest.approx(
        ((key @ writes).norm() / (key.norm() * writes.norm())).item(), rel=1e-5
    )
    assert strengths.mean().item() == pytest.approx(chance, rel=0.15)


def test_a_probe_reads_what_is_there_and_guesses_what_is_not():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2000, 16, generator=generator) + 3.0
    there, absent = states[:, 3] > 3.5, torch.rand(2000, generator=generator) > 0.5
    assert probe_accuracy(states, there, 1000) > 0.9
    assert probe_accuracy(states, absent, 1000) == pytest.approx(0.5, abs=5 * 0.5 / 1000**0.5)
    for n_train in (0, 2000):
        with pytest.raises(ValueError, match="keep some states to fit on, and others to judge on"):
            probe_accuracy(states, there, n_train)
