"""Right answers to the exercises of chapter 10, each written in another way than the solution."""

import numpy as np
import torch
from einops import rearrange, reduce

from llmcourse.exercises.inside import (
    InductionScore,
    LogitLens,
    PatchTheStream,
    PredictPatch,
    ReadTheStream,
    SilenceHead,
)


def score_by_loop(weights, block):
    B, H, T, _ = weights.shape
    found = []
    for head in range(H):
        looks = [weights[b, head, t, t - block + 1].item() for b in range(B) for t in range(block, T)]
        found.append(sum(looks) / len(looks))
    return torch.tensor(found)


def score_by_index(weights, block):
    t = torch.arange(block, weights.shape[-1])
    return reduce(weights[:, :, t, t - block + 1], "B H t -> H", "mean")


def score_by_einsum(weights, block):
    B, _, T, _ = weights.shape
    right = torch.diag_embed(torch.ones(T - block + 1), 1 - block)
    right[block - 1] = 0
    return torch.einsum("bhts,ts->h", weights, right) / (B * (T - block))


def silence_by_mask(heads, number, how):
    is_silent = (torch.arange(heads.shape[1]) == number)[None, :, None, None]
    said = heads.mean(dim=(0, 2), keepdim=True) if how == "mean" else torch.zeros(1)
    return torch.where(is_silent, said, heads)


def silence_by_loop(heads, number, how):
    parts = []
    for n, head in enumerate(heads.unbind(1)):
        if n == number:
            head = torch.zeros_like(head) if how == "zero" else head.flatten(0, 1).mean(0).expand_as(head)
        parts.append(head)
    return torch.stack(parts, dim=1)


def silence_by_numpy(heads, number, how):
    changed = heads.numpy().copy()
    said = changed[:, number].reshape(-1, changed.shape[-1]).mean(axis=0)
    changed[:, number] = {"zero": 0 * said, "mean": said}[how]
    return torch.from_numpy(changed)


def silence_by_product(heads, number, how):
    kept = torch.ones(heads.shape[1])
    kept[number] = 0
    usual = heads.sum(dim=(0, 2)) / (heads.shape[0] * heads.shape[2])
    filled = torch.einsum("h,hd->hd", 1 - kept, usual)[:, None] if how == "mean" else 0.0
    return torch.einsum("bhtd,h->bhtd", heads, kept) + filled


def patched_without_hooks(model, clean, corrupt, layer, position):
    swapped, block = [], model.blocks[layer]
    original = type(block).forward

    def watched(self, *inputs, **named):
        output = original(self, *inputs, **named)
        if self is block:
            swapped.append(output)
            if len(swapped) == 2:
                output = output.clone()
                output[:, position] = swapped[0][:, position]
        return output

    type(block).forward = watched
    try:
        model(clean)
        return model(corrupt)
    finally:
        type(block).forward = original


def patched_by_one_hook(model, clean, corrupt, layer, position):
    seen = []

    def put(module, inputs, output):
        seen.append(output)
        if len(seen) == 1:
            return None
        here = torch.arange(output.shape[1])[None, :, None] == position
        return torch.where(here, seen[0], output)

    handle = model.blocks[layer].register_forward_hook(put)
    model(clean)
    logits = model(corrupt)
    handle.remove()
    return logits


def patched_as_one_batch(model, clean, corrupt, layer, position):
    def put(module, inputs, output):
        first, second = output[:1], output[1:]
        mixed = torch.cat([second[:, :position], first[:, position : position + 1], second[:, position + 1 :]], dim=1)
        return torch.cat([first, mixed])

    handle = model.blocks[layer].register_forward_hook(put)
    logits = model(torch.cat([clean, corrupt]))[1:]
    handle.remove()
    return logits


def patched_at_the_next_input(model, clean, corrupt, layer, position):
    kept = {}
    handle = model.blocks[layer].register_forward_hook(
        lambda m, i, output: kept.update(said=output[:, position].clone())
    )
    model(clean)
    handle.remove()

    def put(module, inputs, output):
        return output.index_copy(1, torch.tensor([position]), kept["said"][:, None])

    with torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: put(module, inputs, output) if module is model.blocks[layer] else None
    ):
        return model(corrupt)


def lens_by_loop(streams, norm, head):
    return torch.stack([torch.nn.functional.softmax(head(norm(stream)), -1) for stream in streams])


def lens_in_one_go(streams, norm, head):
    return torch.softmax(head(norm(torch.stack(list(streams)))), dim=2)


def lens_by_exponents(streams, norm, head):
    layers = []
    for stream in streams:
        rows = [head(norm(row)).double().exp() for row in stream]
        layers.append(torch.stack([row / row.sum() for row in rows]).float())
    return torch.stack(layers)


def _with_ones(states):
    return torch.nn.functional.pad(states, (0, 1), value=1.0)


def probe_by_normal_equations(train, train_labels, test, test_labels):
    x, y = _with_ones(train).double(), torch.where(train_labels, 1.0, -1.0).double()
    weights = torch.linalg.solve(x.T @ x, x.T @ y)
    judged = torch.einsum("nc,c->n", _with_ones(test).double(), weights) > 0
    return (judged == test_labels).double().mean().item()


def probe_by_numpy(train, train_labels, test, test_labels):
    x = np.column_stack([train.numpy(), np.ones(len(train))])
    weights, *_ = np.linalg.lstsq(x, 2.0 * train_labels.numpy() - 1, rcond=None)
    judged = test.numpy() @ weights[:-1] + weights[-1] > 0
    return float(np.mean(judged == test_labels.numpy()))


def probe_by_pseudoinverse(train, train_labels, test, test_labels):
    weights = torch.linalg.pinv(_with_ones(train)) @ (train_labels.float() * 2 - 1)
    scores = [(row @ weights).item() for row in _with_ones(test)]
    right = [(score > 0) == label for score, label in zip(scores, test_labels.tolist(), strict=True)]
    return sum(right) / len(right)


def probe_by_centring(train, train_labels, test, test_labels):
    x, y = train - train.mean(0), train_labels.float() * 2 - 1
    weights = torch.linalg.lstsq(x, rearrange(y - y.mean(), "n -> n 1")).solution
    judged = ((test - train.mean(0)) @ weights)[:, 0] + y.mean() > 0
    return 1 - (judged ^ test_labels).float().mean()


RIGHT = {
    PredictPatch: [1, np.float32(1.0), torch.tensor(1.0), torch.tensor(1)],
    InductionScore: [score_by_loop, score_by_index, score_by_einsum],
    SilenceHead: [silence_by_mask, silence_by_loop, silence_by_numpy, silence_by_product],
    PatchTheStream: [
        patched_without_hooks,
        patched_by_one_hook,
        patched_as_one_batch,
        patched_at_the_next_input,
    ],
    LogitLens: [lens_by_loop, lens_in_one_go, lens_by_exponents],
    ReadTheStream: [probe_by_normal_equations, probe_by_numpy, probe_by_pseudoinverse, probe_by_centring],
}
