"""Processor time to the same validation loss: GPT-2's recipe, and what has been found since.

Both have about 0.8 million parameters, read the same batches of characters of one million, and are judged on text that
neither saw. The first recipe is given its whole time; the second is timed until it is as good.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice

import torch
from torch import Tensor

from llmcourse.data import random_windows, split, windows_in_order
from llmcourse.models import GPT
from llmcourse.tokenizers import CharTokenizer
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig
from tests.benchmarks.measuring import rounded
from tests.benchmarks.texts import prose, sources
from tests.timing import seconds_of

CHARACTERS, CONTEXT, BATCH = 1_000_000, 128, 32
SIZES = {"context": CONTEXT, "d_model": 128, "n_heads": 4, "n_layers": 4}
Curve = list[tuple[float, float]]  # (processor seconds of training so far, validation loss in nats a character)

# Radford et al. (2019) as it is commonly trained at small sizes: AdamW at 0.001, cosine, weight decay 0.1.
GPT_2 = (
    {"positions": "learned", "activation": "gelu_tanh", "tied": True},
    {"rate": 1e-3, "schedule": "cosine", "final_rate": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "warm_up": 100},
)
# Rotary positions, normalised queries and keys, RMSNorm, squared ReLU; Muon, a trapezoid, products in 16 bits.
MODERN = (
    {"positions": "rotary", "activation": "relu2", "norm": "rms", "qk_norm": True, "bias": False},
    {"rate": 1e-2, "schedule": "trapezoid", "fall": 0.4, "optimiser": "muon", "warm_up": 20, "precision": "bfloat16"},
)


@cache
def corpus(name: str) -> tuple[Tensor, Tensor, int]:
    """Training text, validation text, and the size of the vocabulary."""
    text = {"prose": prose, "programs": sources}[name](CHARACTERS)
    tokenizer = CharTokenizer.train(text)
    train_on, judge_on = split(torch.tensor(tokenizer.encode(text)))
    return train_on, judge_on, len(tokenizer)


@torch.no_grad()
def judged(model: GPT, tokens: Tensor) -> float:
    """The mean loss on text that was not trained on."""
    batches = windows_in_order(tokens[: 32 * CONTEXT * 8 + 1], CONTEXT, BATCH)
    model.eval()
    return statistics.fmean(next_token_loss(model, batch).item() for batch in batches)


def curve(name: str, recipe: tuple[dict, dict], seed: int, budget: float, enough: float = 0.0) -> Curve:
    """Train for so many seconds, or until the loss is low enough; judging is not counted."""
    train_on, judge_on, n_vocab = corpus(name)

    def begun(steps: int) -> tuple[GPT, Iterable]:
        torch.manual_seed(seed)
        model = GPT(TransformerConfig(n_vocab=n_vocab, **SIZES, **recipe[0]))
        config = TrainConfig(steps=steps, **recipe[1])
        return model, train(model, random_windows(train_on, CONTEXT, BATCH, seed=seed), next_token_loss, config)

    trial = begun(10**6)[1]
    next(trial)
    steps = max(20, round(budget / statistics.median(seconds_of(lambda: next(trial)) for _ in range(5))))
    model, stream = begun(steps)
    spent, points, every = 0.0, [], max(1, steps // 20)
    for done in range(0, steps, every):
        spent += seconds_of(partial(list, islice(stream, min(every, steps - done))))
        points.append((rounded(spent), round(judged(model, judge_on), 4)))
        if points[-1][1] <= enough:
            break
    return points


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Both recipes on one corpus, with several seeds."""

    corpus: str
    goal: float = 6.0
    budget: float = 140.0  # processor seconds of the first recipe
    share: float = 1 / 7  # of that, what the second plans its schedule for
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def title(self) -> str:
        """What is learnt."""
        return f"Learning {self.corpus}"

    def run(self, *, short: bool = False) -> dict:
        """The curves of all seeds, and how many times sooner the second recipe is as good as the first at its end."""
        runs: list[dict] = []
        for seed in self.seeds[:1] if short else self.seeds:
            old = curve(self.corpus, GPT_2, seed, self.budget / 4 if short else self.budget)
            new = curve(self.corpus, MODERN, seed, old[-1][0] * self.share, old[-1][1])
            reached = new[-1][1] <= old[-1][1]
            runs.append({"GPT-2": old, "modern": new, "ratio": round(old[-1][0] / new[-1][0], 2) if reached else None})
        found = [run["ratio"] for run in runs]
        mean = round(statistics.fmean(found), 2) if None not in found else None
        return {"kind": "learning", "title": self.title, "goal": self.goal, "ratio": mean, "runs": runs}


ROWS: dict[str, Learning] = {f"learning-{name}": Learning(corpus=name) for name in ("prose", "programs")}
