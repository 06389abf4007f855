"""The twins learn as the torch models do: the same losses, gradients and steps."""

from itertools import islice, repeat

import pytest
import torch

from llmcourse import pretraining, training
from llmcourse.bert import PreTrainingBert
from llmcourse.data import Batch
from llmcourse.masking import MaskingConfig, SentencePair, pretraining_batch
from llmcourse.models import GPT
from llmcourse.optimisers import build_optimisers
from llmcourse.training import TrainConfig, TrainingDiverged
from llmcourse.transformer import TransformerConfig

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
twins = pytest.importorskip("llmcourse.keras")
twins.seed_everything(0)  # one thread, which TensorFlow takes only before its first number

CONFIG = TransformerConfig(n_vocab=20, context=12, d_model=16, n_heads=2, positions="learned", tied=True, pad=0)
MASKING = MaskingConfig(n_vocab=20, mask=3, special=(0, 1, 2, 3), share=0.4)
LOSSES = ["masked_loss", "next_sentence_loss", "pretraining_loss"]
KEY_BIAS = "attention.key.bias"  # moves all scores of a query alike, which no softmax sees: its gradient is 0


def batch(seed=0, size=8):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda low, high, n: torch.randint(low, high, (n,), generator=generator).tolist()  # noqa: E731
    pairs = [SentencePair(draw(4, 20, 3), draw(4, 20, 2 + i % 3), i % 2) for i in range(size)]
    return pretraining_batch(pairs, MASKING, generator, begin=1, separator=2, pad=0)


def pair(kind=PreTrainingBert, config=CONFIG, seed=0):
    torch.manual_seed(seed)
    model = kind(config)
    twin = getattr(twins, kind.__name__)(config)
    twins.copy_weights(twin, model)
    return model, twin


def numbers(tensors):
    return tuple(tf.constant(tensor.numpy()) for tensor in tensors)


def differences(model, twin):
    """The largest difference of every weight, by its name."""
    theirs = twins.torch_weights(twin)
    return {name: (theirs[name] - weight).abs().max().item() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(3))
def test_losses_and_their_gradients_are_those_of_torch(name, seed):
    model, twin = pair(seed=seed)
    loss = getattr(pretraining, name)(model, batch(seed))
    loss.backward()
    with tf.GradientTape() as tape:
        value = getattr(twins, name)(twin, numbers(batch(seed)))
    assert value.numpy() == pytest.approx(loss.item(), abs=1e-5)
    gradients = [gradient for gradient in tape.gradient(value, twin.trainable_variables) if gradient is not None]
    lengths = [tf.norm(tf.convert_to_tensor(gradient)).numpy().item() ** 2 for gradient in gradients]
    assert len(lengths) == sum(parameter.grad is not None for parameter in model.parameters())
    ours = [parameter.grad.norm().item() ** 2 for parameter in model.parameters() if parameter.grad is not None]
    assert sum(lengths) == pytest.approx(sum(ours), rel=1e-4)


def test_next_token_loss_is_that_of_torch_and_leaves_out_padding():
    model, twin = pair(GPT)
    tokens = torch.randint(20, (4, 7))
    targets = torch.where(torch.arange(7) < 5, tokens.roll(-1), -100)
    theirs = twins.next_token_loss(twin, numbers((tokens, targets))).numpy()
    assert theirs == pytest.approx(training.next_token_loss(model, Batch(tokens, targets)).item(), abs=1e-5)


def test_a_batch_without_a_hidden_word_costs_nothing():
    model, twin = pair()
    nothing = batch()._replace(targets=torch.full_like(batch().targets, -100))
    assert pretraining.masked_loss(model, nothing).item() == 0
    assert twins.masked_loss(twin, numbers(nothing)).numpy() == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PreTrainingBert, GPT])
def test_one_step_of_plain_sgd_moves_every_weight_alike(kind):
    model, twin = pair(kind)
    data = batch() if kind is PreTrainingBert else Batch(torch.randint(20, (4, 7)), torch.randint(20, (4, 7)))
    ours, theirs = {
        PreTrainingBert: (pretraining.pretraining_loss, twins.pretraining_loss),
        GPT: (training.next_token_loss, twins.next_token_loss),
    }[kind]
    ours(model, data).backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    twins.training_step(twin, theirs, keras.optimizers.SGD(0.5))(*numbers(data))
    assert max(differences(model, twin).values()) < 1e-5


@pytest.mark.slow
def test_one_step_of_adamw_moves_every_weight_alike():
    """At a rate of 3e-3, which is as far as any weight moves. A step as in `train`, with its clip and its decay."""
    model, twin = pair()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = TrainConfig(steps=1, rate=3e-3, warm_up=0, clip=0.1, weight_decay=0.5)
    (ours,) = training.train(model, iter([batch()]), pretraining.pretraining_loss, config)
    (theirs,) = twins.train(twin, iter([batch()]), twins.pretraining_loss, config)
    assert theirs.gradient == pytest.approx(ours.gradient, rel=1e-4)
    assert ours.gradient > 0.1  # so the clip cuts
    found = differences(model, twin)
    assert max(value for name, value in found.items() if KEY_BIAS not in name) < 1e-4
    assert max((model.state_dict()[name] - weight).abs().max() for name, weight in before.items()) > 2e-3
    with torch.no_grad():
        there = torch.from_numpy(twin(*numbers(batch()[:2])).numpy())
        torch.testing.assert_close(there, model(*batch()[:2]), atol=1e-4, rtol=0)


def test_adamw_keeps_the_form_of_torch_for_tiny_gradients_over_many_steps():
    weight = torch.nn.Parameter(torch.ones(4))
    variable = keras.Variable([1.0, 1.0, 1.0, 1.0])
    settings = {"weight_decay": 0.1}
    ours = torch.optim.AdamW([weight], lr=0.1, betas=(0.9, 0.98), eps=1e-8, **settings)
    theirs = twins.AdamW(0.1, beta_1=0.9, beta_2=0.98, epsilon=1e-8, **settings)
    theirs.build([variable])
    for step in range(5):
        weight.grad = torch.tensor([1.0, 1e-7, 3e-9, 0.0]) * (-1) ** (step // 2)
        ours.step()
        theirs.apply([tf.constant(weight.grad.numpy())], [variable])
    torch.testing.assert_close(torch.from_numpy(variable.numpy()), weight.detach(), atol=1e-6, rtol=1e-5)
    assert (weight[:3].detach() - weight[3].detach()).abs().min() > 1e-3  # they moved, and each by its own amount


@pytest.mark.slow
def test_a_head_that_a_loss_does_not_ask_stays_as_it_is():
    model, twin = pair()
    list(training.train(model, iter([batch()]), pretraining.masked_loss, config := TrainConfig(steps=1, warm_up=0)))
    before = twins.torch_weights(twin)["next_sentence.classify.weight"]
    list(twins.train(twin, iter([batch()]), twins.masked_loss, config))
    assert torch.equal(twins.torch_weights(twin)["next_sentence.classify.weight"], before)
    assert torch.equal(model.state_dict()["next_sentence.classify.weight"], before)
    assert differences(model, twin)["masked_lm.dense.weight"] < 1e-4


def test_vectors_are_not_decayed():
    model, twin = pair()
    optimiser = twins.adamw(twin, TrainConfig(steps=1, weight_decay=0.1))
    kept = {variable.path for variable in twin.trainable_variables if not optimiser._use_weight_decay(variable)}
    assert kept == {variable.path for variable in twin.trainable_variables if len(variable.shape) < 2}
    (settings,) = [
        group["params"]
        for built in build_optimisers(model, "adamw", rate_share=lambda _: 1.0, weight_decay=0.1, betas=(0.9, 0.98))
        for group in built.param_groups
        if group["weight_decay"] == 0
    ]
    assert len(settings) == len(kept)


@pytest.mark.slow
def test_training_goes_the_same_way_for_thirty_steps():
    model, twin = pair()
    config = TrainConfig(steps=30, rate=3e-3, warm_up=5)
    ours = list(training.train(model, map(batch, range(30)), pretraining.pretraining_loss, config))
    theirs = list(twins.train(twin, map(batch, range(30)), twins.pretraining_loss, config))
    assert [step.number for step in theirs] == [step.number for step in ours]
    assert [step.rate for step in theirs] == [step.rate for step in ours]
    for one, other in zip(ours, theirs, strict=True):
        assert other.loss == pytest.approx(one.loss, abs=2e-3)
    assert ours[-1].loss < ours[0].loss - 0.3


def test_one_thread_and_one_seed_give_the_same_twin():
    twins.seed_everything(3)
    first = twins.torch_weights(twins.GPT(CONFIG))["head.weight"]
    twins.seed_everything(3)
    assert torch.equal(twins.torch_weights(twins.GPT(CONFIG))["head.weight"], first)
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1


def test_training_says_what_is_wrong():
    _, twin = pair()
    length = lambda model, _: tf.norm(model.next_sentence.classify.kernel)  # noqa: E731, a loss that costs nothing
    with pytest.raises(ValueError, match="batches ran out at step 2 of 5"):
        list(twins.train(twin, iter([batch()]), length, TrainConfig(steps=5)))
    with pytest.raises(ValueError, match="sharded=True: only llmcourse"):
        list(twins.train(twin, iter([batch()]), length, TrainConfig(steps=5, sharded=True)))
    with pytest.raises(ValueError, match="compiled=True: only llmcourse"):
        list(twins.train(twin, iter([batch()]), length, TrainConfig(steps=5, compiled=True)))
    with pytest.raises(TrainingDiverged, match="at step 1 the loss is nan"):
        list(twins.train(twin, repeat(batch()), lambda *both: tf.math.log(-length(*both)), TrainConfig(steps=2)))


@pytest.mark.slow
def test_a_twin_learns_a_batch_by_heart():
    _, twin = pair()
    stored = batch()
    steps = list(
        islice(twins.train(twin, repeat(stored), twins.pretraining_loss, TrainConfig(steps=120, rate=1e-2)), 120)
    )
    assert steps[-1].loss < 0.1 < steps[0].loss
    assert twin.follows(*numbers(stored[:2])).numpy().argmax(axis=1).tolist() == stored.swapped.tolist()
