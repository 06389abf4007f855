"""Exercises of chapter 9: windows of text, the next token's distribution, a cache that knows where it is, GPT-2's size."""

import math

import torch

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 9


class PredictFirstLoss(Exercise):
    """Predict, then run: the loss of a model that has learned nothing."""

    prompt = (
        "Predict before you run the next cell. GPT-2 has a vocabulary of 50,257 tokens. Before training it should find all "
        "of them about equally likely. What is its loss then, in nats per token? Give a number, to two decimals."
    )
    difficulty, minutes, tolerance = 1, 3, 1e-3
    hints = (
        "The loss of one token is the negative logarithm of the probability that the model gave it.",
        "Each of 50,257 tokens has probability 1/50,257; the natural logarithm is `math.log`.",
    )
    praise = (
        "correct: ln 50,257 = 10.82. A first loss far above it is the sign of a bad start; far below it, of a leak."
    )

    @solution
    def first_loss():
        return math.log(50_257)

    @mistake(
        "You took the logarithm to base 2: 15.62 *bits*. A nat is 1.44 bits; the losses of this course are in nats."
    )
    def in_bits():
        return math.log2(50_257)

    @mistake("You took the logarithm to base 10. The losses of this course are in nats, with the natural logarithm.")
    def base_ten():
        return math.log10(50_257)

    @mistake("That is the perplexity, the number of tokens to choose between. The loss is its natural logarithm.")
    def perplexity_for_loss():
        return 50_257

    @mistake(
        "You counted only half of the tokens. The loss of a blind guess is the logarithm of the whole vocabulary's size."
    )
    def half_the_tokens():
        return math.log(50_257 / 2)

    @mistake("A loss of 0 is certainty: every token would be known in advance. Here nothing is known.")
    def certainty():
        return 0.0


class TextWindows(Exercise):
    """Cut documents into windows: what is read, and what is to be said."""

    prompt = (
        "Write `windows(documents, context)`: every window for training, as a list of (x, y) pairs of lists. `documents` "
        "is a list of lists of tokens. x is `context` tokens that stand side by side in one document, y the tokens that "
        "follow each of them. Take every place at which a window can start, in order, document by document; no window "
        "may run from one document into the next."
    )
    difficulty, minutes = 2, 12
    hints = (
        "y is x moved by one place: `document[start + 1 : start + context + 1]`.",
        "The last token of y must still be in the document. What is the last place to start?",
        "A document of n tokens has n - context windows: `for start in range(len(document) - context)`.",
    )

    @classmethod
    def probes(cls, seed):
        return [([[7, 8, 9, 8, 7]], 4), ([[1, 2], list(range(10 + seed, 17 + seed))], 3)]

    @solution
    def windows(documents, context):
        return [
            (document[start : start + context], document[start + 1 : start + context + 1])
            for document in documents
            for start in range(len(document) - context)
        ]

    @mistake(
        "Your y is x itself: the model is asked for the token that it is just reading. Copying is easy, the loss falls to "
        "zero, and nothing has been learned. Move y by one."
    )
    def target_is_input(documents, context):
        return [(d[s : s + context], d[s : s + context]) for d in documents for s in range(len(d) - context)]

    @mistake("Your y is x + 1: you added one to each token's *number*. Move along the text by one place instead.")
    def adds_one_to_the_number(documents, context):
        return [
            (d[s : s + context], [t + 1 for t in d[s : s + context]])
            for d in documents
            for s in range(len(d) - context)
        ]

    @mistake(
        "Your windows run from one document into the next, where the model would be asked to guess the beginning of an "
        "unrelated text. Cut each document by itself."
    )
    def crosses_documents(documents, context):
        d = [token for document in documents for token in document]
        return [(d[s : s + context], d[s + 1 : s + context + 1]) for s in range(len(d) - context)]

    @mistake(
        "Your windows lie end to end, so each text is always cut at the same places, and the token at a border is "
        "predicted from almost nothing every time. Start at every place."
    )
    def contiguous_starts(documents, context):
        return [
            (d[s : s + context], d[s + 1 : s + context + 1])
            for d in documents
            for s in range(0, len(d) - context, context)
        ]

    @mistake(
        "The last window of each document has a y that is too short: its last token has no follower. Stop one earlier."
    )
    def one_window_too_many(documents, context):
        return [
            (d[s : s + context], d[s + 1 : s + context + 1]) for d in documents for s in range(len(d) - context + 1)
        ]

    @mistake(
        "A text that is shorter than a window gives you one all the same, which is too short: no batch can be made of "
        "windows of several lengths. Such a text gives none."
    )
    def short_texts_too(documents, context):
        return [
            (d[s : s + context], d[s + 1 : s + context + 1])
            for d in documents
            for s in range(max(len(d) - context, int(1 < len(d) < context)))
        ]

    @mistake("You stop one window too early: the last token of each document is never predicted.")
    def one_window_too_few(documents, context):
        return [
            (d[s : s + context], d[s + 1 : s + context + 1]) for d in documents for s in range(len(d) - context - 1)
        ]

    @mistake("Your y moves by two places: the model would have to skip a token.")
    def moved_by_two(documents, context):
        return [(d[s : s + context], d[s + 2 : s + context + 2]) for d in documents for s in range(len(d) - context)]

    @mistake("Your y goes *back* by one: it asks for the token before, which the model has already read.")
    def moved_back(documents, context):
        return [(d[s + 1 : s + context + 1], d[s : s + context]) for d in documents for s in range(len(d) - context)]


class NextTokenDistribution(Exercise):
    """Temperature, top-k and top-p, in this order."""

    prompt = (
        "Write `distribution(logits, temperature, top_k, top_p)` for logits of shape (V,): the probabilities that the next "
        "token is drawn from, in the vocabulary's order, summing to 1. Divide by the temperature; at temperature 0 the "
        "likeliest token has probability 1. Then keep the `top_k` likeliest. Then, with the kept ones made to sum to 1, "
        "keep the fewest of the likeliest that hold at least `top_p`; the one that reaches it is kept. Equal logits do not occur."
    )
    difficulty, minutes = 2, 20
    hints = (
        "Sort once: `p, order = (logits / temperature).softmax(0).sort(descending=True)`. Then both cuts are about places.",
        "A token stays when those *before* it hold less than top_p: `p.cumsum(0) - p < top_p`.",
        "Back into the vocabulary's order: `torch.zeros_like(p).scatter(0, order, p)`. Treat temperature 0 first.",
    )

    @classmethod
    def probes(cls, seed):
        logits = torch.tensor([0.2, 2.0, -1.0, 1.4, 0.9, -0.3]) + 0.01 * seed
        return [
            (logits, 1.0, 3, 1.0), (logits, 1.0, 6, 0.7), (logits, 2.0, 4, 0.8), (logits, 0.0, 6, 1.0),
        ]  # fmt: skip

    @solution
    def distribution(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p, order = (logits / temperature).softmax(0).sort(descending=True)
        p[top_k:] = 0
        p = p / p.sum()
        p = torch.where(p.cumsum(0) - p < top_p, p, torch.zeros_like(p))
        return torch.zeros_like(p).scatter(0, order, p / p.sum())

    @mistake(
        "Your nucleus leaves out the token that crosses the line, and can be empty. Keep a token when those *before* it "
        "hold less than top_p."
    )
    def crossing_token_left_out(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p, order = (logits / temperature).softmax(0).sort(descending=True)
        p[top_k:] = 0
        p = p / p.sum()
        p = torch.where(p.cumsum(0) < top_p + 1e-6, p, torch.zeros_like(p))
        return torch.zeros_like(p).scatter(0, order, p / p.sum())

    @mistake(
        "Your probabilities are in the order of their size, not of the vocabulary. Put them back with `scatter`: otherwise "
        "token 0 always gets the largest."
    )
    def forgets_to_unsort(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p = (logits / temperature).softmax(0).sort(descending=True)[0]
        p[top_k:] = 0
        p = p / p.sum()
        p = torch.where(p.cumsum(0) - p < top_p, p, torch.zeros_like(p))
        return p / p.sum()

    @mistake("What you return does not sum to 1. After a cut, divide by what is left.")
    def not_renormalised(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p, order = (logits / temperature).softmax(0).sort(descending=True)
        p[top_k:] = 0
        share = p / p.sum()
        p = torch.where(share.cumsum(0) - share < top_p, p, torch.zeros_like(p))
        return torch.zeros_like(p).scatter(0, order, p)

    @mistake(
        "You divide by a temperature of 0. Greedy decoding is a case of its own: the likeliest token, with certainty."
    )
    def divides_by_zero(logits, temperature, top_k, top_p):
        p, order = (logits / temperature).softmax(0).sort(descending=True)
        p[top_k:] = 0
        p = p / p.sum()
        p = torch.where(p.cumsum(0) - p < top_p, p, torch.zeros_like(p))
        return torch.zeros_like(p).scatter(0, order, p / p.sum())

    @mistake(
        "You multiply by the temperature. Then a high temperature sharpens the distribution, and it should flatten it."
    )
    def multiplies_by_temperature(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p, order = (logits * temperature).softmax(0).sort(descending=True)
        p[top_k:] = 0
        p = p / p.sum()
        p = torch.where(p.cumsum(0) - p < top_p, p, torch.zeros_like(p))
        return torch.zeros_like(p).scatter(0, order, p / p.sum())

    @mistake(
        "Your temperature changes nothing. Divide the *logits* by it, before softmax; dividing probabilities is undone by "
        "renormalising."
    )
    def temperature_after_softmax(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p, order = (logits.softmax(0) / temperature).sort(descending=True)
        p[top_k:] = 0
        p = p / p.sum()
        p = torch.where(p.cumsum(0) - p < top_p, p, torch.zeros_like(p))
        return torch.zeros_like(p).scatter(0, order, p / p.sum())

    @mistake(
        "You measure top_p on the probabilities from before the top-k cut. The prompt asks for the kept ones, made to sum "
        "to 1: the nucleus is then smaller."
    )
    def top_p_before_top_k(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p, order = (logits / temperature).softmax(0).sort(descending=True)
        keep = p.cumsum(0) - p < top_p
        keep[top_k:] = False
        p = torch.where(keep, p, torch.zeros_like(p))
        return torch.zeros_like(p).scatter(0, order, p / p.sum())

    @mistake("You ignore top_k: tokens that are not among the `top_k` likeliest stay.")
    def no_top_k(logits, temperature, top_k, top_p):
        return NextTokenDistribution.solution(logits, temperature, len(logits), top_p)

    @mistake("You ignore top_p: the long tail of unlikely tokens stays.")
    def no_top_p(logits, temperature, top_k, top_p):
        if temperature == 0:
            return torch.zeros_like(logits).scatter(0, logits.argmax()[None], 1.0)
        p, order = (logits / temperature).softmax(0).sort(descending=True)
        p[top_k:] = 0
        return torch.zeros_like(p).scatter(0, order, p / p.sum())


def _places(T):
    """Rows that tell places apart, of width 4: what stands for position embeddings in `CachedSteps`."""
    return torch.sin(torch.arange(1.0, T + 1)[:, None] * torch.tensor([0.9, 0.5, 0.3, 0.2]))


class CachedSteps(Exercise):
    """A cache that knows where it is."""

    prompt = (
        "Write `step(new, cache, places, project)`: one step of attention with a cache. new: (T, C), embeddings of the new "
        "tokens, without positions. cache: None or a pair (keys, values), each (P, C), of the P tokens before. places: "
        "(N, C), the position embedding of each place from 0. `project(x)` returns (query, key, value), each (T, C). Add "
        "the positions, project, and attend with softmax(QKᵀ/√C)V: new token t sees all P old ones and the new ones up to "
        "itself. Return (blend, cache), the blend (T, C) and the longer cache."
    )
    difficulty, minutes = 3, 20
    hints = (
        "How many tokens does the cache hold? Where does the first new token stand?",
        "`P = 0 if cache is None else len(cache[0])`, and the new tokens stand at places P to P + T - 1.",
        "The mask has T rows and P + T columns: `torch.ones(T, P + T, dtype=torch.bool).tril(P)`.",
    )
    praise = "correct. Token by token, in pieces or at once: the same numbers, and old keys are never computed again."
    probe_names = ("embeddings", "matrices", "pieces")

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
        return [(draw(sum(cuts), 4), draw(3, 4, 4), cuts) for cuts in ((3, 1, 2), (2, 3))]

    @classmethod
    def observe(cls, answer, probe):
        x, matrices, cuts = probe
        cache, blends = None, []
        for piece in x.split(cuts):
            # one place more than there are tokens: who is off by one shall see a wrong place, and not run out of them
            blend, cache = answer(
                piece, cache, _places(len(x) + 1), lambda rows: tuple(rows @ matrix for matrix in matrices)
            )
            blends.append(blend)
        return torch.cat(blends), cache[0], cache[1]

    @solution
    def step(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        T = len(new)
        query, key, value = project(new + places[P : P + T])
        if cache is not None:
            key, value = torch.cat([cache[0], key]), torch.cat([cache[1], value])
        scores = query @ key.T / new.shape[1] ** 0.5
        seen = torch.ones(T, P + T, dtype=torch.bool).tril(P)
        return scores.masked_fill(~seen, -torch.inf).softmax(dim=1) @ value, (key, value)

    @mistake(
        "Your positions restart at 0 with every piece: token 5, added alone, believes that it stands first. The new tokens "
        "stand at places P to P + T - 1."
    )
    def positions_restart(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        T = len(new)
        query, key, value = project(new + places[:T])
        if cache is not None:
            key, value = torch.cat([cache[0], key]), torch.cat([cache[1], value])
        scores = query @ key.T / new.shape[1] ** 0.5
        seen = torch.ones(T, P + T, dtype=torch.bool).tril(P)
        return scores.masked_fill(~seen, -torch.inf).softmax(dim=1) @ value, (key, value)

    @mistake("Your positions are off by one: the first token of a text stands at place 0, so the new ones begin at P.")
    def positions_off_by_one(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        T = len(new)
        query, key, value = project(new + places[P + 1 : P + T + 1])
        if cache is not None:
            key, value = torch.cat([cache[0], key]), torch.cat([cache[1], value])
        scores = query @ key.T / new.shape[1] ** 0.5
        seen = torch.ones(T, P + T, dtype=torch.bool).tril(P)
        return scores.masked_fill(~seen, -torch.inf).softmax(dim=1) @ value, (key, value)

    @mistake("Your cache holds only the newest keys and values: what came before is forgotten at the next step.")
    def cache_not_extended(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        T = len(new)
        query, fresh_key, fresh_value = project(new + places[P : P + T])
        key, value = fresh_key, fresh_value
        if cache is not None:
            key, value = torch.cat([cache[0], key]), torch.cat([cache[1], value])
        scores = query @ key.T / new.shape[1] ** 0.5
        seen = torch.ones(T, P + T, dtype=torch.bool).tril(P)
        return scores.masked_fill(~seen, -torch.inf).softmax(dim=1) @ value, (fresh_key, fresh_value)

    @mistake(
        "Your mask is aligned at the top left: it hides most of the cache. New token t is the (P + t)-th of the text, so "
        "its row of the mask is moved by P."
    )
    def mask_aligned_top_left(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        T = len(new)
        query, key, value = project(new + places[P : P + T])
        if cache is not None:
            key, value = torch.cat([cache[0], key]), torch.cat([cache[1], value])
        scores = query @ key.T / new.shape[1] ** 0.5
        seen = torch.ones(T, P + T, dtype=torch.bool).tril()
        return scores.masked_fill(~seen, -torch.inf).softmax(dim=1) @ value, (key, value)

    @mistake(
        "You use no mask. One token at a time that is right; but when several come at once, each sees those after it."
    )
    def no_mask(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        query, key, value = project(new + places[P : P + len(new)])
        if cache is not None:
            key, value = torch.cat([cache[0], key]), torch.cat([cache[1], value])
        return (query @ key.T / new.shape[1] ** 0.5).softmax(dim=1) @ value, (key, value)

    @mistake(
        "You put the new keys *before* the old ones. The cache must stay in the order of the text, as the mask expects."
    )
    def new_before_old(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        T = len(new)
        query, key, value = project(new + places[P : P + T])
        if cache is not None:
            key, value = torch.cat([key, cache[0]]), torch.cat([value, cache[1]])
        scores = query @ key.T / new.shape[1] ** 0.5
        seen = torch.ones(T, P + T, dtype=torch.bool).tril(P)
        return scores.masked_fill(~seen, -torch.inf).softmax(dim=1) @ value, (key, value)

    @mistake("You forgot to divide the scores by √C.")
    def unscaled(new, cache, places, project):
        P = 0 if cache is None else len(cache[0])
        T = len(new)
        query, key, value = project(new + places[P : P + T])
        if cache is not None:
            key, value = torch.cat([cache[0], key]), torch.cat([cache[1], value])
        seen = torch.ones(T, P + T, dtype=torch.bool).tril(P)
        return (query @ key.T).masked_fill(~seen, -torch.inf).softmax(dim=1) @ value, (key, value)


class CountGPT2(Exercise):
    """GPT-2's parameters, to the unit."""

    prompt = (
        "Write `count(n_vocab, context, C, n_layers)`: the parameters of a GPT-2 of width C. Token and position embeddings; "
        "in each block query, key, value and output projections, a feed-forward layer of hidden width 4C, and two norms; "
        "a last norm. Every linear layer of a block has a bias, every norm a gain and a bias. The output head is the token "
        "embedding itself."
    )
    difficulty, minutes = 2, 12
    hints = (
        "One block: 4 projections of C · C + C, two layers of 4C · C, with 4C and C biases, two norms of 2C.",
        "Outside the blocks: n_vocab · C, context · C, and the last norm's 2C. A shared matrix counts once.",
        "A block has 12C² + 13C parameters.",
    )

    @classmethod
    def probes(cls, seed):
        return [(50_257, 1024, 768, 12), (100 + seed, 16, 8, 3)]

    @solution
    def count(n_vocab, context, C, n_layers):
        block = 4 * (C * C + C) + (C * 4 * C + 4 * C) + (4 * C * C + C) + 2 * 2 * C
        return n_vocab * C + context * C + n_layers * block + 2 * C

    @mistake("You counted the output head beside the embedding. They are one matrix: what is shared counts once.")
    def head_counted_twice(n_vocab, context, C, n_layers):
        return 2 * n_vocab * C + context * C + n_layers * (12 * C * C + 13 * C) + 2 * C

    @mistake("You left out the position embeddings: GPT-2 learns a row for each of its `context` places.")
    def no_positions(n_vocab, context, C, n_layers):
        return n_vocab * C + n_layers * (12 * C * C + 13 * C) + 2 * C

    @mistake("You left out the last norm, after the last block: 2C numbers.")
    def no_last_norm(n_vocab, context, C, n_layers):
        return n_vocab * C + context * C + n_layers * (12 * C * C + 13 * C)

    @mistake("You counted the matrices and forgot all biases and norms: 13C in each block, and 2C at the end.")
    def matrices_only(n_vocab, context, C, n_layers):
        return n_vocab * C + context * C + n_layers * 12 * C * C

    @mistake("You left out the biases of the linear layers: 9C in each block.")
    def linear_layers_without_bias(n_vocab, context, C, n_layers):
        return n_vocab * C + context * C + n_layers * (12 * C * C + 4 * C) + 2 * C

    @mistake("You counted norms without their biases. Each of GPT-2's norms has a gain and a bias: 2C.")
    def norms_without_bias(n_vocab, context, C, n_layers):
        return n_vocab * C + context * C + n_layers * (12 * C * C + 11 * C) + C

    @mistake("You counted three projections of attention. There are four: query, key, value, and the output.")
    def no_output_projection(n_vocab, context, C, n_layers):
        return n_vocab * C + context * C + n_layers * (11 * C * C + 12 * C) + 2 * C

    @mistake("You gave the feed-forward layer a hidden width of C. It is 4C wide: 8C² in its two matrices.")
    def narrow_feed_forward(n_vocab, context, C, n_layers):
        return n_vocab * C + context * C + n_layers * (6 * C * C + 10 * C) + 2 * C
