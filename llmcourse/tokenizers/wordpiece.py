"""WordPiece: merge the neighbours that attract each other most, and encode by the longest match, as BERT does.

A piece inside a word begins with ##, so "hugs" may become hug ##s. Devlin et al., BERT, NAACL 2019; Schuster
and Nakajima, Japanese and Korean Voice Search, ICASSP 2012, who add the piece that makes the text likeliest. The
program behind BERT's vocabulary was never published: the score is that of the Hugging Face course. Two things differ from BERT, so that no text is
lost: a space stays at the head of its word (" hug"), and a character that was never seen is spelled in bytes
(<0xE4>) instead of [UNK].
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import regex

from llmcourse.tokenizers.base import BYTE_PIECES, Tokenizer, checked_text, room_for_pieces, word_counts
from llmcourse.tokenizers.bpe import PairIndex

# As in BERT, each punctuation mark is a word of its own. So no word can look like "##s" or "<0xE4>".
BERT_WORDS = regex.compile(r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]|\s+(?!\S)|\s+")
BYTE_SPELLING = tuple(bytes([b]) for b in range(256))


def wordpiece_score(pair_count: int, left_count: int, right_count: int) -> float:
    """How strongly two symbols attract each other: count(ab) / (count(a) * count(b))."""
    return pair_count / (left_count * right_count)


def covering_alphabet(words: Mapping[Sequence[str], int], coverage: float) -> set[str]:
    """The most frequent symbols that together make up the share `coverage` of all symbols in the words.

    1.0 takes all. A little less keeps rare characters out of the vocabulary, of which Chinese text has many;
    they are spelled in bytes (SentencePiece recommends 0.9995 for Japanese and Chinese).
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"character_coverage={coverage} is a share of the text, above 0 and at most 1")
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for symbol in word:
            counts[symbol] += count
    alphabet: set[str] = set()
    missing = coverage * counts.total()
    for symbol, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if missing <= 0:
            break
        alphabet.add(symbol)
        missing -= count
    return alphabet


def known_parts(words: Mapping[Sequence[str], int], alphabet: set[str]) -> Counter[tuple[str, ...]]:
    """How often each unbroken run of symbols of the alphabet occurs; other symbols only cut words apart."""
    parts: Counter[tuple[str, ...]] = Counter()
    for word, count in words.items():
        for known, run in groupby(word, key=alphabet.__contains__):
            if known:
                parts[tuple(run)] += count
    return parts


def split_symbols(word: str) -> tuple[str, ...]:
    """The characters of a word, as WordPiece sees them: " hug" gives " h", "##u", "##g"."""
    head = word[:2] if word.startswith(" ") else word[:1]
    return (head, *(f"##{character}" for character in word[len(head) :]))


class WordPieceTokenizer(Tokenizer):
    """WordPiece: the 256 bytes, the alphabet, and the pieces that were learnt. It knows every text."""

    kind = "wordpiece"

    def __init__(self, pieces: Iterable[str], special_tokens: Sequence[str] = ()):
        pieces = [checked_text(piece) for piece in pieces]
        if "" in pieces or "##" in pieces:
            raise ValueError("a piece stands for at least one character")
        spelling = [*BYTE_SPELLING, *(piece.removeprefix("##").encode() for piece in pieces)]
        super().__init__([*BYTE_PIECES, *pieces], spelling, special_tokens)
        self._pieces = pieces
        self._longest = max(map(len, pieces), default=1)

    @classmethod
    def train(
        cls,
        text: str,
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        min_frequency: int = 2,
        character_coverage: float = 1.0,
    ) -> "WordPieceTokenizer":
        """Merge the pair with the best `wordpiece_score`, until there are vocab_size tokens or no more pairs.

        Among equals, the first pair in alphabetical order is merged. The score loves rare symbols that occur
        only together, so that the vocabulary fills with parts of rare words: a higher min_frequency gives a
        more useful one.
        """
        counts = word_counts(text, BERT_WORDS.findall(checked_text(text)))
        words = {split_symbols(word): count for word, count in counts.items()}
        alphabet = covering_alphabet(words, character_coverage)
        what = f"256 bytes, {len(alphabet)} in the alphabet"
        room = room_for_pieces(vocab_size, special_tokens, 256 + len(alphabet), what)
        index = PairIndex(known_parts(words, alphabet))
        pieces = dict.fromkeys(sorted(alphabet))
        while len(pieces) < len(alphabet) + room and (pair := best_pair(index, min_frequency)):
            merged = pair[0] + pair[1].removeprefix("##")
            pieces[merged] = None
            index.merge(pair, merged)
        return cls(pieces, special_tokens)

    def _words(self, text: str) -> list[str]:
        return BERT_WORDS.findall(text)

    def _encode_word(self, word: str) -> list[int]:
        """Take the longest piece that fits, and go on behind it; spell a character without one in bytes."""
        ids, start = [], 0
        while start < len(word):
            mark = "##" if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                if mark + word[start:end] in self._ids:
                    ids.append(self._ids[mark + word[start:end]])
                    start = end
                    break
            else:
                ids += [self._ids[BYTE_PIECES[b]] for b in word[start].encode()]
                start += 1
        return ids

    def _content(self) -> dict:
        return {"pieces": self._pieces}


def best_pair(index: PairIndex, min_frequency: int) -> tuple[str, str] | None:
    """The pair with the best score among those frequent enough; None when there is none."""
    best, best_score = None, 0.0
    for pair, count in index.pair_counts.items():
        if count >= max(1, min_frequency):
            score = wordpiece_score(count, index.symbol_counts[pair[0]], index.symbol_counts[pair[1]])
            if score > best_score or (score == best_score and pair < best):
                best, best_score = pair, score
    return best
