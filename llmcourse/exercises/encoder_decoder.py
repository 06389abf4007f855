"""Exercises of chapter 5: masks, the shift to the right, padding, cross-attention, and finding leaks."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 5


def _drawn(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


class PredictReach(Exercise):
    """Predict, then run: how fast does news travel through a window?"""

    prompt = (
        "Predict before you run the next cell. Each of 9 positions may look at itself and at the two before it: a window "
        "of 3. How many layers does it take until the last output can be affected by the first input? Give a number."
    )
    difficulty, minutes = 1, 3
    hints = (
        "After one layer position 8 knows of positions 6, 7 and 8. And what did position 6 know by then?",
        "The way from position 0 to position 8 has 8 steps, and a layer carries news by the width of the window minus 1.",
    )
    praise = "correct. A layer carries news two places further, and the way is 8 places long: 8 / 2 = 4."

    @solution
    def layers():
        return 4

    @mistake(
        "You divided by 3. A window of 3 holds the position itself, so one layer carries news by 2 places, not by 3."
    )
    def divides_by_the_window():
        return 3

    @mistake("You counted 9 steps. From position 0 to position 8 the way is 8 places long: positions count from 0.")
    def counts_places_not_steps():
        return 5

    @mistake("One place a layer would be a window of 2. Here each position looks at the *two* before it.")
    def one_place_a_layer():
        return 8

    @mistake("One layer brings the last position news of positions 6, 7 and 8 only; the rest must come by relay.")
    def one_layer_is_enough():
        return 1


class CausalMask(Exercise):
    """The mask of a decoder, also when part of its past comes from a cache."""

    prompt = (
        "Write `causal(T, S)`: a boolean tensor of shape (T, S), True where query t may look at key s. The T queries are "
        "the *last* T of the S positions. Each may look at itself and at everything before it."
    )
    difficulty, minutes = 1, 8
    hints = (
        "Draw it for T = S = 3 first, then for T = 2 queries and S = 5 keys. What does the last row always look like?",
        "Query t stands at position t + (S - T). Which keys s may it see?",
        "`torch.ones(T, S, dtype=torch.bool).tril(diagonal=...)` keeps what lies on that diagonal and to the left of it.",
    )

    @classmethod
    def probes(cls, seed):
        return [(4, 4), (2, 5 + seed % 3)]

    @solution
    def causal(T, S):
        return torch.ones(T, S, dtype=torch.bool).tril(diagonal=S - T)

    @mistake(
        "Your mask lets each query see one token too many: its own successor, which it has to predict. In training the "
        "loss would go to 0, and the model would be useless."
    )
    def sees_the_next(T, S):
        return torch.ones(T, S, dtype=torch.bool).tril(diagonal=S - T + 1)

    @mistake(
        "Your queries may not look at themselves. The first one then sees nothing at all, and softmax over nothing is NaN."
    )
    def not_itself(T, S):
        return torch.ones(T, S, dtype=torch.bool).tril(diagonal=S - T - 1)

    @mistake(
        "Your mask is aligned at the top left, as if the queries were the *first* T positions. With a cache they are the "
        "last: the diagonal ends in the lower right corner, at S - T."
    )
    def aligned_top_left(T, S):
        return torch.ones(T, S, dtype=torch.bool).tril()

    @mistake("Your mask is upside down: each query sees itself and what comes *after* it. Use `tril`, not `triu`.")
    def looks_ahead(T, S):
        return torch.ones(T, S, dtype=torch.bool).triu(diagonal=S - T)

    @mistake("Your mask is True where one must *not* look. In this course True means that one may.")
    def inverted(T, S):
        return ~torch.ones(T, S, dtype=torch.bool).tril(diagonal=S - T)

    @mistake(
        "Your mask holds numbers, 1 and 0. A mask of numbers is *added* to the scores: 1 and 0 would hide nothing. "
        "Give it `dtype=torch.bool`."
    )
    def ones_and_zeros(T, S):
        return torch.ones(T, S).tril(diagonal=S - T)

    @mistake(
        "Your mask is the kind that is added to the scores: 0 where one may look, -inf where not. That works too, but a "
        "boolean mask is asked for, True where one may look."
    )
    def added_to_the_scores(T, S):
        return torch.full((T, S), -math.inf).triu(diagonal=S - T + 1)

    @mistake("Your mask has a row for each key and a column for each query: rows are queries, columns are keys.")
    def not_transposed(T, S):
        return torch.ones(S, T, dtype=torch.bool).tril()

    @mistake(
        "You made the mask of all S positions. The T queries are the last of them, so only its last T rows are needed."
    )
    def a_row_for_every_position(T, S):
        return torch.ones(S, S, dtype=torch.bool).tril()


class ShiftRight(Exercise):
    """What a decoder reads while it is being taught: the target, one step late."""

    prompt = (
        "Write `shift_right(targets, begin, pad)`: what the decoder reads while it learns to say `targets`, of shape (B, T). "
        "Each row begins with `begin`, and each later place holds the token that was due one place before. Targets of -100 "
        "do not count in the loss; an embedding cannot look them up, so `pad` takes their place."
    )
    difficulty, minutes = 1, 10
    hints = (
        "To predict token t the decoder may read tokens 0 to t - 1. What may it read to predict token 0?",
        "The last target is predicted, and never read: `targets[:, :-1]` is what is read.",
        "Put a column of `begin` in front with `torch.cat`, then replace -100 with `masked_fill`.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        targets = torch.randint(1, 9, (3, 5), generator=generator)
        padded = targets.clone()
        padded[0, 3:], padded[2, 1:] = -100, -100
        return [(padded, 10, 11), (targets[:1, :2], 0, 9)]

    @solution
    def shift_right(targets, begin, pad):
        first = torch.full_like(targets[:, :1], begin)
        shifted = torch.cat([first, targets[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, pad)

    @mistake(
        "You give the decoder the target itself. At place t it reads the very token that it must say there: it learns to "
        "copy, the loss goes to 0, and it cannot write a word by itself."
    )
    def copies_the_target(targets, begin, pad):
        return targets.masked_fill(targets == -100, pad)

    @mistake(
        "You put `begin` over the first token and leave the others where they are: from the second place on, the decoder "
        "reads what it must say. Move everything one place to the right."
    )
    def drops_the_first(targets, begin, pad):
        shifted = torch.cat([torch.full_like(targets[:, :1], begin), targets[:, 1:]], dim=1)
        return shifted.masked_fill(shifted == -100, pad)

    @mistake("You shift to the left: place t then holds the token that is due *after* the one it must say.")
    def shifts_left(targets, begin, pad):
        shifted = torch.cat([targets[:, 1:], torch.full_like(targets[:, :1], begin)], dim=1)
        return shifted.masked_fill(shifted == -100, pad)

    @mistake("Your rows are one token too long. The last target is never read: when it is said, the sentence is over.")
    def keeps_the_last(targets, begin, pad):
        shifted = torch.cat([torch.full_like(targets[:, :1], begin), targets], dim=1)
        return shifted.masked_fill(shifted == -100, pad)

    @mistake(
        "You roll the row, so that its last token comes out in front: the decoder begins by reading the end. Put `begin` "
        "there."
    )
    def rolls(targets, begin, pad):
        shifted = targets.roll(1, dims=1)
        return shifted.masked_fill(shifted == -100, pad)

    @mistake(
        "You shift the whole batch as one long line: each row begins with the last token of the row above. Shift every "
        "row by itself, `dim=1`."
    )
    def shifts_over_rows(targets, begin, pad):
        line = torch.cat([targets.new_tensor([begin]), targets.flatten()[:-1]]).view_as(targets)
        return line.masked_fill(line == -100, pad)

    @mistake("You leave -100 in what the decoder reads. An embedding has no row -100: put `pad` there.")
    def leaves_ignored_targets(targets, begin, pad):
        return torch.cat([torch.full_like(targets[:, :1], begin), targets[:, :-1]], dim=1)

    @mistake(
        "Your tokens have become numbers with a decimal point; a column made by `torch.ones`, or by `torch.full` with "
        "a number such as 1.0, does that when its type is not given. An embedding wants whole numbers: `torch.full_like(targets[:, :1], begin)`."
    )
    def becomes_floating(targets, begin, pad):
        shifted = torch.cat([torch.full((len(targets), 1), float(begin)), targets[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, pad)


def _surprise(logits: Tensor, targets: Tensor) -> Tensor:
    """-ln p of each target, (B, T): the part of the loss that most wrong answers below get right."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


class LossWithoutPadding(Exercise):
    """A mean over the words, and not over what fills the rows up."""

    prompt = (
        "Write `loss(logits, targets, pad)`: the mean surprise, -ln p of the target, over all targets that are not `pad`. "
        "The logits have shape (B, T, V), the targets (B, T); the result is a tensor of shape ()."
    )
    difficulty, minutes = 2, 10
    hints = (
        "Which places count? A boolean tensor of shape (B, T) says it.",
        "`log_softmax` over the last axis, then `gather` the target's entry; or cross_entropy with `reduction='none'`.",
        "Sum over the places that count, and divide by *their* number, `(targets != pad).sum()`.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        logits, few = _drawn(seed, (3, 6, 7), (2, 3, 5))
        targets = torch.randint(0, 6, (3, 6), generator=generator)
        targets[0, :3] = torch.tensor([0, 5, 0])
        targets[0, 3:], targets[1, 5:] = 6, 6
        return [(3 * logits, targets, 6), (few, torch.tensor([[1, 2, 0], [4, 0, 0]]), 0)]

    @solution
    def loss(logits, targets, pad):
        surprise = -logits.log_softmax(dim=-1).gather(2, targets[..., None])[..., 0]
        counts = targets != pad
        return (surprise * counts).sum() / counts.sum()

    @mistake(
        "You count the padding. The model is then praised for saying `pad` after `pad`, and short rows weigh more."
    )
    def counts_padding(logits, targets, pad):
        return _surprise(logits, targets).mean()

    @mistake(
        "Your sum leaves the padding out and your divisor counts it: the more padding, the better the model looks. Divide "
        "by the number of targets that count."
    )
    def divides_by_all_places(logits, targets, pad):
        return (_surprise(logits, targets) * (targets != pad)).mean()

    @mistake(
        "You average within each row first. A word of a short row then weighs more than a word of a long one: sum over "
        "all rows, and divide once."
    )
    def mean_of_row_means(logits, targets, pad):
        counts = targets != pad
        return ((_surprise(logits, targets) * counts).sum(1) / counts.sum(1)).mean()

    @mistake("You forgot to divide: a sum grows with the batch, a mean does not.")
    def sums(logits, targets, pad):
        return (_surprise(logits, targets) * (targets != pad)).sum()

    @mistake("You divide by the number of rows. The mean is asked for over tokens.")
    def divides_by_rows(logits, targets, pad):
        return (_surprise(logits, targets) * (targets != pad)).sum() / len(targets)

    @mistake("You leave out token 0, whatever `pad` is. Padding is the token `pad`; token 0 may be a word.")
    def takes_zero_for_padding(logits, targets, pad):
        return _surprise(logits, targets)[targets != 0].mean()

    @mistake("You turned it round: your mean is over the padding alone.")
    def only_padding(logits, targets, pad):
        return _surprise(logits, targets)[targets == pad].mean()

    @mistake(
        "You took the logits themselves for ln p. They are scores until `log_softmax` makes their exponentials sum to 1."
    )
    def forgets_softmax(logits, targets, pad):
        return -logits.gather(2, targets[..., None])[..., 0][targets != pad].mean()


class DecoderMask(Exercise):
    """Two reasons not to look, in one mask."""

    prompt = (
        "Write `decoder_mask(tokens, pad)` for tokens of shape (B, T): a boolean tensor of shape (B, 1, T, T), True where "
        "query t may look at key s. Nobody looks ahead, and nobody looks at a key that is `pad`. The axis of size 1 "
        "stretches over the heads."
    )
    difficulty, minutes = 2, 8
    hints = (
        "Two masks: one of shape (T, T) that is the same for every row, one of shape (B, S) that says which *keys* are "
        "words. When may one look?",
        "One may look where both allow it: `&`. Broadcasting needs shapes (T, T) and (B, 1, 1, T).",
        "`(tokens != pad)[:, None, None, :]` puts the keys on the last axis.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(1, 9, (3, 5), generator=generator)
        tokens[1, 3:], tokens[2, 1:] = 9, 9
        in_front = torch.tensor([[0, 3, 4, 5], [1, 2, 0, 4]])  # what is padding does not always stand at the end
        return [(tokens, 9), (in_front, 0)]

    @solution
    def decoder_mask(tokens, pad):
        T = tokens.shape[1]
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        return causal & (tokens != pad)[:, None, None, :]

    @mistake("Your queries see what comes after them. Join the padding mask with a causal one.")
    def forgets_causal(tokens, pad):
        return (tokens != pad)[:, None, None, :].repeat(1, 1, tokens.shape[1], 1)

    @mistake("Your mask lets queries look at padding: it is the causal mask alone.")
    def forgets_padding(tokens, pad):
        T = tokens.shape[1]
        return torch.ones(T, T, dtype=torch.bool).tril().repeat(len(tokens), 1, 1, 1)

    @mistake("You joined the masks with *or*: one reason to look is then enough. Both must allow it: `&`.")
    def joins_with_or(tokens, pad):
        T = tokens.shape[1]
        return torch.ones(T, T, dtype=torch.bool).tril() | (tokens != pad)[:, None, None, :]

    @mistake(
        "You hid the *queries* that are padding, not the keys: `[:, None, :, None]` puts the words on the axis of queries. "
        "What must not be looked at stands on the last axis."
    )
    def hides_queries(tokens, pad):
        T = tokens.shape[1]
        return torch.ones(T, T, dtype=torch.bool).tril() & (tokens != pad)[:, None, :, None]

    @mistake(
        "You hid the queries that are padding as well. That empties their rows, though they could look at the words before "
        "them. Only keys are to be hidden: what padding itself looks at nobody reads."
    )
    def hides_queries_too(tokens, pad):
        words, T = tokens != pad, tokens.shape[1]
        return torch.ones(T, T, dtype=torch.bool).tril() & words[:, None, None, :] & words[:, None, :, None]

    @mistake("You compare with `==`: your mask lets queries look at padding, and at nothing else.")
    def looks_only_at_padding(tokens, pad):
        T = tokens.shape[1]
        return torch.ones(T, T, dtype=torch.bool).tril() & (tokens == pad)[:, None, None, :]

    @mistake(
        "Your mask has shape (B, T, T). Against scores of shape (B, H, T, T) its first axis would be taken for the heads: "
        "put an axis of size 1 between."
    )
    def without_the_axis_of_heads(tokens, pad):
        T = tokens.shape[1]
        return torch.ones(T, T, dtype=torch.bool).tril() & (tokens != pad)[:, None, :]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = query @ key.T / query.shape[1] ** 0.5
    return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1) @ value


class CrossAttention(Exercise):
    """One text asks, the other answers."""

    prompt = (
        "Write `cross_attention(x, memory, to_query, to_key, to_value, is_word)` for one head. The decoder's rows `x` have "
        "shape (T, C), the encoder's rows `memory` (S, C), the three matrices (C, D); `is_word` of shape (S,) is False "
        "where the source is padding. Return what each row of `x` reads, of shape (T, D)."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Who asks? The decoder, which is about to say a word. Who holds up labels and has something to say? The source.",
        "`query = x @ to_query`, and keys and values both from `memory`. The scores have shape (T, S).",
        "`is_word` has shape (S,), and hides whole columns of the scores: `scores.masked_fill(~is_word, -math.inf)`. The "
        "source is known from its first word to its last, so nothing else is hidden.",
    )

    @classmethod
    def probes(cls, seed):
        x, memory, square, q, k, v = _drawn(seed, (3, 5), (4, 5), (4, 5), (5, 6), (5, 6), (5, 6))
        inner = torch.tensor([True, False, True, True])
        everything = torch.ones(4, dtype=torch.bool)
        return [
            (x, memory, q, k, v, everything),
            (square, memory, q, k, v, inner),
        ]

    @solution
    def cross_attention(x, memory, to_query, to_key, to_value, is_word):
        query, key, value = x @ to_query, memory @ to_key, memory @ to_value
        scores = query @ key.T / query.shape[1] ** 0.5
        return scores.masked_fill(~is_word, float("-inf")).softmax(dim=1) @ value

    @mistake(
        "The wrong side asks: your queries come from the encoder, keys and values from the decoder. The decoder needs "
        "something, so it asks; the result has a row for each of *its* places."
    )
    def sources_swapped(x, memory, to_query, to_key, to_value, is_word):
        return _attend(memory @ to_query, x @ to_key, x @ to_value, is_word)

    @mistake(
        "The wrong side asks, and no key is hidden: your queries come from the encoder, keys and values from the decoder. "
        "The decoder needs something, so it asks; keys and values are the source's, and `is_word` says which to hide."
    )
    def sources_swapped_without_mask(x, memory, to_query, to_key, to_value, is_word):
        return _attend(memory @ to_query, x @ to_key, x @ to_value, None)

    @mistake(
        "Queries, keys and values all come from the decoder in your answer: that is self-attention. It runs only when both "
        "texts are equally long, and of the source it knows nothing but where its padding is."
    )
    def self_attention(x, memory, to_query, to_key, to_value, is_word):
        return _attend(x @ to_query, x @ to_key, x @ to_value, is_word)

    @mistake("Everything in your answer comes from the decoder: that is self-attention, and the source is never read.")
    def self_attention_without_mask(x, memory, to_query, to_key, to_value, is_word):
        return _attend(x @ to_query, x @ to_key, x @ to_value, None)

    @mistake(
        "Your keys come from the memory and your values from the decoder. It runs only when both texts are equally long, "
        "and then fetches from the wrong one: keys and values are two sides of the same row."
    )
    def values_from_decoder(x, memory, to_query, to_key, to_value, is_word):
        return _attend(x @ to_query, memory @ to_key, x @ to_value, is_word)

    @mistake(
        "Your values come from the memory and your keys from the decoder: labels of one text hang on the words of another."
    )
    def keys_from_decoder(x, memory, to_query, to_key, to_value, is_word):
        return _attend(x @ to_query, x @ to_key, memory @ to_value, is_word)

    @mistake(
        "You put a causal mask over the memory. The whole source is there before the first word is said: place 0 may look "
        "at its last word, and to reverse a text it must."
    )
    def causal_over_the_memory(x, memory, to_query, to_key, to_value, is_word):
        causal = torch.ones(len(x), len(memory), dtype=torch.bool).tril()
        return _attend(x @ to_query, memory @ to_key, memory @ to_value, causal & is_word)

    @mistake("You let the decoder look at the source's padding: use `is_word`.")
    def looks_at_padding(x, memory, to_query, to_key, to_value, is_word):
        return _attend(x @ to_query, memory @ to_key, memory @ to_value, None)

    @mistake("You left out the division by √D. A longer row has larger scores, here too.")
    def no_scale(x, memory, to_query, to_key, to_value, is_word):
        scores = (x @ to_query) @ (memory @ to_key).T
        return scores.masked_fill(~is_word, -math.inf).softmax(1) @ (memory @ to_value)

    @mistake(
        "You hide padding after the softmax: it has already taken its share, and the rows no longer sum to 1. Hide the "
        "scores, with -inf."
    )
    def hides_after_softmax(x, memory, to_query, to_key, to_value, is_word):
        weights = ((x @ to_query) @ (memory @ to_key).T / to_query.shape[1] ** 0.5).softmax(1)
        return (weights * is_word) @ (memory @ to_value)

    @mistake("You used one matrix for keys and values; each has its own.")
    def one_matrix_for_both(x, memory, to_query, to_key, to_value, is_word):
        return _attend(x @ to_query, memory @ to_key, memory @ to_key, is_word)


def _layers() -> list[Callable[[Tensor], Tensor]]:
    """Layers from (T, 4) to (T, ...): leaks of every kind that a careless detector overlooks, and tight ones."""
    ahead = lambda x, n=1: torch.cat([x[n:], torch.zeros_like(x[:n])])  # noqa: E731

    def causal_mean(x):
        return (x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None])[:, :3]  # outputs need not be as wide as inputs

    def without_memory(x):
        return 2 * x

    def two_ahead(x):
        return x + ahead(x, 2)

    def faint(x):
        return x + 1e-6 * ahead(x)

    def cancels_within_a_row(x):
        leak = ahead(x)[:, :1] * 0.5
        return torch.cat([x[:, :1] + leak, x[:, 1:2] - leak], dim=1)

    def invisible_at_zero(x):
        return x + ahead(x) ** 2

    def invisible_among_equals(x):
        return torch.cat([x[:-2] + (x[1:-1] - x[2:]) ** 2, x[-2:]])

    def only_the_last_but_one(x):
        return torch.cat([x[:-2], x[-2:-1] + x[-1:], x[-1:]])

    def one_number_alone(x):
        return torch.cat([x[:1] - x[1:2] * torch.tensor([0.0, 1.0, 0.0, 0.0]), x[1:]])

    def copies_the_next(x):
        return ahead(x)

    def cancels_among_inputs(x):
        return x + (ahead(x)[:, :1] - ahead(x)[:, 1:2])

    return [
        causal_mean, without_memory, two_ahead, faint, cancels_within_a_row, invisible_at_zero, invisible_among_equals,
        only_the_last_but_one, one_number_alone, copies_the_next, cancels_among_inputs,
    ]  # fmt: skip


class LeakDetector(Exercise):
    """Prove that nothing flows back from the future."""

    prompt = (
        "Write `leaks(model, T)`. `model` is a function from x, of shape (T, 4), to outputs of shape (T, D). Return True "
        "when some output t depends on an input s that comes after it, s > t, and False when none does. Judge by "
        "gradients, on an x that you make."
    )
    difficulty, minutes = 3, 15
    seconds = 12.0  # the first use of `torch.func` in a process imports for three of them
    hints = (
        "`x.requires_grad_()`, then `torch.autograd.grad(number, x)` gives how that number answers to each input. Its rows "
        "after t must be 0; the last output has no such rows, and the largest of nothing is an error.",
        "An output is a row of numbers, and their effects can cancel in a sum. Weigh them with random numbers first, or "
        "look at each by itself. Do the same with gradients: ask whether any is not 0.",
        "Exactly 0 is exactly 0: what does not enter a sum has no gradient at all. No tolerance is needed. And zeros make "
        "a bad x, for there x² does not answer either: draw it at random.",
    )

    @classmethod
    def probes(cls, seed):
        return [(layer, 5 + seed % 3) for layer in _layers()]

    @classmethod
    def observe(cls, answer, probe):
        answers = [answer(*probe) for _ in range(8)]  # who sees a leak by luck misses it once
        return next((found for found in answers if found is not True), True)

    @solution
    def leaks(model, T):
        x = torch.randn(T, 4, requires_grad=True)
        outputs = model(x)
        for t in range(T):
            number = (outputs[t] * torch.randn(outputs.shape[1])).sum()
            (gradient,) = torch.autograd.grad(number, x, retain_graph=True)
            if (gradient[t + 1 :] != 0).any():
                return True
        return False

    @mistake("You look at the inputs *before* t. A causal model is meant to depend on those; the future is s > t.")
    def checks_the_past(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[:t] != 0).any())

    @mistake("You count input t itself. An output may depend on its own input; the future begins at t + 1.")
    def counts_itself(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t:] != 0).any())

    @mistake(
        "You sum an output's numbers before you differentiate. Two of them can answer to the future in opposite ways, and "
        "the sum hides it: weigh them with random numbers, or take one at a time."
    )
    def sums_outputs(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :] != 0).any(), weigh=torch.ones_like)

    @mistake(
        "You sum the gradients, and +1 and -1 make 0. Ask whether *any* of them is not 0, or sum their absolute values."
    )
    def sums_gradients(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :].sum(dim=1) != 0).any(), exact=True)

    @mistake(
        "Your detector has a tolerance, and a faint leak passes under it. A model finds faint signals; what is hidden has "
        "a gradient of exactly 0, so ask for exactly 0."
    )
    def tolerates_faint_leaks(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :].abs() > 1e-3).any())

    @mistake(
        "You look one place ahead only, at s = t + 1. A leak can come from further away: look at all rows after t."
    )
    def looks_at_the_next_only(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 : t + 2] != 0).any())

    @mistake(
        "You test the last output, which has no future to leak from. Test every t; the first has the longest future."
    )
    def tests_the_last_output(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :] != 0).any(), places=[-1])

    @mistake(
        "You do not test every output. A leak may sit at one place alone, as at the edge of a window: test every t, to the "
        "last but one."
    )
    def tests_the_first_output(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :] != 0).any(), places=[0])

    @mistake(
        "A leak of one number passes: number 1 of output 0 falls when number 1 of input 1 grows, and nothing else leaks. "
        "Look at every number of an output, at every row and column of its gradient after t, and also for what is below 0."
    )
    def looks_at_the_first_number(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :] != 0).any(), exact=True)

    @mistake(
        "You differentiate at an x whose rows are all the same. A leak that depends on how they differ may have no slope "
        "there: draw x at random."
    )
    def differentiates_among_equals(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :] != 0).any(), start=torch.ones(T, 4))

    @mistake("You say True where nothing leaks, and False where something does. It is the other way round.")
    def turned_round(model, T):
        return not _detects(model, T, lambda gradient, t: (gradient[t + 1 :] != 0).any())

    @mistake("You differentiate at x = 0, where x² has no slope: such a leak is invisible there. Draw x at random.")
    def differentiates_at_zero(model, T):
        return _detects(model, T, lambda gradient, t: (gradient[t + 1 :] != 0).any(), start=torch.zeros(T, 4))

    @mistake(
        "You compare values: whether an output *equals* the next input. A leak need not be a copy; ask how the output "
        "changes when the input does."
    )
    def compares_values(model, T):
        x = torch.randn(T, 4)
        outputs = model(x)
        return any(bool(torch.isclose(outputs[t, :, None], x[t + 1 :].flatten()).any()) for t in range(T - 1))


def _detects(
    model: Callable[[Tensor], Tensor],
    T: int,
    is_leak: Callable[[Tensor, int], Tensor],
    *,
    weigh: Callable[[Tensor], Tensor] = torch.rand_like,
    places: list[int] | None = None,
    start: Tensor | None = None,
    exact: bool = False,
) -> bool:
    """A detector that is careless in one respect; `exact` looks at the first number of each output alone."""
    x = (torch.randn(T, 4) if start is None else start).requires_grad_()
    outputs = model(x)
    for t in range(T) if places is None else [place % T for place in places]:
        number = outputs[t, 0] if exact else (outputs[t] * weigh(outputs[t])).sum()
        (gradient,) = torch.autograd.grad(number, x, retain_graph=True)
        if bool(is_leak(gradient, t)):
            return True
    return False


class Reach(Exercise):
    """News travels one mask a layer."""

    prompt = (
        "Write `reach(mask, layers)`. `mask` is boolean of shape (T, T), True where position t may look at position s. "
        "Return a boolean tensor of the same shape, True where output t can be affected by input s after so many layers. "
        "A residual connection carries every position past each layer."
    )
    difficulty, minutes = 3, 12
    hints = (
        "After one layer: position t knows of those it looks at, and of itself, thanks to the residual.",
        "After one more layer it knows what those *knew* whom it looks at. Matrix multiplication says that: row t of the "
        "step times the old reach.",
        "Boolean matrices do not multiply; turn them into numbers, and ask afterwards which are above 0.",
    )

    @classmethod
    def probes(cls, seed):
        window = torch.ones(6, 6, dtype=torch.bool).tril() & ~torch.ones(6, 6, dtype=torch.bool).tril(-3)
        ring = torch.eye(7, dtype=torch.bool).roll(1, dims=1)  # each looks at its right neighbour only
        return [(window, 2), (ring, 3)]

    @solution
    def reach(mask, layers):
        step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
        reached = torch.eye(len(mask), dtype=torch.double)
        for _ in range(layers):
            reached = ((step @ reached) > 0).double()
        return reached > 0

    @mistake(
        "You left the residual out: a position that does not look at itself then forgets what it was, and news can only "
        "arrive after exactly so many steps. Add the diagonal."
    )
    def forgets_the_residual(mask, layers):
        reached = torch.linalg.matrix_power(mask.double(), layers)
        return reached > 0

    @mistake(
        "You add the diagonal after the power. News then comes by ways of exactly so many steps; but on its way it may rest "
        "at a position for a layer. Add the diagonal first."
    )
    def diagonal_after_the_power(mask, layers):
        reached = torch.linalg.matrix_power(mask.double(), layers) > 0
        return reached | torch.eye(len(mask), dtype=torch.bool)

    @mistake("You counted one layer too few: after one layer the reach is the mask itself, with the diagonal.")
    def one_layer_too_few(mask, layers):
        step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
        return torch.linalg.matrix_power(step, layers - 1) > 0

    @mistake("You counted one layer too many: after one layer the reach is the mask itself, with the diagonal.")
    def one_layer_too_many(mask, layers):
        step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
        return torch.linalg.matrix_power(step, layers + 1) > 0

    @mistake(
        "You took the power number by number: 1 stays 1 and 0 stays 0, so a second layer changes nothing. The *matrix* "
        "power follows the paths."
    )
    def power_number_by_number(mask, layers):
        return (mask | torch.eye(len(mask), dtype=torch.bool)).double() ** layers > 0

    @mistake("Your result is the wrong way round: row t says whom *output* t hears of, not who hears of input t.")
    def transposed(mask, layers):
        step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
        return (torch.linalg.matrix_power(step, layers) > 0).T

    @mistake("You follow the paths to their end. With so few layers news comes only so far: one step a layer.")
    def ignores_the_layers(mask, layers):
        step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
        return torch.linalg.matrix_power(step, len(mask)) > 0

    @mistake("You return how many paths there are. Asked is whether there is one: compare with 0.")
    def counts_paths(mask, layers):
        step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
        return torch.linalg.matrix_power(step, layers)
