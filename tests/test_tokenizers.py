"""Nothing is lost, merges equal the reference library's, every cut is the best by its own rule."""

import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from itertools import combinations, pairwise, product
from pathlib import Path
from pydoc_data.topics import topics

import jaxtyping
import numpy as np
import pytest
import tokenizers as reference

from llmcourse.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    base,
    count_pairs,
    merge_pair,
    viterbi,
    wordpiece_score,
)
from llmcourse.tokenizers.bpe import GPT2_WORDS, gpt2_words
from llmcourse.tokenizers.unigram import em_step, expected_counts, prune, seed_pieces
from llmcourse.tokenizers.wordpiece import covering_alphabet

ENGLISH = "\n".join(topics.values())
CHINESE = (
    "从前有一只乌鸦。它口渴了。到处找水喝。乌鸦看见一个瓶子。瓶子里有水。可是水不多。瓶口又小。乌鸦喝不着水。"
    "怎么办呢。乌鸦看见旁边有许多小石子。就把小石子一个一个地放进瓶子里。瓶子里的水渐渐升高。乌鸦就喝着水了。"
)
MIXED = ENGLISH[:30_000] + CHINESE * 5 + "naïve café, Ελληνικά, 100 km/h, '##' и ещё\r\n" * 3
SPECIAL = ("[PAD]", "[MASK]")
SUBWORD = (BPETokenizer, WordPieceTokenizer, UnigramTokenizer)
EVERY_KIND = (WordTokenizer, CharTokenizer, *SUBWORD)

ADVERSARIAL = {
    "empty": "",
    "spaces": " a  b   c ",
    "white space": "\t\ta \n\n b\r\nc\r\u00a0\u2003\u3000d\x0b\x0c\x1c\x85 ",
    "family emoji": "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇦🇹",
    "combining marks": "e\u0301 \u0301 Z\u0351\u036b\u0343 a\u0323\u0307",
    "right to left": "שָׁלוֹם مرحبا \u202eabc\u202c",
    "Chinese": "乌鸦喝水。龘 𠮷野家",
    "Devanagari": "नमस्ते दुनिया",
    "beyond the BMP": "\U0001d518\U0001d52b\U0001d526 𐍈 \U0010fffd",
    "NUL and controls": "a\x00b\x01\x7f\x80\x9f",
    "SentencePiece's space": "\u2581the\u2581 \u2581\u2581 the",
    "continuation marks": "## ##able a##b ### un##able",
    "special names": "[MASK] [PAD][MASK]",
    "byte names": "<0xE4> <0x00><0xFF>",
    "ends of each UTF-8 length": "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
    "byte-order mark": "\ufeffa\ufffe",
    "contractions": "I'm we'll 'S 's ''",
}


@pytest.fixture(autouse=True)
def _as_a_reader_meets_it(monkeypatch):
    """Signatures unchecked, as outside the tests: wrong types must meet the package's own errors."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@cache
def trained(kind: type[Tokenizer]) -> Tokenizer:
    return kind.train(MIXED, 900, SPECIAL)


def any_kind(kind: type[Tokenizer]) -> Tokenizer:
    return trained(kind) if kind in SUBWORD else kind.train(MIXED, SPECIAL)


def random_text(generator: random.Random) -> str:
    """Up to 30 characters, of each UTF-8 length, without surrogates."""
    ranges = [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    return "".join(chr(generator.randint(*generator.choice(ranges))) for _ in range(generator.randint(1, 30)))


@pytest.mark.parametrize("kind", SUBWORD)
@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL.keys())
def test_decoding_gives_back_any_unicode_text(kind, text):
    assert trained(kind).decode(trained(kind).encode(text)) == text


@pytest.mark.parametrize("kind", SUBWORD)
def test_decoding_gives_back_300_random_texts(kind):
    generator = random.Random(0)
    for text in (random_text(generator) for _ in range(300)):
        assert trained(kind).decode(trained(kind).encode(text)) == text


@pytest.mark.parametrize("kind", SUBWORD)
def test_decoding_gives_back_the_training_text_in_fewer_tokens_than_bytes(kind):
    ids = trained(kind).encode(MIXED)
    assert trained(kind).decode(ids) == MIXED
    assert len(ids) < len(MIXED.encode())


@pytest.mark.parametrize("kind", SUBWORD)
def test_marks_that_look_like_our_own_are_ordinary_text(kind):
    text = "#### ##able ##\n<0xE4><0xE4> \u2581the [MASK]\n" * 20
    tokenizer = kind.train(text, 500, SPECIAL)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    specials_and_byte_names = 2 if kind is BPETokenizer else 258
    assert min(tokenizer.encode(text)) >= specials_and_byte_names


def test_characters_come_back_and_words_come_back_with_single_spaces():
    assert any_kind(CharTokenizer).decode(any_kind(CharTokenizer).encode(MIXED)) == MIXED
    assert any_kind(WordTokenizer).decode(any_kind(WordTokenizer).encode(MIXED)) == " ".join(MIXED.split())


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_half_a_surrogate_pair_is_refused_by_name_in_training_and_encoding(kind):
    with pytest.raises(ValueError, match=r"character 1 is the lone surrogate U\+D83D"):
        any_kind(kind).encode("a\ud83d")
    with pytest.raises(ValueError, match=r"lone surrogate U\+DC00"):
        kind.train("\udc00", *([600] if kind in SUBWORD else []))


@pytest.mark.parametrize("kind", SUBWORD)
def test_bytes_that_are_no_utf8_decode_to_the_replacement_character(kind):
    tokenizer = trained(kind)
    first, *_ = tokenizer.encode("\U0010fffd")
    assert tokenizer.decode([first, *tokenizer.encode("x")]) == "\ufffdx"


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_special_tokens_have_the_first_ids_and_no_text_encodes_to_them(kind):
    tokenizer = kind.train("[MASK] [PAD] a", *([300] if kind in SUBWORD else []), special_tokens=SPECIAL)
    assert [tokenizer.special_id(name) for name in SPECIAL] == [0, 1]
    assert tokenizer.vocabulary[:2] == SPECIAL
    assert tokenizer.special_tokens == {"[PAD]": 0, "[MASK]": 1}
    ids = tokenizer.encode("[MASK] [PAD] a")
    assert min(ids) >= 2
    assert tokenizer.decode(ids) == "[MASK] [PAD] a"
    assert "[MASK]" in tokenizer.decode([*ids, 1]).removeprefix("[MASK] [PAD] a")


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_id_of_the_vocabulary_decodes_and_has_a_readable_piece(kind):
    tokenizer = any_kind(kind)
    assert len(tokenizer) == len(tokenizer.vocabulary)
    for i in range(len(tokenizer)):
        assert isinstance(tokenizer.decode([i]), str)
        assert tokenizer.piece(i)


@pytest.mark.parametrize("kind", SUBWORD)
def test_the_byte_tokens_stand_for_their_bytes(kind):
    tokenizer = trained(kind)
    byte_ids = range(2, 258)
    assert {tokenizer.decode([i]) for i in byte_ids} == {chr(i) for i in range(128)} | {"\ufffd"}
    assert sorted(tokenizer._spelling[i] for i in byte_ids) == [bytes([b]) for b in range(256)]


def test_tokens_are_readable():
    assert "".join(trained(BPETokenizer).tokens("if the value is")) == "if the value is"
    assert BPETokenizer([]).tokens("aä") == ["a", "<0xC3>", "<0xA4>"]
    assert WordPieceTokenizer(["un", "##able"]).tokens("unableä") == ["un", "##able", "<0xC3>", "<0xA4>"]
    assert UnigramTokenizer({" a": -1.0, "b": -2.0, " ": -3.0, "a": -3.0}).tokens(" ab") == [" a", "b"]
    assert WordTokenizer(["cat", "the"]).tokens("the  cat") == ["the", "cat"]
    assert CharTokenizer("ab").tokens("ba") == ["b", "a"]


def test_decode_takes_whole_numbers_of_any_library():
    tokenizer = CharTokenizer("ab")
    assert tokenizer.decode(np.array([0, 1, 1])) == "abb"
    for ids in ([0.0], np.array([[0, 1]]), "01", [None]):
        with pytest.raises(TypeError, match="ids are whole numbers in one flat sequence"):
            tokenizer.decode(ids)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_ids_outside_the_vocabulary_are_refused(kind):
    tokenizer = any_kind(kind)
    for i in (-1, len(tokenizer)):
        with pytest.raises(ValueError, match=f"id {i} is not one of this vocabulary's 0 to {len(tokenizer) - 1}"):
            tokenizer.decode([i])
        with pytest.raises(ValueError, match=f"id {i}"):
            tokenizer.piece(i)


def test_an_unknown_special_token_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'\[CLS\]' is not a special token.*\['\[PAD\]', '\[MASK\]'\]"):
        trained(BPETokenizer).special_id("[CLS]")


@pytest.mark.parametrize("names", [("[A]", "[A]"), ("",)])
def test_special_names_must_be_different_and_not_empty(names):
    with pytest.raises(ValueError, match="different and not empty"):
        CharTokenizer("ab", names)


def test_one_special_name_instead_of_a_sequence_is_refused():
    with pytest.raises(TypeError, match=r"write \('\[PAD\]',\)"):
        CharTokenizer("ab", "[PAD]")


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_cache_is_bounded_and_changes_nothing(kind, monkeypatch):
    tokenizer, fresh = any_kind(kind), any_kind(kind)
    expected = [i for word in tokenizer._words(MIXED[:2000]) for i in tokenizer._encode_word(word)]
    monkeypatch.setattr(base, "CACHE_WORDS", 10)
    fresh._cache.clear()
    assert fresh.encode(MIXED[:2000]) == expected == fresh.encode(MIXED[:2000])
    assert 0 < len(fresh._cache) <= 10


def reference_bpe(text: str, vocab_size: int, special_tokens=()) -> reference.Tokenizer:
    byte_level = reference.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer = reference.Tokenizer(reference.models.BPE())
    tokenizer.pre_tokenizer = byte_level
    trainer = reference.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(special_tokens),
        initial_alphabet=byte_level.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def gpt2_spelling(piece: bytes) -> str:
    """GPT-2's file format: a printable byte is its own character, the n-th other byte character 256 + n."""
    others = [b for b in range(256) if not (0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE)]
    return "".join(chr(256 + others.index(b)) if b in others else chr(b) for b in piece)


def repetitive_text(seed: int) -> str:
    """Many ties and many runs of one letter: where counting and the order of merges go wrong first."""
    generator = random.Random(seed)
    words = ("".join(generator.choices("aab", k=generator.randint(1, 9))) for _ in range(80))
    return " ".join(words)


BPE_TEXTS = {
    "English": (ENGLISH[:120_000], 1000),
    "mixed with Chinese": (MIXED, 1200),
    "Chinese": (CHINESE, 400),
    "contractions": (
        "we're we're it's it's I'll I'll'S 'tis they've they've I'm I'm you'd you'd don't don't",
        300,
    ),
    "one letter": ("aaaaaaa aaaa aaa aa a", 300),
    **{f"ties {seed}": (repetitive_text(seed), 400) for seed in range(20)},
}


@pytest.mark.parametrize("name", BPE_TEXTS)
def test_bpe_has_the_merges_and_the_ids_of_the_reference_library(name):
    text, vocab_size = BPE_TEXTS[name]
    ours, theirs = BPETokenizer.train(text, vocab_size, SPECIAL), reference_bpe(text, vocab_size, SPECIAL)
    merges = [tuple(merge) for merge in json.loads(theirs.to_str())["model"]["merges"]]
    assert [(gpt2_spelling(left), gpt2_spelling(right)) for left, right in ours.merges] == merges
    vocabulary = [*SPECIAL, *(gpt2_spelling(piece) for piece in ours.vocabulary[2:])]
    assert vocabulary == sorted(theirs.get_vocab(), key=theirs.get_vocab().get)
    for sample in (text[:5000], ENGLISH[-5000:], repetitive_text(99), *list(ADVERSARIAL.values())[:10]):
        assert ours.encode(sample) == theirs.encode(sample).ids


def test_bpe_merges_the_most_frequent_pair_of_the_whole_text_at_each_step():
    """The definition, counted anew at each step; the tokenizer keeps its counts up to date instead."""
    text, n_merges = repetitive_text(3) + " " + CHINESE[:40] * 2, 40
    tokenizer = BPETokenizer.train(text, 256 + n_merges)
    ids = {piece: i for i, piece in enumerate(tokenizer.vocabulary)}
    words = Counter(tuple(bytes([b]) for b in word.encode()) for word in tokenizer._words(text))
    for merge in tokenizer.merges:
        counts = count_pairs(words)
        assert merge == min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        words = Counter({merge_pair(word, merge): count for word, count in words.items()})


def test_plain_ascii_is_cut_into_the_same_words_by_another_engine():
    ascii_only = [chr(i) for i in range(128)]
    for pair in product(ascii_only, repeat=2):
        assert gpt2_words("".join(pair)) == GPT2_WORDS.findall("".join(pair))
    for part in product("'s 1!\n\t\x1c", repeat=6):
        assert gpt2_words("".join(part)) == GPT2_WORDS.findall("".join(part))


@pytest.mark.parametrize("seed", range(20))
def test_blocks_of_a_long_text_are_cut_where_no_word_goes_on(seed):
    generator = random.Random(seed)
    signs = [
        "a",
        "b",
        "'s",
        "1",
        "!",
        "_",
        " ",
        "  ",
        "\n",
        "\t",
        "\x0b",
        "\x1c",
        "\x85",
        "\xa0",
        "\u2003",
        "\xe9",
        "\u0663",
        "\u5b57",
    ]
    weights = [9, 9, 2, 2, 2, 1, 6, 1, 2, 1] + [
        generator.choice([0, 0.1, 1])
    ] * 8  # few, some or many that are not ASCII
    text = "".join(generator.choices(signs, weights, k=8_000))
    assert gpt2_words(text) == GPT2_WORDS.findall(text)
    no_break = text.replace(" ", "").replace("\n", "")
    assert gpt2_words(no_break) == GPT2_WORDS.findall(no_break)


def test_bpe_applies_the_earliest_merge_first_not_the_longest_piece():
    tokenizer = BPETokenizer([(b"b", b"c"), (b"a", b"b"), (b"ab", b"d")])
    assert tokenizer.tokens("abc") == ["a", "bc"]
    assert tokenizer.tokens("abd") == ["abd"]


def test_bpe_stops_where_no_pair_occurs_often_enough():
    assert BPETokenizer.train("ab", 300).merges == []
    assert BPETokenizer.train("ab", 300, min_frequency=1).merges == [(b"a", b"b")]
    tokenizer = BPETokenizer.train("abc abc", 300)
    assert tokenizer.merges == [(b"a", b"b"), (b"ab", b"c")]
    assert len(tokenizer) == 258


def test_bpe_refuses_merges_of_pieces_that_do_not_exist():
    with pytest.raises(ValueError, match="no earlier merge makes both parts of the merge b'ab' b'c'"):
        BPETokenizer([(b"ab", b"c"), (b"a", b"b")])


def test_two_bpe_merges_may_spell_the_same_piece():
    tokenizer = BPETokenizer([(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc")])
    assert len(tokenizer) == 256 + 3
    assert tokenizer.tokens("abc") == ["abc"]


def test_bpe_learns_2048_tokens_of_700_kilobytes_in_seconds():
    text = (ENGLISH * 2)[:700_000]
    start = time.process_time()
    tokenizer = BPETokenizer.train(text, 2048)
    ids = tokenizer.encode(text)
    assert time.process_time() - start < 15  # 0.7 when written; counting anew at each merge takes minutes
    assert len(text) / len(ids) > 3


def test_counts_of_pairs_are_weighted_by_the_words_and_overlaps_count_twice():
    words = {("a", "a", "a"): 5, ("b", "a", "a"): 2, ("c",): 7}
    assert count_pairs(words) == {("a", "a"): 12, ("b", "a"): 2}
    assert count_pairs({}) == {}


def test_merging_goes_from_left_to_right_without_overlap():
    assert merge_pair(("a", "a", "a"), ("a", "a")) == ("aa", "a")
    assert merge_pair((b"x", b"a", b"b", b"a", b"b"), (b"a", b"b")) == (b"x", b"ab", b"ab")
    assert merge_pair(("a", "b"), ("b", "a")) == ("a", "b")
    assert merge_pair(("h", "##u", "##g"), ("h", "##u"), "hu") == ("hu", "##g")
    assert merge_pair((), ("a", "b")) == ()


def test_wordpiece_score_is_the_count_of_the_pair_over_the_product_of_the_counts():
    assert wordpiece_score(5, 20, 5) == 1 / 20
    assert wordpiece_score(20, 36, 20) == 1 / 36


def test_wordpiece_merges_by_attraction_where_bpe_merges_by_frequency():
    """By hand: u g occurs 20 times but scores 20/(36*20) = 1/36; g s, 5 times, scores 5/(20*5) = 1/20."""
    text = "hug\n" * 10 + "pug\n" * 5 + "pun\n" * 12 + "bun\n" * 4 + "hugs\n" * 5
    alphabet = ["\n", "##g", "##n", "##s", "##u", "b", "h", "p"]
    assert WordPieceTokenizer.train(text, 264).vocabulary[256:] == tuple(alphabet)
    assert WordPieceTokenizer.train(text, 265).vocabulary[-1] == "##gs"
    assert BPETokenizer.train(text, 257).merges == [(b"u", b"g")]


def test_wordpiece_training_keeps_its_counts_right():
    """The definition, with words and counts made anew at each step."""
    text = repetitive_text(5) + " " + ENGLISH[:600]
    tokenizer = WordPieceTokenizer.train(text, 420)
    words = Counter()
    for word in tokenizer._words(text):
        head = word[:2] if word[0] == " " else word[0]
        words[(head, *("##" + character for character in word[len(head) :]))] += 1
    n_symbols = len({symbol for word in words for symbol in word})
    learnt = list(tokenizer.vocabulary[256 + n_symbols :])
    assert len(learnt) > 50
    while learnt:
        pairs, symbols = count_pairs(words), Counter()
        for word, count in words.items():
            for symbol in word:
                symbols[symbol] += count
        candidates = [pair for pair in pairs if pairs[pair] >= 2]
        left, right = min(
            candidates, key=lambda pair: (-wordpiece_score(pairs[pair], *(symbols[s] for s in pair)), pair)
        )
        merged = left + right.removeprefix("##")
        words = Counter({merge_pair(word, (left, right), merged): count for word, count in words.items()})
        assert learnt.pop(0) == merged


def test_wordpiece_encodes_like_the_reference_library():
    tokenizer = trained(WordPieceTokenizer)
    theirs = reference.models.WordPiece(
        {piece: i for i, piece in enumerate(tokenizer.vocabulary)},
        unk_token="[PAD]",
        max_input_chars_per_word=99,
    )
    words = set(tokenizer._words(MIXED))
    assert len(words) > 500
    for word in words:
        ours = tokenizer._encode_word(word)
        if min(ours) >= 258:  # no byte tokens, for which the library has [UNK]
            assert ours == [token.id for token in theirs.tokenize(word)]


def test_wordpiece_takes_the_longest_piece_even_where_a_shorter_one_would_do_better():
    tokenizer = WordPieceTokenizer(["a", "ab", "abc", "##b", "##bcd", "##c", "##d"])
    assert tokenizer.tokens("abcd") == ["abc", "##d"]
    assert tokenizer.tokens("abb") == ["ab", "##b"]


def test_wordpiece_min_frequency_keeps_rare_pairs_out():
    text = "hug\n" * 10 + "pug\n" * 5 + "pun\n" * 12 + "bun\n" * 4 + "hugs\n" * 5
    assert "##gs" in WordPieceTokenizer.train(text, 300, min_frequency=5).vocabulary
    assert "##gs" not in WordPieceTokenizer.train(text, 300, min_frequency=6).vocabulary


def all_cuts(text: str) -> list[list[str]]:
    """Every way to cut a text of n characters: there are 2 ** (n - 1)."""
    n = len(text)
    places = (inner for size in range(n) for inner in combinations(range(1, n), size))
    return [[text[a:b] for a, b in pairwise((0, *inner, n))] for inner in places]


def random_model(seed: int) -> tuple[str, dict[str, float]]:
    """A text over a, b, c, and log probabilities of the letters and of some of its longer pieces."""
    generator = random.Random(seed)
    text = "".join(generator.choices("abc", k=generator.randint(1, 9)))
    pieces = sorted({piece for cut in all_cuts(text) for piece in cut if generator.random() < 0.3} | set("abc"))
    weights = [generator.random() + 0.01 for _ in pieces]
    return text, {p: math.log(w / sum(weights)) for p, w in zip(pieces, weights, strict=True)}


@pytest.mark.parametrize("seed", range(40))
def test_viterbi_finds_the_best_of_all_cuts(seed):
    text, log_p = random_model(seed)
    possible = [cut for cut in all_cuts(text) if all(piece in log_p for piece in cut)]
    best = max(possible, key=lambda cut: sum(log_p[piece] for piece in cut))
    assert viterbi(text, log_p) == best


def test_viterbi_by_hand():
    log_p = {
        "a": math.log(0.2),
        "b": math.log(0.2),
        "ab": math.log(0.05),
        "c": math.log(0.1),
        "bc": math.log(0.1),
    }
    assert viterbi("ab", log_p) == ["ab"]  # 0.05 against 0.2 * 0.2
    assert viterbi("abc", log_p) == ["a", "bc"]  # 0.2 * 0.1 against 0.05 * 0.1, which a greedy cut would take
    assert viterbi("", log_p) == []


@pytest.mark.parametrize("function", [viterbi, expected_counts])
def test_a_text_that_no_pieces_spell_is_refused(function):
    for log_p in ({"a": -1.0, "b": -1.0}, {}):
        with pytest.raises(ValueError, match="no pieces spell 'axb'"):
            function("axb", log_p)


@pytest.mark.parametrize("seed", range(40))
def test_expected_counts_are_the_average_over_all_cuts(seed):
    text, log_p = random_model(seed)
    weights = {}
    for cut in all_cuts(text):
        if all(piece in log_p for piece in cut):
            weights[tuple(cut)] = math.exp(sum(log_p[piece] for piece in cut))
    total, expected = sum(weights.values()), Counter()
    for cut, weight in weights.items():
        for piece in cut:
            expected[piece] += weight / total
    counts, log_likelihood = expected_counts(text, log_p)
    assert counts == pytest.approx(dict(expected))
    assert log_likelihood == pytest.approx(math.log(total))


def test_expected_counts_of_a_long_word_do_not_underflow():
    counts, log_likelihood = expected_counts("ab" * 2000, {"a": -5.0, "b": -6.0, "ab": -40.0})
    assert log_likelihood == pytest.approx(2000 * -11.0)
    assert counts["a"] == pytest.approx(2000)


def test_each_em_step_raises_the_likelihood_of_the_words():
    words = Counter(ENGLISH[:5000].split())
    pieces, likelihoods = seed_pieces(words, 300), []
    for _ in range(12):
        pieces, counts, log_likelihood = em_step(words, pieces)
        likelihoods.append(log_likelihood)
        assert sum(math.exp(log_p) for log_p in pieces.values()) == pytest.approx(1)
        spelled = sum(count * len(piece) for piece, count in counts.items())
        assert spelled == pytest.approx(sum(n * len(word) for word, n in words.items()))
    assert all(later > earlier for earlier, later in pairwise(likelihoods))


def test_the_first_em_step_by_hand():
    """p = 1/2 * 1/2 + 1/2 = 3/4: the cut a a has a third of it, the cut aa two thirds; times 3 words."""
    pieces, counts, log_likelihood = em_step({"aa": 3}, {"a": math.log(0.5), "aa": math.log(0.5)})
    assert counts == pytest.approx({"a": 2, "aa": 2})
    assert pieces == pytest.approx({"a": math.log(0.5), "aa": math.log(0.5)})
    assert log_likelihood == pytest.approx(3 * math.log(0.75))


def test_pruning_takes_away_what_the_text_misses_least():
    log_p = {
        "a": math.log(0.3),
        "b": math.log(0.3),
        "ab": math.log(0.09),
        "ba": math.log(0.3),
        "bb": math.log(0.2),
    }
    counts = {"a": 9.0, "b": 9.0, "ab": 50.0, "ba": 1.0, "bb": 5.0}
    # ab: 50 * log(0.09 / 0.09) = 0; ba: 1 * log(0.3 / 0.09) = 1.2; bb: 5 * log(0.2 / 0.09) = 4.0
    assert list(prune(log_p, counts, 4)) == ["a", "b", "ba", "bb"]
    assert list(prune(log_p, counts, 3)) == ["a", "b", "bb"]
    assert list(prune(log_p, counts, 1)) == ["a", "b"]


def test_seeds_are_the_characters_and_the_repeated_substrings_that_cover_most():
    seeds = seed_pieces({"abcd": 3, "abe": 1}, 2)
    assert list(seeds) == ["a", "b", "c", "d", "e", "abcd", "abc"]  # 4 * 3, then 3 * 3 before bcd, 3 * 3
    assert math.exp(seeds["abcd"] - seeds["e"]) == pytest.approx(3)
    assert "abe" not in seed_pieces({"abcd": 3, "abe": 1}, 99)


def test_unigram_vocabulary_has_the_size_asked_for_and_falls_in_probability():
    tokenizer = trained(UnigramTokenizer)
    assert len(tokenizer) == 900
    assert tokenizer.vocabulary[258:] == tuple(tokenizer.log_probabilities)
    pieces = tokenizer.log_probabilities.items()
    assert list(pieces) == sorted(pieces, key=lambda item: (-item[1], item[0]))
    assert sum(math.exp(log_p) for log_p in tokenizer.log_probabilities.values()) == pytest.approx(1)
    assert set(MIXED) <= set(tokenizer.log_probabilities)


def test_unigram_encodes_by_viterbi_like_the_reference_library():
    """Where two cuts are equally likely the library may choose the other one: the scores must be equal."""
    tokenizer = trained(UnigramTokenizer)
    theirs = reference.models.Unigram([("[UNK]", 0.0), *tokenizer.log_probabilities.items()], unk_id=0)
    for word in set(tokenizer._words(MIXED)):
        score = sum(tokenizer.log_probabilities[piece] for piece in tokenizer.tokens(word))
        found = sum(tokenizer.log_probabilities[token.value] for token in theirs.tokenize(word))
        assert score == pytest.approx(found)


@pytest.mark.parametrize("log_p", [0.1, math.nan, -math.inf])
def test_a_number_that_is_no_log_probability_is_refused(log_p):
    with pytest.raises(ValueError, match="is no log probability for 'a'"):
        UnigramTokenizer({"a": log_p})


@pytest.mark.parametrize("kind", SUBWORD)
def test_a_text_that_yields_fewer_pieces_gives_a_smaller_tokenizer(kind):
    tokenizer = kind.train("ab ab", 5000, SPECIAL)
    assert 258 < len(tokenizer) < 300
    assert tokenizer.decode(tokenizer.encode("ba ab\n")) == "ba ab\n"


@pytest.mark.parametrize("kind", SUBWORD)
def test_a_vocabulary_smaller_than_the_alphabet_is_refused_with_both_numbers(kind):
    least = {BPETokenizer: 258, WordPieceTokenizer: 262, UnigramTokenizer: 261}[kind]
    assert len(kind.train("ab ba", least, SPECIAL)) == least  # " b" is one symbol of WordPiece, two of Unigram
    with pytest.raises(ValueError, match=f"vocab_size={least - 1} is less than the {least} tokens .*2 special, 256 b"):
        kind.train("ab ba", least - 1, SPECIAL)


@pytest.mark.parametrize("vocab_size", [500.0, "500", None, True])
def test_a_vocabulary_size_that_is_no_whole_number_is_refused(vocab_size):
    with pytest.raises(TypeError, match=f"vocab_size is a whole number, not {vocab_size!r}"):
        BPETokenizer.train("ab", vocab_size)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_empty_text_cannot_train_and_encodes_to_nothing(kind):
    with pytest.raises(ValueError, match="the text '' is empty"):
        kind.train("", *([600] if kind in SUBWORD else []))
    assert any_kind(kind).encode("") == []
    assert any_kind(kind).decode([]) == ""


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("text", [b"bytes", ["a", "list"], None, 7])
def test_a_text_that_is_no_str_is_refused(kind, text):
    with pytest.raises(TypeError, match=f"a text is a str, not {type(text).__name__}"):
        kind.train(text, *([600] if kind in SUBWORD else []))
    with pytest.raises(TypeError, match=f"a text is a str, not {type(text).__name__}"):
        any_kind(kind).encode(text)


def test_an_alphabet_covers_the_share_of_the_text_that_is_asked_for():
    words = {"aaaa": 2, "ab": 1, "c": 1}  # a 9 times, b and c once: 11
    assert covering_alphabet(words, 1.0) == {"a", "b", "c"}
    assert covering_alphabet(words, 0.9) == {"a", "b"}
    assert covering_alphabet(words, 9 / 11) == {"a"}
    assert covering_alphabet({"b": 1, "a": 1}, 0.5) == {"a"}  # of equals the first in the alphabet
    for coverage in (0, 1.1, -1, math.nan):
        with pytest.raises(ValueError, match=f"character_coverage={coverage} is a share"):
            covering_alphabet(words, coverage)


@pytest.mark.parametrize("kind", [WordPieceTokenizer, UnigramTokenizer])
def test_characters_beyond_the_coverage_are_spelled_in_bytes(kind):
    text = "tea time " * 200 + "théâtre"
    tokenizer = kind.train(text, 290, character_coverage=0.99)
    assert not any("é" in piece for piece in tokenizer.vocabulary)
    assert tokenizer.tokens("é") == ["<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert any("é" in piece for piece in kind.train(text, 290).vocabulary)


def test_training_does_not_depend_on_the_order_of_sets():
    program = (
        "from llmcourse.tokenizers import *\nfrom pydoc_data.topics import topics\n"
        "text = topics['assignment']\n"
        "print([k.train(text, 500).vocabulary for k in (BPETokenizer, WordPieceTokenizer, UnigramTokenizer)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_an_unknown_word_is_refused_with_the_nearest_known_word():
    tokenizer = WordTokenizer(["the", "cats", "sleep"], SPECIAL)
    assert tokenizer.encode("the cats\nsleep") == [2, 3, 4]
    with pytest.raises(
        ValueError, match=r"the word 'cat' is none of the 3 known words; the nearest is 'cats'\. Correct"
    ):
        tokenizer.encode("the cat")
    with pytest.raises(ValueError, match=r"the word '\[MASK\]' is none of .*special_id"):
        tokenizer.encode("the [MASK]")


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_signatures_are_true(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", False)
    tokenizer = kind.train(text := repetitive_text(0), *([300] if kind in SUBWORD else []), special_tokens=SPECIAL)
    tokenizer.save(tmp_path / "t.json")
    assert Tokenizer.load(tmp_path / "t.json").decode(np.array(tokenizer.encode(text))) == text
    assert tokenizer.tokens(text[:9]) == [tokenizer.piece(i) for i in tokenizer.encode(text[:9])]


def test_words_and_characters_are_learnt_in_order():
    words = ("and", "brown", "dog", "fox", "lazy", "quick", "the")
    assert WordTokenizer.train("the quick brown fox and the lazy dog").vocabulary == words
    assert CharTokenizer.train("banana", SPECIAL).vocabulary == (*SPECIAL, "a", "b", "n")


@pytest.mark.parametrize("words", [["two words"], [""], ["a\n"], ["one", "two words"]])
def test_a_word_holds_no_white_space(words):
    with pytest.raises(ValueError, match="is not one word"):
        WordTokenizer(words)


def test_an_unknown_character_is_refused_with_its_code_point():
    with pytest.raises(ValueError, match=r"the character 'ä' \(U\+00E4\) is none of the 2 known ones"):
        CharTokenizer("ab").encode("abä")
    with pytest.raises(ValueError, match="'ab' is not one character"):
        CharTokenizer(["ab"])


@pytest.mark.parametrize(
    "build",
    [
        lambda: WordTokenizer(["a", "b", "a"]),
        lambda: CharTokenizer("aba"),
        lambda: WordPieceTokenizer(["<0x00>"]),
        lambda: UnigramTokenizer({"<0x00>": -1.0}),
    ],
)
def test_a_piece_that_is_given_twice_is_refused(build):
    with pytest.raises(ValueError, match=r"the piece '(a|<0x00>)' is given twice"):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: WordTokenizer([]),
        lambda: CharTokenizer(""),
        lambda: WordPieceTokenizer(["##"]),
        lambda: WordPieceTokenizer([""]),
        lambda: UnigramTokenizer({"": -1.0}),
    ],
)
def test_a_tokenizer_needs_pieces_and_a_piece_needs_a_character(build):
    with pytest.raises(ValueError, match=r"at least one (word|character)"):
        build()


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("load", [Tokenizer.load, None], ids=["by the base class", "by its own class"])
def test_a_saved_tokenizer_comes_back_equal(kind, load, tmp_path):
    tokenizer, path = any_kind(kind), tmp_path / "new folder" / "tokenizer.json"
    tokenizer.save(path)
    loaded = (load or kind.load)(path)
    assert type(loaded) is kind
    assert repr(loaded) == repr(tokenizer)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.special_tokens == tokenizer.special_tokens
    assert getattr(loaded, "merges", None) == getattr(tokenizer, "merges", None)
    assert getattr(loaded, "log_probabilities", None) == getattr(tokenizer, "log_probabilities", None)
    assert loaded.encode(MIXED) == tokenizer.encode(MIXED)
    assert os.listdir(path.parent) == ["tokenizer.json"]


def test_the_file_is_readable_json(tmp_path):
    CharTokenizer("a中", SPECIAL).save(tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "kind": "char",
        "special_tokens": ["[PAD]", "[MASK]"],
        "characters": ["a", "中"],
    }
    assert "中" in text
    BPETokenizer([(b" ", b"t"), (b" t", b"h"), (b"\xc3", b"\xa4")]).save(str(tmp_path / "t.json"))
    assert json.loads((tmp_path / "t.json").read_bytes())["merges"] == [[" ", "t"], [" t", "h"], ["Ã", "¤"]]


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    CharTokenizer("ab").save(path)

    def full(handle):
        raise OSError("no space left on the disk")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        CharTokenizer("xyz").save(path)
    assert Tokenizer.load(path).vocabulary == ("a", "b")
    assert os.listdir(tmp_path) == ["t.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe{}", "is not UTF-8 at byte 0"),
        (b"not json", "is not JSON"),
        (b"", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "is of the kind None, none of"),
        (b'{"model": {}}', "is of the kind None, none of"),
        (b'{"kind": "morse"}', "is of the kind 'morse', none of .*'bpe'"),
        (b'{"kind": ["bpe"]}', r"is of the kind \['bpe'\]"),
        (b'{"kind": "bpe"}', "is a damaged BPETokenizer"),
        (b'{"kind": "bpe", "merges": [["a"]]}', "is a damaged BPETokenizer"),
        (b'{"kind": "bpe", "merges": [["ab", "c"]]}', "is a damaged BPETokenizer .*no earlier merge"),
        (b'{"kind": "bpe", "merges": null}', "is a damaged BPETokenizer"),
        (b'{"kind": "word", "words": [7]}', "is a damaged WordTokenizer .*a text is a str"),
        (b'{"kind": "char", "characters": ["\\ud800"]}', "is a damaged CharTokenizer .*lone surrogate"),
        (b'{"kind": "char", "letters": "ab"}', "is a damaged CharTokenizer"),
        (b'{"kind": "wordpiece", "pieces": 3}', "is a damaged WordPieceTokenizer"),
        (b'{"kind": "unigram", "log_probabilities": ["a"]}', "is a damaged UnigramTokenizer"),
        (b'{"kind": "unigram", "log_probabilities": {"a": NaN}}', "is a damaged UnigramTokenizer"),
        (b'{"kind": "unigram", "log_probabilities": {"a": "b"}}', "is a damaged UnigramTokenizer"),
    ],
)
def test_a_file_that_holds_no_tokenizer_is_refused_by_name(content, message, tmp_path):
    path = tmp_path / "strange.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"strange.json {message}"):
        Tokenizer.load(path)


def test_whoever_reads_the_old_file_is_not_disturbed_by_a_new_one(tmp_path):
    path = tmp_path / "t.json"
    CharTokenizer("ab").save(path)
    before = path.read_text()
    with path.open() as reader:
        CharTokenizer("xyz").save(path)
        assert reader.read() == before
    assert Tokenizer.load(path).vocabulary == ("x", "y", "z")


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    CharTokenizer("ab").save(tmp_path / "t.json")
    with pytest.raises(ValueError, match=r"holds a CharTokenizer, no BPETokenizer: use Tokenizer\.load"):
        BPETokenizer.load(tmp_path / "t.json")


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Tokenizer.load(tmp_path / "none.json")
