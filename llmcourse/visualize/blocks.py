"""Views of a Transformer block: what each sub-layer adds to the residual stream, and how rotary positions turn.

Letters: T positions, C width of the model, D width of a head, V vocabulary.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.display import Html
from llmcourse.transformer import RotaryPositions, TransformerBlock
from llmcourse.visualize.page import block, checked, folded, matrix_table, rounded, table

MAX_TOKENS = 40  # residual_stream
MAX_WIDTH, MAX_POSITION = 32, 512  # rope_clock
THE_NUMBERS = "The numbers as a table"


@torch.no_grad()
def stream_parts(model: nn.Module, tokens: Int[Tensor, "1 T"]) -> dict[str, Float[Tensor, "T C"]]:
    """All that is ever added to the residual stream, in order: "embedding", "blocks.0.attention", ...

    Their sum is what the last norm reads. Raises ValueError for a model with post-norm blocks: those normalise the
    stream itself, so it is no sum.
    """
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, TransformerBlock)}
    if not blocks or any(found.norm_place != "pre" for found in blocks.values()):
        raise ValueError(f"{type(model).__name__} has no pre-norm TransformerBlock, so no stream that is a sum")
    parts: dict[str, Tensor] = {}

    def enters(module: nn.Module, inputs: tuple) -> None:
        parts["embedding"] = inputs[0][0]

    handles = [next(iter(blocks.values())).register_forward_pre_hook(enters)]
    for name, found in blocks.items():
        for kind, layer in found.named_children():
            if kind in ("attention", "cross_attention", "feed_forward"):
                keep = lambda module, inputs, output, part=f"{name}.{kind}": parts.update({part: output[0]})  # noqa: E731
                handles.append(layer.register_forward_hook(keep))
    was_training = model.training
    try:
        model.eval()(tokens)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return parts


def residual_stream(
    parts: Mapping[str, Tensor],
    tokens: Sequence[str],
    *,
    position: int | None = None,
    direction: Tensor | None = None,
    towards: str = "towards the answer",
) -> Html:
    """The residual stream at one position, from top to bottom: what each sub-layer adds, as long as it is.

    parts: what `stream_parts` collects, (T, C) each, in order.
    position: where the view opens; by default at the last token.
    direction: (C,), a direction of the stream, such as the difference of two rows of the output head; the view then
        also shows how far each part pushes the stream along it, which `towards` names.
    """
    T = len(tokens)
    if not 1 <= T <= MAX_TOKENS or not parts:
        raise ValueError(
            f"{T} tokens and {len(parts)} parts; give 1 to {MAX_TOKENS} tokens and what stream_parts found"
        )
    position = T - 1 if position is None else position
    if not 0 <= position < T:
        raise ValueError(f"position={position} is none of the {T} tokens; they count from 0")
    stacked = torch.stack([checked(part, f"the part {name!r}", (T, None)) for name, part in parts.items()])
    numbers = {"adds": stacked.norm(dim=-1), "stream": stacked.cumsum(dim=0).norm(dim=-1)}
    if direction is not None:
        numbers["push"] = stacked @ checked(direction, "direction", (stacked.shape[-1],))
    titles = {"adds": "length of what it adds", "stream": "length of the stream after it", "push": f"push {towards}"}
    data = {"tokens": list(tokens), "parts": list(parts), "towards": towards, "position": position}
    data |= {name: rounded(matrix) for name, matrix in numbers.items()}
    twin = "".join(matrix_table(titles[name], list(parts), tokens, matrix) for name, matrix in numbers.items())
    lines = [f"at {tokens[position]!r}:"]
    for i, name in enumerate(parts):
        added, stream = (numbers[kind][i, position].item() for kind in ("adds", "stream"))
        pushes = f", and it pushes {numbers['push'][i, position].item():+.1f}" if "push" in numbers else ""
        lines.append(f"{name:>24} adds {added:.1f}, the stream is {stream:.1f} long{pushes}")
    label = "The residual stream and what each sub-layer adds to it"
    return block("residual_stream", label, data, folded(THE_NUMBERS, twin), "\n".join(lines))


def rope_clock(
    query: Tensor,
    key: Tensor,
    *,
    base: float = 10_000.0,
    positions: int = 24,
    names: tuple[str, str] = ("query", "key"),
) -> Html:
    """Rotary positions as a clock: choose where two tokens stand, and see each pair of numbers turn.

    The page turns query and key itself, as `RotaryPositions` does, and adds up their score. Move both tokens by the same
    amount, and each hand moves while the score stays.

    query, key: (D,), not yet turned; at most 32 wide.
    positions: how many places the sliders reach.
    names: the tokens that ask and that are looked at.
    """
    D = torch.as_tensor(query).shape[-1]
    if D % 2 or not 2 <= D <= MAX_WIDTH or not 2 <= positions <= MAX_POSITION or not base > 0:
        raise ValueError(
            f"width {D}, positions={positions}, base={base}: give an even width up to {MAX_WIDTH}, 2 to {MAX_POSITION} "
            "positions and a base above 0"
        )
    query, key = checked(query, "query", (D,)), checked(key, "key", (D,))
    rotate = RotaryPositions(D, positions, base).double()
    turned = rotate(query.expand(positions, D))  # the key stands at 0, so row t is the distance t
    scores = turned @ key
    rates = base ** (-torch.arange(0, D, 2).double() / D)
    data = {"query": rounded(query), "key": rounded(key), "base": base, "positions": positions, "names": list(names)}
    rows = [(i, [round(rate, 4), round(2 * torch.pi / rate, 1)]) for i, rate in enumerate(rates.tolist())]
    twin = table("How fast each pair turns", ["radians a position", "positions for a whole turn"], rows)
    distances = enumerate(rounded(scores, 4))
    twin += table("Score by distance, wherever both stand", ["score"], ((t, [score]) for t, score in distances))
    text = "\n".join(f"distance {t:3}: score {score:.2f}" for t, score in enumerate(scores.tolist()))
    label = "Rotary positions: how queries and keys turn"
    return block("rope_clock", label, data, folded(THE_NUMBERS, twin), text)
