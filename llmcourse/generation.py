"""Generation: from a model's logits to text, one token at a time.

Letters: B batch, T positions, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.attention import KVCache
from llmcourse.models import GPT
from llmcourse.transformer import check_rows


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How `generate` picks the next token."""

    temperature: float = 1.0  # 0 is greedy; below 1 sharpens the distribution, above 1 flattens it
    top_k: int | None = None  # keep the k likeliest tokens; None keeps all
    top_p: float | None = None  # keep the likeliest tokens until they hold this much probability; None keeps all
    min_p: float | None = None  # keep tokens that are at least this share as likely as the likeliest; None keeps all
    repetition_penalty: float = 1.0  # above 1 makes tokens that were already said less likely
    stop: tuple[int, ...] = ()  # tokens after which a row says nothing more
    seed: int | None = None  # the same seed draws the same tokens; None draws from torch's own state

    def __post_init__(self) -> None:
        for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
            value, kind = getattr(self, name), Integral if name == "top_k" else Real
            if not isinstance(value, kind) and (value is not None or name in ("temperature", "repetition_penalty")):
                raise TypeError(
                    f"{name}={value!r} is no {'whole ' * (name == 'top_k')}number; leave it out to go without"
                )
        if not self.temperature >= 0:
            raise ValueError(f"temperature={self.temperature} is not 0 or above; use 0 for greedy decoding")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} keeps no token; use at least 1, or None to keep all")
        for name in ("top_p", "min_p"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name}={share} is a share of probability: above 0, at most 1")
        if not self.repetition_penalty >= 1:
            raise ValueError(f"repetition_penalty={self.repetition_penalty} is below 1; 1 is off, 1.2 is usual")


def next_token_probabilities(logits: Float[Tensor, "*batch V"], config: SamplingConfig) -> Float[Tensor, "*batch V"]:
    """The distribution that the next token is drawn from: temperature, then top-k, top-p, min-p, summing to 1.

    The likeliest token always stays. Sources: top-p, Holtzman et al. (2020); min-p, Nguyen et al. (2024).
    """
    if config.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
    probabilities = (logits / config.temperature).softmax(dim=-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if config.top_k is not None:
        keep[..., config.top_k :] = False
    if config.top_p is not None and config.top_p < 1:  # a sum may round to 1 before the last token
        kept = ordered * keep
        kept = kept / kept.sum(dim=-1, keepdim=True)
        # A token stays when those before it have not yet reached top_p: the one that crosses the line is kept.
        keep &= kept.cumsum(dim=-1) - kept < config.top_p
    if config.min_p is not None:
        keep &= ordered >= config.min_p * ordered[..., :1]
    ordered = ordered * keep
    return torch.zeros_like(probabilities).scatter(-1, order, ordered / ordered.sum(dim=-1, keepdim=True))


def penalise_repetition(logits: Float[Tensor, "B V"], said: Int[Tensor, "B T"], penalty: float) -> Float[Tensor, "B V"]:
    """Lower the logits of what was said: positive ones are divided by the penalty, negative ones multiplied by it.

    Source: Keskar et al., CTRL (2019), section 4.1, who divide all; a negative one would then become likelier.
    """
    scores = logits.gather(-1, said)
    return logits.scatter(-1, said, torch.where(scores > 0, scores / penalty, scores * penalty))


def generate(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    n_new: int,
    config: SamplingConfig | None = None,
    *,
    padding: Int[Tensor, "B"] | None = None,
) -> Int[Tensor, "B T_new"]:
    """The tokens followed by `n_new` more, each drawn from the model's own prediction; fewer when every row has stopped.

    padding: how many tokens at the left of each row only fill it up (see `data.pad_left`).

    A row that has said one of `config.stop` is filled up with it. When the context is full, the model goes on from the
    last half of it. Raises ValueError when the prompt is empty or alone is longer than the context.
    """
    return torch.cat([tokens, *(new[:, None] for new in stream(model, tokens, n_new, config, padding=padding))], dim=-1)


def stream(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    n_new: int,
    config: SamplingConfig | None = None,
    *,
    padding: Int[Tensor, "B"] | None = None,
) -> Iterator[Int[Tensor, "B"]]:
    """The new tokens of `generate`, as soon as each is there; it ends early when every row has stopped."""
    check_rows(tokens)
    if not isinstance(n_new, Integral) or n_new < 0:
        raise ValueError(f"n_new={n_new!r} is how many tokens to add: give a whole number, 0 or above")
    if tokens.shape[-1] == 0:
        raise ValueError("the prompt is empty; give at least one token to begin from")
    context = model.config.context
    if tokens.shape[-1] > context:
        raise ValueError(
            f"the prompt has {tokens.shape[-1]} tokens and this model's context holds {context}; cut it, say to its end"
        )
    if padding is not None and len(padding) != len(tokens):
        raise ValueError(f"padding={padding.tolist()}: give one number for each of the {len(tokens)} rows")
    if padding is not None and not 0 <= int(padding.min()) <= int(padding.max()) < tokens.shape[-1]:
        raise ValueError(
            f"padding={padding.tolist()}: each row of {tokens.shape[-1]} tokens needs at least one that is no padding"
        )
    return _stream(model, tokens, n_new, config or SamplingConfig(), padding)


def _stream(
    model: nn.Module, tokens: Tensor, n_new: int, config: SamplingConfig, padding: Tensor | None
) -> Iterator[Tensor]:
    model.eval()
    context, generator = model.config.context, None
    if config.seed is not None:
        generator = torch.Generator(device=tokens.device).manual_seed(config.seed)
    stop = torch.tensor(config.stop, dtype=tokens.dtype, device=tokens.device)
    stopped = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    cache, new, cut = model.new_cache(), tokens, 0  # cut: how many columns at the left the model no longer reads
    with parts_at_hand(model):
        for _ in range(n_new):
            if len(cache[0]) + new.shape[-1] > context:
                cut = tokens.shape[-1] - max(1, context // 2)
                cache, new = model.new_cache(), tokens[:, cut:]
            logits = _last_logits(model, new, cache, None if padding is None else (padding - cut).clamp(min=0))
            if config.repetition_penalty != 1:
                logits = penalise_repetition(logits, _without(tokens, padding), config.repetition_penalty)
            new = _drawn(logits, config, generator)
            if config.stop:
                new = torch.where(stopped[:, None], tokens[:, -1:], new)
                stopped |= torch.isin(new[:, 0], stop)
            tokens = torch.cat([tokens, new], dim=-1)
            yield new[:, 0]
            if config.stop and stopped.all():
                return


@contextmanager
def parts_at_hand(model: nn.Module) -> Iterator[None]:
    """While this lasts, Python finds the layers and weights of the model at once: a text is written a sixth faster.

    torch keeps them in dictionaries of its own, and looks there only when Python has found no attribute of that name. That
    takes 0.4 us, which a token of six layers pays 180 times. Here they are attributes too. Results, hooks and names stay;
    another layer or weight that is put in the place of one counts from then on.
    """
    held = [(vars(module), module._parameters | module._modules) for module in model.modules()]
    for attributes, parts in held:
        attributes.update(parts)
    try:
        yield
    finally:
        for attributes, parts in held:
            for name, part in parts.items():
                if attributes.get(name, held) is part:  # and not what was put there meanwhile
                    del attributes[name]


@torch.inference_mode()  # not on `_stream`: a generator runs when whatever stands around its definition is over
def _last_logits(
    model: nn.Module, new: Int[Tensor, "B T"], cache: list, padding: Int[Tensor, "B"] | None
) -> Float[Tensor, "B V"]:
    return (model(new, cache) if padding is None else model(new, cache, padding))[:, -1]


def _drawn(
    logits: Float[Tensor, "B V"], config: SamplingConfig, generator: torch.Generator | None
) -> Int[Tensor, "B 1"]:
    """The next token of each row: of a greedy choice no distribution has to be made."""
    if config.temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial(next_token_probabilities(logits, config), 1, generator=generator)


def _without(tokens: Tensor, padding: Tensor | None) -> Tensor:
    """The tokens with each padding one replaced by the row's last token, which was said anyway."""
    if padding is None:
        return tokens
    fills = torch.arange(tokens.shape[-1], device=tokens.device) < padding[:, None]
    return torch.where(fills, tokens[:, -1:], tokens)


def columns_first(model: nn.Module) -> nn.Module:
    """Lay the matrices of a model's Linear layers out column by column in memory, and return the model: it writes faster.

    A processor multiplies such a matrix by one row of numbers, or by a few, in less time: it adds up whole columns, each
    times one number, where row by row every result is a sum of its own. Shapes, names and training stay as they are, and
    results but for rounding. Matrices in 16 bits are left alone, whose products are faster row by row. Not in the midst of a
    training: what an optimiser remembers would lie in the old way.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.weight.dtype == torch.float32:
            layer.weight.data = layer.weight.data.t().contiguous().t()
    return model


class OneRowLinear(nn.Module):
    """A Linear layer that torch.compile finds written as the product of a matrix and a row, where there is a single row.

    The program that is made of this form reads each weight once, in order; a library's product is made for many rows, and
    reads them at half that speed. The layer has the weights of the one that it replaces, under the same names.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.weight.data = self.weight.data.contiguous()  # row by row, whatever `columns_first` did

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """x times the matrix, plus the bias."""
        if not torch.compiler.is_compiling() or x.numel() != x.shape[-1]:
            return F.linear(x, self.weight, self.bias)
        # A view of given strides needs memory to be a view of: x is stored, and not computed anew for each row of the matrix.
        row = x.contiguous().as_strided((x.shape[-1],), (1,))
        y = torch.mv(self.weight, row).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


class CompiledSteps(nn.Module):
    """A GPT that writes a single text faster: one program, made by torch.compile, takes it from a token to the next logits.

    Pass it to `generate` in the model's place. The tokens are the model's own, but for rounding. The program is made while
    the first text is written, which takes some ten seconds and a C++ compiler. What is not a step of one row (the prompt,
    several rows, a step for which a cache must make room, anything that needs gradients) is the model's own work.
    The model's Linear layers are replaced by `OneRowLinear`; it computes and trains as before. Raises TypeError for
    anything that is not a GPT.
    """

    def __init__(self, model: GPT) -> None:
        super().__init__()
        if not isinstance(model, GPT) or type(model).forward is not GPT.forward:
            raise TypeError(
                f"CompiledSteps takes a GPT, not {type(model).__name__}; give it the GPT alone, and put the rest around it"
            )
        for name, layer in list(model.named_modules()):
            if type(layer) is nn.Linear:
                model.set_submodule(name, OneRowLinear(layer))
        self.model, self.config = model, model.config
        # `dynamic`: the length of the cache is a number in the program; without it each length would be one more program.
        # What the program makes itself needs no second look at its sizes, which would take a tenth of a small model's step.
        self._read = torch.compile(model.read, dynamic=True, options={"size_asserts": False})

    def new_cache(self) -> list[KVCache]:
        """The model's own."""
        return self.model.new_cache()

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        cache: list[KVCache] | None = None,
        padding: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """The model's logits."""
        single = tokens.numel() == 1 and padding is None and not (self.training or torch.is_grad_enabled())
        # The last place of a store is left to the model: a full store is contiguous, which would take one more program.
        if single and cache and cache[0].room > 1:
            return self._read(self.model.embed(tokens, cache), cache)
        return self.model(tokens, cache, padding)
