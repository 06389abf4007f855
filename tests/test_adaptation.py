"""Adaptation changes what it says it changes, starts from what was there, and nothing else moves."""

import copy
import math
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from llmcourse.adaptation import (
    Adapter,
    LoRALinear,
    add_adapters,
    add_lora,
    count_trainable,
    find_modules,
    freeze,
    layer_rates,
    merge_lora,
    unfreeze,
    unmerge_lora,
)
from llmcourse.data import Batch
from llmcourse.models import GPT, count_parameters
from llmcourse.quantisation import quantise
from llmcourse.recording import record_attention
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig

TOKENS = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))
BATCH = Batch(TOKENS[:, :-1], TOKENS[:, 1:])


def small_gpt(**changes):
    torch.manual_seed(0)
    return GPT(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, **changes))


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def moved(model, before):
    """The parameters that are no longer what they were."""
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def train_steps(model, n=3, **settings):
    config = TrainConfig(steps=n, warm_up=0, rate=1e-2, **settings)
    for _ in train(model, iter([BATCH] * n), next_token_loss, config):
        pass


def test_a_name_stands_for_every_part_that_ends_with_it_and_for_nothing_else():
    model = small_gpt()
    assert list(find_modules(model, ["query"])) == ["blocks.0.attention.query", "blocks.1.attention.query"]
    assert list(find_modules(model, ["blocks.1.attention"])) == ["blocks.1.attention"]
    assert list(find_modules(model, ["norm"])) == ["norm"]  # not attention_norm
    with pytest.raises(ValueError, match="GPT has no part 'queries'; its own parts are embedding, blocks, norm, head"):
        find_modules(model, ["head", "queries"])


def test_training_moves_all_that_is_not_frozen_and_nothing_that_is():
    model = small_gpt(dropout=0.1)
    freeze(model, "embedding", "blocks.0")
    before = weights(model)
    train_steps(model, weight_decay=0.5)
    frozen = {name for name in before if name.startswith(("embedding.", "blocks.0."))}
    silent = {"blocks.1.attention.key.bias"}  # softmax does not see a constant: no gradient but rounding
    assert moved(model, before) | silent == before.keys() - frozen | silent


def test_unfreezing_lets_everything_move_again():
    model = small_gpt(dropout=0.1)
    freeze(model)
    assert count_trainable(model) == 0
    unfreeze(model, "head")
    assert count_trainable(model) == 11 * 16
    unfreeze(model)
    assert count_trainable(model) == count_parameters(model)
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_a_frozen_part_computes_the_same_while_the_rest_trains():
    model = small_gpt(dropout=0.5)
    still = model.eval()(TOKENS)
    freeze(model)
    torch.testing.assert_close(model.train()(TOKENS), still, rtol=0, atol=0)
    unfreeze(model)
    assert not torch.allclose(model.train()(TOKENS), still)
    freeze(model, "embedding", "blocks.0")
    assert not torch.allclose(model.train()(TOKENS), still), "the second block is not frozen: its dropout works"


def test_a_copy_of_a_frozen_model_is_as_frozen_and_can_be_unfrozen_alone():
    model = small_gpt(dropout=0.5)
    freeze(model)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin.train()(TOKENS), model.train()(TOKENS), rtol=0, atol=0)
    unfreeze(twin)
    assert not torch.allclose(twin.train()(TOKENS), twin(TOKENS))
    torch.testing.assert_close(model.train()(TOKENS), model(TOKENS), rtol=0, atol=0)


def test_freezing_twice_is_freezing_once():
    model = small_gpt(dropout=0.5)
    freeze(model), freeze(model, "blocks")
    unfreeze(model)
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_a_first_step_of_adam_is_as_long_as_the_layer_s_share_of_the_rate_says():
    """Adam's first step is the rate times the gradient's sign, whatever the gradient's size."""
    model = small_gpt()
    shares = layer_rates(["embedding", "blocks.0", "blocks.1"], decay=0.5)
    assert shares == {"embedding": 0.125, "blocks.0": 0.25, "blocks.1": 0.5}
    before = weights(model)
    train_steps(model, 1, rate_shares=shares | {"blocks.1.attention.out": 0.01}, weight_decay=0.0)
    expected = {"embedding.tokens.weight": 0.125, "blocks.0.feed_forward.expand.weight": 0.25}
    expected |= {"blocks.1.feed_forward.expand.weight": 0.5, "blocks.1.attention.out.weight": 0.01, "head.weight": 1.0}
    for name, share in expected.items():
        step = (model.get_parameter(name) - before[name]).abs().max().item()
        assert step == pytest.approx(share * 1e-2, rel=1e-3), name


def test_shares_for_parts_that_are_not_there_or_that_climb_are_refused():
    with pytest.raises(
        ValueError, match=r"rate_shares names 'blocks\.7', and GPT has no such part; it has embedding, blocks"
    ):
        train_steps(small_gpt(), rate_shares={"blocks.7": 0.5})
    with pytest.raises(ValueError, match="climb instead of descending"):
        TrainConfig(steps=1, rate_shares={"head": -1.0})
    for decay in (0.0, 1.5):
        with pytest.raises(ValueError, match="must lie above 0 and at most at 1"):
            layer_rates(["embedding"], decay)


def test_a_training_with_shares_resumes_to_the_same_bits(tmp_path):
    config = TrainConfig(
        steps=6, warm_up=2, checkpoint=tmp_path / "c.safetensors", checkpoint_every=3, rate_shares={"embedding": 0.1}
    )
    whole, resumed = small_gpt(), small_gpt()
    stream = [Batch(TOKENS[:, :-1].roll(i, 0), TOKENS[:, 1:].roll(i, 0)) for i in range(6)]
    losses = [step.loss for step in train(whole, iter(stream), next_token_loss, config)]
    config.checkpoint.unlink()
    for step in train(resumed, iter(stream), next_token_loss, config):
        if step.number == 4:
            break
    assert [step.loss for step in train(small_gpt(), iter(stream), next_token_loss, config)] == losses[3:]


@pytest.mark.parametrize(("rank", "alpha"), [(1, 1.0), (3, 16.0), (16, 2.0)])
def test_lora_is_the_base_plus_alpha_over_rank_times_b_a_x(rank, alpha):
    torch.manual_seed(1)
    base, x = nn.Linear(20, 16), torch.randn(2, 5, 20)
    layer = LoRALinear(base, rank, alpha)
    nn.init.normal_(layer.up)
    change = (alpha / rank) * torch.einsum("or,ri->oi", layer.up, layer.down)
    torch.testing.assert_close(layer.change(), change)
    torch.testing.assert_close(layer(x), F.linear(x, base.weight + change, base.bias), rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(layer.change()) == rank


def test_a_model_with_new_lora_layers_computes_the_same_logits():
    model = small_gpt().eval()
    before = model(TOKENS)
    add_lora(model, ["query", "value", "expand"], rank=2, alpha=8)
    torch.testing.assert_close(model(TOKENS), before, rtol=0, atol=0)


def test_lora_trains_its_own_numbers_only_and_as_many_as_the_formula_says():
    model = small_gpt()
    add_lora(model, ["query", "value"], rank=3, alpha=6)
    assert count_trainable(model) == 2 * 2 * 3 * (16 + 16)  # layers, matrices a layer, rank, (in + out)
    before = weights(model)
    train_steps(model, 3, weight_decay=0.5)
    assert moved(model, before) == {name for name in before if name.endswith((".down", ".up"))}


def test_merged_equals_unmerged_and_unmerging_gives_the_base_back():
    model = small_gpt()
    base = {name: weight.double() for name, weight in weights(model).items()}
    add_lora(model, ["query", "value", "contract"], rank=2, alpha=4)
    train_steps(model, 20)
    model.double()  # so that the bound is one on the merge, not on float32's last digit
    apart = model(TOKENS)
    assert not torch.allclose(apart, small_gpt().double()(TOKENS), atol=1e-2), "training must have changed something"
    merge_lora(model), merge_lora(model)
    torch.testing.assert_close(model(TOKENS), apart, rtol=0, atol=1e-12)
    query = model.blocks[0].attention.query
    expected = base["blocks.0.attention.query.weight"] + 2 * query.up @ query.down
    torch.testing.assert_close(query.base.weight, expected)
    with pytest.raises(ValueError, match="call unmerge_lora"):
        train_steps(model)
    unmerge_lora(model), unmerge_lora(model)
    torch.testing.assert_close(model(TOKENS), apart, rtol=0, atol=1e-12)
    torch.testing.assert_close(query.base.weight, base["blocks.0.attention.query.weight"], rtol=0, atol=1e-12)


def test_in_double_precision_merged_and_unmerged_agree_to_the_last_digits():
    model = small_gpt().double().eval()
    add_lora(model, ["query", "value"], rank=2, alpha=4)
    for layer in find_modules(model, ["query", "value"]).values():
        nn.init.normal_(layer.up)
    apart = model(TOKENS)
    merge_lora(model)
    torch.testing.assert_close(model(TOKENS), apart, rtol=0, atol=1e-12)


def test_what_lora_cannot_change_is_refused_and_the_model_left_alone():
    model = small_gpt()
    with pytest.raises(ValueError, match=r"embedding\.tokens is a Embedding; LoRA changes linear layers"):
        add_lora(model, ["query", "embedding.tokens"], 2, 4)
    with pytest.raises(ValueError, match="rank=17: a matrix of 16 by 16 has a rank from 1 to 16"):
        add_lora(model, ["query"], 17, 4)
    with pytest.raises(ValueError, match="GPT has no LoRA layer; call add_lora first"):
        merge_lora(model)
    tied = small_gpt(tied=True)
    add_lora(tied, ["head"], 2, 4)
    with pytest.raises(ValueError, match="is also the embedding, which merging would change"):
        merge_lora(tied)
    assert count_trainable(model) == count_parameters(model)


def test_an_adapter_is_the_formula_and_starts_by_changing_nothing():
    torch.manual_seed(1)
    adapter, x = Adapter(16, 3), torch.randn(2, 5, 16)
    torch.testing.assert_close(adapter(x), x, rtol=0, atol=0)
    nn.init.normal_(adapter.up.weight), nn.init.normal_(adapter.up.bias)
    hidden = x @ adapter.down.weight.T + adapter.down.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    torch.testing.assert_close(adapter(x), x + hidden @ adapter.up.weight.T + adapter.up.bias)


def test_adapters_start_as_the_model_they_are_put_into_and_train_only_themselves_and_the_norms():
    model = small_gpt().eval()
    before = model(TOKENS)
    add_adapters(model, width=2)
    torch.testing.assert_close(model(TOKENS), before, rtol=0, atol=0)
    in_adapters = 2 * 2 * (16 * 2 + 2 + 2 * 16 + 16)  # layers, two a layer, down with bias, up with bias
    assert count_trainable(model) == in_adapters + 5 * 2 * 16  # and five norms
    start = weights(model)
    train_steps(model, 3)
    assert moved(model, start) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".1." in name or "norm" in name for name in moved(model, start))


def test_a_name_that_is_no_linear_layer_gets_no_adapter():
    with pytest.raises(ValueError, match=r"blocks\.0\.attention is a MultiHeadAttention; an adapter stands behind"):
        add_adapters(small_gpt(), 2, ["attention"])
    with pytest.raises(ValueError, match="width=0"):
        Adapter(16, 0)


def test_attention_of_an_adapted_model_is_recorded_under_the_same_names():
    model = small_gpt()
    with record_attention(model) as before:
        model(TOKENS)
    add_lora(model, ["query", "out"], 1, 1)
    add_adapters(model.blocks, 2, ["contract"])
    with record_attention(model) as after:
        model(TOKENS)
    assert list(after) == list(before)
    torch.testing.assert_close(after["blocks.1.attention"], before["blocks.1.attention"])


def test_weights_are_not_loaded_into_a_merged_change():
    model = small_gpt()
    add_lora(model, ["query"], 2, 4)
    saved = copy.deepcopy(model.state_dict())
    merge_lora(model)
    with pytest.raises(ValueError, match="call unmerge_lora"):
        model.load_state_dict(saved)
    unmerge_lora(model)
    model.load_state_dict(saved)


def test_a_training_of_a_merged_change_goes_on_once_it_is_unmerged(tmp_path):
    model = small_gpt()
    add_lora(model, ["query"], 2, 4)
    config = {"checkpoint": tmp_path / "lora.pt"}
    list(train(model, repeat(BATCH), next_token_loss, TrainConfig(steps=2, **config)))
    merge_lora(model)
    with pytest.raises(ValueError, match="call unmerge_lora"):
        list(train(model, repeat(BATCH), next_token_loss, TrainConfig(steps=2, **config)))
    unmerge_lora(model)
    assert list(train(model, repeat(BATCH), next_token_loss, TrainConfig(steps=2, **config))) == []  # it was over


def test_a_rounded_layer_takes_no_change():
    model = small_gpt()
    add_lora(model, ["query"], 2, 4)
    with pytest.raises(ValueError, match="QuantisedLinear; merge it before you round"):
        merge_lora(quantise(model))
