"""Exercises of chapter 4: heads, positions, norms and the parts of a block, each with the slips that still run."""

import torch
from torch.nn import functional as F

from llmcourse.exercises import Exercise, Wrong, mistake, solution

CHAPTER = 4


def _tensors(seed: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


class PredictHeads(Exercise):
    """Predict, then run: what do more heads cost?"""

    prompt = (
        "Predict before you run the next cell. An attention layer of width 64 has 4 heads. You give it 8 heads and leave "
        "the width at 64. By what factor does its number of parameters change? Give a number."
    )
    difficulty, minutes = 1, 3
    tolerance = 1e-6
    hints = (
        "How wide is one head when 8 of them share a width of 64?",
        "The projections are matrices of 64 × 64, whatever you call their columns afterwards.",
    )
    praise = "correct: by 1, not at all. Heads are a way to cut the same columns. Run the next cell to see it."

    @solution
    def factor():
        return 1.0

    @mistake("Twice as many heads, but each is half as wide: 8 heads of 8 columns are the same 64 columns as 4 of 16.")
    def doubled():
        return 2.0

    @mistake("You halved it. Each head is half as wide, but there are twice as many of them.")
    def halved():
        return 0.5

    @mistake("Nothing is squared here: the width stays 64, so each projection stays a matrix of 64 × 64.")
    def squared():
        return 4.0


def _cut(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    T, C = x.shape
    return x.view(T, n_heads, C // n_heads).transpose(0, 1)


def _join(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1) @ value


class MultiHead(Exercise):
    """Multi-head attention from four matrices: split, attend, merge."""

    prompt = (
        "Write `multi_head(x, to_query, to_key, to_value, to_out, n_heads)` for x of shape (T, C) and four matrices of "
        "shape (C, C), each used as `x @ matrix`. Head h works on columns h·D to (h+1)·D of the projections, D = C / "
        "n_heads; the heads are laid side by side again in the same order, and `to_out` mixes them. No mask. The result has "
        "x's shape and dtype."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Project first, all heads at once; then cut the columns into heads.",
        "From (T, C) to (H, T, D) takes two steps: `view(T, H, D)`, then `transpose(0, 1)`. The way back is the same, "
        "backwards.",
        "Scores are `query @ key.transpose(-2, -1) / D ** 0.5` with D the width of one head; then softmax, then `@ value`.",
    )

    @classmethod
    def probes(cls, seed):
        shapes = ((5, 6, 2), (4, 12, 3))
        probes = []
        for number, (T, C, n_heads) in enumerate(shapes):
            x, *matrices = _tensors(seed + number, (T, C), (C, C), (C, C), (C, C), (C, C))
            probes.append((x, *matrices, n_heads))
        return probes

    @solution
    def multi_head(x, to_query, to_key, to_value, to_out, n_heads):
        T, C = x.shape
        D = C // n_heads
        query, key, value = (
            (x @ matrix).view(T, n_heads, D).transpose(0, 1) for matrix in (to_query, to_key, to_value)
        )
        weights = (query @ key.transpose(-2, -1) / D**0.5).softmax(dim=-1)
        return (weights @ value).transpose(0, 1).reshape(T, C) @ to_out

    @mistake(
        "You cut with `view(n_heads, T, D)`. The shape is right and the numbers are not: it deals out rows in order, so a "
        "head gets pieces of different words. Cut the columns with `view(T, n_heads, D)`, then `transpose(0, 1)`."
    )
    def view_without_transpose(x, to_query, to_key, to_value, to_out, n_heads):
        T, C = x.shape
        parts = [(x @ matrix).view(n_heads, T, C // n_heads) for matrix in (to_query, to_key, to_value)]
        return _join(_attend(*parts)) @ to_out

    @mistake(
        "You merge with `reshape(T, C)` straight from (H, T, D): that fills a row with several words of one head. "
        "Transpose back to (T, H, D) first."
    )
    def merge_without_transpose(x, to_query, to_key, to_value, to_out, n_heads):
        parts = [_cut(x @ matrix, n_heads) for matrix in (to_query, to_key, to_value)]
        return _attend(*parts).reshape(x.shape) @ to_out

    @mistake(
        "Both your cut and your merge leave out the transpose. The two slips do not cancel: in between, each head "
        "attends among pieces of different words."
    )
    def neither_transposed(x, to_query, to_key, to_value, to_out, n_heads):
        T, C = x.shape
        parts = [(x @ matrix).view(n_heads, T, C // n_heads) for matrix in (to_query, to_key, to_value)]
        return _attend(*parts).reshape(T, C) @ to_out

    @mistake(
        "Your head h takes every H-th column; here it takes D columns that stand side by side. It is the order "
        "`(H D)`, not `(D H)`: with trained weights the difference is fatal."
    )
    def heads_take_every_hth_column(x, to_query, to_key, to_value, to_out, n_heads):
        T, C = x.shape
        parts = [(x @ m).view(T, C // n_heads, n_heads).permute(2, 0, 1) for m in (to_query, to_key, to_value)]
        return _attend(*parts).permute(1, 2, 0).reshape(T, C) @ to_out

    @mistake(
        "Your heads are right, and laid side by side in the wrong order: the columns of all heads are interleaved. Head 0 "
        "comes first, whole."
    )
    def merges_interleaved(x, to_query, to_key, to_value, to_out, n_heads):
        parts = [_cut(x @ matrix, n_heads) for matrix in (to_query, to_key, to_value)]
        return _attend(*parts).permute(1, 2, 0).reshape(x.shape) @ to_out

    @mistake(
        "One projection serves as query and key. A word then looks most at words like itself, and 'verb asks for noun' "
        "cannot be said. Queries and keys need a matrix each."
    )
    def shares_one_projection(x, to_query, to_key, to_value, to_out, n_heads):
        parts = [_cut(x @ matrix, n_heads) for matrix in (to_query, to_query, to_value)]
        return _join(_attend(*parts)) @ to_out

    @mistake(
        "You divide the scores by √C, the width of the model. A score is a dot product of D numbers, the width of one "
        "head: divide by √D."
    )
    def scales_by_model_width(x, to_query, to_key, to_value, to_out, n_heads):
        query, key, value = (_cut(x @ matrix, n_heads) for matrix in (to_query, to_key, to_value))
        return _join(_attend(query / n_heads**0.5, key, value)) @ to_out

    @mistake("You do not divide the scores; divide by √D, with D the width of one head.")
    def no_scale(x, to_query, to_key, to_value, to_out, n_heads):
        query, key, value = (_cut(x @ matrix, n_heads) for matrix in (to_query, to_key, to_value))
        return _join((query @ key.transpose(-2, -1)).softmax(-1) @ value) @ to_out

    @mistake("`to_out` is missing: the heads lie side by side and never meet.")
    def no_output_projection(x, to_query, to_key, to_value, to_out, n_heads):
        return _join(_attend(*(_cut(x @ matrix, n_heads) for matrix in (to_query, to_key, to_value))))

    @mistake(
        "You use `n_heads` nowhere, or only to cut and join again: one softmax over the whole width is one head. "
        "Each head needs scores and a softmax of its own."
    )
    def one_head_for_all(x, to_query, to_key, to_value, to_out, n_heads):
        return _attend(x @ to_query, x @ to_key, x @ to_value) @ to_out

    @mistake(
        "You cut `x` before projecting, so head h sees only its own columns of the *input*. Every head projects the whole "
        "row: project first, then cut."
    )
    def cuts_before_projecting(x, to_query, to_key, to_value, to_out, n_heads):
        D = x.shape[1] // n_heads
        heads = []
        for h in range(n_heads):
            own = slice(h * D, (h + 1) * D)
            heads.append(_attend(*(x[:, own] @ matrix[own, own] for matrix in (to_query, to_key, to_value))))
        return torch.cat(heads, dim=-1) @ to_out


def _turn(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _angles(T: int, D: int, base: float, start: int = 0) -> torch.Tensor:
    return torch.outer(torch.arange(start, start + T), base ** (-torch.arange(0, D, 2) / D))


class RotaryTurn(Exercise):
    """Rotary positions: turn each pair by an angle that grows with the position."""

    prompt = (
        "Write `rotate(x, start, base)` for x of shape (T, D), whose rows stand at positions start, start + 1, ... . "
        "Number i and number i + D/2 form pair i, for i from 0 to D/2 - 1. At position p turn pair i, anticlockwise, by "
        "the angle p · base^(-2i/D): (a, b) becomes (a cos - b sin, b cos + a sin). The result has x's shape and dtype."
    )
    difficulty, minutes = 2, 15
    hints = (
        "`first, second = x.chunk(2, dim=-1)` gives all pairs at once: column i of each is pair i.",
        "All angles are one outer product: positions times rates, of shape (T, D/2).",
        "rates = `base ** (-torch.arange(0, D, 2) / D)`; positions = `torch.arange(start, start + T)`.",
    )

    @classmethod
    def probes(cls, seed):
        a, b = _tensors(seed + 10, (4, 8), (3, 4))
        return [(a, 0, 100.0), (b, 5, 10_000.0)]

    @solution
    def rotate(x, start, base):
        T, D = x.shape
        rates = base ** (-torch.arange(0, D, 2) / D)
        angles = torch.outer(torch.arange(start, start + T), rates)
        first, second = x.chunk(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    @mistake("You return x as it is: every position is turned by nothing, and attention stays blind to order.")
    def ignores_positions(x, start, base):
        return x

    @mistake(
        "You count positions from 0 and ignore `start`. Without a cache nothing shows; with one, each new token believes "
        "that it stands first."
    )
    def ignores_start(x, start, base):
        return _turn(x, _angles(*x.shape, base))

    @mistake(
        "You count positions from 1. Alone that would do no harm, for only distances matter; beside a cache whose "
        "keys were turned from 0, every distance to them is wrong by one."
    )
    def counts_from_one(x, start, base):
        return _turn(x, _angles(*x.shape, base, start + 1))

    @mistake(
        "You pair neighbours, (0, 1), (2, 3), ...: the *interleaved* convention. Here number i goes with i + D/2. Both are "
        "sound; weights trained with one give nonsense with the other."
    )
    def interleaved(x, start, base):
        angles = _angles(*x.shape, base, start)
        a, b = x[:, ::2], x[:, 1::2]
        turned = a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()
        return torch.stack(turned, dim=-1).flatten(1)

    @mistake(
        "You turn clockwise: the sign of the sine is exchanged. Queries and keys of other models turn the other way."
    )
    def turns_the_other_way(x, start, base):
        return _turn(x, -_angles(*x.shape, base, start))

    @mistake(
        "Both halves of your result subtract, or both add. That is no rotation: it changes lengths. One half has a minus, "
        "a cos - b sin, the other a plus, b cos + a sin."
    )
    def not_a_rotation(x, start, base):
        angles, (first, second) = _angles(*x.shape, base, start), x.chunk(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos - first * sin], dim=-1)

    @mistake(
        "The pairs are counted from 1, so the fastest pair is missing and every pair turns too slowly. The first pair, "
        "i = 0, turns by 1 radian a position."
    )
    def pairs_from_one(x, start, base):
        T, D = x.shape
        rates = base ** (-(torch.arange(0, D, 2) + 2) / D)
        return _turn(x, torch.outer(torch.arange(start, start + T), rates))

    @mistake("Your exponent is -i/D; it is -2i/D. The factor 2 is there because there are D/2 pairs, not D.")
    def half_the_exponent(x, start, base):
        T, D = x.shape
        rates = base ** (-torch.arange(D // 2) / D)
        return _turn(x, torch.outer(torch.arange(start, start + T), rates))

    @mistake(
        "Every pair turns at the same rate. Then distances that differ by a whole turn look alike; the slow pairs are what "
        "tells them apart."
    )
    def one_rate_for_all(x, start, base):
        T, D = x.shape
        return _turn(x, torch.arange(start, start + T)[:, None].expand(T, D // 2).float())

    @mistake("Your rates grow with i instead of falling: the sign of the exponent is missing.")
    def rates_grow(x, start, base):
        T, D = x.shape
        rates = base ** (torch.arange(0, D, 2) / D)
        return _turn(x, torch.outer(torch.arange(start, start + T), rates))


class RotaryWithCache(Exercise):
    """Where the rotation belongs: queries and keys, once, at their own positions."""

    prompt = (
        "Write `attend(query, key, value, past_key, past_value, rotate)`: one step of attention with rotary positions and "
        "a cache, without a mask. query, key, value: (T, D), new and not yet turned. past_key, past_value: (P, D), what "
        "the cache holds; its keys were turned when they came. `rotate(x, start)` turns rows that stand at start, "
        "start + 1, ... . Return the blend (T, D)."
    )
    difficulty, minutes = 2, 10
    hints = (
        "How many positions came before the new tokens?",
        "Turn the new queries and keys with `start = len(past_key)`; then put the past in front.",
        "Values are what is said, not where: they are never turned.",
    )

    @classmethod
    def probes(cls, seed):
        def rotate(x, start):
            return _turn(x, _angles(*x.shape, 100.0, start))

        probes = []
        for number, (T, P, D) in enumerate(((2, 3, 6), (3, 0, 4))):
            query, key, value, past_key, past_value = _tensors(seed + number, (T, D), (T, D), (T, D), (P, D), (P, D))
            probes.append((2 * query, key, value, past_key, past_value, rotate))
        return probes

    @solution
    def attend(query, key, value, past_key, past_value, rotate):
        start = len(past_key)
        query = rotate(query, start)
        key = torch.cat([past_key, rotate(key, start)])
        value = torch.cat([past_value, value])
        return (query @ key.T / query.shape[-1] ** 0.5).softmax(dim=-1) @ value

    @mistake(
        "You turn with start = 0: each new token believes that it stands first. `start` is the number of positions in the "
        "cache."
    )
    def ignores_the_cache_length(query, key, value, past_key, past_value, rotate):
        key = torch.cat([past_key, rotate(key, 0)])
        return _attend(rotate(query, 0), key, torch.cat([past_value, value]))

    @mistake(
        "You turn the keys of the cache a second time. They were turned when they came: turn the new ones, then put the "
        "past in front."
    )
    def turns_the_past_again(query, key, value, past_key, past_value, rotate):
        key = rotate(torch.cat([past_key, key]), 0)
        return _attend(rotate(query, len(past_key)), key, torch.cat([past_value, value]))

    @mistake(
        "You turn the values too. Positions belong in the scores; what a token says does not depend on where it stands."
    )
    def turns_the_values(query, key, value, past_key, past_value, rotate):
        start = len(past_key)
        value = torch.cat([past_value, rotate(value, start)])
        return _attend(rotate(query, start), torch.cat([past_key, rotate(key, start)]), value)

    @mistake("You turn only the queries. A score depends on the distance only when both sides are turned.")
    def turns_only_queries(query, key, value, past_key, past_value, rotate):
        return _attend(rotate(query, len(past_key)), torch.cat([past_key, key]), torch.cat([past_value, value]))

    @mistake("You turn only the keys. A score depends on the distance only when both sides are turned.")
    def turns_only_keys(query, key, value, past_key, past_value, rotate):
        key = torch.cat([past_key, rotate(key, len(past_key))])
        return _attend(query, key, torch.cat([past_value, value]))

    @mistake(
        "Nothing is turned in your answer. That is a turn by 0: each new token asks, and is heard, as if it stood first."
    )
    def turns_nothing(query, key, value, past_key, past_value, rotate):
        return _attend(query, torch.cat([past_key, key]), torch.cat([past_value, value]))

    @mistake("You look at the new tokens only; the past in the cache belongs to the keys and values as well.")
    def forgets_the_past(query, key, value, past_key, past_value, rotate):
        start = len(past_key)
        return _attend(rotate(query, start), rotate(key, start), value)

    @mistake(
        "You put the past behind the new keys but before the new values (or the other way round): each value must stand at its key."
    )
    def keys_and_values_in_another_order(query, key, value, past_key, past_value, rotate):
        start = len(past_key)
        return _attend(rotate(query, start), torch.cat([rotate(key, start), past_key]), torch.cat([past_value, value]))


def _norm(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()


class PreNormBlock(Exercise):
    """The pre-norm block with a LayerNorm written out."""

    prompt = (
        "Write `block(x, attention, feed_forward)` for x of shape (T, C): the pre-norm block. Each of the two functions "
        "reads a normalised copy of the stream, and what it returns is added to the stream; attention first. Normalise "
        "each row by itself to mean 0 and variance 1: divide by √(variance + 1e-5), the variance being the mean of the "
        "squared deviations. No gain, no bias."
    )
    difficulty, minutes = 2, 12
    hints = (
        "`x = x + attention(norm(x))`: the x outside is not normalised.",
        "The second line reads the x that the first line made.",
        "`x.mean(dim=-1, keepdim=True)` is each row's mean; `x.var(dim=-1, keepdim=True, unbiased=False)` divides by C.",
    )

    @classmethod
    def probes(cls, seed):
        W, V, a, b = _tensors(seed + 20, (6, 6), (6, 6), (4, 6), (5, 6))

        def attention(x):
            return (x @ W @ x.T / 6**0.5).softmax(-1) @ x

        def feed_forward(x):
            return (x @ V).relu() @ V.T / 6

        return [
            (3 * a + 2, attention, feed_forward),
            (0.003 * b, attention, feed_forward),  # so small that where 1e-5 stands can be seen
        ]

    @solution
    def block(x, attention, feed_forward):
        def norm(x):
            centred = x - x.mean(dim=-1, keepdim=True)
            return centred / (centred.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt()

        x = x + attention(norm(x))
        return x + feed_forward(norm(x))

    @mistake(
        "You wrote x = norm(x), and added to that. The stream itself is then normalised in every block, and what earlier "
        "blocks wrote is rescaled each time: the skip is lost. Only the copy that is read is normalised."
    )
    def skip_carries_the_norm(x, attention, feed_forward):
        x = _norm(x)
        x = x + attention(x)
        x = _norm(x)
        return x + feed_forward(x)

    @mistake(
        "You normalise after adding: that is post-norm, the block of the first Transformer. Here the norm stands before."
    )
    def post_norm(x, attention, feed_forward):
        x = _norm(x + attention(x))
        return _norm(x + feed_forward(x))

    @mistake("Your block has no skip: it returns what the functions say and forgets x. Add it to x.")
    def no_skip(x, attention, feed_forward):
        return feed_forward(_norm(attention(_norm(x))))

    @mistake(
        "You normalise over the positions (dim 0). Then each word's numbers depend on the other words, and in a causal "
        "model on words to come. Normalise each row: dim -1."
    )
    def norm_over_positions(x, attention, feed_forward):
        norm = lambda x: _norm(x.T).T  # noqa: E731
        x = x + attention(norm(x))
        return x + feed_forward(norm(x))

    @mistake("You take mean and variance of the whole matrix. Each row is normalised by itself: dim=-1, keepdim=True.")
    def norm_over_everything(x, attention, feed_forward):
        norm = lambda x: _norm(x.flatten()).view_as(x)  # noqa: E731
        x = x + attention(norm(x))
        return x + feed_forward(norm(x))

    @mistake("Your variance divides by C - 1, torch's default. LayerNorm divides by C: `unbiased=False`.")
    def unbiased_variance(x, attention, feed_forward):
        norm = lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt()  # noqa: E731
        x = x + attention(norm(x))
        return x + feed_forward(norm(x))

    @mistake(
        "You add 1e-5 to the standard deviation. It belongs under the root: √(variance + 1e-5). For small rows it shows."
    )
    def epsilon_outside_the_root(x, attention, feed_forward):
        norm = lambda x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, unbiased=False) + 1e-5)  # noqa: E731
        x = x + attention(norm(x))
        return x + feed_forward(norm(x))

    @mistake("You do not subtract the mean. That is nearly RMSNorm; LayerNorm centres each row first.")
    def mean_is_not_subtracted(x, attention, feed_forward):
        norm = lambda x: x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()  # noqa: E731
        x = x + attention(norm(x))
        return x + feed_forward(norm(x))

    @mistake("You divide by the variance; divide by its root, or the rows do not get variance 1.")
    def divides_by_variance(x, attention, feed_forward):
        norm = lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5)  # noqa: E731
        x = x + attention(norm(x))
        return x + feed_forward(norm(x))

    @mistake(
        "Your feed-forward layer reads the stream as it was before attention wrote into it. Some models do run both in "
        "parallel; here the second reads the sum."
    )
    def both_read_the_old_stream(x, attention, feed_forward):
        return x + attention(_norm(x)) + feed_forward(_norm(x))

    @mistake("Only attention reads a normalised copy; feed_forward reads the bare stream. Each has a norm of its own.")
    def second_norm_missing(x, attention, feed_forward):
        x = x + attention(_norm(x))
        return x + feed_forward(x)

    @mistake(
        "Feed-forward comes first in your block. Attention fetches; then the feed-forward layer works on what was fetched."
    )
    def order_exchanged(x, attention, feed_forward):
        x = x + feed_forward(_norm(x))
        return x + attention(_norm(x))


class GatedFeedForward(Exercise):
    """SwiGLU, one position at a time."""

    prompt = (
        "Write `swiglu(x, to_gate, up, down)` for x of shape (T, C), `to_gate` and `up` of shape (C, F), `down` of shape "
        "(F, C): (silu(x·to_gate) ⊙ (x·up))·down, where silu(a) = a · sigmoid(a) and ⊙ multiplies number by number. No "
        "position may hear of another."
    )
    difficulty, minutes = 1, 8
    hints = (
        "Three products with `@`, one product with `*`.",
        "`torch.nn.functional.silu(a)`, or `a * a.sigmoid()`.",
    )

    @classmethod
    def probes(cls, seed):
        probes = []
        for number, (T, C, n_hidden) in enumerate(((3, 4, 6), (5, 2, 5))):
            probes.append(tuple(_tensors(seed + number, (T, C), (C, n_hidden), (C, n_hidden), (n_hidden, C))))
        return probes

    @classmethod
    def verify(cls, answer, seed=0):
        for x, *matrices in cls.probes(seed):
            moved = x.clone()
            moved[-1] += 1.0
            before, after = (answer(rows, *(matrix.clone() for matrix in matrices)) for rows in (x.clone(), moved))
            if (
                isinstance(before, torch.Tensor)
                and (before.shape, before.device) == (x.shape, x.device)
                and not torch.allclose(before[:-1], after[:-1], equal_nan=True)
            ):
                raise Wrong(
                    "only the last position of x was changed, and the results of other positions changed with it."
                )
        super().verify(answer, seed)

    @solution
    def swiglu(x, to_gate, up, down):
        gate = x @ to_gate
        return (gate * gate.sigmoid() * (x @ up)) @ down

    @mistake("You gate with the sigmoid alone: that is GLU, not SwiGLU. silu(a) is a · sigmoid(a).")
    def sigmoid_gate(x, to_gate, up, down):
        return ((x @ to_gate).sigmoid() * (x @ up)) @ down

    @mistake("You put silu on the other branch. `up` stays linear; the gate is what bends.")
    def wrong_branch_bends(x, to_gate, up, down):
        return ((x @ to_gate) * F.silu(x @ up)) @ down

    @mistake("You add the two branches. A gate multiplies: it lets through, or it closes.")
    def adds_the_gate(x, to_gate, up, down):
        return (F.silu(x @ to_gate) + x @ up) @ down

    @mistake("You apply silu to the product of both branches. It belongs on the gate, before multiplying.")
    def bends_the_product(x, to_gate, up, down):
        return F.silu((x @ to_gate) * (x @ up)) @ down

    @mistake(
        "Your gate is a softmax over positions (dim 0), so every position hears of all others. silu looks at one number at a time."
    )
    def gate_shared_among_positions(x, to_gate, up, down):
        return ((x @ to_gate).softmax(dim=0) * (x @ up)) @ down

    @mistake("You average over the positions somewhere: each then says the same. Nothing is summed over dim 0 here.")
    def averages_positions(x, to_gate, up, down):
        return ((F.silu(x @ to_gate) * (x @ up)).mean(0, keepdim=True) @ down).expand(x.shape).clone()

    @mistake(
        "You turned the hidden layer with `reshape` where a transpose was meant, or where nothing was needed: numbers of one "
        "position land in another's row."
    )
    def reshapes_the_hidden_layer(x, to_gate, up, down):
        hidden = F.silu(x @ to_gate) * (x @ up)
        return hidden.reshape(hidden.shape[1], hidden.shape[0]).T @ down

    @mistake(
        "Your gate does not bend: silu is missing. What is left is the product of two linear maps, number by number."
    )
    def no_activation(x, to_gate, up, down):
        return ((x @ to_gate) * (x @ up)) @ down


def _parameters(V: int, C: int, n_layers: int, F: int, tied: bool, **changed: int) -> int:
    """The sizes of all parts; a mistake replaces one of them."""
    parts = {
        "attention": 4 * C * C, "attention_bias": 4 * C, "feed_forward": 2 * C * F, "feed_forward_bias": F + C,
        "norms": 2 * 2 * C, "last_norm": 2 * C, "embedding": V * C, "head": 0 if tied else V * C,
    } | changed  # fmt: skip
    once = parts["last_norm"] + parts["embedding"] + parts["head"]
    per_layer = ("attention", "attention_bias", "feed_forward", "feed_forward_bias", "norms")
    return once + n_layers * sum(parts[name] for name in per_layer)


class CountParameters(Exercise):
    """How many numbers does a GPT hold? From its sizes alone."""

    prompt = (
        "Write `count(n_vocab, d_model, n_heads, n_layers, d_hidden, tied)`: how many numbers a GPT holds. In each block: "
        "query, key, value and output projections, a plain (not gated) feed-forward layer of two matrices, two norms. After "
        "the blocks comes a last norm. Rotary positions (they hold none); every linear layer of a block has a bias; every "
        "norm is a LayerNorm with gain and bias; the output head has no bias, and when `tied` it *is* the embedding matrix."
    )
    difficulty, minutes = 2, 12
    hints = (
        "List the parts of one block: four matrices of attention, two of the feed-forward layer, two norms.",
        "Attention: 4·(C² + C). Feed-forward: C·F + F + F·C + C. A norm: 2·C.",
        "Outside the blocks: the embedding V·C, the last norm 2·C, and the head V·C unless it is tied.",
    )

    @classmethod
    def probes(cls, seed):
        return [
            (50, 8, 4, 3, 20, True),
            (31 + seed, 12, 3, 2, 48, False),
        ]

    @solution
    def count(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        attention = 4 * (d_model**2 + d_model)
        feed_forward = 2 * d_model * d_hidden + d_hidden + d_model
        norm = 2 * d_model
        embedding = n_vocab * d_model
        head = 0 if tied else n_vocab * d_model
        return embedding + n_layers * (attention + feed_forward + 2 * norm) + norm + head

    @mistake("The biases of attention are missing: four linear layers, C numbers each.")
    def no_attention_bias(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, tied, attention_bias=0)

    @mistake("The biases of the feed-forward layer are missing: F numbers in the middle and C at the end.")
    def no_feed_forward_bias(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, tied, feed_forward_bias=0)

    @mistake("All biases are missing, in attention and in the feed-forward layer.")
    def no_bias_at_all(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, tied, attention_bias=0, feed_forward_bias=0)

    @mistake("You count a tied embedding twice. Head and embedding are one matrix then, and it is stored once.")
    def tied_counted_twice(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, False)

    @mistake("You leave out the output head also when it is not tied.")
    def head_never_counted(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, True)

    @mistake("You multiply attention by the number of heads. The heads share the columns of the same four matrices.")
    def times_heads(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        C = d_model
        sizes = {"attention": n_heads * 4 * C * C, "attention_bias": n_heads * 4 * C}
        return _parameters(n_vocab, C, n_layers, d_hidden, tied, **sizes)

    @mistake("You count three matrices of attention. Query, key and value need a fourth, which mixes the heads.")
    def no_output_projection(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        C = d_model
        return _parameters(n_vocab, C, n_layers, d_hidden, tied, attention=3 * C * C, attention_bias=3 * C)

    @mistake(
        "The norms are missing. Each holds a gain and a bias, C numbers both: two norms a block and one at the end."
    )
    def no_norms(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, tied, norms=0, last_norm=0)

    @mistake("The last norm is missing: it stands after all blocks, before the head.")
    def no_last_norm(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, tied, last_norm=0)

    @mistake("You count one number a column in a norm. LayerNorm has two: a gain and a bias.")
    def norms_without_bias(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, d_hidden, tied, norms=2 * d_model, last_norm=d_model)

    @mistake("You count three matrices in the feed-forward layer: that is a gated one. Here it has two, up and down.")
    def counts_a_gate(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        C, F = d_model, d_hidden
        return _parameters(n_vocab, C, n_layers, F, tied, feed_forward=3 * C * F, feed_forward_bias=2 * F + C)

    @mistake("You assume a hidden width of 4·C; `d_hidden` says how wide it is.")
    def assumes_four_times(n_vocab, d_model, n_heads, n_layers, d_hidden, tied):
        return _parameters(n_vocab, d_model, n_layers, 4 * d_model, tied)


class HearsOthers(Exercise):
    """A test that finds out whether a layer moves information between positions."""

    prompt = (
        "Write `hears_others(layer)` for a function from (6, 4) to (6, 4): True when the result at some position depends on "
        "another position of the input, False when every position is worked on alone. Find out by trying: change one "
        "position, and see who notices."
    )
    difficulty, minutes = 2, 10
    hints = (
        "Change row j of x and compare all rows of the result except j.",
        "A causal layer hears only what came before, another perhaps only what comes after: try every j.",
        "Draw the new row at random. Adding the same number to all of its columns is invisible to a layer that begins with "
        "LayerNorm.",
    )

    @classmethod
    def probes(cls, seed):
        def last_hears_first(x):
            return torch.cat([x[:-1], x[-1:] + 0.01 * x[:1]])

        def norm_then_average(x):
            return x + _norm(x).mean(0)

        def first_hears_last(x):
            return torch.cat([x[:1] + 0.01 * x[-1:], x[1:]])

        def fourth_hears_third(x):
            return torch.cat([x[:3], x[3:4] + 0.01 * x[2:3], x[4:]])

        def adds_place(x):
            return x + torch.arange(6.0)[:, None]

        layers = (last_hears_first, norm_then_average, first_hears_last, fourth_hears_third, adds_place)
        return [(layer,) for layer in layers]

    @solution
    def hears_others(layer):
        x = torch.randn(6, 4)
        for j in range(6):
            changed = x.clone()
            changed[j] = torch.randn(4)
            others = torch.arange(6) != j
            if not torch.allclose(layer(x)[others], layer(changed)[others], atol=1e-6):
                return True
        return False

    @mistake(
        "You compare the whole result. The changed position itself always differs; leave it out of the comparison."
    )
    def compares_the_changed_row_too(layer):
        x = torch.randn(6, 4)
        changed = x.clone()
        changed[2] = torch.randn(4)
        return not torch.allclose(layer(x), layer(changed), atol=1e-6)

    @mistake(
        "You change too few positions, or look at too few results: you do not find a layer whose first position hears the "
        "last. Change every position in turn, and compare all other rows."
    )
    def changes_only_the_first(layer):
        x = torch.randn(6, 4)
        changed = x.clone()
        changed[0] = torch.randn(4)
        return not torch.allclose(layer(x)[1:], layer(changed)[1:], atol=1e-6)

    @mistake(
        "You change too few positions, or look at too few results: you do not find a layer whose last position hears the "
        "first. Change every position in turn, and compare all other rows."
    )
    def changes_only_the_last(layer):
        x = torch.randn(6, 4)
        changed = x.clone()
        changed[-1] = torch.randn(4)
        return not torch.allclose(layer(x)[:-1], layer(changed)[:-1], atol=1e-6)

    @mistake(
        "You change too few positions, or look at too few results: you do not find a layer where only the fourth position "
        "hears the third. Change every position in turn, and compare all other rows."
    )
    def changes_only_the_ends(layer):
        x = torch.randn(6, 4)
        for j in (0, 5):
            changed = x.clone()
            changed[j] = torch.randn(4)
            others = torch.arange(6) != j
            if not torch.allclose(layer(x)[others], layer(changed)[others], atol=1e-6):
                return True
        return False

    @mistake(
        "Your change is one that LayerNorm takes away again: one number added to all columns, or all columns multiplied by "
        "one. Draw a new row at random."
    )
    def shifts_a_row(layer):
        x = torch.randn(6, 4)
        for j in range(6):
            changed = x.clone()
            changed[j] += 1.0
            others = torch.arange(6) != j
            if not torch.allclose(layer(x)[others], layer(changed)[others], atol=1e-4):
                return True
        return False

    @mistake("You have the answer upside down: when the other rows stay the same, the layer does *not* hear others.")
    def answers_the_opposite(layer):
        x = torch.randn(6, 4)
        for j in range(6):
            changed = x.clone()
            changed[j] = torch.randn(4)
            others = torch.arange(6) != j
            if not torch.allclose(layer(x)[others], layer(changed)[others], atol=1e-6):
                return False
        return True

    @mistake(
        "You test whether the layer knows its order by shuffling rows. Adding places to rows knows the order too, and hears nobody."
    )
    def shuffles_instead(layer):
        x, order = torch.randn(6, 4), torch.tensor([5, 4, 3, 2, 1, 0])
        return not torch.allclose(layer(x[order]), layer(x)[order], atol=1e-5)
