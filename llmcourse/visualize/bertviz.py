"""bertviz's own views (Vig, 2019), fed with what `record_attention` and `record_heads` collect.

Unlike our own views they fetch d3 and jQuery from the network, unless the page brings its own copies. What is
changed of the stock output: the same tensors give the same HTML, a token stays text, the weights have 3
decimals, and the ground is white. A view that is too large for a page is refused.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from types import ModuleType

import torch
from torch import Tensor

from llmcourse.attention import attention_weights
from llmcourse.display import Html
from llmcourse.recording import HeadInputs
from llmcourse.visualize.page import as_text, checked, embedded, first_row, rounded

MAX_MEGABYTES = 2


def head_view(maps: Mapping[str, Tensor], tokens: Sequence[str], *, layers: Sequence[str] | None = None) -> Html:
    """bertviz's head view of the first sentence: lines between tokens, a colour for each head.

    layers: the names of the layers to show; all of them by default.
    """
    return _view("head_view", maps, tokens, layers)


def model_view(maps: Mapping[str, Tensor], tokens: Sequence[str], *, layers: Sequence[str] | None = None) -> Html:
    """bertviz's model view of the first sentence: a small picture of every head of every layer.

    layers: the names of the layers to show; all of them by default.
    """
    return _view("model_view", maps, tokens, layers, display_mode="light")


def neuron_view(heads: Mapping[str, HeadInputs], tokens: Sequence[str], *, layers: Sequence[str] | None = None) -> Html:
    """bertviz's neuron view of the first sentence: the queries and keys of our own model, and their products.

    heads: what `record_heads` collects; bertviz shows each layer under its number among those that are shown.
    layers: the names of the layers to show; all of them by default.
    """
    if not heads:
        raise ValueError("heads is empty; run the model inside `with record_heads(model) as heads:` first")
    chosen = _chosen(heads, layers)
    shown = [_first_heads(name, heads[name], len(tokens)) for name in chosen]
    weights = [attention_weights(head.query, head.key, head.mask) for head in shown]
    if len({head.query.shape for head in shown}) > 1:
        raise ValueError(f"the layers {', '.join(chosen)} have heads of several sizes; show one layer at a time")
    params = {
        "attention": {
            "all": {
                "attn": [rounded(map_, 3) for map_ in weights],
                "queries": [rounded(head.query, 3) for head in shown],
                "keys": [rounded(head.key, 3) for head in shown],
                "left_text": list(tokens),
                "right_text": list(tokens),
            }
        },
        "default_filter": "all",
        "bidirectional": any(map_.triu(1).any().item() for map_ in weights),
        "display_mode": "light",
        "layer": None,
        "head": None,
    }
    page = _filled(_NEURON_PAGE, params)
    _bearable("neuron_view", page, chosen)
    return Html(page, f"{chosen[0]}, head 0 (bertviz shows the others too)\n{as_text(tokens, weights[0][0])}")


# What `bertviz.neuron_view.show` writes around its script; that function takes only bertviz's own copies of models. The
# picture is as wide as the page, which would cut off its last columns: here it has room for them, and scrolls.
_REQUIRE_JS = '<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.3.6/require.min.js"></script>'
_NEURON_PAGE = """{require}
<div id="{name}" style="padding:8px;font-family:'Helvetica Neue', Helvetica, Arial, sans-serif;background:#fff;color:#111;overflow-x:auto;" tabindex="0" role="region" aria-label="Queries and keys">
  <span style="user-select:none">
    <label><span class="dropdown-label">Layer: </span><select id="layer"></select></label>
    <label><span class="dropdown-label">Head: </span><select id="att_head"></select></label>
  </span>
  <div id="vis" style="min-width:1010px"></div>
</div>
<script>
{script}
</script>
"""


def _filled(page: str, params: dict) -> str:
    """The page around bertviz's script, which gets its parameters directly: a global would hold those of the last view."""
    name = _named(params)
    script = (files(_stock()) / "neuron_view.js").read_text(encoding="utf-8")
    for stock, mended in {
        "window.bertviz_params\n": f"{embedded(params | {'root_div_id': name})};\n",
        'd3.select("#vis")': "d3.select(`#${config.rootDivId} #vis`)",  # else a second view opens the first one
    }.items():
        if stock not in script:
            raise ValueError(
                f"this version of bertviz no longer holds {stock.strip()}; see requirements.txt for the tested one"
            )
        script = script.replace(stock, mended)
    return page.format(require=_REQUIRE_JS, name=name, script=script)


def _first_heads(name: str, heads: HeadInputs, T: int) -> HeadInputs:
    """All heads (H, T, D) of the first sentence, checked against the number of its tokens."""
    query = checked(heads.query, f"the queries of {name!r}", (None, None, T, None))
    B, H, _, D = query.shape
    key = checked(heads.key, f"the keys of {name!r}", (B, H, T, D))
    mask = None if heads.mask is None else heads.mask.cpu().broadcast_to(B, H, T, T)[0]
    return HeadInputs(query[0], key[0], key[0], mask)


def _chosen(layers: Mapping[str, object], names: Sequence[str] | None) -> list[str]:
    """The names of the layers to show; ValueError for one that there is not."""
    chosen = list(layers) if names is None else list(names)
    for name in chosen:
        if name not in layers:
            raise ValueError(f"there is no attention layer {name!r}; this model has {', '.join(layers)}")
    if not chosen:
        raise ValueError(f"layers={names} shows nothing; choose among {', '.join(layers)}")
    return chosen


def _bearable(kind: str, page: str, chosen: Sequence[str]) -> None:
    megabytes = len(page.encode()) / 1e6
    if megabytes > MAX_MEGABYTES:
        raise ValueError(
            f"this {kind} takes {megabytes:.1f} MB of HTML, and a page bears {MAX_MEGABYTES} MB; "
            f"choose layers, such as layers=[{chosen[0]!r}], or a shorter text"
        )


def _view(
    kind: str, maps: Mapping[str, Tensor], tokens: Sequence[str], layers: Sequence[str] | None, **options
) -> Html:
    rows = first_row(maps, tokens)
    chosen = _chosen(rows, layers)
    options["include_layers"] = [list(rows).index(name) for name in chosen]
    # bertviz wants a batch of one; double precision, so that 0.123 is not written as 0.12300000339746094
    attention = [torch.tensor(rounded(weights, 3), dtype=torch.float64)[None] for weights in rows.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # bertviz does not close the file of its script
        stock = getattr(_stock(), kind)(attention, list(tokens), prettify_tokens=False, html_action="return", **options)
    page = _mended(stock.data)
    _bearable(kind, page, chosen)
    first = as_text(tokens, rows[chosen[0]][0])
    return Html(page, f"{chosen[0]}, head 0 (bertviz shows the others too)\n{first}")


def _stock() -> ModuleType:
    try:
        import bertviz
    except ImportError as error:
        raise ImportError("bertviz is not installed; run `pip install bertviz`") from error
    return bertviz


def _named(params: Mapping) -> str:
    """An id that follows from the content, so that the same tensors give the same HTML."""
    return f"bertviz-{hashlib.sha256(json.dumps(params).encode()).hexdigest()[:32]}"


def _mended(stock: str) -> str:
    """The stock HTML with its parameters escaped, once instead of twice, and an id that follows from them."""
    before, after = stock.split("const params = ", maxsplit=1)
    params, end = json.JSONDecoder().raw_decode(after)
    after = after[after.index("\n", end) :]  # the rest of the line is a comment that repeats the parameters
    random_id = params.pop("root_div_id")
    params["root_div_id"] = _named(params)
    before = before.replace(
        f'id="{random_id}" style="',
        f'id="{params["root_div_id"]}" style="background:#fff;color:#111;overflow-x:auto;',
    )
    before = before.replace('Layer: <select id="layer"></select>', '<label>Layer: <select id="layer"></select></label>')
    return f"{before}const params = {embedded(params)};{after}"
