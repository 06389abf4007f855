"""The unigram language model: every piece has a probability, and a word is cut in the likeliest way.

Kudo, Subword Regularization, ACL 2018, section 3.2. BPE and WordPiece build a vocabulary up by merging; this
one starts with too many pieces and takes away those that the text misses least. The probability of a cut is
the product of its pieces' probabilities; the probability of a word is the sum over all its cuts.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from llmcourse.tokenizers.base import BYTE_PIECES, Tokenizer, checked_text, room_for_pieces, word_counts
from llmcourse.tokenizers.wordpiece import BERT_WORDS, BYTE_SPELLING, covering_alphabet, known_parts

SEEDS_PER_PIECE = 4  # how many candidates the search starts with for each piece that it shall find
LONGEST_SEED = 16  # characters
KEEP = 0.75  # the share of the pieces that survives one round of pruning
LEAST_COUNT = 1e-9  # a character that longer pieces replace everywhere must stay possible


def viterbi(text: str, log_probabilities: Mapping[str, float], longest: int | None = None) -> list[str]:
    """The likeliest way to cut a text into pieces, found from left to right. The empty text has no pieces.

    The best cut of the first `end` characters is the best cut of the first `start` of them and one piece
    more, for the best `start`. Source: Viterbi 1967. longest: characters in the longest piece, where the
    caller knows it. Raises ValueError when no pieces spell the text.
    """
    longest = longest or max(map(len, log_probabilities), default=0)
    best = [0.0] + [-math.inf] * len(text)
    start_of = [0] * len(best)
    for end in range(1, len(best)):
        for start in range(max(0, end - longest), end):
            score = best[start] + log_probabilities.get(text[start:end], -math.inf)
            if score > best[end]:
                best[end], start_of[end] = score, start
    if best[-1] == -math.inf:
        raise ValueError(f"no pieces spell {text!r}: give each of its characters a log probability")
    pieces, end = [], len(text)
    while end > 0:
        pieces.append(text[start_of[end] : end])
        end = start_of[end]
    return pieces[::-1]


def expected_counts(
    text: str, log_probabilities: Mapping[str, float], longest: int | None = None
) -> tuple[dict[str, float], float]:
    """How often each piece is expected in a text, averaged over all cuts, and the text's log probability.

    Forward-backward: the ways that lead to a piece, times the piece, times the ways that lead on, out of all
    ways. Raises ValueError when no pieces spell the text.
    """
    longest = longest or max(map(len, log_probabilities), default=0)
    arriving: list[list[tuple[int, float]]] = [[] for _ in range(len(text) + 1)]
    leaving: list[list[tuple[int, float]]] = [[] for _ in text]
    for start in range(len(text)):
        for end in range(start + 1, min(len(text), start + longest) + 1):
            if (log_probability := log_probabilities.get(text[start:end])) is not None:
                arriving[end].append((start, log_probability))
                leaving[start].append((end, log_probability))
    forward, backward = [0.0] * len(arriving), [0.0] * len(arriving)
    for end in range(1, len(arriving)):
        forward[end] = log_sum([forward[start] + log_p for start, log_p in arriving[end]])
    for start in reversed(range(len(text))):
        backward[start] = log_sum([log_p + backward[end] for end, log_p in leaving[start]])
    if forward[-1] == -math.inf:
        raise ValueError(f"no pieces spell {text!r}: give each of its characters a log probability")
    counts: defaultdict[str, float] = defaultdict(float)
    for start, ends in enumerate(leaving):
        for end, log_p in ends:
            counts[text[start:end]] += math.exp(forward[start] + log_p + backward[end] - forward[-1])
    return counts, forward[-1]


def log_sum(terms: Sequence[float]) -> float:
    """log of the sum of exp(term), safe from underflow; -inf when there is no term."""
    top = max(terms, default=-math.inf)
    return top if top == -math.inf else top + math.log(sum(math.exp(term - top) for term in terms))


def em_step(
    words: Mapping[str, int], log_probabilities: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float], float]:
    """One step of expectation-maximisation: better log probabilities, the counts, the old log likelihood.

    The counts are averaged over all cuts of a word, not taken from the best cut alone: so no step lowers
    the likelihood that Kudo defines, and a piece that is often second best keeps its chance.
    """
    longest = max(map(len, log_probabilities))
    counts = dict.fromkeys(log_probabilities, 0.0)
    log_likelihood = 0.0
    for word, n in words.items():
        in_word, log_p = expected_counts(word, log_probabilities, longest)
        log_likelihood += n * log_p
        for piece, count in in_word.items():
            counts[piece] += n * count
    log_total = math.log(sum(counts.values()))
    improved = {piece: math.log(max(count, LEAST_COUNT)) - log_total for piece, count in counts.items()}
    return improved, counts, log_likelihood


def prune(log_probabilities: Mapping[str, float], counts: Mapping[str, float], keep: int) -> dict[str, float]:
    """The `keep` pieces that the text would miss most; single characters stay in any case.

    Without a piece, its occurrences are spelled by the best cut into other pieces. What the log likelihood
    loses by that is estimated: the piece's count times the difference of the two log probabilities, as if no occurrence
    had another cut.
    """
    longest = max(map(len, log_probabilities))
    others = dict(log_probabilities)
    loss = {}
    for piece, log_p in log_probabilities.items():
        if len(piece) > 1:
            del others[piece]
            without = sum(others[part] for part in viterbi(piece, others, longest))
            loss[piece] = counts[piece] * (log_p - without)
            others[piece] = log_p
    n_characters = len(log_probabilities) - len(loss)
    kept = set(sorted(loss, key=lambda piece: (-loss[piece], piece))[: max(0, keep - n_characters)])
    return {piece: log_p for piece, log_p in log_probabilities.items() if len(piece) == 1 or piece in kept}


def seed_pieces(words: Mapping[str, int], n_long: int) -> dict[str, float]:
    """Log probabilities to start from: all characters, and the n_long substrings that cover most of the text.

    A substring must occur twice or more.
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + LONGEST_SEED) + 1):
                counts[word[start:end]] += count
    characters = sorted(piece for piece in counts if len(piece) == 1)
    repeated = [piece for piece, count in counts.items() if len(piece) > 1 and count > 1]
    repeated.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    seeds = [*characters, *repeated[:n_long]]
    log_total = math.log(sum(counts[piece] for piece in seeds))
    return {piece: math.log(counts[piece]) - log_total for piece in seeds}


class UnigramTokenizer(Tokenizer):
    """Unigram: the 256 bytes, and pieces with their probabilities, which `train` sorts by them. It knows every text.

    log_probabilities: the natural logarithm of the probability of each piece that is not a byte. A character
    that is none of the pieces is spelled in bytes, so each character of a piece is a piece too.
    """

    kind = "unigram"

    def __init__(self, log_probabilities: Mapping[str, float], special_tokens: Sequence[str] = ()):
        for piece, log_p in log_probabilities.items():
            if not checked_text(piece):
                raise ValueError("a piece stands for at least one character")
            if not -math.inf < log_p <= 0:
                raise ValueError(f"{log_p} is no log probability for {piece!r}: it is finite and at most 0")
        self.log_probabilities = dict(log_probabilities)
        spelling = [*BYTE_SPELLING, *(piece.encode() for piece in log_probabilities)]
        super().__init__([*BYTE_PIECES, *log_probabilities], spelling, special_tokens)
        self._characters = {piece for piece in log_probabilities if len(piece) == 1}
        for piece in log_probabilities:
            if missing := set(piece) - self._characters:
                raise ValueError(
                    f"{piece!r} is never found without {min(missing)!r}: each character of a piece is a piece too"
                )
        self._longest = max(map(len, log_probabilities), default=1)

    @classmethod
    def train(
        cls,
        text: str,
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        character_coverage: float = 1.0,
    ) -> "UnigramTokenizer":
        """Start with frequent substrings; fit (EM) and prune, in turns, until vocab_size tokens are left."""
        counts = word_counts(text, BERT_WORDS.findall(checked_text(text)))
        alphabet = covering_alphabet(counts, character_coverage)
        what = f"256 bytes, {len(alphabet)} in the alphabet"
        room = room_for_pieces(vocab_size, special_tokens, 256 + len(alphabet), what)
        words = {"".join(part): count for part, count in known_parts(counts, alphabet).items()}
        pieces = seed_pieces(words, SEEDS_PER_PIECE * room)
        while True:
            for _ in range(2):  # Kudo's EM runs to the end; two steps a round are enough, as in SentencePiece
                pieces, expected, _ = em_step(words, pieces)
            if len(pieces) <= len(alphabet) + room:
                break
            pieces = prune(pieces, expected, max(len(alphabet) + room, int(KEEP * len(pieces))))
        return cls(dict(sorted(pieces.items(), key=lambda item: (-item[1], item[0]))), special_tokens)

    def _words(self, text: str) -> list[str]:
        return BERT_WORDS.findall(text)

    def _encode_word(self, word: str) -> list[int]:
        ids = []
        for known, run in groupby(word, key=self._characters.__contains__):
            part = "".join(run)
            pieces = (
                viterbi(part, self.log_probabilities, self._longest)
                if known
                else [BYTE_PIECES[b] for b in part.encode()]
            )
            ids += [self._ids[piece] for piece in pieces]
        return ids

    def _content(self) -> dict:
        return {"log_probabilities": self.log_probabilities}
