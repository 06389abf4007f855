"""Right answers to the exercises of chapter 13, each written in another way than the solution."""

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from llmcourse.exercises.hugging_face import (
    BrokenConditions,
    CountTheBytes,
    MapAttention,
    PadOnTheLeft,
    PredictCache,
    ReadTheConfig,
    ReadTheLicence,
)


def map_by_slices(theirs):
    ours, C = {}, theirs["c_proj.weight"].shape[0]
    for place, name in enumerate(("query", "key", "value")):
        part = slice(place * C, (place + 1) * C)
        ours[f"{name}.weight"] = theirs["c_attn.weight"][:, part].t().contiguous()
        ours[f"{name}.bias"] = theirs["c_attn.bias"][part].clone()
    ours["out.weight"] = theirs["c_proj.weight"].transpose(0, 1).contiguous()
    ours["out.bias"] = theirs["c_proj.bias"].clone()
    return ours


def map_by_einsum(theirs):
    C = theirs["c_attn.weight"].shape[0]
    weights = torch.einsum("ipo->poi", theirs["c_attn.weight"].reshape(C, 3, C))
    query, key, value = theirs["c_attn.bias"].view(3, C)
    return {
        "out.bias": theirs["c_proj.bias"],
        "out.weight": torch.einsum("io->oi", theirs["c_proj.weight"]),
        "query.weight": weights[0],
        "query.bias": query,
        "key.weight": weights[1],
        "key.bias": key,
        "value.weight": weights[2],
        "value.bias": value,
    }


def map_by_split(theirs):
    C = theirs["c_proj.bias"].numel()
    split = {kind: theirs[f"c_attn.{kind}"].split(C, dim=-1) for kind in ("weight", "bias")}
    ours = {
        f"{name}.{kind}": split[kind][n].mT if kind == "weight" else split[kind][n]
        for n, name in enumerate(("query", "key", "value"))
        for kind in split
    }
    return ours | {"out.weight": theirs["c_proj.weight"].mT, "out.bias": theirs["c_proj.bias"]}


def settings_by_table(config):
    keys = {
        "gpt2": (("layer_norm_epsilon", 1e-5), ("activation_function", "gelu_new")),
        "bert": (("layer_norm_eps", 1e-12), ("hidden_act", "gelu")),
    }
    (eps_key, eps), (name_key, name) = keys[config["model_type"]]
    name = config.get(name_key, name)
    return {
        "tied": config.get("tie_word_embeddings", True),
        "activation": "gelu_tanh" if name == "gelu_new" else name,
        "norm_eps": config.get(eps_key, eps),
    }


def settings_by_defaults(config):
    defaults = {"tie_word_embeddings": True}
    if config["model_type"] == "gpt2":
        defaults.update(layer_norm_epsilon=1e-5, activation_function="gelu_new")
    else:
        defaults.update(layer_norm_eps=1e-12, hidden_act="gelu")
    full = {**defaults, **config}
    [eps] = [value for key, value in full.items() if key.startswith("layer_norm")]
    [name] = [value for key, value in full.items() if key in ("activation_function", "hidden_act")]
    return {"norm_eps": eps, "activation": name.replace("_new", "_tanh"), "tied": full["tie_word_embeddings"]}


def settings_by_cases(config):
    result = {"norm_eps": 1e-5, "activation": "gelu_tanh", "tied": True}
    if config["model_type"] == "bert":
        result = {"norm_eps": 1e-12, "activation": "gelu", "tied": True}
    for key, value in config.items():
        if key in ("layer_norm_epsilon", "layer_norm_eps"):
            result["norm_eps"] = value
        elif key in ("activation_function", "hidden_act"):
            result["activation"] = {"gelu_new": "gelu_tanh", "gelu": "gelu"}[value]
        elif key == "tie_word_embeddings":
            result["tied"] = value
    return result


def padded_by_filling(rows, pad):
    longest = max(map(len, rows))
    tokens = torch.full((len(rows), longest), pad)
    mask, positions = torch.zeros_like(tokens), torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
        positions[i, longest - len(row) :] = torch.arange(len(row))
    return tokens, mask, positions


def padded_by_library(rows, pad):
    tokens = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad, padding_side="left")
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True, padding_side="left")
    return tokens, mask, torch.cumsum(mask, 1).sub(1).relu()


def padded_by_columns(rows, pad):
    lengths = torch.tensor([len(row) for row in rows])
    T = int(lengths.max())
    positions = torch.arange(T)[None] - (T - lengths)[:, None]
    mask = (positions >= 0).long()
    tokens = [[row[p] if p >= 0 else pad for p in places] for row, places in zip(rows, positions.tolist(), strict=True)]
    return torch.tensor(tokens), mask, positions * mask


def padded_by_flipping(rows, pad):
    right = pad_sequence([torch.tensor(row[::-1]) for row in rows], batch_first=True, padding_value=pad)
    mask = torch.arange(right.shape[1]) < torch.tensor([[len(row)] for row in rows])
    mask = mask.flip(1).int()
    return [right.flip(1), mask, (mask.cumsum(1) - mask)]


def bytes_by_product(model, length, batch, each, training):
    kept = torch.Size([2, model["layers"], batch, model["kv_heads"], length, model["d_head"]]).numel()
    numbers = [model["parameters"]] * 4 if training else [model["parameters"], kept]
    return each * sum(numbers)


def bytes_by_parts(model, length, batch, each, training):
    weights = model["parameters"] * each
    if training:
        gradients, first_moment, second_moment = weights, weights, weights
        return weights + gradients + first_moment + second_moment
    total = weights
    for _ in range(model["layers"]):
        for _ in ("key", "value"):
            total += batch * length * model["kv_heads"] * model["d_head"] * each
    return total


def bytes_by_numpy(model, length, batch, each, training):
    cache = np.prod([2, model["layers"], batch, length, model["kv_heads"], model["d_head"]])
    return np.dot([1 + 3 * training, 1 - training], [model["parameters"], cache]) * each


def broken_by_table(card, needs):
    checks = {
        "task": needs["task"] in card["tasks"],
        "language": needs["language"] in card["languages"],
        "context": needs["length"] <= card["context"],
        "licence": card["commercial"] or not needs["commercial"],
        "memory": card["parameters"] * needs["each"] <= needs["memory"],
        "privacy": not (card["hosted"] and needs["private"]),
    }
    return [name for name, holds in checks.items() if not holds]


def broken_by_sets(card, needs):
    found = {"task": {needs["task"]} - card["tasks"], "language": {needs["language"]} - card["languages"]}
    found["context"] = range(card["context"], needs["length"])
    found["licence"] = card["commercial"] < needs["commercial"]
    found["memory"] = max(0, card["parameters"] - needs["memory"] / needs["each"])
    found["privacy"] = needs["private"] & card["hosted"]
    return list(filter(found.get, found))


def broken_by_removal(card, needs):
    left = ["task", "language", "context", "licence", "memory", "privacy"]
    if needs["task"] in card["tasks"]:
        left.remove("task")
    if needs["language"] in card["languages"]:
        left.remove("language")
    if not card["context"] < needs["length"]:
        left.remove("context")
    if not needs["commercial"] or card["commercial"]:
        left.remove("licence")
    if needs["memory"] // needs["each"] >= card["parameters"]:
        left.remove("memory")
    if not card["hosted"] or not needs["private"]:
        left.remove("privacy")
    return left


RIGHT = {
    PredictCache: [512, 512.0, torch.tensor(512), np.int64(2**29 // 2**20)],
    MapAttention: [map_by_slices, map_by_einsum, map_by_split],
    ReadTheConfig: [settings_by_table, settings_by_defaults, settings_by_cases],
    PadOnTheLeft: [padded_by_filling, padded_by_library, padded_by_columns, padded_by_flipping],
    CountTheBytes: [bytes_by_product, bytes_by_parts, bytes_by_numpy],
    BrokenConditions: [broken_by_table, broken_by_sets, broken_by_removal],
    ReadTheLicence: ["FCA", "CAF", "".join(sorted({"F", "A", "C"}))],
}
