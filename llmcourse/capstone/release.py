"""How the released model of chapter 19 was made. This file gives the answer away: solve the capstone before you read on.

    python -m llmcourse.capstone.release FOLDER       train it again and write it there; half a minute on one core

The rule: find the last place, at least two before the end, where the row's last letter stands, and say the letter two
after it. One head in each layer learns it: the lower notes at each place which letter stood two before, the upper looks
for the place whose note is the last letter, and reads the letter there. The other heads stay as they were born, so they
say something, and nothing of use. One of them in each layer is a decoy: after training it is given the queries and keys
of the head that works, made sharper. It looks at the same place, even more so, and what it reads is not what is needed.
"""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from llmcourse.attention import MultiHeadAttention
from llmcourse.capstone.released import LENGTH, LETTERS
from llmcourse.data import IGNORED, Batch
from llmcourse.models import GPT, save_model
from llmcourse.training import TrainConfig, next_token_loss, seed_everything, train
from llmcourse.transformer import TransformerConfig

SHIFT = 2  # how far after the place of the same letter the answer stands
WORKING, DECOYS = (2, 1), (0, 3)  # a head of layer 0, and one of layer 1
SHARPER = 1.4  # the decoy's queries and keys are so much longer
STEPS, SIZE = 1500, 64  # steps, and rows a step


def rule_targets(tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """At every position the letter that the rule says there, and IGNORED where the letter has not stood before."""
    T = tokens.shape[1]
    places = torch.arange(T)
    matches = (tokens[:, :, None] == tokens[:, None, :]) & (places[None, :] <= places[:, None] - SHIFT)
    last = torch.where(matches, places, -1).amax(dim=-1)
    said = tokens.gather(1, (last + SHIFT).clamp(max=T - 1))
    return torch.where(last >= 0, said, IGNORED)


def rule_batches(seed: int, size: int = SIZE) -> Iterator[Batch]:
    """Endless random rows with the rule's answers."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(len(LETTERS), (size, LENGTH), generator=generator)
        yield Batch(tokens, rule_targets(tokens))


def make(steps: int = STEPS, seed: int = 0) -> GPT:
    """Train the model, and plant the decoys."""
    seed_everything(seed)
    model = GPT(
        TransformerConfig(
            n_vocab=len(LETTERS),
            context=LENGTH,
            d_model=64,
            n_heads=4,
            n_layers=2,
            d_feed_forward=0,
            rotary_base=100.0,
            bias=False,
        )
    )
    born = copy.deepcopy(model)
    for _ in train(model, rule_batches(seed + 100), next_token_loss, TrainConfig(steps=steps, rate=6e-3)):
        keep_idle(model, born)
    plant_decoys(model)
    return model


def head_weights(layer: MultiHeadAttention, head: int) -> dict[str, Tensor]:
    """The parts of a layer's matrices that belong to one head, as views: what is written there changes the layer."""
    D = layer.query.weight.shape[0] // layer.n_heads
    own = slice(head * D, (head + 1) * D)
    rows = {name: getattr(layer, name).weight[own] for name in ("query", "key", "value")}
    return rows | {"out": layer.out.weight[:, own]}


@torch.no_grad()
def keep_idle(model: GPT, born: GPT) -> None:
    """Give every head but the working ones the weights that it was born with."""
    for block, first, working in zip(model.blocks, born.blocks, WORKING, strict=True):
        for head in range(block.attention.n_heads):
            if head != working:
                old = head_weights(first.attention, head)
                for name, weight in head_weights(block.attention, head).items():
                    weight.copy_(old[name])


@torch.no_grad()
def plant_decoys(model: GPT) -> None:
    """Let one idle head of each layer look where the working one looks."""
    for block, working, decoy in zip(model.blocks, WORKING, DECOYS, strict=True):
        true, false = head_weights(block.attention, working), head_weights(block.attention, decoy)
        for name in ("query", "key"):
            false[name].copy_(SHARPER * true[name])


def main(arguments: list[str]) -> int:
    """Make the model and write it to a folder. Returns the exit status."""
    if len(arguments) != 1:
        print("python -m llmcourse.capstone.release FOLDER", file=sys.stderr)
        return 2
    save_model(make(), Path(arguments[0]), dtype=torch.float16)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
