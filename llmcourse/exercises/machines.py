"""Exercises of chapter 18c: memory, gradients from several machines, messages, rounding, the cache, and drafts."""

import random

import torch

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = "18c"


class MemoryOfATraining(Exercise):
    """What each device holds while it trains in mixed precision."""

    prompt = (
        "Write `held(N, data, activations)`: the bytes that each device holds in a mixed-precision training with Adam, when "
        "`data` copies of the model share the optimiser's state and nothing else (ZeRO's stage 1). Of each of the N parameters "
        "there is a weight and a gradient in 16 bits; the optimiser keeps a weight and two moments in 32 bits. `activations` "
        "are the bytes that one device keeps for its own backward pass."
    )
    difficulty, minutes = 1, 8
    hints = (
        "16 bits are 2 bytes, 32 bits are 4. Every device has 2 N bytes of weights and 2 N of gradients.",
        "The optimiser has three numbers of 4 bytes for each parameter: 12 N, divided among the copies.",
    )
    praise = "correct: 4 N + 12 N / data, and activations that no copy can take from another."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        return [(generator.randrange(10**6, 10**9), data, generator.randrange(10**6, 10**8) * 1.0) for data in (1, 4)]

    @solution
    def held(N, data, activations):
        return 2 * N + 2 * N + 12 * N / data + activations

    @mistake("You forget Adam's two moments. They are two numbers of 32 bits for each parameter, 8 N bytes in all.")
    def no_moments(N, data, activations):
        return 4 * N + 4 * N / data + activations

    @mistake(
        "The optimiser has three numbers of 32 bits for each parameter, 12 N bytes: a weight that small steps do not vanish in, "
        "and two moments. You count two."
    )
    def two_numbers_of_three(N, data, activations):
        return 4 * N + 8 * N / data + activations

    @mistake(
        "You divide the activations too. Each copy reads other rows, and keeps all that its own rows need. `activations` is "
        "already one device's."
    )
    def shares_activations(N, data, activations):
        return 4 * N + (12 * N + activations) / data

    @mistake("You divide everything among the copies. In stage 1 every device still has all weights and all gradients.")
    def shares_all(N, data, activations):
        return 16 * N / data + activations

    @mistake("You divide nothing. The copies share the optimiser's state: each keeps 12 N / data bytes of it.")
    def shares_nothing(N, data, activations):
        return 16 * N + activations

    @mistake("You count all in 32 bits. Weights and gradients that the device computes with have 16: 2 bytes each.")
    def all_in_32_bits(N, data, activations):
        return 8 * N + 12 * N / data + activations


class WeightTheParts(Exercise):
    """The gradient of a batch whose rows lie on several machines."""

    prompt = (
        "Write `whole(gradients, counts)`: machine i has the gradient of its *mean* loss over its `counts[i]` targets, as a "
        "tensor `gradients[i]`. Return the gradient of the mean loss over all targets together. A machine without a target "
        "reports NaN for its gradient, for a mean over nothing is no number; it must not spoil the others."
    )
    difficulty, minutes = 2, 10
    hints = (
        "A mean is a sum divided by a count. `gradient * count` takes the division back.",
        "Add up the sums, then divide by the sum of the counts. 0 times NaN is NaN: leave empty machines out first.",
    )
    praise = "correct. With equal counts it is the mean of means; padding makes them unequal."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)

        def parts(*counts):
            rows = [torch.randn(4, generator=generator) for _ in counts]
            rows = [row * float("nan") if count == 0 else row for row, count in zip(rows, counts, strict=True)]
            return rows, list(counts)

        return [parts(3, 1), parts(4, 0, 1)]

    @solution
    def whole(gradients, counts):
        parts = [gradient * count for gradient, count in zip(gradients, counts, strict=True) if count]
        return sum(parts) / sum(counts)

    @mistake(
        "You take the mean of the means. A machine whose rows are mostly padding then weighs as much as a full one: weight "
        "each part by its targets."
    )
    def mean_of_means(gradients, counts):
        parts = [gradient for gradient, count in zip(gradients, counts, strict=True) if count]
        return sum(parts) / len(parts)

    @mistake("You add the parts up and do not divide. Twice as many machines would then take steps twice as long.")
    def sum_of_means(gradients, counts):
        return sum(gradient for gradient, count in zip(gradients, counts, strict=True) if count)

    @mistake("Your sum is weighted, and not divided by all targets: `/ sum(counts)`.")
    def weighted_sum(gradients, counts):
        return sum(gradient * count for gradient, count in zip(gradients, counts, strict=True) if count)

    @mistake("0 · NaN is NaN. A machine without targets has to be left out, not multiplied by 0.")
    def lets_nan_in(gradients, counts):
        return sum(gradient * count for gradient, count in zip(gradients, counts, strict=True)) / sum(counts)

    @mistake("You divide by the counts. A mean over many targets stands for more of them, and must weigh more.")
    def weighs_the_wrong_way(gradients, counts):
        used = [(gradient, 1 / count) for gradient, count in zip(gradients, counts, strict=True) if count]
        return sum(gradient * weight for gradient, weight in used) / sum(weight for _, weight in used)


class BytesOfAnAllReduce(Exercise):
    """What each machine of a ring sends so that all have the sum."""

    prompt = (
        "Write `sent(n_numbers, n_machines, bytes_each)`: how many bytes each machine sends in a ring all-reduce. The row of "
        "numbers is cut into as many pieces as there are machines. In the first half every machine sends one piece a round "
        "to its neighbour, until each piece has been added up somewhere; in the second half the sums travel on in the same "
        "way, until all have all."
    )
    difficulty, minutes = 1, 6
    hints = (
        "A piece has n_numbers / n_machines numbers. How many rounds does it take to visit all other machines?",
        "n_machines - 1 rounds for adding up, and as many again for handing out.",
    )
    praise = "correct: 2 (d - 1) / d times the row, less than twice the row however many machines there are."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        return [(generator.randrange(1000, 9000) * 64, machines, width) for machines, width in ((2, 4), (8, 2))]

    @solution
    def sent(n_numbers, n_machines, bytes_each):
        return 2 * (n_machines - 1) / n_machines * n_numbers * bytes_each

    @mistake(
        "You count one half. Adding up leaves each sum on one machine; handing the sums out takes as many rounds again."
    )
    def one_half(n_numbers, n_machines, bytes_each):
        return (n_machines - 1) / n_machines * n_numbers * bytes_each

    @mistake(
        "Every machine sends its whole row to each of the others. That also works, and grows with the number of machines; "
        "the ring sends pieces."
    )
    def all_to_all(n_numbers, n_machines, bytes_each):
        return (n_machines - 1) * n_numbers * bytes_each

    @mistake("You count as many rounds as machines. A piece is at home once already: n_machines - 1 rounds a half.")
    def a_round_too_many(n_numbers, n_machines, bytes_each):
        return 2 * n_numbers * bytes_each

    @mistake("That is what all machines send together. Asked for is one of them.")
    def of_all_machines(n_numbers, n_machines, bytes_each):
        return 2 * (n_machines - 1) * n_numbers * bytes_each

    @mistake("That counts numbers. Each has `bytes_each` bytes.")
    def numbers_for_bytes(n_numbers, n_machines, bytes_each):
        return 2 * (n_machines - 1) / n_machines * n_numbers


class QuantisePerChannel(Exercise):
    """Eight bits for a weight, and one scale for each output channel."""

    prompt = (
        "Write `quantise(weight)` for a matrix of shape (out, in) without a row of zeros: a pair of whole numbers of type "
        "int8, of the same shape, and a scale for each output channel, of shape (out, 1). The scale is the row's largest size "
        "divided by 127, and a number is the weight divided by its scale, rounded to the nearest."
    )
    difficulty, minutes = 2, 12
    hints = (
        "The largest size of each row: `weight.abs().amax(dim=1, keepdim=True)`.",
        "`(weight / scale).round().to(torch.int8)`: without `.round()` the conversion cuts off towards 0.",
    )
    praise = "correct. A large weight spoils only its own row."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        rows = [torch.randn(n, n, generator=generator) for n in (3, 4)]
        rows[0][0, 1], rows[1][2, 0] = 20.0, -30.0
        return [(rows[0],), (rows[1],)]

    @classmethod
    def observe(cls, answer, probe):
        result = answer(*probe)
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], float | torch.Tensor):
            numbers, scale = result[0], torch.as_tensor(result[1])
            if scale.numel() == 1:  # one for the whole matrix, in whatever form: so said
                return numbers, scale.reshape(1, 1).expand(len(probe[0]), 1)
        return result

    @solution
    def quantise(weight):
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        return (weight / scale).round().to(torch.int8), scale

    @mistake(
        "You use one scale for the whole matrix. One large weight then makes the steps coarse everywhere: a row of small "
        "weights becomes a row of zeros."
    )
    def per_tensor(weight):
        scale = (weight.abs().amax() / 127).expand(len(weight), 1)
        return (weight / scale).round().to(torch.int8), scale

    @mistake(
        "Your scales belong to the columns, the inputs. A scale of a row can be taken out of the sum over the inputs and "
        "multiplied once; one of a column cannot."
    )
    def per_input(weight):
        scale = weight.abs().amax(dim=0, keepdim=True) / 127
        return (weight / scale).round().to(torch.int8), scale.T

    @mistake(
        "You take the largest weight, not the largest size. A row whose weight of the largest size is negative then "
        "runs over, and int8 turns what runs over into something else."
    )
    def largest_without_size(weight):
        scale = weight.amax(dim=1, keepdim=True) / 127
        return (weight / scale).round().to(torch.int8), scale

    @mistake(
        "You cut off towards 0 instead of rounding to the nearest. The errors are up to twice as large, and all shrink."
    )
    def cuts_off(weight):
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        return (weight / scale).to(torch.int8), scale

    @mistake(
        "You round down. Every weight is then too small, by half a step on average, and the errors add up in a sum."
    )
    def rounds_down(weight):
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        return (weight / scale).floor().to(torch.int8), scale

    @mistake("You divide by 128. A largest weight that is positive then becomes 128, and int8 ends at 127.")
    def one_step_too_many(weight):
        scale = weight.abs().amax(dim=1, keepdim=True) / 128
        return (weight / scale).round().to(torch.int8), scale

    @mistake(
        "You divide by 128 and cut off what runs over. The largest weight, if it is positive, then comes back smaller than it "
        "was; with 127 nothing runs over."
    )
    def one_step_cut_off(weight):
        scale = weight.abs().amax(dim=1, keepdim=True) / 128
        return (weight / scale).round().clamp(-128, 127).to(torch.int8), scale


class BytesOfACache(Exercise):
    """What a cache of keys and values takes."""

    prompt = (
        "Write `cache(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each)`: the bytes of the cache of keys and values "
        "after so many tokens, all texts together. Queries have `n_heads` heads, and share d_model evenly; keys and values "
        "have `n_kv_heads` heads of the same width."
    )
    difficulty, minutes = 1, 6
    hints = (
        "The width of a head is d_model // n_heads.",
        "In each layer and for each token: n_kv_heads keys and as many values, each of a head's width.",
    )
    praise = (
        "correct: 2 L K D numbers a token. A smaller K shrinks the cache in proportion, and the model only a little."
    )

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        return [
            (generator.randrange(2, 9), 64 * heads, heads, shared, generator.randrange(100, 900), width)
            for heads, shared, width in ((16, 4, 2), (8, 1, 4))
        ]

    @solution
    def cache(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
        return 2 * n_layers * n_kv_heads * (d_model // n_heads) * tokens * bytes_each

    @mistake("You count the keys and forget the values. Attention compares with the one, and blends the other.")
    def no_values(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
        return n_layers * n_kv_heads * (d_model // n_heads) * tokens * bytes_each

    @mistake(
        "You count keys and values of the whole width, a head for every head of queries. Shared heads are stored once: n_kv_heads of them."
    )
    def one_for_each_query_head(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
        return 2 * n_layers * d_model * tokens * bytes_each

    @mistake("You forget the layers. Each has keys and values of its own.")
    def one_layer(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
        return 2 * n_kv_heads * (d_model // n_heads) * tokens * bytes_each

    @mistake("You store the queries too. A query is asked once, by its own token, and never again.")
    def queries_too(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
        return (2 * n_kv_heads + n_heads) * n_layers * (d_model // n_heads) * tokens * bytes_each

    @mistake(
        "You take the square of the tokens. Attention's weights would be as many, and they are never stored: the cache "
        "grows by the same amount with each token."
    )
    def square(n_layers, d_model, n_heads, n_kv_heads, tokens, bytes_each):
        return 2 * n_layers * n_kv_heads * (d_model // n_heads) * tokens**2 * bytes_each


class AcceptOrReplace(Exercise):
    """What is said when the draft's guess is judged."""

    prompt = (
        "Write `said(p, q)`: p is the target's distribution of the next token, q the draft's, of which no entry is 0. The "
        "draft draws a token from q. It is kept with probability min(1, p/q); otherwise a token is drawn from what is left, "
        "max(0, p - q) made to sum to 1. Return a pair of tensors: for each token the probability that it is drawn *and* kept, "
        "and the distribution that a replacement is drawn from. p and q are not the same."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Drawn *and* kept: which two probabilities multiply?",
        "Drawn and kept: `q * (p / q).clamp(max=1)`. What is a shorter way to write it?",
        "What is left: `(p - q).clamp(min=0)`, divided by its sum.",
    )
    praise = "correct. The first plus (1 - its sum) times the second is p, whatever other q there is."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        pairs = [(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.25, 0.7, 0.05]))]
        pairs += [tuple((2 * torch.randn(2, n, generator=generator)).softmax(-1)) for n in (4,)]
        return pairs

    @solution
    def said(p, q):
        left = (p - q).clamp(min=0)
        return q * (p / q).clamp(max=1), left / left.sum()

    @mistake(
        "You keep a draft only where p is at least q. Where it is less, the target still wants the token sometimes: keep it "
        "with probability p/q."
    )
    def all_or_nothing(p, q):
        left = (p - q).clamp(min=0)
        return q * (p >= q), left / left.sum()

    @mistake(
        "You draw the replacement from p. Tokens of which the draft has already said enough are then said once more, and too "
        "often."
    )
    def replaces_from_p(p, q):
        return q * (p / q).clamp(max=1), p

    @mistake("What is left does not sum to 1 yet: divide by its sum.")
    def not_made_to_sum_to_one(p, q):
        return q * (p / q).clamp(max=1), (p - q).clamp(min=0)

    @mistake("The fraction is upside down: you keep most willingly what the target does not want. It is p/q.")
    def upside_down(p, q):
        left = (p - q).clamp(min=0)
        return q * (q / p).clamp(max=1), left / left.sum()

    @mistake(
        "You return the probability that a drawn token is kept. That it is drawn in the first place has probability q."
    )
    def kept_without_drawn(p, q):
        left = (p - q).clamp(min=0)
        return (p / q).clamp(max=1), left / left.sum()

    @mistake("You take the size of the difference. Where q is above p nothing is owed: `clamp(min=0)`.")
    def size_of_the_difference(p, q):
        return q * (p / q).clamp(max=1), (p - q).abs() / (p - q).abs().sum()

    @mistake("Your replacement is what the draft has too much of: q - p. Owed is what it has too little of, p - q.")
    def the_other_way_round(p, q):
        left = (q - p).clamp(min=0)
        return q * (p / q).clamp(max=1), left / left.sum()


class WhatADraftGains(Exercise):
    """The expected speed-up of speculative decoding."""

    prompt = (
        "Write `speed_up(acceptance, n_drafts, cost)`: each of `n_drafts` drafts in a pass is kept with probability "
        "`acceptance`, below 1, if all before it were. The pass also gives one token of the target's own. A draft takes "
        "`cost` of the time of a pass of the target; the pass that judges takes 1. Return how many times more tokens there "
        "are in a unit of time than from the target alone."
    )
    difficulty, minutes = 2, 10
    hints = (
        "The first draft is kept with probability a, the second with a², and so on; the target's own token always comes.",
        "Tokens a pass: 1 + a + a² + ... + aⁿ = (1 - aⁿ⁺¹) / (1 - a). Time a pass: 1 + n · cost.",
    )
    praise = "correct. More drafts help until the last one, seldom reached, no longer pays for its time."

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        return [(generator.uniform(0.3, 0.9), n, cost) for n, cost in ((1, 0.1), (4, 0.05))]

    @solution
    def speed_up(acceptance, n_drafts, cost):
        tokens = (1 - acceptance ** (n_drafts + 1)) / (1 - acceptance)
        return tokens / (1 + n_drafts * cost)

    @mistake("You forget the target's own token. Even a pass that refuses its first draft says one.")
    def no_token_of_its_own(acceptance, n_drafts, cost):
        return (acceptance - acceptance ** (n_drafts + 1)) / (1 - acceptance) / (1 + n_drafts * cost)

    @mistake(
        "You count acceptance · n_drafts tokens. The first refusal ends the pass: the k-th draft is reached only if all "
        "before it were kept."
    )
    def every_draft_has_its_chance(acceptance, n_drafts, cost):
        return (1 + acceptance * n_drafts) / (1 + n_drafts * cost)

    @mistake("You leave the drafts' time out: that is tokens a pass. A pass takes 1 + n · cost.")
    def free_drafts(acceptance, n_drafts, cost):
        return (1 - acceptance ** (n_drafts + 1)) / (1 - acceptance)

    @mistake("You count one draft's time a pass. There are n_drafts of them, one after the other.")
    def one_drafts_time(acceptance, n_drafts, cost):
        return (1 - acceptance ** (n_drafts + 1)) / (1 - acceptance) / (1 + cost)

    @mistake("You leave out the last power. n drafts and one token of the target's own make n + 1 terms.")
    def a_term_too_few(acceptance, n_drafts, cost):
        return (1 - acceptance**n_drafts) / (1 - acceptance) / (1 + n_drafts * cost)
