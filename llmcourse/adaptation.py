"""Adaptation: make a pre-trained model do something else, by changing all of it, a part of it, or a little beside it.

Freezing; learning rates that fall layer by layer (Howard & Ruder, 2018); LoRA, a low-rank change of chosen matrices (Hu
et al., 2022); adapters, small bottlenecks between the layers (Houlsby et al., 2019).

All of it works on any model: parts are named as `named_modules` names them, and a name also stands for every part whose
name ends with it: "query" is the query projection of every attention layer.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def find_modules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The parts that the names stand for, by their full names.

    Raises ValueError for a name that stands for nothing: a typing error would otherwise change nothing, silently.
    """
    if isinstance(names, str):
        raise TypeError(f"names={names!r} is one text; give a list of names, [{names!r}]")
    parts = dict(model.named_modules())
    found = {name: [part for part in parts if part and (part == name or part.endswith(f".{name}"))] for name in names}
    for name, matches in found.items():
        if not matches:
            raise ValueError(
                f"{type(model).__name__} has no part {name!r}; its own parts are {_children(model)}: use these"
            )
    return {part: parts[part] for matches in found.values() for part in matches}


def _children(model: nn.Module) -> str:
    return ", ".join(name for name, _ in model.named_children()) or "none"


def freeze(model: nn.Module, *names: str) -> None:
    """Let training change nothing in these parts; without names, nothing in the whole model.

    A frozen part also computes the same while the rest trains as it does afterwards: its dropout stays off, so that
    what is learned above it is learned from what it will really say. Norms of this course know no training mode.
    Freeze before `train` is called. Parts that share a parameter with a frozen one lose it too.
    """
    for part in find_modules(model, names).values() if names else [model]:
        part.requires_grad_(False)
        for module in part.modules():
            if isinstance(module, nn.Dropout) and not hasattr(module, "kept_off"):
                module.kept_off = module.register_forward_pre_hook(_switch_off)


def _switch_off(module: nn.Module, inputs: tuple) -> None:
    """Undo, at the last moment, what `model.train()` did to a frozen part."""
    module.training = False


def unfreeze(model: nn.Module, *names: str) -> None:
    """Let training change these parts, or the whole model, again; from the next `model.train()` on their dropout works too."""
    for part in find_modules(model, names).values() if names else [model]:
        part.requires_grad_(True)
        for module in part.modules():
            if hasattr(module, "kept_off"):
                module.kept_off.remove()
                del module.kept_off


def count_trainable(model: nn.Module) -> int:
    """How many numbers training may change now; a matrix used in two places counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def layer_rates(layers: Sequence[str], decay: float) -> dict[str, float]:
    """Shares of the learning rate that fall by `decay` from layer to layer: `TrainConfig(rate_shares=...)` takes them.

    layers: their names from the bottom (the embedding) to the top. The top one gets `decay`, the one below it decay²,
        and what is not named, such as a new head, the whole rate.
    General features sit at the bottom, and are worth keeping. Source: Howard & Ruder (2018), section 3.2.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay={decay} must lie above 0 and at most at 1: lower layers learn more slowly")
    return {name: decay ** (len(layers) - depth) for depth, name in enumerate(layers)}


class LoRALinear(nn.Module):
    """base(x) + (alpha / rank) B A x: a frozen linear layer and a change of low rank beside it.

    `down` is A, of shape (rank, in), and starts at random; `up` is B, of shape (out, rank), and starts at zero. So the
    layer starts as it was, and both can learn: B's gradient passes through A, and is not zero.
    Source: Hu et al. (2022), section 4.1.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: int | float) -> None:
        super().__init__()
        if not 1 <= rank <= min(base.in_features, base.out_features):
            raise ValueError(
                f"rank={rank}: a matrix of {base.out_features} by {base.in_features} has a rank from 1 to "
                f"{min(base.in_features, base.out_features)}"
            )
        self.base = base.requires_grad_(False)
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.randn(rank, base.in_features, **like) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, **like))
        self.scale = alpha / rank
        self.merged = False
        self.train(base.training)

    def _load_from_state_dict(self, *args: Any) -> None:
        if self.merged:
            raise ValueError("the change is merged, and the weights would not fit it; call unmerge_lora(model) first")
        super()._load_from_state_dict(*args)

    def change(self) -> Float[Tensor, "out in"]:
        """What is added to the base's matrix: (alpha / rank) B A."""
        return self.scale * self.up @ self.down

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """The layer with its change; once merged, the base alone, which then holds it."""
        if not self.merged:
            return self.base(x) + self.scale * (x @ self.down.T) @ self.up.T
        if self.training and torch.is_grad_enabled() and self.up.requires_grad:
            raise ValueError("a merged change cannot be trained; call unmerge_lora(model) first")
        return self.base(x)


def add_lora(model: nn.Module, names: Sequence[str], rank: int, alpha: int | float) -> dict[str, LoRALinear]:
    """Freeze the model, and give the linear layers of these names a trainable change of rank `rank` each.

    To keep a new head trainable, give the part below it: `add_lora(classifier.encoder, ["query", "value"], 4, 8)`.
    alpha / rank scales the change: with alpha kept, another rank needs little new tuning of the learning rate (Hu et al.,
    2022, section 4.1). Returns the new layers.
    """
    found = find_modules(model, names)
    for name, layer in found.items():
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is a {type(layer).__name__}; LoRA changes linear layers that have none yet")
    added = {name: LoRALinear(layer, rank, alpha) for name, layer in found.items()}  # refuses a wrong rank first
    freeze(model)
    for name, layer in added.items():
        _replace(model, name, layer)
    return added


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def lora_layers(model: nn.Module) -> list[LoRALinear]:
    """The layers that `add_lora` put in. Raises ValueError when there is none."""
    layers = [module for module in model.modules() if isinstance(module, LoRALinear)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no LoRA layer; call add_lora first")
    return layers


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add every change into its base, so that using the model costs no more than before. Merging twice is once.

    Raises ValueError where the base's matrix also serves another part, as that of a tied head does: it would change too.
    """
    if strange := [layer for layer in lora_layers(model) if not isinstance(layer.base, nn.Linear)]:
        raise ValueError(f"a change cannot be added into a {type(strange[0].base).__name__}; merge it before you round")
    owners = Counter(map(id, (weight for _, weight in model.named_parameters(remove_duplicate=False))))
    if any(owners[id(layer.base.weight)] > 1 for layer in lora_layers(model)):
        raise ValueError(
            "a layer's matrix is also the embedding, which merging would change; keep the change beside it"
        )
    for layer in lora_layers(model):
        if not layer.merged:
            layer.base.weight += layer.change()
            layer.merged = True


@torch.no_grad()
def unmerge_lora(model: nn.Module) -> None:
    """Take every change out of its base again, to train on, or to put another one in."""
    for layer in lora_layers(model):
        if layer.merged:
            layer.base.weight -= layer.change()
            layer.merged = False


class Adapter(nn.Module):
    """x + up(gelu(down(x))): a narrow detour. `up` starts at zero, so that the adapter starts by changing nothing.

    Source: Houlsby et al. (2019), section 2.1.
    """

    def __init__(self, d_model: int, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width}: an adapter needs at least 1 number in its middle")
        self.down, self.up = nn.Linear(d_model, width), nn.Linear(width, d_model)
        nn.init.normal_(self.down.weight, std=1 / math.sqrt(d_model))
        nn.init.zeros_(self.down.bias), nn.init.zeros_(self.up.weight), nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """The same shape, and at first the same numbers."""
        return x + self.up(nn.functional.gelu(self.down(x)))


def add_adapters(model: nn.Module, width: int, names: Sequence[str] = ("out", "contract")) -> None:
    """Freeze the model, put an adapter behind each linear layer of these names, and let its norms learn.

    The default names are the last layers of attention and of the feed-forward network: each adapter works on what is
    about to be added to the residual stream: twice a block, as in the paper, and three times in one with cross-attention.
    """
    found = find_modules(model, names)
    for name, layer in found.items():
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is a {type(layer).__name__}; an adapter stands behind a linear layer")
    freeze(model)
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            module.requires_grad_(True)
    for name, layer in found.items():
        adapter = Adapter(layer.out_features, width).to(layer.weight)
        _replace(model, name, nn.Sequential(layer, adapter))
