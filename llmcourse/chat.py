"""Chat: a conversation as one row of tokens, and a loss that counts the assistant's words alone.

    [SYSTEM] reverse [END] [DOCUMENT] key moon cat [END] [ASSISTANT] cat moon key [END]

Each turn is its role's token, its text, and [END]. These are special tokens: only this file puts them in, and
`injection` where it shows the mistake. A text that spells "[END]" gets the ids of ordinary words, so nobody can open or
close a turn by typing. Training counts what the
assistant must say by itself: its words and the [END] after them (as for Llama 2: Touvron et al., 2023b, section 3.1).

Letters: B batch, T positions.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from llmcourse.data import IGNORED, Batch, in_groups, pad_rows
from llmcourse.tokenizers import WordTokenizer

ROLES = ("system", "user", "document", "assistant")
PAD, END = "[PAD]", "[END]"
SPECIAL = (PAD, END, *(f"[{role.upper()}]" for role in ROLES))


class Turn(NamedTuple):
    """What one role says."""

    role: str
    text: str


class Rendered(NamedTuple):
    """A conversation as ids, and for each id whether the assistant must say it by itself."""

    ids: list[int]
    counts: list[bool]


def chat_tokenizer(words: Iterable[str]) -> WordTokenizer:
    """A tokenizer for conversations of these words.

    The names of the special tokens are words too, with ids of their own: somebody may type them.
    """
    return WordTokenizer([*words, *SPECIAL], SPECIAL)


def render(turns: Iterable[tuple[str, str]], tokenizer: WordTokenizer, *, reply: bool = False) -> Rendered:
    """The turns as one row. With `reply`, the row ends where the assistant is to speak: with its role's token.

    Raises ValueError for a role that does not exist.
    """
    ids: list[int] = []
    counts: list[bool] = []
    for role, text in turns:
        if role not in ROLES:
            raise ValueError(f"{role!r} is no role; there are {', '.join(ROLES)}")
        said = [*tokenizer.encode(text), tokenizer.special_id(END)]
        ids += [tokenizer.special_id(f"[{role.upper()}]"), *said]
        counts += [False, *[role == "assistant"] * len(said)]
    if reply:
        ids.append(tokenizer.special_id("[ASSISTANT]"))
        counts.append(False)
    return Rendered(ids, counts)


def answer_batch(conversations: Sequence[Iterable[tuple[str, str]]], tokenizer: WordTokenizer) -> Batch:
    """Whole conversations for `next_token_loss`: the target is the next token where the assistant says it, else -100.

    Raises ValueError when the assistant says nothing in any of them.
    """
    rows = [render(turns, tokenizer) for turns in conversations]
    if not any(any(row.counts) for row in rows):
        raise ValueError("the assistant says nothing in this batch; add ('assistant', answer) to the turns")
    return counted_batch(rows, tokenizer)


def counted_batch(rows: Sequence[Rendered], tokenizer: WordTokenizer) -> Batch:
    """Rendered rows as one batch: the target at each position is the next token where that one counts, else -100."""
    targets = [[i if counts else IGNORED for i, counts in zip(*row, strict=True)][1:] for row in rows]
    tokens = pad_rows([row.ids[:-1] for row in rows], tokenizer.special_id(PAD))
    return Batch(tokens, pad_rows(targets, IGNORED))


def answer_batches(
    conversations: Iterable[Iterable[tuple[str, str]]], size: int, tokenizer: WordTokenizer
) -> Iterator[Batch]:
    """`size` conversations at a time from a stream; when it ends, the last batch holds what is left."""
    for group in in_groups(conversations, size):
        yield answer_batch(group, tokenizer)
