"""Finding what a model computes with: scores that name a head's habit, and patches that test what it causes.

A score says where a head looks, a connection which head could hear which, a probe what could be read from a state. A
patch puts what a module said in one run into another run, and shows what follows
from it. Nothing is changed in place: the activations that are put in stay as they were, and so does the model.

Letters: B batch, H heads, T query positions, S key positions, C width of the model, D width of a head, N states.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmcourse.attention import DotProductAttention, MultiHeadAttention

NOWHERE = -1  # a position whose token did not occur before has no source


def previous_token_score(weights: Float[Tensor, "B H T S"]) -> Float[Tensor, "H"]:
    """How much each head looks at the token before: the mean weight from position t to t - 1, from the second on.

    Source: Elhage et al., A Mathematical Framework for Transformer Circuits (2021).
    """
    if weights.shape[-1] < 2:
        raise ValueError("a row of one token has no token before; score longer rows")
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, 2))


def induction_score(weights: Float[Tensor, "B H T S"], sources: Int[Tensor, "B T"]) -> Float[Tensor, "H"]:
    """How much each head looks one token after the previous occurrence of the token it stands on.

    sources: for each position that place, or -1 where the token did not occur before; these do not count.
    Source: Olsson et al., In-context Learning and Induction Heads (2022), who call it prefix matching. Raises ValueError
    when no token occurs twice.
    """
    counts = sources != NOWHERE
    if not counts.any():
        raise ValueError("no position has a source: no token occurs twice, so there is nothing to find")
    places = sources.clamp(min=0)[:, None, :, None].expand(*weights.shape[:3], 1)
    found = weights.gather(-1, places)[..., 0]
    return (found * counts[:, None]).sum(dim=(0, 2)) / counts.sum()


@torch.no_grad()
def key_connections(below: MultiHeadAttention, above: MultiHeadAttention) -> tuple[Float[Tensor, "above below"], float]:
    """How strongly what each head below writes into the stream reaches the keys of each head above; and a chance value.

    It is |K OV| / (|K| |OV|), with Frobenius norms: OV is what the lower head makes of the stream, value and `out`
    together, and K the upper head's key matrix. The chance value is what two random matrices of this width give,
    1 / sqrt(C). Norms and rotations of positions between the two are left out, so it is a hint, not a measurement.
    After Elhage et al., A Mathematical Framework for Transformer Circuits (2021): their K-composition has the product of
    query and key matrix where this has the key matrix alone.
    """
    C = below.out.weight.shape[0]
    values = below.value.weight.view(below.n_kv_heads, -1, C).repeat_interleave(
        below.n_heads // below.n_kv_heads, dim=0
    )
    writes = einsum(below.out.weight.view(C, below.n_heads, -1), values, "c h d, h d e -> h c e")
    keys = above.key.weight.view(above.n_kv_heads, -1, C).repeat_interleave(above.n_heads // above.n_kv_heads, dim=0)
    through = einsum(keys, writes, "a d c, b c e -> a b d e").norm(dim=(2, 3))
    sizes = keys.norm(dim=(1, 2))[:, None] * writes.norm(dim=(1, 2))
    return through / sizes.clamp(min=1e-12), C**-0.5  # a head that writes nothing is connected with nobody


def probe_accuracy(states: Float[Tensor, "N C"], labels: Bool[Tensor, "N"], n_train: int) -> float:
    """How often a linear probe reads a yes or no from states: fitted on the first n_train, judged on all others.

    The probe is a least-squares fit of +1 and -1, with a small ridge. Source: Alain & Bengio, Understanding Intermediate
    Layers Using Linear Classifier Probes (2016). Raises ValueError when nothing is left to judge it on.
    """
    if not 0 < n_train < len(states):
        raise ValueError(f"n_train is {n_train} of {len(states)}: keep some states to fit on, and others to judge on")
    inputs = torch.cat([states, torch.ones(len(states), 1)], dim=1)
    fitted, wanted = inputs[:n_train], labels[:n_train] * 2.0 - 1.0
    ridge = 1e-2 * torch.eye(inputs.shape[1])
    weights = torch.linalg.solve(fitted.T @ fitted + ridge, fitted.T @ wanted)
    return ((inputs[n_train:] @ weights > 0) == labels[n_train:]).float().mean().item()


def _module(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if not name or name not in modules:
        known = ", ".join(known for known in modules if known.count(".") < 3 and known)
        raise ValueError(f"there is no module {name!r}; this model has {known}")
    return modules[name]


def _watched(model: nn.Module, name: str, by_head: bool) -> nn.Module:
    """The module whose output is meant; of an attention layer by heads, the place where the heads are still apart."""
    module = _module(model, name)
    if not by_head:
        return module
    attend = getattr(module, "attend", None)
    if not isinstance(attend, DotProductAttention):
        raise ValueError(f"{name!r} has no heads; name an attention layer, such as 'blocks.0.attention'")
    return attend


@contextmanager
def record_outputs(model: nn.Module, names: Sequence[str], *, by_head: bool = False) -> Iterator[dict[str, Tensor]]:
    """Collect what modules say: `with record_outputs(model, ["blocks.0"]) as found: model(tokens)`.

    by_head: of attention layers, what each head read, (B, H, T, D), before `out` mixes them.
    """
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable:
        return lambda module, inputs, output: found.update({name: output.detach().clone()})

    handles = [_watched(model, name, by_head).register_forward_hook(watch(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def patch(
    model: nn.Module,
    activations: Mapping[str, Tensor],
    positions: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Iterator[None]:
    """While the block runs, named modules say what was recorded elsewhere.

    activations: what `record_outputs` collected, of the same shape as the module's output in this run; with `heads` it
        must have been collected `by_head`.
    positions: only there; None is everywhere. heads: only these.
    Raises ValueError for a module, a position or a head that is not there, and for another shape.
    Source: Vig et al., Investigating Gender Bias in Language Models Using Causal Mediation Analysis (2020); Meng et al.,
    Locating and Editing Factual Associations in GPT (2022).
    """

    def replace(name: str, other: Tensor) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
            if other.shape != output.shape:
                raise ValueError(f"{name!r} says {tuple(output.shape)} here, and {tuple(other.shape)} was recorded")
            places = _checked(positions, output.shape[-2], "position")
            chosen = output.clone()
            if heads is None:
                chosen[..., places, :] = other[..., places, :]
                return chosen
            for head in _checked(heads, output.shape[1], "head"):
                chosen[:, head, places] = other[:, head, places]
            return chosen

        return hook

    handles = [
        _watched(model, name, heads is not None).register_forward_hook(replace(name, other))
        for name, other in activations.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _checked(numbers: Sequence[int] | None, count: int, what: str) -> list[int]:
    chosen = list(range(count)) if numbers is None else list(numbers)
    if wrong := [number for number in chosen if not 0 <= number < count]:
        raise ValueError(f"there is no {what} {wrong[0]}: they are numbered 0 to {count - 1}")
    return chosen


@torch.no_grad()
def patch_effects(
    model: nn.Module,
    clean: Int[Tensor, "B T"],
    corrupt: Int[Tensor, "B S"],
    names: Sequence[str],
    measure: Callable[[Float[Tensor, "B T V"]], float],
) -> Float[Tensor, "names T"]:
    """How much of the clean answer comes back when one module at one position is patched, from clean to corrupt.

    measure: of a run's logits, larger for the clean answer: usually a difference of two logits. 0 means that the patch
    does nothing, 1 that it brings back all that the corruption took. Raises ValueError when the two runs measure the
    same, for then nothing is there to bring back.
    """
    if clean.shape != corrupt.shape:
        raise ValueError(
            f"clean is {tuple(clean.shape)} and corrupt {tuple(corrupt.shape)}; they must align by position"
        )
    with record_outputs(model, names) as found:
        best = measure(model(clean))
    worst = measure(model(corrupt))
    if best == worst:
        raise ValueError(f"both runs measure {best}: choose a pair that the model answers differently")
    effects = torch.zeros(len(names), clean.shape[1])
    for row, name in enumerate(names):
        for position in range(clean.shape[1]):
            with patch(model, {name: found[name]}, [position]):
                effects[row, position] = (measure(model(corrupt)) - worst) / (best - worst)
    return effects
