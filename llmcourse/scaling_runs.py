"""The runs behind chapter 18's scaling laws: one small model after the other on `zipf`, and how far each stays above the floor.

    python -m llmcourse.scaling_runs                  the stored results
    python -m llmcourse.scaling_runs FILE             train all of them again and write FILE; more than an hour on one core

Two texts: 512 words, for models of 4 to 30 thousand parameters (and one of 85, to which the law is not fitted), and 4,096
words, for those of 34 thousand to a million.

A loss on a sample is off by how surprising that sample happened to be. So each run reports its *excess*: its mean loss less
what the chain itself says of the same words. Source of the width as what limits a small model: its matrix of logits has no
higher rank (Yang et al., 2018).
"""

import math
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from llmcourse.corpora.zipf import ZipfChain
from llmcourse.data import Batch
from llmcourse.evaluation import mean_loss
from llmcourse.files import read_text, write_atomically
from llmcourse.models import GPT, count_parameters
from llmcourse.training import TrainConfig, next_token_loss, seed_everything, train
from llmcourse.transformer import TransformerConfig

STORED = Path(__file__).with_suffix(".toml")
LENGTH, BATCH = 32, 32  # words a row, and rows a step
STEPS = 1500
WIDTHS = (6, 8, 12, 16, 24, 32)  # the sizes that the law is fitted to
SEEDS = (0, 1, 2)
BEYOND = ((64, 750), (64, 1500), (64, 4500))  # widths and steps at which training is what limits
SHORTER = (375, 750)  # steps at which the sizes of the law are measured too, with the first seed
LARGE_TEXT = 4096  # words, for the models up to a million parameters
LARGE_WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 168)
WORDS_A_PARAMETER = 12  # how many words a large model sees for each of its parameters, and never fewer than the others
TEST_ROWS = 512


class Run(NamedTuple):
    """One trained model."""

    n_words: int  # of the text's vocabulary
    width: int
    parameters: int
    steps: int
    seed: int
    excess: float  # nats a word above the floor

    @property
    def words_seen(self) -> int:
        """How long the text was that it has been trained on, in words."""
        return self.steps * BATCH * LENGTH


def model_of(width: int, n_words: int) -> GPT:
    """One layer, with the embedding for its output too: nearly all of its parameters are the words' own rows."""
    config = TransformerConfig(
        n_vocab=n_words, context=LENGTH, d_model=width, n_heads=max(1, width // 8), n_layers=1,
        positions="learned", bias=False, tied=True,
    )  # fmt: skip
    return GPT(config)


def batches(chain: ZipfChain, seed: int) -> Iterator[Batch]:
    """Fresh text without end: no run sees a row twice."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        words = chain.sample(BATCH, LENGTH + 1, generator)
        yield Batch(words[:, :-1], words[:, 1:])


def excess(model: nn.Module, chain: ZipfChain) -> float:
    """Nats a word above what the chain itself says of the same test rows."""
    words = chain.sample(TEST_ROWS, LENGTH + 1, torch.Generator().manual_seed(10_000))
    return mean_loss(model, [Batch(words[:, :-1], words[:, 1:])]) + chain.log_probabilities(words).mean().item()


def run(width: int, steps: int = STEPS, seed: int = 0, n_words: int = 512) -> Run:
    """Train and measure one model."""
    chain = _chain(n_words)
    seed_everything(seed)
    model = model_of(width, chain.n_words)
    rate = min(0.01, 0.06 / math.sqrt(width))
    config = TrainConfig(steps=steps, rate=rate, final_rate=0.02, weight_decay=0.0)
    for _ in train(model, batches(chain, seed + 1), next_token_loss, config):
        pass
    return Run(n_words, width, count_parameters(model), steps, seed, excess(model, chain))


@cache
def _chain(n_words: int) -> ZipfChain:
    return ZipfChain(n_words)


@cache
def stored() -> tuple[Run, ...]:
    """The results of all runs, as `python -m llmcourse.scaling_runs FILE` wrote them."""
    return tuple(Run(**one) for one in tomllib.loads(read_text(STORED))["run"])


def steps_for(width: int) -> int:
    """How many steps a model of the large text is trained for: in proportion to its parameters."""
    parameters = count_parameters(model_of(width, LARGE_TEXT))
    return max(STEPS, round(WORDS_A_PARAMETER * parameters / (BATCH * LENGTH)))


def plan() -> list[tuple[int, int, int, int]]:
    """(width, steps, seed, n_words) of every stored run."""
    law = [(width, STEPS, seed, 512) for seed in SEEDS for width in WIDTHS]
    shorter = [(width, steps, SEEDS[0], 512) for steps in SHORTER for width in WIDTHS]
    beyond = [(width, steps, SEEDS[0], 512) for width, steps in BEYOND]
    return [*law, *shorter, *beyond, *((width, steps_for(width), SEEDS[0], LARGE_TEXT) for width in LARGE_WIDTHS)]


def as_toml(runs: tuple[Run, ...]) -> str:
    """The runs as the file holds them."""
    entries = ["\n".join(["[[run]]", *(f"{name} = {value}" for name, value in one._asdict().items())]) for one in runs]
    head = "# Chapter 18's runs, written by: python -m llmcourse.scaling_runs llmcourse/scaling_runs.toml"
    return "\n\n".join([head, *entries]) + "\n"


def main(arguments: list[str]) -> None:
    """Show what is stored, or make it again."""
    if not arguments:
        print(as_toml(stored()))
        return
    done = tuple(one._replace(excess=round(one.excess, 4)) for one in (run(*settings) for settings in plan()))
    write_atomically(arguments[0], as_toml(done).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
