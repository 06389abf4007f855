"""The calculator says what is then measured, byte by byte, and the chooser says which conditions a card breaks."""

from dataclasses import replace

import pytest
import torch

from llmcourse.bert import BERT_BASE, Bert, PreTrainingBert
from llmcourse.interop import CARDS, Needs, cache_bytes, memory_to_run, memory_to_train, rank_cards, violations
from llmcourse.interop.choosing import LICENCES, least_seconds_per_token
from llmcourse.interop.memory import parameters_of
from llmcourse.models import GPT, GPT_2, count_parameters
from llmcourse.transformer import TransformerConfig

CONFIG = TransformerConfig(n_vocab=101, context=24, d_model=24, n_heads=6, n_layers=3, n_kv_heads=2)
OPTIMISERS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "adamw": lambda model: torch.optim.AdamW(model.parameters()),
}


def measured(tensors):
    """The bytes that these tensors really hold, a shared one once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors if tensor is not None}.values())


@pytest.mark.parametrize("n_kv_heads", [None, 3, 2, 1])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_and_cache_are_what_is_measured(n_kv_heads, dtype):
    config = replace(CONFIG, n_kv_heads=n_kv_heads, tied=True)
    model = GPT(config).to(getattr(torch, dtype))
    cache = model.new_cache()
    model(torch.randint(101, (5, 17)), cache)
    expected = memory_to_run(config, length=17, batch=5, dtype=dtype)
    assert expected.weights == pytest.approx(measured(model.parameters()), rel=0.01)
    assert expected.cache == pytest.approx(measured([t for part in cache for t in (part.key, part.value)]), rel=0.01)
    assert expected.total == expected.weights + expected.cache


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_and_the_optimiser_are_what_is_measured(optimiser, dtype):
    model = GPT(CONFIG).to(getattr(torch, dtype))
    made = OPTIMISERS[optimiser](model)
    model(torch.randint(101, (2, 9))).float().square().mean().backward()
    made.step()
    expected = memory_to_train(count_parameters(model), optimiser=optimiser, dtype=dtype)
    assert expected.weights == pytest.approx(measured(model.parameters()), rel=0.01)
    assert expected.gradients == pytest.approx(measured([p.grad for p in model.parameters()]), rel=0.01)
    kept = [t for state in made.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    assert expected.optimiser == pytest.approx(measured(kept), rel=0.01)


def test_a_float32_copy_beside_half_precision_is_what_is_measured():
    model = GPT(CONFIG).bfloat16()
    master = [parameter.detach().float().requires_grad_() for parameter in model.parameters()]
    made = torch.optim.AdamW(master)
    for parameter in master:
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    kept = [t for state in made.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    expected = memory_to_train(count_parameters(model), dtype="bfloat16", master_copy=True)
    assert expected.optimiser == pytest.approx(measured(master) + measured(kept), rel=0.01)
    assert expected.total == pytest.approx(16 * count_parameters(model))  # the well-known 16 bytes a parameter


def test_what_is_frozen_has_neither_gradient_nor_moments():
    part = memory_to_train(1000, n_trained=10)
    assert (part.weights, part.gradients, part.optimiser) == (4000, 40, 80)
    assert memory_to_train(1000, dtype="int4", n_trained=0).total == 500


def test_published_sizes_by_hand():
    assert parameters_of(GPT_2["small"]) == 124_439_808
    assert memory_to_run(GPT_2["small"], dtype="float16").cache == 2 * 12 * 12 * 1024 * 64 * 2
    assert memory_to_run(BERT_BASE, kind=Bert).total == 4 * 109_482_240
    # Mistral 7B: 8 heads of keys where Llama 2 has 32, so a quarter of the cache.
    llama, mistral = (cache_bytes(n_layers=32, n_kv_heads=n, d_head=128, length=4096, dtype="float16") for n in (32, 8))
    assert llama == 4 * mistral == 2**31


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: memory_to_run(CONFIG, length=25), "length=25 is more than the context of 24"),
        (lambda: memory_to_run(CONFIG, dtype="float8"), "dtype='float8'"),
        (lambda: memory_to_train(10, dtype="int8"), "whole numbers have no gradients"),
        (lambda: cache_bytes(n_layers=0, n_kv_heads=1, d_head=1, length=1), "n_layers=0"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


BY_NAME = {card.name: card for card in CARDS}


def test_the_cards_say_what_the_architectures_count():
    assert BY_NAME["GPT-2 small"].parameters == parameters_of(GPT_2["small"])
    assert BY_NAME["BERT base, uncased"].parameters == parameters_of(BERT_BASE, Bert)
    assert BY_NAME["BERT base, multilingual"].parameters == parameters_of(replace(BERT_BASE, n_vocab=119_547), Bert)
    mini = replace(BERT_BASE, d_model=384, n_layers=6)
    assert BY_NAME["all-MiniLM-L6-v2"].parameters == parameters_of(mini, Bert)

    def of_llama_s_kind(d_model, n_layers, hidden, kv_share):
        layer = 2 * d_model**2 * (1 + kv_share) + 3 * d_model * hidden + 2 * d_model
        return 2 * 32_000 * d_model + n_layers * layer + d_model

    assert BY_NAME["Llama 2 7B"].parameters == of_llama_s_kind(4096, 32, 11_008, 1)
    assert BY_NAME["Mistral 7B v0.1"].parameters == of_llama_s_kind(4096, 32, 14_336, 1 / 4)
    C = 4096  # BLOOM: biases everywhere, a norm after the embedding, no position table
    block = 4 * C * C + 4 * C + 8 * C * C + 5 * C + 4 * C
    assert BY_NAME["BLOOM 7B1"].parameters == 250_880 * C + 2 * C + 30 * block + 2 * C
    C, F = 1024, 4096  # NLLB: an encoder-decoder with sinusoids, one matrix of 256,206 tokens
    part = 4 * (C * C + C) + 2 * C * F + F + C + 4 * C
    assert (
        BY_NAME["NLLB-200 distilled 600M"].parameters
        == 256_206 * C + 24 * part + 12 * (4 * (C * C + C) + 2 * C) + 4 * C
    )


def test_each_condition_is_broken_alone_and_in_words():
    mini, llama, nllb = BY_NAME["all-MiniLM-L6-v2"], BY_NAME["Llama 2 7B"], BY_NAME["NLLB-200 distilled 600M"]
    assert violations(mini, Needs(task="embed", commercial=True, no_restricted_uses=True, memory=1e8)) == []
    for card, needs, words in [
        (mini, Needs(task="generate"), "does not generate"),
        (mini, Needs(task="embed", language="de"), "does not read de"),
        (mini, Needs(task="embed", length=257), "reads 256 tokens, not 257"),
        (nllb, Needs(task="translate", commercial=True), "CC-BY-NC-4.0 forbids commercial use"),
        (llama, Needs(task="generate", no_restricted_uses=True), "Llama 2 Community lists forbidden uses"),
        (llama, Needs(task="generate", memory=8e9), "needs 13.6 GB, not 8.0"),
        (replace(mini, hosted=True), Needs(task="embed", private=True), "sends your text away"),
        (llama, Needs(task="generate", seconds_per_token=0.1), "takes at least 0.27 s a token, not 0.10"),
    ]:
        assert violations(card, needs) == [words]
    assert violations(llama, Needs(task="generate", memory=8e9, dtype="int4")) == []
    assert least_seconds_per_token(mini, Needs(task="embed")) == 0.0


def test_the_fewest_violations_come_first_and_then_the_least_memory():
    ranked = rank_cards(CARDS, Needs(task="generate", length=2048, commercial=True, memory=8e9, dtype="int4"))
    assert {card.name for card, broken in ranked if not broken} == {"BLOOM 7B1", "Llama 2 7B", "Mistral 7B v0.1"}
    clean = [card.bytes_needed(2048, "int4") for card, broken in ranked if not broken]
    assert len(clean) == 3 and clean == sorted(clean)
    assert [len(broken) for _, broken in ranked] == sorted(len(broken) for _, broken in ranked)


def test_every_card_has_a_known_licence_and_a_name_of_its_own():
    assert {card.licence for card in CARDS} <= LICENCES.keys()
    assert len(BY_NAME) == len(CARDS)


@pytest.mark.parametrize("kind", [Bert, PreTrainingBert])
def test_an_encoder_keeps_no_cache(kind):
    assert memory_to_run(replace(CONFIG, tied=True), kind=kind).cache == 0
