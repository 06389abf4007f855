"""Exercises of chapter 8: inputs that fit, heads that do not see padding, what is frozen, LoRA, and an honest choice."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 8


class PredictSizeOfChange(Exercise):
    """Predict, then run: how many numbers does LoRA train?"""

    prompt = (
        "Predict before you run the next cell. BERT base has 12 layers of width 768. LoRA of rank 4 changes the query and "
        "the value projection of every layer, each a matrix of 768 × 768. How many numbers does training change? "
        "Give a number."
    )
    difficulty, minutes, tolerance = 1, 4, 1e-9
    hints = (
        "One change is a product of two matrices, `up` of shape (768, 4) and `down` of shape (4, 768).",
        "(768 · 4 + 4 · 768) for one projection, two projections a layer, 12 layers.",
    )
    praise = "correct: 147,456, of about 110 million. Run the next cell to count them."

    @solution
    def trainable():
        return 12 * 2 * (768 * 4 + 4 * 768)

    @mistake(
        "That is half of it: a change has two matrices, `down` and `up`, and a layer has two changed projections, query "
        "and value."
    )
    def one_of_two():
        return 12 * 2 * 768 * 4

    @mistake("You counted one layer. There are 12.")
    def one_layer():
        return 2 * (768 * 4 + 4 * 768)

    @mistake(
        "You counted the two projections themselves, 768 · 768 each. They are frozen; only the two thin matrices beside "
        "each of them are trained."
    )
    def whole_matrices():
        return 12 * 2 * 768 * 768

    @mistake("You counted 4 · 4 in the middle of the product. The thin matrices are 768 long: (768, 4) and (4, 768).")
    def rank_squared():
        return 12 * 2 * 4 * 4


class FitToContext(Exercise):
    """Build a classifier's input so that the tokens it relies on survive."""

    prompt = (
        "Write `fit(ids, context, cls, sep, pad)`: a list of exactly `context` numbers for a classifier: `cls`, the first "
        "of the `ids`, as many as fit, `sep`, and then `pad` to the end."
    )
    difficulty, minutes = 1, 8
    hints = (
        "Two places are taken, by `cls` and `sep`. How many are left for the ids?",
        "Cut the ids first, add the special tokens second, fill up last.",
        "`row = [cls, *ids[: context - 2], sep]`, then as many `pad` as are missing.",
    )

    @classmethod
    def probes(cls, seed):
        return [([], 8, 1, 2, 9), ([20 + seed, 21, 22, 23], 5, 3, 4, 0)]

    @solution
    def fit(ids, context, cls, sep, pad):
        row = [cls, *ids[: context - 2], sep]
        return row + [pad] * (context - len(row))

    @mistake(
        "You cut after adding the special tokens, and a long text loses its `sep`. Make room for both first: "
        "`ids[: context - 2]`."
    )
    def loses_sep(ids, context, cls, sep, pad):
        row = [cls, *ids, sep][:context]
        return row + [pad] * (context - len(row))

    @mistake(
        "You keep the end of the row, and a long text loses its `cls`. The head would then read the state of some word "
        "at position 0, without any error."
    )
    def left_truncation_loses_cls(ids, context, cls, sep, pad):
        row = [cls, *ids, sep][-context:]
        return row + [pad] * (context - len(row))

    @mistake("You keep the last of the ids. The prompt asks for the first ones; which end matters depends on the task.")
    def keeps_the_end(ids, context, cls, sep, pad):
        row = [cls, *(ids[-(context - 2) :] if len(ids) > context - 2 else ids), sep]
        return row + [pad] * (context - len(row))

    @mistake(
        "You fill up on the left, so `cls` is no longer at position 0, where the head looks for it. Fill up on the right."
    )
    def pads_in_front(ids, context, cls, sep, pad):
        row = [cls, *ids[: context - 2], sep]
        return [pad] * (context - len(row)) + row

    @mistake("You fill up before you add `sep`, so the end of the text is not marked: `sep` comes right after the ids.")
    def pads_before_sep(ids, context, cls, sep, pad):
        row = [cls, *ids[: context - 2]]
        return row + [pad] * (context - 1 - len(row)) + [sep]

    @mistake(
        "Your row of a long text is one number too long: `cls` and `sep` take two places, not one. The batch could not be "
        "made, for its rows would be unequal."
    )
    def room_for_one_only(ids, context, cls, sep, pad):
        row = [cls, *ids[: context - 1], sep]
        return row + [pad] * (context - len(row))

    @mistake("You leave short texts short. All rows of a batch need the same length: fill up with `pad`.")
    def does_not_pad(ids, context, cls, sep, pad):
        return [cls, *ids[: context - 2], sep]


class MeanPooling(Exercise):
    """Make one vector of many, without the padding."""

    prompt = (
        "Write `mean_pool(hidden, tokens, pad)`: for hidden states of shape (B, T, C) and tokens of shape (B, T), the mean "
        "over each row's own tokens, those that are not `pad`, of shape (B, C)."
    )
    difficulty, minutes = 1, 8
    hints = (
        "`tokens != pad` says which positions count. How do you leave the others out of a sum?",
        "Multiply the hidden states by the mask, as numbers, with one dimension more: `mask[:, :, None]`.",
        "Sum over dim=1, then divide each row by *its* number of tokens, `mask.sum(dim=1)`.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(4, 6, 3, generator=generator) - 2.0
        tokens = torch.randint(1, 9, (4, 6), generator=generator)
        tokens[0, 4:], tokens[1, 1:], tokens[3, 5:] = 0, 0, 0
        left = tokens.flip(1)
        other_pad = torch.where(tokens == 0, 9, tokens)
        return [(hidden.flip(1), left, 0), (hidden, other_pad, 9), (hidden[2:3], tokens[2:3], 0)]

    @solution
    def mean_pool(hidden, tokens, pad):
        mask = (tokens != pad)[:, :, None].float()
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    @mistake(
        "You average over all positions, padding too. The same text then gets another vector in a batch with a longer one."
    )
    def padding_in_the_mean(hidden, tokens, pad):
        return hidden.mean(1)

    @mistake("You leave the padding out of the sum, and still divide by T. Divide by the number of tokens that count.")
    def divides_by_length(hidden, tokens, pad):
        return (hidden * (tokens != pad)[:, :, None]).sum(1) / tokens.shape[1]

    @mistake("You sum and do not divide. Long texts then have long vectors, and the head learns to read the length.")
    def sum_for_mean(hidden, tokens, pad):
        return (hidden * (tokens != pad)[:, :, None]).sum(1)

    @mistake("You take the state at position 0: that is pooling by `[CLS]`. Here the mean of all tokens is asked for.")
    def first_token(hidden, tokens, pad):
        return hidden[:, 0]

    @mistake("You divide every row by the number of tokens of the *whole batch*. Each row has a number of its own.")
    def divides_by_batch_count(hidden, tokens, pad):
        mask = (tokens != pad)[:, :, None].float()
        return (hidden * mask).sum(1) / mask.sum()

    @mistake(
        "You set the padding to 0 and take the largest number of each column. That is max pooling, with a 0 in it."
    )
    def largest_for_mean(hidden, tokens, pad):
        return (hidden * (tokens != pad)[:, :, None]).amax(1)

    @mistake("Your padding is always token 0. Take it from the argument `pad`: tokenizers differ.")
    def pad_is_zero(hidden, tokens, pad):
        mask = (tokens != 0)[:, :, None].float()
        return (hidden * mask).sum(1) / mask.sum(1)

    @mistake(
        "You assume that the padding is on the right, and average the first n positions. Where the padding is on the left "
        "these are the wrong ones: use the mask itself."
    )
    def first_n_positions(hidden, tokens, pad):
        n = (tokens != pad).sum(1)
        return torch.stack([row[:k].mean(0) for row, k in zip(hidden, n.tolist(), strict=True)])


class _Small(nn.Module):
    """An encoder with a norm that keeps statistics and a dropout, and a head: what a freeze must get right."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(6, 3))

    def forward(self, x):
        return self.head(self.encoder(x))


class FreezeTheEncoder(Exercise):
    """Freeze in the right order, and all that can move."""

    prompt = (
        "Write `prepare(model)` for a model with the parts `model.encoder` and `model.head`: let no number of the encoder "
        "change any more, put it in evaluation mode and the head in training mode, and return an AdamW optimiser that "
        "holds the head's parameters only. A norm with running statistics, as in this encoder, changes them in training "
        "mode even when its parameters are frozen."
    )
    difficulty, minutes = 2, 10
    hints = (
        "`requires_grad_(False)`, with the underscore at its end, works on a whole module.",
        "An optimiser keeps the list that it was given when it was built. What must be done first?",
        "`model.encoder.eval()` stops its dropout and its statistics; `model.head.train()` leaves the head's on.",
    )
    praise = (
        "correct. Nothing of the encoder moves, neither by the optimiser nor by its statistics, and the head learns."
    )
    probe_names = ()

    @classmethod
    def check(cls, answer=None):
        # The first optimiser of a process imports for three seconds, which must not count as the answer's own.
        torch.optim.AdamW([torch.zeros(1)])
        return super().check(answer)

    @classmethod
    def probes(cls, seed):
        return [(seed,)]

    @classmethod
    def observe(cls, answer, probe):
        torch.manual_seed(probe[0])
        model, x, y = _Small().train(), torch.randn(8, 5), torch.arange(8) % 3
        F.cross_entropy(model(x), y).backward()  # somebody trained it before: gradients are there
        model.head.eval()
        optimiser = answer(model)
        held = sum(parameter.numel() for group in optimiser.param_groups for parameter in group["params"])
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if any(parameter.requires_grad for parameter in model.parameters()):
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
        moved = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
        modes = {name: part.training for name, part in model.named_children()}
        trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        kind = type(optimiser).__name__
        return {"optimiser": kind, "held": held, "moved": moved, "training": modes, "trainable": trainable}

    @solution
    def prepare(model):
        model.encoder.requires_grad_(False).eval()
        model.head.train()
        return torch.optim.AdamW(model.head.parameters(), lr=1e-2)

    @mistake(
        "Your optimiser holds every parameter, the frozen ones too. It keeps their momentum and their decay, and whatever "
        "gradient is left: give it `model.head.parameters()`."
    )
    def freezes_after_building(model):
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model.encoder.requires_grad_(False).eval()
        model.head.train()
        return optimiser

    @mistake("You froze the head too: nothing is left to learn. Freeze `model.encoder`, not `model`.")
    def freezes_head_too(model):
        model.requires_grad_(False)
        model.encoder.eval(), model.head.train()
        return torch.optim.AdamW(model.head.parameters(), lr=1e-2)

    @mistake(
        "The encoder's parameters rest, but it is still in training mode: its norm goes on changing its statistics, and "
        "its dropout disturbs what the head learns from. Add `.eval()`."
    )
    def encoder_left_in_training_mode(model):
        model.encoder.requires_grad_(False)
        model.head.train()
        return torch.optim.AdamW(model.head.parameters(), lr=1e-2)

    @mistake(
        "The head is in evaluation mode: its dropout is off. It is the part that learns: call `model.head.train()`."
    )
    def evaluates_everything(model):
        model.encoder.requires_grad_(False)
        model.eval()
        return torch.optim.AdamW(model.head.parameters(), lr=1e-2)

    @mistake(
        "The encoder's parameters still ask for gradients, and the optimiser holds them: call `requires_grad_(False)` "
        "(`requires_grad = False` on a module only gives it an attribute of that name)."
    )
    def sets_an_attribute(model):
        model.encoder.requires_grad = False
        model.encoder.eval(), model.head.train()
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)

    @mistake("You froze the head and train the encoder: the other way round.")
    def freezes_the_head_instead(model):
        model.head.requires_grad_(False).eval()
        model.encoder.train()
        return torch.optim.AdamW(model.encoder.parameters(), lr=1e-2)

    @mistake("You froze only what is called weight. The encoder's biases still learn: freeze all its parameters.")
    def forgets_biases(model):
        for name, parameter in model.encoder.named_parameters():
            parameter.requires_grad_("weight" not in name)
        model.encoder.eval(), model.head.train()
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)

    @mistake(
        "You evaluate the encoder, and its parameters still ask for gradients. Evaluation mode is about dropout and "
        "statistics; what learns is decided by `requires_grad_(False)`."
    )
    def evaluation_mode_only(model):
        model.encoder.eval(), model.head.train()
        return torch.optim.AdamW(model.head.parameters(), lr=1e-2)


def _learning(result: Tensor, parts: tuple[Tensor, Tensor]) -> list[bool]:
    """Which of the parts has a gradient from this result that is not zero everywhere."""
    found = []
    for part in parts:
        gradient = None
        if result.requires_grad and part.requires_grad:
            (gradient,) = torch.autograd.grad(result.square().sum(), part, retain_graph=True, allow_unused=True)
        found.append(gradient is not None and bool(gradient.any()))
    return found


class LowRankChange(Exercise):
    """LoRA around one linear layer."""

    prompt = (
        "Write `lora(linear, rank, alpha)`: freeze the linear layer, and return (down, up, forward): two tensors of shape "
        "(rank, in) and (out, rank) that ask for gradients, and a function of x that computes linear(x) + (alpha / rank) "
        "· up · down · x. At the start it must equal `linear`, and it must be able to learn."
    )
    difficulty, minutes = 2, 15
    probe_names = ("in", "out", "rank", "alpha")
    hints = (
        "up · down must be zero at the start. If both are zero, which gradients are zero as well?",
        "`down = torch.randn(rank, linear.in_features)`, `up = torch.zeros(linear.out_features, rank)`, both with "
        "`requires_grad=True`.",
        "For rows x of shape (..., in): `linear(x) + alpha / rank * (x @ down.T) @ up.T`.",
    )

    @classmethod
    def probes(cls, seed):
        return [(5, 7, 2, 8.0, seed), (6, 6, 3, 2.0, seed + 1)]

    @classmethod
    def observe(cls, answer, probe):
        n_in, n_out, rank, alpha, seed = probe
        torch.manual_seed(seed)
        linear, x = nn.Linear(n_in, n_out), torch.randn(3, n_in)
        wanted = linear(x).detach()
        down, up, forward = answer(linear, rank, alpha)
        for tensor, name, shape in ((down, "down", (rank, n_in)), (up, "up", (n_out, rank))):
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it needs {shape}")
        start, is_zero = forward(x), not (down.any() or up.any())
        ranks = [int(torch.linalg.matrix_rank(part.detach())) for part in (down, up)]
        can_learn, generator = any(_learning(start, (down, up))), torch.Generator().manual_seed(seed)
        for part in (down, up):  # now the numbers of some training
            part.data.copy_(torch.randn(part.shape, generator=generator))
        trained = forward(x)
        return {
            "starts as the layer": bool(torch.allclose(start, wanted, atol=1e-6)),
            "both start at zero": is_zero,
            "can learn": can_learn,
            "rank that it starts with": max(ranks),
            "asks for gradients": [down.requires_grad, up.requires_grad],
            "an optimiser takes it": [down.is_leaf, up.is_leaf],
            "goes on learning": _learning(trained, (down, up)),
            "frozen": [not parameter.requires_grad for parameter in linear.parameters()],
            "trained": trained.detach(),
        }

    @solution
    def lora(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + alpha / rank * (x @ down.T) @ up.T

    @mistake(
        "Both matrices start at random, so the model starts as another one: everything that was pre-trained is disturbed "
        "at step 0. Start `up` at zero."
    )
    def up_random(linear, rank, alpha):
        linear.requires_grad_(False)
        down, up = torch.randn(rank, linear.in_features), torch.randn(linear.out_features, rank)
        down.requires_grad_(), up.requires_grad_()
        return down, up, lambda x: linear(x) + alpha / rank * (x @ down.T) @ up.T

    @mistake(
        "Both matrices start at zero. The gradient of each is multiplied by the other, so both are zero for ever: start "
        "`down` at random."
    )
    def both_zero(linear, rank, alpha):
        linear.requires_grad_(False)
        down, up = torch.zeros(rank, linear.in_features), torch.zeros(linear.out_features, rank)
        down.requires_grad_(), up.requires_grad_()
        return down, up, lambda x: linear(x) + alpha / rank * (x @ down.T) @ up.T

    @mistake(
        "The matrix that is not zero is the same in each of its `rank` directions, as one of ones is. They get the same "
        "gradients and stay the same, and the change has rank 1, whatever `rank` says: draw every number at random."
    )
    def down_of_ones(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.ones(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + alpha / rank * (x @ down.T) @ up.T

    @mistake(
        "You changed a matrix after you had asked for its gradient (`torch.randn(..., requires_grad=True) * 0.02`). The "
        "result is no leaf, and no optimiser takes it: make the numbers first, then call `requires_grad_()`."
    )
    def no_leaf(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True) * 0.02
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + alpha / rank * (x @ down.T) @ up.T

    @mistake(
        "You left out the factor alpha / rank. It keeps the size of the change the same when you try another rank, so "
        "that the learning rate need not be found anew."
    )
    def no_scale(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + (x @ down.T) @ up.T

    @mistake("Your factor is rank / alpha, upside down. It is alpha / rank.")
    def scale_upside_down(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + rank / alpha * (x @ down.T) @ up.T

    @mistake("You multiply by alpha and do not divide by the rank. The factor is alpha / rank.")
    def scale_is_alpha(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + alpha * (x @ down.T) @ up.T

    @mistake(
        "The linear layer still asks for gradients: that is full fine-tuning with something beside it. Freeze it, with "
        "`linear.requires_grad_(False)`."
    )
    def base_not_frozen(linear, rank, alpha):
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + alpha / rank * (x @ down.T) @ up.T

    @mistake("You froze the layer's weight and left its bias to learn. `linear.requires_grad_(False)` freezes both.")
    def bias_not_frozen(linear, rank, alpha):
        linear.weight.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: linear(x) + alpha / rank * (x @ down.T) @ up.T

    @mistake(
        "You multiply up and down when the function is built; what training changes later never reaches it. Multiply inside "
        "of the function."
    )
    def multiplied_once(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        delta = alpha / rank * up @ down
        return down, up, lambda x: linear(x) + x @ delta.T

    @mistake("Your function returns the change alone. The layer's own result belongs to it: linear(x) + the change.")
    def change_alone(linear, rank, alpha):
        linear.requires_grad_(False)
        down = torch.randn(rank, linear.in_features, requires_grad=True)
        up = torch.zeros(linear.out_features, rank, requires_grad=True)
        return down, up, lambda x: alpha / rank * (x @ down.T) @ up.T


class MergeTheChange(Exercise):
    """Add what LoRA learned into the matrix itself."""

    prompt = (
        "Write `merge(weight, down, up, alpha)`: the matrix of shape (out, in) that alone does what `weight` and its "
        "low-rank change did together. `down` has shape (rank, in), `up` has shape (out, rank). Leave `weight` as it is."
    )
    difficulty, minutes = 1, 8
    hints = (
        "The layer computed W x + (alpha / rank) · up · down · x. Put x outside the brackets.",
        "The rank is `down.shape[0]`.",
        "`weight + alpha / down.shape[0] * up @ down`.",
    )
    praise = "correct. After merging, the model is as fast as before: nothing stands beside the matrix any more."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)

        def tensors(n_out, n_in, rank):
            return [torch.randn(shape, generator=generator) for shape in ((n_out, n_in), (rank, n_in), (n_out, rank))]

        return [(*tensors(6, 6, 2), 8.0), (*tensors(5, 5, 1), 2.5)]

    @solution
    def merge(weight, down, up, alpha):
        rank = down.shape[0]
        return weight + alpha / rank * up @ down

    @mistake(
        "You add the change transposed. In a square layer it fits all the same, and silently does something else: torch's "
        "Linear computes x Wᵀ, so W has the shape (out, in), and the change is up · down."
    )
    def merges_the_transpose(weight, down, up, alpha):
        return weight + alpha / down.shape[0] * (up @ down).T

    @mistake("You left out alpha / rank, which scaled the change while it was trained.")
    def no_scale(weight, down, up, alpha):
        return weight + up @ down

    @mistake("Your factor is rank / alpha; it is alpha / rank, as in training.")
    def scale_upside_down(weight, down, up, alpha):
        return weight + down.shape[0] / alpha * up @ down

    @mistake("You divide by the layer's width instead of the rank. The rank is the short side: `down.shape[0]`.")
    def divides_by_width(weight, down, up, alpha):
        return weight + alpha / down.shape[1] * up @ down

    @mistake("You subtract the change: that is what *un*merging does.")
    def subtracts(weight, down, up, alpha):
        return weight - alpha / down.shape[0] * up @ down

    @mistake("You return the change alone. Merging adds it to the weight.")
    def forgets_the_weight(weight, down, up, alpha):
        return alpha / down.shape[0] * up @ down


class HonestSelection(Exercise):
    """Choose a model without looking at the test, and report what the test then says."""

    prompt = (
        "Several runs of fine-tuning are given: `runs[name][split][step]` is the accuracy of a run on a split, 'train', "
        "'validation' or 'test', after each step. Write `select(runs)`: the (name, step, accuracy) of the model that you "
        "would ship, step counted from 0, with the accuracy that you may report for it. Of equals take the run named "
        "first, and its earliest step."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Whatever takes part in a choice can no longer judge it: the chosen one is best partly by luck.",
        "Choose run and step by the validation accuracy. Look up the test accuracy there, once.",
        "`max` returns the first of equals: `max(((name, step) for name in runs for step in ...), key=...)`.",
    )
    praise = "correct. Chosen on validation, reported on test: the number is not flattered by the choice."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed + 1)

        def run(best_validation, best_test, best_train):
            splits = {}
            for split, best in (("train", best_train), ("validation", best_validation), ("test", best_test)):
                values = torch.randint(40, 80, (6,), generator=generator).tolist()
                values[best] = 90
                splits[split] = [value / 100 for value in values]
            return splits

        first = {"low rate": run(2, 4, 5), "high rate": run(3, 0, 5)}
        first["high rate"]["validation"][3] = 0.93
        first["low rate"]["test"][4] = 0.97
        first["low rate"]["validation"] = [
            max(0.85, value) for value in first["low rate"]["validation"]
        ]  # best on average
        ties = {"b": run(1, 5, 4), "a": run(0, 2, 3), "c": run(2, 1, 5)}  # the first is not the first of the alphabet
        ties["b"]["validation"][3] = 0.90
        ties["c"]["train"][5] = 0.99
        ties["a"]["test"][2] = 0.98
        within = {"a": run(1, 0, 5), "b": run(2, 4, 3)}  # a tie inside one run, and a rival that only the test favours
        within["a"]["validation"][4], within["b"]["validation"][2], within["b"]["test"][2] = 0.90, 0.85, 0.99
        return [(first,), (ties,), (within,)]

    @solution
    def select(runs):
        candidates = [(name, step) for name in runs for step in range(len(runs[name]["validation"]))]
        name, step = max(candidates, key=lambda found: runs[found[0]]["validation"][found[1]])
        return name, step, runs[name]["test"][step]

    @mistake(
        "You choose by the test accuracy: early stopping on the test set. The best of many noisy numbers is too good, and "
        "nothing is left to judge the choice by. Choose on validation."
    )
    def stops_on_the_test(runs):
        candidates = [(name, step) for name in runs for step in range(len(runs[name]["test"]))]
        name, step = max(candidates, key=lambda found: runs[found[0]]["test"][found[1]])
        return name, step, runs[name]["test"][step]

    @mistake(
        "You choose by the training accuracy. The run that learned its examples by heart wins. Choose on validation."
    )
    def chooses_on_training(runs):
        candidates = [(name, step) for name in runs for step in range(len(runs[name]["train"]))]
        name, step = max(candidates, key=lambda found: runs[found[0]]["train"][found[1]])
        return name, step, runs[name]["test"][step]

    @mistake(
        "You report the validation accuracy. It took part in the choice, so it is flattered; report the test accuracy of "
        "the chosen run and step."
    )
    def reports_validation(runs):
        candidates = [(name, step) for name in runs for step in range(len(runs[name]["validation"]))]
        name, step = max(candidates, key=lambda found: runs[found[0]]["validation"][found[1]])
        return name, step, runs[name]["validation"][step]

    @mistake(
        "You choose the model on validation, and then report the best test accuracy that its run ever had. Report the one "
        "at the chosen step."
    )
    def reports_the_best_test(runs):
        candidates = [(name, step) for name in runs for step in range(len(runs[name]["validation"]))]
        name, step = max(candidates, key=lambda found: runs[found[0]]["validation"][found[1]])
        return name, step, max(runs[name]["test"])

    @mistake(
        "You choose the step on validation, and the run by its test accuracy. Every choice counts, also that between runs "
        "and settings: make all of them on validation."
    )
    def chooses_the_run_on_the_test(runs):
        steps = {name: run["validation"].index(max(run["validation"])) for name, run in runs.items()}
        name = max(runs, key=lambda found: runs[found]["test"][steps[found]])
        return name, steps[name], runs[name]["test"][steps[name]]

    @mistake(
        "You take the last step of every run. The best on validation came earlier: that is what stopping early is."
    )
    def takes_the_last_step(runs):
        name = max(runs, key=lambda found: runs[found]["validation"][-1])
        return name, len(runs[name]["test"]) - 1, runs[name]["test"][-1]

    @mistake(
        "Of equals you take the last one: perhaps you compare with `>=`. The prompt asks for the first, and earliest."
    )
    def takes_the_last_of_equals(runs):
        best = -1.0
        for name in runs:
            for step, value in enumerate(runs[name]["validation"]):
                if value >= best:
                    best, chosen = value, (name, step)
        return *chosen, runs[chosen[0]]["test"][chosen[1]]
