"""Training resumes to the same bits, follows its schedule, and says where it went wrong."""

import math
import random
import re
import subprocess
import sys
from dataclasses import replace
from itertools import islice, pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from llmcourse.bert import Bert
from llmcourse.data import (
    IGNORED,
    Batch,
    next_token_batch,
    random_windows,
    shuffled,
    translation_batch,
    translation_batches,
)
from llmcourse.generation import columns_first
from llmcourse.heads import Classifier, LabelledBatch, classification_loss
from llmcourse.models import GPT, EncoderDecoder, save_model
from llmcourse.optimisers import block_matrices
from llmcourse.preferences import RewardedBatch, policy_gradient_loss
from llmcourse.training import (
    TrainConfig,
    TrainingDiverged,
    next_token_loss,
    seed_everything,
    train,
    translation_loss,
)
from llmcourse.transformer import TransformerConfig

TEXT = torch.randint(11, (300,), generator=torch.Generator().manual_seed(0))
BERT_OF = TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, positions="learned", pad=0)


def small_gpt(seed=0, **changes):
    torch.manual_seed(seed)
    return GPT(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, dropout=0.2, **changes))


def batches():
    return random_windows(TEXT, context=8, size=4, seed=1)


def run(model, config, n_steps=None):
    """The steps of a training that the reader leaves after n_steps."""
    return list(islice(train(model, batches(), next_token_loss, config), n_steps))


OPTIONS = {
    "plain": {},
    "muon": {"optimiser": "muon"},
    "bfloat16": {"precision": "bfloat16"},
    "accumulated": {"accumulate": 3},
    "all": {"optimiser": "muon", "precision": "bfloat16", "accumulate": 2, "schedule": "trapezoid", "fall": 0.5},
}


@pytest.mark.parametrize("leave_after", [4, 7, 12])
@pytest.mark.parametrize(
    ("tied", "options"),
    [(False, "plain"), (True, "plain"), (False, "muon"), (False, "bfloat16"), (False, "accumulated"), (True, "all")],
)
def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path, tied, options, leave_after):
    config = TrainConfig(steps=12, warm_up=3, checkpoint_every=4, **OPTIONS[options])
    whole = small_gpt(tied=tied)
    uninterrupted = run(whole, config)

    config = replace(config, checkpoint=tmp_path / "checkpoint.safetensors")
    assert run(small_gpt(tied=tied), config, leave_after) == uninterrupted[:leave_after]
    resumed = small_gpt(seed=99, tied=tied)  # other weights and other random numbers, until the file is read
    assert run(resumed, config) == uninterrupted[leave_after // 4 * 4 :]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_dropout_is_on_while_training_even_if_the_loop_switched_it_off():
    config = TrainConfig(steps=3, warm_up=0)
    modes = []

    def loss(model, batch):
        modes.append(model.training)
        return next_token_loss(model, batch)

    model = small_gpt()
    for _ in train(model, batches(), loss, config):
        model.eval()
    assert modes == [True] * 3
    assert not model.training


def test_leaving_the_loop_closes_the_progress_bar_and_readies_the_model():
    model = small_gpt()
    steps = train(model, batches(), next_token_loss, TrainConfig(steps=100))
    for step in steps:
        if step.number == 2:
            break
    steps.close()
    assert not tqdm._instances
    assert not model.training


def test_the_readers_error_closes_the_progress_bar():
    steps = train(small_gpt(), batches(), next_token_loss, TrainConfig(steps=100))
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    assert not tqdm._instances


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 1e-4},
        {"steps": 13},
        {"betas": (0.9, 0.99)},
        {"schedule": "cosine"},
        {"optimiser": "muon"},
        {"accumulate": 2},
        {"precision": "bfloat16"},
        {"fall": 0.3},
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change):
    config = TrainConfig(steps=12, checkpoint=tmp_path / "checkpoint.safetensors", checkpoint_every=2)
    run(small_gpt(), config, 3)
    name, value = next(iter(change.items()))
    was, now = (re.escape(repr(list(one) if isinstance(one, tuple) else one)) for one in (getattr(config, name), value))
    words = rf"checkpoint\.safetensors was saved with other settings \({name} {was}, not {now}\); use them again"
    with pytest.raises(ValueError, match=words):
        run(small_gpt(), replace(config, **change))


def test_how_often_it_is_saved_may_change(tmp_path):
    config = TrainConfig(steps=6, checkpoint=tmp_path / "one.safetensors", checkpoint_every=2)
    run(small_gpt(), config, 3)
    (tmp_path / "one.safetensors").rename(tmp_path / "two.safetensors")
    moved = replace(config, checkpoint=tmp_path / "two.safetensors", checkpoint_every=5)
    assert [step.number for step in run(small_gpt(), moved)] == [3, 4, 5, 6]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    config = TrainConfig(steps=4, checkpoint=tmp_path / "checkpoint.safetensors", checkpoint_every=2)
    run(small_gpt(), config, 2)
    with pytest.raises(ValueError, match=r"model\.n_layers 2, not 1"):
        run(small_gpt(n_layers=1), config)
    torch.manual_seed(0)
    heads = TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=4, dropout=0.2)
    with pytest.raises(ValueError, match=r"model\.n_heads 2, not 4"):  # no shape tells
        run(GPT(heads), config)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    config = TrainConfig(steps=4, checkpoint=path, checkpoint_every=2)
    run(small_gpt(), config, 2)
    content = path.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], b"", b"nonsense", bytes(8) + content[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            run(small_gpt(), config)
    save_model(small_gpt(), tmp_path)
    path.write_bytes((tmp_path / "model.safetensors").read_bytes())  # whole, but no checkpoint
    with pytest.raises(ValueError, match="holds tensors but no training"):
        run(small_gpt(), config)


def test_a_finished_training_is_not_done_again(tmp_path):
    config = TrainConfig(steps=3, checkpoint=tmp_path / "checkpoint.safetensors")
    model, again = small_gpt(), small_gpt(seed=9)
    assert len(run(model, config)) == 3
    assert run(again, config) == []
    assert torch.equal(again.head.weight, model.head.weight)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_training_and_changes_nothing(value):
    model, losses = small_gpt(), []

    def loss(model, batch):
        losses.append(next_token_loss(model, batch))
        return losses[-1] * (value if len(losses) == 3 else 1)

    steps = train(model, batches(), loss, TrainConfig(steps=10, rate=0.02, warm_up=0, schedule="constant"))
    next(steps), next(steps)
    before = model.head.weight.clone()
    with pytest.raises(TrainingDiverged, match=r"step 3 .*learning rate of 0\.02.*try"):
        next(steps)
    assert torch.equal(model.head.weight, before)
    assert not tqdm._instances


def test_a_gradient_that_is_no_number_stops_it_too():
    model = nn.Linear(2, 2)

    def loss(model, batch):  # the value 0 is fine, its slope is not
        return (0 * model.weight).abs().sum().sqrt()

    with pytest.raises(TrainingDiverged, match=r"step 1 the loss is 0\.0 and its gradient nan"):
        list(train(model, batches(), loss, TrainConfig(steps=2)))
    assert model.weight.isfinite().all()


def test_batches_that_run_out_say_how_many_were_missing():
    steps = train(small_gpt(), list(islice(batches(), 2)), next_token_loss, TrainConfig(steps=5))
    next(steps), next(steps)
    with pytest.raises(ValueError, match="ran out at step 3 of 5"):
        next(steps)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 10 steps, 4 of warm-up; then from 1 towards 0.1 over 6 steps
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.85, 0.7, 0.55, 0.4, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.9397, 0.775, 0.55, 0.325, 0.1603]),
        ("inverse_sqrt", [0.25, 0.5, 0.75, 1, 0.8944, 0.8165, 0.7559, 0.7071, 0.6667, 0.6325]),
        # the last 3 steps fall: from 1 before step 7, over 2/3 and 1/3, towards 0.1
        ("trapezoid", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.7, 0.4]),
    ],
)
def test_the_schedule_has_the_values_worked_out_by_hand(schedule, expected):
    config = TrainConfig(steps=10, rate=2.0, warm_up=4, schedule=schedule, final_rate=0.1, fall=0.3)
    assert [config.rate_at(step) / 2 for step in range(10)] == pytest.approx(expected, abs=1e-4)


def test_the_inverse_square_root_is_the_formula_of_the_paper_up_to_a_factor():
    """d^-0.5 * min(n^-0.5, n * warm_up^-1.5) for step n = 1, 2, ...: Vaswani et al. (2017), section 5.3."""
    d_model, warm_up = 512, 40
    peak = d_model**-0.5 * warm_up**-0.5
    config = TrainConfig(steps=500, rate=peak, warm_up=warm_up, schedule="inverse_sqrt")
    for n in range(1, 501):
        expected = d_model**-0.5 * min(n**-0.5, n * warm_up**-1.5)
        assert config.rate_at(n - 1) == pytest.approx(expected)
    without = TrainConfig(steps=5, rate=1.0, warm_up=0, schedule="inverse_sqrt")
    assert [without.rate_at(step) for step in range(4)] == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5])


@pytest.mark.parametrize(("warm_up", "fall"), [(0, 0.2), (5, 1.0), (15, 0.5), (50, 0.2)])
def test_a_trapezoid_never_jumps_and_ends_at_its_last_rate(warm_up, fall):
    config = TrainConfig(steps=40, rate=1.0, warm_up=warm_up, schedule="trapezoid", fall=fall, final_rate=0.0)
    rates = [config.rate_at(step) for step in range(40)]
    span = max(1, 40 - max(warm_up, 40 * (1 - fall)))
    assert max(b - a for a, b in pairwise(rates)) <= 1 / max(1, warm_up) + 1e-9
    assert max(a - b for a, b in pairwise(rates)) <= 1 / span + 1e-9
    assert max(rates) <= 1
    assert warm_up >= 40 or rates[-1] == pytest.approx(1 / span)


def test_a_training_shorter_than_its_warm_up_only_warms_up():
    config = TrainConfig(steps=3, rate=1.0, warm_up=10)
    assert [config.rate_at(step) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_each_step_uses_and_reports_the_rate_of_the_schedule():
    """AdamW's first step moves each undecayed number by the rate itself, whatever the gradient's size."""
    model, config = small_gpt(), TrainConfig(steps=10, rate=0.01, warm_up=5)
    before = model.norm.bias.clone()
    steps = train(model, batches(), next_token_loss, config)
    first = next(steps)
    torch.testing.assert_close((model.norm.bias - before).abs(), torch.full_like(before, 0.002), rtol=1e-2, atol=0)
    assert [first.rate, *(step.rate for step in steps)] == [config.rate_at(step) for step in range(10)]


def test_only_matrices_decay():
    model = small_gpt()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}

    def flat(model, batch):  # no slope anywhere, so that nothing but decay is left
        return 0.0 * sum(parameter.sum() for parameter in model.parameters())

    config = TrainConfig(steps=1, rate=0.1, warm_up=0, schedule="constant", weight_decay=0.5)
    list(train(model, batches(), flat, config))
    for name, parameter in model.named_parameters():
        kept = 1 - 0.1 * 0.5 if parameter.dim() == 2 else 1
        torch.testing.assert_close(parameter, kept * before[name])
    assert {parameter.dim() for parameter in model.parameters()} == {1, 2}


def test_a_long_gradient_is_cut_and_reported_uncut():
    model = small_gpt()
    for step in train(model, batches(), next_token_loss, TrainConfig(steps=3, clip=0.1)):
        lengths = torch.stack([parameter.grad.norm() for parameter in model.parameters()])
        assert step.gradient > 0.1
        assert lengths.norm().item() == pytest.approx(0.1, rel=1e-3)


def test_steps_are_counted_from_1_and_the_loss_is_of_before_the_step():
    model = small_gpt().eval()
    model.embedding.dropout.p = 0.0
    for block in model.blocks:
        block.dropout.p = 0.0
    expected = next_token_loss(model, next(batches())).item()
    steps = run(model, TrainConfig(steps=2))
    assert [step.number for step in steps] == [1, 2]
    assert steps[0].loss == expected


def test_the_loss_ignores_padding():
    model, tokens = small_gpt().eval(), TEXT[:12].view(2, 6)
    targets = TEXT[20:32].view(2, 6).clone()
    targets[0, 3:] = IGNORED
    log_probabilities = F.log_softmax(model(tokens), dim=-1)
    counted = [(b, t) for b in range(2) for t in range(6) if targets[b, t] != IGNORED]
    expected = -sum(log_probabilities[b, t, targets[b, t]] for b, t in counted) / len(counted)
    torch.testing.assert_close(next_token_loss(model, Batch(tokens, targets)), expected)
    assert len(counted) == 9


ROWS = [[1, 2, 3, 4, 5, 6, 7], [3, 9], [5, 5, 8], [10, 1, 4, 2, 6], [7], [2, 8, 8, 1]]


def sentences_of(*rows):
    return next_token_batch([ROWS[i] for i in rows], begin=0, pad=0)


def without_dropout(model):
    for part in (model.embedding, *model.blocks):
        part.dropout.p = 0.0
    return model


def trained(group, config):
    """The losses and the weights after training on these batches in turn."""
    model = without_dropout(small_gpt())
    losses = [step.loss for step in train(model, group, next_token_loss, config)]
    return losses, model


@pytest.mark.parametrize(
    "cut",
    [[(0, 1, 2), (3, 4, 5)], [(0, 1), (2, 3), (4, 5)], [(4,), (0, 1, 2, 3, 5)]],
    ids=["halves", "thirds", "unequal"],
)
def test_accumulated_batches_do_what_one_large_batch_does(cut):
    """Rows and batches hold unequal numbers of tokens that count: the mean of the batches' means would be another."""
    config = TrainConfig(steps=4, warm_up=2)
    small = [sentences_of(*rows) for rows in cut]
    losses, whole = trained([sentences_of(*range(6))] * 4, config)
    added, pieces = trained(small * 4, replace(config, accumulate=len(cut)))
    assert added == pytest.approx(losses, rel=1e-5)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], tensor, rtol=0, atol=2e-5)
    means = [next_token_loss(small_gpt().eval(), batch).item() for batch in small]
    if len(cut) == 2:
        assert abs(sum(means) / 2 - losses[0]) > 1e-4  # so a plain mean of means would have been found out


def test_a_batch_in_which_nothing_counts_adds_nothing():
    nothing = Batch(TEXT[:8].view(2, 4), torch.full((2, 4), IGNORED))
    losses, alone = trained([sentences_of(0, 1)] * 2, TrainConfig(steps=2))
    added, beside = trained([sentences_of(0, 1), nothing] * 2, TrainConfig(steps=2, accumulate=2))
    assert added == losses
    assert torch.equal(beside.head.weight, alone.head.weight)
    with pytest.raises(TrainingDiverged):
        trained([nothing] * 2, TrainConfig(steps=1, accumulate=2))


def test_batches_without_targets_count_by_their_rows():
    class Numbers(NamedTuple):
        x: Tensor
        y: Tensor

    def squares(model, batch):
        return (model(batch.x) - batch.y).square().mean()

    torch.manual_seed(0)
    x, y, models = torch.randn(6, 3), torch.randn(6, 1), []
    for group in ([Numbers(x, y)], [Numbers(x[:1], y[:1]), Numbers(x[1:], y[1:])]):
        torch.manual_seed(1)
        models.append(nn.Linear(3, 1))
        list(train(models[-1], group, squares, TrainConfig(steps=1, accumulate=len(group))))
    torch.testing.assert_close(models[1].weight, models[0].weight, rtol=1e-5, atol=1e-7)


def test_half_of_an_accumulated_step_is_no_step():
    steps = train(small_gpt(), list(islice(batches(), 3)), next_token_loss, TrainConfig(steps=5, accumulate=2))
    next(steps)
    with pytest.raises(ValueError, match="ran out at step 2 of 5"):
        next(steps)


def test_sixteen_bits_compute_the_products_and_not_the_weights_nor_the_loss():
    seen = set()

    def loss(model, batch):
        handle = model.blocks[0].feed_forward.expand.register_forward_hook(lambda *parts: seen.add(parts[-1].dtype))
        value = next_token_loss(model, batch)
        handle.remove()
        assert value.dtype == torch.float32
        return value

    config = TrainConfig(steps=20, rate=0.01, warm_up=2)
    exact, rough = without_dropout(small_gpt()), without_dropout(small_gpt())
    wanted = [step.loss for step in train(exact, batches(), loss, config)]
    assert seen == {torch.float32}
    seen.clear()
    got = [step.loss for step in train(rough, batches(), loss, replace(config, precision="bfloat16"))]
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in rough.parameters()} == {torch.float32}
    assert got != wanted
    assert got == pytest.approx(wanted, rel=0.05)


def test_a_device_without_sixteen_bits_says_so(monkeypatch):
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: False)
    with pytest.raises(ValueError, match="this cpu device cannot; use precision='float32'"):
        run(small_gpt(), TrainConfig(steps=1, precision="bfloat16"))


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else():
    model = small_gpt()
    names = {name for name, parameter in model.named_parameters() if parameter in block_matrices(model)}
    parts = ("query", "key", "value", "out")
    expected = {f"blocks.{i}.attention.{part}.weight" for i in range(2) for part in parts}
    assert names == expected | {
        f"blocks.{i}.feed_forward.{part}.weight" for i in range(2) for part in ("expand", "contract")
    }


def test_a_step_of_muon_is_the_orthogonalised_gradient():
    """All singular values of a step lie near one number, 0.2 √(longer side) times the rate, however unequal the
    gradient's are. AdamW's parameters move as they do without Muon."""
    moved, gradients = {}, {}
    for optimiser in ("adamw", "muon"):
        model = small_gpt()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        config = TrainConfig(steps=1, rate=0.01, warm_up=0, schedule="constant", weight_decay=0.0, optimiser=optimiser)
        run(model, config)
        moved[optimiser] = {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    by_muon = {name for name, parameter in model.named_parameters() if parameter in block_matrices(model)}
    for name, change in moved["muon"].items():
        if name not in by_muon:
            torch.testing.assert_close(change, moved["adamw"][name])
            continue
        u, s, v = torch.linalg.svd(gradients[name], full_matrices=False)
        step = -u.T @ change @ v.T / (0.01 * 0.2 * math.sqrt(max(change.shape)))  # in the gradient's own directions
        strong = s > 0.05 * s[0]
        sizes = step.diagonal()[strong]
        assert (s[0] / s[strong].min()) > 2, name
        assert sizes.min() > 0.6, (name, sizes)
        assert sizes.max() < 1.3, (name, sizes)


def test_muon_needs_blocks_and_a_torch_that_has_it(monkeypatch):
    with pytest.raises(ValueError, match="Linear has none; use 'adamw'"):
        run(nn.Linear(2, 2), TrainConfig(steps=1, optimiser="muon"))
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"needs torch 2\.9 or newer"):
        run(small_gpt(), TrainConfig(steps=1, optimiser="muon"))


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_rate_shares_hold_with_either_optimiser(optimiser):
    model = small_gpt()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run(model, TrainConfig(steps=2, optimiser=optimiser, rate_shares={"blocks.0": 0.0}))
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == {name for name in before if name.startswith("blocks.0.")}


def test_nothing_is_compiled_unless_asked_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    model = small_gpt()
    run(model, TrainConfig(steps=2))
    assert compiled == []
    steps = train(model, batches(), next_token_loss, TrainConfig(steps=2, compiled=True))
    assert compiled == []  # not before the first step
    list(steps)
    assert compiled == [model]


COMPILED = """
import torch
from llmcourse.data import random_windows
from llmcourse.models import GPT
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig

losses, weights = [], []
for compiled in (False, True):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=20, context=16, d_model=16, n_heads=2))
    batches = random_windows(torch.arange(400) % 20, 8, 4)
    config = TrainConfig(steps=6, warm_up=2, compiled=compiled)
    losses.append(torch.tensor([step.loss for step in train(model, batches, next_token_loss, config)]))
    weights.append(model.state_dict())
torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)
assert weights[0].keys() == weights[1].keys()
for name in weights[0]:
    torch.testing.assert_close(weights[1][name], weights[0][name], rtol=0, atol=1e-4)
print("equal")
"""


@pytest.mark.slow
def test_a_compiled_model_computes_the_same_numbers():
    """In a Python of its own: the checks of shapes that the tests put on the package cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=300)
    assert done.stdout == "equal\n", done.stderr


PAIRS = [([3, 4, 5], [6, 7]), ([6], [3, 4, 5, 8]), ([9, 3], [10, 9, 3])]
SPECIAL = {"begin": 1, "end": 2, "pad": 0}


def small_translator(dropout=0.0):
    torch.manual_seed(0)
    return EncoderDecoder(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, dropout=dropout, pad=0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_translation_loss_is_its_formula_and_ignores_padding(smoothing):
    """(1 - s) of the weight on the target, s spread evenly over all 11 tokens: Szegedy et al. (2016), section 7."""
    model, batch, losses = small_translator().eval(), translation_batch(PAIRS, **SPECIAL), []
    for source, target in PAIRS:
        alone = translation_batch([(source, target)], **SPECIAL)
        log_probabilities = model(alone.source, alone.tokens)[0].log_softmax(dim=-1)
        for row, wanted in zip(log_probabilities, [*target, 2], strict=True):
            losses.append(-(1 - smoothing) * row[wanted] - smoothing * row.mean())
    assert len(losses) == 12
    torch.testing.assert_close(translation_loss(model, batch, smoothing), torch.stack(losses).mean())
    assert translation_loss(model, batch) == translation_loss(model, batch, 0.0)


@pytest.mark.slow
def test_a_translator_learns_pairs_by_heart_and_resumes_to_the_same_bits(tmp_path):
    def steps(model, config, n=None):
        batches = translation_batches(shuffled(PAIRS, seed=1), 3, **SPECIAL)
        return list(islice(train(model, batches, translation_loss, config), n))

    config = TrainConfig(steps=80, rate=0.01, warm_up=5)
    whole = small_translator()
    uninterrupted = steps(whole, config)
    assert uninterrupted[0].loss > 2
    assert uninterrupted[-1].loss < 0.1
    config = replace(config, checkpoint=tmp_path / "checkpoint.safetensors", checkpoint_every=40)
    steps(small_translator(), config, 50)
    resumed = small_translator()
    assert steps(resumed, config) == uninterrupted[40:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_the_same_seed_gives_the_same_numbers():
    drawn = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        drawn.append((torch.rand(2).tolist(), random.random()))
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"steps": 0}, "steps=0"),
        ({"warm_up": -1}, "warm_up=-1"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"rate": 0.0}, r"rate=0\.0"),
        ({"rate": math.nan}, "rate=nan"),
        ({"clip": -1.0}, r"clip=-1\.0"),
        ({"clip": 0.0}, r"clip=0\.0"),
        ({"final_rate": 1.5}, r"final_rate=1\.5"),
        ({"weight_decay": -0.1}, r"weight_decay=-0\.1"),
        ({"schedule": "square"}, "schedule='square'"),
        ({"fall": 0.0}, r"fall=0\.0"),
        ({"fall": 1.1}, r"fall=1\.1"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"precision": "float16"}, "precision='float16'; use one of 'float32', 'bfloat16'"),
        ({"optimiser": "sgd"}, "optimiser='sgd'; use one of 'adamw', 'muon'"),
    ],
)
def test_impossible_settings_are_refused(setting, words, without_shape_checks):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**{"steps": 5} | setting)


def grown(loss, batch, parts, model=None):
    """The gradient that `train` follows for batches given one by one, and the step's loss."""
    model = small_gpt() if model is None else model
    for dropout in (part for part in model.modules() if isinstance(part, nn.Dropout)):
        dropout.p = 0.0
    (step,) = train(model, iter(parts), loss, TrainConfig(steps=1, accumulate=len(parts), clip=1e9))
    return step.loss, step.gradient


def test_a_batch_says_itself_what_its_loss_is_a_mean_over():
    tokens = torch.randint(11, (2, 8), generator=torch.Generator().manual_seed(3))
    targets = tokens.clone()
    targets[0, 2:] = IGNORED  # replies of 2 and of 8 tokens
    rewarded = RewardedBatch(tokens, targets, torch.tensor([1.0, -1.0]))
    halves = [rewarded._make(part[row : row + 1] for part in rewarded) for row in range(2)]
    whole = grown(policy_gradient_loss, rewarded, [rewarded])
    assert grown(policy_gradient_loss, rewarded, halves) == pytest.approx(whole, rel=1e-5)


def test_batches_in_which_nothing_counts_share_the_step_by_their_rows():
    def pull(model, batch):
        return model(batch.tokens).square().mean()

    tokens = torch.randint(11, (4, 8), generator=torch.Generator().manual_seed(3))
    batch = Batch(tokens, torch.full_like(tokens, IGNORED))
    halves = [Batch(tokens[:1], batch.targets[:1]), Batch(tokens[1:], batch.targets[1:])]
    assert grown(pull, batch, halves) == pytest.approx(grown(pull, batch, [batch]), rel=1e-5)


def test_a_batch_of_nothing_is_refused():
    empty = torch.empty(0, 8, dtype=torch.long)
    with pytest.raises(ValueError, match="a batch has no rows"):
        list(train(small_gpt(), iter([Batch(empty, empty)]), next_token_loss, TrainConfig(steps=1)))


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_model_laid_out_column_by_column_resumes_to_the_same_bits(tmp_path, optimiser):
    config = TrainConfig(steps=12, warm_up=0, rate=1e-2, optimiser=optimiser, checkpoint_every=4)
    whole = columns_first(small_gpt())
    run(whole, config)
    saved = replace(config, checkpoint=tmp_path / "training.safetensors")
    run(columns_first(small_gpt()), saved, 6)
    resumed = columns_first(small_gpt(seed=1))
    assert [step.number for step in run(resumed, saved)] == list(range(5, 13))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_training_that_is_refused_leaves_the_model_as_it_is(tmp_path):
    config = TrainConfig(steps=4, checkpoint=tmp_path / "training.safetensors", checkpoint_every=2)
    run(small_gpt(), config, 2)
    model = small_gpt(seed=5)
    before = [weight.clone() for weight in model.parameters()]
    other = random_windows(TEXT, context=8, size=4, seed=2)
    with pytest.raises(ValueError, match="their first one differs"):
        list(train(model, other, next_token_loss, config))
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: Classifier(Bert(BERT_OF), 3, pooling="mean"), "model.pooling 'cls', not 'mean'"),
        (lambda: Classifier(Bert(replace(BERT_OF, n_heads=4)), 3), "model.encoder.n_heads 2, not 4"),
        (lambda: Classifier(Bert(BERT_OF), 3, dropout=0.5), "model.dropout.p 0.0, not 0.5"),
        (lambda: Classifier(Bert(BERT_OF), 3).bfloat16(), "model.dtype"),
    ],
)
def test_a_checkpoint_knows_what_changes_no_shape(tmp_path, other, named):
    config = TrainConfig(steps=4, checkpoint=tmp_path / "training.safetensors", checkpoint_every=2)
    tokens = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))
    stream = [LabelledBatch(tokens, torch.tensor([0, 1, 2]))] * 4
    list(islice(train(Classifier(Bert(BERT_OF), 3), iter(stream), classification_loss, config), 2))
    with pytest.raises(ValueError, match=re.escape(named)):
        list(train(other(), iter(stream), classification_loss, config))
