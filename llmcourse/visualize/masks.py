"""Masks and what follows from them: a grid to paint on, and which output can then be affected by which input.

A position passes its news on in two ways: by attention, to whoever may look at it, and along the residual stream, to
itself. What can reach what after L layers is therefore a power of the mask with its diagonal filled.

Letters: T positions, t the one that looks (an output), s the one that is looked at (an input). A boolean mask is True
where one may look.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmcourse.attention import causal_mask
from llmcourse.display import Html
from llmcourse.visualize.page import block, folded, table

MAX_POSITIONS = 10  # a finger must find a cell
MAX_LAYERS = 6
NEVER = -1  # in `layers_needed`: no number of layers up to the last suffices


def presets(T: int) -> dict[str, Bool[Tensor, "T T"]]:
    """The masks that models use, on T positions: the last third is the padding, the first half the prefix, both rounded down."""
    everything = torch.ones(T, T, dtype=torch.bool)
    causal = causal_mask(T)
    place = torch.arange(T)
    return {
        "causal": causal,
        "bidirectional": everything,
        "padding": everything & (place < T - T // 3),
        "prefix": causal | (place < T // 2),
        "sliding window": causal & ~everything.tril(-3),
    }


def layers_needed(mask: Bool[Tensor, "T T"], layers: int) -> Int[Tensor, "T T"]:
    """After how many layers input s can first affect output t: 0 for itself, -1 where `layers` do not suffice."""
    step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
    reached = torch.eye(len(mask), dtype=torch.double)
    needed = torch.where(reached > 0, 0, NEVER)
    for layer in range(1, layers + 1):
        reached = ((step @ reached) > 0).double()
        needed[(reached > 0) & (needed == NEVER)] = layer
    return needed


def mask_painter(
    tokens: Sequence[str], mask: Bool[Tensor, "T T"] | None = None, *, layers: int = 1, output: int | None = None
) -> Html:
    """Paint who may look at whom, choose the number of layers, and see which output can be affected by which input.

    tokens: 2 to 10 of them.
    mask: what the view opens on; by default the causal mask.
    layers: how many the view opens on, 1 to 6.
    output: the place whose paths are drawn first; by default all paths are.
    """
    T = len(tokens)
    if not 2 <= T <= MAX_POSITIONS:
        raise ValueError(f"{T} tokens; give 2 to {MAX_POSITIONS}, so that each cell can be hit by a finger")
    if not 1 <= layers <= MAX_LAYERS:
        raise ValueError(f"layers={layers}; the view has 1 to {MAX_LAYERS}")
    if output is not None and not 0 <= output < T:
        raise ValueError(f"output={output}; the outputs are 0 to {T - 1}")
    mask = causal_mask(T) if mask is None else torch.as_tensor(mask).cpu()
    if mask.dtype != torch.bool or mask.shape != (T, T):
        raise ValueError(
            f"the mask has dtype {mask.dtype} and shape {tuple(mask.shape)}; give a boolean one of shape ({T}, {T}), "
            "True where the row's token may look at the column's"
        )
    data = {
        "tokens": list(tokens),
        "mask": mask.int().tolist(),
        "layers": layers,
        "most": MAX_LAYERS,
        "output": output,
        "presets": {name: preset.int().tolist() for name, preset in presets(T).items()},
    }
    needed = layers_needed(mask, layers)
    name = f"Layers until an input (column) can affect an output (row), of {layers}"
    looks = [[("yes" if may else "no") for may in row] for row in mask.tolist()]
    reach = [["never" if n == NEVER else n for n in row] for row in needed.tolist()]
    twin = table("Who (row) may look at whom (column)", tokens, zip(tokens, looks, strict=True))
    twin += table(name, tokens, zip(tokens, reach, strict=True))
    text = "\n".join(
        f"{token:>12} " + " ".join("x" if may else "." for may in row) + "   "
        + " ".join("." if n == NEVER else str(n) for n in counts)
        for token, row, counts in zip(tokens, mask.tolist(), needed.tolist(), strict=True)
    )  # fmt: skip
    text = f"left: may look; right: layers until it can be affected, of {layers}\n{text}"
    return block("mask_painter", "Paint a mask and follow the information", data, folded("As tables", twin), text)
