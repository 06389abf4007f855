"""A token sees only its past, a cache changes nothing, counts are counts, and a saved model comes back equal."""

import json
import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from llmcourse.adaptation import add_lora
from llmcourse.data import Batch
from llmcourse.models import GPT, NGram, count_parameters, load_model, save_model
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig
from llmcourse.weights import save_tensors

SMALL = TransformerConfig(n_vocab=11, context=12, d_model=16, n_heads=2, n_layers=2)
every_position = pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi", "none"])
MODERN = {"norm": "rms", "activation": "swiglu", "n_kv_heads": 1, "qk_norm": True, "bias": False}


def small_gpt(seed=0, **changes):
    torch.manual_seed(seed)
    return GPT(replace(SMALL, **changes)).eval()


def some_tokens(B=2, T=10):
    return torch.randint(SMALL.n_vocab, (B, T), generator=torch.Generator().manual_seed(5))


@every_position
def test_a_token_that_changes_leaves_all_earlier_logits_alone(positions):
    model, tokens = small_gpt(positions=positions), some_tokens()
    before = model(tokens)
    for t in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % SMALL.n_vocab
        after = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(dim=-1).all()


@every_position
def test_the_gradient_of_a_prediction_is_exactly_0_for_all_that_comes_later(positions):
    model, tokens, t = small_gpt(positions=positions), some_tokens(), 4
    seen = []
    model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(tokens)
    (gradient,) = torch.autograd.grad(logits[:, t].square().sum(), seen)
    assert (gradient[:, t + 1 :] == 0).all()
    assert (gradient[:, : t + 1] != 0).any(dim=-1).all()


@every_position
def test_a_cached_pass_equals_the_whole_pass_for_every_prefix(positions):
    model, tokens = small_gpt(positions=positions), some_tokens(T=12)
    whole = model(tokens)
    for n in range(1, 12):
        cache = model.new_cache()
        pieces = [model(tokens[:, :n], cache), model(tokens[:, n:], cache)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)
    cache = model.new_cache()
    one_by_one = torch.cat([model(token, cache) for token in tokens.split(1, dim=1)], dim=1)
    torch.testing.assert_close(one_by_one, whole, atol=1e-5, rtol=0)


def test_a_modern_model_keeps_the_same_contracts():
    model, tokens = small_gpt(**MODERN), some_tokens(T=12)
    whole, cache = model(tokens), model.new_cache()
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % SMALL.n_vocab
    assert torch.equal(model(changed)[:, :6], whole[:, :6])
    one_by_one = torch.cat([model(token, cache) for token in tokens.split(1, dim=1)], dim=1)
    torch.testing.assert_close(one_by_one, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi"])
def test_positions_make_order_matter(positions):
    # "a b a" and "b a a" end alike and hold the same tokens.
    swapped = torch.tensor([[1, 2, 1], [2, 1, 1]])
    one, other = small_gpt(positions=positions, n_layers=1)(swapped)[:, -1]
    assert (one - other).abs().max() > 1e-3
    one, other = small_gpt(positions="none", n_layers=1)(swapped)[:, -1]
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("tied", [False, True])
def test_a_small_model_learns_one_batch_by_heart(tied):
    model, tokens = small_gpt(tied=tied), some_tokens(T=11)
    tokens[:, 0] = torch.tensor([1, 2])  # rows that begin alike could not be told apart
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    steps = list(train(model, [batch] * 150, next_token_loss, TrainConfig(steps=150, rate=1e-2, warm_up=10)))
    assert steps[0].loss > 2
    assert steps[-1].loss < 0.02


@pytest.mark.parametrize(("tied", "surplus"), [(True, 0.0), (False, 0.5)])
def test_an_untrained_model_knows_nothing(tied, surplus):
    """Logits of variance v cost v/2 nats more than the ln V of a blind guess: v is 1 untied, about 0 tied."""
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=500, context=64, tied=tied))
    tokens, targets = torch.randint(500, (2, 16, 64))
    assert next_token_loss(model, Batch(tokens, targets)).item() == pytest.approx(math.log(500) + surplus, abs=0.1)


@pytest.mark.parametrize("n_layers", [1, 12])
def test_the_residual_stream_starts_near_size_1_at_any_depth(n_layers):
    model, sizes = small_gpt(n_layers=n_layers, d_model=64), []
    model.norm.register_forward_hook(lambda module, inputs, output: sizes.append(inputs[0].std().item()))
    model(some_tokens())
    assert 0.7 < sizes[0] < 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_the_number_of_parameters_is_its_formula(positions, tied, bias):
    V, T, C, L, W = 30, 12, 16, 3, 40
    config = TransformerConfig(
        n_vocab=V, context=T, d_model=C, n_layers=L, d_feed_forward=W, positions=positions, tied=tied, bias=bias
    )
    attention, feed_forward, norm = 4 * (C * C + C * bias), C * W + W + W * C + C, 2 * C
    expected = V * C + L * (attention + feed_forward + 2 * norm) + norm
    expected += (positions == "learned") * T * C + (not tied) * V * C
    assert count_parameters(GPT(config)) == expected


@pytest.mark.parametrize("changes", [{}, {"tied": True, "positions": "learned", "bias": False}, {"d_feed_forward": 9}])
def test_a_saved_model_comes_back_equal_to_the_bit(tmp_path, changes):
    model, tokens = small_gpt(**changes), some_tokens()
    save_model(model, tmp_path / "new" / "folder")
    loaded = load_model(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert not loaded.training
    assert torch.equal(loaded(tokens), model(tokens))
    assert count_parameters(loaded) == count_parameters(model)


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json.*llmcourse train"):
        load_model(tmp_path)
    save_model(small_gpt(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"n_vocab": 0}', '{"hidden_size": 768}', '{"n_vocab": "many"}'])
def test_a_config_that_is_none_says_so(tmp_path, content, without_shape_checks):
    save_model(small_gpt(), tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_model(tmp_path)


def test_weights_of_another_config_are_refused(tmp_path):
    save_model(small_gpt(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_vocab": 12, "n_layers": 1}))
    with pytest.raises(ValueError, match=r"embedding\.tokens\.weight has shape \(11, 16\) instead of \(12, 16\)"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=r"unexpected blocks\.1\.attention\.key\.bias"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_tensors(tmp_path / "model.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"missing head\.weight.*unexpected x"):
        load_model(tmp_path)


def test_a_sequence_that_outgrows_the_context_is_refused():
    model = small_gpt()
    with pytest.raises(ValueError, match=r"13 tokens .* context holds 12"):
        model(some_tokens(T=13))
    cache = model.new_cache()
    model(some_tokens(T=12), cache)
    with pytest.raises(ValueError, match=r"13 tokens .* context holds 12"):
        model(some_tokens(T=1), cache)


@pytest.mark.parametrize("foreign", [-1, 11, -100])
def test_a_foreign_token_is_refused(foreign):
    tokens = some_tokens()
    tokens[1, 3] = foreign
    for model in (small_gpt(), NGram(11), NGram(11, n=1)):
        with pytest.raises(ValueError, match=f"{foreign}.*0 to 10"):
            model(tokens)
        with pytest.raises(ValueError, match=f"{foreign}.*0 to 10"):
            NGram(11).fit(tokens, some_tokens())
    if foreign != -100:
        with pytest.raises(ValueError, match=f"{foreign}.*0 to 10"):
            NGram(11).fit(some_tokens(), tokens)


@pytest.mark.parametrize("tokens", [torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)])
def test_what_is_no_batch_of_tokens_is_refused(tokens, without_shape_checks):
    for model in (small_gpt(), NGram(11)):
        with pytest.raises(TypeError, match=r"shape \(batch, length\)"):
            model(tokens)


def test_bigrams_equal_a_count_by_hand():
    # 0 1 0 1 1: after 0 came 1 twice; after 1 came 0 once and 1 once. k = 1 is added to each of three.
    model = NGram(3, k=1.0).fit(torch.tensor([[0, 1, 0, 1]]), torch.tensor([[1, 0, 1, 1]]))
    expected = torch.tensor([[1 / 5, 3 / 5, 1 / 5], [2 / 5, 2 / 5, 1 / 5], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(model(torch.tensor([[0, 1, 2]])).exp(), expected[None])


def test_unigrams_equal_a_count_by_hand():
    model = NGram(3, n=1, k=0.5).fit(torch.tensor([[0, 1, 0, 1]]), torch.tensor([[1, 0, 1, -100]]))
    expected = torch.tensor([1.5, 2.5, 0.5]) / 4.5  # the last target does not count
    torch.testing.assert_close(model(torch.tensor([[2, 0]])).exp(), expected.expand(1, 2, 3))


def test_counting_more_text_adds_to_the_table():
    tokens = some_tokens(B=4)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    at_once, in_parts = NGram(11, k=0.1).fit(inputs, targets), NGram(11, k=0.1)
    for row in range(4):
        in_parts.fit(inputs[row : row + 1], targets[row : row + 1])
    assert torch.equal(at_once.counts, in_parts.counts)
    assert at_once.counts.sum() == targets.numel()
    torch.testing.assert_close(at_once(inputs).exp().sum(dim=-1), torch.ones(inputs.shape))


def test_counts_are_the_best_table_for_the_text_they_counted():
    """The limit k -> 0 is the maximum likelihood estimate: any other table loses on the same text."""
    tokens = some_tokens(B=8)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    best = NGram(11, k=1e-6).fit(inputs, targets)
    loss = next_token_loss(best, Batch(inputs, targets))
    for seed in range(5):
        torch.manual_seed(seed)
        other = best(inputs) + 0.1 * torch.randn(11, 11)[inputs]
        assert F.cross_entropy(other.flatten(0, 1), targets.flatten()) > loss


@pytest.mark.parametrize(
    ("setting", "words"), [({"n": 3}, "n=3"), ({"k": 0.0}, r"k=0\.0"), ({"n_vocab": 0}, "n_vocab=0")]
)
def test_an_impossible_table_is_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        NGram(**{"n_vocab": 5} | setting)


def test_a_model_stored_in_half_the_bits_comes_back_rounded_and_one_too_large_for_them_is_refused(tmp_path):
    model = small_gpt()
    save_model(model, tmp_path, torch.float16)
    for name, weight in load_model(tmp_path).state_dict().items():
        assert torch.equal(weight, model.state_dict()[name].half().float())
    with torch.no_grad():
        model.head.weight[0, 0] = 70_000  # float16 ends at 65,504
    with pytest.raises(ValueError, match=r"head\.weight holds numbers that torch\.float16 cannot"):
        save_model(model, tmp_path, torch.float16)
    save_model(model, tmp_path)
    assert load_model(tmp_path).head.weight[0, 0] == 70_000


def test_a_model_that_could_not_be_loaded_again_is_not_saved(tmp_path):
    changed = small_gpt()
    add_lora(changed, ["query"], 2, 4)
    for model, words in ((NGram(5), "NGram is none of the kinds"), (changed, "no part that this model's config makes")):
        with pytest.raises(ValueError, match=words):
            save_model(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    model = small_gpt()
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"head\.weight holds numbers that are not finite"):
        save_model(model, tmp_path)
    with pytest.raises(ValueError, match=r"dtype=torch\.int8 has no fractions"):
        save_model(small_gpt(), tmp_path, torch.int8)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "relu2", "swiglu"])
def test_a_model_can_be_pickled_whatever_its_activation(activation):
    model = small_gpt(activation=activation)
    tokens = torch.zeros(1, 3).long()
    assert torch.equal(pickle.loads(pickle.dumps(model))(tokens), model(tokens))
