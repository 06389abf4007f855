"""Generation: from a model's logits to text, one token at a time.

Letters: B batch, T positions, V vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.transformer import check_rows

LARGE = 500_000  # numbers in a matrix from which a compiled product with one row was measured to be faster


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
    if config.top_p is not None:
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
    """The tokens followed by `n_new` more, each drawn from the model's own prediction.

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
    cache, new = model.new_cache(), tokens
    for _ in range(n_new):
        if len(cache[0]) + new.shape[-1] > context:
            cache, new = model.new_cache(), tokens[:, -max(1, context // 2) :]
            if padding is not None:
                padding = (padding - (tokens.shape[-1] - new.shape[-1])).clamp(min=0)
                tokens = new
        logits = _last_logits(model, new, cache, padding)
        if config.repetition_penalty != 1:
            logits = penalise_repetition(logits, _without(tokens, padding), config.repetition_penalty)
        drawn = _drawn(logits, config, generator)
        new = torch.where(stopped[:, None], tokens[:, -1:], drawn)
        stopped |= torch.isin(new[:, 0], stop)
        tokens = torch.cat([tokens, new], dim=-1)
        yield new[:, 0]
        if stopped.all():
            return


@torch.no_grad()  # not on `_stream`: a generator runs when whatever stands around its definition is over
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


class OneRowLinear(nn.Module):
    """A Linear layer that hands a single row to `product`, and computes more rows, or a gradient, as ever.

    It has the layer's own weights under the same names.
    """

    def __init__(self, linear: nn.Linear, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias, self.product = linear.weight, linear.bias, product

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """x times the matrix, plus the bias."""
        if torch.is_grad_enabled() or x.numel() != x.shape[-1]:
            return F.linear(x, self.weight, self.bias)
        y = self.product(self.weight.detach(), x.flatten()).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def compile_products(model: nn.Module) -> nn.Module:
    """Let the large Linear layers of the model multiply one row by a product that torch.compile makes; returns the model.

    A text that is generated alone gives each layer one row a token. The processor then waits for the weights, and the
    library's product reads them at half the speed that the memory allows. This one reads them in a single pass. It takes
    some seconds, once, when the first token is generated, and a C++ compiler. The model computes what it did before, but
    for rounding.
    """
    product = torch.compile(torch.mv)
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and layer.weight.numel() >= LARGE:
            model.set_submodule(name, OneRowLinear(layer, product))
    return model
