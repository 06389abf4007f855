"""Exercises of chapter 14: epsilons, kernels, masks, two GELUs, logits, one step of Adam, and the first layer that differs.

None of them needs TensorFlow: what Keras stores and computes is written here in torch's tensors.
"""

import math
from numbers import Real

import torch
from torch.nn import functional as F

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 14


class PredictTheNorm(Exercise):
    """Predict, then run: what does another epsilon do to a small state?"""

    prompt = (
        "Predict before you run the next cell. A state has the numbers 0.01, −0.01, 0.01, −0.01. LayerNorm takes the mean "
        "away and divides by √(variance + ε). With torch's ε of 0.00001, about what does the 0.01 become? And with Keras's "
        "0.001? Give the first result divided by the second, a number with one decimal."
    )
    difficulty, minutes, tolerance = 1, 4, 0.0125
    hints = (
        "The mean is 0. The variance is the mean of the squares: 0.0001.",
        "0.01 / √0.00011 for torch, 0.01 / √0.0011 for Keras. Both are divided by a root; what is the ratio of the roots?",
    )
    praise = "correct: √10, about 3.2. Ten times the number under the root. Run the next cell."

    @solution
    def ratio():
        return math.sqrt((0.0001 + 0.001) / (0.0001 + 0.00001))

    @mistake("That is the ratio of the numbers under the roots. LayerNorm divides by the root.")
    def no_root():
        return (0.0001 + 0.001) / (0.0001 + 0.00001)

    @mistake(
        "That is the ratio of the two epsilons. The variance, 0.0001, stands beside them under the root, and is not small "
        "against both."
    )
    def epsilons_alone():
        return 0.001 / 0.00001

    @mistake("You added ε to the standard deviation. It stands under the root, beside the variance.")
    def outside_the_root():
        return (0.01 + 0.001) / (0.01 + 0.00001)

    @mistake("An epsilon of 0.001 is not nothing here: it is ten times the variance of this state.")
    def no_difference():
        return 1.0

    @mistake(
        "You divided the second by the first. With Keras's larger ε the result is smaller, so the ratio is above 1."
    )
    def upside_down():
        return math.sqrt((0.0001 + 0.00001) / (0.0001 + 0.001))


class MoveWeights(Exercise):
    """From torch's weights to what Keras's layers store."""

    prompt = (
        "Write `to_keras(weights, kinds)`. `weights` is a dictionary of torch tensors, such as `query.weight`; `kinds` says "
        "for each layer what it is: `{'query': 'Dense', 'tokens': 'Embedding', 'norm': 'LayerNormalization', 'head': "
        "'tied'}`. Return a dictionary of torch tensors with Keras's names behind the layer's, such as `query.kernel`. A Dense "
        "layer has `kernel` (in, out) and `bias`; torch's weight is (out, in). An Embedding has `embeddings`, a row for each "
        "token on both sides. A LayerNormalization has `gamma`, by which it multiplies, and `beta`, which it adds. A tied "
        "head has nothing of its own and is left out."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Split each name: `layer, part = name.rsplit('.', 1)`.",
        "One small dictionary says it all: `{'Dense': {'weight': 'kernel', 'bias': 'bias'}, 'Embedding': ...}`.",
        "Only a Dense layer's weight is turned: `tensor.T`. Skip a layer whose kind is `'tied'`.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        sizes = {
            "query.weight": (4, 4), "query.bias": (4,), "expand.weight": (6, 4), "expand.bias": (6,),
            "tokens.weight": (5, 4), "norm.weight": (4,), "norm.bias": (4,), "head.weight": (5, 4),
        }  # fmt: skip
        weights = {name: torch.randn(shape, generator=generator) for name, shape in sizes.items()}
        kinds = {"query": "Dense", "expand": "Dense", "tokens": "Embedding", "norm": "LayerNormalization"}
        square = {"tokens.weight": torch.randn(4, 4, generator=generator), "head.weight": weights["query.weight"]}
        return [(weights, kinds | {"head": "tied"}), (square, {"tokens": "Embedding", "head": "Dense"})]

    @classmethod
    def observe(cls, answer, probe):
        moved = answer(*probe)
        return {name: moved[name] for name in sorted(moved)} if isinstance(moved, dict) else moved

    @solution
    def to_keras(weights, kinds):
        names = {
            "Dense": {"weight": "kernel", "bias": "bias"},
            "Embedding": {"weight": "embeddings"},
            "LayerNormalization": {"weight": "gamma", "bias": "beta"},
        }
        moved = {}
        for name, tensor in weights.items():
            layer, part = name.rsplit(".", 1)
            if kinds[layer] != "tied":
                theirs = names[kinds[layer]][part]
                moved[f"{layer}.{theirs}"] = tensor.T if theirs == "kernel" else tensor
        return moved

    @mistake(
        "You copied the kernels as they are. Torch computes x Wᵀ and Keras x W: turn every Dense weight. A square one fits "
        "either way, and is wrong this way."
    )
    def not_turned(weights, kinds):
        moved = MoveWeights.solution(weights, kinds)
        return {n: weights[n.replace("kernel", "weight")] if n.endswith("kernel") else t for n, t in moved.items()}

    @mistake(
        "You turned only the kernels that did not fit. A square kernel has to be turned too; its shape just does not say so."
    )
    def turned_where_it_must(weights, kinds):
        moved = MoveWeights.solution(weights, kinds)
        square = lambda t: t.dim() == 2 and t.shape[0] == t.shape[1]  # noqa: E731
        return {n: t.T if n.endswith("kernel") and square(t) else t for n, t in moved.items()}

    @mistake(
        "You used `reshape` where the matrix has to be turned. It keeps the numbers in their order and draws the lines "
        "elsewhere; `.T` moves them."
    )
    def reshaped(weights, kinds):
        moved = MoveWeights.solution(weights, kinds)
        return {
            n: weights[n.replace("kernel", "weight")].reshape(t.shape) if n.endswith("kernel") else t
            for n, t in moved.items()
        }

    @mistake("You turned the embedding. It is a table with a row for each token on both sides, and is not multiplied.")
    def embedding_turned(weights, kinds):
        moved = MoveWeights.solution(weights, kinds)
        return {n: t.T if n.endswith("embeddings") else t for n, t in moved.items()}

    @mistake("You swapped the norm's two vectors. `gamma` multiplies and is torch's weight; `beta` is added: the bias.")
    def gamma_and_beta_swapped(weights, kinds):
        swapped = {"norm.gamma": "norm.beta", "norm.beta": "norm.gamma"}
        return {swapped.get(n, n): t for n, t in MoveWeights.solution(weights, kinds).items()}

    @mistake(
        "You gave the tied head a kernel of its own. It *is* the embedding; a second copy would drift away from it at the "
        "first step of training."
    )
    def tied_head_copied(weights, kinds):
        untied = {layer: "Dense" if kind == "tied" else kind for layer, kind in kinds.items()}
        return MoveWeights.solution(weights, untied)


class WhereOneMayLook(Exercise):
    """Four conventions of a mask, and one of them ours."""

    prompt = (
        "Write `may_look(mask, kind)`: the mask as True where one may look, whatever convention it came in. `kind` is "
        "`'keras'` (boolean, True: look), `'tokenizer'` (whole numbers, 1: a word, 0: padding), `'torch layer'` (boolean, "
        "as `nn.MultiheadAttention` takes it: True means *ignore*) or `'added'` (floats that are added to the scores: 0 "
        "where one may look, a very negative number or −∞ where not)."
    )
    difficulty, minutes = 2, 8
    hints = (
        "For each kind ask: which value means *look*?",
        "Turn a boolean mask round with `~`. A comparison such as `mask == 1` gives a boolean tensor.",
        "For `'added'` look is 0, and everything far below it is not: `mask > -1`.",
    )

    @classmethod
    def probes(cls, seed):
        look = torch.rand(2, 1, 5, generator=torch.Generator().manual_seed(seed)) < 0.6
        look[0, 0, :2] = torch.tensor([True, False])
        causal = torch.ones(4, 4, dtype=torch.bool).tril()
        added = torch.zeros(causal.shape).masked_fill(~causal, -10_000.0)
        added[0, 3] = -math.inf
        return [(look, "keras"), (look.long(), "tokenizer"), (~look, "torch layer"), (added, "added")]

    @solution
    def may_look(mask, kind):
        if kind == "torch layer":
            return ~mask
        if kind == "added":
            return mask > -1
        return mask == 1

    @mistake(
        "You took the mask of `nn.MultiheadAttention` as it is. True means *ignore* there: the model would look at padding, "
        "and at nothing else."
    )
    def torch_layer_as_it_is(mask, kind):
        return mask if kind == "torch layer" else WhereOneMayLook.solution(mask, kind)

    @mistake("You turned Keras's mask round. True means *look* in Keras's attention layers, as in this course.")
    def keras_turned(mask, kind):
        return ~mask if kind == "keras" else WhereOneMayLook.solution(mask, kind)

    @mistake("In the tokenizer's mask 1 is a word and 0 is padding; you look at the zeros.")
    def looks_at_padding(mask, kind):
        return mask == 0 if kind == "tokenizer" else WhereOneMayLook.solution(mask, kind)

    @mistake(
        "You took the added mask for a boolean one: every number that is not 0 became True. But those are the hidden places."
    )
    def added_as_boolean(mask, kind):
        return mask.bool() if kind == "added" else WhereOneMayLook.solution(mask, kind)

    @mistake(
        "You look for −∞ alone. Many libraries add a large negative number instead, for −∞ can turn into NaN: these places "
        "are hidden too."
    )
    def infinity_alone(mask, kind):
        return mask != -math.inf if kind == "added" else WhereOneMayLook.solution(mask, kind)

    @mistake(
        "You look for −10,000 alone. Others add −∞, or another large number. Ask what is far below 0, or what is not 0."
    )
    def one_number_alone(mask, kind):
        return mask != -10_000 if kind == "added" else WhereOneMayLook.solution(mask, kind)

    @mistake(
        "Your result is of numbers where a boolean mask is wanted. `torch.where` and `~` treat the two differently."
    )
    def numbers_for_truth(mask, kind):
        return WhereOneMayLook.solution(mask, kind).long()

    @mistake("Your result is True where one may *not* look, for every convention. True must mean *look*.")
    def all_turned(mask, kind):
        return ~WhereOneMayLook.solution(mask, kind)


class TwoGelus(Exercise):
    """One name, two functions, two defaults."""

    prompt = (
        "Write `gelus(x)`: a pair of tensors of the dtype of `x`, first the exact GELU, x · Φ(x), where Φ(x) = ½ (1 + erf(x / "
        "√2)) is the share of a normal distribution below x; then the approximation ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))). "
        "`F.gelu` is not needed."
    )
    difficulty, minutes, tolerance = 1, 8, 1e-6
    hints = (
        "`torch.erf` and `torch.tanh` do the hard part.",
        "√(2/π) is `math.sqrt(2 / math.pi)`, about 0.798.",
        "`0.5 * x * (1 + torch.erf(x / math.sqrt(2)))` is the first.",
    )

    @classmethod
    def probes(cls, seed):
        return [(torch.linspace(-3, 3 + seed, 9),), (torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)),)]

    @classmethod
    def observe(cls, answer, probe):
        pair = answer(*probe)
        return tuple(pair) if isinstance(pair, list) and len(pair) == 2 else pair

    @solution
    def gelus(x):
        exact = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        by_tanh = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return exact, by_tanh

    @mistake("You swapped the two: the exact one, with Φ, comes first.")
    def swapped(x):
        return TwoGelus.solution(x)[::-1]

    @mistake(
        "You returned the exact one twice. The approximation differs from it in the fourth decimal, and that shows."
    )
    def exact_twice(x):
        return TwoGelus.solution(x)[0], TwoGelus.solution(x)[0]

    @mistake("You returned the approximation twice. Φ needs `erf`; tanh only comes close.")
    def tanh_twice(x):
        return TwoGelus.solution(x)[1], TwoGelus.solution(x)[1]

    @mistake("You took √2 / π where √(2/π) is wanted: π stands under the root too.")
    def root_of_two_only(x):
        by_tanh = 0.5 * x * (1 + torch.tanh(math.sqrt(2) / math.pi * (x + 0.044715 * x**3)))
        return TwoGelus.solution(x)[0], by_tanh

    @mistake("You used x² where the approximation has x³.")
    def squared(x):
        by_tanh = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**2)))
        return TwoGelus.solution(x)[0], by_tanh

    @mistake("Your Φ lacks the √2: `erf` belongs to a bell curve that is narrower by this factor.")
    def erf_of_x(x):
        return 0.5 * x * (1 + torch.erf(x)), TwoGelus.solution(x)[1]

    @mistake("Your second is x · sigmoid(1.702 x), a third function that is sold under the same name (*quick GELU*).")
    def quick(x):
        return TwoGelus.solution(x)[0], x * torch.sigmoid(1.702 * x)


class MeanSurprise(Exercise):
    """The loss that Keras computes when it is told what it is given."""

    prompt = (
        "Keras's `sparse_categorical_crossentropy` takes *probabilities* unless it is told `from_logits=True`, and counts "
        "every target unless it is told `ignore_class`. Write `mean_surprise(logits, targets)` in torch, without "
        "`F.cross_entropy`: the mean, over the targets that are not −100, of −log of the probability of the target, in nats, "
        "as a plain number or as a tensor of the dtype of `logits`. `logits` is (B, T, V), `targets` (B, T). When no target "
        "counts, return 0."
    )
    difficulty, minutes = 2, 12
    hints = (
        "First `logits.log_softmax(dim=-1)`, then the entry of each target.",
        "−100 is no index. Put 0 in its place (`targets.clamp(min=0)`), and multiply its loss by 0.",
        "`each = -logs.gather(-1, safe[..., None])[..., 0]`; divide the sum by how many count, or by 1 when none does.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        logits = 3 * torch.randn(2, 4, 5, generator=generator)
        targets = torch.randint(5, (2, 4), generator=generator)
        some = targets.masked_fill(torch.tensor([[True, False, False, True], [False, True, True, True]]), -100)
        some[0, 1] = 0
        return [(logits, some), (logits, torch.full_like(targets, -100))]

    @classmethod
    def observe(cls, answer, probe):
        value = answer(*probe)
        return torch.tensor(float(value)) if isinstance(value, Real) else value

    @solution
    def mean_surprise(logits, targets):
        counts = targets != -100
        logs = logits.log_softmax(dim=-1)
        each = -logs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return (each * counts).sum() / counts.sum().clamp(min=1)

    @mistake(
        "You treat the logits as probabilities: that is `from_logits=False`, which is Keras's default. It cuts each "
        "into (0, 1), divides by their sum, and raises no error."
    )
    def from_logits_forgotten(logits, targets):
        shares = logits.clamp(1e-7, 1 - 1e-7)
        shares = shares / shares.sum(dim=-1, keepdim=True)
        counts = targets != -100
        each = -shares.log().gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return (each * counts).sum() / counts.sum().clamp(min=1)

    @mistake(
        "You applied softmax twice: the result is nearly even, and the loss within a nat or so of log V whatever the model "
        "says. It happens when a model ends in a softmax and the loss makes its own: torch's always does, Keras's when told "
        "`from_logits=True` about a softmax that it does not see."
    )
    def softmax_twice(logits, targets):
        return MeanSurprise.solution(logits.softmax(dim=-1), targets)

    @mistake(
        "You count −100 as token 0: the clamped index points there, and its loss has to be multiplied by 0 before the sum."
    )
    def ignored_as_token_0(logits, targets):
        counts = (targets != -100).sum().clamp(min=1)
        return MeanSurprise.solution(logits, targets.clamp(min=0)) * targets.numel() / counts

    @mistake("You leave out the targets that are token 0. Only −100 does not count; 0 is a token like others.")
    def drops_token_0(logits, targets):
        return MeanSurprise.solution(logits, targets.masked_fill(targets == 0, -100))

    @mistake(
        "You divide by all places, hidden or not. The loss then depends on how much padding a batch has; divide by the "
        "targets that count."
    )
    def mean_over_all(logits, targets):
        return MeanSurprise.solution(logits, targets) * (targets != -100).sum() / targets.numel()

    @mistake("You return the sum. A batch with more hidden words would then take longer steps; divide by their number.")
    def summed(logits, targets):
        return MeanSurprise.solution(logits, targets) * (targets != -100).sum()

    @mistake(
        "You average each row first and then the rows. A row with one hidden word then weighs as much as a row with ten; "
        "add up over the whole batch."
    )
    def mean_of_rows(logits, targets):
        return torch.stack([MeanSurprise.solution(*row) for row in zip(logits, targets, strict=True)]).mean()

    @mistake("A batch in which no target counts gives 0 / 0, which is NaN. Divide by at least 1.")
    def nan_for_nothing(logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)

    @mistake("You used the logarithm to base 2: that is bits. Keras and torch count in nats.")
    def in_bits(logits, targets):
        return MeanSurprise.solution(logits, targets) / math.log(2)


class StepOfAdamW(Exercise):
    """Where epsilon stands."""

    prompt = (
        "Write `adamw_step(weight, gradient, m, v, t, rate, decay)`: one step of AdamW as torch makes it, with β₁ = 0.9, "
        "β₂ = 0.98 and ε = 1e-8. `m` and `v` are the running means of the gradient and of its square before the step; `t` "
        "counts steps from 1. First shrink the weight by `rate * decay`, then move it by rate · m̂ / (√v̂ + ε). Return "
        "the new `(weight, m, v)`."
    )
    difficulty, minutes, tolerance = 2, 12, 1e-5
    seconds = 15.0  # torch's own AdamW is a right answer, and its first step imports for seconds
    hints = (
        "m becomes 0.9 m + 0.1 · gradient, and v becomes 0.98 v + 0.02 · gradient².",
        "m̂ = m / (1 − 0.9ᵗ) and v̂ = v / (1 − 0.98ᵗ), with the new m and v.",
        "The decay is no part of the gradient: `weight * (1 - rate * decay)`.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(6, generator=generator)
        gradient = torch.tensor([1.0, -0.5, 1e-3, 2e-8, -1e-8, 0.0])
        zero = torch.zeros(6)
        m, v = 0.1 * gradient.flip(0), 0.01 * gradient.square().flip(0)
        return [(weight, gradient, zero, zero, 1, 0.1, 0.0), (weight, gradient, m, v, 7, 0.05, 0.5)]

    @solution
    def adamw_step(weight, gradient, m, v, t, rate, decay):
        m = 0.9 * m + 0.1 * gradient
        v = 0.98 * v + 0.02 * gradient**2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.98**t)
        weight = weight * (1 - rate * decay)
        return weight - rate * m_hat / (v_hat.sqrt() + 1e-8), m, v

    @mistake(
        "That is Keras's form: it corrects the rate and adds ε to √v as it is, not to √v̂. Where a gradient is as small as ε, "
        "the two go different ways."
    )
    def epsilon_hat(weight, gradient, m, v, t, rate, decay):
        _, m, v = StepOfAdamW.solution(weight, gradient, m, v, t, rate, decay)
        corrected = rate * math.sqrt(1 - 0.98**t) / (1 - 0.9**t)
        return weight * (1 - rate * decay) - corrected * m / (v.sqrt() + 1e-8), m, v

    @mistake("Your ε is 1e-7, which is Keras's usual value. Torch's is 1e-8.")
    def keras_epsilon(weight, gradient, m, v, t, rate, decay):
        _, m, v = StepOfAdamW.solution(weight, gradient, m, v, t, rate, decay)
        move = m / (1 - 0.9**t) / ((v / (1 - 0.98**t)).sqrt() + 1e-7)
        return weight * (1 - rate * decay) - rate * move, m, v

    @mistake("Your ε stands under the root, as in LayerNorm. Adam adds it to the root.")
    def under_the_root(weight, gradient, m, v, t, rate, decay):
        _, m, v = StepOfAdamW.solution(weight, gradient, m, v, t, rate, decay)
        move = m / (1 - 0.9**t) / (v / (1 - 0.98**t) + 1e-8).sqrt()
        return weight * (1 - rate * decay) - rate * move, m, v

    @mistake(
        "You left out the correction. The running means start at 0, and are far too small at first: m by a factor of ten, √v "
        "by seven."
    )
    def not_corrected(weight, gradient, m, v, t, rate, decay):
        _, m, v = StepOfAdamW.solution(weight, gradient, m, v, t, rate, decay)
        return weight * (1 - rate * decay) - rate * m / (v.sqrt() + 1e-8), m, v

    @mistake(
        "You added the decay to the gradient: that is L2 regularisation, which Adam then divides by √v̂ like everything "
        "else. The W of AdamW is for weight decay that stands outside of the gradient."
    )
    def decay_in_the_gradient(weight, gradient, m, v, t, rate, decay):
        return StepOfAdamW.solution(weight, gradient + decay * weight, m, v, t, rate, 0.0)

    @mistake(
        "You shrink the weight by `decay` and not by `rate * decay`: with a falling rate the decay has to fall too."
    )
    def decay_without_rate(weight, gradient, m, v, t, rate, decay):
        return StepOfAdamW.solution(weight * (1 - decay), gradient, m, v, t, rate, 0.0)

    @mistake("You forgot the root: Adam divides by √v̂, so that the unit of the gradient cancels.")
    def no_root(weight, gradient, m, v, t, rate, decay):
        _, m, v = StepOfAdamW.solution(weight, gradient, m, v, t, rate, decay)
        move = m / (1 - 0.9**t) / (v / (1 - 0.98**t) + 1e-8)
        return weight * (1 - rate * decay) - rate * move, m, v

    @mistake("You used β₂ = 0.999, the usual value of both libraries. This course trains with 0.98.")
    def usual_beta(weight, gradient, m, v, t, rate, decay):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        move = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        return weight * (1 - rate * decay) - rate * move, m, v


class FirstDifference(Exercise):
    """Find the layer at which two models part."""

    prompt = (
        "Two models that should be equal are not. Write `first_difference(ours, theirs, tolerance)`: the name of the first "
        "layer whose tensors differ somewhere by more than `tolerance`, in the order of `ours`, or None. Both are "
        "dictionaries of tensors by name; a layer that only one side has is passed over. A tensor of another shape differs, "
        "and so does a NaN that stands on one side alone; in the same place on both sides it is no difference."
    )
    difficulty, minutes = 2, 10
    hints = (
        "Walk through `ours.items()`, and return as soon as you find one.",
        "`(a - b).abs().max() > tolerance`, after the shapes were compared: tensors of other shapes might broadcast.",
        "NaN is not greater than anything. `not torch.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True)` sees it.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        ours = {name: torch.randn(2, 3, generator=generator) for name in ("tokens", "query", "key", "out", "norm")}
        ours["key"] += 10_000.0  # so large that a relative tolerance forgives what the given one does not
        moved = lambda **by: {name: tensor + by.get(name, 0.0) for name, tensor in ours.items()}  # noqa: E731
        one_place = torch.zeros(2, 3)
        one_place[1, 2] = 0.02
        broken = lambda name, layers: layers | {name: layers[name].masked_fill(one_place > 0, math.nan)}  # noqa: E731
        backwards = dict(reversed(moved(key=-0.05, out=0.5, norm=1.0).items()))
        without_query = moved(key=-450 * one_place)
        del without_query["query"]
        return [
            (ours, backwards, 1e-2), (ours, moved(key=one_place, norm=450 * one_place), 1e-2), (ours, without_query, 1e-2),
            ({"b": torch.ones(2, 2), "a": torch.zeros(2)}, {"b": torch.ones(2), "a": torch.ones(2)}, 0.1),
            (ours, broken("key", moved(norm=1.0)), 1e-2),
            (broken("norm", ours), broken("norm", moved(tokens=1e-4, out=-0.006)), 1e-2),  # no layer differs
        ]  # fmt: skip

    @classmethod
    def observe(cls, answer, probe):
        found = answer(*probe)
        return "None" if found is None else found  # where a name is expected, None is an answer, no missing `return`

    @solution
    def first_difference(ours, theirs, tolerance):
        for name, a in ours.items():
            b = theirs.get(name)
            if b is None:
                continue
            if a.shape != b.shape or not torch.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True):
                return name
        return None

    @mistake(
        "You return the layer with the largest difference. A small fault grows on its way through the layers; its cause is "
        "where it first shows."
    )
    def largest(ours, theirs, tolerance):
        if FirstDifference.solution(ours, theirs, tolerance) is None:
            return None
        shared = [name for name in ours if name in theirs]
        gap = lambda n: float((ours[n] - theirs[n]).abs().nan_to_num(math.inf).max())  # noqa: E731
        odd = [name for name in shared if ours[name].shape != theirs[name].shape]
        return odd[0] if odd else max(shared, key=gap)

    @mistake(
        "You return the last layer that differs. Everything behind the fault differs too; the first one is the clue."
    )
    def last(ours, theirs, tolerance):
        return FirstDifference.solution(dict(reversed(ours.items())), theirs, tolerance)

    @mistake("You walk through the layers of `theirs`. Ask in the order in which ours computes.")
    def their_order(ours, theirs, tolerance):
        return FirstDifference.solution(theirs, ours, tolerance)

    @mistake("You compare without `abs`: a layer that lies below ours by a mile passes.")
    def no_abs(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs and (a.shape != theirs[name].shape or (theirs[name] - a).max() > tolerance):
                return name
        return None

    @mistake("You compare without `abs`: a layer that lies above ours by a mile passes.")
    def no_abs_ours_first(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs and (a.shape != theirs[name].shape or (a - theirs[name]).max() > tolerance):
                return name
        return None

    @mistake(
        "You compare the mean difference. One wrong number among many right ones disappears in it; take the largest."
    )
    def mean_gap(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs:
                b = theirs[name]
                if a.shape != b.shape or not (a - b).abs().mean() <= tolerance:
                    return name
        return None

    @mistake(
        "NaN slips through: `nan > tolerance` is False, like every comparison with NaN. Ask whether the difference is *within* "
        "the tolerance instead."
    )
    def nan_passes(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs:
                b = theirs[name]
                if a.shape != b.shape or (a - b).abs().max() > tolerance:
                    return name
        return None

    @mistake(
        "`allclose` allows more than your tolerance: 1e-5 of the number itself comes on top, for a number of 10,000 another "
        "0.1. Set `rtol=0`."
    )
    def usual_rtol(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs:
                b = theirs[name]
                if a.shape != b.shape or not torch.allclose(a, b, atol=tolerance, equal_nan=True):
                    return name
        return None

    @mistake(
        "A NaN that stands in the same place on both sides counts as a difference with you. The models agree there: "
        "`equal_nan=True`."
    )
    def nan_on_both_sides(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs:
                b = theirs[name]
                if a.shape != b.shape or not (a - b).abs().max() <= tolerance:
                    return name
        return None

    @mistake(
        "You compare a sum of the differences, or a norm. In a large layer many small ones exceed any tolerance together, "
        "though none does alone; take the largest."
    )
    def summed_gap(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs:
                b = theirs[name]
                if FirstDifference.solution({name: a}, {name: b}, tolerance) or (a - b).abs().nansum() > tolerance:
                    return name
        return None

    @mistake(
        "You do not use the tolerance: the numbers must be equal to the last digit. Two right models differ by rounding; "
        "only more than `tolerance` is a difference."
    )
    def no_tolerance(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs and not torch.equal(a.nan_to_num(), theirs[name].nan_to_num()):
                return name
        return None

    @mistake("Tensors of other shapes were stretched until they fitted (*broadcasting*). Compare the shapes first.")
    def broadcasts(ours, theirs, tolerance):
        for name, a in ours.items():
            if name in theirs and not torch.allclose(
                *torch.broadcast_tensors(a, theirs[name]), rtol=0, atol=tolerance, equal_nan=True
            ):
                return name
        return None
