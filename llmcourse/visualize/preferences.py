"""Preferences to look at: what the best policy would say, and how far a trained one went for what it gained."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from llmcourse.display import Html, escape
from llmcourse.preferences import best_policy, least_divergence
from llmcourse.visualize.page import static
from llmcourse.visualize.plots import COLOURS

MARKERS = "os^Dv"
N_POINTS = 100  # of the curve of least divergence


def best_replies(reference: Mapping[str, float], rewards: Mapping[str, float], beta: float) -> Html:
    """The best policy over a few replies as bars, beside the reference, with the reward it gains and its KL.

    reference: the probability of each reply; rewards: what each is worth. Made to be turned over by `widgets.explore`.
    """
    if set(reference) != set(rewards):
        raise ValueError(f"replies {sorted(reference)} and rewards for {sorted(rewards)}: give a reward to each reply")
    before = torch.tensor([reference[reply] for reply in rewards], dtype=torch.float64)
    worth = torch.tensor(list(rewards.values()), dtype=torch.float64)
    after = best_policy(before, worth, beta)
    gained, distance = (after * worth).sum().item(), (after * (after / before).log()).nan_to_num(0.0).sum().item()
    caption = f"mean reward {gained:.2f}, KL {distance:.2f} nats"
    shares = list(zip(before.tolist(), after.tolist(), strict=True))
    body, lines = "", [caption]
    for (reply, reward), (p, q) in zip(rewards.items(), shares, strict=True):
        note = f"{reply} (reward {reward:g})"
        body += f'<div><p class="note">{escape(note)}</p><ol class="bars">{_bar("before", p)}{_bar("after", q)}</ol></div>\n'
        lines.append(f"{note}: before {p:.2f}, after {q:.2f}")
    return Html(
        f'<div class="llmcourse-view" role="group" aria-label="{escape(f"The best policy at β = {beta:g}")}">\n<style>\n{static("views.css")}</style>\n'
        f'<div class="stage"><p class="note">{escape(caption)}</p>\n{body}</div></div>',
        "\n".join(lines),
    )


def _bar(word: str, share: float) -> str:
    return (
        f'<li><span class="word">{word}</span><span class="track"><span class="fill" style="--share:{share:.4f}"></span>'
        f'</span><span class="number">{share:.2f}</span></li>'
    )


def frontier(paths: Mapping[str, Sequence[tuple[float, float]]], *, before: float, y_label: str) -> Figure:
    """How much of what is preferred a policy says, against how far it went for it: no policy lies left of the curve.

    paths: {"β = 0.5": [(KL, share), ...]}, a point for each moment of a training, drawn as a path from the first.
    before: the reference's share. The curve is `least_divergence` from there; a KL estimated from samples may stray.
    """
    if not paths or not all(paths.values()):
        raise ValueError("there is no path to draw; give one, such as {'β = 0.5': [(0.0, 0.5), (0.7, 0.95)]}")
    shares = [before + (1 - before) * i / N_POINTS for i in range(N_POINTS + 1)]
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained", facecolor="white")
    ax.spines[["top", "right"]].set_visible(False)
    ax.plot([least_divergence(share, before) for share in shares], shares, "k--", linewidth=1.5, label="the least KL")
    for number, (name, path) in enumerate(paths.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        ax.plot(*zip(*path, strict=True), linewidth=1.5, label=name, **style)
    ax.set(xlabel="KL from the reference (nats per reply)", ylabel=y_label, ylim=(min(before, 0.4) - 0.02, 1.02))
    ax.legend(frameon=False, loc="lower right")
    plt.close(figure)  # a cell that ends with it shows it once
    return figure
