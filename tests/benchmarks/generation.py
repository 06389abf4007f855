"""Greedy generation of one text: the reference library with its cache, and the course with its own."""

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from llmcourse.generation import CompiledSteps, SamplingConfig, columns_first, generate
from llmcourse.models import GPT, GPT_2
from llmcourse.transformer import TransformerConfig
from tests.benchmarks import peers
from tests.benchmarks.measuring import OURS, Comparison, Contestant

SMALL = TransformerConfig(
    n_vocab=512, context=256, d_model=192, n_heads=6, n_layers=6, positions="learned", activation="gelu_tanh"
)


@cache
def model(shape: str) -> GPT:
    """Untrained: what is generated does not matter, only that all generate it."""
    torch.manual_seed(0)
    return GPT(SMALL if shape == "small" else GPT_2["small"]).eval()


@cache
def prompt() -> torch.Tensor:
    """Eight tokens."""
    return torch.randint(512, (1, 8), generator=torch.Generator().manual_seed(0))


def theirs(shape: str, n_new: int) -> Contestant:
    """`generate` of `transformers`."""
    reference = peers.transformers_gpt2(model(shape)).eval()

    def work() -> list[int]:
        told = {"attention_mask": torch.ones_like(prompt()), "pad_token_id": 0, "eos_token_id": None}
        return reference.generate(prompt(), max_new_tokens=n_new, do_sample=False, **told)[0].tolist()

    return Contestant(work=work, result=work)


def ours(
    shape: str,
    n_new: int,
    dtype: torch.dtype = torch.float32,
    prepared: Callable[[GPT], nn.Module] = lambda model: model,
) -> Contestant:
    """`llmcourse.generation.generate`; in 16 bits its tokens are its own."""
    writer = prepared(copy.deepcopy(model(shape)).to(dtype))

    def work() -> list[int]:
        return generate(writer, prompt(), n_new, SamplingConfig(temperature=0))[0].tolist()

    work()  # the first text makes a program, where one is asked for
    return Contestant(work=work, result=work if dtype == torch.float32 else None)


def reading(shape: str, n_new: int) -> Contestant:
    """The limit: every weight is read once a token."""
    weights = [weight for weight in model(shape).parameters() if weight.dim() == 2]

    def work() -> None:
        for _ in range(n_new):
            for weight in weights:
                weight.sum()

    return Contestant(work=work)


def small() -> Comparison:
    """A model whose time goes into many little operations."""
    compiled = {f"{OURS}, compiled": lambda: ours("small", 200, prepared=CompiledSteps)}
    goals = {OURS: 1.9, f"{OURS}, compiled": 2.5}
    return row("Generation, small GPT", "small", 200, 21, goals, compiled, ahead_of_all=True)


def large() -> Comparison:
    """A model whose time goes into reading its weights; our own form is the compiled one."""
    compiled = {
        f"{OURS}, compiled": lambda: ours("124m", 32, prepared=CompiledSteps),
        f"{OURS}, bfloat16, compiled": lambda: ours("124m", 32, torch.bfloat16, CompiledSteps),
    }
    goals = {f"{OURS}, compiled": 1.6, f"{OURS}, bfloat16, compiled": 2.3}
    return row("Generation, GPT-2's shape of 124 million", "124m", 32, 5, goals, compiled)


def row(
    title: str,
    shape: str,
    n_new: int,
    rounds: int,
    goals: dict[str, float],
    more: dict[str, Callable[[], Contestant]],
    *,
    ahead_of_all: bool = False,
) -> Comparison:
    """One shape of model."""
    return Comparison(
        title=title,
        unit=f"{n_new} tokens, batch 1, greedy",
        reference="transformers",
        contestants={
            "transformers": lambda: theirs(shape, n_new),
            OURS: lambda: ours(shape, n_new),
            f"{OURS}, columns first": lambda: ours(shape, n_new, prepared=columns_first),
            f"{OURS}, bfloat16": lambda: ours(shape, n_new, torch.bfloat16),
            **more,
            "reading the weights": lambda: reading(shape, n_new),
        },
        goals=goals,
        ahead_of_all=ahead_of_all,
        rounds=rounds,
    )


ROWS = {"generation": small(), "generation-124m": large()}
