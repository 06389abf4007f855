"""What every view is made of: checked tensors, rounded numbers, tables, and HTML that stands alone.

A block holds its own style, data and script, so that it works on a static page, in Jupyter, in a sandboxed
frame and from a disk. The same input gives the same characters on every run.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from llmcourse.display import Html, escape

NUMBERS = re.compile(r"[-+− ]*\d(?:[\d .,%×+−-]|e[-+]?\d)*")  # one or several of them
COMMENTS = re.compile(r"^ *(?://[^\n]*|/\*\*.*?\*/)\n", re.MULTILINE | re.DOTALL)  # of the scripts: no page needs them
DECIMALS = 6  # of a number that a view computes with; a weight that is only looked at has 3


def checked(tensor: Tensor, name: str, shape: Sequence[int | None]) -> Tensor:
    """The tensor in double precision and out of the graph; ValueError when it does not fit, or is not finite.

    shape: the size of each axis, None for any size.
    """
    tensor = torch.as_tensor(tensor).detach().double().cpu()
    fits = len(tensor.shape) == len(shape) and all(
        want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, and ({wanted}) is needed: choose one sentence and one head"
        )
    if not tensor.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity, which no view can draw; look at what computed it")
    return tensor


def rounded(tensor: Tensor, decimals: int = DECIMALS) -> list:
    """The numbers as (nested) lists of floats with so many decimals, and never a minus zero."""
    return ((tensor.double() * 10**decimals).round() / 10**decimals + 0.0).tolist()


def first_row(
    maps: Mapping[str, Tensor], tokens: Sequence[str], key_tokens: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """The attention (H, T, S) of every layer, for the first sentence of the batch.

    maps: what `record_attention` collects, (B, H, T, S) by the layer's name.
    """
    if not maps:
        raise ValueError("maps is empty; run the model inside `with record_attention(model) as maps:` first")
    S = len(tokens if key_tokens is None else key_tokens)
    rows = {}
    for name, weights in maps.items():
        weights = checked(weights, f"the attention of {name!r}", (None, None, None, None))[0]
        if weights.shape[1:] != (len(tokens), S):
            T, K = weights.shape[1:]
            raise ValueError(
                f"{name!r} has {T} queries and {K} keys, and {len(tokens)} and {S} tokens are given; name each token"
            )
        rows[name] = weights
    return rows


def opens_on(layers: Mapping[str, Tensor], layer: str, head: int, query: int | None) -> dict[str, int | None]:
    """The layer's number, the head and the query that a view of heads shows first."""
    if layer not in layers:
        raise ValueError(f"there is no layer {layer!r} to open on; there are {', '.join(layers)}")
    n_heads, n_queries, _ = layers[layer].shape
    if not 0 <= head < n_heads or (query is not None and not 0 <= query < n_queries):
        raise ValueError(
            f"head={head}, query={query} cannot be opened on: {layer!r} has heads 0 to {n_heads - 1}, "
            f"queries 0 to {n_queries - 1}"
        )
    return {"layer": list(layers).index(layer), "head": head, "query": query}


def as_text(tokens: Sequence[str], weights: Tensor) -> str:
    """The weights for a terminal: a line a query."""
    return "\n".join(
        f"{token:>12} " + " ".join(f"{weight:.2f}" for weight in row)
        for token, row in zip(tokens, weights.tolist(), strict=True)
    )


def embedded(data: object) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&`, so that no token can end it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def table(caption: str, columns: Iterable[object], rows: Iterable[tuple[object, Iterable[object]]]) -> str:
    """An HTML table; a row is its heading and its cells. HTML ends cells and rows by itself."""
    titles = [str(column) for column in columns]
    kept = [(heading, [_cell(cell) for cell in row]) for heading, row in rows]
    looks = [_look([cells[j] for _, cells in kept if j < len(cells)]) for j in range(len(titles))]
    looks += [""] * max((len(cells) - len(titles) for _, cells in kept), default=0)
    head = "".join(f'<th scope="col"{look}>{escape(title)}' for title, look in zip(titles, looks, strict=False))
    body = ""
    for heading, cells in kept:
        data = "".join(f"<td{look}>{escape(cell)}" for cell, look in zip(cells, looks, strict=False))
        body += f'<tr><th scope="row">{escape(str(heading))}{data}\n'
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    return f"{scroll}<table><caption>{escape(caption)}</caption>\n<tr><td>{head}\n{body}</table></div>\n"


def _look(column: Sequence[str]) -> str:
    """The class of a column's cells: words stand at the left below their heading, and may wrap; numbers have none."""
    filled = [cell for cell in column if cell]
    if 10 * sum(bool(NUMBERS.fullmatch(cell)) for cell in filled) >= max(len(filled), 1):
        return ""
    return ' class="w"'


def matrix_table(
    caption: str, rows: Sequence[str], columns: Iterable[object], matrix: Tensor, decimals: int = 4
) -> str:
    """The numbers of a matrix as an HTML table."""
    return table(caption, columns, zip(rows, rounded(matrix, decimals), strict=True))


def head_tables(layers: Mapping[str, Tensor], tokens: Sequence[str], keys: Sequence[str], decimals: int = 4) -> str:
    """A table for every head (T, S) of every layer."""
    return "".join(
        matrix_table(f"{name}, head {head}: a row a query", tokens, keys, matrix, decimals)
        for name, weights in layers.items()
        for head, matrix in enumerate(weights)
    )


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)


@cache
def static(name: str) -> str:
    """The text of a file in `static/`."""
    return (files("llmcourse.visualize") / "static" / name).read_text(encoding="utf-8")


def block(view: str, label: str, data: object, twin: str, text: str, parts: Sequence[str] = ()) -> Html:
    """A view as a block of HTML that stands alone.

    view: names the script `static/<view>.js` and what it builds.
    label: what the view is, for a screen reader.
    data: what the script works with.
    twin: the same content as plain HTML, which is there without JavaScript too.
    text: the same content for a terminal.
    parts: further files of `static/` that the script builds on.
    """
    code = COMMENTS.sub("", "\n".join(static(name) for name in ("views.js", *parts, f"{view}.js")))
    script = f'(() => {{\n"use strict";\n{code}}})();'
    return Html(
        f'<div class="llmcourse-view" data-view="{view}" role="group" aria-label="{escape(label)}">\n'
        f"<style>\n{static('views.css')}</style>\n"
        f'<script type="application/json">{embedded(data)}</script>\n'
        f'<div class="stage"></div>\n{twin}<script>\n{script}\n</script>\n</div>',
        text,
    )


def folded(summary: str, content: str) -> str:
    """Content that a reader opens when wanted."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}</details>\n"
