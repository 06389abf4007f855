"""The two simplest tokenizers: a token for each word, a token for each character.

Words make short sequences but an endless vocabulary; characters make a small vocabulary but long sequences.
The other tokenizers of this package lie between the two.
"""

import difflib
from collections.abc import Iterable, Sequence

from llmcourse.tokenizers.base import LONGEST_SHOWN, Tokenizer, checked_text, shown, word_counts


class WordTokenizer(Tokenizer):
    """One token a word, for texts whose words are all known; decoding puts one space between two words."""

    kind = "word"
    _separator = b" "

    def __init__(self, words: Iterable[str], special_tokens: Sequence[str] = ()):
        words = [checked_text(word) for word in words]
        for word in words:
            if word.split() != [word]:
                raise ValueError(f"{word!r} is not one word: a word is not empty and holds no white space")
        if not words:
            raise ValueError("a WordTokenizer needs at least one word")
        super().__init__(words, [word.encode() for word in words], special_tokens)

    @classmethod
    def train(cls, text: str, special_tokens: Sequence[str] = ()) -> "WordTokenizer":
        """All words of the text, sorted."""
        return cls(sorted(word_counts(text, checked_text(text).split())), special_tokens)

    def _words(self, text: str) -> list[str]:
        return text.split()

    def _encode_word(self, word: str) -> list[int]:
        if word not in self._ids:
            nearest = difflib.get_close_matches(word[:LONGEST_SHOWN], self._ids, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"the word {shown(word)} is none of the {len(self._ids)} known words; the nearest is {nearest!r}. "
                "Correct it, or build the tokenizer with it (ids of special tokens come from special_id)"
            )
        return [self._ids[word]]

    def _content(self) -> dict:
        return {"words": list(self._ids)}


class CharTokenizer(Tokenizer):
    """One token a character, that is, a Unicode code point."""

    kind = "char"

    def __init__(self, characters: Iterable[str], special_tokens: Sequence[str] = ()):
        characters = [checked_text(character) for character in characters]
        for character in characters:
            if len(character) != 1:
                raise ValueError(f"{shown(character)} is not one character: give them one by one, or use WordTokenizer")
        if not characters:
            raise ValueError("a CharTokenizer needs at least one character")
        super().__init__(characters, [character.encode() for character in characters], special_tokens)

    @classmethod
    def train(cls, text: str, special_tokens: Sequence[str] = ()) -> "CharTokenizer":
        """All characters of the text, sorted by code point."""
        return cls(sorted(word_counts(text, checked_text(text))), special_tokens)

    def _words(self, text: str) -> str:
        return text

    def _encode_word(self, word: str) -> list[int]:
        if word not in self._ids:
            raise ValueError(
                f"the character {word!r} (U+{ord(word):04X}) is none of the {len(self._ids)} known ones: "
                "train on a text that holds it, or use a BPETokenizer, which knows them all"
            )
        return [self._ids[word]]

    def _content(self) -> dict:
        return {"characters": list(self._ids)}
