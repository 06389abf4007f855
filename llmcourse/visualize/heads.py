"""Views of what heads computed: all at once, one number by number, two sentences, an alignment, a training run.

They show recorded tensors: `record_attention` collects the maps, `record_heads` the queries and keys. What each script
does is in `static/`; below each view the same numbers stand as a table.

Letters: H heads, T query positions, S key positions, D width of a head.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from numbers import Real

import torch
from torch import Tensor

from llmcourse.attention import attention_weights
from llmcourse.display import Html
from llmcourse.visualize.page import (
    as_text,
    block,
    checked,
    first_row,
    folded,
    head_tables,
    matrix_table,
    opens_on,
    rounded,
    table,
)

MAX_WEIGHTS = 30_000  # of a view: about half a megabyte
MAX_NUMBERS = 4_096  # of the queries and keys of a neuron view: 32 tokens of width 64
NEURON_DECIMALS = 8  # sums of products must still give the weights within 1e-5
THE_NUMBERS = "The numbers as a table"
HEADS = ("heads.js",)


def head_grid(
    maps: Mapping[str, Tensor],
    tokens: Sequence[str],
    key_tokens: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    head: int = 0,
) -> Html:
    """Every head of every layer as a small picture; choose one to see it large, with its numbers.

    maps: what `record_attention` collects, (B, H, T, S) by layer; the first sentence of the batch is shown,
        at most 30,000 weights.
    key_tokens: the keys, where they are not the queries' own tokens (cross-attention).
    layer, head: what the view opens on; by default the first layer's first head.
    """
    layers = first_row(maps, tokens, key_tokens)
    opens = opens_on(layers, next(iter(layers)) if layer is None else layer, head, None)
    keys = tokens if key_tokens is None else key_tokens
    _bearable(sum(weights.numel() for weights in layers.values()), "choose layers, or a shorter text")
    data = {"queries": list(tokens), "keys": list(keys), "opens": opens}
    data |= {"names": list(layers), "maps": [rounded(weights) for weights in layers.values()]}
    twin = folded(THE_NUMBERS, head_tables(layers, tokens, keys))
    shown = list(layers)[opens["layer"]]
    text = f"{shown}, head {head} (the page shows the others too)\n{as_text(tokens, layers[shown][head])}"
    return block("head_grid", "Attention of all layers and heads", data, twin, text, HEADS)


def neuron_view(
    query: Tensor,
    key: Tensor,
    tokens: Sequence[str],
    mask: Tensor | None = None,
    key_tokens: Sequence[str] | None = None,
    *,
    opens: int | None = None,
) -> Html:
    """How a query's weights come about: the products q_d × k_d of each key, their sum, the scaled score, the softmax.

    query, key: (T, D) and (S, D), of one sentence and one head, such as `record_heads` gives:
        `h = heads["blocks.0.attention"].head(2)`, then `neuron_view(h.query, h.key, tokens, h.mask)`.
    mask: (T, S), True where one may look, or numbers that are added to the scores.
    key_tokens: the keys, where they are not the queries' own tokens (cross-attention).
    opens: the query that the view opens on; the last one by default, which sees the most.
    """
    keys = tokens if key_tokens is None else key_tokens
    T, S = len(tokens), len(keys)
    query = checked(query, "query", (T, None))
    D = query.shape[-1]
    key = checked(key, "key", (S, D))
    if not T or not S or not D or (T + S) * D > MAX_NUMBERS:
        raise ValueError(
            f"{T} queries and {S} keys of width {D} are {(T + S) * D:,} numbers, and a page bears 1 to {MAX_NUMBERS:,}; "
            "choose tokens, such as query[:16], key[:16], tokens[:16]"
        )
    opens = T - 1 if opens is None else opens
    if not 0 <= opens < T:
        raise ValueError(f"opens={opens} is no query: they are numbered 0 to {T - 1}")
    bias = None if mask is None else _bias(mask, T, S)
    weights = attention_weights(query, key, bias)
    data = {"queries": list(tokens), "keys": list(keys), "opens": {"query": opens}}
    data |= {"query": rounded(query, NEURON_DECIMALS), "key": rounded(key, NEURON_DECIMALS)}
    data["bias"] = None if bias is None else _finite(bias)
    dimensions = range(D)
    twin = matrix_table("softmax(QKᵀ/√D): weights, a row a query", tokens, keys, weights)
    twin += matrix_table("Scores QKᵀ/√D", tokens, keys, query @ key.T / math.sqrt(D))
    twin += matrix_table("Q: queries", tokens, dimensions, query) + matrix_table("K: keys", keys, dimensions, key)
    label = "How the weights of a query come about, number by number"
    return block("neuron_view", label, data, folded(THE_NUMBERS, twin), as_text(tokens, weights), HEADS)


def compare(
    maps_a: Mapping[str, Tensor],
    tokens_a: Sequence[str],
    maps_b: Mapping[str, Tensor],
    tokens_b: Sequence[str],
    *,
    layer: str | None = None,
    head: int = 0,
    query: int = 0,
    names: tuple[str, str] = ("A", "B"),
) -> Html:
    """Two sentences under the same head: the tokens that differ are marked, and for a query, what changed.

    maps_a, maps_b: what `record_attention` collects of each sentence; at most 30,000 weights together.
    query: the token of sentence A that the view opens on; it needs a partner in sentence B.
    names: what the two are, such as ("before", "after") where one sentence was read by two models.
    """
    a, b = first_row(maps_a, tokens_a), first_row(maps_b, tokens_b)
    if {name: len(weights) for name, weights in a.items()} != {name: len(weights) for name, weights in b.items()}:
        raise ValueError(
            f"the sentences were read by other layers ({', '.join(a)}) and ({', '.join(b)}); record both with one model"
        )
    b = {name: b[name] for name in a}  # the order of the layers is that of A
    opens = opens_on(a, next(iter(a)) if layer is None else layer, head, query)
    rows = _aligned(tokens_a, tokens_b)
    asked = [row["a"] for row in rows if row["a"] is not None and row["b"] is not None]
    if query not in asked:
        raise ValueError(f"query={query} has no partner in sentence B; open on one of {asked}")
    opens["query"] = asked.index(query)
    numbers = sum(weights.numel() for maps in (a, b) for weights in maps.values())
    _bearable(numbers, "choose layers, or shorter sentences")
    data = {"tokens": {"a": list(tokens_a), "b": list(tokens_b)}, "names": list(a), "rows": rows, "opens": opens}
    data["maps"] = {side: [rounded(w) for w in maps.values()] for side, maps in (("a", a), ("b", b))}
    titles = names if names != ("A", "B") else ("Sentence A", "Sentence B")
    data |= {"sides": list(names), "titles": dict(zip("ab", titles, strict=True))}
    both = ((titles[0], a, tokens_a), (titles[1], b, tokens_b))
    twin = "".join(
        head_tables({f"{title}, {name}": weights for name, weights in maps.items()}, tokens, tokens)
        for title, maps, tokens in both
    )
    shown = list(a)[opens["layer"]]
    text = "\n\n".join(
        f"{title}, {shown}, head {head}\n{as_text(tokens, maps[shown][head])}" for title, maps, tokens in both
    )
    return block("compare", "Two sentences under the same head", data, folded(THE_NUMBERS, twin), text, HEADS)


def _aligned(a: Sequence[str], b: Sequence[str]) -> list[dict[str, int | bool | None]]:
    """Which token of sentence A stands where which one of B stands; None for one that has no partner."""
    rows: list[dict[str, int | bool | None]] = []
    for kind, a_from, a_to, b_from, b_to in SequenceMatcher(a=list(a), b=list(b), autojunk=False).get_opcodes():
        pairs = zip_longest(range(a_from, a_to), range(b_from, b_to))
        rows += [{"a": i, "b": j, "same": kind == "equal"} for i, j in pairs]
    return rows


def alignment(
    weights: Tensor | Mapping[str, Tensor],
    source: Sequence[str],
    target: Sequence[str],
    gold: Iterable[tuple[int, int]],
) -> Html:
    """Cross-attention beside a gold alignment: does each target token look most at a token that it translates?

    weights: (T, S), a row a target token, or several heads by name.
    gold: pairs (target index, source index). Targets without a pair, such as an end mark, do not count in the share.
    """
    heads = dict(weights) if isinstance(weights, Mapping) else {"attention": weights}
    T, S = len(target), len(source)
    heads = {name: checked(head, f"the attention {name!r}", (T, S)) for name, head in heads.items()}
    pairs = sorted({(int(i), int(j)) for i, j in gold})
    if not heads or not pairs:
        raise ValueError("there is nothing to compare: give at least one head, and one gold pair (target, source)")
    if wrong := [pair for pair in pairs if not (0 <= pair[0] < T and 0 <= pair[1] < S)]:
        raise ValueError(
            f"gold pair {wrong[0]} is outside of {T} target and {S} source tokens; a pair is (target index, source index)"
        )
    _bearable(len(heads) * T * S, "choose heads, or a shorter sentence")
    linked = len({i for i, _ in pairs})
    shown = [_judged(name, head, pairs) for name, head in heads.items()]
    data = {"source": list(source), "target": list(target), "gold": pairs, "linked": linked, "heads": shown, "opens": 0}
    twin = table(
        "Linked target tokens whose largest weight is gold",
        ["hits", "of", "share"],
        [(head["name"], [head["hits"], linked, round(head["hits"] / linked, 4)]) for head in shown],
    )
    twin += table("Gold pairs", ["source"], [(target[i], [source[j]]) for i, j in pairs])
    twin += "".join(matrix_table(f"{name}: a row a target token", target, source, w) for name, w in heads.items())
    text = "\n".join(f"{head['name']}: {head['hits']} of {linked} look most at gold" for head in shown)
    text += f"\n{as_text(target, next(iter(heads.values())))}"
    return block("alignment", "Attention beside a gold alignment", data, folded(THE_NUMBERS, twin), text, HEADS)


def _judged(name: str, weights: Tensor, pairs: Sequence[tuple[int, int]]) -> dict:
    """What the alignment's script needs of a head: its weights, each row's largest, and how many of these are gold."""
    best = [row.index(max(row)) for row in weights.tolist()]  # of equals the first
    hits = sum(pair in pairs for pair in enumerate(best))
    return {"name": name, "weights": rounded(weights), "best": best, "hits": hits}


def dynamics(
    frames: Mapping[int, Mapping[str, Tensor]],
    tokens: Sequence[str],
    curves: Mapping[str, Mapping[int, float]] | None = None,
    *,
    layer: str | None = None,
    head: int = 0,
    cell: tuple[int, int] | None = None,
    log_x: bool = False,
) -> Html:
    """What training does to a head: a slider over the stored steps, and curves with a mark at the chosen step.

    frames: for each step, what `record_attention` collected then; the first sentence, at most 30,000 weights in all.
    curves: what was measured on the way, such as {"loss": {0: 3.9, 50: 2.1}}.
    cell: (query, key), the weight whose curve the view opens on; by default one that moves most.
    log_x: draw the steps on a logarithmic axis (of step + 1).
    """
    steps = sorted(frames)
    if not steps:
        raise ValueError("frames is empty; record the attention at some steps of the training first")
    films = [first_row(frames[step], tokens) for step in steps]
    sizes = {name: len(weights) for name, weights in films[0].items()}
    for step, film in zip(steps, films, strict=True):
        if {name: len(weights) for name, weights in film.items()} != sizes:
            raise ValueError(f"step {step} has other layers or heads than step {steps[0]}; record one model throughout")
    films = [{name: film[name] for name in sizes} for film in films]  # in the order of the first step's layers
    _bearable(
        sum(w.numel() for film in films for w in film.values()), "keep fewer steps, choose layers, or a shorter text"
    )
    lines = [_curve(name, values) for name, values in (curves or {}).items()]
    if log_x and min(steps + [step for line in lines for step in line["steps"]]) < 0:
        raise ValueError("a logarithmic axis has no place for a step below 0; count steps from 0")
    layer = next(iter(sizes)) if layer is None else layer
    opens = opens_on(films[0], layer, head, None) | {"frame": 0}
    if cell is not None and not all(0 <= place < len(tokens) for place in cell):
        raise ValueError(f"cell={cell} is none: queries and keys are numbered 0 to {len(tokens) - 1}")
    opens["cell"] = list(_most_moved([film[layer][head] for film in films]) if cell is None else cell)
    data = {"queries": list(tokens), "keys": list(tokens), "steps": steps, "names": list(sizes), "logX": log_x}
    data |= {"frames": [[rounded(w) for w in film.values()] for film in films], "curves": lines, "opens": opens}
    shown = list(sizes)[opens["layer"]]
    text = "\n\n".join(
        f"step {step}, {shown}, head {head}\n{as_text(tokens, film[shown][head])}"
        for step, film in zip(steps, films, strict=True)
    )
    twin = folded(THE_NUMBERS, _film_tables(steps, films, tokens) + _curve_table(lines))
    return block("dynamics", "A head in the course of training", data, twin, text, HEADS)


def _most_moved(weights: Sequence[Tensor]) -> tuple[int, int]:
    """The query and the key between which the weight changes most over the steps; of equals the first."""
    film = torch.stack(list(weights))
    return divmod(int((film.amax(dim=0) - film.amin(dim=0)).argmax()), film.shape[-1])


def _curve(name: str, values: Mapping[int, float]) -> dict:
    steps = sorted(values)
    numbers = [float(values[step]) for step in steps]
    if not steps or not all(isinstance(step, Real) and math.isfinite(step) for step in [*steps, *numbers]):
        raise ValueError(f"the curve {name!r} needs at least one step, and finite numbers, such as {{0: 3.9, 50: 2.1}}")
    return {"name": name, "steps": steps, "values": numbers}


def _curve_table(lines: Sequence[dict]) -> str:
    steps = sorted({step for line in lines for step in line["steps"]})
    if not steps:
        return ""
    values = [dict(zip(line["steps"], line["values"], strict=True)) for line in lines]
    rows = [(step, [round(line[step], 6) if step in line else "" for line in values]) for step in steps]
    return table("What was measured, by step", [line["name"] for line in lines], rows)


def _film_tables(steps: Sequence[int], films: Sequence[Mapping[str, Tensor]], tokens: Sequence[str]) -> str:
    """The tables of each step, of which the script leaves those of the chosen one."""
    parts = []
    for step, film in zip(steps, films, strict=True):
        named = {f"step {step}, {name}": weights for name, weights in film.items()}
        parts.append(f'<div data-step="{step:d}">\n{head_tables(named, tokens, tokens)}</div>\n')
    return "".join(parts)


def _bearable(n_weights: int, advice: str) -> None:
    if n_weights > MAX_WEIGHTS:
        raise ValueError(f"{n_weights:,} attention weights are too many for a page (at most {MAX_WEIGHTS:,}); {advice}")


def _bias(mask: Tensor, T: int, S: int) -> Tensor:
    """The mask as numbers to add to the scores: 0 where one may look, -inf where not."""
    mask = torch.as_tensor(mask).detach().cpu()
    if mask.dim() > 2 or any(size not in (1, want) for size, want in zip(mask.shape[::-1], (S, T), strict=False)):
        raise ValueError(f"the mask has shape {tuple(mask.shape)}, and ({T}, {S}) is needed: choose one head's")
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
    elif not mask.is_floating_point() or (mask.isnan() | (mask == math.inf)).any():
        raise ValueError(
            f"the mask ({mask.dtype}) must be boolean, True where one may look, or numbers to add to scores"
        )
    return mask.double().broadcast_to(T, S)


def _finite(bias: Tensor) -> list[list[float | None]]:
    """The numbers for JSON, which has no infinity: None hides."""
    return [[None if number == -math.inf else number for number in row] for row in bias.tolist()]
