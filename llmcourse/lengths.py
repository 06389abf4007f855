"""Rows of like length computed together: a batch is as wide as its longest row, and the rest of it is padding.

Sorted by length and cut into groups, each only as wide as its own longest row, a batch holds far less of it. Nothing
that a model makes of a token changes, as long as no token looks at padding.

Letters: B batch, T positions.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmcourse.distributed import count_processes

GROUP = 1024  # positions of a batch for each group of its rows: fewer would make the matrix products small


def filled(tokens: Int[Tensor, "B T"], pad: int | None) -> Bool[Tensor, "B T"]:
    """Where no padding stands: everywhere, for a model that knows none."""
    return torch.ones_like(tokens, dtype=torch.bool) if pad is None else tokens != pad


def row_ends(is_filled: Bool[Tensor, "B T"]) -> Int[Tensor, "B"]:
    """How many columns each row needs: up to its last one that is filled, wherever else padding stands; at least 1."""
    columns = torch.arange(1, is_filled.shape[1] + 1, device=is_filled.device)
    return (is_filled * columns).amax(dim=1).clamp(min=1)


def rows_by_length(ends: Int[Tensor, "B"], n_positions: int) -> list[Int[Tensor, "N"]]:
    """The numbers of a batch's rows in groups of like length, the shortest first; each row is in one of them.

    n_positions: of the whole batch, padding included. A small batch, and one whose rows are equally long, is one group
    in its own order. So is the share of one of several processes: those that each hold a part of a model's weights have
    to call it equally often.
    """
    n_groups = n_positions // GROUP
    if n_groups < 2 or count_processes() > 1 or ends.min() == ends.max():
        return [torch.arange(len(ends), device=ends.device)]
    return list(ends.argsort(stable=True).chunk(n_groups))
