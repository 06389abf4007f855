"""The same ids in both libraries, on ten thousand texts made to be difficult, and files that say so when they cannot be ours."""

import json
import random
import unicodedata
from pydoc_data.topics import topics

import pytest

from llmcourse.interop import BorrowedTokenizer, load_tokenizer, save_tokenizer
from llmcourse.interop.tokenizer_files import letters, tokenizer_content, unlettered
from llmcourse.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
)

reference = pytest.importorskip("tokenizers")
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")
TEXT = (
    "\n".join(topics[name] for name in sorted(topics)[:12])
    + " 从前 有 一只 猫 。 Ärger über Öl; naïve café! ﷽ 👩‍👩‍👧 \t\t x = 0x1F\n"
)
ASSIGNED = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
AWKWARD = [
    "", " ", "  ", "\n", "\t \n", "\r\n", "\x00", "\x1c", "\u2028", "\u3000", "\u200b", "\ufeff", "a  b", " a", "a ", "'s", "''s",
    "I'll've", "##s", "####", "<0xE4>", "<0x41>", "[MASK]", " [MASK] ", "[PAD][UNK]", "<|endoftext|>", "Ġthe", "Ä", "A\u0308", "ﬁ", "½", "١٢٣",
    "９", "e\u0301\u0301\u0301", "👩‍👩‍👧", "🇩🇪", "\U0010fffd", "ẞß", "İi", "\u0e33", "नि", "a\u00a0b", "0.1e-5", "_" * 50, "ab" * 300,
    "猫" * 40, "a1b2", "x²", "\x7f", "\x85", "don't", "DON'T", "\ud7ff", "¿¡", "–—", "\u202eabc",
]  # fmt: skip


def adversarial_texts(n=10_000, seed=0, alphabet=None):
    """Awkward scraps, random characters of all of Unicode, pieces of the training text, and mixtures of these."""
    draw = random.Random(seed)

    def scrap():
        choice = draw.randrange(4)
        if choice == 0 and alphabet is None:
            return draw.choice(AWKWARD)
        if choice == 1:
            start = draw.randrange(len(TEXT))
            return TEXT[start : start + draw.randrange(1, 30)]
        if choice == 2:
            return " " * draw.randrange(3) + "\n" * draw.randrange(2)
        return "".join(draw.choice(alphabet or [chr(draw.choice(ASSIGNED))]) for _ in range(draw.randrange(1, 6)))

    texts = [] if alphabet else list(AWKWARD)
    while len(texts) < n:
        texts.append("".join(scrap() for _ in range(draw.randrange(1, 5))))
    return texts


def theirs_of(tokenizer):
    theirs = reference.Tokenizer.from_str(json.dumps(tokenizer_content(tokenizer)))
    theirs.encode_special_tokens = True  # what is typed stays text, as in ours
    return theirs


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BPETokenizer, UnigramTokenizer])
def test_the_same_ids_and_texts_on_ten_thousand_adversarial_strings(kind):
    tokenizer = kind.train(TEXT, 900, SPECIAL)
    theirs, texts = theirs_of(tokenizer), adversarial_texts()
    assert len(texts) == 10_000 and theirs.get_vocab_size() == len(tokenizer)
    for text, found in zip(texts, theirs.encode_batch(texts), strict=True):
        assert found.ids == tokenizer.encode(text), repr(text)
        assert theirs.decode(found.ids, skip_special_tokens=False) == tokenizer.decode(found.ids) == text


@pytest.mark.slow
def test_wordpiece_gives_the_same_ids_or_says_unknown_on_ten_thousand_strings():
    """Theirs spells nothing in bytes: where ours does, theirs has the unknown token, and only there."""
    tokenizer = WordPieceTokenizer.train(TEXT, 900, SPECIAL)
    theirs, unknown = theirs_of(tokenizer), tokenizer.special_id("[UNK]")
    in_bytes = range(len(SPECIAL), len(SPECIAL) + 256)
    n_same = 0
    for text in adversarial_texts():
        mine, found = tokenizer.encode(text), theirs.encode(text).ids
        if set(mine).isdisjoint(in_bytes):
            assert found == mine, repr(text)
            assert theirs.decode(found, skip_special_tokens=False) == text
            n_same += bool(mine)
        else:
            expected = []
            for word in tokenizer._words(text):
                ids = tokenizer.encode(word)
                expected += ids if set(ids).isdisjoint(in_bytes) else [unknown]
            assert found == expected, repr(text)
    assert n_same > 1000


@pytest.mark.slow
def test_wordpiece_gives_the_same_ids_on_ten_thousand_strings_of_its_own_characters():
    alphabet = sorted({c for c in TEXT if not c.isspace()})
    every = " ".join(f"{a}{a}" for a in alphabet) + "".join(f"{a} " for a in alphabet)
    tokenizer = WordPieceTokenizer.train(TEXT + every + "".join(f"\n{a}{a}\n" for a in alphabet), 1500, SPECIAL)
    theirs, in_bytes, n_spelled = theirs_of(tokenizer), range(len(SPECIAL), len(SPECIAL) + 256), 0
    for text in adversarial_texts(alphabet=alphabet):
        mine = tokenizer.encode(text)
        n_spelled += not set(mine).isdisjoint(in_bytes)
        if set(mine).isdisjoint(in_bytes):
            assert theirs.encode(text).ids == mine, repr(text)
    assert n_spelled < 5_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", [WordTokenizer, CharTokenizer])
def test_words_and_characters_give_the_same_ids_on_ten_thousand_strings(kind):
    texts = adversarial_texts()
    tokenizer = kind.train("\n".join(texts), ("[PAD]", "[EOS]"))
    theirs = theirs_of(tokenizer)
    for text in texts:
        found = theirs.encode(text).ids
        assert found == tokenizer.encode(text), repr(text)
        assert theirs.decode(found, skip_special_tokens=False) == tokenizer.decode(found)


TRAINED = {
    "bpe": BPETokenizer.train(TEXT[:5000], 400, SPECIAL),
    "wordpiece": WordPieceTokenizer.train(TEXT[:5000], 500, SPECIAL),
    "unigram": UnigramTokenizer.train(TEXT[:5000], 500, SPECIAL),
    "word": WordTokenizer.train(TEXT[:500], SPECIAL),
    "char": CharTokenizer.train(TEXT[:500], SPECIAL),
}


def equal(one, other):
    return (type(one), one.vocabulary, one.special_tokens, one._content()) == (
        type(other), other.vocabulary, other.special_tokens, other._content(),
    )  # fmt: skip


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("frame", [None, ("[UNK]", "[MASK]")])
def test_a_tokenizer_goes_out_and_comes_back_equal(kind, frame, tmp_path):
    save_tokenizer(TRAINED[kind], tmp_path, frame)
    assert equal(load_tokenizer(tmp_path), TRAINED[kind])
    theirs = reference.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.save(str(tmp_path / "tokenizer.json"))  # as their library writes the same file
    again = load_tokenizer(tmp_path)
    if kind == "unigram":  # their JSON reader may round the last bit of a score
        assert again.vocabulary == TRAINED[kind].vocabulary
        assert again.log_probabilities == pytest.approx(TRAINED[kind].log_probabilities, rel=1e-15, abs=0)
        again = UnigramTokenizer(TRAINED[kind].log_probabilities, tuple(again.special_tokens))
    assert equal(again, TRAINED[kind])


def test_the_older_pair_of_files_is_written_and_read(tmp_path):
    tokenizer = TRAINED["bpe"]
    save_tokenizer(tokenizer, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert equal(load_tokenizer(tmp_path), tokenizer)
    theirs = reference.ByteLevelBPETokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    for text in adversarial_texts(500):
        assert theirs.encode(text).ids == tokenizer.encode(text)


def test_special_tokens_at_the_end_are_left_out_and_ids_stay(tmp_path):
    """As in the published GPT-2, whose only special token has the last id."""
    tokenizer = BPETokenizer.train(TEXT[:5000], 400)
    save_tokenizer(tokenizer, tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text()) | {"<|endoftext|>": len(tokenizer)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "tokenizer.json").unlink()
    assert equal(load_tokenizer(tmp_path), tokenizer)


def test_letters_for_bytes_are_gpt_2_s_and_come_back():
    assert letters(b" hug\n") == "ĠhugĊ"
    assert unlettered(letters(bytes(range(256)))) == bytes(range(256))
    alphabet = reference.pre_tokenizers.ByteLevel.alphabet()
    assert {letters(bytes([b])) for b in range(256)} == set(alphabet)
    with pytest.raises(ValueError, match="stands for none"):
        unlettered("a b")


def test_a_frame_stands_around_one_text_and_two():
    tokenizer = WordTokenizer(["a", "b"], ("[CLS]", "[SEP]"))
    theirs = reference.Tokenizer.from_str(json.dumps(tokenizer_content(tokenizer, ("[CLS]", "[SEP]"))))
    assert theirs.encode("a b").ids == [0, 2, 3, 1]
    assert theirs.encode("a", "b").ids == [0, 2, 1, 3, 1]
    assert theirs.encode("a", "b").type_ids == [0, 0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"'\[EOS\]' is not a special token"):
        tokenizer_content(tokenizer, ("[CLS]", "[EOS]"))


def changed(tmp_path, kind, change):
    save_tokenizer(TRAINED[kind], tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bpe", lambda c: c.update(normalizer={"type": "Lowercase"}), "normalizer differ"),
        ("bpe", lambda c: c["pre_tokenizer"].update(add_prefix_space=True), "pre_tokenizer differ"),
        ("bpe", lambda c: c["model"].update(dropout=0.1), r"model\.dropout differ"),
        (
            "bpe",
            lambda c: c["model"]["vocab"].update({"a": 300, "zz": 66}),
            r"model\.vocab differ|not in list|earlier merge",
        ),
        ("wordpiece", lambda c: c["model"].update(max_input_chars_per_word=100), "max_input_chars_per_word differ"),
        ("wordpiece", lambda c: c.update(pre_tokenizer={"type": "BertPreTokenizer"}), "pre_tokenizer differ"),
        ("unigram", lambda c: c["model"].update(byte_fallback=False), r"model\.byte_fallback differ"),
        ("unigram", lambda c: c["model"].update(type="Riddle"), "its model is a Riddle"),
        ("word", lambda c: c.pop("model"), "'model'"),
        (
            "bpe",
            lambda c: c["added_tokens"].append({"id": 9_999, "content": "foo", "special": False}),
            "added_tokens differ",
        ),
    ],
)
def test_a_file_that_does_something_else_is_refused_with_the_part_that_differs(kind, change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        load_tokenizer(changed(tmp_path, kind, change))
    assert "try BorrowedTokenizer" in str(caught.value)


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="there is no"):
        BorrowedTokenizer(tmp_path / "nowhere")


def test_a_file_that_leaves_out_what_was_always_done_is_read_as_gpt_2_s_own_must_be(tmp_path):
    folder = changed(tmp_path, "bpe", lambda content: content["pre_tokenizer"].pop("use_regex"))
    assert load_tokenizer(folder).encode(TEXT) == TRAINED["bpe"].encode(TEXT) == BorrowedTokenizer(folder).encode(TEXT)


@pytest.mark.parametrize(
    "tokenizer",
    [WordTokenizer(["cat", "dog"], ("cat",)), CharTokenizer("ab", ("a",)), BPETokenizer([], ("a",))],
    ids=lambda tokenizer: tokenizer.kind,
)
def test_a_special_token_with_the_name_of_a_piece_is_refused(tokenizer):
    with pytest.raises(ValueError, match="has the name of a piece"):
        tokenizer_content(tokenizer)


def test_a_special_token_that_looks_like_a_word_is_refused():
    with pytest.raises(ValueError, match="'PAD' looks like a word"):
        tokenizer_content(WordPieceTokenizer(["a"], ("PAD",)))


def test_a_kind_of_its_own_is_refused():
    class Odd(Tokenizer):
        kind = "odd for this test"

    with pytest.raises(ValueError, match="a Odd has no form"):
        tokenizer_content(Odd(["a"], [b"a"], ()))


@pytest.mark.parametrize("kind", TRAINED)
def test_a_borrowed_tokenizer_does_what_its_file_says(kind, tmp_path):
    tokenizer, text = TRAINED[kind], TEXT[:100].replace("\n", " ")
    text = tokenizer.decode(tokenizer.encode(text.rsplit(" ", 3)[0])) if kind == "word" else text
    save_tokenizer(tokenizer, tmp_path)
    borrowed = BorrowedTokenizer(tmp_path)
    assert len(borrowed) == len(tokenizer) and borrowed.special_id("[MASK]") == 2
    assert borrowed.encode(text) == tokenizer.encode(text)
    assert borrowed.decode([2, *borrowed.encode(text)]).replace(" ", "") == f"[MASK]{text}".replace(" ", "")
    assert len(borrowed.tokens(text)) == len(tokenizer.encode(text))
    with pytest.raises(ValueError, match="'nothing' is no special token"):
        borrowed.special_id("nothing")
    with pytest.raises(ValueError, match=r"is no special token of this tokenizer: it has \[PAD\]"):
        borrowed.special_id(borrowed.piece(len(borrowed) - 1))
