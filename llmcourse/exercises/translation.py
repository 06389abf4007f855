"""Exercises of chapter 6: BLEU, two ways to search for a translation, and an alignment read off attention."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 6


class PredictBrevity(Exercise):
    """Predict, then run: what does it cost to say only half?"""

    prompt = (
        "Predict before you run the next cell. A system translates only the first half of every sentence. What it says is "
        "perfect: every run of words stands in the reference too. It says 1,000 words where the references have 2,000. "
        "What is its BLEU, on the scale from 0 to 100? Give a number."
    )
    difficulty, minutes = 1, 3
    tolerance = 0.01
    hints = (
        "All four precisions are 1. What is left is the penalty for being short.",
        "The penalty is exp(1 - reference length / length).",
    )
    praise = "correct. 100 · exp(1 - 2000/1000) = 36.8: half of the words cost more than half of the score."

    @solution
    def score():
        return 100 * math.exp(1 - 2000 / 1000)

    @mistake("100 is the score without the penalty for being short. Precision alone does not notice what is missing.")
    def no_penalty():
        return 100.0

    @mistake(
        "You took the share of the words that were said, 1000/2000. The penalty is steeper: exp(1 - 2), which is 0.37."
    )
    def share_of_the_words():
        return 50.0

    @mistake("The number is right, the scale is not: BLEU is told from 0 to 100. A BLEU of 0.37 would be hopeless.")
    def from_zero_to_one():
        return math.exp(1 - 2000 / 1000)

    @mistake(
        "You divided the lengths the other way round: exp(1 - 1000/2000) is 1.65, a reward for being short, and no BLEU "
        "is above 100. The length of the reference stands above."
    )
    def lengths_exchanged():
        return 100 * math.exp(1 - 1000 / 2000)


def _runs(words: list[str], n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _matches(hypotheses: list, references: list, n: int) -> int:
    """Clipped matches over the corpus: what most of the wrong answers below get right."""
    return sum((_runs(h, n) & _runs(r, n)).total() for h, r in zip(hypotheses, references, strict=True))


def _total(hypotheses: list, n: int) -> int:
    return sum(max(0, len(words) - n + 1) for words in hypotheses)


def _penalty(length: int, reference_length: int) -> float:
    return 1.0 if length >= reference_length else math.exp(1 - reference_length / length)


def _lengths(hypotheses: list, references: list) -> tuple[int, int]:
    return sum(map(len, hypotheses)), sum(map(len, references))


def _geometric(shares: list[float]) -> float:
    return math.exp(sum(map(math.log, shares)) / len(shares)) if all(shares) else 0.0


def _bleu(hypotheses: list, references: list, *, matches: Callable = _matches, penalty: Callable = _penalty) -> float:
    """BLEU, with one part exchanged."""
    shares = [matches(hypotheses, references, n) / max(1, _total(hypotheses, n)) for n in range(1, 5)]
    return 100 * penalty(*_lengths(hypotheses, references)) * _geometric(shares)


class CorpusBleu(Exercise):
    """The measure of machine translation, from its counts."""

    prompt = (
        "Write `corpus_bleu(hypotheses, references)` for two lists of tokenised sentences: 100 times the brevity penalty "
        "times the geometric mean of the four precisions, those of runs of 1, 2, 3 and 4 tokens. Matches are clipped; "
        "matches, runs and lengths are added up over the whole corpus before anything is divided. When some precision "
        "is 0, return 0.0: no smoothing. Do not use the package's `bleu`."
    )
    difficulty, minutes = 2, 15
    hints = (
        "For each n count two things over the corpus: the runs of n tokens in the hypotheses, and how many of them match.",
        "`Counter(a) & Counter(b)` keeps the smaller count of each: that is clipping. `.total()` adds them up.",
        "The geometric mean is `math.exp` of the mean of the logarithms. The penalty is 1 when the hypotheses are at least "
        "as long as the references together, and exp(1 - reference length / length) otherwise.",
    )
    tolerance = 1e-6

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed + 60)
        words = ["ta", "Ta", "mira", "nu", "bardu", "ronku", "gidem", "."]

        def sentence(n):
            return [words[i] for i in torch.randint(len(words), (n,), generator=generator).tolist()]

        def noisy(reference):
            """The reference with one word exchanged and another said twice."""
            at = int(torch.randint(4, (1,), generator=generator))
            return [*reference[: 5 + at], *sentence(1), *reference[6 + at :], reference[-1]]

        long = [sentence(n) for n in (12, 11, 14)]
        upper = [word.upper() for word in long[0]]
        return [
            ([noisy(reference) for reference in long], long),  # longer than the references
            ([*(reference[:-3] for reference in long), ["nu"]], [*long, ["nu"]]),  # perfect, but short
            ([upper, long[1]], long[:2]),  # only the case is wrong
            ([long[0][3:], long[0][:3], sentence(9)], [sentence(9), long[0], long[1]]),
        ]

    @solution
    def corpus_bleu(hypotheses, references):
        from collections import Counter

        def runs(words, n):
            return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

        logs = 0.0
        for n in (1, 2, 3, 4):
            pairs = [(runs(h, n), runs(r, n)) for h, r in zip(hypotheses, references, strict=True)]
            matches = sum((ours & theirs).total() for ours, theirs in pairs)
            if matches == 0:
                return 0.0
            logs += math.log(matches / sum(ours.total() for ours, _ in pairs)) / 4
        length, wanted = sum(map(len, hypotheses)), sum(map(len, references))
        penalty = 1.0 if length >= wanted else math.exp(1 - wanted / length)
        return 100 * penalty * math.exp(logs)

    @mistake(
        "You count a run as often as the hypothesis says it. Then each single word of 'ta ta ta ta' counts as right "
        "wherever the reference has one ta: clip each count at the reference's."
    )
    def no_clipping(hypotheses, references):
        def matches(hypotheses, references, n):
            pairs = zip(hypotheses, references, strict=True)
            return sum(sum(c for run, c in _runs(h, n).items() if run in _runs(r, n)) for h, r in pairs)

        return _bleu(hypotheses, references, matches=matches)

    @mistake(
        "You count each different run once, by a set. What the reference says twice may be said twice: use counts, and "
        "keep the smaller of the two."
    )
    def sets_instead_of_counts(hypotheses, references):
        def matches(hypotheses, references, n):
            return sum(len(set(_runs(h, n)) & set(_runs(r, n))) for h, r in zip(hypotheses, references, strict=True))

        return _bleu(hypotheses, references, matches=matches)

    @mistake(
        "You average the scores of the sentences. BLEU adds up the counts of the whole corpus and divides once: a short "
        "sentence without a run of four would otherwise pull the mean down by itself."
    )
    def averages_sentences(hypotheses, references):
        scores = [_bleu([h], [r]) for h, r in zip(hypotheses, references, strict=True)]
        return sum(scores) / len(scores)

    @mistake(
        "You average the sentences' precisions for each n. A sentence of 4 words then counts as much as one of 40: add up "
        "the matches and the runs of all sentences, then divide."
    )
    def averages_precisions(hypotheses, references):
        shares = []
        for n in range(1, 5):
            pairs = list(zip(hypotheses, references, strict=True))
            shares.append(sum(_matches([h], [r], n) / max(1, _total([h], n)) for h, r in pairs) / len(pairs))
        return 100 * _penalty(*_lengths(hypotheses, references)) * _geometric(shares)

    @mistake("There is no penalty for being short in your answer: saying only the sure words would be rewarded.")
    def no_penalty(hypotheses, references):
        return _bleu(hypotheses, references, penalty=lambda length, wanted: 1.0)

    @mistake(
        "Your brevity penalty is reversed: it punishes translations that are too *long*. What is too long already loses "
        "precision; what needs a penalty is being short."
    )
    def penalises_length(hypotheses, references):
        return _bleu(hypotheses, references, penalty=lambda length, wanted: _penalty(wanted, length))

    @mistake(
        "You took the arithmetic mean of the precisions. The geometric mean is meant: the fourth root of their product, "
        "or exp of the mean of the logarithms. One precision of 0 makes the whole score 0."
    )
    def arithmetic_mean(hypotheses, references):
        shares = [_matches(hypotheses, references, n) / max(1, _total(hypotheses, n)) for n in range(1, 5)]
        return 100 * _penalty(*_lengths(hypotheses, references)) * sum(shares) / 4

    @mistake("You fold case. TA and ta are different tokens here, and a score that hides this looks better than it is.")
    def folds_case(hypotheses, references):
        lower = [[[word.lower() for word in words] for words in corpus] for corpus in (hypotheses, references)]
        return _bleu(*lower)

    @mistake("You count single words only. BLEU also asks for runs of 2, 3 and 4, or word order would not matter.")
    def single_words_only(hypotheses, references):
        share = _matches(hypotheses, references, 1) / _total(hypotheses, 1)
        return 100 * _penalty(*_lengths(hypotheses, references)) * share

    @mistake(
        "You joined all sentences into one text, so runs reach across their borders and match words of other sentences. "
        "Count each sentence against its own reference, then add up."
    )
    def joins_sentences(hypotheses, references):
        return _bleu([list(chain(*hypotheses))], [list(chain(*references))])

    @mistake("Your score runs from 0 to 1. BLEU is told from 0 to 100: multiply by 100.")
    def from_zero_to_one(hypotheses, references):
        return _bleu(hypotheses, references) / 100


def _toy(
    seed: int, n_vocab: int = 5, sharpness: float = 1.0, end_grows: float = 0.5, usual: int = 3
) -> Callable[[list], Tensor]:
    """A toy model: log probabilities (V,) of what follows a beginning. Each beginning has numbers of its own, and the
    end, token 1, becomes ever likelier: its score grows with the length, and is neither raised nor lowered at `usual`."""

    def after(tokens: list[int]) -> Tensor:
        mixed = seed
        for token in tokens:
            mixed = (mixed * 31 + int(token) + 1) % 1_000_003
        logits = sharpness * torch.randn(n_vocab, generator=torch.Generator().manual_seed(mixed), dtype=torch.float64)
        logits[0] = -math.inf  # it never says `begin`
        logits[1] += end_grows * (len(tokens) - usual)
        return logits.log_softmax(dim=-1)

    return after


def _greedy(scores, source, begin, end, limit, start=None, row=-1, seen=None):
    """Greedy decoding with one part exchanged; `seen` says what of the tokens the model is shown."""
    tokens = [begin if start is None else start]
    for _ in range(limit):
        shown = tokens if seen is None else seen(tokens)
        new = int(scores(source, shown)[row].argmax())
        if new == end:
            break
        tokens.append(new)
    return tokens[1:]


class GreedyTranslation(Exercise):
    """From a model to a translation: the likeliest word, again and again, until the end."""

    prompt = (
        "Write `greedy_translation(scores, source, begin, end, limit)`. `scores(source, tokens)` is the model: for a source and a list "
        "of T target tokens it returns a tensor (T, V), and row t scores what comes *after* token t. Begin with `[begin]`, "
        "take the likeliest next token, go on from there. Return the list of tokens, without the `begin` at its front and "
        "without `end` (a `begin` that the model says itself stays), at most `limit` of them."
    )
    difficulty, minutes = 1, 10
    hints = (
        "A loop of at most `limit` turns. In each: ask the model, choose, stop or append.",
        "Only the last row is news: `scores(source, tokens)[-1].argmax().item()`.",
        "When the chosen token is `end`, leave the loop before you append it.",
    )

    @classmethod
    def probes(cls, seed):
        def model(number, **choices):
            def scores(source, tokens):
                after = _toy(1000 * number + 7 * sum(source) + seed, 8, **choices)
                return torch.stack([after(tokens[: t + 1]) for t in range(len(tokens))])

            return scores

        ends, hardly_ends = {"end_grows": 0.6, "sharpness": 1.5}, {"usual": 60}
        return [
            (model(3, **ends), [4, 4, 7], 2, 1, 12),
            (model(5, **hardly_ends), [7, 2], 0, 1, 6),
        ]

    @solution
    def greedy_translation(scores, source, begin, end, limit):
        tokens = [begin]
        for _ in range(limit):
            new = int(scores(source, tokens)[-1].argmax())
            if new == end:
                break
            tokens.append(new)
        return tokens[1:]

    @mistake(
        "You go on after the end. What a model says after its own end means nothing: it was never trained there. Leave "
        "the loop when the likeliest token is `end`."
    )
    def runs_on(scores, source, begin, end, limit):
        return _greedy(scores, source, begin, -1, limit)

    @mistake("`end` stands in your result. It is a sign to stop, and no word: leave the loop before you append it.")
    def keeps_the_end(scores, source, begin, end, limit):
        found = _greedy(scores, source, begin, end, limit)
        return [*found, end] if len(found) < limit else found

    @mistake("`begin` stands in your result. It only gives the model something to go on from: return `tokens[1:]`.")
    def keeps_the_beginning(scores, source, begin, end, limit):
        return [begin, *_greedy(scores, source, begin, end, limit)]

    @mistake(
        "You read row 0 of the scores, which says what follows `begin`, however far you are. What follows the last token "
        "stands in the last row: `[-1]`."
    )
    def reads_the_first_row(scores, source, begin, end, limit):
        return _greedy(scores, source, begin, end, limit, row=0)

    @mistake(
        "You take the largest score of all rows together (`argmax` without a row). Only the last row is about the next "
        "token: `scores(source, tokens)[-1].argmax()`."
    )
    def takes_the_largest_of_all_rows(scores, source, begin, end, limit):
        tokens = [begin]
        for _ in range(limit):
            table = scores(source, tokens)
            new = int(table.argmax()) % table.shape[-1]
            if new == end:
                break
            tokens.append(new)
        return tokens[1:]

    @mistake(
        "You show the model only the newest token. Without a cache it must see the whole beginning again: "
        "`scores(source, tokens)`."
    )
    def shows_only_the_newest(scores, source, begin, end, limit):
        return _greedy(scores, source, begin, end, limit, seen=lambda tokens: tokens[-1:])

    @mistake(
        "The decoder is started with the source's first token in place of `begin`. The source goes in at the other side; "
        "the target begins with `begin`, as it did in training."
    )
    def starts_with_the_source(scores, source, begin, end, limit):
        return _greedy(scores, source, begin, end, limit, start=source[0])

    @mistake("One token too few when the limit is reached: `begin` counts in your limit, and it should not.")
    def counts_the_beginning(scores, source, begin, end, limit):
        return _greedy(scores, source, begin, end, limit - 1)


def _search(
    after: Callable,
    begin: int,
    end: int,
    n_beams: int,
    limit: int,
    *,
    add: Callable = lambda total, new: total + new,
    children: Callable = lambda step, n_beams: n_beams,
    score: Callable = lambda total, length: total / length,
    width: Callable = lambda n_beams, n_finished: n_beams - n_finished,
    keep_finished: bool = True,
    first_only: bool = False,
    with_live: bool = False,
) -> tuple[list[int], float]:
    """Beam search with one part exchanged. `children`: how many continuations of one beginning may be kept."""
    live, finished = [([begin], 0.0)], []
    for step in range(limit):
        grown = []
        for tokens, total in live:
            best = after(tokens).topk(min(children(step, n_beams), len(after(tokens))))
            for new, token in zip(*(x.tolist() for x in best), strict=True):
                grown.append(([*tokens, token], add(total, new)))
        grown = sorted(grown, key=lambda found: -found[1])[: width(n_beams, len(finished))]
        ended = [found for found in grown if found[0][-1] == end]
        finished += ended if keep_finished else []
        live = [found for found in grown if found[0][-1] != end]
        if not live or (first_only and finished):
            break
    found = finished + live if with_live else finished or live
    found = found or [([begin, end], -math.inf)]
    ranked = [(score(total, len(tokens) - 1), tokens) for tokens, total in found]
    best, tokens = max(ranked, key=lambda pair: pair[0])
    return [token for token in tokens[1:] if token != end], float(best)


class BeamSearch(Exercise):
    """Follow several beginnings at once, and keep what is finished."""

    prompt = (
        "Write `search_beams(after, begin, end, n_beams, limit)`. `after(tokens)` is the model: for a beginning (a list) it "
        "returns the log probabilities of the next token, a tensor (V,). At the start only `[begin]` is live.\n\n"
        "1. At each of at most `limit` steps extend every live beginning by every token.\n"
        "2. Keep the best by *summed log probability*: `n_beams` of them at first, one fewer for each that is finished.\n"
        "3. Those that end with `end` are finished and set aside. Stop when nothing is live.\n"
        "4. Return (tokens, score) of the finished one with the highest *score*: its summed log probability divided by its "
        "number of tokens, where `end` counts and `begin` does not. The tokens are returned without both. If nothing has "
        "finished, return the best live one."
    )
    difficulty, minutes = 3, 25
    hints = (
        "Keep two lists of (tokens, total): `live` and `finished`. One step turns `live` into all its continuations, "
        "sorts them, cuts, and moves those that ended to `finished`.",
        "All continuations of all beginnings compete in *one* list. Cut it at `n_beams - len(finished)`.",
        "`score = total / (len(tokens) - 1)`: `begin` does not count, `end` does. The division comes last, for ranking "
        "what is finished; on the way sums are compared.",
    )
    seconds = 8.0

    @classmethod
    def probes(cls, seed):
        grows = {"sharpness": 1.2, "end_grows": 0.3}
        few = [(_toy(seed + at, **grows), 0, 1, 2, 6) for at in (17, 20)]
        early = (_toy(seed + 210, 5, 1.0, 0.8), 0, 1, 3, 8)
        return [*few, early, (_toy(seed + 300, usual=60), 0, 1, 2, 4)]  # the last never ends

    @classmethod
    def observe(cls, answer, probe):
        found = answer(*probe)
        if not (isinstance(found, tuple) and len(found) == 2):
            return found
        tokens, score = found
        return tokens, score.item() if isinstance(score, Tensor) and score.numel() == 1 else score

    @solution
    def search_beams(after, begin, end, n_beams, limit):
        live, finished = [([begin], 0.0)], []
        for _ in range(limit):
            grown = [
                ([*tokens, token], total + value)
                for tokens, total in live
                for token, value in enumerate(after(tokens).tolist())
                if value > -math.inf
            ]
            grown = sorted(grown, key=lambda found: -found[1])[: n_beams - len(finished)]
            finished += [found for found in grown if found[0][-1] == end]
            live = [found for found in grown if found[0][-1] != end]
            if not live:
                break
        tokens, total = max(finished or live, key=lambda found: found[1] / (len(found[0]) - 1))
        score = total / (len(tokens) - 1)
        return [token for token in tokens[1:] if token != end], score

    @mistake(
        "You compare plain sums at the end. Every further token makes a sum smaller, so short translations win: divide "
        "by the number of tokens before ranking."
    )
    def no_length_normalisation(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, score=lambda total, length: total)

    @mistake(
        "What is finished gets lost: you go on from the beginnings that have not ended and return one of those. Set "
        "finished ones aside in a list of their own, and choose from that list."
    )
    def drops_the_finished(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, keep_finished=False)

    @mistake(
        "Your result is the first that ended. A longer one may have the higher score: go on until nothing is live, and "
        "compare all that finished."
    )
    def stops_at_the_first_end(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, first_only=True)

    @mistake(
        "You keep `n_beams` of them at every step. Each that is finished takes a place: cut at `n_beams - len(finished)`, "
        "and the search ends when all places are taken."
    )
    def finished_take_no_place(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, width=lambda n_beams, n_finished: n_beams)

    @mistake(
        "You choose among what is live too. It has not paid for its end yet, so its score is too good: where something has "
        "finished, choose from that alone."
    )
    def chooses_among_the_live(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, with_live=True)

    @mistake("You multiply log probabilities. Probabilities multiply; their logarithms add up.")
    def multiplies_logarithms(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, add=lambda total, new: total * new if total else new)

    @mistake(
        "You add up probabilities. Those of words that follow each other multiply: add their *logarithms*, which `after` "
        "gives you already."
    )
    def adds_probabilities(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, add=lambda total, new: total + math.exp(new))

    @mistake(
        "You rank beginnings by their newest token alone. A likely word after an unlikely start is no good start: carry "
        "the sum of all log probabilities along."
    )
    def forgets_the_past(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, add=lambda total, new: new)

    @mistake(
        "This is greedy search in disguise: each beginning is continued by its single best token, so one beginning never "
        "becomes two. Let every token continue every beginning, and keep the best of all."
    )
    def greedy_in_disguise(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, children=lambda step, n_beams: 1)

    @mistake(
        "After the first step each of your beginnings keeps one child only. Two children of one good beginning may both "
        "be better than any child of a poor one: all continuations compete in one list."
    )
    def one_child_each(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, children=lambda step, n_beams: 1 if step else n_beams)

    @mistake("You do not count the end as a token. Its log probability is in the sum, so it counts in the length too.")
    def end_does_not_count(after, begin, end, n_beams, limit):
        return _search(after, begin, end, n_beams, limit, score=lambda total, length: total / max(1, length - 1))


def _links(weights: Tensor, n_target: int, n_source: int) -> set[tuple[int, int]]:
    return set(enumerate(weights[:n_target, :n_source].argmax(dim=-1).tolist()))


def _error_rate(links: list[set], gold: list[set]) -> float:
    hits = sum(len(a & set(s)) for a, s in zip(links, gold, strict=True))
    return 1 - 2 * hits / (sum(map(len, links)) + sum(len(s) for s in gold))


def _each(weights: Tensor, n_target: list[int], n_source: list[int]) -> zip:
    return zip(weights, n_target, n_source, strict=True)


class AlignmentErrorRate(Exercise):
    """Does attention link the words that belong together?"""

    prompt = (
        "Write `error_rate(weights, n_target, n_source, gold)`. `weights` (B, T, S) is cross-attention; the decoder read "
        "`[begin, w0, w1, ...]`, so row t is where it looked when it *wrote* word t. Sentence b has `n_target[b]` target "
        "words, after which come the row of the end and padding, and `n_source[b]` source words, after which come the "
        "end and padding. Link each target word to the source *word* that gets most attention. `gold` is a list of sets "
        "of pairs (target, source). Return the alignment error rate over all sentences, "
        "1 - 2·|links ∩ gold| / (|links| + |gold|): a number from 0 to 1."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Cut before you choose: `weights[b, :n_target[b], :n_source[b]]` holds words only.",
        "`enumerate(row_by_row.argmax(dim=-1).tolist())` gives the pairs (target, source).",
        "Add up the hits, the links and the gold pairs over all sentences, and divide once.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed + 80)
        probes = []
        for n_target, n_source in ([5, 3, 6], [4, 5, 7]), ([7, 2], [5, 2]):
            T, S = max(n_target) + 2, max(n_source) + 2
            weights = torch.rand(len(n_target), T, S, generator=generator)
            gold = []
            for b, (t, s) in enumerate(zip(n_target, n_source, strict=True)):
                order = torch.randperm(max(t, s), generator=generator).tolist()
                pairs = {(i, order[i] % s) for i in range(t)}
                for i, j in list(pairs)[: max(1, t - 2)]:  # most words look where they should, and the last ones do not
                    weights[b, i, j] += 1.0
                weights[b, t - 1, s + 1] += 2.0  # and one looks at the padding
                gold.append(pairs | {(0, s - 1)})  # one word has two links
            probes.append((weights.softmax(dim=-1), n_target, n_source, gold))
        return probes

    @solution
    def error_rate(weights, n_target, n_source, gold):
        hits = total = 0
        for b, pairs in enumerate(gold):
            words = weights[b, : n_target[b], : n_source[b]]
            links = set(enumerate(words.argmax(dim=-1).tolist()))
            hits += len(links & pairs)
            total += len(links) + len(pairs)
        return 1 - 2 * hits / total

    @mistake(
        "You are off by one: you took the row of the decoder's *input* word. When it reads `begin` it writes word 0, so "
        "row 0 belongs to word 0; the row below belongs to the word that comes next."
    )
    def off_by_one(weights, n_target, n_source, gold):
        return _error_rate([_links(w[1:], t, s) for w, t, s in _each(weights, n_target, n_source)], gold)

    @mistake(
        "You took the argmax along the wrong axis: for each *source* word the target word that looks at it most. Rows are "
        "target words, and each row chooses: `argmax(dim=-1)`."
    )
    def argmax_over_targets(weights, n_target, n_source, gold):
        each = _each(weights, n_target, n_source)
        return _error_rate([{(t, s) for s, t in _links(w.t(), n_s, n_t)} for w, n_t, n_s in each], gold)

    @mistake(
        "You let words link to the end mark and to padding, which are no words. Cut the columns at `n_source[b]` before "
        "you take the argmax."
    )
    def links_to_padding(weights, n_target, n_source, gold):
        return _error_rate([_links(w, t, w.shape[-1]) for w, t, _ in _each(weights, n_target, n_source)], gold)

    @mistake(
        "You count links from rows that belong to no word: the row that wrote the end, and padding. Cut the rows at "
        "`n_target[b]`."
    )
    def counts_rows_without_words(weights, n_target, n_source, gold):
        return _error_rate([_links(w, len(w), s) for w, _, s in _each(weights, n_target, n_source)], gold)

    @mistake("Your pairs are (source, target), and those of `gold` are (target, source).")
    def pairs_turned_round(weights, n_target, n_source, gold):
        each = _each(weights, n_target, n_source)
        return _error_rate([{(s, t) for t, s in _links(w, n_t, n_s)} for w, n_t, n_s in each], gold)

    @mistake(
        "You average the rates of the sentences, so that a link in a short sentence weighs more. Add up hits and links "
        "over all sentences, and divide once."
    )
    def averages_sentences(weights, n_target, n_source, gold):
        links = [_links(w, t, s) for w, t, s in _each(weights, n_target, n_source)]
        rates = [_error_rate([a], [g]) for a, g in zip(links, gold, strict=True)]
        return sum(rates) / len(rates)

    @mistake("You return the share that is right. An *error* rate is 1 minus that: 0 is perfect.")
    def rate_of_success(weights, n_target, n_source, gold):
        return 1 - _error_rate([_links(w, t, s) for w, t, s in _each(weights, n_target, n_source)], gold)

    @mistake(
        "You divide by the number of links alone, which is 1 minus precision. Gold links that no word chose are errors "
        "too: divide by |links| + |gold|, and count each hit twice."
    )
    def forgets_recall(weights, n_target, n_source, gold):
        links = [_links(w, t, s) for w, t, s in _each(weights, n_target, n_source)]
        return 1 - sum(len(a & g) for a, g in zip(links, gold, strict=True)) / sum(map(len, links))
