"""Greedy generation of one text: the reference library with its cache, and the course with its own."""

import copy
from functools import cache

import torch

from llmcourse.generation import SamplingConfig, generate
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


def ours(shape: str, n_new: int, dtype: torch.dtype = torch.float32) -> Contestant:
    """`llmcourse.generation.generate`; in 16 bits its tokens are its own."""
    writer = model(shape) if dtype == torch.float32 else copy.deepcopy(model(shape)).to(dtype)

    def work() -> list[int]:
        return generate(writer, prompt(), n_new, SamplingConfig(temperature=0))[0].tolist()

    return Contestant(work=work, result=work if dtype == torch.float32 else None)


def reading(shape: str, n_new: int) -> Contestant:
    """The limit: every weight is read once a token."""
    weights = [weight for weight in model(shape).parameters() if weight.dim() == 2]

    def work() -> None:
        for _ in range(n_new):
            for weight in weights:
                weight.sum()

    return Contestant(work=work)


def row(title: str, shape: str, n_new: int, rounds: int, goals: dict[str, float]) -> Comparison:
    """One shape of model."""
    return Comparison(
        title=title,
        unit=f"{n_new} tokens, batch 1, greedy",
        reference="transformers",
        contestants={
            "transformers": lambda: theirs(shape, n_new),
            OURS: lambda: ours(shape, n_new),
            f"{OURS}, bfloat16": lambda: ours(shape, n_new, torch.bfloat16),
            "reading the weights": lambda: reading(shape, n_new),
        },
        goals=goals,
        ahead_of_all=True,
        rounds=rounds,
    )


ROWS = {
    "generation": row("Generation, small GPT", "small", 200, 7, {OURS: 1.9}),
    "generation-124m": row(
        "Generation, GPT-2's shape of 124 million", "124m", 32, 5, {OURS: 1.6, f"{OURS}, bfloat16": 2.3}
    ),
}
