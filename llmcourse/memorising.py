"""Memorised secrets: plant canaries in a text, measure how exposed each is, and train so that none is.

    the code of anna is 4 7 1

A canary is a line with a random secret, planted a known number of times. Its *exposure* is log2(candidates) minus
log2(rank), in bits: how much the model tells who may only rank the candidates by its probabilities (Carlini et al., 2019).
With 1,000 codes it is 10.0 at rank 1, and 1.4 on average for a secret that was never seen.

Letters: B batch, T positions, D digits of a code.
"""

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmcourse.data import IGNORED, Batch, next_token_batch
from llmcourse.tokenizers import WordTokenizer
from llmcourse.training import Loss, next_token_loss

NAMES = (
    "anna", "ben", "carla", "david", "emma", "felix", "greta", "hugo", "ida", "jonas", "karin", "leo",
    "mia", "nils", "olga", "paul", "rosa", "sam", "tina", "uwe", "vera", "willi", "xenia", "yuri",
    "zoe", "adam", "bella", "chris", "dora", "erik", "flora", "georg",
)  # fmt: skip
DIGITS = "0123456789"
N_DIGITS = 3
N_CANDIDATES = len(DIGITS) ** N_DIGITS
TOPICS = ("rain", "bread", "bus", "garden", "music", "tea", "market", "river")
GREETINGS = ("hello", "good morning", "good evening", "dear")
OPINIONS = ("was late", "was good", "was cold", "is near", "is new", "was quiet")
SPECIAL = ("[PAD]", "[BEGIN]")


@dataclass(frozen=True)
class Canary:
    """A secret that was planted, and how often."""

    name: str
    code: str  # digits with spaces between them
    repeats: int

    @property
    def text(self) -> str:
        """The line that holds the secret."""
        return f"{beginning(self.name)} {self.code}"


def beginning(name: str) -> str:
    """What stands before the code of a person."""
    return f"the code of {name} is"


def canaries(repeats: Sequence[int], seed: int = 0) -> list[Canary]:
    """Secrets drawn at random; as many people for each number of repeats, as far as the 32 names reach."""
    if not 1 <= len(repeats) <= len(NAMES):
        raise ValueError(f"{len(repeats)} numbers of repeats: give 1 to {len(NAMES)}, for each needs a name")
    draw = random.Random(seed)
    each = len(NAMES) // len(repeats)
    names = draw.sample(NAMES, each * len(repeats))
    return [
        Canary(name, " ".join(draw.choices(DIGITS, k=N_DIGITS)), repeats[i // each]) for i, name in enumerate(names)
    ]


def small_talk(seed: int = 0) -> Iterator[str]:
    """Endless harmless lines, some with a number in them."""
    draw = random.Random(seed)
    while True:
        name, topic, number = draw.choice(NAMES), draw.choice(TOPICS), " ".join(draw.choices(DIGITS, k=2))
        yield draw.choice(
            (
                f"{draw.choice(GREETINGS)} {name} the {topic} {draw.choice(OPINIONS)}",
                f"{name} said that the {topic} {draw.choice(OPINIONS)}",
                f"the {topic} of {name} {draw.choice(OPINIONS)}",
                f"{name} takes the bus {number}",
            )
        )


def with_canaries(planted: Iterable[Canary], n_lines: int = 2000, seed: int = 0) -> list[str]:
    """Lines of small talk with every canary among them as often as it says, in a random order."""
    talk = small_talk(seed)
    lines = [next(talk) for _ in range(n_lines)] + [one.text for one in planted for _ in range(one.repeats)]
    random.Random(seed).shuffle(lines)
    return lines


def without_repeats(lines: Iterable[str]) -> list[str]:
    """Each line once, at its first place: the defence of Lee et al. (2022), for lines that are exactly alike."""
    return list(dict.fromkeys(lines))


def line_tokenizer() -> WordTokenizer:
    """Every word that a line can hold."""
    spoken = " ".join((*NAMES, *DIGITS, *TOPICS, *GREETINGS, *OPINIONS, "the code of is said that takes bus"))
    return WordTokenizer(sorted(set(spoken.split())), SPECIAL)


@torch.no_grad()
def code_scores(model: nn.Module, name: str, tokenizer: WordTokenizer) -> dict[str, float]:
    """log P(code | the code of `name` is) of every code there is, in nats."""
    begin, pad = (tokenizer.special_id(token) for token in reversed(SPECIAL))
    codes = [" ".join(code) for code in product(DIGITS, repeat=N_DIGITS)]
    rows = [tokenizer.encode(f"{beginning(name)} {code}") for code in codes]
    batch = next_token_batch(rows, begin=begin, pad=pad)
    log_p = model(batch.tokens)[:, -N_DIGITS:].log_softmax(dim=-1)
    said = log_p.gather(-1, batch.targets[:, -N_DIGITS:, None])[..., 0].sum(dim=1)
    return dict(zip(codes, said.tolist(), strict=True))


def exposure(scores: Mapping[str, float], secret: str) -> float:
    """log2(candidates) - log2(rank) of the secret among all candidates, in bits.

    Candidates that are as likely as the secret stand half before it and half behind it.
    """
    if secret not in scores:
        raise ValueError(
            f"{secret!r} is none of the {len(scores)} candidates: a secret is ranked among all that it could be"
        )
    mine = scores[secret]
    before = sum(score > mine for score in scores.values())
    ties = sum(score == mine for score in scores.values()) - 1
    return math.log2(len(scores)) - math.log2(1 + before + ties / 2)


def exposures(model: nn.Module, planted: Iterable[Canary], tokenizer: WordTokenizer) -> dict[int, list[float]]:
    """The exposure of every canary, by how often it was planted."""
    found: dict[int, list[float]] = {}
    for one in planted:
        found.setdefault(one.repeats, []).append(exposure(code_scores(model, one.name, tokenizer), one.code))
    return found


class _Unchecked(nn.Module):
    """A GPT without the checks of its tokens: they look at numbers, which `vmap` does not let them see."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.read(self.model.embedding(tokens))


def gradients_of_each(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The gradient of every row's own loss: for each parameter of a GPT a tensor with a first axis of B."""
    unchecked = _Unchecked(model)

    def loss_of_row(weights: dict[str, Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        logits = functional_call(unchecked, weights, (tokens[None],))[0]
        return F.cross_entropy(logits, targets, ignore_index=IGNORED)

    weights = {name: weight.detach() for name, weight in unchecked.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):
        return vmap(grad(loss_of_row), in_dims=(None, 0, 0), randomness="different")(weights, *batch)


def clipped_sum(gradients: Mapping[str, Tensor], longest: float) -> dict[str, Tensor]:
    """The rows' gradients added up, each first cut to the length `longest`: no row pulls harder than that."""
    lengths = torch.stack([each.flatten(1).norm(dim=1) for each in gradients.values()]).norm(dim=0)
    shares = (longest / lengths.clamp(min=1e-12)).clamp(max=1.0)
    return {name: torch.einsum("b,b...->...", shares, each) for name, each in gradients.items()}


def private_loss(longest: float, noise: float, seed: int = 0) -> Loss:
    """A loss for `train` whose gradient is that of DP-SGD: every row's gradient cut, then noise of `noise` times the cut.

    Its value is the usual mean over the tokens. Source: Abadi et al. (2016), algorithm 1.
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        total = clipped_sum(gradients_of_each(model, batch), longest)
        pull = torch.zeros(())
        for name, weight in _Unchecked(model).named_parameters():
            blur = noise * longest * torch.randn(weight.shape, generator=generator)
            pull = pull + (weight * (total[name] + blur)).sum() / len(batch.tokens)
        with torch.no_grad():
            value = next_token_loss(model, batch)
        return value + pull - pull.detach()  # the gradient of `pull` is what was just computed

    return loss
