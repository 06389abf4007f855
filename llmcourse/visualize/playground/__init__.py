"""The playground page: a small GPT of this course that runs in the reader's browser.

`make` trains the model and stores it in this folder, in 16 bits; `load` and the page read the same stored numbers, so that
both compute the same. On the page, `static/engine.js` computes and `static/playground.js` shows; both, and the weights,
are fetched when the reader asks for them. `write` writes here what the page writes for the same seed.
"""

import base64
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch

from llmcourse.corpora import plain
from llmcourse.data import random_windows, windows_in_order
from llmcourse.display import Html, escape
from llmcourse.evaluation import mean_loss
from llmcourse.files import write_atomically
from llmcourse.generation import SamplingConfig, next_token_probabilities
from llmcourse.models import GPT, NGram, count_parameters, load_model, save_model
from llmcourse.tokenizers import BPETokenizer
from llmcourse.training import TrainConfig, next_token_loss, seed_everything, train
from llmcourse.transformer import TransformerConfig
from llmcourse.visualize.page import block, embedded, static, table
from llmcourse.visualize.views import visible

FOLDER = Path(str(files(__name__)))
EXAMPLE = "Oda rowed the ferry at Alder Bend, and"  # what the page opens with
HELD_OUT = 3  # texts that exist in English and Chinese, and that training does not see
STEPS = 800  # more steps learn the training text by heart: the loss on the held-out texts no longer falls


def corpus() -> tuple[str, str]:
    """The text to train on, and the held-out text: the last 3 fables that exist in both languages, in both."""
    unseen = [text for pair in plain.pairs()[-HELD_OUT:] for text in pair]
    texts = [text for language in (plain.english(), plain.chinese()) for text in language.strip().split("\n\n\n")]
    return "\n\n\n".join(text for text in texts if text not in unseen), "\n\n\n".join(unseen)


def make(folder: Path = FOLDER, steps: int = STEPS) -> dict[str, float | int]:
    """Train the model, store it, and measure what is stored: some minutes on one thread, the same each time."""
    seed_everything(0)
    known_text, unseen_text = corpus()
    tokenizer = BPETokenizer.train(known_text, vocab_size=700)
    known, unseen = (torch.tensor(tokenizer.encode(text)) for text in (known_text, unseen_text))
    config = TransformerConfig(n_vocab=len(tokenizer), context=128, d_model=96, n_heads=4, n_layers=3, dropout=0.3)
    model = GPT(config)
    plan = TrainConfig(steps=steps, weight_decay=0.1)
    for _ in train(model, random_windows(known, config.context, 16), next_token_loss, plan):
        pass
    save_model(model, folder, torch.float16)
    tokenizer.save(folder / "tokenizer.json")
    measured = measure(load_model(folder), known, unseen)
    write_atomically(folder / "results.json", json.dumps(measured, indent=2).encode())
    return measured


def measure(model: GPT, known: torch.Tensor, unseen: torch.Tensor) -> dict[str, float | int]:
    """Losses in nats per token, to two decimals: on both texts, and on the held-out one a bigram's, at its best k."""
    windows = windows_in_order(unseen, model.config.context, 16)
    bigrams = [NGram(model.config.n_vocab, k=k).fit(known[None, :-1], known[None, 1:]) for k in (0.02, 0.05, 0.1)]
    losses = {
        "training": mean_loss(model, windows_in_order(known, model.config.context, 16)),
        "held_out": mean_loss(model, windows),
        "bigram": min(mean_loss(bigram, windows) for bigram in bigrams),
    }
    return {"parameters": count_parameters(model)} | {name: round(loss, 2) for name, loss in losses.items()}


def load() -> tuple[GPT, BPETokenizer]:
    """The stored model, with its 16-bit weights as float32, and its tokenizer."""
    return load_model(FOLDER), BPETokenizer.load(FOLDER / "tokenizer.json")


def mulberry32(seed: int) -> Iterator[float]:
    """Numbers from 0 to below 1, the same for the same seed in every language: 32 bits of state, two multiplications.

    Good enough to draw words, and short enough to be written twice; not for secrets.
    """
    state, ones = seed & 0xFFFFFFFF, 0xFFFFFFFF
    while True:
        state = state + 0x6D2B79F5 & ones
        t = (state ^ state >> 15) * (state | 1) & ones
        t ^= t + (t ^ t >> 7) * (t | 61) & ones
        yield (t ^ t >> 14) / 2**32


@torch.no_grad()
def write(prompt: str, n: int, seed: int, sampling: SamplingConfig | None = None) -> str:
    """The n tokens that the page's model writes after the prompt, as text: the same as there for the same seed.

    The numbers come from `mulberry32`, so the seed of `sampling` counts for nothing. Only the end of a prompt that is
    longer than the context is read. Raises ValueError when the prompt is empty.
    """
    model, tokenizer = load()
    model.double()  # the page adds in doubles too: no draw hangs on a rounding
    tokens, context = tokenizer.encode(prompt)[-model.config.context :], model.config.context
    if not tokens:
        raise ValueError("the prompt is empty; give at least one character to begin from")
    random, cache, fresh, written = mulberry32(seed), model.new_cache(), tokens, []
    for _ in range(n):
        if len(cache[0]) + len(fresh) > context:
            cache, fresh = model.new_cache(), tokens[-max(1, context // 2) :]
        logits = model(torch.tensor([fresh]), cache)[0, -1]
        fresh = [_draw(next_token_probabilities(logits, sampling or SamplingConfig()), next(random))]
        tokens, written = tokens + fresh, written + fresh
    return tokenizer.decode(written)


def _draw(probabilities: torch.Tensor, point: float) -> int:
    """Walk along the vocabulary until the probabilities passed add up to more than `point`."""
    # The sum may end a rounding error below 1: then it is the last token that can come at all.
    return min(int((probabilities.cumsum(dim=0) <= point).sum()), int(probabilities.nonzero()[-1]))


@cache
def results() -> dict[str, float | int]:
    """What `make` measured."""
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def scripts() -> dict[str, str]:
    """The two files that the page loads: the program and the model. Classic scripts, for a page opened from a disk
    can load nothing else. They set `llmcourse.playground`, `llmcourse.engine` and `llmcourse.model`.
    """
    names = (
        "views.js",
        "attention_heads.js",
        "token_bars.js",
        "next_token_bars.js",
        "switches.js",
        "engine.js",
        "writing.js",
        "playground.js",
    )
    program = "\n".join(static(name) for name in names)
    weights = base64.b64encode((FOLDER / "model.safetensors").read_bytes()).decode()
    model = {
        name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ("config", "tokenizer")
    }
    return {
        "playground.js": f'(() => {{\n"use strict";\n{program}\n}})();\n',
        "model.js": f"(globalThis.llmcourse ??= {{}}).model = {embedded(model | {'weights': weights})};\n",
    }


@torch.no_grad()
def page(address: str) -> Html:
    """The page's view: a button that loads the scripts from `address`, and one example that needs no script."""
    model, tokenizer = load()
    ids = tokenizer.encode(EXAMPLE)
    pieces = [visible(tokenizer.piece(i)) for i in ids]
    likeliest = model(torch.tensor([ids]))[0, -1].double().softmax(dim=-1).topk(8)
    following = [visible(tokenizer.piece(i)) for i in likeliest.indices.tolist()]
    probabilities = [f"{p:.2f}" for p in likeliest.values.tolist()]
    size = sum(len(script) for script in scripts().values()) / 1e6
    twin = (
        f"<style>\n{static('playground.css')}</style>\n"
        '<p class="without-script">With JavaScript you could load the model here, type a text of your own, see its tokens '
        "and what every head looks at, switch heads off, and let the model write. Without it, there is one example.</p>\n"
        f'<div class="example"><p>An example: “{escape(EXAMPLE)}” …</p>\n'
        f"{table(f'Its {len(ids)} tokens', pieces, [('id', ids)])}"
        f"{table('The likeliest tokens to come next', following, [('probability', probabilities)])}</div>\n"
    )
    text = "\n".join(f"{piece:>8} {p}" for piece, p in zip(following, probabilities, strict=True))
    data = {"address": address, "megabytes": f"{size:.1f}", "example": EXAMPLE}
    return block("playground_button", "Playground: a small GPT in this page", data, twin, text)
