"""Speculative decoding: a small model guesses ahead, and the large one judges all its guesses in one pass.

Reading several tokens costs a large model hardly more than reading one, for its weights are fetched once either way.
So a draft model writes a few tokens, the target model reads them together, and each is kept or refused in such a way
that what is said has exactly the target's distribution. Sources: Leviathan et al. (2023), algorithm 1; Chen et al.
(2023), algorithm 2.

Letters: V vocabulary, T positions, N drafts of one pass. p is the target's distribution of a token, q the draft's.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.generation import SamplingConfig, next_token_probabilities, parts_at_hand, penalise_repetition, stream


def accept_probability(p: Float[Tensor, "*batch V"], q: Float[Tensor, "*batch V"]) -> Float[Tensor, "*batch V"]:
    """min(1, p/q): with which probability each token is kept, once the draft has drawn it.

    0 for a token that the draft never draws.
    """
    return torch.where(q > 0, p / q, torch.zeros_like(p)).clamp(max=1)


def left_over(p: Float[Tensor, "*batch V"], q: Float[Tensor, "*batch V"]) -> Float[Tensor, "*batch V"]:
    """max(0, p - q), made to sum to 1: what the target still owes where the draft drew too rarely.

    A refused draft is replaced by a token drawn from it. Where p = q nothing is owed and nothing refused; then it is p.
    """
    owed = (p - q).clamp(min=0)
    total = owed.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, owed / total, p)


def tokens_a_pass(acceptance: float, n_drafts: int) -> float:
    """How many tokens one pass of the target gives on average, when each draft is kept with this probability.

    (1 - a^(n+1)) / (1 - a): the drafts up to the first refused one, and one token of the target's own. Source:
    Leviathan et al. (2023), equation 1.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"acceptance={acceptance} is a probability, from 0 to 1")
    if n_drafts < 0:
        raise ValueError(f"n_drafts={n_drafts}: a pass judges 0 drafts or more")
    return sum(acceptance**k for k in range(n_drafts + 1))


def expected_speed_up(acceptance: float, n_drafts: int, cost: float) -> float:
    """How many times faster than the target alone; below 1 it is slower.

    cost: the time of one pass of the draft, as a share of one pass of the target. Judging the drafts is taken to cost the
    target one pass, whatever their number. Source: Leviathan et al. (2023), theorem 3.8.
    """
    if not cost >= 0:
        raise ValueError(f"cost={cost} is a share of the target's time: 0 or more")
    return tokens_a_pass(acceptance, n_drafts) / (n_drafts * cost + 1)


@dataclass(frozen=True, kw_only=True)
class Speculated:
    """What was said, and how it came about."""

    tokens: Int[Tensor, "1 T_new"]  # the prompt and what follows it
    drafted: tuple[int, ...]  # for each pass of the target: how many drafts it judged
    accepted: tuple[int, ...]  # and how many of them it kept, before the first that it refused

    @property
    def n_passes(self) -> int:
        """How often the target was run."""
        return len(self.drafted)

    @property
    def acceptance(self) -> float:
        """The share of drafts that were kept, of those that came up; what follows a refused one never does.

        NaN when none came up.
        """
        refused = sum(kept < drafts for drafts, kept in zip(self.drafted, self.accepted, strict=True))
        came_up = sum(self.accepted) + refused
        return sum(self.accepted) / came_up if came_up else float("nan")


@torch.no_grad()
def speculate(
    target: nn.Module,
    draft: nn.Module,
    tokens: Int[Tensor, "B T"],
    n_new: int,
    config: SamplingConfig | None = None,
    *,
    n_drafts: int = 4,
) -> Speculated:
    """`generate(target, tokens, n_new, config)` in fewer passes of the target: the same distribution, other draws.

    One row at a time. It ends after one of `config.stop`, and a full context slides as in `generate`. Both models draw
    with the same settings. Raises ValueError for a prompt that is empty, too long, or of several rows, for models with
    different vocabularies, and for n_drafts below 1.
    """
    _check(target, draft, tokens, n_new, config, n_drafts)
    config = config or SamplingConfig()
    generator = None if config.seed is None else torch.Generator(device=tokens.device).manual_seed(config.seed)
    judge, scout = _Reader(target), _Reader(draft)
    end, drafted, accepted = tokens.shape[-1] + n_new, [], []
    with parts_at_hand(target), parts_at_hand(draft):
        while tokens.shape[-1] < end:
            # One token of each pass is the target's own, so the last one needs no draft.
            n = min(n_drafts, end - tokens.shape[-1] - 1, judge.room(tokens.shape[-1]))
            guessed, q = _guess(scout, tokens, n, config, generator)
            p = _distributions(judge.read(guessed), guessed, n + 1, config)
            new = _keep_or_replace(guessed[0, tokens.shape[-1] :], p, q, generator)
            drafted.append(n)
            accepted.append(len(new) - 1)
            stops = torch.isin(new, torch.tensor(config.stop, dtype=new.dtype, device=new.device)).nonzero()
            tokens = torch.cat([tokens, new[None, : int(stops[0]) + 1 if len(stops) else None]], dim=-1)
            if len(stops):
                break
            for reader in (judge, scout):
                reader.forget_beyond(tokens.shape[-1] - 1)  # the last token is read together with the next drafts
    return Speculated(tokens=tokens, drafted=tuple(drafted), accepted=tuple(accepted))


class _Reader:
    """A model and its cache, which holds the tokens from `start` on."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.cache, self.start = model.eval(), model.new_cache(), 0
        self.context = model.config.context

    def room(self, length: int) -> int:
        """How many tokens may follow these before the context slides; it slides now if these are too many."""
        if length - self.start > self.context:
            self.cache, self.start = self.model.new_cache(), length - max(1, self.context // 2)
        return self.context - (length - self.start)

    @torch.inference_mode()
    def read(self, tokens: Int[Tensor, "1 T"]) -> Float[Tensor, "new V"]:
        """The logits after each token that was not read before."""
        self.room(tokens.shape[-1])
        return self.model(tokens[:, self.start + len(self.cache[0]) :], self.cache)[0]

    def forget_beyond(self, length: int) -> None:
        """Go on as if only so many tokens had been read."""
        if length < self.start:  # the context slid on over drafts that were then refused
            self.cache, self.start = self.model.new_cache(), max(0, length + 1 - max(1, self.context // 2))
        for part in self.cache:
            part.crop(length - self.start)


def _guess(
    scout: _Reader, tokens: Tensor, n: int, config: SamplingConfig, generator: torch.Generator | None
) -> tuple[Int[Tensor, "1 T_new"], Float[Tensor, "N V"] | None]:
    """The tokens with n drafts after them, and the distribution that each draft was drawn from; None for no drafts."""
    rows = []
    for _ in range(n):
        rows.append(_distributions(scout.read(tokens), tokens, 1, config))
        tokens = torch.cat([tokens, torch.multinomial(rows[-1], 1, generator=generator)], dim=-1)
    return tokens, torch.cat(rows) if rows else None


def _distributions(
    logits: Float[Tensor, "read V"], tokens: Int[Tensor, "1 T"], n: int, config: SamplingConfig
) -> Float[Tensor, "n V"]:
    """What the next token is drawn from after each of the last n tokens, by what was said up to there."""
    logits, T = logits[-n:], tokens.shape[-1]
    if config.repetition_penalty != 1:
        said = (tokens[:, : T - n + 1 + k] for k in range(n))
        rows = zip(logits.split(1), said, strict=True)
        logits = torch.cat([penalise_repetition(row, before, config.repetition_penalty) for row, before in rows])
    return next_token_probabilities(logits, config)


def _keep_or_replace(
    drafts: Int[Tensor, "N"],
    p: Float[Tensor, "N_and_1 V"],
    q: Float[Tensor, "N V"] | None,
    generator: torch.Generator | None,
) -> Int[Tensor, "kept_and_1"]:
    """The drafts up to the first that is refused, and one token more: in its place, or after the last draft."""
    kept = 0
    if q is not None:
        chance = accept_probability(p[:-1], q).gather(-1, drafts[:, None])[:, 0]
        luck = torch.rand(len(drafts), generator=generator, device=drafts.device)
        kept = int((luck < chance).int().cumprod(0).sum())
    last = p[-1] if q is None or kept == len(drafts) else left_over(p[kept], q[kept])
    return torch.cat([drafts[:kept], torch.multinomial(last, 1, generator=generator)])


def _check(
    target: nn.Module, draft: nn.Module, tokens: Tensor, n_new: int, config: SamplingConfig | None, n_drafts: int
) -> None:
    """Raise ValueError for what cannot be done."""
    stream(target, tokens, n_new, config)  # not begun: it refuses at once what `generate` refuses
    if len(tokens) != 1:
        raise ValueError(
            f"the prompt has {len(tokens)} rows; rows keep different numbers of drafts, so pass one at a time"
        )
    if target.config.n_vocab != draft.config.n_vocab:
        raise ValueError(
            f"the target knows {target.config.n_vocab} tokens and the draft {draft.config.n_vocab}; "
            "a draft is judged token by token, so train both with one tokenizer"
        )
    if n_drafts < 1:
        raise ValueError(f"n_drafts={n_drafts}: without a draft this is `generate`; use 1 or more")
