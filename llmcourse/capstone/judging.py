"""Judging a claim about a model: does a predictor say what the model says, and do the named heads make it say so?

Both judges give a score and, where they reject, the reason. They know nothing of the rule: they compare with the model,
and they change what it reads or which of its heads may speak.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import NamedTuple

from llmcourse.capstone.released import answers
from llmcourse.models import GPT
from llmcourse.recording import ablate_heads

Predictor = Callable[[str], str]
Heads = Mapping[str, Sequence[int]]  # layer by name, such as "blocks.0.attention": the numbers of its heads
ENOUGH = 0.98  # the agreement that a predictor needs
TAIL = 3  # the last letters, beyond which an n-gram does not look
BLIND = 0.5  # who keeps more than this share of the answers when the row is exchanged does not look at it
STAYS, FALLS = 0.95, 0.3  # shares of answers that must stay with the named heads alone, and must be lost without them


class Judgement(NamedTuple):
    """What a judge says."""

    score: float  # the share of rows on which predictor and model agree, or of answers that the heads alone can give
    reason: str | None  # why it is rejected; None when it is accepted

    def __repr__(self) -> str:
        return f"accepted, {self.score:.2f}" if self.reason is None else f"rejected: {self.reason}"


def n_gram_predictor(rows: Sequence[str], said: Sequence[str], n: int) -> Predictor:
    """The look-alike that counts: what the model said most often after these last n - 1 letters, 1 <= n <= 4."""
    if not 1 <= n <= TAIL + 1:
        raise ValueError(f"n={n}: a table is kept for n from 1 to {TAIL + 1}")
    table: dict[str, Counter] = {}
    for row, letter in zip(rows, said, strict=True):
        table.setdefault(row[len(row) - (n - 1) :], Counter())[letter] += 1
    usual = Counter(said).most_common(1)[0][0]
    return lambda row: table.get(row[len(row) - (n - 1) :], Counter([usual])).most_common(1)[0][0]


def majority(row: str) -> str:
    """The look-alike that ignores order: the letter that stands in the row most often, the first of equals."""
    return Counter(row).most_common(1)[0][0]


def share_agreed(predict: Predictor, model: GPT, rows: Sequence[str]) -> float:
    """The share of rows on which the predictor says what the model says."""
    return _share_equal([predict(row) for row in rows], answers(model, rows))


def judge_predictor(predict: Predictor, model: GPT, rows: Sequence[str]) -> Judgement:
    """Accept a predictor that agrees with the model on at least 0.98 of the rows; else say what it overlooks.

    Two changes tell a look-alike: other letters before the last three, which an n-gram does not see, and the same
    letters in another order, which one who only counts does not see. Both leave rows that the model was made for.
    """
    score = share_agreed(predict, model, rows)
    if score >= ENOUGH:
        return Judgement(score, None)
    said = f"it agrees with the model on {score:.2f} of the rows, and {ENOUGH} is needed"
    for changed, habit in (
        (_other_beginnings(rows), f"it keeps its answer when all but the last {TAIL} letters are exchanged: an n-gram"),
        (_shuffled(rows), "it keeps its answer when the letters before the last two are shuffled: it only counts"),
    ):
        if _share_equal([predict(row) for row in rows], [predict(row) for row in changed]) > BLIND:
            moved = 1 - _share_equal(answers(model, rows), answers(model, changed))
            return Judgement(score, f"{said}. Most often {habit}. The model then changes {moved:.2f} of its answers.")
    row, right = next(
        (row, right) for row, right in zip(rows, answers(model, rows), strict=True) if predict(row) != right
    )
    return Judgement(score, f"{said}. After {row} the model says {right}, and it says {predict(row)}.")


def kept(model: GPT, rows: Sequence[str], silenced: Heads) -> float:
    """The share of the model's answers that stay the same when these heads are silenced, by mean ablation.

    Give many rows: the mean that a silenced head says is taken over them.
    """
    before = answers(model, rows)
    with ablate_heads(model, silenced):
        return _share_equal(before, answers(model, rows))


def other_heads(model: GPT, heads: Heads) -> dict[str, list[int]]:
    """All heads of the model but these. Raises ValueError for a layer or a head that it does not have."""
    numbers = range(model.config.n_heads)
    layers = [f"blocks.{layer}.attention" for layer in range(model.config.n_layers)]
    for layer, chosen in heads.items():
        if layer not in layers or not set(chosen) <= set(numbers):
            raise ValueError(
                f"{layer!r}: {list(chosen)} is not in the model; its layers are {', '.join(layers)}, "
                f"each with heads 0 to {model.config.n_heads - 1}"
            )
    return {layer: [head for head in numbers if head not in heads.get(layer, ())] for layer in layers}


def judge_heads(heads: Heads, model: GPT, rows: Sequence[str]) -> Judgement:
    """Accept the heads that cause the answers: alone they give them, without them they are gone, and none is idle.

    The score is the share of answers that stay when all other heads are silenced.
    """
    others = other_heads(model, heads)
    alone = kept(model, rows, others)
    if alone < STAYS:
        return Judgement(
            alone, f"with these heads alone only {alone:.2f} of the answers stay: one that it takes is missing."
        )
    for layer, chosen in heads.items():
        for head in chosen:
            without = kept(model, rows, others | {layer: [*others[layer], head]})
            if without >= STAYS:
                return Judgement(
                    alone,
                    f"head {head} of {layer} is idle: without it {without:.2f} of the answers stay, wherever it looks.",
                )
    lost = kept(model, rows, heads)
    if lost > FALLS:
        return Judgement(alone, f"without these heads {lost:.2f} of the answers stay: others can do the same work.")
    return Judgement(alone, None)


def _share_equal(some: Sequence[str], others: Sequence[str]) -> float:
    return sum(one == other for one, other in zip(some, others, strict=True)) / len(some)


def _other_beginnings(rows: Sequence[str]) -> list[str]:
    """Each row's last letters after the beginning of the next row that holds the last letter, if there is one."""
    changed = []
    for number, row in enumerate(rows):
        following = islice(cycle(rows), number + 1, number + len(rows))
        begin = next((other[:-TAIL] for other in following if row[-1] in other[:-TAIL]), row[:-TAIL])
        changed.append(begin + row[-TAIL:])
    return changed


def _shuffled(rows: Sequence[str]) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.sample(row[:-2], len(row) - 2)) + row[-2:] for row in rows]
