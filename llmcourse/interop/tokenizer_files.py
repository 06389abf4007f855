"""Tokenizers to and from the files of the `tokenizers` library: `tokenizer.json`, or `vocab.json` and `merges.txt`.

What maps exactly, and under which condition:

| ours | theirs | the same ids for |
|---|---|---|
| `BPETokenizer` | BPE, byte level | every text |
| `UnigramTokenizer` | Unigram with byte fallback | every text |
| `WordPieceTokenizer` | WordPiece, which has no bytes | texts of known characters; the others become the unknown token, or are refused |
| `WordTokenizer`, `CharTokenizer` | WordLevel | every text that ours can encode; of the others a special token is read as one, and the rest is refused or unknown |

"Every text" means characters that both libraries know: the newest additions to Unicode reach one before the other. Ours
never reads a special token out of a text; theirs does, unless its `encode_special_tokens` is set to True (in the
transformers library: `split_special_tokens=True`).

A tokenizer that none of ours can be, such as the published BERT's, which lower-cases and drops spaces, is borrowed as it is.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import SupportsIndex

from llmcourse.files import read_text, write_atomically
from llmcourse.tokenizers import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
)
from llmcourse.tokenizers.base import BYTE_PIECES, checked_text
from llmcourse.tokenizers.bpe import BYTES
from llmcourse.tokenizers.wordpiece import BERT_WORDS

LONGEST_WORD = 1_000_000  # characters; theirs gives up on longer words, ours never does
UNKNOWN = "[UNK]"
# GPT-2 writes each byte as a character that can be seen: printable ones as themselves, the others from U+0100 on.
_SEEN = {byte[0] for byte in BYTES[:188]}
BYTE_LETTERS = {byte[0]: chr(byte[0] if byte[0] in _SEEN else 256 + n - 188) for n, byte in enumerate(BYTES)}
LETTER_BYTES = {letter: byte for byte, letter in BYTE_LETTERS.items()}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_SPELLED = [{"type": "ByteFallback"}, {"type": "Fuse"}]


def letters(piece: bytes) -> str:
    """The bytes of a piece as GPT-2's files write them: " hug" becomes "Ġhug"."""
    return "".join(BYTE_LETTERS[byte] for byte in piece)


def unlettered(piece: str) -> bytes:
    """The bytes that `letters` wrote. Raises ValueError for a letter that stands for no byte."""
    try:
        return bytes(LETTER_BYTES[letter] for letter in piece)
    except KeyError as error:
        raise ValueError(f"{piece!r} is not in GPT-2's letters for bytes: {error} stands for none") from None


def _split(pattern: str, behavior: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def _model(tokenizer: Tokenizer) -> dict:
    """The parts of their file that say how a text becomes pieces: model, pre_tokenizer, decoder."""
    vocabulary = {piece: i for i, piece in enumerate(tokenizer.vocabulary)}
    if isinstance(tokenizer, BPETokenizer):
        n_special = len(tokenizer.special_tokens)
        vocabulary = {piece if i < n_special else letters(piece): i for piece, i in vocabulary.items()}
        merges = [[letters(part) for part in pair] for pair in tokenizer.merges]
        model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                 "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                 "vocab": vocabulary, "merges": merges}  # fmt: skip
        return {"model": model, "pre_tokenizer": _BYTE_LEVEL, "decoder": _BYTE_LEVEL | {"add_prefix_space": True}}
    if isinstance(tokenizer, WordPieceTokenizer):
        model = {"type": "WordPiece", "unk_token": UNKNOWN, "continuing_subword_prefix": "##",
                 "max_input_chars_per_word": LONGEST_WORD, "vocab": vocabulary}  # fmt: skip
        unmarked = {"type": "Replace", "pattern": {"String": "##"}, "content": ""}
        decoder = {"type": "Sequence", "decoders": [unmarked, *_SPELLED]}
        return {"model": model, "pre_tokenizer": _split(BERT_WORDS.pattern, "Isolated"), "decoder": decoder}
    if isinstance(tokenizer, UnigramTokenizer):
        known = tokenizer.log_probabilities
        least = min(known.values(), default=0.0) - 1.0  # bytes and special tokens are never cut out of a text
        pieces = [[piece, known.get(piece, least)] for piece in tokenizer.vocabulary]
        model = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": True}
        decoder = {"type": "Sequence", "decoders": _SPELLED}
        return {"model": model, "pre_tokenizer": _split(BERT_WORDS.pattern, "Isolated"), "decoder": decoder}
    if isinstance(tokenizer, WordTokenizer):
        cut, decoder = _split(r"[\s\x1c-\x1f]+", "Removed"), None  # what Python's split() cuts at
    elif isinstance(tokenizer, CharTokenizer):
        cut, decoder = _split(r"(?m:.)|\n", "Isolated"), {"type": "Fuse"}
    else:
        raise ValueError(f"a {type(tokenizer).__name__} has no form in the tokenizers library")
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN}
    return {"model": model, "pre_tokenizer": cut, "decoder": decoder}


def tokenizer_content(tokenizer: Tokenizer, frame: tuple[str, str] | None = None) -> dict:
    """The content of `tokenizer.json` for a tokenizer of ours.

    frame: the special tokens that their tokenizer puts before and after a text, such as ("[CLS]", "[SEP]"); the second one
    also ends the second text of a pair. Raises ValueError when the special token of a WordPiece or Unigram could be taken for
    a word of a text, and when any has the name of a piece.
    """
    for name in tokenizer.special_tokens:
        is_word = BERT_WORDS.findall(name) == [name] and not isinstance(tokenizer, BPETokenizer)
        if is_word and not isinstance(tokenizer, WordTokenizer | CharTokenizer):
            raise ValueError(
                f"the special token {name!r} looks like a word, and theirs would take it for one: use [..]"
            )
    parts = _model(tokenizer)
    if len({one if isinstance(one, str) else one[0] for one in parts["model"]["vocab"]}) < len(tokenizer):
        raise ValueError("a special token has the name of a piece, and theirs knows one id for a name: rename it")
    special = [
        {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for name, i in tokenizer.special_tokens.items()
    ]  # fmt: skip
    start = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None}
    return start | parts | {"post_processor": _frame(tokenizer, frame)}


def _frame(tokenizer: Tokenizer, frame: tuple[str, str] | None) -> dict | None:
    if frame is None:
        return None
    used = {name: {"id": name, "ids": [tokenizer.special_id(name)], "tokens": [name]} for name in frame}

    def special(name: str, segment: int) -> dict:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    first = [special(frame[0], 0), {"Sequence": {"id": "A", "type_id": 0}}, special(frame[1], 0)]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, special(frame[1], 1)]
    return {"type": "TemplateProcessing", "single": first, "pair": first + second, "special_tokens": used}


def save_tokenizer(tokenizer: Tokenizer, folder: Path | str, frame: tuple[str, str] | None = None) -> None:
    """Write `tokenizer.json`, and for a BPE also `vocab.json` and `merges.txt`, into the folder."""
    folder, content = Path(folder), tokenizer_content(tokenizer, frame)
    write_atomically(folder / "tokenizer.json", json.dumps(content, ensure_ascii=False).encode())
    if isinstance(tokenizer, BPETokenizer):
        merges = "".join(f"{left} {right}\n" for left, right in content["model"]["merges"])
        write_atomically(folder / "vocab.json", json.dumps(content["model"]["vocab"], ensure_ascii=False).encode())
        write_atomically(folder / "merges.txt", f"#version: 0.2\n{merges}".encode())


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of ours that gives the same ids as the files in the folder.

    Special tokens that theirs keeps behind all other ids, as the published GPT-2 does, are left out; ours has them in
    front. Raises ValueError when no tokenizer of ours does the same, with the part that differs; `BorrowedTokenizer` takes
    those.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        content = _json(path)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        path = folder / "vocab.json"
        lines = [line for line in read_text(folder / "merges.txt").split("\n") if not line.startswith("#version")]
        model = {"type": "BPE", "vocab": _json(path), "merges": [line.split(" ") for line in lines if line]}
        content = {"model": model, "pre_tokenizer": _BYTE_LEVEL}
    else:
        raise ValueError(f"{folder} holds no tokenizer.json, and no vocab.json with merges.txt")
    try:
        tokenizer = _ours(content)
        mine = tokenizer_content(tokenizer)
        cut = content.get("pre_tokenizer")
        if isinstance(cut, dict) and cut.get("type") == "ByteLevel":
            cut = {"use_regex": True} | cut  # older files, such as GPT-2's own, do not say what was always done
        differing = [
            key
            for key, part in (("normalizer", content.get("normalizer")), ("pre_tokenizer", cut))
            if part != mine[key]
        ]
        # Theirs cuts such tokens out of every text, before anything else.
        differing += (
            ["added_tokens"] if any(not one.get("special") for one in content.get("added_tokens") or []) else []
        )
        differing += [f"model.{key}" for key in mine["model"] if _differs(key, content["model"], mine["model"])]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no tokenizer that ours can be ({error}); try BorrowedTokenizer") from None
    if differing:
        raise ValueError(
            f"{path} is no tokenizer that ours can be: {', '.join(differing)} differ; try BorrowedTokenizer"
        )
    return tokenizer


def _json(path: Path) -> dict:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error})") from None


def _differs(key: str, theirs: dict, mine: dict) -> bool:
    """Whether a part of the model would change the ids; older files write "a b" for a merge and leave out defaults."""
    if key == "merges":
        pairs = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in theirs["merges"]]
        return pairs != mine["merges"]
    if key == "vocab":
        last = max(mine["vocab"].values()) if isinstance(mine["vocab"], dict) else None
        kept = theirs["vocab"] if last is None else {one: i for one, i in theirs["vocab"].items() if i <= last}
        return [list(x) for x in kept] != mine["vocab"] if last is None else kept != mine["vocab"]
    if key == "unk_token":
        return False  # what cannot be encoded is unknown there and refused or spelled in bytes here
    return (theirs.get(key) or None) != (mine[key] or None) and key in theirs


def _ours(content: dict) -> Tokenizer:
    model = content["model"]
    kind, vocabulary = model.get("type", "BPE"), model["vocab"]
    pieces = [one[0] for one in vocabulary] if isinstance(vocabulary, list) else sorted(vocabulary, key=vocabulary.get)
    if kind == "BPE":
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        merges = [(unlettered(left), unlettered(right)) for left, right in pairs]
        return BPETokenizer(merges, pieces[: pieces.index(letters(BYTES[0]))])
    if kind in ("WordPiece", "Unigram"):
        n_special = pieces.index(BYTE_PIECES[0])
        special, rest = pieces[:n_special], pieces[n_special + len(BYTE_PIECES) :]
        if kind == "WordPiece":
            return WordPieceTokenizer(rest, special)
        return UnigramTokenizer(dict(vocabulary[n_special + len(BYTE_PIECES) :]), special)
    if kind == "WordLevel":
        special = [one["content"] for one in content.get("added_tokens", [])]
        words = [piece for piece in pieces if piece not in special]
        is_word = content["pre_tokenizer"]["behavior"] == "Removed"
        return (WordTokenizer if is_word else CharTokenizer)(words, special)
    raise ValueError(f"its model is a {kind}")


class BorrowedTokenizer:
    """A tokenizer of the `tokenizers` library, with the verbs of ours: encode, decode, special_id, len.

    path: a `tokenizer.json`, or the folder of one. Raises ValueError when the library or the file is missing.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            import tokenizers
        except ImportError:
            raise ValueError("borrowing a tokenizer needs the library: pip install tokenizers") from None
        path = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
        if not path.is_file():
            raise ValueError(f"there is no {path}")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is no tokenizer of that library ({error}); give its tokenizer.json") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # as ours: what a user types stays text

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def special_id(self, name: str) -> int:
        """The id of a special token. Raises ValueError when there is none of this name."""
        known = {one.content: i for i, one in self._tokenizer.get_added_tokens_decoder().items() if one.special}
        if name not in known:
            raise ValueError(f"{name!r} is no special token of this tokenizer: it has {', '.join(known) or 'none'}")
        return known[name]

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens around it."""
        return self._tokenizer.encode(checked_text(text), add_special_tokens=False).ids

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of ids, as far as the tokenizer kept it; special tokens show their names."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def piece(self, token_id: SupportsIndex) -> str:
        """The readable piece of one id."""
        return self._tokenizer.id_to_token(int(token_id))

    def tokens(self, text: str) -> list[str]:
        """The pieces that `encode` cuts a text into."""
        return [self.piece(i) for i in self.encode(text)]
