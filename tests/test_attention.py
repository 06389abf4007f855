"""Formula, fused kernel and torch's own layer agree; masks hide what they say; a cache changes nothing."""

import math
from itertools import pairwise

import pytest
import torch

from llmcourse import attention
from llmcourse.attention import (
    LEAST_ROOM,
    DotProductAttention,
    KVCache,
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    merge_heads,
    padding_mask,
    scaled_dot_product_attention,
    split_heads,
)
from llmcourse.transformer import RotaryPositions

B, H = 2, 3
SIZES = [(5, 5), (3, 7), (1, 6), (40, 70)]


def random_mask(T, S):
    """Each query sees a random half of the keys, and key 0 in any case."""
    mask = torch.rand(T, S, generator=torch.Generator().manual_seed(T * S)) < 0.5
    mask[:, 0] = True
    return mask


def mask_with_hidden_rows(T, S):
    mask = random_mask(T, S)
    mask[::2] = False
    return mask


def mask_per_head(T, S):
    return torch.rand(B, H, T, S, generator=torch.Generator().manual_seed(1)) < 0.7


def mask_per_sequence(T, S):
    """As padding: keys are hidden alike from all heads and queries."""
    return (torch.arange(S) < torch.tensor([[S], [max(1, S // 2)]])).view(B, 1, 1, S)


def mask_of_one_row(T, S):
    return random_mask(1, S)


def mask_of_nothing(T, S):
    return torch.zeros(T, S, dtype=torch.bool)


MASKS = {
    "no mask": lambda T, S: None,
    "causal": causal_mask,
    "random": random_mask,
    "hidden rows": mask_with_hidden_rows,
    "all hidden": mask_of_nothing,
    "per head": mask_per_head,
    "per sequence": mask_per_sequence,
    "one row": mask_of_one_row,
    "numbers": lambda T, S: torch.randn(H, T, S, generator=torch.Generator().manual_seed(3)),
    "numbers that hide": lambda T, S: torch.where(mask_with_hidden_rows(T, S), 0.7, -math.inf),
}
every_mask = pytest.mark.parametrize("mask_of", MASKS.values(), ids=MASKS)


def projections(T, S, dtype=torch.float32, seed=0):
    """Random query, key and value of shape (B, H, T or S, 8)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, H, length, 8, dtype=dtype, generator=generator, requires_grad=True) for length in (T, S, S)]


def weights_by_loops(query, key, mask):
    """The definition, one number at a time, for query (T, D) and key (S, D)."""
    rows = []
    for t, q in enumerate(query.tolist()):
        seen = [s for s in range(len(key)) if mask is None or mask[t, s]]
        exps = {
            s: math.exp(sum(map(math.prod, zip(q, key[s].tolist(), strict=True))) / math.sqrt(len(q))) for s in seen
        }
        rows.append([exps.get(s, 0.0) / sum(exps.values()) if seen else 0.0 for s in range(len(key))])
    return torch.tensor(rows, dtype=query.dtype)


def test_a_query_that_can_be_worked_out_by_hand():
    query = torch.tensor([[2 * math.log(3), 5.0, 0.0, 0.0]])  # D = 4, so scores are halved
    key = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    value = torch.tensor([[4.0, 0.0], [0.0, 8.0]])
    # scores ln 3 and 0, so weights in the ratio 3 : 1
    torch.testing.assert_close(attention_weights(query, key), torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value), torch.tensor([[3.0, 2.0]]))


@pytest.mark.parametrize("mask_of", [lambda T, S: None, causal_mask, random_mask, mask_with_hidden_rows])
def test_weights_are_the_definition(mask_of):
    query, key, _ = (x[0, 0].detach() for x in projections(4, 6, torch.float64))
    mask = mask_of(4, 6)
    torch.testing.assert_close(attention_weights(query, key, mask), weights_by_loops(query, key, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("T", "S"), SIZES)
@every_mask
def test_the_kernel_is_the_definition_in_value_and_gradient(mask_of, T, S, dtype):
    inputs, mask = projections(T, S, dtype), mask_of(T, S)
    mask = mask.to(dtype) if mask is not None and mask.is_floating_point() else mask
    query, key, value = inputs
    upstream = torch.randn(B, H, T, 8, dtype=dtype, generator=torch.Generator().manual_seed(2))
    results = []
    for output in (scaled_dot_product_attention(query, key, value, mask), attention_weights(query, key, mask) @ value):
        results.append([output, *torch.autograd.grad(output, inputs, upstream)])
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    for fused, defined in zip(*results, strict=True):
        assert fused.isfinite().all()
        torch.testing.assert_close(fused, defined, atol=tolerance, rtol=0)


def test_weights_have_the_gradient_of_finite_differences():
    query, key, _ = projections(3, 4, torch.float64)
    mask = mask_with_hidden_rows(3, 4)
    assert torch.autograd.gradcheck(lambda q, k: attention_weights(q, k, mask), (query, key))


@pytest.mark.parametrize(("T", "S"), SIZES)
@every_mask
def test_a_row_sums_to_1_and_hidden_keys_get_exactly_0(mask_of, T, S):
    query, key, _ = projections(T, S)
    mask = mask_of(T, S)
    weights = attention_weights(query, key, mask)
    seen = torch.ones(B, H, T, S, dtype=torch.bool) if mask is None else mask.expand(B, H, T, S)
    seen = seen > -math.inf if seen.is_floating_point() else seen
    torch.testing.assert_close(weights.sum(dim=-1), seen.any(dim=-1).float())
    assert ((weights > 0) == seen).all()


def test_a_query_that_sees_nothing_reads_nothing_and_learns_nothing():
    mask = torch.tensor([[False, False, False], [True, False, True]])
    for attend in (scaled_dot_product_attention, lambda q, k, v, m: attention_weights(q, k, m) @ v):
        query, key, value = projections(2, 3)
        output = attend(query, key, value, mask)
        output.sum().backward()
        assert (output[..., 0, :] == 0).all()
        assert (query.grad[..., 0, :] == 0).all()
        assert (query.grad[..., 1, :] != 0).all()
        for hidden in (key.grad, value.grad):
            assert (hidden[..., 1, :] == 0).all()


def test_huge_scores_stay_finite():
    query, key, value = projections(4, 4)
    assert attention_weights(1e4 * query, 1e4 * key, causal_mask(4)).isfinite().all()
    assert scaled_dot_product_attention(1e4 * query, 1e4 * key, value, causal_mask(4)).isfinite().all()


def test_the_causal_mask_lets_the_last_queries_see_all_before_them():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]
    assert causal_mask(1, 5).all()
    with pytest.raises(ValueError, match=r"4 queries .* only 3 keys"):
        causal_mask(4, 3)


def test_padding_is_hidden_from_every_head_and_query():
    tokens = torch.tensor([[5, 6, 0, 0], [0, 7, 8, 9]])
    mask = padding_mask(tokens, pad=0)
    assert mask.shape == (2, 1, 1, 4)
    assert mask[:, 0, 0].tolist() == [[True, True, False, False], [False, True, True, True]]


def test_what_stands_in_padding_changes_nothing():
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(8, 2), torch.randn(2, 4, 8)
    tokens = torch.tensor([[5, 6, 0, 0], [4, 7, 8, 9]])
    mask = padding_mask(tokens, pad=0) & causal_mask(4)
    other = torch.where(tokens[..., None] == 0, torch.randn(2, 4, 8), x)
    before, after = attention(x, mask=mask), attention(other, mask=mask)
    torch.testing.assert_close(before[tokens != 0], after[tokens != 0], atol=0, rtol=0)


def test_head_h_sees_the_columns_from_h_times_d():
    x = torch.arange(24.0).view(1, 2, 12)
    heads = split_heads(x, 3)
    assert heads.shape == (1, 3, 2, 4)
    assert heads[0, 1].tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert torch.equal(merge_heads(heads), x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask_of", [lambda T, S: None, causal_mask, random_mask])
def test_multi_head_attention_equals_torchs(mask_of, bias):
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(12, 3, bias=bias), torch.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
            theirs.out_proj.bias.copy_(ours.out.bias)
    x, context = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    for source, S in ((None, 5), (context, 7)):
        mask = mask_of(5, S)
        keys = x if source is None else source
        expected, _ = theirs(x, keys, keys, attn_mask=None if mask is None else ~mask)
        torch.testing.assert_close(ours(x, context=source, mask=mask), expected, atol=1e-5, rtol=0)


def test_bias_is_a_choice():
    assert sum(p.numel() for p in MultiHeadAttention(8, 2).parameters()) == 4 * (8 * 8 + 8)
    assert sum(p.numel() for p in MultiHeadAttention(8, 2, bias=False).parameters()) == 4 * 8 * 8


def test_heads_are_independent_of_their_order():
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(8, 2).eval(), torch.randn(1, 5, 8)
    before = attention(x)
    swap = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])  # second head first
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value):
            layer.weight.copy_(layer.weight[swap]), layer.bias.copy_(layer.bias[swap])
        attention.out.weight.copy_(attention.out.weight[:, swap])
    torch.testing.assert_close(attention(x), before)


def test_without_positions_attention_is_blind_to_order():
    torch.manual_seed(0)
    attention, x, order = MultiHeadAttention(8, 2), torch.randn(1, 6, 8), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])
    turned = MultiHeadAttention(8, 2, rotate=RotaryPositions(4, 10))
    assert not torch.allclose(turned(x[:, order]), turned(x)[:, order], atol=1e-3)


@pytest.mark.parametrize("rotate", [None, RotaryPositions(4, 7)], ids=["no positions", "rotary"])
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 1, 2, 1], [1, 6]])
def test_a_cache_gives_what_the_whole_sequence_gives(pieces, rotate):
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(8, 2, rotate=rotate), torch.randn(2, 7, 8)
    whole = attention(x, mask=causal_mask(7))
    cache, outputs = KVCache(), []
    for piece in x.split(pieces, dim=1):
        mask = causal_mask(piece.shape[1], len(cache) + piece.shape[1])
        outputs.append(attention(piece, mask=mask, cache=cache))
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-6, rtol=1e-5)
    assert len(cache) == 7


@pytest.mark.parametrize("grad", [True, False])
def test_a_cache_keeps_positions_in_their_order(grad):
    last = 2 * LEAST_ROOM + 3  # so that its store is made anew more than once
    cache, (_, key, value) = KVCache(), projections(1, last)
    assert len(cache) == 0
    with torch.set_grad_enabled(grad):
        for start, end in pairwise((0, 2, 3, 5, LEAST_ROOM, LEAST_ROOM + 1, LEAST_ROOM + 4, last)):
            keys, values = cache.append(key[..., start:end, :], value[..., start:end, :])
            assert torch.equal(keys, key[..., :end, :])
            assert torch.equal(values, value[..., :end, :])
            assert torch.equal(cache.key, keys) and torch.equal(cache.value, values)
            assert len(cache) == end


def test_gradients_flow_through_a_cache_to_every_step():
    cache, parts = KVCache(), [torch.randn(1, 1, 1, 2, requires_grad=True) for _ in range(4)]
    sum(read.square().sum() for part in parts for read in cache.append(part, 2 * part)).backward()
    for part, steps in zip(parts, (4, 3, 2, 1), strict=True):  # read in its own step and in each later one
        torch.testing.assert_close(part.grad, steps * (2 + 8) * part)


def test_rotation_turns_queries_and_keys_and_never_values():
    torch.manual_seed(0)
    rotary = RotaryPositions(4, 20)
    attention, x = MultiHeadAttention(8, 2, rotate=rotary), torch.randn(1, 5, 8)
    query, key, value = (split_heads(layer(x), 2) for layer in (attention.query, attention.key, attention.value))
    weights = attention_weights(rotary(query, 0), rotary(key, 0))
    torch.testing.assert_close(attention(x), attention.out(merge_heads(weights @ value)))


def test_cross_attention_reads_the_other_sequence_without_positions():
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, rotate=RotaryPositions(4, 20))
    x, context, order = torch.randn(1, 3, 8), torch.randn(1, 6, 8), torch.tensor([3, 0, 5, 1, 4, 2])
    read = attention(x, context=context)
    assert read.shape == (1, 3, 8)
    torch.testing.assert_close(attention(x, context=context[:, order]), read)
    assert not torch.allclose(attention(x, context=context + 1), read)


def test_a_context_is_read_once_and_then_remembered():
    torch.manual_seed(0)
    attention, cache = MultiHeadAttention(8, 2, rotate=RotaryPositions(4, 20)), KVCache()
    x, context = torch.randn(1, 3, 8), torch.randn(1, 6, 8)
    whole = attention(x, context=context)
    steps = [attention(x[:, t : t + 1], context=context if t == 0 else context * 0, cache=cache) for t in range(3)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)
    assert len(cache) == 6


def test_selected_rows_of_a_cache_are_those_rows_in_that_order():
    cache, (_, key, value) = KVCache(), projections(1, 5)
    cache.select(torch.tensor([0]))  # nothing is stored yet
    cache.append(key, value)
    cache.select(torch.tensor([1, 1, 0]))
    assert torch.equal(cache.key, key[[1, 1, 0]])
    assert torch.equal(cache.value, value[[1, 1, 0]])


@pytest.mark.parametrize("grad", [True, False])
def test_a_selected_cache_goes_on_growing(grad):
    cache, (_, key, value) = KVCache(), projections(1, 6)
    with torch.set_grad_enabled(grad):
        cache.append(key[..., :2, :], value[..., :2, :])
        cache.append(key[..., 2:3, :], value[..., 2:3, :])  # with room behind it
        cache.select(torch.tensor([1, 0]))
        cache.append(key[[1, 0]][..., 3:5, :], value[[1, 0]][..., 3:5, :])
        cache.crop(4)
        keys, values = cache.append(key[[1, 0]][..., 4:, :], value[[1, 0]][..., 4:, :])
    assert torch.equal(keys, key[[1, 0]]) and torch.equal(values, value[[1, 0]])


def test_a_cropped_cache_goes_on_as_if_the_rest_had_never_been_read():
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(8, 2, rotate=RotaryPositions(4, 20)), torch.randn(2, 7, 8)
    cropped, plain = KVCache(), KVCache()
    cropped.crop(3)  # nothing is stored yet
    attention(x[:, :5], mask=causal_mask(5), cache=cropped)
    cropped.crop(9)  # as long as it was
    assert len(cropped) == 5
    cropped.crop(2)
    attention(x[:, :2], mask=causal_mask(2), cache=plain)
    assert len(cropped) == 2
    torch.testing.assert_close(attention(x[:, 6:], cache=cropped), attention(x[:, 6:], cache=plain))


def test_a_cache_cannot_be_cropped_below_nothing():
    with pytest.raises(ValueError, match="length=-1"):
        KVCache().crop(-1)


@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_shared_heads_are_equal_heads(n_kv_heads):
    """Grouped queries compute what a full layer computes whose key and value heads are equal within each group."""
    torch.manual_seed(0)
    shared, full = MultiHeadAttention(16, 4, n_kv_heads=n_kv_heads), MultiHeadAttention(16, 4)
    state, group = shared.state_dict(), 4 // n_kv_heads
    for name in ("key.weight", "key.bias", "value.weight", "value.bias"):
        heads = state[name].unflatten(0, (n_kv_heads, 4))
        state[name] = torch.cat([heads[h // group] for h in range(4)])
    full.load_state_dict(state)
    x, cache = torch.randn(2, 5, 16), KVCache()
    torch.testing.assert_close(shared(x, mask=causal_mask(5)), full(x, mask=causal_mask(5)))
    shared(x, cache=cache)
    assert cache.key.shape == (2, n_kv_heads, 5, 4)


def test_normalised_queries_and_keys_have_size_root_d():
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(8, 2, qk_norm=True), 100 * torch.randn(1, 5, 8)
    query, key, value = (split_heads(layer(x), 2) for layer in (attention.query, attention.key, attention.value))
    query, key = (2 * part / part.norm(dim=-1, keepdim=True) for part in (query, key))  # √D = 2
    weights = attention_weights(query, key)
    torch.testing.assert_close(attention(x), attention.out(merge_heads(weights @ value)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n_kv_heads", [0, 3, 8])
def test_groups_of_heads_must_be_equal(n_kv_heads):
    with pytest.raises(ValueError, match=f"n_heads=4 .* n_kv_heads={n_kv_heads}"):
        MultiHeadAttention(8, 4, n_kv_heads=n_kv_heads)


def test_the_watchable_module_is_the_function():
    query, key, value = projections(3, 5)
    mask = causal_mask(3, 5)
    expected = attention_weights(query, key, mask) @ value
    torch.testing.assert_close(DotProductAttention()(query, key, value, mask), expected)


@pytest.mark.parametrize(("d_model", "n_heads"), [(10, 3), (8, 0), (8, 16)])
def test_heads_must_divide_the_width(d_model, n_heads):
    with pytest.raises(ValueError, match=f"d_model={d_model} .* n_heads={n_heads}"):
        MultiHeadAttention(d_model, n_heads)


@pytest.mark.parametrize(("T", "S"), SIZES)
@pytest.mark.parametrize("kind", ["none", "boolean", "hidden rows", "numbers"])
def test_attention_in_sixteen_bits_is_the_formula_up_to_its_rounding(T, S, kind):
    torch.manual_seed(0)
    query, key, value = torch.randn(B, H, T, 8), torch.randn(B, H, S, 8), torch.randn(B, H, S, 8)
    rows = mask_with_hidden_rows(T, S)
    numbers = torch.randn(T, S).masked_fill(~rows, -math.inf)
    mask = {"none": None, "boolean": random_mask(T, S), "hidden rows": rows, "numbers": numbers}[kind]
    small = (part.bfloat16() for part in (query, key, value))
    got = scaled_dot_product_attention(*small, mask)
    torch.testing.assert_close(got.float(), attention_weights(query, key, mask) @ value, atol=0.05, rtol=0.05)
    assert got.dtype == torch.bfloat16


def test_a_single_query_in_sixteen_bits_is_left_to_the_kernel(monkeypatch):
    monkeypatch.setattr(attention, "_written_out", lambda *parts: pytest.fail("written out"))
    query, key = torch.randn(1, 1, 1, 4).bfloat16(), torch.randn(1, 1, 6, 4).bfloat16()
    assert scaled_dot_product_attention(query, key, key).dtype == torch.bfloat16


def test_long_texts_give_the_formula_with_a_causal_mask_a_nearly_causal_one_and_none():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 520, 4) for _ in range(3))
    causal = causal_mask(520)
    nearly = causal.clone()
    nearly[0, 5] = True
    for mask in (None, causal, nearly, causal_mask(520).flip(0) | torch.eye(520, dtype=torch.bool)):
        expected = attention_weights(query, key, mask) @ value
        torch.testing.assert_close(scaled_dot_product_attention(query, key, value, mask), expected)


@pytest.mark.parametrize("S", [15, 16, 40])
def test_a_mask_of_32_bits_hides_beside_queries_of_64(S):
    g = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, S, 8, generator=g, dtype=torch.float64) for _ in range(3))
    mask = torch.where(torch.rand(S, S, generator=g) < 0.5, torch.randn(S, S, generator=g), -math.inf)
    found = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(found, attention_weights(query, key, mask) @ value, rtol=1e-6, atol=1e-6)


def test_a_mask_may_lie_anywhere_in_memory():
    query, store = torch.randn(1, 520, 8), torch.ones(520 * 520 + 1, dtype=torch.bool)
    mask = store[1:].view(520, 520).copy_(causal_mask(520))
    torch.testing.assert_close(
        scaled_dot_product_attention(query, query, query, mask), attention_weights(query, query, mask) @ query
    )


def test_a_cache_that_a_gradient_needs_is_not_written_over():
    cache, key = KVCache(), torch.randn(1, 2, 3, 4, requires_grad=True)
    filled, _ = cache.append(key, key)
    loss = filled.square().sum()
    cache.crop(2)
    with torch.no_grad():
        cache.append(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))
    loss.backward()
    torch.testing.assert_close(key.grad, 2 * key.detach())


def test_queries_alone_learn_through_a_cache():
    """The keys ask for no gradient then, and are needed for that of the queries all the same."""
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(8, 2), torch.randn(1, 2, 8)
    layer.requires_grad_(False).query.weight.requires_grad_(True)
    layer(x, mask=causal_mask(2)).sum().backward()
    expected, layer.query.weight.grad = layer.query.weight.grad, None
    cache = KVCache()
    torch.cat([layer(x[:, i : i + 1], cache=cache) for i in range(2)], dim=1).sum().backward()
    torch.testing.assert_close(layer.query.weight.grad, expected)


def test_in_inference_mode_a_cache_makes_room_as_elsewhere():
    cache, new = KVCache(), torch.ones(1, 2, 1, 4)
    with torch.inference_mode():
        cache.append(new, new)
        cache.append(new, new)
    assert cache.room == LEAST_ROOM - 2
