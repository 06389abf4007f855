"""How cost grows with size: seconds at several sizes, and the exponent of the power law through them.

The exponent is a slope between the smallest and the largest sizes measured, not a law for all sizes: a step whose cost is
a·T + b·T² has an exponent between 1 and 2, which nears 2 as T grows. Where a constant part outweighs all
else, the slope only says so; what grows beyond the smallest size is then measured.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch

from llmcourse.data import Batch
from llmcourse.generation import SamplingConfig, generate
from llmcourse.models import GPT
from llmcourse.tokenizers.bpe import BYTES, BPETokenizer
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig
from tests.benchmarks.measuring import rounded
from tests.benchmarks.texts import sources
from tests.timing import seconds_of


def exponent(sizes: Sequence[float], seconds: Sequence[float], *, beyond_smallest: bool = False) -> float:
    """The slope of the straight line through the logarithms, by least squares.

    beyond_smallest: of what the other sizes and seconds have more than the first, so that a constant part falls out. NaN
        when one of them took no longer.
    """
    sizes, seconds = np.asarray(sizes), np.asarray(seconds)
    if beyond_smallest:
        sizes, seconds = sizes[1:] - sizes[0], seconds[1:] - seconds[0]
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]) if (seconds > 0).all() else math.nan


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One quantity of the course, made larger."""

    title: str
    size: str  # what grows, with its unit
    law: str  # what is expected, and why
    expected: tuple[float, float]  # between which the exponent must lie
    sizes: tuple[int, ...]
    make: Callable[[int], Callable[[], object]]  # of a size, the work
    beyond_smallest: bool = False  # whether a constant part is left out: see `exponent`
    rounds: int = 3

    def run(self, *, short: bool = False) -> dict:
        """Median processor time at each size, round by round over all sizes."""
        works = [self.make(size) for size in self.sizes]
        for work in works:
            work()
        times = [[seconds_of(work) for work in works] for _ in range(1 if short else self.rounds)]
        seconds = [statistics.median(column) for column in zip(*times, strict=True)]
        return {
            "kind": "growth",
            "title": self.title,
            "size": self.size,
            "law": self.law,
            "expected": list(self.expected),
            "sizes": list(self.sizes),
            "processor": [rounded(one) for one in seconds],
            "beyond_smallest": self.beyond_smallest,
            "exponent": round(exponent(self.sizes, seconds, beyond_smallest=self.beyond_smallest), 2),
        }


def small(**choices: int) -> GPT:
    """A GPT of two layers."""
    torch.manual_seed(0)
    return GPT(TransformerConfig(**({"n_vocab": 256, "context": 128, "d_model": 64, "n_heads": 4} | choices)))


def step(model: GPT, T: int, B: int) -> Callable[[], object]:
    """A training step."""
    tokens = torch.randint(256, (B, T + 1))
    batches = repeat(Batch(tokens[:, :-1], tokens[:, 1:]))
    steps = train(model, batches, next_token_loss, TrainConfig(steps=10**6, rate=1e-5))
    return lambda: next(steps)


def writing(n_new: int) -> Callable[[], object]:
    """Generating so many tokens."""
    model, prompt = small(context=2048), torch.zeros(1, 1, dtype=torch.long)
    return lambda: generate(model, prompt, n_new, SamplingConfig(seed=0))


ROWS = {
    "growth-context": Growth(
        title="A training step, by context",
        size="tokens in a row, batch 4",
        law="a·T + b·T²: the linear layers grow with T, attention's scores with its square",
        expected=(1.0, 2.0),
        sizes=(128, 256, 512, 1024, 2048),
        make=lambda T: step(small(context=T), T, 4),
    ),
    "growth-width": Growth(
        title="A training step, by width",
        size="d, the width of the stream",
        law="a·d + b·d²: norms and attention grow with d, the matrices with its square",
        expected=(1.0, 2.0),
        sizes=(64, 128, 256, 512, 1024),
        make=lambda d: step(small(d_model=d), 64, 4),
    ),
    "growth-vocabulary": Growth(
        title="A training step, by vocabulary",
        size="tokens in the vocabulary",
        law="a + b·V: the last layer and its softmax grow with V, the blocks do not",
        expected=(0.5, 1.1),
        sizes=(1024, 4096, 16384, 65536),
        make=lambda V: step(small(n_vocab=V), 64, 4),
    ),
    "growth-writing": Growth(
        title="Generating, by length",
        size="tokens written",
        law="a·n + b·n²: with a cache each token costs a step, and attention reads all before it; a far outweighs b here",
        expected=(0.9, 1.5),
        sizes=(64, 128, 256, 512, 1024),
        make=writing,
    ),
    "growth-text": Growth(
        title="BPE, by text",
        size="characters learnt from, 512 merges",
        law="a·n + b·w: the text is read once, and merges touch its w different words, which grow more slowly (Heaps' law)",
        expected=(0.6, 1.1),
        sizes=(250_000, 500_000, 1_000_000, 2_000_000, 4_000_000),
        make=lambda n: lambda: BPETokenizer.train(sources(4_000_000)[:n], len(BYTES) + 512),
    ),
    "growth-merges": Growth(
        title="BPE, by merges",
        size="merges learnt, from a million characters",
        law="below linear: later merges are rarer, and touch fewer words",
        expected=(0.0, 0.9),
        sizes=(128, 512, 2048, 8192),
        make=lambda m: lambda: BPETokenizer.train(sources(1_000_000), len(BYTES) + m),
    ),
}
