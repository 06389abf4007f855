"""A model made by hand, of which everything is known: what to try a tool on before it is trusted.

The two heads of Elhage et al., A Mathematical Framework for Transformer Circuits (2021), with weights written down
instead of learned. The residual stream has four rooms, and each part reads and writes whole rooms:

    token | place | token before | answer

Layer 0, head 0 looks one place back and writes that token into the third room. Layer 1, head 0 looks for the position
whose third room holds the present token, and writes the token that stands there into the answer.
"""

import torch
from torch import Tensor, nn

from llmcourse.models import GPT
from llmcourse.transformer import TransformerConfig

SHARP = 40.0  # a score difference after which softmax leaves nothing to the others


@torch.no_grad()
def induction_circuit(n_vocab: int = 6, context: int = 12) -> GPT:
    """A GPT of two layers and two heads that repeats what followed the same token before; no feed-forward, no norm.

    Head 1 of layer 0 is a decoy: it gives all its attention to the first token, and what it reads is thrown away. Head
    1 of layer 1 is idle: it looks everywhere evenly and writes nothing.
    """
    if n_vocab < 2 or context < 2:
        raise ValueError(f"n_vocab={n_vocab}, context={context}: to repeat takes at least 2 of each")
    d_model = 2 * max(n_vocab + 1, context, (3 * n_vocab + context + 1) // 2)
    model = GPT(
        TransformerConfig(
            n_vocab=n_vocab,
            context=context,
            d_model=d_model,
            n_heads=2,
            n_layers=2,
            d_feed_forward=0,
            positions="learned",
            bias=False,
        )
    )
    for weight in model.parameters():
        weight.zero_()
    model.norm = nn.Identity()
    for block in model.blocks:
        block.attention_norm = nn.Identity()
    token, place, before, answer = _rooms(n_vocab, context, d_model)
    model.embedding.tokens.weight.copy_(token)
    model.embedding.positions.weight.copy_(place)
    model.head.weight.copy_(answer)
    first, second = (block.attention for block in model.blocks)
    scale = SHARP * (d_model // 2) ** 0.5
    _wire(first, 0, scale * place[:-1], place[1:], token, before)  # the key of place t answers to the query of t + 1
    _wire(first, 1, scale * place[:1].expand(context, -1), place, token, None)
    not_first = (-2 * scale * place[:1], place.sum(dim=0, keepdim=True))  # nothing stands before the first token
    _wire(second, 0, torch.cat([scale * before, not_first[0]]), torch.cat([token, not_first[1]]), token, answer)
    return model.eval()


def _rooms(n_vocab: int, context: int, d_model: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One row for each thing that a room can hold."""
    sizes = (n_vocab, context, n_vocab, n_vocab)
    rows = torch.eye(d_model)[: sum(sizes)].split(sizes)
    return rows[0], rows[1], rows[2], rows[3]


def _wire(layer: nn.Module, head: int, keys: Tensor, queries: Tensor, read: Tensor, write: Tensor | None) -> None:
    """Let one head match row i of `queries` in the stream with row i of `keys`, and copy a room to another."""
    D = layer.query.weight.shape[0] // layer.n_heads
    rows = slice(head * D, head * D + len(queries))
    layer.query.weight[rows] = queries
    layer.key.weight[rows] = keys
    copied = slice(head * D, head * D + len(read))
    layer.value.weight[copied] = read
    if write is not None:
        layer.out.weight[:, copied] = write.T
