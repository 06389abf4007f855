"""The estimate sheet: each term by hand, every published figure within a fifth, and nothing promised that cannot be shared."""

from dataclasses import replace

import pytest

from llmcourse.footprint import layer_bytes, step_memory
from llmcourse.models import GPT, GPT_3, count_parameters
from llmcourse.planning import Layout, Machine, Training, flops_a_token, parameters_of, plan
from llmcourse.published import names, plan_of, published, training_of
from llmcourse.transformer import TransformerConfig

TINY = TransformerConfig(n_vocab=50, context=8, d_model=16, n_heads=4, n_layers=4)
MACHINE = Machine(name="ours", memory=1e9, flops=1e9, utilisation=0.5, bandwidth=1e9, link=1e6, near_link=1e7, price=3)
N = parameters_of(TINY)


def sheet(layout=None, batch=8, **changes):
    return plan(Training(**{"model": TINY, "tokens": 1e6, "batch": batch} | changes), MACHINE, layout)


@pytest.mark.parametrize("comparison", published(), ids=lambda c: f"{c.run}: {c.what}")
def test_our_estimate_is_within_a_fifth_of_the_published_figure(comparison):
    print(f"{comparison.run}, {comparison.what}: {comparison.ratio:.3f}")
    assert comparison.ratio == pytest.approx(1, abs=0.2)
    assert comparison.source and comparison.given


@pytest.mark.parametrize("name", [c.run for c in published() if c.what == "parameters"])
def test_the_sizes_are_the_published_ones(name):
    figure = next(c for c in published() if c.run == name and c.what == "parameters")
    assert figure.ratio == pytest.approx(1, abs=0.01)


def test_a_speed_that_is_given_is_not_what_is_checked():
    assert plan_of("LLaMA 65B").tokens_a_second / 2048 == pytest.approx(380)  # given back, and not in the list
    assert not {c.what for c in published()} & {"tokens_a_second", "rate"}
    assert plan_of("LLaMA 13B").machine.utilisation == plan_of("LLaMA 65B").machine.utilisation
    assert "LLaMA 65B" in names() and training_of("LLaMA 65B").T == 2048
    with pytest.raises(ValueError, match="no published run is called 'GPT-9'"):
        training_of("GPT-9")
    with pytest.raises(ValueError, match="ran on 2048 devices"):
        plan_of("LLaMA 65B", Layout(data=3))


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, tied=True, positions="learned"), replace(TINY, activation="swiglu", n_layers=1)]
)
def test_parameters_are_those_of_the_model_itself(config):
    assert parameters_of(config) == count_parameters(GPT(config))


def test_operations_by_hand():
    training = Training(model=TINY, tokens=1e6, batch=1)
    assert flops_a_token(training) == 6 * N + 12 * 4 * 8 * 16
    assert flops_a_token(replace(training, recompute="full")) == pytest.approx(flops_a_token(training) * 4 / 3)
    assert flops_a_token(replace(training, length=2)) == 6 * N + 12 * 4 * 2 * 16


def test_time_and_cost_by_hand():
    one = sheet(Layout(data=4))
    assert one.tokens_a_second == pytest.approx(4 * 0.5e9 / one.flops_a_token)
    assert one.days * 86_400 * one.tokens_a_second == pytest.approx(1e6)
    assert one.cost == pytest.approx(one.days * 24 * 4 * 3)
    assert one.step_seconds == pytest.approx(8 * 8 / one.tokens_a_second)
    assert one.flops == one.flops_a_token * 1e6


def test_what_the_copies_send_by_hand():
    for sharded, numbers in enumerate((2, 2, 2 + 1, 3 * 2)):  # two micro-batches, 2 bytes a number
        sent = sheet(Layout(data=4, sharded=sharded)).messages
        assert sent == {"data": pytest.approx(0.75 * numbers * 2 * N), "tensor": 0, "pipeline": 0}
    assert sheet().messages == {"data": 0, "tensor": 0, "pipeline": 0}


def test_what_the_parts_send_by_hand():
    rows = 8 * 8 * 16 * 2  # 8 sequences of 8 tokens of 16 numbers of 2 bytes
    assert sheet(Layout(tensor=4)).messages["tensor"] == pytest.approx(4 * 4 * 2 * 0.75 * rows)
    assert sheet(Layout(tensor=4), recompute="full").messages["tensor"] == pytest.approx(4 * 6 * 2 * 0.75 * rows)
    assert sheet(Layout(pipeline=2)).messages["pipeline"] == rows
    assert sheet(Layout(pipeline=4)).messages["pipeline"] == 2 * rows
    both = sheet(Layout(data=2, tensor=2))
    assert both.messages["data"] == pytest.approx(2 * 0.5 * 2 * N / 2)
    assert both.link_seconds == pytest.approx(both.messages["data"] / 1e6 + both.messages["tensor"] / 1e7)


def test_the_bubble_shrinks_with_the_number_of_micro_batches():
    assert sheet(Layout(pipeline=4)).bubble == 3 / 8
    assert sheet(Layout(pipeline=4, micro_batch=4)).bubble == 3 / 2
    assert sheet(Layout(data=8)).bubble == 0


def test_memory_by_hand():
    layer, logits = layer_bytes(TINY, 1, 8), 4 * 8 * (16 + 50)
    assert tuple(sheet().memory) == (2 * N, 2 * N, 12 * N, 4 * layer + logits)
    assert tuple(sheet(Layout(data=4, sharded=3)).memory) == pytest.approx((N / 2, N / 2, 3 * N, 4 * layer + logits))
    assert tuple(sheet(Layout(tensor=2)).memory) == pytest.approx((N, N, 6 * N, (4 * layer + logits) / 2))
    # Of four groups the first has begun four batches, each of its one layer, before the first comes back.
    assert sheet(Layout(pipeline=4)).memory.activations == 4 * layer
    assert sheet(Layout(pipeline=4, micro_batch=4)).memory.activations == 2 * layer_bytes(TINY, 4, 8)
    assert sheet(recompute="full").memory.activations == 4 * 2 * 8 * 16 + layer + logits


def test_our_own_trainer_is_counted_as_it_was_measured():
    one = sheet(Layout(micro_batch=8), precision="float32")
    assert one.memory == step_memory(TINY, N, 8, 8) and one.needed == one.memory.peak
    assert sheet(Layout(micro_batch=4), precision="float32").needed == step_memory(TINY, N, 4, 8).total


def test_gpt_3_fits_on_no_device_alone_and_on_a_thousand_together():
    gpu = Machine(name="80 GB", memory=80e9, flops=312e12, utilisation=0.45, bandwidth=2e12, link=25e9)
    training = Training(model=GPT_3, tokens=300e9, batch=1536, recompute="full")
    assert not plan(training, gpu).fits
    assert not plan(training, gpu, Layout(data=1024 // 2)).fits  # copies alone make no copy smaller
    assert plan(training, gpu, Layout(data=8, tensor=8, pipeline=16)).fits
    assert plan(training, gpu, Layout(data=512, sharded=3)).fits


def test_the_table_says_every_figure_once_with_its_unit():
    lines = str(sheet(Layout(data=2))).splitlines()
    names = [line.split("  ")[0] for line in lines]
    assert len(set(names)) == len(lines) and {"days", "cost", "memory: activations", "sent a step: data"} <= set(names)
    assert f"{N:,}" in lines[0] and "2 x ours" in lines[1] and lines[2].endswith(f"{2 * N / 1e3:.3g} kB")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Training(model=TINY, tokens=0, batch=1), "tokens=0"),
        (lambda: Training(model=TINY, tokens=1, batch=1, precision="float32", recompute="full"), "recomputes nothing"),
        (lambda: replace(MACHINE, utilisation=1.5), "utilisation=1.5"),
        (lambda: replace(MACHINE, link=0), "link=0"),
        (lambda: Layout(data=0), "data=0"),
        (lambda: Layout(sharded=4), "sharded=4"),
        (lambda: sheet(Layout(data=3)), "no multiple"),
        (lambda: sheet(Layout(pipeline=3)), "no 3 equal groups"),
        (lambda: sheet(Layout(tensor=8)), "tensor=8"),
        (lambda: sheet(Layout(tensor=2), precision="float32"), "whole models"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_form_that_is_unknown_is_refused(without_shape_checks):
    with pytest.raises(ValueError, match="precision='bf16'"):
        Training(model=TINY, tokens=1, batch=1, precision="bf16")
