"""What all tokenizers share: a vocabulary, special tokens, text to ids, ids to text, a file."""

import json
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar, SupportsIndex

from llmcourse.files import write_atomically

CACHE_WORDS = 65_536  # words whose ids a tokenizer remembers; once it is full, it forgets them all
LONGEST_SHOWN = 60  # characters of a bad value in a message
BYTE_PIECES = tuple(f"<0x{b:02X}>" for b in range(256))  # how SentencePiece writes the 256 bytes


class _Remembered(dict[str, list[int]]):
    """The ids of each word that was encoded: a new word is encoded when it is first looked up."""

    def __init__(self, encode_word: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode_word = encode_word

    def __missing__(self, word: str) -> list[int]:
        if len(self) >= CACHE_WORDS:
            self.clear()
        found = self[word] = self._encode_word(word)
        return found


class Tokenizer:
    """A vocabulary, and the way from a text to ids and back.

    vocabulary: the piece of each id, first the names of the special tokens, then all others.
    special_tokens: the id of each special token, by its name.

    A subclass says how a text falls into words (`_words`), how a word becomes ids (`_encode_word`), and which
    arguments of its constructor a file must hold (`_content`). `spelling` is each piece's text in UTF-8.
    """

    kind: ClassVar[str]
    _separator: ClassVar[bytes] = b""

    def __init__(self, pieces: Sequence[str | bytes], spelling: Iterable[bytes], special_tokens: Sequence[str]):
        names = checked_names(special_tokens)
        if len(set(pieces)) < len(pieces):
            twice = Counter(pieces).most_common(1)[0][0]
            raise ValueError(f"the piece {twice!r} is given twice: a piece has one id, so give it once")
        self.special_tokens = {name: i for i, name in enumerate(names)}
        self.vocabulary = (*names, *pieces)
        # Only pieces are looked up here, never special tokens: what a user types stays text.
        self._ids = {piece: i for i, piece in enumerate(pieces, start=len(names))}
        self._spelling = [*(name.encode() for name in names), *spelling]
        self._cache = _Remembered(self._encode_word)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __repr__(self) -> str:
        special = ", ".join(self.special_tokens) or "none"
        return f"{type(self).__name__}({len(self)} tokens, special: {special})"

    def special_id(self, name: str) -> int:
        """The id of a special token: the only way to get one."""
        if name not in self.special_tokens:
            raise ValueError(
                f"{name!r} is not a special token of this tokenizer, which has {list(self.special_tokens)}: "
                "name it in special_tokens when you train or build the tokenizer"
            )
        return self.special_tokens[name]

    def encode(self, text: str) -> list[int]:
        """The ids of a text, never one of a special token. The empty text has none."""
        return list(chain.from_iterable(map(self._cache.__getitem__, self._words(checked_text(text)))))

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of ids (a list, or a tensor of one dimension); special tokens show their names.

        Bytes that are not UTF-8, which a model can well generate, become the replacement character U+FFFD.
        """
        try:
            ids = iter(ids)
        except TypeError:
            raise TypeError(f"ids={ids!r} is no sequence: give a list of ids, or a tensor of one dimension") from None
        spelled = self._separator.join(self._spelling[self._checked_id(i)] for i in ids)
        return spelled.decode("utf-8", errors="replace")

    def piece(self, token_id: SupportsIndex) -> str:
        """The readable piece of one id, for labels: bytes that are no characters look like <0xE4>."""
        piece = self.vocabulary[self._checked_id(token_id)]
        if isinstance(piece, str):
            return piece
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return "".join(BYTE_PIECES[b] for b in piece)

    def tokens(self, text: str) -> list[str]:
        """The readable pieces that `encode` cuts a text into."""
        return [self.piece(i) for i in self.encode(text)]

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON, in UTF-8. A crash at any moment leaves the old file as it was."""
        content = {"kind": self.kind, "special_tokens": list(self.special_tokens), **self._content()}
        write_atomically(path, json.dumps(content, ensure_ascii=False, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read what `save` wrote: `Tokenizer.load` takes every kind, a subclass its own only."""
        try:
            content = json.loads(Path(path).read_bytes().decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 at byte {error.start}: give a file that save() wrote") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not JSON ({error}): give a file that save() wrote") from None
        kind = content.pop("kind", None) if isinstance(content, dict) else None
        found = next((known for known in Tokenizer.__subclasses__() if known.kind == kind), None)
        if found is None:
            kinds = [known.kind for known in Tokenizer.__subclasses__()]
            raise ValueError(f"{path} is of the kind {kind!r}, none of {kinds}: give a file that save() wrote")
        if not issubclass(found, cls):
            raise ValueError(f"{path} holds a {found.__name__}, no {cls.__name__}: use Tokenizer.load")
        try:
            return found._from_content(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is a damaged {found.__name__} ({error}): save it again") from error

    @classmethod
    def _from_content(cls, content: dict) -> "Tokenizer":
        return cls(**content)

    def _content(self) -> dict:
        raise NotImplementedError

    def _words(self, text: str) -> Iterable[str]:
        raise NotImplementedError

    def _encode_word(self, word: str) -> list[int]:
        raise NotImplementedError

    def _checked_id(self, token_id: SupportsIndex) -> int:
        try:
            i = operator.index(token_id)
        except TypeError:
            raise TypeError(f"{shown(token_id)} is no token id: ids are whole numbers in one flat sequence") from None
        if not 0 <= i < len(self):
            raise ValueError(f"id {i} is not one of this vocabulary's 0 to {len(self) - 1}: another tokenizer's?")
        return i


def shown(value: object) -> str:
    """A value for a message, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text):,} characters)"


def checked_text(text: str) -> str:
    """The text itself, when it is a str that UTF-8 can hold; else TypeError or ValueError."""
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}: decode bytes, join a list")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}, half "
            'a character and no text: text.encode("utf-8", "replace").decode() puts a question mark there'
        ) from None
    return text


def checked_names(special_tokens: Sequence[str]) -> tuple[str, ...]:
    """The names of the special tokens, if they are different and not empty; else TypeError or ValueError."""
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens is a sequence of names: write ({special_tokens!r},)")
    names = tuple(checked_text(name) for name in special_tokens)
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"special_tokens={names}: the names must be different and not empty")
    return names


def word_counts(text: str, words: Iterable[str]) -> Counter[str]:
    """How often each word occurs in a training text. Raises ValueError when there is none."""
    counts = Counter(words)
    if not counts:
        raise ValueError(f"the text {text[:20]!r} is empty: a tokenizer needs a text to learn from")
    return counts


def room_for_pieces(vocab_size: int, special_tokens: Sequence[str], alphabet: int, what: str) -> int:
    """How many pieces may be learnt beside the special tokens and the alphabet, which a vocabulary must hold.

    Raises ValueError when vocab_size has no room for these (`what` names the alphabet there), TypeError when it is no
    whole number.
    """
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int):
        raise TypeError(f"vocab_size is a whole number, not {vocab_size!r}")
    n_special = len(checked_names(special_tokens))
    least = n_special + alphabet
    if vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size} is less than the {least} tokens that must be in it "
            f"({n_special} special, {what}): ask for at least {least}"
        )
    return vocab_size - least
