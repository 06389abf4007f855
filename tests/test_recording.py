"""What is shown is what was computed, watching changes nothing, and silencing a head changes that head alone."""

import pytest
import torch
from torch import nn

from llmcourse.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    merge_heads,
    padding_mask,
    split_heads,
)
from llmcourse.models import GPT
from llmcourse.recording import ablate_heads, record_attention, record_heads
from llmcourse.transformer import TransformerConfig

LAYERS = ("blocks.0.attention", "blocks.1.attention")


def small_gpt(positions="rotary"):
    torch.manual_seed(0)
    return GPT(TransformerConfig(n_vocab=11, context=12, d_model=12, n_heads=3, positions=positions)).eval()


def some_tokens(T=9):
    return torch.randint(11, (2, T), generator=torch.Generator().manual_seed(4))


def hooks_of(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def heads_of(layer, x):
    """Query, key and value of each head, from what the layer was given."""
    query, key, value = (split_heads(project(x), layer.n_heads) for project in (layer.query, layer.key, layer.value))
    if layer.rotate is not None:
        query, key = layer.rotate(query, 0), layer.rotate(key, 0)
    return query, key, value


@pytest.mark.parametrize("positions", ["rotary", "learned", "none"])
def test_maps_are_the_weights_of_what_each_layer_was_given(positions):
    model, tokens, given = small_gpt(positions), some_tokens(), {}
    for name in LAYERS:
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: given.update({name: inputs[0]})
        )
    with record_attention(model) as maps:
        model(tokens)
    assert tuple(maps) == LAYERS
    for name, weights in maps.items():
        query, key, _ = heads_of(model.get_submodule(name), given[name])
        torch.testing.assert_close(weights, attention_weights(query, key, causal_mask(9)))
        assert weights.shape == (2, 3, 9, 9)
        assert not weights.requires_grad


def test_maps_equal_torchs_own_weights():
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    x, mask = torch.randn(2, 5, 12), padding_mask(torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]), 0)
    with record_attention(ours) as maps:
        ours(x, mask=mask)
    _, expected = theirs(x, x, x, key_padding_mask=~mask[:, 0, 0], average_attn_weights=False)
    torch.testing.assert_close(maps[""], expected)


@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi"])
def test_recorded_queries_keys_and_values_are_those_of_each_layer(positions):
    model, tokens, given = small_gpt(positions), some_tokens(), {}
    for name in LAYERS:
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: given.update({name: inputs[0]})
        )
    with record_heads(model) as heads, record_attention(model) as maps:
        model(tokens)
    assert tuple(heads) == LAYERS
    for name, recorded in heads.items():
        for shown, expected in zip(recorded[:3], heads_of(model.get_submodule(name), given[name]), strict=True):
            torch.testing.assert_close(shown, expected)
            assert not shown.requires_grad
        torch.testing.assert_close(attention_weights(recorded.query, recorded.key, recorded.mask), maps[name])


def test_one_recorded_head_computes_the_map_of_that_head():
    model, tokens = small_gpt(), some_tokens()
    with record_heads(model) as heads, record_attention(model) as maps:
        model(tokens)
    for row, number in ((0, 0), (1, 2)):
        query, key, value, mask = heads[LAYERS[1]].head(number, row)
        assert query.shape == key.shape == value.shape == (9, 4)
        torch.testing.assert_close(attention_weights(query, key, mask), maps[LAYERS[1]][row, number])
    for wrong in ((3, 0), (-1, 0), (0, 2)):
        with pytest.raises(ValueError, match="there are 3 heads and 2 rows"):
            heads[LAYERS[1]].head(*wrong)


def test_a_layer_without_a_mask_is_recorded_with_none_and_padding_hides_per_sentence():
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(12, 3), torch.randn(2, 5, 12)
    mask = padding_mask(torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]), 0)
    with record_heads(layer) as heads:
        layer(x)
        assert heads[""].head(0).mask is None
        layer(x, mask=mask)
    assert heads[""].head(1, 0).mask.tolist() == [[True, True, True, False, False]] * 5
    assert heads[""].head(1, 1).mask.all()


def test_the_output_is_the_same_to_the_bit_watched_or_not():
    model, tokens = small_gpt(), some_tokens()
    before = model(tokens)
    with record_attention(model), record_heads(model):
        watched = model(tokens)
    assert torch.equal(watched, before)
    assert torch.equal(model(tokens), before)


def test_a_model_may_be_watched_by_two_at_once_and_the_last_pass_counts():
    model, tokens = small_gpt(), some_tokens()
    with record_attention(model) as outer, record_attention(model) as inner:
        model(tokens)
        model(tokens[:1, :4])
    assert outer[LAYERS[0]].shape == inner[LAYERS[0]].shape == (1, 3, 4, 4)


def test_a_map_of_a_cached_pass_reaches_back_to_the_first_token():
    model, tokens = small_gpt(), some_tokens()
    with record_attention(model) as whole:
        model(tokens)
    cache = model.new_cache()
    model(tokens[:, :7], cache)
    with record_attention(model) as maps:
        model(tokens[:, 7:], cache)
    assert maps[LAYERS[1]].shape == (2, 3, 2, 9)
    torch.testing.assert_close(maps[LAYERS[1]], whole[LAYERS[1]][:, :, 7:])


def test_hooks_are_gone_afterwards_also_after_an_error():
    model, tokens = small_gpt(), some_tokens()
    for context in (record_attention(model), record_heads(model), ablate_heads(model, {LAYERS[0]: [1]})):
        with pytest.raises(ValueError, match="context holds 12"), context:
            assert hooks_of(model) > 0
            model(some_tokens(T=13))
        assert hooks_of(model) == 0
    with ablate_heads(model, {LAYERS[0]: [1]}):
        silenced = model(tokens)
    assert not torch.allclose(silenced, model(tokens))


def test_a_silenced_head_says_its_mean_and_the_others_say_what_they_said():
    torch.manual_seed(0)
    layer, x, mask = MultiHeadAttention(12, 3), torch.randn(2, 5, 12), causal_mask(5)
    query, key, value = heads_of(layer, x)
    said = attention_weights(query, key, mask) @ value
    expected = said.clone()
    for head in (0, 2):
        for d in range(4):
            expected[:, head, :, d] = sum(said[b, head, t, d] for b in range(2) for t in range(5)) / 10
    with ablate_heads(layer, {"": [0, 2]}):
        torch.testing.assert_close(layer(x, mask=mask), layer.out(merge_heads(expected)))
    torch.testing.assert_close(layer(x, mask=mask), layer.out(merge_heads(said)))


def test_silencing_no_head_changes_nothing_and_the_maps_stay_those_of_the_layer():
    model, tokens = small_gpt(), some_tokens()
    with record_attention(model) as before:
        expected = model(tokens)
    with ablate_heads(model, {LAYERS[0]: []}):
        assert torch.equal(model(tokens), expected)
    with ablate_heads(model, {LAYERS[1]: [0, 1, 2]}), record_attention(model) as after:
        model(tokens)
    for name in LAYERS:  # the last layer is silenced: nothing before its own output changes
        assert torch.equal(after[name], before[name])


def test_what_cannot_be_watched_or_silenced_says_so():
    with (
        pytest.raises(ValueError, match="Linear has no attention layer"),
        record_attention(nn.Linear(2, 2)),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"no attention layer 'blocks\.7'; this model has blocks\.0\.attention"),
        ablate_heads(small_gpt(), {"blocks.7": [0]}),
    ):
        pass
    model = small_gpt()
    for head in (3, -1):
        with (
            pytest.raises(ValueError, match=rf"heads \[{head}\] .* heads 0 to 2"),
            ablate_heads(model, {LAYERS[0]: [head]}),
        ):
            model(some_tokens())
