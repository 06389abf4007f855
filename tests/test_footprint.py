"""Memory: what is counted against what autograd keeps, and against the most that torch's allocator held in real trainings."""

from itertools import chain

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from llmcourse.data import Batch
from llmcourse.footprint import Memory, kept_bytes, kept_states, layer_bytes, peak_bytes, step_memory
from llmcourse.models import GPT, GPT_3, count_parameters
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig

SMALL = {"n_vocab": 100, "context": 32, "d_model": 48, "n_heads": 4, "n_layers": 2}
# Sizes at which each of the four parts is a tenth of the whole at least.
SIZES = {
    "18 thousand": ({"n_vocab": 64, "context": 16, "d_model": 24, "n_heads": 2, "n_layers": 2}, 4),
    "0.8 million": ({"n_vocab": 256, "context": 64, "d_model": 128, "n_heads": 4, "n_layers": 4, "tied": True}, 8),
    "5 million": ({"n_vocab": 1000, "context": 128, "d_model": 256, "n_heads": 8, "n_layers": 6, "norm": "rms"}, 4),
}


def batch(config, B):
    rows = torch.randint(config.n_vocab, (B, config.context + 1))
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


def kept_by_autograd(model, rows):
    """Bytes of every tensor that the forward pass saves, but for the model's own; and the tokens."""
    own = {t.untyped_storage().data_ptr() for t in chain(model.parameters(), model.buffers())}
    seen = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in rows}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        next_token_loss(model.train(), rows)
    return sum(storage.nbytes() for storage in seen.values())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "learned"},
        {"positions": "sinusoidal"},
        {"positions": "none"},
        {"positions": "alibi"},
        {"norm": "rms"},
        {"norm": "rms", "norm_place": "post"},
        {"norm_place": "post"},
        {"dropout": 0.1},
        {"qk_norm": True},
        {"qk_norm": True, "positions": "none", "n_kv_heads": 2},
        {"n_kv_heads": 1},
        {"bias": False, "tied": True},
        {"d_feed_forward": 0},
        *({"activation": name, "d_feed_forward": 72} for name in ("gelu", "gelu_tanh", "relu", "relu2", "swiglu")),
    ],
    ids=str,
)
def test_the_count_is_what_autograd_keeps_byte_by_byte(changes):
    config = TransformerConfig(**SMALL | changes)
    kept = kept_by_autograd(GPT(config), batch(config, 3))
    assert kept - kept_bytes(config, 3, 32) == 4  # how many targets counted


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("size", [*list(SIZES)[:2], pytest.param("5 million", marks=pytest.mark.slow)])
def test_a_training_takes_the_memory_that_was_counted_before_it_ran(size, accumulate, without_shape_checks):
    settings, B = SIZES[size]
    config, made = TransformerConfig(**settings), []

    def work():
        made.append(GPT(config))
        rows = iter([batch(config, B) for _ in range(3 * accumulate)])
        list(train(made[0], rows, next_token_loss, TrainConfig(steps=3, accumulate=accumulate)))

    measured = peak_bytes(work)
    memory = step_memory(config, count_parameters(made[0]), B, config.context)
    predicted = memory.peak if accumulate == 1 else memory.total
    print(
        f"{size}, {accumulate}: {predicted / 1e6:.2f} MB, measured {measured / 1e6:.2f}, ratio {predicted / measured:.3f}"
    )
    assert predicted == pytest.approx(measured, rel=0.05)
    if accumulate == 2:
        for part in Memory._fields:  # and no part of it could have been forgotten
            assert memory._replace(**{part: 0}).total < 0.9 * measured


def test_weights_gradients_and_averages_are_counted_exactly():
    config = TransformerConfig(**SMALL, tied=True)
    model = GPT(config)
    optimiser = torch.optim.AdamW(model.parameters())
    next_token_loss(model, batch(config, 2)).backward()
    optimiser.step()
    counted = kept_states(count_parameters(model), "float32")
    assert counted.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    assert counted.gradients == sum(p.grad.numel() * p.grad.element_size() for p in model.parameters())
    averages = (state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq"))
    assert counted.optimiser == sum(t.numel() * t.element_size() for t in averages)


def test_the_allocator_sees_what_is_gone_again():
    assert peak_bytes(lambda: torch.empty(1000) is None or torch.empty(2000)) == 8000
    assert peak_bytes(lambda: [torch.empty(1000), torch.empty(2000)]) == 12_000


@pytest.mark.parametrize(("sharded", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_stages_of_zero_are_those_of_the_paper(sharded, gigabytes):
    # Rajbhandari et al. (2020), figure 1: 7.5 billion parameters on 64 devices.
    assert round(kept_states(7.5e9, data=64, sharded=sharded).total / 1e9, 1) == gigabytes


def test_a_layer_of_gpt_3_keeps_what_the_paper_says():
    # Korthikanti et al. (2022): 34 + 5 H T / C, and for GPT-3 the second is 80.
    assert layer_bytes(GPT_3, 1, 2048) == 2048 * 12_288 * (34 + 80)
    assert layer_bytes(GPT_3, 1, 2048, "selective") == 2048 * 12_288 * 34
    assert layer_bytes(GPT_3, 1, 2048, "full") == 2048 * 12_288 * 2


def test_a_layer_of_llama_by_hand():
    llama = TransformerConfig(
        n_vocab=10, context=8, d_model=16, n_heads=4, n_kv_heads=2, d_feed_forward=40, activation="swiglu", norm="rms"
    )
    # Inputs of two norms and of two sub-layers, queries, what was read; half as wide keys and values; four wide rows.
    assert layer_bytes(llama, 1, 8, "selective") == 8 * 2 * (6 * 16 + 2 * 8 + 4 * 40)
    assert layer_bytes(llama, 1, 8) - layer_bytes(llama, 1, 8, "selective") == 8 * 2 * 4 * 8


def test_the_peak_has_gradients_or_activations_whichever_is_more():
    assert Memory(1, 2, 4, 8).peak == 13 and Memory(1, 8, 4, 2).peak == 13
    assert Memory(1, 2, 4, 8).total == 15
