"""Following instructions: let a model reply in a conversation, and count how often it does what it was told.

Letters: T positions.
"""

from collections.abc import Iterable, Sequence

from jaxtyping import Int
from torch import Tensor, nn

from llmcourse.chat import END, PAD, render
from llmcourse.data import pad_left
from llmcourse.generation import SamplingConfig, generate
from llmcourse.tokenizers import WordTokenizer

UNFINISHED = "..."  # stands after a reply that did not end


def reply(
    model: nn.Module,
    conversations: Sequence[Iterable[tuple[str, str]]],
    tokenizer: WordTokenizer,
    *,
    n_new: int = 12,
    config: SamplingConfig | None = None,
) -> list[str]:
    """What the model says as the assistant at the end of each conversation, without the [END] that ends it.

    A reply that has not ended after `n_new` tokens is followed by "...". By default each token is the likeliest one.
    """
    rows = reply_tokens(model, conversations, tokenizer, n_new=n_new, config=config)
    return [reply_text(row, tokenizer) for row in rows]


def reply_tokens(
    model: nn.Module,
    conversations: Sequence[Iterable[tuple[str, str]]],
    tokenizer: WordTokenizer,
    *,
    n_new: int = 12,
    config: SamplingConfig | None = None,
) -> list[list[int]]:
    """The ids of each reply, as `continued` gives them."""
    prompts = [render(turns, tokenizer, reply=True).ids for turns in conversations]
    return continued(model, prompts, tokenizer, n_new=n_new, config=config)


def continued(
    model: nn.Module,
    prompts: Sequence[list[int]],
    tokenizer: WordTokenizer,
    *,
    n_new: int,
    config: SamplingConfig | None = None,
) -> list[list[int]]:
    """What the model says after each prompt of ids, up to [END] or another of `config.stop`, which belongs to it when it was said.

    Raises ValueError when `config.stop` lacks the id of [END].
    """
    end = tokenizer.special_id(END)
    settings = config or SamplingConfig(temperature=0.0, stop=(end,))
    if end not in settings.stop:
        raise ValueError(f"stop={settings.stop} lacks the id of [END], {end}: no reply would ever end; add it")
    tokens, padding = pad_left(prompts, tokenizer.special_id(PAD))
    device = next(model.parameters()).device
    said = generate(model, tokens.to(device), n_new, settings, padding=padding.to(device))[:, tokens.shape[1] :]
    return [_up_to(settings.stop, row) for row in said]


def _up_to(stop: Sequence[int], row: Int[Tensor, "T"]) -> list[int]:
    """The ids up to the first that stops; what follows only fills the row up."""
    ids = row.tolist()
    places = (place for place, token in enumerate(ids) if token in stop)
    return ids[: next(places, len(ids)) + 1]


def reply_text(ids: list[int], tokenizer: WordTokenizer) -> str:
    """The words of a reply as `reply_tokens` gives it; "..." stands after one that did not end."""
    if ids and ids[-1] == tokenizer.special_id(END):
        return tokenizer.decode(ids[:-1])
    return f"{tokenizer.decode(ids)} {UNFINISHED}"


def answer_accuracy(
    model: nn.Module,
    conversations: Sequence[Iterable[tuple[str, str]]],
    answers: Sequence[str],
    tokenizer: WordTokenizer,
) -> float:
    """The share of conversations in which the model, choosing the likeliest token each time, gives the right answer.

    Right is the whole answer, and then silence: every word in its place, and [END]. Raises ValueError when there are
    not as many answers as conversations, or none.
    """
    if len(conversations) != len(answers) or not answers:
        raise ValueError(f"{len(conversations)} conversations and {len(answers)} answers: give as many of both")
    longest = max(len(tokenizer.encode(answer)) for answer in answers)
    said = reply(model, conversations, tokenizer, n_new=longest + 1)
    return sum(mine == right for mine, right in zip(said, answers, strict=True)) / len(answers)
