"""Exercises of chapter 3: attention from its formula, masks, and what order means to it."""

import dis
import inspect
import math
from types import CodeType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.exercises import Exercise, Wrong, mistake, solution

CHAPTER = 3


def _tensors(seed: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


NAMES = ("softmax", "log_softmax", "softmin", "Softmax", "LogSoftmax", "Softmin")
READY_MADE = [getattr(space, name) for space in (torch, Tensor, F, nn) for name in NAMES if hasattr(space, name)]


def _uses_ready_made_softmax(code: CodeType, known: dict) -> bool:
    """Whether a function, or one that is defined in it, asks for one of torch's; `known` are its global names."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") and step.argval in NAMES:
            return True
        if step.opname == "LOAD_GLOBAL" and any(known.get(step.argval) is one for one in READY_MADE):
            return True  # the learner's own function may have the name, too
    return any(_uses_ready_made_softmax(part, known) for part in code.co_consts if isinstance(part, CodeType))


class StableSoftmax(Exercise):
    """Softmax that survives large numbers, along any dimension."""

    prompt = (
        "Write `softmax(x, dim)`: exponentials that sum to 1 along `dim`, with x's shape and dtype. Scores of 1000 must not "
        "give NaN, and neither must you use torch's own `softmax`."
    )
    difficulty, minutes = 1, 8
    tolerance = 1e-4  # x - logsumexp(x) is right too, and rounds at the size of the scores
    hints = (
        "exp(1000) is infinite, and infinite / infinite is NaN. Which number could you subtract from every score "
        "without changing the result?",
        "exp(a - c) / sum exp(b - c) is the same for every c. Take c as large as the largest score of the same row.",
        "`x.amax(dim=dim, keepdim=True)` is that largest score, with a shape that subtracts.",
    )

    @classmethod
    def probes(cls, seed):
        some, far_apart = _tensors(seed, (2, 3, 4), (4, 4))
        return [(some, -1), (far_apart.t() * 1e4, 0)]

    @classmethod
    def verify(cls, answer, seed=0):
        function = inspect.unwrap(answer)
        code = getattr(function, "__code__", None)
        if any(function is one for one in READY_MADE) or (
            code is not None and _uses_ready_made_softmax(code, function.__globals__)
        ):
            raise Wrong("you use torch's own softmax; write it with `exp` and `sum`.")
        super().verify(answer, seed)

    @solution
    def softmax(x, dim):
        exponentials = (x - x.amax(dim=dim, keepdim=True)).exp()
        return exponentials / exponentials.sum(dim=dim, keepdim=True)

    @mistake(
        "Your exponentials overflow: exp(1000) is infinite, and infinite / infinite is NaN. "
        "Subtract the row's largest score first; the result does not change."
    )
    def overflows(x, dim):
        return x.exp() / x.exp().sum(dim=dim, keepdim=True)

    @mistake(
        "You subtract the largest score of the whole tensor. A row that lies far below it becomes all zeros, and 0/0 is "
        "NaN: take the largest score of each row, with `amax(dim=dim, keepdim=True)`."
    )
    def global_maximum(x, dim):
        exponentials = (x - x.max()).exp()
        return exponentials / exponentials.sum(dim=dim, keepdim=True)

    @mistake("You always normalise along the last dimension; `dim` says along which one.")
    def ignores_dim(x, dim):
        exponentials = (x - x.amax(dim=-1, keepdim=True)).exp()
        return exponentials / exponentials.sum(dim=-1, keepdim=True)

    @mistake(
        "You divide by the sum of the whole tensor, so everything together sums to 1. "
        "Each row along `dim` is a distribution of its own."
    )
    def divides_by_everything(x, dim):
        exponentials = (x - x.amax(dim=dim, keepdim=True)).exp()
        return exponentials / exponentials.sum()

    @mistake(
        "The small number in your denominator keeps the row from summing to 1. It is not needed: after subtracting the "
        "maximum one exponential is exactly 1, so the sum is at least 1."
    )
    def adds_epsilon(x, dim):
        exponentials = (x - x.amax(dim=dim, keepdim=True)).exp()
        return exponentials / (exponentials.sum(dim=dim, keepdim=True) + 1e-3)

    @mistake("You divide the scores by their sum. Without the exponential, negative scores give negative weights.")
    def forgets_exponential(x, dim):
        return x / x.sum(dim=dim, keepdim=True)

    @mistake("After subtracting the largest score the best one is 0 and gets nothing: the exponential is missing.")
    def shifts_without_exponential(x, dim):
        shifted = x - x.amax(dim=dim, keepdim=True)
        return shifted / shifted.sum(dim=dim, keepdim=True)


def _masked(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Weights from scores, a hidden row giving zeros: the part that most wrong answers below get right."""
    if mask is None:
        return scores.softmax(-1)
    return scores.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num(0.0)


class Attention(Exercise):
    """The formula itself, with a mask."""

    prompt = (
        "Write `attention(query, key, value, mask)`: softmax(QKᵀ/√D)V for tensors of shape (..., T, D), (..., S, D) and "
        "(..., S, E). `mask` is `None` or boolean, of a shape that broadcasts to (..., T, S), True where one may look. A "
        "query that may look nowhere returns zeros. The result has the query's dtype."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Three lines: scores, weights, blend. Check the shape after each: (..., T, S), (..., T, S), (..., T, E).",
        "Hide before the softmax: `scores.masked_fill(~mask, -math.inf)`. After it, the row would no longer sum to 1.",
        "A row with nothing to see gives NaN, because every exponential in it is 0. `nan_to_num(0.0)` on the weights "
        "mends it.",
    )

    @classmethod
    def probes(cls, seed):
        # Widths are never 64 nor the model's, T differs from S, a batch has a mask for each row, some scores are extreme,
        # one input is a view, and a square one comes last: each of these hides some mistake when left out.
        q, k, v, large, square = _tensors(seed, (2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7), (3, 6), (6, 6))
        mask = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [1, 0, 1, 1, 0]], dtype=torch.bool)
        per_batch = mask.expand(2, 1, 4, 5).clone()
        per_batch[1, 0, 0] = torch.tensor([0, 0, 1, 1, 0], dtype=torch.bool)
        triangle = torch.ones(6, 6, dtype=torch.bool).tril()
        return [
            (q, k, v, per_batch),
            (large * 1e4, k[0, 0], v[0, 0], None),
            (square, square.t(), square + 1, triangle),
        ]

    @solution
    def attention(query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1).nan_to_num(0.0) @ value

    @mistake(
        "You left out the division by √D. With wide heads the scores grow, and softmax puts everything on one key."
    )
    def no_scale(query, key, value, mask):
        return _masked(query @ key.transpose(-2, -1), mask) @ value

    @mistake(
        "You divide by D; the formula divides by √D. A sum of D products spreads like √D, so √D brings the variance to 1."
    )
    def divides_by_d(query, key, value, mask):
        return _masked(query @ key.transpose(-2, -1) / query.shape[-1], mask) @ value

    @mistake("You divide by √S, the number of keys. The scale is √D, the width of a query: `query.shape[-1] ** 0.5`.")
    def scales_by_length(query, key, value, mask):
        return _masked(query @ key.transpose(-2, -1) / key.shape[-2] ** 0.5, mask) @ value

    @mistake(
        "You divide by √T, the number of queries. The scale is √D, the width of a query: `query.shape[-1] ** 0.5`."
    )
    def scales_by_queries(query, key, value, mask):
        return _masked(query @ key.transpose(-2, -1) / query.shape[-2] ** 0.5, mask) @ value

    @mistake("You divide by 8, which is √64: right for heads of width 64 only. Take the width from `query.shape[-1]`.")
    def constant_eight(query, key, value, mask):
        return _masked(query @ key.transpose(-2, -1) / 8, mask) @ value

    @mistake("You divide by the square root of the *value's* width. Queries and keys are multiplied, so theirs counts.")
    def scales_by_value_width(query, key, value, mask):
        return _masked(query @ key.transpose(-2, -1) / value.shape[-1] ** 0.5, mask) @ value

    @mistake(
        "You apply softmax over the queries (dim=-2). Each *query* spreads its attention over the keys, so each row "
        "sums to 1: dim=-1."
    )
    def softmax_over_queries(query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        return scores.softmax(-2).nan_to_num(0.0) @ value

    @mistake(
        "You hide after the softmax: the hidden keys have already taken their share, so the rows no longer sum to 1. "
        "Put -inf into the scores before the softmax."
    )
    def mask_after_softmax(query, key, value, mask):
        weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        return (weights if mask is None else weights * mask) @ value

    @mistake(
        "You set hidden scores to 0, and exp(0) is 1: a hidden key still gets attention. Only -inf gives a weight of 0."
    )
    def mask_is_zero_score(query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        return (scores if mask is None else scores * mask).softmax(-1) @ value

    @mistake("Your mask is inverted: True means one *may* look, so hide where it is False, with `~mask`.")
    def inverted_mask(query, key, value, mask):
        return _masked(query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5, None if mask is None else ~mask) @ value

    @mistake(
        "A query that may look nowhere gives NaN in your answer: every exponential in its row is 0, and 0/0 is NaN. "
        "It has nothing to blend, so it returns zeros."
    )
    def hidden_rows_are_nan(query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1) @ value

    @mistake(
        "A query that may look nowhere averages all values in your answer, hidden ones too: one number in every place is "
        "the same score everywhere. It has nothing to blend, so it returns zeros."
    )
    def hidden_rows_average(query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(-1) @ value

    @mistake(
        "Your exponentials overflow: e^89 is more than float32 can hold, and inf/inf is NaN. Subtract each row's largest "
        "score first, which changes no weight; `softmax` does that for you."
    )
    def exponentials_overflow(query, key, value, mask):
        weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).exp()
        weights = weights if mask is None else weights * mask
        return (weights / weights.sum(-1, keepdim=True)).nan_to_num(0.0) @ value

    @mistake("You hide by the mask of the batch's first row. Each row can have one of its own: let it broadcast.")
    def one_mask_for_all(query, key, value, mask):
        mask = mask[0] if mask is not None and mask.dim() > 2 else mask
        return _masked(query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5, mask) @ value

    @mistake("You ignore the mask.")
    def ignores_mask(query, key, value, mask):
        return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1) @ value

    @mistake("You exchanged queries and keys: the weights are then how much each *key* looks at each query.")
    def exchanges_query_and_key(query, key, value, mask):
        if query.shape[-2] != key.shape[-2]:
            raise RuntimeError("the weights do not fit the values")
        return _masked(key @ query.transpose(-2, -1) / query.shape[-1] ** 0.5, mask) @ value

    @mistake(
        "You multiply by `key` without turning it. It runs only when S and D are equal, and then pairs the wrong numbers: "
        "`key.transpose(-2, -1)`."
    )
    def key_not_transposed(query, key, value, mask):
        return _masked(query @ key / query.shape[-1] ** 0.5, mask) @ value


class PreviousTokenKeys(Exercise):
    """Set queries and keys by hand so that each token looks at the one before it."""

    prompt = (
        "Write `previous_token(T)`: return (query, key), each of shape (T, D) for a D of your choice, so that position t "
        "puts more than 0.99 of its attention on position t - 1. The scores are query · key / √D. Position 0, which has "
        "none before it, may look anywhere."
    )
    difficulty, minutes = 2, 12
    hints = (
        "A score is a dot product, largest where query and key point the same way. Which direction could stand for "
        "'I am position 3', and which for 'I look for position 3'?",
        "Give each position a direction of its own: the rows of `torch.eye(T)` are T directions at right angles.",
        "key = c * eye(T); the query of position t is the key of position t - 1: `torch.roll(key, 1, dims=0)`. "
        "How large must c be, when the scores are divided by √T?",
    )
    praise = "correct. Position t puts more than 0.99 of its attention on position t - 1, for every length tried."

    @classmethod
    def probes(cls, seed):
        return [(T,) for T in (5, 33 + seed % 7)]

    @classmethod
    def observe(cls, answer, probe):
        query, key = answer(*probe)
        T = probe[0]
        if query.dim() != 2 or query.shape[0] != T or query.shape != key.shape:
            raise ValueError(f"query and key need shape ({T}, D), got {tuple(query.shape)} and {tuple(key.shape)}")
        weights = (query.double() @ key.double().t() / query.shape[-1] ** 0.5).softmax(-1)
        if weights.isnan().any():
            raise ValueError("the attention weights are NaN; infinite queries or keys do that")
        best = weights.argmax(-1)
        # What counts is where each position looks, and whether it is sure of it.
        return [(int(s), bool(w > 0.99)) for s, w in zip(best[1:], weights.amax(-1)[1:], strict=True)]

    @classmethod
    def verify(cls, answer, seed=0):
        for probe in cls.probes(seed):
            found = list(enumerate(cls.observe(answer, probe), start=1))
            for t, (looks_at, _) in found:
                if looks_at != t - 1:
                    raise Wrong(f"with T={probe[0]}, position {t} looks at position {looks_at}, not at {t - 1}.")
            for t, (_, is_sure) in found:
                if not is_sure:
                    raise Wrong(
                        f"with T={probe[0]}, position {t} looks at {t - 1} with 0.99 or less; make the keys longer."
                    )

    @solution
    def previous_token(T):
        key = 30 * T**0.25 * torch.eye(T)
        return torch.roll(key, shifts=1, dims=0), key

    @mistake("Each position looks at itself: queries and keys have the same directions. Shift the queries by one.")
    def looks_at_itself(T):
        return 30 * T**0.25 * torch.eye(T), 30 * T**0.25 * torch.eye(T)

    @mistake("Each position looks at the *next* one: you shifted the queries the other way (or the keys instead).")
    def looks_ahead(T):
        key = 30 * T**0.25 * torch.eye(T)
        return torch.roll(key, shifts=-1, dims=0), key

    @mistake(
        "The right position wins, but not by enough. (Unit directions, for example, score only 1/√T.) "
        "Softmax needs a difference of several units, so make queries and keys longer."
    )
    def too_weak(T):
        return torch.roll(torch.eye(T), shifts=1, dims=0), torch.eye(T)

    @mistake(
        "Your keys do not grow enough with T: the scores are divided by a larger √T, and more positions share what is left, so "
        "the right one no longer wins by enough."
    )
    def one_length_for_all(T):
        key = 5 * torch.eye(T)
        return torch.roll(key, shifts=1, dims=0), key

    @mistake(
        "Your keys are the position itself, a single growing number. A larger key then wins for every query, so all "
        "positions look at the last one. Give each position a direction of its own."
    )
    def position_as_a_number(T):
        position = torch.arange(1.0, T + 1)[:, None]
        return 1000.0 * position, position


class WhichStepSeesOrder(Exercise):
    """Find what breaks the blindness of attention to order."""

    prompt = (
        "A layer is a function of x with shape (T, 6). If shuffling the rows of x only shuffles the rows of the result, "
        "the layer is blind to order: it is *permutation equivariant*. Write `sees_order(layer)`: True when the layer "
        "depends on order, False when it is blind, judged by trying it out on an x that you make."
    )
    difficulty, minutes = 2, 10
    hints = (
        "Shuffle then apply, or apply then shuffle: for which layers is it the same?",
        "`order = torch.randperm(T)`; compare `layer(x[order])` with `layer(x)[order]`.",
        "Compare with a tolerance, `torch.allclose(..., atol=1e-5)`: sums in another order differ in the last bits. "
        "And make sure that the order drawn is not the old one.",
    )

    @classmethod
    def probes(cls, seed):
        drawn = _tensors(seed + 50, (6, 6))[0] / 6**0.5

        def scores(x):
            return x @ drawn.to(x) @ x.t()  # in single or in double precision, as x is

        def plain_attention(x):
            return scores(x).softmax(-1) @ x

        def feed_forward(x):
            return (x @ drawn.to(x)).relu() @ drawn.t().to(x) + x

        def faint_positions(x):
            return plain_attention(x) + 1e-3 * torch.arange(len(x))[:, None]

        def row_before(x):
            return torch.cat([x[:1], x[:-1]])

        return [(layer,) for layer in (plain_attention, feed_forward, faint_positions, row_before)]

    @solution
    def sees_order(layer):
        x = torch.randn(7, 6)
        order = torch.arange(7).flip(0)
        return not torch.allclose(layer(x[order]), layer(x)[order], atol=1e-5)

    @mistake(
        "Your answer is True for blind layers too. Shuffle rows, `layer(x[order])`, and compare with the old result in the same "
        "order, `layer(x)[order]`."
    )
    def forgets_to_reorder_output(layer):
        x = torch.randn(7, 6)
        order = torch.arange(7).flip(0)
        return not torch.allclose(layer(x[order]), layer(x), atol=1e-5)

    @mistake("You have the answer upside down: equal results mean that the layer does *not* see order.")
    def answers_the_opposite(layer):
        x = torch.randn(7, 6)
        order = torch.arange(7).flip(0)
        return torch.allclose(layer(x[order]), layer(x)[order], atol=1e-5)

    @mistake(
        "You demand equality to the last bit. Sums in another order differ by about 1e-7, which is not order. "
        "Use `torch.allclose` with a tolerance."
    )
    def demands_exact_equality(layer):
        x = torch.randn(7, 6)
        order = torch.arange(7).flip(0)
        return not torch.equal(layer(x[order]), layer(x)[order])

    @mistake("All rows of your x are alike, so shuffling them changes nothing: draw them at random.")
    def equal_rows(layer):
        x = torch.ones(7, 6)
        order = torch.arange(7).flip(0)
        return not torch.allclose(layer(x[order]), layer(x)[order], atol=1e-5)

    @mistake(
        "You miss an order that is faint: your tolerance is too wide, or you compare sums over all rows, which hide where a "
        "result moved. Compare row by row after reordering, with atol=1e-5."
    )
    def compares_sums(layer):
        x = torch.randn(7, 6)
        order = torch.arange(7).flip(0)
        result = layer(x[order]).sum(0), layer(x).sum(0)
        return not torch.allclose(*result, atol=2e-1)


class PredictScale(Exercise):
    """Predict, then run: how does the spread of a dot product grow with the width?"""

    prompt = (
        "Predict before you run the next cell. Queries and keys of width 1024 hold random numbers of mean 0 and variance 1. "
        "What is the variance of their dot product *after* it was divided by √1024? Give a number."
    )
    difficulty, minutes = 1, 3
    tolerance = 0.05
    hints = (
        "A sum of D independent products of variance 1 has variance D.",
        "Dividing by c divides the variance by c².",
    )
    praise = "correct. 1024 / √1024² = 1: that is what the division is for. Run the next cell to see it."

    @solution
    def variance():
        return 1.0

    @mistake("1024 is the variance before the division. Dividing by √1024 divides it by 1024.")
    def before_division():
        return 1024.0

    @mistake("32 is 1024/√1024: you divided the variance by √1024. Dividing a number by c divides its variance by c².")
    def divides_variance_by_root():
        return 32.0

    @mistake("Nearly 0 is too small: the variance is 1024 before the division, and √1024² = 1024 divides it once.")
    def divides_twice():
        return 1 / 1024
