"""BLEU and chrF: how close translations come to those of people, by counting the pieces that both have.

Both count over the whole corpus and only then divide; the mean of the sentences' scores is another number. Both run from
0 to 100, and both equal sacrebleu's to the last digits. Post (2018) tells why such details must be said: the same
translations get scores points apart under other ways of cutting, smoothing and folding case.
"""

import math
import reprlib
from collections import Counter
from collections.abc import Sequence

ORDERS = 4  # BLEU counts pieces of 1 to 4 tokens
CHARACTER_ORDERS = 6  # and chrF pieces of 1 to 6 characters
BETA = 2  # chrF: finding what is in the reference counts twice as much as saying nothing that is not


def ngrams(items: Sequence, n: int) -> Counter:
    """How often each run of n neighbours occurs."""
    return Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def clipped_matches(hypothesis: Sequence[str], references: Sequence[Sequence[str]], n: int) -> int:
    """How many n-grams of the hypothesis a reference has too; each counts as often as in one reference, at most."""
    most = Counter()
    for reference in references:
        most |= ngrams(reference, n)
    return (ngrams(hypothesis, n) & most).total()


def bleu(hypotheses: Sequence[Sequence[str]], *references: Sequence[Sequence[str]]) -> float:
    """The corpus BLEU of tokenised hypotheses, from 0 to 100: `bleu(hypotheses, references)`.

    It is the geometric mean of four precisions, those of runs of 1, 2, 3 and 4 tokens, times a penalty for being shorter
    than the references. Several references are several lists: `bleu(hypotheses, first, second)`.
    When no run of some length matches, its precision counts as half of one match, the next such as a quarter and so on
    (sacrebleu's default smoothing, "exp"). Case counts: nothing is folded.
    Source: Papineni et al. (2002); smoothing: Chen & Cherry (2014), method 3.
    """
    _check(hypotheses, references)
    matches, totals = [0] * ORDERS, [0] * ORDERS
    length, reference_length = 0, 0
    for hypothesis, *sentence_references in zip(hypotheses, *references, strict=True):
        for i in range(ORDERS):
            matches[i] += clipped_matches(hypothesis, sentence_references, i + 1)
            totals[i] += max(0, len(hypothesis) - i)
        length += len(hypothesis)
        # The reference whose length is nearest, of two equally near ones the shorter.
        reference_length += min(map(len, sentence_references), key=lambda n: (abs(n - len(hypothesis)), n))
    if not any(matches) or not all(totals):
        return 0.0
    return 100 * brevity_penalty(length, reference_length) * math.exp(_mean_log_precision(matches, totals))


def brevity_penalty(length: int, reference_length: int) -> float:
    """1 for translations that are long enough, exp(1 - reference/length) for shorter ones.

    Without it, the way to a high precision would be to say only what is sure.
    """
    if length == 0:
        return float(reference_length == 0)
    return 1.0 if length >= reference_length else math.exp(1 - reference_length / length)


def _mean_log_precision(matches: list[int], totals: list[int]) -> float:
    """The mean of the logarithms of the precisions, so that its exp is their geometric mean."""
    logs, half = [], 1.0
    for matched, total in zip(matches, totals, strict=True):
        if not matched:
            half /= 2
        logs.append(math.log((matched or half) / total))
    return sum(logs) / len(logs)


def chrf(hypotheses: Sequence[str], *references: Sequence[str]) -> float:
    """The corpus chrF2 of texts, from 0 to 100: precision and recall of runs of 1 to 6 characters, spaces left out.

    It needs no tokens, and a word with a wrong ending still counts for its stem. Of several references of a sentence the
    one counts that fits best. Source: Popović (2015).
    """
    _check(hypotheses, references, texts=True)
    sums = [[0, 0, 0] for _ in range(CHARACTER_ORDERS)]
    for hypothesis, *sentence_references in zip(hypotheses, *references, strict=True):
        counts = [_character_counts(hypothesis, reference) for reference in sentence_references]
        for total, count in zip(sums, max(counts, key=_f_score), strict=True):
            total[:] = [a + b for a, b in zip(total, count, strict=True)]
    return 100 * _f_score(sums)


def _character_counts(hypothesis: str, reference: str) -> list[list[int]]:
    """For each order: how many runs the hypothesis has, how many the reference, how many both."""
    ours, theirs = "".join(hypothesis.split()), "".join(reference.split())
    counts = []
    for n in range(1, CHARACTER_ORDERS + 1):
        mine, wanted = ngrams(ours, n), ngrams(theirs, n)
        # A reference too short for this order says nothing about it.
        counts.append([mine.total() if wanted else 0, wanted.total(), (mine & wanted).total()])
    return counts


def _f_score(counts: list[list[int]]) -> float:
    """The F score of the mean precision and the mean recall over the orders for which both sides have runs."""
    shares = [(both / ours, both / theirs) for ours, theirs, both in counts if ours and theirs]
    if not shares:
        return 0.0
    precision, recall = (sum(column) / len(shares) for column in zip(*shares, strict=True))
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall) if precision + recall else 0.0


def _check(hypotheses: Sequence, references: Sequence[Sequence], texts: bool = False) -> None:
    """Raise for what would be counted, but not as meant."""
    lengths = [len(hypotheses), *map(len, references)]
    if len(lengths) < 2 or len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(
            f"{lengths[0]} hypotheses and {lengths[1:] or 'no'} references: give at least one of each, and as many of both"
        )
    for item in (line for lines in (hypotheses, *references) for line in lines):
        if isinstance(item, str) != texts:
            wanted = "a text; join the tokens" if texts else "a list of tokens; split the text"
            raise TypeError(f"{reprlib.repr(item)} is a {type(item).__name__}, and each sentence must be {wanted}")
