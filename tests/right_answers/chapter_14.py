"""Right answers to the exercises of chapter 14, each written in another way than the solution."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from llmcourse.exercises.tensorflow import (
    FirstDifference,
    MeanSurprise,
    MoveWeights,
    PredictTheNorm,
    StepOfAdamW,
    TwoGelus,
    WhereOneMayLook,
)

STATE = torch.tensor([0.01, -0.01, 0.01, -0.01])


def keras_by_cases(weights, kinds):
    moved = {}
    for name, tensor in weights.items():
        layer, _, part = name.rpartition(".")
        match kinds[layer], part:
            case "Dense", "weight":
                moved[f"{layer}.kernel"] = tensor.t().clone()
            case "Dense", "bias":
                moved[f"{layer}.bias"] = tensor
            case "Embedding", _:
                moved[f"{layer}.embeddings"] = tensor
            case "LayerNormalization", _:
                moved[f"{layer}.{'gamma' if part == 'weight' else 'beta'}"] = tensor
    return moved


def keras_by_layers(weights, kinds):
    moved = {}
    for layer, kind in kinds.items():
        weight, bias = weights.get(f"{layer}.weight"), weights.get(f"{layer}.bias")
        if kind == "Dense":
            moved[layer + ".kernel"] = torch.einsum("oi->io", weight)
            if bias is not None:
                moved[layer + ".bias"] = bias
        if kind == "Embedding":
            moved[layer + ".embeddings"] = weight
        if kind == "LayerNormalization":
            moved |= {layer + ".gamma": weight, layer + ".beta": bias}
    return moved


def keras_by_names(weights, kinds):
    theirs = {("Dense", "weight"): "kernel", ("Dense", "bias"): "bias", ("Embedding", "weight"): "embeddings",
              ("LayerNormalization", "weight"): "gamma", ("LayerNormalization", "bias"): "beta"}  # fmt: skip
    split = ((name.split("."), tensor) for name, tensor in weights.items())
    found = {
        f"{layer}.{theirs[kinds[layer], part]}": tensor for (layer, part), tensor in split if kinds[layer] != "tied"
    }
    return {name: tensor.permute(1, 0) if name.endswith("kernel") else tensor for name, tensor in found.items()}


def look_by_match(mask, kind):
    match kind:
        case "keras":
            return mask.clone()
        case "tokenizer":
            return mask.bool()
        case "torch layer":
            return torch.logical_not(mask)
        case "added":
            return torch.exp(mask) > 0.5


def look_by_table(mask, kind):
    rules = {"keras": lambda: mask, "tokenizer": lambda: mask.ne(0), "torch layer": lambda: mask == False,  # noqa: E712
             "added": lambda: mask == 0}  # fmt: skip
    return rules[kind]()


def look_by_list(mask, kind):
    ignored = {"keras": False, "tokenizer": 0, "torch layer": True}
    if kind == "added":
        return mask.isclose(torch.zeros(1))
    return torch.tensor([value != ignored[kind] for value in mask.flatten().tolist()]).view(mask.shape)


def gelus_by_normal(x):
    half_root = (2 / math.pi) ** 0.5
    return x * torch.distributions.Normal(0.0, 1.0).cdf(x), x / 2 + x / 2 * (
        half_root * (x + 0.044715 * x * x * x)
    ).tanh()


def gelus_by_loop(x):
    exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.flatten().tolist()]
    near = [v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.flatten().tolist()]
    return torch.tensor(exact).view_as(x), torch.tensor(near).reshape(x.shape)


def surprise_by_loop(logits, targets):
    losses = []
    for row, target in zip(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).tolist(), strict=True):
        if target != -100:
            losses.append(torch.logsumexp(row, 0) - row[target])
    return sum(losses) / len(losses) if losses else 0.0


def surprise_by_nll(logits, targets):
    total = F.nll_loss(F.log_softmax(logits, -1).flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    return total / max(1, (targets != -100).sum().item())


def surprise_by_one_hot(logits, targets):
    counted = targets >= 0
    if not counted.any():
        return 0
    p = F.one_hot(targets[counted], logits.shape[-1]).float()
    return torch.einsum("nv,nv->", p, -logits[counted].log_softmax(-1)) / len(p)


def surprise_by_numpy(logits, targets):
    counted = targets.numpy() != -100
    scores, wanted = logits.numpy()[counted], targets.numpy()[counted]
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(wanted)), wanted].mean() if counted.any() else np.float32(0.0)


def surprise_by_index(logits, targets):
    b, t = torch.where(targets != -100)
    return -logits.log_softmax(-1)[b, t, targets[b, t]].mean().nan_to_num(0.0)


def adamw_by_lerp(weight, gradient, m, v, t, rate, decay):
    m, v = torch.lerp(m, gradient, 0.1), torch.lerp(v, gradient.square(), 0.02)
    step = (m / (1 - math.pow(0.9, t))) / (torch.sqrt(v / (1 - math.pow(0.98, t))) + 1e-8)
    return weight - rate * decay * weight - rate * step, m, v


def adamw_by_library(weight, gradient, m, v, t, rate, decay):
    parameter = torch.nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    optimiser = torch.optim.AdamW([parameter], lr=rate, betas=(0.9, 0.98), eps=1e-8, weight_decay=decay)
    state = {"step": torch.tensor(t - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimiser.state[parameter] = state
    optimiser.step()
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


def adamw_by_loop(weight, gradient, m, v, t, rate, decay):
    rows = []
    for w, g, first, second in zip(*(part.double().tolist() for part in (weight, gradient, m, v)), strict=True):
        first, second = 0.9 * first + 0.1 * g, 0.98 * second + 0.02 * g * g
        move = first / (1 - 0.9**t) / (math.sqrt(second / (1 - 0.98**t)) + 1e-8)
        rows.append((w * (1 - rate * decay) - rate * move, first, second))
    return tuple(torch.tensor(rows).unbind(1))


def difference_by_gap(ours, theirs, tolerance):
    for name in ours:
        if name not in theirs:
            continue
        a, b = ours[name], theirs[name]
        if a.shape != b.shape or (a.isnan() != b.isnan()).any():
            return name
        if (a - b).abs().nan_to_num(0).max() > tolerance:
            return name


def difference_by_generator(ours, theirs, tolerance):
    def differ(a, b):
        if a.size() != b.size():
            return True
        both_nan = torch.isnan(a) & torch.isnan(b)
        return not bool(((a - b).abs().le(tolerance) | both_nan).all())

    return next((name for name in ours if name in theirs and differ(ours[name], theirs[name])), None)


def difference_by_numpy(ours, theirs, tolerance):
    shared = [name for name in ours if name in theirs]
    for name in shared:
        a, b = ours[name].numpy(), theirs[name].numpy()
        try:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, strict=True)
        except AssertionError:
            return name
    return None


def difference_by_loop(ours, theirs, tolerance):
    for name, tensor in ours.items():
        other = theirs.get(name, tensor)
        if list(tensor.shape) != list(other.shape):
            return name
        for a, b in zip(tensor.flatten().tolist(), other.flatten().tolist(), strict=True):
            if math.isnan(a) != math.isnan(b) or abs(a - b) > tolerance:
                return name
    return None


RIGHT = {
    PredictTheNorm: [
        3.2,
        np.float32(np.sqrt(10)),
        math.sqrt(1.1e-3) / math.sqrt(1.1e-4),
        F.layer_norm(STATE, (4,), eps=1e-5)[0] / F.layer_norm(STATE, (4,), eps=1e-3)[0],
    ],
    MoveWeights: [keras_by_cases, keras_by_layers, keras_by_names],
    WhereOneMayLook: [look_by_match, look_by_table, look_by_list],
    TwoGelus: [
        lambda x: (F.gelu(x), F.gelu(x, approximate="tanh")),
        gelus_by_normal,
        gelus_by_loop,
        lambda x: [F.gelu(x, approximate=kind) for kind in ("none", "tanh")],
    ],
    MeanSurprise: [surprise_by_loop, surprise_by_nll, surprise_by_one_hot, surprise_by_index, surprise_by_numpy],
    StepOfAdamW: [adamw_by_lerp, adamw_by_library, adamw_by_loop],
    FirstDifference: [difference_by_gap, difference_by_generator, difference_by_numpy, difference_by_loop],
}
