"""The original Transformer: a training step beside torch's own, and beam search beside the reference library's."""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.data import IGNORED, TranslationBatch, translation_batch
from llmcourse.models import EncoderDecoder
from llmcourse.training import translation_loss
from llmcourse.transformer import TransformerConfig, sinusoidal_positions
from llmcourse.translation import beam_search
from tests.benchmarks import texts
from tests.benchmarks.measuring import OURS, Comparison, Contestant
from tests.benchmarks.peers import copy_attention, copy_encoder_layer
from tests.benchmarks.training import ours, theirs

V, C, HEADS, LAYERS, S, T, B = 1_000, 192, 6, 3, 32, 32, 32
LONGEST = 64  # tokens of a sentence and its end
LENGTHS = {"sentences": f"at most {LONGEST}", "full rows": f"{T}"}
N_BEAMS, SOURCES, WRITTEN = 4, 8, 32


@cache
def model(norm_place: str) -> EncoderDecoder:
    """The course's model, whose weights all contestants get."""
    torch.manual_seed(0)
    sizes = {"n_vocab": V, "context": 128, "d_model": C, "n_heads": HEADS, "n_layers": LAYERS}
    config = TransformerConfig(**sizes, positions="sinusoidal", norm_place=norm_place, activation="relu", pad=0)
    return EncoderDecoder(config).eval()


@cache
def sentences() -> TranslationBatch:
    """Sentences of documentation, and as targets those that follow them; each is cut to LONGEST with its end."""
    special = ("[PAD]", "[BEGIN]", "[END]")
    tokenizer, documents = texts.sentences(V, special)
    pad, begin, end = map(tokenizer.special_id, special)
    pairs = [(one[: LONGEST - 1], other[: LONGEST - 1]) for document in documents for one, other in pairwise(document)]
    return translation_batch(pairs[:: len(pairs) // B][:B], begin=begin, end=end, pad=pad)


@cache
def full() -> TranslationBatch:
    """Pairs without padding."""
    made = torch.Generator().manual_seed(0)
    source, target = (torch.randint(1, V, (B, n), generator=made) for n in (S, T + 1))
    return TranslationBatch(source, target[:, :-1], target[:, 1:])


class TorchTransformer(nn.Module):
    """`torch.nn.Transformer` with embeddings and a head."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(model.embedding.tokens.weight.detach().clone(), freeze=False)
        self.transformer = nn.Transformer(
            C, HEADS, LAYERS, LAYERS, 4 * C, dropout=0.0, activation="relu", batch_first=True, norm_first=True
        )  # fmt: skip
        self.head = nn.Linear(C, V, bias=False)
        self.head.weight.data.copy_(model.head.weight)
        self.register_buffer("table", sinusoidal_positions(128, C))
        for target, source in zip(self.transformer.encoder.layers, model.encoder.blocks, strict=True):
            copy_encoder_layer(target, source)
        for target, source in zip(self.transformer.decoder.layers, model.decoder.blocks, strict=True):
            self._copy_decoder_layer(target, source)

    @staticmethod
    def _copy_decoder_layer(theirs: nn.TransformerDecoderLayer, ours: nn.Module) -> None:
        copy_attention(theirs.self_attn, ours.attention)
        copy_attention(theirs.multihead_attn, ours.cross_attention)
        for target, source in (
            (theirs.norm1, ours.attention_norm), (theirs.norm2, ours.cross_norm), (theirs.norm3, ours.feed_forward_norm),
            (theirs.linear1, ours.feed_forward.expand), (theirs.linear2, ours.feed_forward.contract),
        ):  # fmt: skip
            target.load_state_dict(source.state_dict())

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        """Logits."""
        x, y = (self.tokens(side) + self.table[: side.shape[-1]] for side in (source, tokens))
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[-1])
        hidden = {"src_key_padding_mask": source == 0, "memory_key_padding_mask": source == 0}
        return self.head(self.transformer(x, y, tgt_mask=mask, tgt_is_causal=True, **hidden))


def their_loss(model: nn.Module, batch: TranslationBatch) -> Tensor:
    """The mean cross-entropy."""
    logits = model(batch.source, batch.tokens).flatten(0, 1)
    return F.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED)


def searching() -> Contestant:
    """`beam_search`, which no end stops."""
    source = full().source[:SOURCES]

    def work() -> list[list[int]]:
        found = beam_search(model("post"), source, begin=0, end=-1, n_beams=N_BEAMS, max_new=WRITTEN)
        return [one.hypotheses[0].tokens for one in found]

    return Contestant(work, work)


def their_search() -> Contestant:
    """The beam search of `transformers`, on its Marian with the same weights."""
    from transformers import MarianConfig, MarianMTModel

    from llmcourse.interop import describe, to_theirs

    reference = MarianMTModel(MarianConfig(**describe(model("post")))).eval()
    reference.load_state_dict(to_theirs(model("post")), strict=False)
    source = full().source[:SOURCES]

    @torch.no_grad()
    def work() -> list[list[int]]:
        told = {"num_beams": N_BEAMS, "max_new_tokens": WRITTEN, "min_new_tokens": WRITTEN, "do_sample": False}
        found = reference.generate(source, attention_mask=torch.ones_like(source), **told)
        return [row[1:].tolist() for row in found]

    return Contestant(work, work)


def training(batch: Callable[[], TranslationBatch], rows: str) -> Comparison:
    """A training step."""
    return Comparison(
        title=f"Encoder-decoder, {rows}",
        unit=f"a training step: {LAYERS} and {LAYERS} layers, d={C}, S and T {LENGTHS[rows]}, batch {B}",
        reference="torch.nn.Transformer",
        contestants={
            "torch.nn.Transformer": lambda: theirs(TorchTransformer(model("pre")), partial(their_loss, batch=batch())),
            OURS: lambda: ours(model("pre"), batch(), translation_loss),
            f"{OURS}, bfloat16": lambda: ours(model("pre"), batch(), translation_loss, precision="bfloat16"),
        },
        goals={OURS: 1.1, f"{OURS}, bfloat16": 2.0},
        tolerance=2e-2,
    )


ROWS = {
    "encoder-decoder": training(sentences, "sentences"),
    "encoder-decoder-full": training(full, "full rows"),
    "beam-search": Comparison(
        title="Beam search",
        unit=f"{N_BEAMS} beams, {SOURCES} sources at once, {WRITTEN} tokens each",
        reference="transformers",
        contestants={"transformers": their_search, OURS: searching},
        goals={OURS: 1.4},
        rounds=41,
    ),
}
