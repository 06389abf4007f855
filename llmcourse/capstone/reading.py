"""The reader of the second capstone: it reads passages of both languages in which every name is a symbol.

    塔恩 的 镇长 是 奥迪勒 。  [SEP]  who is the mayor of tarn ?      what stands there
    s0 的 s1 是 s2 。         [SEP]  who is the s1 of s0 ?           what the reader sees

A reader with names of its own could not read yours. One that sees symbols reads any names, and can know nothing about
them: what it says can only come from the passages (Hermann et al., 2015, section 2, hide names for the same reason).
Training is that of chapter 11: repeated tokens first, then easy frames, then all of them.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from llmcourse.answering import (
    SPECIAL,
    KnowledgeBase,
    PointingReader,
    ReadingBatch,
    reading_batch,
    reading_batches,
    reading_loss,
    repeat_loss,
    repeats,
)
from llmcourse.capstone.facts import LANGUAGES, PLAIN_WORDS, QUESTIONS, SENTENCES, Language, Piece
from llmcourse.corpora.kb import Example
from llmcourse.tokenizers import WordTokenizer
from llmcourse.training import TrainConfig, seed_everything, train
from llmcourse.transformer import TransformerConfig
from llmcourse.weights import load_tensors, load_weights, save_tensors

SYMBOLS = tuple(f"s{number}" for number in range(32))
RELEASED = Path(__file__).parent / "reader.safetensors"
P_TURNED = 0.3  # how often a fact about another place has the place that is asked for as its value
K = 4  # passages that are read at once


@cache
def symbol_tokenizer() -> WordTokenizer:
    """All that the reader can see: plain words of both languages, symbols, and the marks of chapter 11."""
    return WordTokenizer([*sorted(PLAIN_WORDS), *SYMBOLS], SPECIAL)


def frame_stream(
    seed: int = 0, *, ways: int = 3, languages: Sequence[Language] = LANGUAGES, unanswerable: float = 0.35
) -> Iterator[Example]:
    """Endless frames of four facts with a question, names as symbols, each sentence in one of the languages at random.

    All facts but one at most share the place or the relation that is asked for, as what a search brings does. In some of
    them the place that is asked for is the *value*: which words stand there does not tell who has what.

    ways: how many of the three ways to say a fact occur. unanswerable: the share of questions that no fact answers.
    """
    if not 1 <= ways <= 3 or not 0 <= unanswerable <= 1:
        raise ValueError(f"ways={ways} must be 1 to 3, and unanswerable={unanswerable} a share from 0 to 1")
    return _frames(random.Random(seed), ways, tuple(languages), unanswerable)


def _frames(
    generator: random.Random, ways: int, languages: Sequence[Language], unanswerable: float
) -> Iterator[Example]:
    while True:
        symbols = generator.sample(SYMBOLS, 18)
        (x, *places), (r, *relations), values = symbols[:5], symbols[5:10], symbols[10:]
        others = [(x, other) for other in relations] + [(other, r) for other in places] + [(places[0], relations[0])]
        known = generator.random() >= unanswerable
        pairs = ([(x, r)] if known else []) + generator.sample(others, K - known)
        generator.shuffle(pairs)
        turned = [pair[0] != x and generator.random() < P_TURNED for pair in pairs]
        facts = [(*pair, x if turn else generator.choice(values)) for pair, turn in zip(pairs, turned, strict=True)]
        sentences = tuple(_said(generator, SENTENCES, languages, ways, fact) for fact in facts)
        question = _said(generator, QUESTIONS, languages, 3, (x, r))
        place = pairs.index((x, r)) if known else None
        yield Example(sentences, question, place, facts[place][2] if known else None)


def _said(generator: random.Random, templates: dict, languages: Sequence[Language], ways: int, names: tuple) -> str:
    template = templates[generator.choice(languages)][generator.randrange(ways)]
    return template.format(**dict(zip("xry", names, strict=False)))


class Lesson(NamedTuple):
    """A point of the training: which stage, how many steps in all, and the share that the reader has right there."""

    stage: str
    step: int
    right: float


def new_reader(seed: int = 0) -> PointingReader:
    """An untrained reader of two layers."""
    seed_everything(seed)
    tokenizer = symbol_tokenizer()
    return PointingReader(
        TransformerConfig(
            n_vocab=len(tokenizer),
            context=128,
            d_model=64,
            n_heads=4,
            d_feed_forward=128,
            bias=False,
            rotary_base=100.0,
            pad=tokenizer.special_id("[PAD]"),
        )
    )


def frame_batch(n: int = 512, seed: int = 999, **choices) -> ReadingBatch:
    """Frames to measure a reader on; `choices` are those of `frame_stream`."""
    return reading_batch(symbol_tokenizer(), list(islice(frame_stream(seed, **choices), n)))


@torch.no_grad()
def frames_right(reader: PointingReader, batch: ReadingBatch, *, causal: bool = False) -> float:
    """The share of frames at whose answer, or at [CLS] where there is none, the reader points."""
    places = reader.eval()(batch.tokens, batch.segments, causal=causal).argmax(dim=1)
    return (places == batch.places).float().mean().item()


@torch.no_grad()
def tokens_foreseen(reader: PointingReader) -> float:
    """The share of tokens of repeated text that the reader foresees, after the first 20."""
    batch = next(repeats(reader.config.n_vocab, 96, seed=999))
    return (reader.eval().say_next(batch.tokens).argmax(dim=-1) == batch.targets)[:, 20:].float().mean().item()


def teach_reader(reader: PointingReader, seed: int = 0, steps: int = 1000) -> Iterator[Lesson]:
    """Train the reader, from repeated tokens to frames in both languages; the first three stages end when mastered.

    steps: of the last stage.
    """
    tokenizer, coin, n = symbol_tokenizer(), random.Random(seed), 0
    easy = {"ways": 1, "languages": ("en",), "unanswerable": 0.0}
    few = frame_batch(256, 998, **easy)

    def batches(stage: int, **choices) -> Iterator[ReadingBatch]:
        return reading_batches(tokenizer, frame_stream(10 * seed + stage, **choices), 32)

    def either_way(reader: PointingReader, batch: ReadingBatch) -> torch.Tensor:
        return reading_loss(reader, batch, causal=coin.random() < 0.5)

    stages = (
        ("repeats", repeats(len(tokenizer), 32, seed=seed), repeat_loss, 6e-3, 0.93, tokens_foreseen),
        ("left to right", batches(1, **easy), partial(reading_loss, causal=True), 3e-3, 0.9,
         partial(frames_right, batch=few, causal=True)),
        ("both ways", batches(2, **easy), either_way, 3e-3, 0.95, partial(frames_right, batch=few)),
    )  # fmt: skip
    for stage, stream, loss, rate, gate, measure in stages:
        plan = TrainConfig(steps=600, rate=rate, warm_up=50 if stage == "repeats" else 20, schedule="constant")
        for step in train(reader, stream, loss, plan):
            if step.number % 25 == 0:
                yield (lesson := Lesson(stage, n + step.number, measure(reader)))
                if lesson.right > gate:
                    break
        n += step.number
    few = frame_batch(128, 997)
    for step in train(reader, batches(3), reading_loss, TrainConfig(steps=steps, warm_up=20, final_rate=0.03)):
        if step.number % 100 == 0:
            yield Lesson("both languages", n + step.number, frames_right(reader, few))


def symbols_for(*texts: Sequence[Piece]) -> list[str]:
    """Texts as the reader sees them: what is not a plain word becomes a symbol, the same for the same name.

    Raises ValueError when there are more names than symbols.
    """
    names = list(dict.fromkeys(piece.word for text in texts for piece in text if piece.kind != "plain"))
    if len(names) > len(SYMBOLS):
        raise ValueError(f"{len(names)} names at once, and the reader has {len(SYMBOLS)} symbols: read fewer passages")
    symbols = dict(zip(names, SYMBOLS, strict=False))
    return [" ".join(piece.word if piece.kind == "plain" else symbols[piece.word] for piece in text) for text in texts]


class Found(NamedTuple):
    """Where the reader sees the answer."""

    passage: int | None  # the number of the passage, among those that were read; None when it points at no answer
    piece: Piece | None  # the piece of that passage
    confidence: float  # the reader's probability of this place, or of there being none


def find(reader: PointingReader, question: Sequence[Piece], passages: Sequence[Sequence[Piece]]) -> Found:
    """Have the passages read: which piece of which of them answers the question?"""
    seen, *texts = symbols_for(question, *passages)
    answer = KnowledgeBase(texts, reader, symbol_tokenizer()).read(seen, range(len(texts)))
    if answer.evidence is None:
        return Found(None, None, answer.confidence)
    number = texts[answer.evidence][: answer.span[0]].count(" ")
    return Found(answer.evidence, passages[answer.evidence][number], answer.confidence)


def trained_reader(seed: int = 0) -> PointingReader:
    """A reader that has had all its lessons; most of a minute on one core."""
    reader = new_reader(seed)
    for _ in teach_reader(reader, seed):
        pass
    return reader.eval()


def write_reader(reader: PointingReader, path: Path | str) -> None:
    """Its weights in 16 bits, as one safetensors file."""
    save_tensors(path, {name: weight.half() for name, weight in reader.state_dict().items()})


@cache
def released_reader() -> PointingReader:
    """The reader that ships with the course, ready to use."""
    reader = new_reader()
    load_weights(reader, load_tensors(RELEASED)[0], RELEASED)
    return reader.eval()


def main(arguments: list[str]) -> int:
    """Train the shipped reader again and write it to a file. Returns the exit status."""
    if len(arguments) != 1:
        print("python -m llmcourse.capstone.reading FILE", file=sys.stderr)
        return 2
    write_reader(trained_reader(), arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
