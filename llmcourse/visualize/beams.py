"""The tree of a beam search: which beginnings were followed, which were dropped, which were finished, and at what score.

What is drawn is what `translation.beam_search` reports; the script in `static/` only draws it.
"""

import math
from collections.abc import Callable

from llmcourse.display import Html
from llmcourse.translation import BeamNode, BeamResult
from llmcourse.visualize.page import DECIMALS, block, folded, table

MAX_NODES = 400  # about 60 kilobytes, and more than anybody reads
THE_NUMBERS = "The numbers as a table"


def beam_tree(
    trace: BeamResult, piece: Callable[[int], str], *, length_penalty: float = 1.0, opens: int | None = None
) -> Html:
    """A beam search step by step: a column for each step, a line from each beginning to what it was continued by.

    trace: what `beam_search` found for one sentence.
    piece: the text of a token, such as `tokenizer.piece`.
    length_penalty: the one that the search was run with; scores are log probability / length ** length_penalty.
    opens: the step that the view opens on, counted from 1; the last one by default.
    """
    _check(trace, length_penalty)
    steps, texts = trace.steps, _texts(trace.steps, piece)
    opens = len(steps) if opens is None else opens
    if not 1 <= opens <= len(steps):
        raise ValueError(f"opens={opens} is no step: they are numbered 1 to {len(steps)}")
    nodes = [
        [
            {
                "piece": piece(node.token),
                "parent": node.parent,
                "text": text,
                "logProbability": round(node.log_probability, DECIMALS),
                "score": round(node.log_probability / (i + 1) ** length_penalty, DECIMALS),
                "finished": node.finished,
            }
            for node, text in zip(step, texts[i], strict=True)
        ]
        for i, step in enumerate(steps)
    ]
    fates = [[_fate(steps, i, j) for j in range(len(step))] for i, step in enumerate(steps)]
    rows = [
        (i + 1, [node["text"], node["logProbability"], node["score"], fate])
        for i, step in enumerate(nodes)
        for node, fate in zip(step, fates[i], strict=True)
    ]
    columns = ["the beginning", "log probability", "score", "what became of it"]
    twin = table("Kept after each step, the likeliest first", columns, rows)
    found = [_found(one.tokens, one.log_probability, one.score, one.finished, piece) for one in trace.hypotheses]
    twin += table("What was found, the best first", columns, [(i + 1, row) for i, row in enumerate(found)])
    text = "\n".join(f"{row[2]:7.3f} {row[3]:>8}  {row[0]}" for row in found)
    data = {"steps": nodes, "opens": opens - 1, "best": found[0][0]}
    return block(
        "beam_tree", "A beam search, step by step", data, folded(THE_NUMBERS, twin), f"by score\n{text}", ("heads.js",)
    )


def _check(trace: BeamResult, length_penalty: float) -> None:
    """Raise ValueError for what is no tree, is too large, or was ranked in another way than it would be shown."""
    n_nodes = sum(map(len, trace.steps))
    if not trace.hypotheses or not 1 <= n_nodes <= MAX_NODES:
        raise ValueError(f"a search with {n_nodes} kept beginnings cannot be drawn; give one with 1 to {MAX_NODES:,}")
    sizes = [1, *map(len, trace.steps)]  # before the first step there is one beginning: nothing
    for size, step in zip(sizes, trace.steps, strict=False):
        if wrong := [node for node in step if not 0 <= node.parent < size]:
            raise ValueError(f"{wrong[0]} goes on from a beginning that the step before did not keep")
    for one in trace.hypotheses:
        score = one.log_probability / (len(one.tokens) + one.finished) ** length_penalty
        if not math.isclose(score, one.score, rel_tol=1e-6, abs_tol=1e-9):
            raise ValueError(
                f"a score is {one.score:.4f}, and with length_penalty={length_penalty} it would be {score:.4f}; "
                "give the length_penalty that the search was run with"
            )


def _texts(steps: list[list[BeamNode]], piece: Callable[[int], str]) -> list[list[str]]:
    """The whole beginning of each node."""
    texts: list[list[str]] = []
    for step in steps:
        before = [f"{text} " for text in texts[-1]] if texts else [""]
        texts.append([before[node.parent] + piece(node.token) for node in step])
    return texts


def _fate(steps: list[list[BeamNode]], i: int, j: int) -> str:
    """What became of a node in the next step."""
    if steps[i][j].finished:
        return "finished"
    if i + 1 == len(steps):
        return "cut off"
    return "goes on" if any(child.parent == j for child in steps[i + 1]) else "dropped"


def _found(tokens: list[int], log_probability: float, score: float, finished: bool, piece: Callable) -> list:
    text = " ".join(map(piece, tokens))
    return [text, round(log_probability, DECIMALS), round(score, DECIMALS), "finished" if finished else "cut off"]
