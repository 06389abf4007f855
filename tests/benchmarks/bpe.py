"""Byte-pair encoding: learning merges from 20 million characters of programs, and encoding two million."""

import json
from functools import cache

from llmcourse.tokenizers.bpe import BYTES, GPT2_WORDS, BPETokenizer
from tests.benchmarks.measuring import OURS, Comparison, Contestant
from tests.benchmarks.texts import sources

LEARNT_FROM, ENCODED = 20_000_000, 2_000_000


def hugging(n_merges: int) -> object:
    """A tokenizer of `tokenizers` that has learnt so many merges."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(BYTES) + n_merges, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator([sources(LEARNT_FROM)], trainer)
    return tokenizer


def rust(n_merges: int) -> object:
    """A tokenizer of `rustbpe` that has learnt so many merges."""
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter([sources(LEARNT_FROM)]), len(BYTES) + n_merges, pattern=GPT2_WORDS.pattern)
    return tokenizer


@cache
def learnt(n_merges: int) -> BPETokenizer:
    """What the course's tokenizer learns."""
    return BPETokenizer.train(sources(LEARNT_FROM), len(BYTES) + n_merges)


def learning(n_merges: int, rounds: int) -> Comparison:
    """Learning so many merges; where counts are equal, `rustbpe` has an order of its own, so it is not compared."""

    def merges_of(tokenizer: object) -> list[tuple[str, str]]:
        return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]

    def spelt() -> list[tuple[str, str]]:
        letters = dict(zip(BYTES, _byte_letters(), strict=True))
        written = {piece: "".join(letters[bytes([b])] for b in piece) for piece in learnt(n_merges).vocabulary}
        return [(written[left], written[right]) for left, right in learnt(n_merges).merges]

    return Comparison(
        title=f"BPE, learning {n_merges:,} merges",
        unit=f"{LEARNT_FROM:,} characters",
        reference="tokenizers",
        contestants={
            "tokenizers": lambda: Contestant(lambda: hugging(n_merges), lambda: merges_of(hugging(n_merges))),
            "rustbpe": lambda: rust_learning(n_merges),
            OURS: lambda: Contestant(lambda: BPETokenizer.train(sources(LEARNT_FROM), len(BYTES) + n_merges), spelt),
        },
        goals={OURS: 1.0},
        rounds=rounds,
    )


def rust_learning(n_merges: int) -> Contestant:
    """`rustbpe`, if it is there."""
    import rustbpe  # noqa: F401  asked for here, so that a missing library is noticed before the clock runs

    return Contestant(lambda: rust(n_merges))


def _byte_letters() -> list[str]:
    """The printable letters by which their files write the 256 bytes, in GPT-2's order."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in shown] + [chr(256 + n) for n in range(256 - len(shown))]


def encoding(make: str) -> Contestant:
    """Encoding with what was learnt; what a tokenizer remembers of earlier words it has seen once before."""
    text = sources(LEARNT_FROM)[-ENCODED:]
    if make == "tiktoken":
        import tiktoken

        ranks = {piece: i for i, piece in enumerate(learnt(4096).vocabulary)}
        encoder = tiktoken.Encoding("ours", pat_str=GPT2_WORDS.pattern, mergeable_ranks=ranks, special_tokens={})
        return Contestant(lambda: encoder.encode_ordinary(text), lambda: encoder.encode_ordinary(text))
    if make == "tokenizers":
        tokenizer = hugging(4096)
        return Contestant(lambda: tokenizer.encode(text), lambda: tokenizer.encode(text).ids)
    if make == "rustbpe":
        tokenizer = rust(4096)
        return Contestant(lambda: tokenizer.encode(text))
    if make == "llmcourse, new each time":
        return Contestant(lambda: BPETokenizer(learnt(4096).merges).encode(text))
    return Contestant(lambda: learnt(4096).encode(text), lambda: learnt(4096).encode(text))


ROWS = {
    "bpe-512": learning(512, 3),
    "bpe-4096": learning(4096, 3),
    "bpe-encoding": Comparison(
        title="BPE, encoding",
        unit=f"{ENCODED:,} characters, 4,096 merges",
        reference="tiktoken",
        contestants={
            name: lambda name=name: encoding(name)
            for name in ("tiktoken", "tokenizers", "rustbpe", OURS, f"{OURS}, new each time")
        },
        goals={OURS: 0.55},
    ),
}
