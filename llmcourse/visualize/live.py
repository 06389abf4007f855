"""Views that hold a small model and compute it on the page, and the logit lens.

A page gets the model's weights in 16 bits, and `static/engine.js` computes with them what torch computes from the same
rounded weights (`as_on_page`). Below each view stand numbers that torch computed, for whoever has no JavaScript.

Letters: B batch, H heads, T positions, V vocabulary, L layers.
"""

import base64
import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from safetensors.torch import save
from torch import Tensor, nn

from llmcourse import recording
from llmcourse.bert import PreTrainingBert
from llmcourse.display import Html
from llmcourse.models import GPT
from llmcourse.tokenizers import WordTokenizer
from llmcourse.visualize.page import DECIMALS, block, folded, static, table
from llmcourse.visualize.views import visible

MAX_PARAMETERS = 150_000  # of a model inside a page: 0.4 MB of text, of a notebook's 1 MB
MAX_TOKENS = 40  # of a text whose every position is shown
LIKELIEST = 8  # tokens to name
THE_NUMBERS = "The numbers as a table"
BLOCKS = {GPT: "blocks", PreTrainingBert: "bert.encoder.blocks"}  # what the engine computes, and where its layers are
HEADS = {GPT: "head.weight", PreTrainingBert: "masked_lm.decoder.weight"}  # when tied, the embedding's own matrix
LISTED = 5  # words for a blank


def as_on_page(model: nn.Module) -> nn.Module:
    """A copy of the model with its weights rounded to 16 bits, as a page holds them.

    Raises ValueError when a weight is too large for 16 bits.
    """
    twin = copy.deepcopy(model).cpu().float().eval()
    weights = {name: weight.half().float() for name, weight in twin.state_dict().items()}
    broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if broken:
        raise ValueError(
            f"{', '.join(broken)}: numbers that 16 bits cannot hold, or NaN; look at what trained the model"
        )
    twin.load_state_dict(weights)
    return twin


def packed(model: nn.Module) -> dict:
    """The model as `engine.load` takes it: its config, and its weights as base64 of float16 safetensors.

    Raises TypeError for a model that the engine does not compute, ValueError for one that is too large for a page.
    """
    _check_kind(model)
    weights = {name: weight.half().contiguous() for name, weight in as_on_page(model).state_dict().items()}
    if model.config.tied:
        weights = {name: weight for name, weight in weights.items() if name != HEADS[type(model)]}
    size = sum(weight.numel() for weight in weights.values())
    if size > MAX_PARAMETERS:
        raise ValueError(
            f"the model has {size:,} parameters, and a page bears {MAX_PARAMETERS:,} (0.4 MB of text); "
            "train a narrower or shallower one, such as d_model=48 with 2 layers, or show recorded tensors instead"
        )
    config = {"kind": type(model).__name__} | asdict(model.config)
    return {"config": config, "weights": base64.b64encode(save(weights)).decode()}


def _check_kind(model: nn.Module) -> None:
    if type(model) not in BLOCKS:
        raise TypeError(
            f"a {type(model).__name__} is not computed on a page, where {' and '.join(kind.__name__ for kind in BLOCKS)} "
            "are; show recorded tensors instead, such as attention_heads(maps, tokens)"
        )


def _first_row(tokens: Tensor | Sequence[int], words: Sequence[str], model: nn.Module) -> list[int]:
    """The ids of the first text; ValueError when the view cannot show them."""
    ids = torch.as_tensor(tokens)
    ids = (ids[0] if ids.dim() == 2 else ids).tolist()
    if len(words) != model.config.n_vocab:
        raise ValueError(f"{len(words)} words for a vocabulary of {model.config.n_vocab}; give a word for each token")
    longest = min(MAX_TOKENS, model.config.context)
    if not 1 <= len(ids) <= longest:
        raise ValueError(f"the text has {len(ids)} tokens; give 1 to {longest}, such as tokens[:, :{longest}]")
    return ids


@torch.no_grad()
def logit_lens(model: nn.Module, tokens: Tensor | Sequence[int], words: Sequence[str]) -> Html:
    """What the model would say if it stopped after each layer; choose a cell to see its likeliest tokens.

    tokens: the ids of a text (T,), or a batch (B, T) of which the first text is shown; at most 40 tokens.
    words: what each token of the vocabulary is called.
    """
    ids = _first_row(tokens, words, model)
    logits = recording.logit_lens(model, torch.tensor([ids], device=next(model.parameters()).device))[:, 0]
    probabilities = logits.double().softmax(dim=-1).cpu()
    shown, n_layers = [visible(word) for word in words], len(probabilities) - 1
    layers = ["embedding", *(f"layer {layer}" for layer in range(n_layers))]
    order = probabilities.argsort(dim=-1, descending=True, stable=True)
    cells = [
        [_cell(row[t], order[layer, t], ids[t + 1] if t + 1 < len(ids) else None, shown) for t in range(len(ids))]
        for layer, row in enumerate(probabilities)
    ]
    texts = [shown[i] for i in ids]
    named = [[f"{word} {p:.2f}" for word, p in (cell["top"][0] for cell in row)] for row in cells]
    twin = table("The likeliest token and its probability, after each layer", texts, zip(layers, named, strict=True))
    ends = [[f"{word} {p:.2f}" for word, p in row[-1]["top"]] for row in cells]
    twin += table(
        f"The likeliest after the last token, {texts[-1]}", range(1, len(ends[0]) + 1), zip(layers, ends, strict=True)
    )
    data = {"layers": layers, "tokens": texts, "cells": cells}
    text = "\n".join(f"{layer:>10} " + ", ".join(row) for layer, row in zip(layers, named, strict=True))
    return block(
        "logit_lens",
        "What the model would say after each layer",
        data,
        folded(THE_NUMBERS, twin),
        text,
        ("heads.js", "top_rows.js"),
    )


def _cell(probabilities: Tensor, order: Tensor, following: int | None, words: Sequence[str]) -> dict:
    """The likeliest tokens of one layer at one position; and how the token fares that does come next."""
    top = [[words[i], round(probabilities[i].item(), DECIMALS)] for i in order[:LIKELIEST].tolist()]
    if following is None:
        return {"top": top, "next": None}
    rank = order.tolist().index(following) + 1
    return {"top": top, "next": {"p": round(probabilities[following].item(), DECIMALS), "rank": rank}}


def ablate(
    model: nn.Module,
    tokens: Tensor | Sequence[int],
    words: Sequence[str],
    *,
    segments: Sequence[int] | None = None,
    position: int | None = None,
    off: Mapping[int, Sequence[int]] | None = None,
) -> Html:
    """Switch heads of a small model off, and see the prediction and the attention of later layers change.

    The page computes what `recording.ablate_heads` does, with the weights rounded to 16 bits.

    tokens: the ids of a text (T,), or a batch (B, T) of which the first text is shown; at most 40 tokens.
    words: what each token of the vocabulary is called.
    segments: of a BERT's text, 0 for each token of the first sentence and 1 of the second; None is 0 everywhere.
    position: where the prediction is read; by default at the last token.
    off: the heads that are off when the view opens, such as {0: [1, 2]}: by layer.
    """
    source = packed(model)
    ids, shown = _first_row(tokens, words, model), [visible(word) for word in words]
    position = len(ids) - 1 if position is None else position
    if not 0 <= position < len(ids):
        raise ValueError(f"position={position} is none of the {len(ids)} tokens; they count from 0")
    if segments is not None and (len(segments) != len(ids) or not isinstance(model, PreTrainingBert)):
        raise ValueError(f"{len(segments)} segments for {len(ids)} tokens; a BERT takes one for each, a GPT none")
    silenced = [(layer, head) for layer, heads in (off or {}).items() for head in heads]
    for layer, head in silenced:
        if not (0 <= layer < model.config.n_layers and 0 <= head < model.config.n_heads):
            raise ValueError(f"layer {layer} has no head {head} to switch off; layers and heads count from 0")
    twin = as_on_page(model)
    opens = {"position": position, "off": [f"{layer}.{head}" for layer, head in silenced]}
    data = {"source": source, "tokens": ids, "words": shown, "opens": opens}
    data["segments"] = None if segments is None else list(segments)
    rows = _ablations(twin, ids, position, shown, segments)
    caption = f"The prediction at {shown[ids[position]]}, with one head off at a time"
    columns = ["likeliest", "its probability", "before", "probability that lies elsewhere"]
    style = f"<style>\n{static('playground.css')}</style>\n"
    text = "\n".join(f"{name:>16} {cells[0]} {cells[1]}" for name, cells in rows)
    parts = ("attention_heads.js", "token_bars.js", "switches.js", "engine.js")
    content = style + folded(THE_NUMBERS, table(caption, columns, rows))
    return block("ablate", "Switch heads off and see what changes", data, content, text, parts)


@torch.no_grad()
def _ablations(
    model: nn.Module, ids: list[int], position: int, words: Sequence[str], segments: Sequence[int] | None
) -> list[tuple[str, list[str]]]:
    """A row for the whole model, and one for each head that is silenced alone."""
    inputs = [torch.tensor([ids]), *([] if segments is None else [torch.tensor([list(segments)])])]

    def predict(heads: Mapping[str, Sequence[int]]) -> Tensor:
        with recording.ablate_heads(model, heads):
            return model(*inputs)[0, position].double().softmax(dim=-1)

    intact, rows = predict({}), []
    cases = {"all heads on": {}}
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            cases[f"layer {layer}, head {head}"] = {f"{BLOCKS[type(model)]}.{layer}.attention": [head]}
    for name, heads in cases.items():
        changed = predict(heads)
        best = int(changed.argmax())
        moved = (changed - intact).abs().sum().item() / 2
        rows.append((name, [words[best], f"{changed[best]:.3f}", f"{intact[best]:.3f}", f"{moved:.3f}"]))
    return rows


def fill_blanks(model: PreTrainingBert, tokenizer: WordTokenizer, text: str, *, layer: int = 0, head: int = 0) -> Html:
    """Type a text with blanks: the page names what may stand in each, and shows what the heads look at.

    A full stop ends the first sentence, and what follows is the second: the model reads [CLS] first [SEP] second [SEP].
    Typed words that the tokenizer does not know are refused on the page.

    tokenizer: one of whole words, with the special tokens [CLS], [SEP] and [MASK].
    text: what the view opens with; words and signs with spaces between them, [MASK] for a blank.
    layer, head: the head whose attention is drawn first.
    """
    source = packed(model)
    if not isinstance(model, PreTrainingBert) or not isinstance(tokenizer, WordTokenizer):
        kinds = f"a {type(model).__name__} and a {type(tokenizer).__name__}"
        raise TypeError(f"{kinds} cannot fill blanks in words; give a PreTrainingBert and a WordTokenizer")
    if len(tokenizer) != model.config.n_vocab:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} words, and the model {model.config.n_vocab}; give its own"
        )
    if not (0 <= layer < model.config.n_layers and 0 <= head < model.config.n_heads):
        raise ValueError(f"there is no head {head} of layer {layer} to open on; layers and heads count from 0")
    ids, segments = _two_sentences(tokenizer, text)
    if len(ids) > model.config.context:
        raise ValueError(f"the text has {len(ids)} tokens, and the model reads {model.config.context}; make it shorter")
    special = {name: tokenizer.special_id(f"[{name.upper()}]") for name in ("cls", "sep", "mask")}
    data = {"source": source, "words": list(tokenizer.vocabulary), "text": text}
    data |= {"special": special | {"count": len(tokenizer.special_tokens)}, "opens": {"layer": layer, "head": head}}
    rows = _predictions(as_on_page(model), tokenizer, ids, segments)
    words = list(tokenizer.vocabulary)[len(tokenizer.special_tokens) :]
    twin = table(f"The likeliest words for each blank of: {text}", range(1, LISTED + 1), rows)
    twin += table("The words that the model knows", ["words"], [("all", [" ".join(words)])])
    style = f"<style>\n{static('playground.css')}</style>\n"
    shown = "\n".join([text, *(f"{name}: {', '.join(cells)}" for name, cells in rows)])
    parts = ("attention_heads.js", "top_rows.js", "engine.js")
    return block("fill_blanks", "Fill the blanks of a text", data, style + folded(THE_NUMBERS, twin), shown, parts)


def _two_sentences(tokenizer: WordTokenizer, text: str) -> tuple[list[int], list[int]]:
    """The ids of [CLS] first [SEP] second [SEP], as the page lays them, and the sentence of each."""
    cls, sep, mask = (tokenizer.special_id(name) for name in ("[CLS]", "[SEP]", "[MASK]"))
    words = text.split()
    ids = [mask if word == "[MASK]" else tokenizer.encode(word)[0] for word in words]
    stop = words.index(".") + 1 if "." in words else len(words)
    row = [cls, *ids[:stop], sep, *([*ids[stop:], sep] if ids[stop:] else [])]
    return row, [int(i > stop + 1) for i in range(len(row))]


@torch.no_grad()
def _predictions(
    model: PreTrainingBert, tokenizer: WordTokenizer, ids: list[int], segments: list[int]
) -> list[tuple[str, list[str]]]:
    """A row for each blank: the likeliest words with their probabilities."""
    probabilities = model(torch.tensor([ids]), torch.tensor([segments]))[0].double().softmax(dim=-1)
    rows = []
    for number, place in enumerate((i for i, token in enumerate(ids) if token == tokenizer.special_id("[MASK]")), 1):
        likeliest = probabilities[place].topk(min(LISTED, len(tokenizer)))
        pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        rows.append((f"blank {number}", [f"{tokenizer.piece(i)} {p:.2f}" for i, p in pairs]))
    return rows
