"""Rotary positions know distances only, the feed-forward layer works on one position, a block is its formula."""

import cmath
import math

import pytest
import torch
from torch import nn

from llmcourse.attention import causal_mask
from llmcourse.transformer import (
    FeedForward,
    RotaryPositions,
    TokenEmbedding,
    TransformerBlock,
    TransformerConfig,
    alibi_bias,
    alibi_slopes,
    check_tokens,
    initialise,
    new_norm,
    sinusoidal_positions,
)


def at(rotary, x, position):
    """The vector x turned as if it stood at this position."""
    return rotary(x[None], position)[0]


@pytest.mark.parametrize(("m", "n"), [(0, 0), (3, 1), (1, 3), (9, 2)])
def test_a_rotated_dot_product_depends_on_the_distance_alone(m, n):
    torch.manual_seed(0)
    rotary, query, key = RotaryPositions(8, 64), torch.randn(8), torch.randn(8)
    here = at(rotary, query, m) @ at(rotary, key, n)
    for shift in (1, 10, 50):
        torch.testing.assert_close(at(rotary, query, m + shift) @ at(rotary, key, n + shift), here)
    assert not torch.isclose(at(rotary, query, m + 1) @ at(rotary, key, n), here)


def test_rotation_is_multiplication_by_a_complex_number_of_length_1():
    torch.manual_seed(0)
    rotary, x, position = RotaryPositions(6, 64, base=100.0), torch.randn(6), 17
    turned = at(rotary, x, position)
    for i in range(3):
        pair = complex(x[i], x[i + 3]) * cmath.exp(1j * position * 100.0 ** (-2 * i / 6))
        assert complex(turned[i], turned[i + 3]) == pytest.approx(pair, abs=1e-5)
    torch.testing.assert_close(turned.norm(), x.norm())


def test_position_0_is_not_turned_and_a_start_continues_the_sequence():
    torch.manual_seed(0)
    rotary, x = RotaryPositions(8, 16), torch.randn(2, 3, 10, 8)
    whole = rotary(x)
    assert torch.equal(whole[..., 0, :], x[..., 0, :])
    assert torch.equal(rotary(x[..., 4:, :], 4), whole[..., 4:, :])


@pytest.mark.parametrize(("start", "T"), [(0, 17), (15, 2), (16, 1)])
def test_there_is_no_rotation_beyond_the_context(start, T):
    with pytest.raises(ValueError, match=f"position {start + T - 1} is outside the context of 16"):
        RotaryPositions(8, 16)(torch.ones(T, 8), start)


def test_rotation_tables_are_not_saved():
    assert not RotaryPositions(8, 16).state_dict()


def test_sines_and_cosines_are_those_of_the_paper():
    table = sinusoidal_positions(50, 6)
    for t, i in ((0, 0), (1, 0), (7, 1), (49, 2)):
        angle = t / 10_000 ** (2 * i / 6)
        assert table[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
        assert table[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-5)
    with pytest.raises(ValueError, match="d_model=5"):
        sinusoidal_positions(4, 5)


def test_eight_alibi_heads_have_the_slopes_of_the_paper():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]


def test_alibi_takes_slope_times_distance_from_a_score_also_behind_a_cache():
    bias = alibi_bias(2, 4, 6)
    for head, slope in enumerate((2**-4, 2**-8)):
        for t in range(4):
            for s in range(6):
                assert bias[head, t, s] == pytest.approx(-slope * abs(t + 2 - s))


def test_an_embedded_token_is_its_scaled_row_plus_that_of_its_place():
    tokens = torch.tensor([[3, 1, 3]])
    for positions, scaled in (("learned", False), ("sinusoidal", True), ("rotary", True)):
        config = TransformerConfig(
            n_vocab=5, context=9, d_model=6, n_heads=1, positions=positions, scaled_embedding=scaled
        )
        layer = TokenEmbedding(config)
        place = {"rotary": torch.zeros(9, 6), "sinusoidal": sinusoidal_positions(9, 6)}.get(positions)
        place = layer.positions.weight if place is None else place
        expected = layer.tokens.weight[tokens] * (6**0.5 if scaled else 1) + place[4:7]
        torch.testing.assert_close(layer(tokens, start=4), expected)
        assert "table" not in layer.state_dict()


def test_the_root_mean_square_norm_is_its_formula():
    norm, x = new_norm(TransformerConfig(n_vocab=5, d_model=8, norm="rms")), 3 + torch.randn(2, 8)
    expected = x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected)


BENDS = {
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: x.clamp(min=0),
    "relu2": lambda x: x.clamp(min=0) ** 2,
}


@pytest.mark.parametrize("activation", BENDS)
def test_each_activation_is_its_formula(activation):
    torch.manual_seed(0)
    layer, x = FeedForward(4, 10, activation), 2 * torch.randn(3, 4)
    torch.testing.assert_close(layer(x), layer.contract(BENDS[activation](layer.expand(x))))


def test_a_swiglu_layer_opens_its_hidden_numbers_by_a_gate():
    torch.manual_seed(0)
    layer, x = FeedForward(4, 10, "swiglu"), 2 * torch.randn(3, 4)
    gate = layer.gate(x)
    torch.testing.assert_close(layer(x), layer.contract(gate * torch.sigmoid(gate) * layer.expand(x)))


def test_a_post_norm_block_normalises_each_sum():
    torch.manual_seed(0)
    block, x = (
        TransformerBlock(TransformerConfig(n_vocab=5, d_model=12, n_heads=3, norm_place="post")),
        torch.randn(2, 6, 12),
    )
    after = block.attention_norm(x + block.attention(x))
    torch.testing.assert_close(block(x), block.feed_forward_norm(after + block.feed_forward(after)))
    torch.testing.assert_close(block(x).mean(dim=-1), torch.zeros(2, 6), atol=1e-6, rtol=0)


def test_a_block_without_feed_forward_is_attention_alone():
    torch.manual_seed(0)
    config = TransformerConfig(n_vocab=5, d_model=12, n_heads=3, d_feed_forward=0)
    block, x = TransformerBlock(config), torch.randn(2, 6, 12)
    torch.testing.assert_close(block(x), x + block.attention(block.attention_norm(x)))
    assert not [name for name in block.state_dict() if "feed_forward" in name]


def test_feed_forward_is_its_formula_at_each_position_alone():
    torch.manual_seed(0)
    layer, x = FeedForward(4, 10), torch.randn(2, 5, 4)
    hidden = x @ layer.expand.weight.T + layer.expand.bias
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    torch.testing.assert_close(layer(x), hidden @ layer.contract.weight.T + layer.contract.bias)
    changed = x.clone()
    changed[:, 2] += 1
    differs = (layer(changed) != layer(x)).any(dim=-1)
    assert differs.tolist() == [[False, False, True, False, False]] * 2


@pytest.mark.parametrize("positions", ["rotary", "learned", "none"])
def test_a_block_is_its_formula(positions):
    torch.manual_seed(0)
    config = TransformerConfig(n_vocab=5, context=16, d_model=12, n_heads=3, positions=positions, bias=False)
    block, x, mask = TransformerBlock(config), torch.randn(2, 6, 12), causal_mask(6)
    with torch.no_grad():  # norms begin as 1 and 0, which would hide their absence
        for norm in (block.attention_norm, block.feed_forward_norm):
            norm.weight.uniform_(0.5, 2), norm.bias.uniform_(-1, 1)

    def normalised(x, norm):
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (x.var(dim=-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return scaled * norm.weight + norm.bias

    after = x + block.attention(normalised(x, block.attention_norm), mask=mask)
    after = after + block.feed_forward(normalised(after, block.feed_forward_norm))
    torch.testing.assert_close(block(x, mask=mask), after)
    assert (block.attention.rotate is not None) == (positions == "rotary")


@pytest.mark.parametrize("norm_place", ["pre", "post"])
def test_neighbouring_rows_share_a_context_as_if_each_had_its_own(norm_place):
    torch.manual_seed(0)
    block = TransformerBlock(TransformerConfig(n_vocab=5, d_model=12, n_heads=3, norm_place=norm_place), cross=True)
    x, context = torch.randn(6, 4, 12), torch.randn(2, 5, 12)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()[:, None, None]
    own, own_mask = (part.repeat_interleave(3, dim=0) for part in (context, mask))
    expected = block(x, mask=causal_mask(4), context=own, context_mask=own_mask)
    shared = block(x, mask=causal_mask(4), context=context, context_mask=mask)
    torch.testing.assert_close(shared, expected)
    with pytest.raises(ValueError, match="6 rows cannot share a context of 4 rows"):
        block(x, context=torch.randn(4, 5, 12))


def test_dropout_silences_its_share_of_a_sub_layers_results_in_training_only():
    torch.manual_seed(0)
    config = TransformerConfig(n_vocab=5, context=64, d_model=32, dropout=0.25)
    block, x = TransformerBlock(config), torch.randn(4, 64, 32)
    torch.nn.init.zeros_(block.feed_forward.contract.weight), torch.nn.init.zeros_(block.feed_forward.contract.bias)
    written = block.attention(block.attention_norm(x))
    passed = block.train()(x) - x
    silenced = passed == 0
    assert abs(silenced.float().mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / silenced.numel())
    # What is left is made larger, so that its mean stays.
    torch.testing.assert_close(passed[~silenced], (written / 0.75)[~silenced], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(block.eval()(x), x + written)


@pytest.mark.parametrize(("hidden", "expected"), [(None, 48), (7, 7)])
def test_the_hidden_width_is_four_times_the_models_unless_given(hidden, expected):
    config = TransformerConfig(n_vocab=5, d_model=12, n_heads=2, d_feed_forward=hidden)
    assert TransformerBlock(config).feed_forward.expand.out_features == expected


def test_an_odd_head_is_fine_where_nothing_is_turned():
    assert TransformerConfig(n_vocab=5, d_model=6, n_heads=2, positions="learned").d_model == 6


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"n_vocab": 0}, "n_vocab=0"),
        ({"context": 0}, "context=0"),
        ({"d_model": -4}, "d_model=-4"),
        ({"n_heads": 0}, "n_heads=0"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"d_feed_forward": -1}, "d_feed_forward=-1"),
        ({"d_model": 10, "n_heads": 4}, "d_model=10 .* n_heads=4"),
        ({"d_model": 12, "n_heads": 4}, "head of width 3"),
        ({"positions": "rotatory"}, "positions='rotatory'"),
        ({"activation": "tanh"}, "activation='tanh'"),
        ({"norm": "batch"}, "norm='batch'"),
        ({"norm_place": "middle"}, "norm_place='middle'"),
        ({"norm_eps": 0.0}, "norm_eps=0.0"),
        ({"n_kv_heads": 3}, "n_heads=4 .* n_kv_heads=3"),
        ({"n_source": 0}, "n_source=0"),
        ({"pad": 5}, "pad=5"),
        ({"pad": 3, "n_source": 3}, "pad=3"),
        ({"rotary_base": 0.0}, "rotary_base=0.0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"dropout": float("nan")}, "dropout=nan"),
    ],
)
def test_a_config_refuses_impossible_values(setting, words, without_shape_checks):
    with pytest.raises(ValueError, match=words):
        TransformerConfig(**{"n_vocab": 5} | setting)


def test_a_config_cannot_be_changed():
    config = TransformerConfig(n_vocab=5)
    with pytest.raises(AttributeError):
        config.d_model = 8


@pytest.mark.parametrize(
    ("settings", "of_embedding"),
    [({}, None), ({"tied": True}, 0.02), ({"tied": False}, 1.0), ({"tied": False, "scaled_embedding": True}, 1 / 8)],
)
def test_weights_begin_with_the_spread_that_keeps_the_stream_near_1(settings, of_embedding):
    torch.manual_seed(0)
    config = TransformerConfig(n_vocab=4000, context=8, d_model=64, n_heads=2, n_layers=9, **settings)
    of_embedding = (0.02 if config.tied else 1.0) if of_embedding is None else of_embedding
    embedding, block = TokenEmbedding(config), TransformerBlock(config)
    initialise(nn.ModuleList([embedding, block]), config)

    def spread(weight):
        return pytest.approx(weight.std().item(), rel=0.05)

    assert of_embedding == spread(embedding.tokens.weight)
    assert spread(block.attention.query.weight) == 1 / 8
    # Two sub-layers in each of nine blocks add to the stream.
    assert 1 / 8 / math.sqrt(18) == spread(block.attention.out.weight)
    contract = block.feed_forward.contract
    assert 1 / math.sqrt(contract.in_features * 18) == spread(contract.weight)
    assert not contract.bias.any()


def test_after_a_norm_no_sub_layer_begins_small():
    torch.manual_seed(0)
    config = TransformerConfig(n_vocab=9, context=8, d_model=64, n_heads=2, n_layers=9, norm_place="post")
    block = TransformerBlock(config)
    initialise(block, config)
    assert block.attention.out.weight.std().item() == pytest.approx(1 / 8, rel=0.05)


def test_tokens_that_the_model_does_not_know_are_refused_by_name():
    check_tokens(torch.tensor([[0, 8]]), 9), check_tokens(torch.zeros(1, 0, dtype=torch.long), 9)
    for tokens, words in (
        ([[0, 9]], "tokens run from 0 to 9, but this model knows 0 to 8"),
        ([[-1, 0]], "from -1 to 0"),
    ):
        with pytest.raises(ValueError, match=words):
            check_tokens(torch.tensor(tokens), 9)
