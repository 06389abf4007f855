"""Translation: from a source to the likeliest target, one token at a time, and where the model looked meanwhile.

Any model will do that has `encode(source)`, `decode(tokens, memory, source, cache)`, `new_cache()` and `config.context`.
`beam_search` gives `decode` several rows of tokens for each row of memory and source: those of a sentence's beams.
Source rows are those of `data.source_rows`: they end with `end`.

Letters: B batch, T target positions, S source positions, H heads, L layers, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.data import pad_rows, source_rows
from llmcourse.generation import parts_at_hand
from llmcourse.recording import record_attention
from llmcourse.tokenizers import Tokenizer

PAD, BEGIN, END = "[PAD]", "[BEGIN]", "[END]"  # the special tokens that both tokenizers of a translation model have


class Hypothesis(NamedTuple):
    """A translation that a search found."""

    tokens: list[int]  # without begin and end
    log_probability: float  # of all tokens and, when it is finished, of the end
    score: float  # what it is ranked by: log_probability / length ** length_penalty; the end counts as a token
    finished: bool  # whether the model ended it, and not the limit


class BeamNode(NamedTuple):
    """A continuation that a beam search kept at one step."""

    token: int
    parent: int  # its place in the step before; at the first step 0
    log_probability: float  # of the whole beginning
    finished: bool  # it is the end: nothing follows it


class BeamResult(NamedTuple):
    """What a beam search found for one sentence, and how."""

    hypotheses: list[Hypothesis]  # the best first
    steps: list[list[BeamNode]]  # the tree: for each step what was kept, the likeliest first


def _limit(model: nn.Module, source: Tensor, max_new: int | None) -> int:
    """How many tokens to write at most: twice the source and ten more, unless told otherwise."""
    context = model.config.context
    if max_new is None:
        return min(context, 2 * source.shape[-1] + 10)
    if not 1 <= max_new <= context:
        raise ValueError(f"max_new={max_new}: this model can write 1 to {context} tokens, the size of its context")
    return max_new


@torch.inference_mode()
def greedy_decode(
    model: nn.Module, source: Int[Tensor, "B S"], *, begin: int, end: int, max_new: int | None = None
) -> list[list[int]]:
    """For each source the tokens that are each the likeliest after those before, up to the end, which is left out.

    A row that has ended is carried along until all have, and what it says then is dropped.
    """
    model.eval()
    memory, cache = model.encode(source), model.new_cache()
    new = torch.full((len(source), 1), begin, device=source.device)
    rows: list[list[int]] = [[] for _ in source]
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    with parts_at_hand(model):
        for _ in range(_limit(model, source, max_new)):
            new = model.decode(new, memory, source, cache)[:, -1].argmax(dim=-1, keepdim=True)
            ended |= new[:, 0] == end
            if ended.all():
                break
            for row in (~ended).nonzero()[:, 0].tolist():
                rows[row].append(int(new[row]))
    return rows


@torch.inference_mode()
def beam_search(
    model: nn.Module,
    source: Int[Tensor, "B S"],
    *,
    begin: int,
    end: int,
    n_beams: int = 4,
    length_penalty: float = 1.0,
    max_new: int | None = None,
) -> list[BeamResult]:
    """For each source the `n_beams` best targets found by following the likeliest `n_beams` beginnings at once.

    A beginning that ends is kept as a hypothesis, and one beam fewer goes on; so one beam is greedy decoding, and enough
    beams find the best target of all. At the limit what is unfinished is kept too, ranked behind all that is finished.

    length_penalty: how much a score forgives length. 0 compares plain log probabilities, which favours short targets,
    as every token makes a target less likely; 1 compares the mean per token. Source: Wu et al. (2016), section 7.
    """
    if n_beams < 1 or length_penalty < 0:
        raise ValueError(f"n_beams={n_beams} must be at least 1 and length_penalty={length_penalty} at least 0")
    model.eval()
    beams = [_Beams(n_beams, length_penalty, end) for _ in source]
    memory, cache = model.encode(source), model.new_cache()
    new = torch.full((n_beams * len(source), 1), begin, device=source.device)
    with parts_at_hand(model):
        for _ in range(_limit(model, source, max_new)):
            log_probabilities = model.decode(new, memory, source, cache)[:, -1].log_softmax(dim=-1)
            so_far = torch.tensor([one.log_probabilities for one in beams], device=source.device)
            totals = (so_far[..., None] + log_probabilities.unflatten(0, so_far.shape)).flatten(1)
            best, places = totals.topk(n_beams)
            parents, tokens = places // log_probabilities.shape[-1], places % log_probabilities.shape[-1]
            for one, *kept in zip(beams, parents.tolist(), tokens.tolist(), best.tolist(), strict=True):
                one.step(*kept)
            if not any(one.live for one in beams):
                break
            _select(cache, (parents + n_beams * torch.arange(len(beams), device=source.device)[:, None]).flatten())
            new = tokens.view(-1, 1)
    return [one.result() for one in beams]


def _select(cache: Sequence, rows: Int[Tensor, "N"]) -> None:
    """Put the rows of a cache into this order: each beam goes on from its own parent's past.

    Where a layer has a second part, which holds what it reads of the source, that stays: all beams of a source share it.
    """
    for part in cache:
        (part[0] if isinstance(part, (list, tuple)) else part).select(rows)


class _Beams:
    """The beams of one sentence. A place whose log probability is -inf is empty; what the model says there is ignored."""

    def __init__(self, n_beams: int, length_penalty: float, end: int) -> None:
        self.n_beams, self.length_penalty, self.end = n_beams, length_penalty, end
        # All places hold the same beginning: only one of them counts.
        self.log_probabilities = [0.0] + [-math.inf] * (n_beams - 1)
        self.prefixes: list[list[int]] = [[] for _ in range(n_beams)]
        self.finished: list[Hypothesis] = []
        self.steps: list[list[BeamNode]] = []

    @property
    def live(self) -> bool:
        """Whether a beginning is still being followed."""
        return max(self.log_probabilities) > -math.inf

    def step(self, parents: list[int], tokens: list[int], log_probabilities: list[float]) -> None:
        """Keep these continuations, the likeliest first: each says which place it goes on from, and what it adds."""
        free = self.n_beams - len(self.finished)  # each finished hypothesis takes one place
        values = [*log_probabilities[:free], *[-math.inf] * len(self.finished)]
        nodes = [
            BeamNode(token, parent, value, token == self.end)
            for token, parent, value in zip(tokens, parents, values, strict=True)
        ]
        if self.live:
            self.steps.append([node for node in nodes if node.log_probability > -math.inf])
        self.finished += [
            self._hypothesis(self.prefixes[node.parent], node.log_probability, True)
            for node in nodes
            if node.finished and node.log_probability > -math.inf
        ]
        self.prefixes = [[*self.prefixes[node.parent], node.token] for node in nodes]
        self.log_probabilities = [-math.inf if node.finished else node.log_probability for node in nodes]

    def _hypothesis(self, tokens: list[int], log_probability: float, finished: bool) -> Hypothesis:
        length = len(tokens) + finished
        return Hypothesis(tokens, log_probability, log_probability / length**self.length_penalty, finished)

    def result(self) -> BeamResult:
        """All that was found, what the model ended itself before what the limit cut off."""
        cut_off = [
            self._hypothesis(prefix, value, False)
            for prefix, value in zip(self.prefixes, self.log_probabilities, strict=True)
            if value > -math.inf
        ]
        ranked = sorted(self.finished + cut_off, key=lambda found: (found.finished, found.score), reverse=True)
        return BeamResult(ranked, self.steps)


@torch.no_grad()
def cross_attention(
    model: nn.Module, source: Int[Tensor, "B S"], tokens: Int[Tensor, "B T"]
) -> Float[Tensor, "L B H T S"]:
    """Where each head of each decoder layer looked in the source at each step.

    `tokens` begin with `begin`: row t is where the model looked when it had read token t, so it shows what it needed to
    write token t + 1. The first row belongs to the first word, not to `begin`.
    """
    if not any(name.endswith("cross_attention") for name, _ in model.named_modules()):
        raise ValueError(f"{type(model).__name__} has no cross-attention to look at; give an EncoderDecoder")
    model.eval()
    with record_attention(model) as maps:
        model(source, tokens)
    layers = [weights for name, weights in maps.items() if name.endswith("cross_attention")]
    return torch.stack(layers)


@dataclass(frozen=True, repr=False)
class Translation:
    """A translated sentence, which prints as its text, with where the model looked while it wrote each piece."""

    text: str
    source: list[str]  # pieces, the last one [END]
    target: list[str]  # pieces; the last one is [END], unless the limit came first
    weights: Float[Tensor, "T S"]  # row t: the attention while piece t was written, the mean over the heads of a layer

    def __repr__(self) -> str:
        return self.text

    @property
    def alignment(self) -> list[tuple[int, int]]:
        """(target index, source index): for each piece but [END] the source piece it looked at most, [END] left out."""
        looked = self.weights[:, : len(self.source) - 1].argmax(dim=-1).tolist()
        ends = self.target[-1:] == [END]  # only the last piece is the end, whatever words there are
        return [(t, s) for t, s in enumerate(looked[: len(self.target) - ends])]


def translate(
    model: nn.Module,
    sentence: str,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    *,
    n_beams: int = 4,
    length_penalty: float = 1.0,
    layer: int = -1,
    max_new: int | None = None,
) -> Translation:
    """Translate a sentence by beam search, and show where the model looked: `translate(model, "the cat ...", en, lojic)`.

    Both tokenizers have the special tokens [PAD], [BEGIN] and [END]. `layer` says whose attention is shown, -1 is the
    last. Raises ValueError for an empty sentence, and for words that the tokenizer does not know.
    """
    ids = source_tokenizer.encode(sentence)
    if not ids:
        raise ValueError("the sentence is empty; give at least one word to translate")
    begin, end = (target_tokenizer.special_id(name) for name in (BEGIN, END))
    source_end, pad = (source_tokenizer.special_id(name) for name in (END, PAD))
    device = next(model.parameters()).device
    source = source_rows([ids], end=source_end, pad=pad).to(device)
    found = beam_search(
        model, source, begin=begin, end=end, n_beams=n_beams, length_penalty=length_penalty, max_new=max_new
    )
    best = found[0].hypotheses[0]
    written = [*best.tokens, end] if best.finished else best.tokens
    weights = cross_attention(model, source, pad_rows([[begin, *written[:-1]]], 0).to(device))[layer, 0].mean(dim=0)
    pieces = [source_tokenizer.piece(i) for i in source[0].tolist()]
    return Translation(
        target_tokenizer.decode(best.tokens), pieces, [target_tokenizer.piece(i) for i in written], weights
    )
