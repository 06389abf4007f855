"""Attention alone, and what it costs to watch it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from llmcourse.attention import attention_weights, causal_mask, scaled_dot_product_attention
from llmcourse.recording import record_attention
from tests.benchmarks.measuring import OURS, Comparison, Contestant
from tests.benchmarks.training import batch, gpt

HEADS, D = 6, 32


def heads(T: int, dtype: torch.dtype, n: int = 3, B: int = 1) -> list[Tensor]:
    """Queries, keys, values, and as many more of the same shape, as the layers give them."""
    made = torch.Generator().manual_seed(0)
    return [
        torch.randn(B, T, HEADS, D, generator=made).to(dtype).transpose(1, 2).detach().requires_grad_()
        for _ in range(n)
    ]


def contestant(attend: Callable, T: int, dtype: torch.dtype, trains: bool, B: int) -> Contestant:
    """One way to attend, forwards, or forwards and backwards."""
    (query, key, value, above), mask = heads(T, dtype, 4, B), causal_mask(T)

    def work() -> Tensor:
        with torch.set_grad_enabled(trains):
            read = attend(query, key, value, mask)
        if trains:
            read.backward(above.detach())
        return read.detach().float()

    return Contestant(work=work, result=work)


WAYS = {
    "written out": lambda query, key, value, mask: attention_weights(query, key, mask) @ value,
    "kernel with a mask": lambda query, key, value, mask: F.scaled_dot_product_attention(query, key, value, mask),
    "kernel told it is causal": lambda query, key, value, mask: F.scaled_dot_product_attention(
        query, key, value, is_causal=True
    ),
    OURS: scaled_dot_product_attention,
}


def row(T: int, dtype: torch.dtype = torch.float32, trains: bool = False, B: int = 1, rounds: int = 7) -> Comparison:
    """All ways at one length."""
    kind = str(dtype).removeprefix("torch.")
    return Comparison(
        title=f"Attention, T={T}, {kind}, " + ("training" if trains else "forwards"),
        unit=f"{HEADS} heads of width {D}, batch {B}, causal",
        reference="written out",
        contestants={
            name: lambda attend=attend: contestant(attend, T, dtype, trains, B) for name, attend in WAYS.items()
        },
        tolerance=1e-4 if dtype == torch.float32 else 0.1,
        rounds=rounds,
    )


def watched(watch: bool) -> Contestant:
    """A pass through the model, with or without someone who collects all its attention."""
    model = gpt().eval()

    @torch.no_grad()
    def work() -> Tensor:
        if not watch:
            return model(batch().tokens)
        with record_attention(model):
            return model(batch().tokens)

    return Contestant(work=work, result=work)


ROWS = {
    "attention-128-bfloat16": row(128, torch.bfloat16, trains=True, B=8),
    "attention-1024": row(1024),
    "attention-4096": row(4096, rounds=3),
    "attention-4096-training": row(4096, trains=True, rounds=3),
    "watching": Comparison(
        title="Watching all heads",
        unit="a pass through the small GPT, T=128, batch 32",
        reference="not watched",
        contestants={"not watched": lambda: watched(False), "watched": lambda: watched(True)},
        tolerance=0.0,
    ),
}
