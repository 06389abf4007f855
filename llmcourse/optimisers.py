"""Optimisers: AdamW for everything, or Muon for the matrices of the blocks and AdamW for the rest.

AdamW (Loshchilov & Hutter, 2019) scales each number's step by that number's own history. Muon (Jordan et al., 2024) looks
at a matrix as a whole: it takes the average gradient, a sum of patterns of very unequal strength, and makes all of them
about equally strong (it *orthogonalises* the matrix, by a few rounds of Newton and Schulz's iteration) before it steps.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from llmcourse.transformer import TransformerBlock

OptimiserName = Literal["adamw", "muon"]
OPTIMISERS = get_args(OptimiserName)


def block_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The matrices inside the model's Transformer blocks: what Muon is for. No embedding, no head, no bias, no norm."""
    blocks = (module for module in model.modules() if isinstance(module, TransformerBlock))
    return {parameter for block in blocks for parameter in block.parameters() if parameter.dim() == 2}


def build_optimisers(
    model: nn.Module,
    name: OptimiserName,
    *,
    rate_share: Callable[[str], float],
    weight_decay: float,
    betas: tuple[float, float],
) -> list[torch.optim.Optimizer]:
    """The optimisers of a model's parameters, each of which one of them holds; their rates are set before every step.

    Matrices are decayed; biases and norms, which are vectors, are not. rate_share: of a parameter's name, the share of
    the learning rate at which it learns, kept in its group. Muon's step is scaled by 0.2 √(longer side), which makes
    it about as long as a step of AdamW, so that one rate and one decay serve both (Liu et al., 2025, section 2.2).
    Raises ValueError when there is no block for Muon to work on.
    """
    by_muon = block_matrices(model) if name == "muon" else set()
    if name == "muon" and not by_muon:
        raise ValueError(
            f"optimiser='muon' is for the matrices of Transformer blocks, and {type(model).__name__} has none; use 'adamw'"
        )
    for_muon: dict[tuple[float, float], list[nn.Parameter]] = {}
    for_adamw: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter_name, parameter in model.named_parameters():
        decay = weight_decay if parameter.dim() >= 2 else 0.0
        groups = for_muon if parameter in by_muon else for_adamw
        groups.setdefault((rate_share(parameter_name), decay), []).append(parameter)
    built: list[torch.optim.Optimizer] = []
    if for_adamw:
        # Fused: one pass over each parameter's numbers in place of a dozen.
        built.append(torch.optim.AdamW(_settings(for_adamw), betas=betas, fused=True))
    if for_muon:
        built.append(_muon(_settings(for_muon)))
    return built


def _settings(groups: Mapping[tuple[float, float], list[nn.Parameter]]) -> list[dict]:
    return [
        {"params": parameters, "rate_share": share, "weight_decay": decay}
        for (share, decay), parameters in groups.items()
    ]


def _muon(groups: list[dict]) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimiser='muon' needs torch 2.9 or newer, and this is {torch.__version__}; use 'adamw'")
    return torch.optim.Muon(groups, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw")


def state_tensors(optimisers: Iterable[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What the optimisers remember of past gradients, by a name that says which optimiser, which parameter and what."""
    return {
        f"{number}.{index}.{part}": tensor
        for number, optimiser in enumerate(optimisers)
        for index, state in optimiser.state_dict()["state"].items()
        for part, tensor in state.items()
    }


def load_state_tensors(
    optimisers: Sequence[torch.optim.Optimizer],
    tensors: Mapping[str, Tensor],
    placed_like: Callable[[Tensor, Tensor], Tensor] = lambda tensor, parameter: tensor,
) -> None:
    """Give the optimisers back what `state_tensors` took from them; what they held before is forgotten.

    placed_like: of a tensor and the parameter it belongs to, the part of the tensor that this process keeps.
    """
    states: dict[int, dict[int, dict[str, Tensor]]] = {}
    held = [[one for group in optimiser.param_groups for one in group["params"]] for optimiser in optimisers]
    for name, tensor in tensors.items():
        number, index, part = name.split(".")
        parameter = held[int(number)][int(index)]
        kept = placed_like(tensor, parameter)
        if kept.shape == parameter.shape and kept.stride() != parameter.stride():
            # A fused optimiser walks through memory, so what it remembers lies as the parameter does.
            kept = torch.empty_like(parameter, dtype=kept.dtype).copy_(kept)
        states.setdefault(int(number), {}).setdefault(int(index), {})[part] = kept
    for number, optimiser in enumerate(optimisers):
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": states.get(number, {}), "param_groups": groups})
