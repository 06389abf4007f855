"""Latent attention: the formula by hand, the cache against none, the absorbed form against the plain one, what is stored."""

import math

import pytest
import torch

from llmcourse.attention import LEAST_ROOM, causal_mask
from llmcourse.data import Batch
from llmcourse.generation import SamplingConfig, generate
from llmcourse.latent import LatentAttention, LatentCache, LatentConfig, LatentGPT
from llmcourse.models import GPT
from llmcourse.recording import record_attention
from llmcourse.training import TrainConfig, next_token_loss, seed_everything, train
from llmcourse.transformer import RotaryPositions, TransformerConfig

CONFIG = TransformerConfig(n_vocab=13, context=24, d_model=16, n_heads=4, n_layers=2)
LATENT = LatentConfig(d_latent=6, d_rope=2)


def new(latent=LATENT, **changes):
    torch.manual_seed(0)
    return LatentGPT(TransformerConfig(**{**vars(CONFIG), **changes}), latent).eval()


def tokens(B=2, T=10):
    return torch.randint(13, (B, T), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("absorbed", [False, True])
def test_the_layer_is_the_formula_head_by_head(absorbed):
    torch.manual_seed(0)
    layer = LatentAttention(8, 2, LatentConfig(d_latent=3, d_rope=2), RotaryPositions(2, 9)).eval()
    layer.absorbed = absorbed
    x = torch.randn(1, 5, 8)
    latent = layer.latent_norm(layer.press(x))[0]
    turned = layer.rotate(layer.rotated_key(x))[0]
    heads = []
    for h in range(2):
        query = layer.query(x)[0, :, 6 * h : 6 * h + 6]
        content, place = query[:, :4], layer.rotate(query[:, 4:])
        rows = slice(4 * h, 4 * h + 4)
        key, value = (latent @ part.weight[rows].T for part in (layer.key, layer.value))
        scores = (content @ key.T + place @ turned.T) / math.sqrt(6)
        heads.append(scores.masked_fill(~causal_mask(5), -math.inf).softmax(-1) @ value)
    expected = layer.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer(x, mask=causal_mask(5))[0], expected)


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("latent", [LATENT, LatentConfig(d_latent=8, d_rope=4, d_query_latent=5)])
@pytest.mark.parametrize("pieces", [(1,) * 10, (4, 1, 5)])
@torch.no_grad()
def test_with_a_cache_the_logits_are_those_of_the_whole_text(latent, absorbed, pieces):
    model, cache = new(latent), None
    whole, cache, found = model(tokens()), model.new_cache(), []
    model.absorb(absorbed)
    for part in tokens().split(pieces, dim=1):
        found.append(model(part, cache))
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_absorbed_form_gives_the_same_logits_and_the_same_attention():
    model = new()
    with record_attention(model) as plain:
        one = model(tokens())
    with record_attention(model.absorb()) as absorbed:
        two = model(tokens())
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    assert plain.keys() == absorbed.keys() and len(plain) == 2
    for name in plain:
        torch.testing.assert_close(plain[name], absorbed[name])
    assert model.absorb(False).blocks[0].attention.absorbed is False


@torch.no_grad()
def test_the_cache_holds_a_latent_and_a_rotated_key_for_each_token_and_nothing_else():
    model = new()
    cache = model.new_cache()
    model(tokens(B=3, T=7), cache)
    for layer in cache:
        held = [t for t in vars(layer).values() if torch.is_tensor(t)]
        assert sum(t.untyped_storage().nbytes() // 4 for t in held) == 3 * LEAST_ROOM * (6 + 2)
        assert len(layer) == 7


def test_a_cache_keeps_the_rows_it_is_told_to():
    cache = LatentCache()
    cache.append(torch.arange(3.0)[:, None, None, None], torch.zeros(3, 1, 1, 2))
    cache.select(torch.tensor([2, 2, 0]))
    assert cache.key.flatten().tolist() == [2, 2, 0]


@pytest.mark.parametrize("absorbed", [False, True])
@torch.no_grad()
def test_no_position_reads_the_future(absorbed):
    model = new().absorb(absorbed)
    before = model(tokens())
    for t in range(1, 10):
        changed = tokens()
        changed[:, t:] = 12 - changed[:, t:]
        torch.testing.assert_close(model(changed)[:, :t], before[:, :t])


@torch.no_grad()
def test_places_matter_only_by_their_distance():
    layer = new().blocks[0].attention
    layer.rotate = RotaryPositions(2, 40)
    x, late = torch.randn(1, 6, 16), LatentCache()
    start = torch.full((1, 1, 20, 6), 0.0), torch.full((1, 1, 20, 2), 0.0)
    late.append(*start)
    hidden = torch.cat([torch.zeros(6, 20, dtype=torch.bool), causal_mask(6)], dim=1)
    torch.testing.assert_close(layer(x, mask=hidden, cache=late), layer(x, mask=causal_mask(6)))
    swapped = layer(x[:, [1, 0, 2, 3, 4, 5]], mask=causal_mask(6))
    assert not torch.allclose(swapped[:, -1], layer(x, mask=causal_mask(6))[:, -1])


@pytest.mark.parametrize("absorbed", [False, True])
def test_every_parameter_has_the_gradient_that_differences_give(absorbed):
    torch.manual_seed(0)
    layer = LatentAttention(4, 2, LatentConfig(d_latent=3, d_rope=2, d_query_latent=3), RotaryPositions(2, 9)).double()
    layer.absorbed = absorbed
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(1, 4, 4, dtype=torch.double, requires_grad=True)

    def run(x, *values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, given, (x,), {"mask": causal_mask(4)})

    assert torch.autograd.gradcheck(run, (x, *values))


def test_it_trains_generates_and_goes_on_from_the_cache_as_any_gpt():
    seed_everything(0)
    model = LatentGPT(CONFIG, LATENT)
    row = torch.tensor([[0, 1, 2, 3, 4, 5] * 4])
    batch = Batch(row[:, :-1], row[:, 1:])
    steps = train(model, iter([batch] * 60), next_token_loss, TrainConfig(steps=60, rate=1e-2, warm_up=5))
    losses = [step.loss for step in steps]
    assert losses[-1] < 0.1 < losses[0]
    greedy = SamplingConfig(temperature=0.0)
    said = generate(model, row[:, :6], 9, greedy)
    assert said[0].tolist() == [0, 1, 2, 3, 4, 5] * 2 + [0, 1, 2]
    assert torch.equal(generate(model.absorb(), row[:, :6], 9, greedy), said)


def test_a_new_model_starts_with_steps_as_small_as_a_gpt_s():
    wide = {"d_model": 256, "n_heads": 4, "n_layers": 8}
    ours, theirs = new(LatentConfig(d_latent=64, d_rope=16), **wide), GPT(TransformerConfig(**{**vars(CONFIG), **wide}))
    one, two = (model.blocks[3].attention.out.weight.std() for model in (ours, theirs))
    torch.testing.assert_close(one, two, rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LatentConfig(d_latent=0, d_rope=2), "d_latent=0"),
        (lambda: LatentConfig(d_latent=4, d_rope=3), "d_rope=3"),
        (lambda: new(positions="learned"), "positions='learned'"),
        (lambda: new(n_kv_heads=2), "n_kv_heads"),
        (lambda: LatentAttention(10, 4, LATENT, RotaryPositions(2, 9)), "d_model=10"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
