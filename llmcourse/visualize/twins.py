"""Two models that should compute the same, layer by layer: the numbers of both, and how far apart they are.

Letters: T positions, C columns of whatever a layer returns.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.display import Html, escape
from llmcourse.visualize.page import checked, folded, matrix_table, static, table

MAX_NUMBERS = 60_000  # of both models together


def largest_differences(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, float]:
    """How far the two are apart at most, for every layer that both have, in the order of ours.

    Raises ValueError when they share no layer, or when one has another shape on the other side.
    """
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise ValueError("the two have no layer of the same name; record a model and its twin")
    odd = [name for name in shared if tuple(ours[name].shape) != tuple(theirs[name].shape)]
    if odd:
        shapes = tuple(ours[odd[0]].shape), tuple(theirs[odd[0]].shape)
        raise ValueError(
            f"{odd[0]!r} has shape {shapes[0]} on one side and {shapes[1]} on the other; use the same input"
        )
    return {name: (torch.as_tensor(ours[name]) - torch.as_tensor(theirs[name])).abs().max().item() for name in shared}


def side_by_side(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    tokens: Sequence[str],
    *,
    names: tuple[str, str] = ("torch", "TensorFlow"),
) -> Html:
    """What every layer computed in two models, for the first sentence of the batch: a row a layer, and all numbers below.

    ours, theirs: the tensors by the layer's name, as `llmcourse.keras.record` collects them; where a layer returns one
        matrix for each head, that of head 0 is shown.
    """
    gaps = largest_differences(ours, theirs)
    if 2 * sum(torch.as_tensor(ours[name]).numel() for name in gaps) > MAX_NUMBERS:
        raise ValueError(
            f"more than {MAX_NUMBERS:,} numbers are too many for a page; choose layers, or a smaller model"
        )
    sides = [{name: _matrix(tensors[name], name, len(tokens)) for name in gaps} for tensors in (ours, theirs)]
    rows, details, lines = [], [], []
    for name, gap in gaps.items():
        shape = " × ".join(str(size) for size in ours[name].shape)
        first, second = ("  ".join(f"{number:6.2f}" for number in side[name][-1, :3].tolist()) for side in sides)
        rows.append((name, (shape, first, second, f"{gap:.0e}")))
        lines.append(f"{name:38} {first}   {second}   {gap:.0e}")
        pair = "".join(
            matrix_table(f"{name} in {label}", tokens, range(side[name].shape[1]), side[name], decimals=3)
            for label, side in zip(names, sides, strict=True)
        )
        details.append(folded(name, f'<div class="side">{pair}</div>'))
    caption = f"The first numbers at {tokens[-1]!r}, and the largest difference anywhere"
    overview = table(caption, ("shape", *names, "largest difference"), rows)
    every = folded("All numbers, layer by layer", "".join(details))
    label = escape(f"What every layer computes in {names[0]} and in {names[1]}")
    html = f'<div class="llmcourse-view" role="group" aria-label="{label}">\n<style>\n{static("views.css")}</style>\n'
    return Html(f"{html}{overview}{every}</div>", "\n".join(lines))


def _matrix(tensor: Tensor, name: str, T: int) -> Float[Tensor, "T C"]:
    """The matrix of the first sentence and the first head."""
    tensor = torch.as_tensor(tensor)
    while tensor.dim() > 2:
        tensor = tensor[0]
    return checked(tensor, f"the layer {name!r}", (T, None))
