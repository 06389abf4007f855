"""The TensorFlow twins compute what the torch models compute, layer by layer."""

import random

import pytest
import torch

from llmcourse.attention import attention_weights, causal_mask, padding_mask
from llmcourse.bert import PreTrainingBert
from llmcourse.models import GPT
from llmcourse.recording import record_attention
from llmcourse.transformer import TransformerConfig

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
twins = pytest.importorskip("llmcourse.keras")
twins.seed_everything(0)  # one thread, which TensorFlow takes only before its first number

KINDS = {GPT: twins.GPT, PreTrainingBert: twins.PreTrainingBert}
SMALL = {"n_vocab": 23, "context": 12, "d_model": 16, "n_heads": 2, "n_layers": 2}
BERT = SMALL | {"positions": "learned", "norm_place": "post", "tied": True, "pad": 0, "norm_eps": 1e-12}


def perturbed(kind, seed=0, **choices):
    """A torch model whose biases and norms are not 0 and 1, which would hide their absence."""
    torch.manual_seed(seed)
    model = kind(TransformerConfig(**(SMALL | choices))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def twin_of(model):
    twin = KINDS[type(model)](model.config)
    twins.copy_weights(twin, model)
    return twin


def numbers(*tensors):
    return tuple(tf.constant(tensor.numpy()) for tensor in tensors)


def as_torch(tensor):
    return torch.from_numpy(tensor.numpy().copy())


def random_choices(seed):
    """Sizes of every parity, every position, norm and activation that a twin has."""
    draw = random.Random(seed)
    n_heads = draw.choice([1, 2, 3, 5])
    return {
        "n_heads": n_heads, "d_model": n_heads * draw.choice([2, 4, 6]), "n_layers": draw.choice([1, 2, 3]),
        "n_vocab": draw.choice([3, 31, 97]), "context": draw.choice([1, 7, 12, 33]), "tied": draw.random() < 0.5,
        "positions": draw.choice(["rotary", "learned", "sinusoidal", "none"]), "rotary_base": draw.choice([100.0, 1e4]),
        "d_feed_forward": draw.choice([None, 0, 1, 13]), "activation": draw.choice(["gelu", "gelu_tanh", "relu"]),
        "norm": draw.choice(["layer", "rms"]), "norm_place": draw.choice(["pre", "post"]), "bias": draw.random() < 0.7,
        "norm_eps": draw.choice([1e-5, 1e-12, 1e-3]), "scaled_embedding": draw.random() < 0.3, "dropout": 0.1,
    }  # fmt: skip


def padded_rows(config, n_rows=4, seed=0):
    """Rows of unequal length, filled up with 0 on the right."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, config.n_vocab, (n_rows, config.context), generator=generator)
    for row in range(1, n_rows):
        tokens[row, max(1, config.context * row // n_rows) :] = 0
    return tokens, torch.randint(2, tokens.shape, generator=generator)


@pytest.mark.parametrize("seed", range(12))
def test_the_gpt_twin_has_the_same_logits(seed):
    model = perturbed(GPT, seed, **random_choices(seed))
    tokens = torch.randint(model.config.n_vocab, (3, model.config.context))
    with torch.no_grad():
        ours, theirs = model(tokens), as_torch(twin_of(model)(*numbers(tokens)))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert ours.std() > 0.1  # a comparison of zeros would say nothing


@pytest.mark.parametrize("seed", range(12))
def test_the_bert_twin_has_the_same_logits_of_both_heads(seed):
    model = perturbed(PreTrainingBert, seed, **random_choices(seed + 100), pad=[0, None][seed % 2])
    tokens, segments = padded_rows(model.config, seed=seed)
    twin = twin_of(model)
    with torch.no_grad():
        named, judged = model(tokens, segments), model.follows(tokens, segments)
        without = model(tokens)
    torch.testing.assert_close(as_torch(twin(*numbers(tokens, segments))), named, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(as_torch(twin.follows(*numbers(tokens, segments))), judged, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(as_torch(twin(*numbers(tokens))), without, atol=1e-5, rtol=1e-5)
    assert named.std() > 0.1


@pytest.mark.parametrize("case", ["none", "causal", "padding", "nowhere"])
def test_attention_weights_are_those_of_torch(case):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 4)
    tokens = torch.tensor([[4, 5, 6, 0, 0], [7, 8, 0, 0, 0]])
    mask = {
        "none": None,
        "causal": causal_mask(5),
        "padding": padding_mask(tokens, 0),
        "nowhere": torch.eye(5).bool() & (torch.arange(5) != 2),
    }[case]
    theirs = twins.attention_weights(*numbers(query, key), None if mask is None else numbers(mask)[0])
    ours = attention_weights(query, key, mask)
    torch.testing.assert_close(as_torch(theirs), ours, atol=1e-6, rtol=0)
    if mask is not None:
        assert (as_torch(theirs)[~mask.broadcast_to(ours.shape)] == 0).all()
    blend = twins.scaled_dot_product_attention(*numbers(query, key, value), None if mask is None else numbers(mask)[0])
    torch.testing.assert_close(as_torch(blend), ours @ value, atol=1e-6, rtol=0)


def test_masks_are_those_of_torch():
    tokens, _ = padded_rows(TransformerConfig(**BERT))
    assert torch.equal(as_torch(twins.causal_mask(7)), causal_mask(7))
    assert torch.equal(as_torch(twins.padding_mask(*numbers(tokens), 0)), padding_mask(tokens, 0))


def test_no_position_of_the_gpt_twin_sees_what_comes_after_it():
    twin = twin_of(perturbed(GPT))
    tokens = torch.randint(23, (1, 12))
    changed = tokens.clone()
    changed[0, 7:] = (changed[0, 7:] + 1) % 23
    before, after = as_torch(twin(*numbers(tokens))), as_torch(twin(*numbers(changed)))
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=1e-6, rtol=0)
    assert (before[:, 7:] - after[:, 7:]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kind", "choices"),
    [(GPT, {}), (GPT, {"positions": "learned", "tied": True}), (PreTrainingBert, BERT), (PreTrainingBert, {"pad": 0})],
)
def test_every_layer_is_recorded_on_both_sides_under_one_name(kind, choices):
    model = perturbed(kind, **choices)
    twin, (tokens, _) = twin_of(model), padded_rows(model.config)
    with torch.no_grad(), twins.record(model) as ours:
        model(tokens)
    with twins.record(twin) as theirs:
        twin(*numbers(tokens))
    assert ours.keys() == theirs.keys()
    if model.config.positions == "learned":  # the twin turns queries and keys by their place one after the other
        assert list(ours) == list(theirs)
    assert not [name for name in ours if "dropout" in name]
    assert sum(name.endswith("attention.weights") for name in ours) == model.config.n_layers
    for name, tensor in ours.items():
        torch.testing.assert_close(torch.from_numpy(theirs[name]), torch.from_numpy(tensor), atol=1e-5, rtol=1e-5)


def test_recording_changes_nothing_and_ends():
    model = perturbed(PreTrainingBert, **BERT)
    twin, (tokens, segments) = twin_of(model), padded_rows(model.config)
    before = twin(*numbers(tokens, segments)).numpy()
    with twins.record(twin) as tensors:
        watched = twin(*numbers(tokens, segments)).numpy()
    seen = dict(tensors)
    after = twin(*numbers(tokens + 0, segments)).numpy()
    assert (before == watched).all()
    assert (before == after).all()
    assert all(tensors[name] is tensor for name, tensor in seen.items())


def test_recorded_weights_are_those_that_the_course_records():
    model = perturbed(GPT)
    tokens = torch.randint(23, (2, 9))
    with torch.no_grad(), record_attention(model) as maps, twins.record(model) as tensors:
        model(tokens)
    for name, weights in maps.items():
        assert torch.equal(weights, torch.from_numpy(tensors[f"{name}.weights"]))


@pytest.mark.parametrize("kind", [GPT, PreTrainingBert])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_come_back_equal_to_the_bit(kind, tied):
    model = perturbed(kind, tied=tied)
    back = twins.torch_weights(twin_of(model))
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.is_contiguous() for weight in back.values())


def test_a_twin_counts_a_shared_matrix_once():
    twin = twins.PreTrainingBert(TransformerConfig(**BERT))
    count = sum(parameter.numel() for parameter in PreTrainingBert(TransformerConfig(**BERT)).parameters())
    assert twin.count_params() == count
    assert sum(int(tf.size(variable)) for variable in twin.trainable_variables) == count


def test_weights_of_another_model_are_named_and_change_nothing():
    twin = twins.GPT(TransformerConfig(**SMALL))
    before = twins.torch_weights(twin)
    weights = dict(GPT(TransformerConfig(**SMALL)).state_dict())
    weights["extra"] = weights.pop("norm.weight")
    weights["blocks.0.feed_forward.expand.weight"] = weights["blocks.0.feed_forward.expand.weight"].T
    with pytest.raises(ValueError, match=r"expand.weight has shape \(16, 64\).*missing norm.weight; unexpected extra"):
        twins.copy_weights(twin, weights)
    assert all(torch.equal(before[name], weight) for name, weight in twins.torch_weights(twin).items())


def test_a_shared_matrix_with_two_values_is_refused():
    twin = twins.GPT(TransformerConfig(**SMALL, tied=True))
    weights = GPT(TransformerConfig(**SMALL)).state_dict()
    with pytest.raises(ValueError, match=r"embedding.tokens.weight and head.weight are one matrix here"):
        twins.copy_weights(twin, weights)


def test_weights_of_16_bits_are_widened():
    model = perturbed(GPT)
    twins.copy_weights(twin := twins.GPT(model.config), {k: v.bfloat16() for k, v in model.state_dict().items()})
    assert torch.equal(twins.torch_weights(twin)["head.weight"], model.state_dict()["head.weight"].bfloat16().float())


@pytest.mark.parametrize("kind", [GPT, PreTrainingBert])
@pytest.mark.parametrize("choices", [{}, {"tied": True, "norm_place": "post"}, {"scaled_embedding": True}])
def test_a_fresh_twin_starts_as_spread_out_as_a_torch_model(kind, choices):
    config = TransformerConfig(**(SMALL | {"n_vocab": 200, "d_model": 64, "positions": "learned"} | choices))
    keras.utils.set_random_seed(0), torch.manual_seed(0)
    started = twins.torch_weights(KINDS[kind](config))
    for name, weight in kind(config).state_dict().items():
        rel = 0.15 if weight.numel() > 1000 else 0.5
        assert started[name].std().item() == pytest.approx(weight.std().item(), rel=rel), name


def test_dropout_is_on_in_training_alone():
    twin = twins.GPT(TransformerConfig(**SMALL, dropout=0.5))
    tokens = tf.zeros((2, 5), dtype="int64")
    assert (twin(tokens).numpy() == twin(tokens).numpy()).all()
    assert (twin(tokens, training=True).numpy() != twin(tokens, training=True).numpy()).any()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"positions": "alibi"}, "no positions='alibi'"),
        ({"activation": "swiglu", "n_kv_heads": 1}, "no activation='swiglu', n_kv_heads=1"),
        ({"qk_norm": True}, "no qk_norm=True"),
    ],
)
def test_what_a_twin_does_not_have_is_said(choices, words):
    with pytest.raises(ValueError, match=words):
        twins.GPT(TransformerConfig(**(SMALL | choices)))


def test_inputs_that_cannot_be_looked_up_are_refused():
    twin = twins.GPT(TransformerConfig(**SMALL))
    with pytest.raises(ValueError, match="tokens run from 3 to 23, but this model knows 0 to 22"):
        twin(tf.constant([[3, 23]]))
    with pytest.raises(ValueError, match="13 tokens and this model's context holds 12"):
        twin(tf.zeros((1, 13), dtype="int32"))
    with pytest.raises(TypeError, match="float32"):
        twin(tf.zeros((1, 3)))


@pytest.mark.parametrize("masked", [False, True])
def test_keras_s_own_attention_layer_takes_our_weights_cut_into_heads(masked):
    model = perturbed(GPT, positions="none")
    attention, x = model.blocks[0].attention, torch.randn(2, 6, 16)
    layer = keras.layers.MultiHeadAttention(2, 8)
    layer(*numbers(x, x))  # builds its weights
    cut = {"query": (16, 2, 8), "key": (16, 2, 8), "value": (16, 2, 8), "out": (2, 8, 16)}
    weights = []
    for name, shape in cut.items():
        part = getattr(attention, name)
        weights += [part.weight.T.reshape(shape), part.bias if name == "out" else part.bias.reshape(2, 8)]
    layer.set_weights([weight.detach().numpy() for weight in weights])
    mask = causal_mask(6) if masked else None
    theirs = layer(*numbers(x, x), attention_mask=numbers(mask[None])[0] if masked else None)
    with torch.no_grad():
        torch.testing.assert_close(as_torch(theirs), attention(x, mask=mask), atol=1e-5, rtol=0)
