"""A knowledge base that can be asked and edited on the page, with the reader itself inside it.

The page finds facts by BM25 (`static/bm25.js`) and has them read by the same encoder, in 16 bits, that torch has
(`live.as_on_page`); the pointer's two matrices become one, askᵀ · offer. Below stands what Python computes from the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmcourse.answering import CLS, SEP, KnowledgeBase, PointingReader, may_answer
from llmcourse.bert import PreTrainingBert
from llmcourse.display import Html
from llmcourse.tokenizers import WordTokenizer
from llmcourse.visualize.live import as_on_page, packed
from llmcourse.visualize.page import DECIMALS, block, folded, rounded, static, table

MAX_FACTS = 20  # fields that a reader still overlooks
THE_NUMBERS = "The numbers as a table"


class _OnPage(nn.Module):
    """The reader with the numbers that the page has."""

    def __init__(self, bert: PreTrainingBert, pointer: Float[Tensor, "C C"]) -> None:
        super().__init__()
        self.bert, self.pointer = bert, pointer

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        hidden = self.bert.bert(tokens, segments)
        scores = torch.einsum("bc,cd,btd->bt", hidden[:, -1], self.pointer, hidden) / hidden.shape[-1] ** 0.5
        return scores.masked_fill(~may_answer(segments), float("-inf"))


def _as_bert(reader: PointingReader) -> PreTrainingBert:
    """The reader's encoder as the kind of model that the page's engine computes; its heads, never used, are all zeros."""
    bert = PreTrainingBert(replace(reader.config, tied=True))
    bert.bert.load_state_dict(reader.bert.state_dict())
    for head in (bert.masked_lm.dense, bert.masked_lm.norm, bert.next_sentence):
        for weight in head.parameters():
            nn.init.zeros_(weight)
    nn.init.zeros_(bert.masked_lm.decoder.bias)
    return bert


def ask_facts(
    reader: PointingReader, tokenizer: WordTokenizer, sentences: Sequence[str], question: str, *, k: int = 4
) -> Html:
    """Ask a few facts, and change them: which are found, which word the reader points at, and how sure it is.

    sentences: what the knowledge base holds at first; words and signs with spaces between them, a full stop at the end.
    question: what the view opens with, with a question mark at the end.
    k: how many facts are found and read at first.
    """
    if not 1 <= len(sentences) <= MAX_FACTS:
        raise ValueError(f"{len(sentences)} facts: a page shows 1 to {MAX_FACTS} that a reader can overlook and edit")
    if not 1 <= k <= min(6, len(sentences)):
        raise ValueError(f"k={k}: the page lets its reader choose 1 to {min(6, len(sentences))} of these facts")
    bert = _as_bert(reader)
    source, matrix = packed(bert), reader.ask.weight.detach().double().T @ reader.offer.weight.detach().double()
    pointer = rounded(matrix, DECIMALS)
    twin = _OnPage(as_on_page(bert), torch.tensor(pointer, dtype=torch.float32))
    base = KnowledgeBase(sentences, twin, tokenizer)
    found = base.ask(question, k)
    special = {name: tokenizer.special_id(f"[{name.upper()}]") for name in (CLS[1:-1].lower(), SEP[1:-1].lower())}
    data = {"source": source, "pointer": [value for row in pointer for value in row], "question": question, "k": k}
    data |= {"sentences": list(sentences), "words": list(tokenizer.vocabulary)}
    data["special"] = special | {"count": len(tokenizer.special_tokens)}
    scores = base.scores(question)
    rows = [
        (
            i + 1,
            [
                text,
                round(scores[i], 2),
                "read" if i in found.retrieved else "",
                "evidence" if i == found.evidence else "",
            ],
        )
        for i, text in enumerate(sentences)
    ]
    said = f"{found.text or 'no answer'}, with probability {found.confidence:.2f}"
    caption = f"{question} The answer: {said}"
    twin_table = table(caption, ["fact", "BM25 score", "among those read", ""], rows)
    style = f"<style>\n{static('playground.css')}{static('ask.css')}</style>\n"
    text = "\n".join([caption, *(f"{number:3} {cells[0]}  {cells[1]} {cells[2]} {cells[3]}" for number, cells in rows)])
    parts = ("engine.js", "bm25.js")
    return block(
        "ask_facts", "Ask and edit a knowledge base", data, style + folded(THE_NUMBERS, twin_table), text, parts
    )
