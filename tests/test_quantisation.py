"""Quantisation: the bounds hold for every number, a channel's outlier stays its own, models keep their predictions."""

import pytest
import torch
from torch import nn

from llmcourse.bert import PreTrainingBert
from llmcourse.data import Batch
from llmcourse.latent import LatentConfig, LatentGPT
from llmcourse.models import GPT, EncoderDecoder
from llmcourse.quantisation import (
    QuantisedLinear,
    pack,
    quantisable,
    quantise,
    quantise_weight,
    stored_bytes,
    unpack,
)
from llmcourse.training import TrainConfig, next_token_loss, seed_everything, train
from llmcourse.transformer import TransformerConfig
from llmcourse.weights import load_tensors, load_weights, save_tensors

CONFIG = TransformerConfig(n_vocab=29, context=16, d_model=32, n_heads=4, n_layers=2)
ROUNDING = 1 + 1e-5  # of the 32-bit numbers that the bound itself is computed in


def text():
    """Rows in which a token is followed by its triple, all but one time in ten."""
    g = torch.Generator().manual_seed(3)
    row = [torch.randint(29, (32, 1), generator=g)]
    for _ in range(16):
        other = torch.randint(29, (32, 1), generator=g)
        row.append(torch.where(torch.rand(32, 1, generator=g) < 0.1, other, row[-1] * 3 % 29))
    rows = torch.cat(row, dim=1)
    return Batch(rows[:, :-1], rows[:, 1:])


@pytest.fixture(scope="module")
def trained():
    seed_everything(0)
    model = GPT(CONFIG)
    for _ in train(model, iter([text()] * 80), next_token_loss, TrainConfig(steps=80, rate=5e-3, warm_up=10)):
        pass
    return model


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_no_weight_moves_by_more_than_half_a_step(bits, per):
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 40)[:, None]
    numbers, scale = quantise_weight(weight, bits, per)
    assert ((weight - numbers * scale).abs() <= scale / 2 * ROUNDING).all()
    assert numbers.abs().max() == 2 ** (bits - 1) - 1
    assert len(scale.unique()) == (40 if per == "channel" else 1)


def test_a_row_by_hand():
    numbers, scale = quantise_weight(torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0]]))
    assert numbers.tolist() == [[127, -50, 0], [0, 0, 0]]
    torch.testing.assert_close(scale, torch.tensor([[0.01], [1.0]]))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_no_output_leaves_its_bound_and_the_bound_is_reached(bits, bias):
    torch.manual_seed(0)
    linear = nn.Linear(33, 20, bias=bias)
    rounded, x = QuantisedLinear(linear, bits), torch.randn(500, 33)
    off = (rounded(x) - linear(x)).abs()
    assert (off <= rounded.output_bound(x) * ROUNDING + 1e-6).all()
    worst = (rounded.weight - linear.weight).sign()  # the input that sends every error the same way
    off = ((rounded(worst) - linear(worst)).abs() / rounded.output_bound(worst)).diagonal()
    assert off.min() > 0.25 and off.max() <= ROUNDING


def test_one_large_channel_spoils_the_others_only_when_all_share_a_scale():
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 32, bias=False), torch.randn(200, 64)
    linear.weight.data[5] *= 200
    others = torch.arange(32) != 5
    errors = {
        per: (QuantisedLinear(linear, 8, per)(x) - linear(x))[:, others].square().mean().sqrt()
        for per in ("channel", "tensor")
    }
    assert errors["tensor"] > 50 * errors["channel"]


@pytest.mark.parametrize("columns", [1, 2, 7, 8])
def test_two_numbers_fit_in_a_byte(columns):
    numbers = torch.randint(-8, 8, (9, columns), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    assert pack(numbers).shape == (9, (columns + 1) // 2)
    assert torch.equal(unpack(pack(numbers), columns), numbers)


def test_a_trained_model_predicts_in_8_bits_what_it_did(trained):
    batch, rounded = text(), quantise(trained)
    with torch.no_grad():
        before, after = trained(batch.tokens), rounded(batch.tokens)
        losses = [next_token_loss(model, batch).item() for model in (trained, rounded)]
        coarse = next_token_loss(quantise(trained, 4), batch).item()
    assert (after - before).square().mean().sqrt() < 0.02 * before.std()
    assert (after - before).abs().max() < 0.1 * before.std()
    assert abs(losses[1] - losses[0]) < 0.002
    assert abs(losses[1] - losses[0]) < abs(coarse - losses[0])
    assert (before.argmax(-1) == after.argmax(-1)).float().mean() > 0.99


def test_the_model_itself_stays_as_it_is(trained):
    before = {name: weight.clone() for name, weight in trained.state_dict().items()}
    quantise(trained)
    assert all(torch.equal(weight, before[name]) for name, weight in trained.state_dict().items())
    assert not any(isinstance(module, QuantisedLinear) for module in trained.modules())


@pytest.mark.parametrize(("bits", "numbers_a_byte"), [(8, 1), (4, 2)])
def test_the_bytes_are_those_counted_by_hand_in_memory_and_in_the_file(trained, bits, numbers_a_byte, tmp_path):
    rounded = quantise(trained, bits)
    C, F, V, L = 32, 128, 29, 2
    matrices = L * (4 * C * C + 2 * C * F) + V * C
    rows = L * (4 * C + F + C) + V
    rest = V * C + L * (4 * C + F + C + 4 * C) + 2 * C  # embedding, biases, norms
    assert stored_bytes(rounded) == matrices // numbers_a_byte + 4 * (rows + rest)
    assert stored_bytes(trained) == 4 * (matrices + rest)
    save_tensors(tmp_path / "rounded.safetensors", rounded.state_dict())
    size = (tmp_path / "rounded.safetensors").stat().st_size
    assert 0 < size - stored_bytes(rounded) < 10_000  # the names
    again = quantise(GPT(CONFIG), bits)
    load_weights(again, load_tensors(tmp_path / "rounded.safetensors")[0], "rounded")
    assert torch.equal(again(text().tokens), rounded(text().tokens))


def test_a_tied_output_stays_and_an_untied_one_does_not():
    tied = GPT(TransformerConfig(**{**vars(CONFIG), "tied": True}))
    assert "head" in quantisable(GPT(CONFIG)) and "head" not in quantisable(tied)
    rounded = quantise(tied)
    assert rounded.head.weight is rounded.embedding.tokens.weight
    assert stored_bytes(rounded) < stored_bytes(tied) / 3


def test_parts_can_be_kept():
    assert quantisable(GPT(CONFIG), ("head", "blocks.0")) == [
        f"blocks.1.{name}"
        for name in (
            "attention.query", "attention.key", "attention.value", "attention.out", "feed_forward.expand", "feed_forward.contract",
        )
    ]  # fmt: skip
    with pytest.raises(ValueError, match="keep names 'heads'"):
        quantisable(GPT(CONFIG), ("heads",))


@torch.no_grad()
def test_every_kind_of_model_can_be_rounded():
    torch.manual_seed(0)
    tokens = torch.randint(1, 29, (3, 9))
    padded = TransformerConfig(**{**vars(CONFIG), "pad": 0, "tied": True})
    latent = LatentGPT(CONFIG, LatentConfig(d_latent=12, d_rope=4))
    cases = [
        (GPT(padded), (tokens,)),
        (latent.absorb(), (tokens,)),
        (EncoderDecoder(padded), (tokens, tokens)),
        (PreTrainingBert(padded).bert, (tokens,)),
        (PreTrainingBert(padded), (tokens,)),
    ]
    for model, inputs in cases:
        one, two = model.eval()(*inputs), quantise(model)(*inputs)
        for before, after in zip(*((x,) if torch.is_tensor(x) else x for x in (one, two)), strict=True):
            assert 0 < (before - after).abs().max() < 0.1 * before.std()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantise(GPT(CONFIG), 3), "bits=3"),
        (lambda: quantise_weight(torch.tensor([[1.0, float("nan")]])), "not finite"),
        (lambda: quantise(nn.Embedding(3, 4)), "no Linear"),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_single_layer_is_quantised_as_a_whole_model_is():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 8), torch.randn(3, 8)
    rounded = quantise(layer)
    assert isinstance(rounded, QuantisedLinear) and not torch.equal(rounded(x), layer(x))
    torch.testing.assert_close(rounded(x), layer(x), atol=0.05, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", [8, 4])
def test_weights_in_16_bits_keep_the_bound_and_their_signs(dtype, bits):
    weight = torch.randn(2_000, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    numbers, scale = quantise_weight(weight, bits)
    assert ((weight.float() - numbers * scale).abs() <= scale / 2 * ROUNDING).all()
    assert (numbers.sign() * weight.float().sign() >= 0).all()


def test_the_tiniest_numbers_keep_their_sign():
    numbers, _ = quantise_weight(torch.tensor([[190 * 2.0**-149, 2.0**-149]]))
    assert numbers.min() >= 0
