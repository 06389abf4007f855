"""Trust boundaries to look at: whose words reach an answer, traced through a model's attention.

Letters: B batch, H heads, T positions, A words of the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmcourse.corpora.commands import WORDS, Conversation
from llmcourse.display import Html
from llmcourse.injection import Form, parts
from llmcourse.recording import record_attention
from llmcourse.tokenizers import WordTokenizer
from llmcourse.visualize.page import block, checked, folded, rounded, table

MAX_TOKENS = 60  # of one prompt with its answer
ALL_LAYERS = "all layers"


@dataclass(frozen=True)
class Traced:
    """One model's prompt with its answer, and what its heads looked at."""

    tokens: Sequence[str]
    zones: Sequence[str]  # who said each token, such as "document"
    injected: Sequence[int]  # places of the injected instruction
    answer: int  # where the answer begins: the token before it says the first word
    maps: Mapping[str, Float[Tensor, "B H T T"]]  # what `record_attention` collects; the first row counts


def traced_reply(model: nn.Module, asked: Conversation, said: str, tokenizer: WordTokenizer, form: Form) -> Traced:
    """Let the model read a conversation in its form together with what it said to it, and note who looks at whom.

    The injected words are those of the document that are no words of documents.
    """
    pieces = parts((*asked.turns, ("assistant", said)), tokenizer, form)
    ids = [i for _, part in pieces for i in part.ids]
    zones = [role for role, part in pieces for _ in part.ids]
    tokens = [tokenizer.piece(i % len(tokenizer)) for i in ids]
    material = {*WORDS, "[DOCUMENT]", "[END]"}
    injected = [i for i, zone in enumerate(zones) if zone == "document" and tokens[i] not in material]
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([ids]))
    return Traced(tokens, zones, injected, zones.index("assistant") + 1, dict(maps))


def rollout(maps: Mapping[str, Float[Tensor, "B H T T"]]) -> Float[Tensor, "T T"]:
    """How much of each token (column) is in each position (row) after the last layer, if attention were all there is.

    Every layer passes on half of what is there and half of what its heads, on average, look at.
    Source: Abnar & Zuidema (2020), attention rollout.
    """
    if not maps:
        raise ValueError("maps is empty; run the model inside `with record_attention(model) as maps:` first")
    total = torch.eye(next(iter(maps.values())).shape[-1], dtype=torch.double)
    for name, weights in maps.items():
        mean = checked(weights, f"the attention of {name!r}", (None, None, *total.shape))[0].mean(dim=0)
        total = (mean + torch.eye(len(mean), dtype=torch.double)) / 2 @ total
    return total


def injected_share(traced: Traced, *, layer: str | None = None, head: int = 0) -> float:
    """The share of the injected words in what the first word of the answer draws from: by rollout, or in one head."""
    weights = rollout(traced.maps) if layer is None else traced.maps[layer][0, head].double()
    return weights[traced.answer - 1, list(traced.injected)].sum().item()


def trust_boundaries(models: Mapping[str, Traced], *, said: int = 0) -> Html:
    """The prompt of each model in the boxes of those who said its words; the stronger a word's colour, the more of it is in the answer.

    models: at least one, by name; all are asked the same, in their own form of the prompt.
    said: the word of the answer that the view opens on.
    """
    if not models:
        raise ValueError("there is no model to trace; give one, such as {'undefended': Traced(...)}")
    data, twin, lines = {}, "", []
    for name, traced in models.items():
        _check(name, traced, said)
        said_at = range(traced.answer - 1, len(traced.tokens) - 1)
        traces = {ALL_LAYERS: rollout(traced.maps)}
        for number, weights in enumerate(traced.maps.values()):
            traces |= {f"layer {number}, head {head}": heads for head, heads in enumerate(weights[0].double())}
        words = [traced.tokens[at + 1] for at in said_at]
        data[name] = {
            "tokens": list(traced.tokens),
            "zones": list(traced.zones),
            "injected": list(traced.injected),
            "said": words,
            "traces": {trace: rounded(weights[list(said_at)], 3) for trace, weights in traces.items()},
        }
        shares = rounded(traces[ALL_LAYERS][list(said_at)].T, 3)
        rows = [
            (token, [zone, "yes" if i in traced.injected else "", *share])
            for i, (token, zone, share) in enumerate(zip(traced.tokens, traced.zones, shares, strict=True))
        ]
        twin += table(f"{name}: shares through all layers", ["said by", "injected", *words], rows)
        lines.append(f"{name}: {words[said]!r} draws {injected_share(traced):.2f} from the injected words")
    opens = {"model": 0, "said": said, "trace": 0}
    label = "Whose words reach the answer, traced through attention"
    return block(
        "trust_boundaries",
        label,
        {"models": data, "names": list(data), "opens": opens},
        folded("As tables", twin),
        "\n".join(lines),
    )


def _check(name: str, traced: Traced, said: int) -> None:
    T = len(traced.tokens)
    if len(traced.zones) != T or T > MAX_TOKENS:
        raise ValueError(
            f"{name!r} has {T} tokens and {len(traced.zones)} zones; give each of at most {MAX_TOKENS} its own"
        )
    if not 1 <= traced.answer < T or not 0 <= said < T - traced.answer:
        raise ValueError(f"{name!r}: the answer begins at {traced.answer} of {T}, and word {said} of it is not there")
    if not all(0 <= place < traced.answer for place in traced.injected):
        raise ValueError(f"{name!r}: the injected places {list(traced.injected)} are not all before the answer")
