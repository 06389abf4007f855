"""Whole models: tokens in, logits over the next token out, always of the same shape. A loss is another function.

Letters: B batch, N rows of a source (usually B), T positions, S source positions, C width of the model, V vocabulary.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmcourse.attention import KVCache, causal_mask, padding_mask
from llmcourse.bert import PreTrainingBert
from llmcourse.data import IGNORED
from llmcourse.files import read_text, write_atomically
from llmcourse.transformer import (
    Decoder,
    Encoder,
    TokenEmbedding,
    TransformerBlock,
    TransformerConfig,
    check_length,
    check_tokens,
    initialise,
    last_norm,
    positions_mask,
)
from llmcourse.weights import load_tensors, load_weights, save_tensors


class NGram(nn.Module):
    """The model that counts: how often did each token follow the last n - 1 tokens, plus k of everything.

    n = 1 ignores the past (a unigram model), n = 2 looks at one token (a bigram model). Its logits are log
    probabilities, so it is scored by the same loss as a Transformer. Source: Chen & Goodman (1999), section 2.
    """

    def __init__(self, n_vocab: int, *, n: int = 2, k: float = 1.0) -> None:
        super().__init__()
        if n_vocab < 1:
            raise ValueError(f"n_vocab={n_vocab}: a table needs at least 1 token")
        if n not in (1, 2):
            raise ValueError(f"n={n}: this table holds unigrams (n=1) and bigrams (n=2)")
        if k <= 0:
            raise ValueError(
                f"k={k}: a pair that was never seen would get probability 0 and an infinite loss; use k > 0"
            )
        self.n, self.k = n, k
        self.register_buffer("counts", torch.zeros(n_vocab if n == 2 else 1, n_vocab))

    def fit(self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> "NGram":
        """Add these pairs to the table; targets of -100 (padding) do not count. Returns the model itself.

        Raises ValueError for a token that is not in the vocabulary.
        """
        counted = targets != IGNORED
        check_tokens(tokens, self.counts.shape[-1])
        check_tokens(targets[counted][None], self.counts.shape[-1])
        rows = tokens[counted] if self.n == 2 else torch.zeros_like(tokens[counted])
        ones = torch.ones(rows.shape, device=rows.device)
        self.counts.index_put_((rows, targets[counted]), ones, accumulate=True)
        return self

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """log P(next token), from the counts alone. Raises ValueError for a token that is not in the vocabulary."""
        check_tokens(tokens, self.counts.shape[-1])
        smoothed = self.counts + self.k
        logits = (smoothed / smoothed.sum(dim=-1, keepdim=True)).log()
        return logits[tokens if self.n == 2 else torch.zeros_like(tokens)]


class GPT(nn.Module):
    """A decoder-only Transformer: every token predicts the next one from itself and what came before it.

    Embedding, blocks, a last norm, and a linear head. Source: Radford et al. (2018; 2019), with rotary positions
    by default.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(config)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.norm = last_norm(config)
        self.head = nn.Linear(config.d_model, config.n_vocab, bias=False)
        initialise(self, config)
        if config.tied:
            self.head.weight = self.embedding.tokens.weight

    def new_cache(self) -> list[KVCache]:
        """An empty cache, one part a layer, to pass to `forward` while generating."""
        return [KVCache() for _ in self.blocks]

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        cache: list[KVCache] | None = None,
        padding: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token that follows each position.

        With a cache, `tokens` are the new ones only; what came before them is remembered. `padding` says how many tokens
        at the left of each row only fill it up, so that prompts of unequal length end together: nobody looks at them,
        and the token after them has place 0. Raises ValueError when the sequence outgrows the context or a token is not
        in the vocabulary.
        """
        return self.read(self.embed(tokens, cache, padding), cache, padding)

    def embed(
        self,
        tokens: Int[Tensor, "B T"],
        cache: list[KVCache] | None = None,
        padding: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """What enters the first block: the tokens, checked, as rows of numbers at their places."""
        start = len(cache[0]) if cache else 0
        check_tokens(tokens, self.config.n_vocab)
        check_length(start + tokens.shape[-1], self.config.context)
        return self.embedding(tokens, start, padding)

    def read(
        self,
        x: Float[Tensor, "B T C"],
        cache: list[KVCache] | None = None,
        padding: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits for what `embed` gives, which may have been changed on the way."""
        return self.head(self.norm(self.stream(x, cache, padding)))

    def stream(
        self,
        x: Float[Tensor, "B T C"],
        cache: list[KVCache] | None = None,
        padding: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The residual stream after the last block, before the last norm."""
        start, T = len(cache[0]) if cache else 0, x.shape[-2]
        mask = causal_mask(T, start + T, device=x.device) if T > 1 else None  # the newest token alone may look anywhere
        if padding is not None:
            filled = torch.arange(start + T, device=x.device) >= padding[:, None, None, None]
            mask = filled if mask is None else mask & filled
        mask = positions_mask(self.config, mask, T, start + T, x.device)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask=mask, cache=cache[layer] if cache else None)
        return x


# The GPT line. GPT-1 is post-norm, as the original; the published GPT-2 small is called 117M in the paper, and counts 124M.
_GPT = {"positions": "learned", "activation": "gelu_tanh", "tied": True, "dropout": 0.1}
GPT_1 = TransformerConfig(
    **_GPT, n_vocab=40_478, context=512, d_model=768, n_heads=12, n_layers=12, norm_place="post"
)  # Radford et al. (2018)
GPT_2 = {
    name: TransformerConfig(**_GPT, n_vocab=50_257, context=1024, d_model=d_model, n_heads=n_heads, n_layers=n_layers)
    for name, d_model, n_heads, n_layers in (
        ("small", 768, 12, 12), ("medium", 1024, 16, 24), ("large", 1280, 20, 36), ("xl", 1600, 25, 48),
    )
}  # fmt: skip  # Radford et al. (2019), table 2
GPT_3 = TransformerConfig(
    **_GPT, n_vocab=50_257, context=2048, d_model=12_288, n_heads=96, n_layers=96
)  # Brown et al. (2020), table 2.1; its sparse layers have the same parameters


class EncoderDecoder(nn.Module):
    """The original Transformer: an encoder reads the source, a decoder writes the target and looks back at it.

    With `config.n_source` the source has a vocabulary and an embedding of its own; without, both share one. Padding of
    either side is the token `config.pad`. Source: Vaswani et al. (2017).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(config)
        self.source_embedding = TokenEmbedding(config, config.n_source) if config.n_source else self.embedding
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.head = nn.Linear(config.d_model, config.n_vocab, bias=False)
        initialise(self, config)
        if config.tied:
            self.head.weight = self.embedding.tokens.weight

    def new_cache(self) -> list[tuple[KVCache, KVCache]]:
        """An empty cache for `decode`: for each block one of the target's past and one of the source."""
        return [(KVCache(), KVCache(makes_room=False)) for _ in self.decoder.blocks]

    def encode(self, source: Int[Tensor, "B S"]) -> Float[Tensor, "B S C"]:
        """What the encoder makes of the source, to be passed to `decode`."""
        S = source.shape[-1]
        check_tokens(source, self.config.n_source or self.config.n_vocab)
        check_length(S, self.config.context)
        mask = positions_mask(self.config, self._not_padding(source), S, S, source.device)
        return self.encoder(self.source_embedding(source), mask)

    def decode(
        self,
        tokens: Int[Tensor, "B T"],
        memory: Float[Tensor, "N S C"],
        source: Int[Tensor, "N S"],
        cache: list[tuple[KVCache, KVCache]] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the target token that follows each position; the source says where the memory is padding.

        With a cache, `tokens` are the new ones only. Neighbouring rows of tokens may share a row of memory and source.
        """
        start, T = len(cache[0][0]) if cache else 0, tokens.shape[-1]
        check_tokens(tokens, self.config.n_vocab)
        check_length(start + T, self.config.context)
        mask = causal_mask(T, start + T, device=tokens.device) if T > 1 else None
        mask = positions_mask(self.config, mask, T, start + T, tokens.device)
        x = self.embedding(tokens, start)
        x = self.decoder(x, memory, mask=mask, memory_mask=self._not_padding(source), cache=cache)
        return self.head(x)

    def forward(self, source: Int[Tensor, "B S"], tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Logits of the target token that follows each position of `tokens`, given the whole source."""
        return self.decode(tokens, self.encode(source), source)

    def _not_padding(self, source: Int[Tensor, "B S"]) -> Bool[Tensor, "B 1 1 S"] | None:
        """None where there is no padding: a mask that hides nothing would still be read by every layer."""
        if self.config.pad is None:
            return None
        mask = padding_mask(source, self.config.pad)
        return None if mask.all() else mask


# The two models of Vaswani et al. (2017), table 3: one vocabulary of 37,000 tokens, one matrix for both embeddings and the
# output. The paper counts 65 and 213 million parameters for them.
_ORIGINAL = {
    "n_vocab": 37_000, "context": 512, "n_layers": 6, "positions": "sinusoidal", "norm_place": "post",
    "activation": "relu", "tied": True, "scaled_embedding": True,
}  # fmt: skip
TRANSFORMER_BASE = TransformerConfig(**_ORIGINAL, d_model=512, n_heads=8, d_feed_forward=2048, dropout=0.1)
TRANSFORMER_BIG = TransformerConfig(**_ORIGINAL, d_model=1024, n_heads=16, d_feed_forward=4096, dropout=0.3)


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model has, frozen or not; a matrix used in two places counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


# What `config.json` may name.
KINDS = {"GPT": GPT, "EncoderDecoder": EncoderDecoder, "PreTrainingBert": PreTrainingBert}


def save_model(model: nn.Module, folder: Path | str, dtype: torch.dtype | None = None) -> None:
    """Write `config.json` and `model.safetensors` into the folder, each whole or not at all.

    dtype: round the weights to it (torch.float16 halves the file); `load_model` gives them back as float32.
    Raises ValueError when a weight is too large for it or no number, and for a model of another kind than `load_model` knows.
    """
    folder = Path(folder)
    _check_loads_again(model)
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype} has no fractions; use torch.float16 or torch.bfloat16, or quantise the model")
    if lost := [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]:
        raise ValueError(f"{', '.join(lost)} holds numbers that are not finite; the training of this model has failed")
    weights = {name: weight.to(dtype or weight.dtype) for name, weight in model.state_dict().items()}
    too_large = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if dtype and too_large:
        raise ValueError(f"{', '.join(too_large)} holds numbers that {dtype} cannot; store the model without `dtype`")
    save_tensors(folder / "model.safetensors", weights)
    description = {"kind": type(model).__name__} | asdict(model.config)
    write_atomically(folder / "config.json", json.dumps(description, indent=2).encode())


def _check_loads_again(model: nn.Module) -> None:
    kind = KINDS.get(type(model).__name__)
    if kind is not type(model):
        raise ValueError(
            f"{type(model).__name__} is none of the kinds that load_model makes ({', '.join(KINDS)}); "
            "save its weights alone, by weights.save_tensors(path, model.state_dict())"
        )
    with torch.device("meta"):
        anew = kind(model.config).state_dict().keys()
    if added := model.state_dict().keys() ^ anew:
        raise ValueError(
            f"{min(added)} is no part that this model's config makes; merge or take out what was added, or save the weights "
            "alone, by weights.save_tensors(path, model.state_dict())"
        )


def load_model(folder: Path | str) -> nn.Module:
    """The model that `save_model` wrote, ready to use. Raises ValueError when a file is missing or of another model."""
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).exists():
            raise ValueError(f"{folder} holds no {name}; make a model with `python -m llmcourse train --out {folder}`")
    try:
        description = json.loads(read_text(folder / "config.json"))
        kind = KINDS[description.pop("kind", "GPT")]
        config = TransformerConfig(**description)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / 'config.json'} does not describe a model of this course ({error}); give a folder that save_model wrote"
        ) from None
    model = kind(config)
    load_weights(model, load_tensors(folder / "model.safetensors")[0], folder / "model.safetensors")
    return model.eval()
