"""Models of other libraries with our weights: the same mathematics, so the same loss.

Each function takes a GPT of the course (pre-norm, no bias in the attention, learned positions or rotary ones) and gives a
function from tokens to logits, as a module. The biases of the norms, which some of them do not have, must be 0 in ours.
"""

import math

import torch
from torch import Tensor, nn

from llmcourse.interop import describe, to_theirs
from llmcourse.models import GPT


def transformers_gpt2(model: GPT, attention: str = "sdpa") -> nn.Module:
    """The GPT-2 of `transformers`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2LMHeadModel(GPT2Config(**describe(model), attn_implementation=attention))
    theirs.load_state_dict(to_theirs(model))
    return theirs


class _Logits(nn.Module):
    """A model of theirs that gives more than logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).logits


def logits_of(model: nn.Module) -> nn.Module:
    """A model of `transformers`, giving its logits only."""
    return _Logits(model)


def x_transformer(model: GPT) -> nn.Module:
    """The decoder of `x-transformers` with its fused attention."""
    from x_transformers import Decoder, TransformerWrapper

    config = model.config
    decoder = Decoder(
        dim=config.d_model,
        depth=config.n_layers,
        heads=config.n_heads,
        attn_dim_head=config.d_model // config.n_heads,
        attn_flash=True,
    )
    theirs = TransformerWrapper(num_tokens=config.n_vocab, max_seq_len=config.context, attn_layers=decoder)
    weights = {
        "token_emb.emb.weight": model.embedding.tokens.weight,
        "pos_emb.emb.weight": model.embedding.positions.weight * math.sqrt(config.d_model),  # it divides by that
        "attn_layers.final_norm.gamma": model.norm.weight - 1,  # it adds that 1
        "to_logits.weight": model.head.weight,
    }
    for layer, block in enumerate(model.blocks):
        attend, feed = f"attn_layers.layers.{2 * layer}", f"attn_layers.layers.{2 * layer + 1}"
        weights[f"{attend}.0.0.gamma"] = block.attention_norm.weight - 1
        for ours, its in {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out"}.items():
            weights[f"{attend}.1.{its}.weight"] = getattr(block.attention, ours).weight
        weights[f"{feed}.0.0.gamma"] = block.feed_forward_norm.weight - 1
        for ours, its in {"expand": "0.0", "contract": "2"}.items():
            for kind in ("weight", "bias"):
                weights[f"{feed}.1.ff.{its}.{kind}"] = getattr(getattr(block.feed_forward, ours), kind)
    theirs.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()})
    return theirs


class TorchGPT(nn.Module):
    """A GPT of torch's own encoder layers under a causal mask."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        config = model.config
        self.tokens = nn.Embedding.from_pretrained(model.embedding.tokens.weight.detach().clone(), freeze=False)
        self.positions = nn.Embedding.from_pretrained(model.embedding.positions.weight.detach().clone(), freeze=False)
        layer = nn.TransformerEncoderLayer(
            config.d_model, config.n_heads, 4 * config.d_model, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )  # fmt: skip
        norm = nn.LayerNorm(config.d_model)
        self.encoder = nn.TransformerEncoder(layer, config.n_layers, norm, enable_nested_tensor=False)
        self.head = nn.Linear(config.d_model, config.n_vocab, bias=False)
        self.head.weight.data.copy_(model.head.weight)
        for theirs, ours in zip(self.encoder.layers, model.blocks, strict=True):
            copy_encoder_layer(theirs, ours)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        T = tokens.shape[-1]
        x = self.tokens(tokens) + self.positions(torch.arange(T))
        mask = nn.Transformer.generate_square_subsequent_mask(T)
        return self.head(self.encoder(x, mask=mask, is_causal=True))


def copy_attention(theirs: nn.MultiheadAttention, ours: nn.Module) -> None:
    """Our four projections into theirs, of which three are one matrix."""
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data.copy_(torch.cat([part.weight for part in parts]))
    theirs.out_proj.weight.data.copy_(ours.out.weight)
    if ours.out.bias is not None:
        theirs.in_proj_bias.data.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.bias.data.copy_(ours.out.bias)
    else:
        theirs.in_proj_bias.data.zero_()
        theirs.out_proj.bias.data.zero_()


def copy_encoder_layer(theirs: nn.TransformerEncoderLayer, ours: nn.Module) -> None:
    """A block of ours into a layer of theirs."""
    copy_attention(theirs.self_attn, ours.attention)
    pairs = (
        (theirs.norm1, ours.attention_norm),
        (theirs.norm2, ours.feed_forward_norm),
        (theirs.linear1, ours.feed_forward.expand),
        (theirs.linear2, ours.feed_forward.contract),
    )
    for target, source in pairs:
        target.load_state_dict(source.state_dict())


def lit_gpt(model: GPT) -> nn.Module:
    """The model of `litgpt`, for a GPT of ours with rotary positions."""
    from litgpt.config import Config
    from litgpt.model import GPT as LitGPT

    config = model.config
    theirs = LitGPT(
        Config(
            block_size=config.context,
            n_layer=config.n_layers,
            n_embd=config.d_model,
            n_head=config.n_heads,
            padded_vocab_size=config.n_vocab,
            vocab_size=config.n_vocab,
            parallel_residual=False,
            rotary_percentage=1.0,
        )
    )
    weights = {
        "lm_head.weight": model.head.weight,
        "transformer.wte.weight": model.embedding.tokens.weight,
        "transformer.ln_f.weight": model.norm.weight,
        "transformer.ln_f.bias": model.norm.bias,
    }
    for layer, block in enumerate(model.blocks):
        of = f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            parts = [
                getattr(part, kind) for part in (block.attention.query, block.attention.key, block.attention.value)
            ]
            weights[f"{of}.attn.qkv.{kind}"] = torch.cat(parts)
            weights[f"{of}.attn.proj.{kind}"] = getattr(block.attention.out, kind)
            weights[f"{of}.norm_1.{kind}"] = getattr(block.attention_norm, kind)
            weights[f"{of}.norm_2.{kind}"] = getattr(block.feed_forward_norm, kind)
            weights[f"{of}.mlp.fc.{kind}"] = getattr(block.feed_forward.expand, kind)
            weights[f"{of}.mlp.proj.{kind}"] = getattr(block.feed_forward.contract, kind)
    theirs.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()})
    return theirs
