"""Answering from texts: a reader that points at the answer, or at [CLS] when there is none, and all that leads up to it.

The reader is a `Bert` over [CLS] facts [SEP] question, with a pointer on top. Before it can match a name it must have
learned to match anything: it is warmed up on repeated random tokens, from left to right, and only then reads both ways
(`Bert.forward` takes the mask). `KnowledgeBase` finds the sentences, has them read, and says where its answer stands.

Letters: B batch, T positions, C width of the model, V vocabulary.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.attention import causal_mask
from llmcourse.bert import Bert
from llmcourse.corpora.kb import Example
from llmcourse.data import Batch, pad_rows
from llmcourse.retrieval import BM25, DenseIndex, best_first, words_of
from llmcourse.tokenizers import WordTokenizer
from llmcourse.transformer import TransformerConfig

PAD, CLS, SEP = SPECIAL = ("[PAD]", "[CLS]", "[SEP]")
NO_ANSWER = 0  # the position of [CLS], at which the reader points when nothing answers the question


class Laid(NamedTuple):
    """Sentences and a question as one row of ids, with the sentence (0) or question (1) of each token."""

    tokens: list[int]
    segments: list[int]
    starts: list[int]  # where each sentence begins


def lay(tokenizer: WordTokenizer, sentences: Sequence[str], question: str) -> Laid:
    """[CLS] sentences [SEP] question. Raises ValueError for a word that the tokenizer does not know."""
    row, starts = [tokenizer.special_id(CLS)], []
    for sentence in sentences:
        starts.append(len(row))
        row += tokenizer.encode(sentence)
    row.append(tokenizer.special_id(SEP))
    asked = tokenizer.encode(question)
    return Laid(row + asked, [0] * len(row) + [1] * len(asked), starts)


class ReadingBatch(NamedTuple):
    """Rows of sentences and a question, the segment of each token, and where the answer stands."""

    tokens: Int[Tensor, "B T"]
    segments: Int[Tensor, "B T"]
    places: Int[Tensor, "B"]  # NO_ANSWER when no sentence answers


def reading_batch(tokenizer: WordTokenizer, examples: Sequence[Example]) -> ReadingBatch:
    """Examples of `corpora.kb` as one batch, filled up on the right."""
    laid = [lay(tokenizer, one.sentences, one.question) for one in examples]
    places = [_place(tokenizer, one, row) for one, row in zip(examples, laid, strict=True)]
    tokens = pad_rows([row.tokens for row in laid], tokenizer.special_id(PAD))
    return ReadingBatch(tokens, pad_rows([row.segments for row in laid], 1), torch.tensor(places))


def _place(tokenizer: WordTokenizer, example: Example, row: Laid) -> int:
    if example.evidence is None:
        return NO_ANSWER
    return row.tokens.index(tokenizer.encode(example.answer)[0], row.starts[example.evidence])


def reading_batches(tokenizer: WordTokenizer, stream: Iterator[Example], size: int = 64) -> Iterator[ReadingBatch]:
    """Endless batches from an endless stream of examples."""
    while True:
        yield reading_batch(tokenizer, list(islice(stream, size)))


def repeats(n_vocab: int, size: int = 64, *, length: int = 40, seed: int = 0) -> Iterator[Batch]:
    """Endless batches of random tokens that begin to repeat: up to 4 tokens, then a block of 4 to 16 again and again."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(length + 1)
    while True:
        rows = torch.randint(n_vocab, (size, length + 1), generator=generator)
        offset = torch.randint(5, (size, 1), generator=generator)
        block = torch.randint(4, 17, (size, 1), generator=generator)
        source = torch.where(steps < offset, steps, offset + (steps - offset) % block)
        rows = rows.gather(1, source)
        yield Batch(rows[:, :-1], rows[:, 1:])


class PointingReader(nn.Module):
    """Reads sentences and a question, and scores each place of the sentences as the answer's.

    score(t) = (W_ask h_last · W_offer h_t) / √C, with h_last the state of the question's last token. Both matrices start
    as the identity: what a warmed-up encoder has copied to the end of the text can be found from the first step on.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.pad is None:
            raise ValueError("the reader needs config.pad: its texts have unequal lengths")
        self.config, self.bert = config, Bert(config)
        self.next_token = nn.Linear(config.d_model, config.n_vocab)  # for the warm-up only
        self.ask = nn.Linear(config.d_model, config.d_model, bias=False)
        self.offer = nn.Linear(config.d_model, config.d_model, bias=False)
        nn.init.zeros_(self.bert.segments.weight)
        nn.init.eye_(self.ask.weight), nn.init.eye_(self.offer.weight)

    def encode(
        self, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"] | None = None, *, causal: bool = False
    ) -> Float[Tensor, "B T C"]:
        """The states of all positions; `causal` reads from left to right."""
        mask = causal_mask(tokens.shape[1], device=tokens.device) if causal else None
        return self.bert(tokens, segments, mask)

    def say_next(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Logits of the token that follows each position, read from left to right: the warm-up's task."""
        return self.next_token(self.encode(tokens, causal=True))

    def forward(
        self, tokens: Int[Tensor, "B T"], segments: Int[Tensor, "B T"], *, causal: bool = False
    ) -> Float[Tensor, "B T"]:
        """The score of each place; minus infinity in the question, at [SEP] and at padding."""
        hidden = self.encode(tokens, segments, causal=causal)
        last = (tokens != self.config.pad).sum(dim=1) - 1
        asks = self.ask(hidden[torch.arange(len(tokens)), last])
        scores = torch.einsum("bc,btc->bt", asks, self.offer(hidden)) / math.sqrt(self.config.d_model)
        return scores.masked_fill(~may_answer(segments), float("-inf"))


def may_answer(segments: Int[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """True at [CLS] and in the sentences; [SEP], their last token, is no place for an answer."""
    sentences = segments == 0
    last = sentences.sum(dim=1, keepdim=True) - 1
    return sentences & (torch.arange(segments.shape[1], device=segments.device) != last)


def repeat_loss(reader: PointingReader, batch: Batch) -> Float[Tensor, ""]:
    """The mean cross-entropy of the next token, in nats. The first block cannot be known, nor where it begins to repeat."""
    return F.cross_entropy(reader.say_next(batch.tokens).flatten(0, 1), batch.targets.flatten())


def reading_loss(reader: PointingReader, batch: ReadingBatch, *, causal: bool = False) -> Float[Tensor, ""]:
    """The mean cross-entropy of the answer's place, in nats a question."""
    return F.cross_entropy(reader(batch.tokens, batch.segments, causal=causal), batch.places)


@dataclass(frozen=True)
class Answer:
    """What was found, with everything that it rests on."""

    text: str | None  # None: no answer was found
    confidence: float  # the reader's probability of the place it chose, from 0 to 1; 0 when it was not asked
    retrieved: tuple[int, ...]  # the places of the nearest sentences, the best first
    evidence: int | None = None  # the place of the sentence that the answer was taken from
    span: tuple[int, int] | None = None  # the first and last character of the answer in it, the last one excluded


class KnowledgeBase:
    """Sentences that can be asked, and edited at any time: the answer is read from them, not remembered.

    reader: gives a score to each place of (tokens, segments), such as a trained `PointingReader`.
    encoder: finds sentences by their vectors; without one BM25 finds them by their words.
    threshold: when even the best sentence scores less, there is no answer, and nothing is read.
    A word that the tokenizer does not know is refused with a ValueError where it is read: in a sentence by `edit`, by an
    encoder and by the reader, in a question by both too.
    """

    def __init__(
        self,
        sentences: Sequence[str],
        reader: nn.Module,
        tokenizer: WordTokenizer,
        *,
        encoder: nn.Module | None = None,
        threshold: int | float = -math.inf,
    ) -> None:
        self.reader, self.tokenizer, self.encoder, self.threshold = reader.eval(), tokenizer, encoder, threshold
        self.sentences = list(sentences)
        self._make_index()

    def _make_index(self) -> None:
        if self.encoder is None:
            self._index = BM25([words_of(sentence) for sentence in self.sentences])
        else:
            self._index = DenseIndex(self._vectors(self.sentences))

    @torch.no_grad()
    def _vectors(self, texts: Sequence[str]) -> Float[Tensor, "N C"]:
        rows = [self.tokenizer.encode(text) for text in texts]
        return self.encoder.eval()(pad_rows(rows, self.tokenizer.special_id(PAD)))

    def edit(self, place: int, sentence: str) -> None:
        """Put another sentence in the place of this one. From now on it is what is found and read."""
        self.tokenizer.encode(sentence)
        self.sentences[place] = sentence
        self._make_index()

    def scores(self, question: str) -> list[float]:
        """How near each sentence is to the question."""
        return self._index.scores(words_of(question) if self.encoder is None else self._vectors([question])[0])

    def ask(self, question: str, k: int = 4) -> Answer:
        """Find the k nearest sentences, read them, and answer with the source; or say that there is no answer.

        Raises ValueError for k below 1.
        """
        if k < 1:
            raise ValueError(f"k={k}: at least 1 sentence is read")
        scores = self.scores(question)
        nearest = best_first(scores, k)
        if scores[nearest[0]] < self.threshold:
            return Answer(None, 0.0, tuple(nearest))
        return self.read(question, nearest)

    @torch.no_grad()
    def read(self, question: str, retrieved: Sequence[int]) -> Answer:
        """Read these sentences, by their places, in the order of the knowledge base."""
        places = sorted(retrieved)
        laid = lay(self.tokenizer, [self.sentences[place] for place in places], question)
        probabilities = self.reader(torch.tensor([laid.tokens]), torch.tensor([laid.segments]))[0].softmax(dim=-1)
        best = int(probabilities.argmax())
        if best == NO_ANSWER:
            return Answer(None, probabilities[best].item(), tuple(retrieved))
        number = sum(start <= best for start in laid.starts) - 1
        span = word_span(self.sentences[places[number]], best - laid.starts[number])
        text = self.sentences[places[number]][slice(*span)]
        return Answer(text, probabilities[best].item(), tuple(retrieved), places[number], span)


def word_span(sentence: str, number: int) -> tuple[int, int]:
    """The first and last character (excluded) of a word, counted from 0; words stand between white space."""
    return list(re.finditer(r"\S+", sentence))[number].span()
