"""Views that a reader operates on a page: one function each, from our tensors and tokens to an `Html`.

Every view computes and shows the model's own numbers. Below it the same numbers stand as a table, for whoever
has no JavaScript. What each script does is in `static/`.

Letters: B batch, H heads, T query positions, S key positions, D width of a head, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from llmcourse.attention import attention_weights
from llmcourse.display import Html
from llmcourse.tokenizers import BPETokenizer
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

MAX_TOKENS, MAX_WIDTH = 10, 8  # attention_steps: more numbers than that nobody reads
MAX_WEIGHTS = 30_000  # attention_heads: about half a megabyte
MAX_CHARACTERS = 400  # merge_steps
MAX_VOCABULARY = 5_000  # next_token_bars
THE_NUMBERS = "The numbers as a table"


def attention_steps(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Sequence[str],
    mask: Tensor | None = None,
) -> Html:
    """softmax(QKᵀ/√D)V of one head, step by step; every number of Q, K and V can be changed on the page.

    query, key, value: (T, D), of one sentence and one head; at most 10 tokens and 8 dimensions.
    mask: (T, T), True where one may look.
    """
    T = len(tokens)
    query = checked(query, "query", (T, None))
    D = query.shape[-1]
    key, value = checked(key, "key", (T, D)), checked(value, "value", (T, None))
    if not 1 <= T <= MAX_TOKENS or max(D, value.shape[-1]) > MAX_WIDTH:
        raise ValueError(
            f"{T} tokens of width {max(D, value.shape[-1])} are too many numbers to follow; "
            f"give 1 to {MAX_TOKENS} tokens and at most {MAX_WIDTH} dimensions, such as query[:6, :4]"
        )
    if mask is not None:
        mask = torch.as_tensor(mask).cpu()
        if mask.dtype != torch.bool:
            raise TypeError(f"the mask has dtype {mask.dtype}; give a boolean one, True where one may look")
        if mask.dim() > 2 or any(size not in (1, T) for size in mask.shape):
            raise ValueError(f"the mask has shape {tuple(mask.shape)}, and ({T}, {T}) is needed")
        mask = mask.broadcast_to(T, T)
    weights = attention_weights(query, key, mask)
    data = {"tokens": list(tokens), "query": rounded(query), "key": rounded(key), "value": rounded(value)}
    data["mask"] = None if mask is None else mask.tolist()
    matrices = {
        "Q: queries": query,
        "K: keys": key,
        "V: values": value,
        "What each token reads": weights @ value,
    }
    twin = matrix_table("softmax(QKᵀ/√D): weights, a row a query", tokens, tokens, weights)
    for name, matrix in matrices.items():
        twin += matrix_table(name, tokens, range(matrix.shape[-1]), matrix)
    label = "Attention of one head, step by step"
    return block("attention_steps", label, data, folded(THE_NUMBERS, twin), as_text(tokens, weights))


def attention_heads(
    maps: Mapping[str, Tensor],
    tokens: Sequence[str],
    key_tokens: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    head: int = 0,
    query: int | None = None,
) -> Html:
    """Who looks at whom: choose a layer and a head; a line from query to key is as thick as the weight.

    maps: what `record_attention` collects, (B, H, T, S) by layer; the first sentence of the batch is shown,
        at most 30,000 weights.
    key_tokens: the keys, where they are not the queries' own tokens (cross-attention).
    layer, head, query: what the view opens on; by default the first layer's first head, and all its lines.
    """
    layers = first_row(maps, tokens, key_tokens)
    opens = opens_on(layers, next(iter(layers)) if layer is None else layer, head, query)
    keys = tokens if key_tokens is None else key_tokens
    n_weights = sum(weights.numel() for weights in layers.values())
    if n_weights > MAX_WEIGHTS:
        raise ValueError(
            f"{n_weights:,} attention weights are too many for a page (at most {MAX_WEIGHTS:,}); "
            f"choose layers, such as {{{next(iter(maps))!r}: maps[{next(iter(maps))!r}]}}, or a shorter text"
        )
    data = {"queries": list(tokens), "keys": list(keys), "names": list(layers), "opens": opens}
    data["layers"] = {name: rounded(weights, 3) for name, weights in layers.items()}
    twin = head_tables(layers, tokens, keys, decimals=3)
    shown = list(layers)[opens["layer"]]
    text = f"{shown}, head {head} (the page shows the others too)\n{as_text(tokens, layers[shown][head])}"
    label = "Attention between tokens, by layer and head"
    return block("attention_heads", label, data, folded(THE_NUMBERS, twin), text)


def merge_steps(tokenizer: BPETokenizer, text: str) -> Html:
    """A text cut into tokens after 0, 1, 2 ... merges: a slider over the merges that change this text."""
    if not isinstance(tokenizer, BPETokenizer):
        raise TypeError(f"a {type(tokenizer).__name__} has no merges to show; give a BPETokenizer")
    if not text or len(text) > MAX_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters; give 1 to {MAX_CHARACTERS} to see its merges")
    steps = list(_segmentations(tokenizer, text))
    data = {"total": len(tokenizer.merges), "characters": len(text), "steps": steps}
    rows = []
    for step in steps:
        n_tokens, cut = len(step["tokens"]), " | ".join(step["tokens"])
        rows.append((step["merges"], [step["pair"], n_tokens, f"{len(text) / n_tokens:.2f}", cut]))
    columns = ["the last of them", "tokens", "characters a token", "the text"]
    twin = folded(THE_NUMBERS, table("After so many merges", columns, rows))
    shown = "\n".join(f"{n:6} {row[-1]}" for n, row in rows)
    return block("merge_steps", "A text cut into tokens, merge by merge", data, twin, shown, ("heads.js",))


def _segmentations(tokenizer: BPETokenizer, text: str) -> Iterator[dict]:
    """The text after each merge that changes it: how many merges, the pair of the last one, the tokens."""
    pieces: list[bytes] = []
    for n in range(len(tokenizer.merges) + 1):
        pair = tokenizer.merges[n - 1] if n else ()
        if n and pair not in pairwise(pieces):
            continue
        cut = BPETokenizer(tokenizer.merges[:n])
        ids = cut.encode(text)
        before, pieces = pieces, [cut.vocabulary[i] for i in ids]
        if pieces != before:  # the same pair across the border of two words is not merged
            shown = {piece: visible(cut.piece(i)) for i, piece in enumerate(cut.vocabulary)}
            yield {
                "merges": n,
                "pair": "+".join(shown[part] for part in pair),
                "made": shown[pair[0] + pair[1]] if pair else "",
                "tokens": [shown[piece] for piece in pieces],
            }


def visible(text: str) -> str:
    """Blanks as signs that one can see and count."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def next_token_bars(
    words: Sequence[str],
    logits: Tensor,
    *,
    exact: Tensor | None = None,
    prefix: str = "",
) -> Html:
    """The next token's probabilities, with sliders for temperature, top-k and top-p; what is cut is struck.

    The page computes on the full vocabulary what `generation.next_token_probabilities` computes, and
    draws the 15 likeliest.

    words, logits: the vocabulary and the model's score of each word, (V,).
    exact: the true probability of each word, where the corpus knows it.
    prefix: the text so far.
    """
    V = len(words)
    if not 1 <= V <= MAX_VOCABULARY:
        raise ValueError(f"{V} words do not fit on a page; give 1 to {MAX_VOCABULARY:,}")
    logits = checked(logits, "logits", (V,))
    exact = None if exact is None else checked(exact, "exact", (V,))
    data = {"words": list(words), "logits": rounded(logits), "prefix": prefix}
    data["exact"] = None if exact is None else rounded(exact)
    probabilities = logits.softmax(dim=-1)
    order = probabilities.argsort(descending=True, stable=True).tolist()
    columns = ["logit", "probability", "true probability"][: 2 + (exact is not None)]
    shown = [logits, probabilities] + ([] if exact is None else [exact])
    rows = [(words[i], [round(x[i].item(), 4) for x in shown]) for i in order]
    twin = folded(THE_NUMBERS, table("The next token, at temperature 1", columns, rows))
    text = "\n".join(f"{words[i]:>12} {probabilities[i]:.2f}" for i in order[:15])
    return block(
        "next_token_bars",
        f"The next token after {prefix!r}" if prefix else "The next token",
        data,
        twin,
        text,
        ("token_bars.js",),
    )
