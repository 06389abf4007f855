"""One training step of a small GPT: forwards, backwards, clip, AdamW. All contestants take the same fused AdamW."""

import copy
from collections.abc import Callable
from functools import cache, partial
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.data import Batch
from llmcourse.models import GPT
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig
from tests.benchmarks import peers
from tests.benchmarks.measuring import OURS, Comparison, Contestant

V, T, B, C, LAYERS, HEADS = 65, 128, 32, 192, 6, 6
RATE = 1e-5  # so small that the loss of later rounds is nearly that of the first


@cache
def gpt(positions: str = "learned", bias: bool = False, activation: str = "gelu") -> GPT:
    """The course's model, whose weights all contestants get."""
    torch.manual_seed(0)
    sizes = {"n_vocab": V, "context": T, "d_model": C, "n_heads": HEADS, "n_layers": LAYERS}
    return GPT(TransformerConfig(**sizes, positions=positions, bias=bias, activation=activation))


@cache
def batch() -> Batch:
    """The rows that every step sees."""
    tokens = torch.randint(V, (B, T + 1), generator=torch.Generator().manual_seed(0))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def ours(model: GPT, batches: object = None, loss: Callable = next_token_loss, **choices: object) -> Contestant:
    """The step of `llmcourse.training.train`."""
    model, batches = copy.deepcopy(model), repeat(batch() if batches is None else batches)
    config = TrainConfig(steps=10**6, rate=RATE, warm_up=0, schedule="constant", **choices)
    steps = train(model, batches, loss, config)
    return Contestant(work=lambda: next(steps), result=lambda: next(steps).loss)


def theirs(model: nn.Module, loss: Callable[[nn.Module], Tensor] | None = None) -> Contestant:
    """The same step, written out for any model."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    def plain(model: nn.Module) -> Tensor:
        return F.cross_entropy(model(batch().tokens).flatten(0, 1), batch().targets.flatten())

    def step() -> float:
        optimiser.zero_grad()
        value = (loss or plain)(model)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimiser.step()
        return value.item()

    return Contestant(work=step, result=step)


def products() -> Contestant:
    """The limit: the matrix products of the step alone, three for each layer, without attention's."""
    shapes = ([(C, C)] * 4 + [(C, 4 * C), (4 * C, C)]) * LAYERS + [(C, V)]
    pairs = [(torch.randn(B * T, a), torch.randn(a, b)) for a, b in shapes]

    def work() -> None:
        for x, weight in pairs:
            y = x @ weight
            y @ weight.T, x.T @ y

    return Contestant(work=work)


UNIT = f"a training step: {LAYERS} layers, d={C}, T={T}, batch {B}"
ROWS = {
    "training": Comparison(
        title="GPT, learned positions",
        unit=UNIT,
        reference="x-transformers",
        contestants={
            "x-transformers": lambda: theirs(peers.x_transformer(gpt())),
            "torch.nn.TransformerEncoder": lambda: theirs(peers.TorchGPT(gpt())),
            OURS: lambda: ours(gpt()),
            f"{OURS}, bfloat16": lambda: ours(gpt(), precision="bfloat16"),
            "matrix products alone": products,
        },
        goals={OURS: 1.0, f"{OURS}, bfloat16": 1.6},
        ahead_of_all=True,
        tolerance=2e-3,  # bfloat16 has 8 bits
    ),
    "training-rotary": Comparison(
        title="GPT, rotary positions",
        unit=UNIT,
        reference="litgpt",
        contestants={
            "litgpt": lambda: theirs(peers.lit_gpt(gpt("rotary", True))),
            OURS: lambda: ours(gpt("rotary", True)),
        },
        goals={OURS: 1.0},
        ahead_of_all=True,
    ),
    "training-gpt2": Comparison(
        title="GPT-2, the same activation",
        unit=UNIT,
        reference="transformers, sdpa",
        contestants={
            "transformers, sdpa": lambda: theirs(peers.logits_of(peers.transformers_gpt2(gpt2()))),
            "transformers, eager": lambda: theirs(peers.logits_of(peers.transformers_gpt2(gpt2(), "eager"))),
            OURS: lambda: ours(gpt2()),
        },
        goals={OURS: 1.2},
        ahead_of_all=True,
    ),
    "training-compiled": Comparison(
        title="GPT, compiled",
        unit=UNIT,
        reference="x-transformers",
        contestants={
            "x-transformers": lambda: theirs(peers.x_transformer(gpt())),
            f"{OURS}, compiled": lambda: ours(gpt(), compiled=True),
            f"{OURS}, bfloat16, compiled": lambda: ours(gpt(), precision="bfloat16", compiled=True),
        },
        goals={f"{OURS}, bfloat16, compiled": 1.9},
        tolerance=2e-3,
    ),
}
gpt2 = partial(gpt, bias=True, activation="gelu_tanh")
