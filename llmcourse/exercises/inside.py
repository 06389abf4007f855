"""Exercises of chapter 10: scores of heads, two ways to silence one, patching, the logit lens, and a probe of one's own."""

import torch
from torch.nn import functional as F

from llmcourse.circuits import induction_circuit
from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 10


class PredictPatch(Exercise):
    """Predict, then run: what does one patch bring back?"""

    prompt = (
        "Predict before you run the next cell. The circuit made by hand reads `a d b e c a` and says d; it reads "
        "`a f b e c a` and says f. We run it on the second row, and at position 1 put what left *layer 0* in the first "
        "run. How much of the difference between d and f comes back, from 0 (nothing) to 1 (all)? Give a number."
    )
    difficulty, minutes, tolerance = 1, 4, 1e-9
    hints = (
        "The two rows differ at position 1 only. Who reads that position, and in which layer?",
        "Layer 1 reads at position 1 both which token stands there and which stood before. Both come from the patch.",
    )
    praise = "correct: all of it. Layer 1 reads position 1, and finds there what the clean run had."

    @solution
    def comes_back():
        return 1.0

    @mistake(
        "Nothing would come back if layer 1 did not read position 1, or if the patch came after it had read. It comes before."
    )
    def nothing():
        return 0.0

    @mistake(
        "It is not shared out between two positions: at the last position both runs hold the same until layer 1 has read."
    )
    def half():
        return 0.5


class InductionScore(Exercise):
    """How much does each head look one after the previous occurrence?"""

    prompt = (
        "The rows of a batch repeat a block of `block` tokens again and again. Write `score(weights, block)`: for weights of "
        "shape (B, H, T, T), how much each head looks, on average, from position t to t - block + 1, the place after the "
        "previous occurrence. Count the positions from t = block on; the result has shape (H,)."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Which diagonal of the matrix holds the weights from t to t - 1? Which those from t to t - block + 1?",
        "`weights.diagonal(offset=1 - block, dim1=-2, dim2=-1)` has shape (B, H, T - block + 1). It begins at t = block - 1.",
        "Leave out its first entry, then take the mean over the rows and the positions, dims 0 and 2.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        return [
            ((torch.randn(B, H, T, T, generator=generator) * 2).tril().softmax(-1), block)
            for B, H, T, block in ((2, 3, 9, 4), (3, 3, 8, 3))
        ]

    @solution
    def score(weights, block):
        return weights.diagonal(offset=1 - block, dim1=-2, dim2=-1)[..., 1:].mean(dim=(0, 2))

    @mistake(
        "You look at t - block: that is the previous occurrence itself. The next token stands one later, at t - block + 1."
    )
    def previous_occurrence_itself(weights, block):
        return weights.diagonal(offset=-block, dim1=-2, dim2=-1).mean(dim=(0, 2))

    @mistake("Your diagonal is one too far: t - block - 1 is the place *before* the previous occurrence.")
    def one_before(weights, block):
        return weights.diagonal(offset=-block - 1, dim1=-2, dim2=-1).mean(dim=(0, 2))

    @mistake(
        "You count t = block - 1 too, the last token of the first block. It has no previous occurrence: start at t = block."
    )
    def includes_first_block(weights, block):
        return weights.diagonal(offset=1 - block, dim1=-2, dim2=-1).mean(dim=(0, 2))

    @mistake("You divide by all T positions. Only those from t = block on have a previous occurrence to find.")
    def divides_by_all(weights, block):
        T = weights.shape[-1]
        return weights.diagonal(offset=1 - block, dim1=-2, dim2=-1)[..., 1:].sum(dim=2).mean(dim=0) / T

    @mistake("You average over the heads and keep the rows. The score belongs to a head: mean over dims 0 and 2.")
    def mean_over_heads(weights, block):
        return weights.diagonal(offset=1 - block, dim1=-2, dim2=-1)[..., 1:].mean(dim=(1, 2))

    @mistake(
        "You look upwards, at the future: rows are queries, columns keys. The offset of a diagonal below is negative."
    )
    def above_the_diagonal(weights, block):
        return weights.diagonal(offset=block - 1, dim1=-2, dim2=-1)[..., 1:].mean(dim=(0, 2))

    @mistake("You take the largest weight over the positions. One lucky position makes no habit: take the mean.")
    def largest(weights, block):
        return weights.diagonal(offset=1 - block, dim1=-2, dim2=-1)[..., 1:].amax(dim=(0, 2))


class SilenceHead(Exercise):
    """Two ways to silence a head."""

    prompt = (
        "Write `silence(heads, number, how)`: for what the heads read, of shape (B, H, T, D), a copy in which the head "
        "`number` is silenced. With how='zero' it says 0; with how='mean' it says at every position and in every row the "
        "same, the mean of what it says over all rows and positions. The others stay, and so does `heads` itself."
    )
    difficulty, minutes = 1, 10
    hints = (
        "`changed = heads.clone()`, then set `changed[:, number]`, which has shape (B, T, D).",
        "The mean has shape (D,): it is over the rows and the positions, and over nothing else.",
        "`heads[:, number].mean(dim=(0, 1))`.",
    )
    praise = (
        "correct. Zero is a value that the rest of the model may never have seen; the mean is one that it is used to."
    )

    @classmethod
    def probes(cls, seed):
        heads = torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(seed)) + 1.0
        return [(heads, 0, "zero"), (heads, 2, "mean"), (heads[:1], 1, "mean")]

    @solution
    def silence(heads, number, how):
        changed = heads.clone()
        changed[:, number] = 0.0 if how == "zero" else heads[:, number].mean(dim=(0, 1))
        return changed

    @mistake("You always put 0. For how='mean' put the head's mean over rows and positions.")
    def always_zero(heads, number, how):
        changed = heads.clone()
        changed[:, number] = 0.0
        return changed

    @mistake("You always put the mean. For how='zero' put 0.")
    def always_mean(heads, number, how):
        changed = heads.clone()
        changed[:, number] = heads[:, number].mean(dim=(0, 1))
        return changed

    @mistake(
        "Your mean is over the positions of each row by itself, so it still tells rows apart. Take it over the rows too."
    )
    def mean_within_row(heads, number, how):
        changed = heads.clone()
        changed[:, number] = 0.0 if how == "zero" else heads[:, number].mean(dim=1, keepdim=True)
        return changed

    @mistake(
        "Your mean is over the rows only, so each position keeps what is special to it. Take it over positions too."
    )
    def mean_over_rows_only(heads, number, how):
        changed = heads.clone()
        changed[:, number] = 0.0 if how == "zero" else heads[:, number].mean(dim=0, keepdim=True)
        return changed

    @mistake("Your mean is one number for the whole head. Each of its D columns has a mean of its own.")
    def one_number(heads, number, how):
        changed = heads.clone()
        changed[:, number] = 0.0 if how == "zero" else heads[:, number].mean()
        return changed

    @mistake("You put the mean of *all* heads. The head should say what it usually says itself.")
    def mean_of_all_heads(heads, number, how):
        changed = heads.clone()
        changed[:, number] = 0.0 if how == "zero" else heads.mean(dim=(0, 1, 2))
        return changed

    @mistake("You index the position, not the head: the axes are (B, H, T, D), and `heads[:, number]` is the head.")
    def wrong_axis(heads, number, how):
        changed = heads.clone()
        changed[:, :, number] = 0.0 if how == "zero" else heads[:, :, number].mean(dim=(0, 1))
        return changed


_CLEAN = torch.tensor([[0, 3, 1, 4, 2, 0]])
_CORRUPT = torch.tensor([[0, 5, 1, 4, 2, 0]])


class PatchTheStream(Exercise):
    """Put what a block said in the clean run into the corrupt one, at one position."""

    prompt = (
        "Write `patched(model, clean, corrupt, layer, position)`: the logits of the *corrupt* row when what leaves "
        "`model.blocks[layer]` at `position` is replaced by what left it there in the *clean* run. Leave the model as it "
        "was: remove your hooks. It is tried on the circuit made by hand, whose answer is known."
    )
    difficulty, minutes = 3, 20
    hints = (
        "Two runs. In the first a forward hook keeps the block's output; in the second another hook returns a changed copy.",
        "`handle = block.register_forward_hook(lambda module, inputs, output: ...)`; what the hook returns, if anything, "
        "takes the output's place. End with `handle.remove()`.",
        "In the second hook: `changed = output.clone(); changed[:, position] = kept[:, position]; return changed`.",
    )
    praise = "correct. Whatever comes back was brought by that one place."
    probe_names = ("clean", "corrupt", "layer", "position")

    @classmethod
    def probes(cls, seed):
        longer = torch.tensor([[1, 2, 0, 5, 1, 2, 4, 1]]), torch.tensor([[1, 3, 0, 5, 1, 3, 4, 1]])
        return [(*longer, 0, 1), (_CLEAN, _CORRUPT, 1, 5)]

    @classmethod
    def observe(cls, answer, probe):
        model = induction_circuit()
        with torch.no_grad():
            logits = answer(model, *probe)
            return logits, model(probe[0]), model(probe[1])  # the last two: was the model left as it was?

    @solution
    def patched(model, clean, corrupt, layer, position):
        block, kept = model.blocks[layer], []
        handle = block.register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
        model(clean)
        handle.remove()

        def put(module, inputs, output):
            changed = output.clone()
            changed[:, position] = kept[0][:, position]
            return changed

        handle = block.register_forward_hook(put)
        logits = model(corrupt)
        handle.remove()
        return logits

    @mistake(
        "Your direction is swapped: you put the corrupt run into the clean one. That asks what *breaks* the answer; the "
        "prompt asks what brings it back."
    )
    def direction_swapped(model, clean, corrupt, layer, position):
        return PatchTheStream.solution(model, corrupt, clean, layer, position)

    @mistake("You patch one position too late. Positions are counted from 0, as in the tensor.")
    def next_position(model, clean, corrupt, layer, position):
        return PatchTheStream.solution(model, clean, corrupt, layer, min(position + 1, clean.shape[1] - 1))

    @mistake(
        "You patch every position: then the rest of the run *is* the clean run, and you learn nothing about places."
    )
    def every_position(model, clean, corrupt, layer, position):
        kept = []
        handle = model.blocks[layer].register_forward_hook(lambda module, inputs, output: kept.append(output))
        model(clean)
        handle.remove()
        handle = model.blocks[layer].register_forward_hook(lambda module, inputs, output: kept[0])
        logits = model(corrupt)
        handle.remove()
        return logits

    @mistake("You patch what *enters* the block, not what leaves it: use a forward hook, which is given the output.")
    def input_of_the_block(model, clean, corrupt, layer, position):
        kept = []
        handle = model.blocks[layer].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].clone()))
        model(clean)
        handle.remove()

        def put(module, inputs):
            changed = inputs[0].clone()
            changed[:, position] = kept[0][:, position]
            return (changed,)

        handle = model.blocks[layer].register_forward_pre_hook(put)
        logits = model(corrupt)
        handle.remove()
        return logits

    @mistake(
        "Your hook is still there after the call: every later run of the model is patched too. Keep the handle, and call "
        "`handle.remove()`."
    )
    def hook_left_in_place(model, clean, corrupt, layer, position):
        kept = []
        handle = model.blocks[layer].register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
        model(clean)
        handle.remove()

        def put(module, inputs, output):
            changed = output.clone()
            if output.shape == kept[0].shape:
                changed[:, position] = kept[0][:, position]
            return changed

        model.blocks[layer].register_forward_hook(put)
        return model(corrupt)

    @mistake(
        "Nothing is patched. Does your second hook *return* the changed output? And does the first one still run, and "
        "overwrite what you kept?"
    )
    def hook_returns_nothing(model, clean, corrupt, layer, position):
        return model(corrupt)


class LogitLens(Exercise):
    """Read the residual stream as if the model stopped there."""

    prompt = (
        "Write `lens(streams, norm, head)`: for the residual stream after each layer, a list of tensors of shape (T, C), the "
        "*probabilities* of the next token, of shape (layers, T, V), if the model stopped there. `norm` and `head` are the "
        "model's last norm and its output layer."
    )
    difficulty, minutes = 1, 8
    hints = (
        "What does the model do after its last block? Do the same to every stream.",
        "`head(norm(stream))` gives logits. One more step makes probabilities of them.",
        "`torch.stack([head(norm(stream)) for stream in streams]).softmax(dim=-1)`.",
    )

    @classmethod
    def probes(cls, seed):
        torch.manual_seed(seed)
        norm, head = torch.nn.LayerNorm(6), torch.nn.Linear(6, 4)
        for weight in norm.parameters():
            weight.data.add_(torch.randn_like(weight))
        streams = [[torch.randn(T, 6) * scale for scale in (1.0, 3.0, 9.0)][:n] for T, n in ((5, 3), (2, 2))]
        # As plain functions: a copied module is no longer the same, and would look like a changed argument.
        return [(some, lambda x: norm(x), lambda x: head(x)) for some in streams]

    @classmethod
    def observe(cls, answer, probe):
        with torch.no_grad():
            return answer(*probe)

    @solution
    def lens(streams, norm, head):
        return torch.stack([head(norm(stream)) for stream in streams]).softmax(dim=-1)

    @mistake(
        "You skip the last norm. The head was trained on normalised rows; early streams are small and late ones large, "
        "and without the norm a late layer looks more certain only because it is longer."
    )
    def skips_the_norm(streams, norm, head):
        return torch.stack([head(stream) for stream in streams]).softmax(dim=-1)

    @mistake("You return logits. The prompt asks for probabilities: a softmax over the last axis.")
    def logits_for_probabilities(streams, norm, head):
        return torch.stack([head(norm(stream)) for stream in streams])

    @mistake("Your softmax is over the positions. Over the vocabulary, the last axis, each row must sum to 1.")
    def softmax_over_positions(streams, norm, head):
        return torch.stack([head(norm(stream)) for stream in streams]).softmax(dim=1)

    @mistake("Your softmax is over the layers. Each layer gives a distribution of its own: use the last axis.")
    def softmax_over_layers(streams, norm, head):
        return torch.stack([head(norm(stream)) for stream in streams]).softmax(dim=0)

    @mistake("You normalise without the norm's learned weight and bias. Call the `norm` that you are given.")
    def plain_norm(streams, norm, head):
        return torch.stack([head(F.layer_norm(stream, stream.shape[-1:])) for stream in streams]).softmax(dim=-1)

    @mistake("You read the sum of all streams so far. The stream is a sum already: every layer added to it.")
    def adds_up(streams, norm, head):
        sums = torch.stack(list(streams)).cumsum(dim=0)
        return head(norm(sums)).softmax(dim=-1)


class ReadTheStream(Exercise):
    """A linear probe: can a yes or no be read from a state?"""

    prompt = (
        "Write `probe(train, train_labels, test, test_labels)`: the share of `test_labels` that a linear probe reads right. "
        "States have shape (N, C), labels are True or False. Fit by least squares, with a constant column of ones, to +1 for "
        "True and -1 for False, on the training states alone; what is above 0 counts as True."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Put the column of ones beside the states: `torch.cat([train, torch.ones(len(train), 1)], dim=1)`.",
        "`torch.linalg.lstsq(inputs, wanted[:, None]).solution` is the fit; `wanted` is `train_labels * 2.0 - 1.0`.",
        "Predict for the *test* states, with their own column of ones, and compare `> 0` with the labels.",
    )
    praise = "correct. What a probe reads is there; whether the model uses it, only a patch can tell."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        found = []
        for n_train, n_test, C, shift in ((40, 200, 6, 3.0), (30, 150, 12, -4.0)):
            states = torch.randn(n_train + n_test, C, generator=generator)
            noise = torch.randn(n_train + n_test, generator=generator)
            labels = states[:, 0] + 0.7 * noise > 0.4  # more often False than True, and never sure
            states = states + shift
            found.append((states[:n_train], labels[:n_train], states[n_train:], labels[n_train:]))
        return found

    @classmethod
    def observe(cls, answer, probe):
        share = answer(*probe)
        return share.item() if isinstance(share, torch.Tensor) and share.numel() == 1 else share

    @solution
    def probe(train, train_labels, test, test_labels):
        fitted = torch.cat([train, torch.ones(len(train), 1)], dim=1)
        weights = torch.linalg.lstsq(fitted, (train_labels * 2.0 - 1.0)[:, None]).solution[:, 0]
        judged = torch.cat([test, torch.ones(len(test), 1)], dim=1) @ weights > 0
        return (judged == test_labels).float().mean().item()

    @mistake(
        "You judge the probe on the states it was fitted on. With enough columns it reads anything there, even labels drawn "
        "by chance: judge it on the test states."
    )
    def judged_on_training(train, train_labels, test, test_labels):
        return ReadTheStream.solution(train, train_labels, train, train_labels)

    @mistake("You fit on the test states too. Then it has seen the answers: fit on the training states alone.")
    def fitted_on_all(train, train_labels, test, test_labels):
        states, labels = torch.cat([train, test]), torch.cat([train_labels, test_labels])
        return ReadTheStream.solution(states, labels, test, test_labels)

    @mistake("The column of ones is missing: without it the plane must go through the origin, wherever the states lie.")
    def no_constant(train, train_labels, test, test_labels):
        weights = torch.linalg.lstsq(train, (train_labels * 2.0 - 1.0)[:, None]).solution[:, 0]
        return ((test @ weights > 0) == test_labels).float().mean().item()

    @mistake("You fit to 1 and 0 and still cut at 0. Between 1 and 0 the middle is 0.5; fit to +1 and -1.")
    def labels_of_one_and_zero(train, train_labels, test, test_labels):
        fitted = torch.cat([train, torch.ones(len(train), 1)], dim=1)
        weights = torch.linalg.lstsq(fitted, train_labels.float()[:, None]).solution[:, 0]
        judged = torch.cat([test, torch.ones(len(test), 1)], dim=1) @ weights > 0
        return (judged == test_labels).float().mean().item()

    @mistake("You return the share that it reads *wrong*. Count where the prediction equals the label.")
    def share_wrong(train, train_labels, test, test_labels):
        return 1 - ReadTheStream.solution(train, train_labels, test, test_labels)

    @mistake("You return the mean squared error of the fit. The prompt asks how often the sign is right.")
    def squared_error(train, train_labels, test, test_labels):
        fitted = torch.cat([train, torch.ones(len(train), 1)], dim=1)
        weights = torch.linalg.lstsq(fitted, (train_labels * 2.0 - 1.0)[:, None]).solution[:, 0]
        judged = torch.cat([test, torch.ones(len(test), 1)], dim=1) @ weights
        return ((judged - (test_labels * 2.0 - 1.0)) ** 2).mean().item()

    @mistake("You return the share of the more frequent label: that is the baseline a probe must beat, not the probe.")
    def the_baseline(train, train_labels, test, test_labels):
        share = test_labels.float().mean().item()
        return max(share, 1 - share)
