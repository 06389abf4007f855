"""Quantisation: a weight as a whole number of 8 or 4 bits times a scale, so that a model takes a quarter or an eighth.

    w ≈ scale · q,   q = round(w / scale),   scale = largest |w| / (2^(bits-1) - 1)

The grid is symmetric about 0. With one scale for each output channel, a row of the matrix, a large weight spoils only its
own row; with one for the whole matrix it spoils all. No w moves by more than scale / 2, so no output by more than
Σ|x| · scale / 2: see `output_bound`. Sources: Jacob et al. (2018), section 2; per channel, Dettmers et al. (2022).

What is stored is small; for a product the matrix is spread out to numbers of x's own type for a moment. The gain is in
memory, in the file, and on a device that waits for its memory.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

Bits = Literal[8, 4]
Per = Literal["channel", "tensor"]


def quantise_weight(
    weight: Float[Tensor, "out in"], bits: int = 8, per: Per = "channel"
) -> tuple[Int8[Tensor, "out in"], Float[Tensor, "out 1"]]:
    """The whole numbers and the scale of each row, in 32 bits; with per="tensor" all rows have the same.

    With a scale for each row, a row of zeros gets 1. Raises ValueError for other bits than 8 and 4, and for a weight that
    is not finite.
    """
    if bits not in (8, 4):
        raise ValueError(f"bits={bits}: weights are stored in 8 bits, or in 4, two to a byte")
    if per not in ("channel", "tensor"):
        raise ValueError(f"per={per!r}; use 'channel' for a scale for each row, or 'tensor' for one in all")
    if not weight.isfinite().all():
        raise ValueError("the weight holds a number that is not finite, and no scale can reach it")
    weight = weight.to(
        torch.promote_types(weight.dtype, torch.float32)
    )  # in 16 bits the grid's own end would be rounded
    largest = weight.abs().amax(dim=1, keepdim=True)
    if per == "tensor":
        largest = largest.amax().expand_as(largest)
    scale = (largest / (2 ** (bits - 1) - 1)).clone()
    scale[scale == 0] = 1.0
    most = 2 ** (bits - 1) - 1
    return (weight / scale).round().clamp(-most, most).to(
        torch.int8
    ), scale  # the scale of the tiniest numbers is coarse


def pack(numbers: Int8[Tensor, "out in"]) -> UInt8[Tensor, "out half"]:
    """Two numbers of -8 to 7 in each byte: columns 0, 2, ... in the low bits; an odd last one has 0 beside it."""
    low, high = F.pad(numbers, (0, numbers.shape[1] % 2)).unflatten(1, (-1, 2)).unbind(-1)
    return (low & 15).to(torch.uint8) | ((high & 15) << 4).view(torch.uint8)


def unpack(packed: UInt8[Tensor, "out half"], columns: int) -> Int8[Tensor, "out in"]:
    """What `pack` was given, of so many columns."""
    halves = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)[:, :columns].to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)


class QuantisedLinear(nn.Module):
    """A Linear layer whose matrix is stored as whole numbers and scales; its bias stays as it was. It does not learn."""

    def __init__(self, linear: nn.Linear, bits: int = 8, per: Per = "channel") -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits = linear.in_features, linear.out_features, bits
        numbers, scale = quantise_weight(linear.weight.detach(), bits, per)
        self.register_buffer("numbers", pack(numbers) if bits == 4 else numbers)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The matrix that the layer stands for, spread out."""
        numbers = unpack(self.numbers, self.in_features) if self.bits == 4 else self.numbers
        return numbers.to(self.scale.dtype) * self.scale

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """x times the rounded matrix, plus the bias."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)

    def output_bound(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """How far each output can be from the unrounded layer's: Σ|x| · scale / 2."""
        return x.abs().sum(dim=-1, keepdim=True) * self.scale[:, 0] / 2


def quantisable(model: nn.Module, keep: tuple[str, ...] = ()) -> list[str]:
    """The names of the Linear layers that `quantise` replaces.

    Left as they are: embeddings, which are looked up and not multiplied; a layer that shares its matrix with another part
    (a tied output: the embedding needs the full matrix anyway, and a rounded second one would only add to the memory); and
    the parts named in `keep`. Raises ValueError when `keep` names no part.
    """
    names = [name for name, _ in model.named_modules()]
    for part in keep:
        if part not in names:
            raise ValueError(f"keep names {part!r}, and {type(model).__name__} has no such part")
    owners: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[parameter] = owners.get(parameter, 0) + 1
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and owners[module.weight] == 1
        and not any(f"{name}.".startswith(f"{part}.") for part in keep)
    ]


def quantise(model: nn.Module, bits: int = 8, *, per: Per = "channel", keep: tuple[str, ...] = ()) -> nn.Module:
    """A copy of the model, ready to use, whose Linear layers are quantised; the model itself stays as it is.

    keep: parts to leave in full, such as ("head",). Which layers are meant, and which never: see `quantisable`.
    Raises ValueError when nothing is left to quantise.
    """
    names = quantisable(model, keep)
    if names == [""]:
        return QuantisedLinear(copy.deepcopy(model), bits, per).eval()
    if not names:
        raise ValueError(f"{type(model).__name__} has no Linear layer to quantise")
    rounded = copy.deepcopy(model).eval()
    for name in names:
        place, _, last = name.rpartition(".")
        setattr(rounded.get_submodule(place), last, QuantisedLinear(rounded.get_submodule(name), bits, per))
    return rounded


def stored_bytes(model: nn.Module) -> int:
    """The bytes of all that the model saves, a tensor that is used in two places counted once."""
    tensors = {(t.data_ptr() or id(t), t.shape, t.dtype): t for t in model.state_dict(keep_vars=True).values()}
    return sum(t.numel() * t.element_size() for t in tensors.values())
