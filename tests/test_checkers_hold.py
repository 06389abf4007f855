"""Checkers that hold: whatever an answer does, its author reads what happened, and the notebook goes on as before.

Beside test_exercises.py, which has the plainer ways to fail. And right answers pass however they are written: by loops,
by einsum, by the library.
"""

import itertools
import math
import os
import sys
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from llmcourse.exercises import Exercise, mistake, solution
from llmcourse.exercises.language_models import Bigram, Perplexity, SentenceProbability
from llmcourse.exercises.limits import TimeUp, run_limited
from llmcourse.exercises.scaling import ComputeOptimalSize, Excess, FitAboveTheFloor
from llmcourse.exercises.self_attention import Attention, StableSoftmax
from llmcourse.exercises.start_here import MendSoftmax, SameEveryTime
from llmcourse.exercises.transformer_block import CountParameters, GatedFeedForward, PreNormBlock, RotaryTurn


@pytest.fixture(autouse=True)
def own_progress_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))


class Doubled(Exercise):
    """An exercise of the tests' own."""

    prompt, difficulty, minutes, hints = "Write `double(x)`.", 1, 1, ("Add x to itself.",)

    @classmethod
    def probes(cls, seed):
        return [(torch.arange(3.0),), (torch.tensor([[-1.0, 2.0]]),)]

    @solution
    def double(x):
        return x + x

    @mistake("You squared x.")
    def squared(x):
        return x * x


class Gradient(Doubled):
    """What is observed of this one is the gradient of the answer."""

    @classmethod
    def observe(cls, answer, probe):
        x = probe[0].clone().requires_grad_()
        answer(x).sum().backward()
        return x.grad

    @solution
    def double(x):
        return x + x


def deep(x):
    return deep(x) + 1


def deeper_than_the_stack(x):
    sys.setrecursionlimit(10**9)
    return deep(x)


def interrupts(x):
    raise KeyboardInterrupt


def quits(x):
    sys.exit("enough")


def floods(x):
    for number in range(20_000):
        print("line", number)
    return x


def prints_for_ever(x):
    while True:
        print("again")


def loops_on(x):
    while True:
        x = x + 1


def swallows_all(x):
    while True:
        try:  # noqa: SIM105
            loops_on(x)
        except BaseException:
            pass


def sleeps(x):
    time.sleep(60)


def patches_torch(x):
    torch.allclose = torch.equal = lambda *arguments, **options: True
    torch.Tensor.__eq__ = lambda a, b: True
    return x


def patches_the_judge(x):
    import llmcourse.exercises as engine

    engine.same = lambda *arguments: True
    engine.Feedback.status = "correct"
    return x


def breaks_random_state(x):
    torch.manual_seed(time.time_ns() % 1000)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    return x


def generates(x):
    yield from x + x


def asks(x):
    return x * float(input("by how much? "))


def writes_below(x):
    os.write(1, b"straight to the terminal\n")
    return x


def kills_itself(x):
    os.kill(os.getpid(), 9)


class Class:
    def __init__(self, x):
        self.x = x + x


FAILING = {
    "an array": (lambda x: (x + x).numpy(), "returned a ndarray; a tensor is expected"),
    "deep recursion": (deep, "RecursionError"),
    "KeyboardInterrupt": (interrupts, "raised KeyboardInterrupt"),
    "sys.exit": (quits, "raised SystemExit: enough"),
    "flood of print": (floods, "right in 1 of 3 places"),
    "endless print": (prints_for_ever, "had not finished"),
    "endless loop": (loops_on, "had not finished after 1 second"),
    "loop that swallows all": (swallows_all, "had not finished after 1 second"),
    "sleep": (sleeps, "had not finished"),
    "patched torch": (patches_torch, None),
    "patched judge": (patches_the_judge, None),
    "random state": (breaks_random_state, "right in 1 of 3 places"),
    "generator": (generates, "returned a generator; a tensor is expected"),
    "list": (lambda x: (x + x).tolist(), "returned a list; a tensor is expected"),
    "class": (Class, "returned a Class; a tensor is expected"),
    "other parameters": (lambda x, y: x + y, "missing 1 required positional argument: 'y'"),
    "no parameters": (lambda *, x: x + x, "raised TypeError"),
    "half precision": (lambda x: (x + x).half(), "dtype torch.float16; torch.float32 is expected"),
    "whole numbers": (lambda x: (x + x).int(), "dtype torch.int32"),
    "input()": (asks, "raised EOFError"),
    "below Python": (writes_below, "right in 1 of 3 places"),
    "kill": (kills_itself, "ended the Python process"),
    "infinity": (lambda x: x + x + math.inf, "inf"),
    "string": ("double", "you passed a value of type str"),
    "a tensor": (torch.zeros(3), "you passed a value of type Tensor"),
    "huge words": (lambda x: "z" * 100_000, "returned a str; a tensor is expected"),
}  # fmt: skip


def state() -> tuple:
    """What a cell may rely on after `check`: torch's functions and modes, its random numbers, the printing."""
    names = (torch.allclose, torch.equal, torch.Tensor.__eq__, torch.get_default_dtype(), torch.is_grad_enabled())
    return (*names, sys.getrecursionlimit(), sys.stdout, torch.get_num_threads(), torch.get_rng_state().tolist())


@pytest.mark.parametrize("case", FAILING)
def test_a_failing_answer_gets_a_clear_message_and_leaves_all_as_it_was(case, monkeypatch):
    answer, words = FAILING[case]
    monkeypatch.setattr(Doubled, "seconds", 1.0 if "not finished" in str(words) else 10.0)
    before = state()
    feedback = Doubled.check(answer)
    assert state() == before
    assert words is None or (feedback.status == "wrong" and words in feedback.message), feedback
    assert len(feedback.message) < 600 and len(feedback.printed) <= 300
    assert Doubled.check(lambda x: 2 * x).status == "correct", "the next answer is judged as ever"


@pytest.mark.parametrize("answer", [lambda x: (x + x).detach(), lambda x: (x + x).data], ids=["detach", "data"])
def test_a_detached_gradient_is_seen(answer):
    feedback = Gradient.check(answer)
    assert feedback.status == "wrong" and "does not require grad" in feedback.message
    assert Gradient.check(lambda x: torch.add(x, x)).status == "correct"


@pytest.mark.parametrize(
    "answer", [loops_on, swallows_all, prints_for_ever, sleeps], ids=lambda answer: answer.__name__
)
def test_the_time_limit_is_overshot_by_less_than_a_fifth_of_a_second(answer):
    def overshoot() -> float:
        began = time.monotonic()
        with pytest.raises(TimeUp):
            run_limited(lambda: answer(torch.zeros(3)), 0.3)
        return time.monotonic() - began - 0.3

    assert min(overshoot() for _ in range(3)) < 0.2


def loop_softmax(x, dim):
    moved = x.movedim(dim, -1)
    rows = [torch.tensor([math.exp(v - max(r)) for v in r]) for r in moved.reshape(-1, moved.shape[-1]).tolist()]
    return torch.stack([row / row.sum() for row in rows]).view(moved.shape).movedim(-1, dim)


def einsum_attention(query, key, value, mask):
    scores = torch.einsum("...td,...sd->...ts", query, key) / math.sqrt(query.shape[-1])
    weights = (scores if mask is None else torch.where(mask, scores, -math.inf)).softmax(-1)
    return torch.einsum("...ts,...sd->...td", torch.where(weights.isnan(), 0.0, weights), value)


def loop_attention(query, key, value, mask):
    weights = query.new_zeros(*query.shape[:-1], key.shape[-2])
    for place in itertools.product(*map(range, query.shape[:-1])):
        allowed = [True] * key.shape[-2] if mask is None else mask.broadcast_to(weights.shape)[place].tolist()
        chosen = [s for s, may in enumerate(allowed) if may]
        if chosen:
            scores = torch.stack([query[place] @ key[place[:-1]][s] for s in chosen]) / query.shape[-1] ** 0.5
            weights[place][chosen] = scores.softmax(0)
    return weights @ value


def library_attention(query, key, value, mask):
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return torch.nan_to_num(found)


def bigram_by_index(sentences, n_vocab, k):
    pairs = [pair for sentence in sentences for pair in itertools.pairwise(sentence)]
    table = torch.full((n_vocab, n_vocab), float(k))
    if pairs:
        first, second = torch.tensor(pairs).T
        table.index_put_((first, second), torch.ones(len(pairs)), accumulate=True)
    return F.normalize(table, p=1, dim=1)


def bigram_by_bins(sentences, n_vocab, k):
    cells = [a * n_vocab + b for sentence in sentences for a, b in itertools.pairwise(sentence)]
    counts = torch.bincount(torch.tensor(cells, dtype=torch.long), minlength=n_vocab**2).view(n_vocab, n_vocab) + k
    return torch.einsum("ab,a->ab", counts.float(), 1 / counts.float().sum(1))


def bigram_by_lists(sentences, n_vocab, k):
    rows = [[float(k)] * n_vocab for _ in range(n_vocab)]
    for sentence in sentences:
        for place in range(len(sentence) - 1):
            rows[sentence[place]][sentence[place + 1]] += 1
    return torch.tensor([[value / sum(row) for value in row] for row in rows])


def loop_perplexity(logits, targets):
    losses = []
    for row, wanted in zip(logits.flatten(0, -2), targets.flatten().tolist(), strict=True):
        if wanted != -100:
            losses.append(row.exp().sum().log().item() - row[wanted].item())
    return math.exp(sum(losses) / len(losses))


def one_hot_perplexity(logits, targets):
    counted = targets != -100
    picked = torch.einsum(
        "nv,nv->n", logits[counted].log_softmax(-1), F.one_hot(targets[counted], logits.shape[-1]).float()
    )
    return float(torch.exp(-picked.mean()))


def complex_rotation(x, start, base):
    T, D = x.shape
    angles = (start + torch.arange(T))[:, None] * base ** (-2 * torch.arange(D // 2) / D)
    turned = torch.complex(x[:, : D // 2], x[:, D // 2 :]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], 1)


def loop_rotation(x, start, base):
    result, half = x.clone(), x.shape[1] // 2
    for t, i in itertools.product(range(len(x)), range(half)):
        angle = (start + t) * base ** (-2 * i / x.shape[1])
        a, b = x[t, i].item(), x[t, i + half].item()
        result[t, i], result[t, i + half] = (
            a * math.cos(angle) - b * math.sin(angle),
            b * math.cos(angle) + a * math.sin(angle),
        )
    return result


def matrix_rotation(x, start, base):
    half = x.shape[1] // 2
    angles = torch.einsum("t,i->ti", torch.arange(start, start + len(x)).float(), base ** (-torch.arange(half) / half))
    turns = torch.stack(
        [torch.stack([angles.cos(), -angles.sin()], -1), torch.stack([angles.sin(), angles.cos()], -1)], -2
    )
    return torch.einsum("tiab,tbi->tai", turns, x.view(len(x), 2, half)).flatten(1)


def library_block(x, attention, feed_forward):
    norm = lambda x: F.layer_norm(x, x.shape[-1:])  # noqa: E731
    x = attention(norm(x)) + x
    return feed_forward(norm(x)) + x


def module_block(x, attention, feed_forward):
    norm = torch.nn.LayerNorm(x.shape[-1], elementwise_affine=False)
    for layer in (attention, feed_forward):
        x = x + layer(norm(x))
    return x


def var_block(x, attention, feed_forward):
    def norm(x):
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-5)

    middle = torch.add(x, attention(norm(x)))
    return torch.add(middle, feed_forward(norm(middle)))


def count_by_layers(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
    shapes = [(n_vocab, d_model)] * (1 if tied else 2) + [(d_model,)] * 2
    for _ in range(n_layers):
        shapes += [(d_model, d_model), (d_model,)] * 4 + [
            (d_hidden, d_model),
            (d_hidden,),
            (d_model, d_hidden),
            (d_model,),
        ]
        shapes += [(d_model,)] * 4
    return sum(torch.Size(shape).numel() for shape in shapes)


def count_by_loop(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
    total = n_vocab * d_model * (1 if tied else 2) + 2 * d_model
    for _ in range(n_layers):
        total += sum(
            n_in * n_out + n_out
            for n_in, n_out in [(d_model, d_model)] * 4 + [(d_model, d_hidden), (d_hidden, d_model)]
        )
        total += 4 * d_model
    return total


def fit_by_polyfit(sizes, losses, floor):
    slope, start = np.polyfit(np.log(sizes), np.log(np.asarray(losses) - floor), 1)
    return float(np.exp(start)), float(-slope)


def fit_by_lstsq(sizes, losses, floor):
    x = torch.tensor(sizes, dtype=torch.double).log()
    y = (torch.tensor(losses, dtype=torch.double) - floor).log()
    found = torch.linalg.lstsq(torch.stack([torch.ones_like(x), x], 1), y[:, None]).solution
    return math.exp(found[0].item()), -found[1].item()


def fit_by_covariance(sizes, losses, floor):
    table = np.cov(np.log(sizes), [math.log(loss - floor) for loss in losses])
    slope = table[0, 1] / table[0, 0]
    level = np.mean(np.log(np.asarray(losses) - floor)) - slope * np.mean(np.log(sizes))
    return math.exp(level), -float(slope)


def words_by_cases(words):
    *rest, noun, verb = words
    p = {"cat": 0.5, "dog": 0.3, "trees": 0.2}[noun] * (0.6 if verb == "sleeps" else 0.4)
    return math.log(p * (0.125 if len(rest) == 2 else 0.75))


def words_by_sum(words):
    steps = [0.25, 0.5] if len(words) == 4 else [0.75]
    steps += [{"cat": 0.5, "dog": 0.3, "trees": 0.2, "sleeps": 0.6, "waits": 0.4}[word] for word in words[-2:]]
    return sum(map(math.log, steps))


def numbers_by_loop(words):
    numbers = {}
    for word in sorted(words):
        numbers.setdefault(word, len(numbers))
    return numbers


def numbers_by_zip(words):
    different = sorted(dict.fromkeys(words))
    return dict(zip(different, range(len(different)), strict=True))


def numbers_by_rank(words):
    return {word: len({other for other in words if other < word}) for word in words}


RIGHT = {
    MendSoftmax: [
        lambda scores: [math.exp(s) / sum(map(math.exp, scores)) for s in scores],
        lambda scores: torch.tensor(scores, dtype=torch.double).softmax(0).tolist(),
        lambda scores: [float(p) for p in np.exp(scores) / np.exp(scores).sum()],
    ],
    SameEveryTime: [
        numbers_by_loop,
        numbers_by_zip,
        numbers_by_rank,
    ],
    StableSoftmax: [lambda x, dim: x.softmax(dim), lambda x, dim: (x - x.amax(dim, True)).log_softmax(dim).exp(), loop_softmax],
    Attention: [einsum_attention, loop_attention, library_attention],
    Bigram: [bigram_by_index, bigram_by_bins, bigram_by_lists],
    Perplexity: [
        loop_perplexity,
        one_hot_perplexity,
        lambda logits, targets: math.exp(F.cross_entropy(logits.flatten(0, -2), targets.flatten()).item()),
    ],
    SentenceProbability: [words_by_cases, words_by_sum, lambda words: float(np.log(np.exp(words_by_sum(words))))],
    RotaryTurn: [complex_rotation, loop_rotation, matrix_rotation],
    PreNormBlock: [library_block, module_block, var_block],
    GatedFeedForward: [
        lambda x, to_gate, up, down: (F.silu(x @ to_gate) * (x @ up)) @ down,
        lambda x, to_gate, up, down: F.linear(F.silu(F.linear(x, to_gate.T)) * F.linear(x, up.T), down.T),
        lambda x, to_gate, up, down: torch.einsum("...h,...h,hc->...c", F.silu(x @ to_gate), x @ up, down),
    ],
    CountParameters: [
        count_by_layers,
        count_by_loop,
        lambda V, C, H, L, h, tied: V * C * (2 - tied) + L * (4 * C * C + 2 * C * h + h + 9 * C) + 2 * C,
    ],
    FitAboveTheFloor: [fit_by_polyfit, fit_by_lstsq, fit_by_covariance],
    ComputeOptimalSize: [
        lambda flops, A, alpha, B, beta: (
            n := ((alpha * A) / (beta * B) * (flops / 6) ** beta) ** (1 / (alpha + beta)), flops / 6 / n,
        ),
        lambda flops, A, alpha, B, beta: (
            math.exp((math.log(alpha * A / beta / B) + beta * math.log(flops / 6)) / (alpha + beta)),
            math.exp((math.log(beta * B / alpha / A) + alpha * math.log(flops / 6)) / (alpha + beta)),
        ),
        lambda C, A, a, B, b: tuple(
            float(v) for v in ((a * A / (b * B)) ** (s / (a + b)) * np.power(C / 6, e / (a + b)) for s, e in ((1, b), (-1, a)))
        ),
    ],
    Excess: [
        lambda p, true: float(np.mean(np.log(true) - np.log(p))),
        lambda p, true: sum(math.log(t / g) for g, t in zip(p, true, strict=True)) / len(p),
        lambda p, true: (torch.tensor(true, dtype=torch.double) / torch.tensor(p, dtype=torch.double)).log().mean().item(),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [pytest.param(e, a, id=f"{e.__name__}-{i}") for e, answers in RIGHT.items() for i, a in enumerate(answers)],
)
def test_a_right_answer_that_is_written_differently_passes(exercise, answer):
    feedback = exercise.check(answer)
    assert feedback.status == "correct", feedback


def test_there_are_enough_answers_of_both_kinds():
    assert len(FAILING) >= 15 and len(RIGHT) >= 10
    assert all(len(answers) >= 3 for answers in RIGHT.values())
