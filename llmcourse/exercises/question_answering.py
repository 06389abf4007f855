"""Exercises of chapter 11: shortcuts, spans, how answers are scored, BM25, measures of a search, and two steps in a row."""

import math
import re
import string
from collections import Counter

import torch

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 11


class PredictShortcut(Exercise):
    """Predict, then run: how far does half a name get?"""

    prompt = (
        "Predict before you run the next cell. A frame has four facts, of two people with two relations each. In a quarter "
        "of all frames the two people share their first name; in another quarter their surname; in half of them neither. A "
        "reader looks at the relation and the *first name* only, and guesses where that leaves two facts. How often is it "
        "right? Give a number from 0 to 1."
    )
    difficulty, minutes, tolerance = 1, 3, 1e-6
    hints = (
        "In which frames does the first name tell the two people apart? There it is always right.",
        "Where the first name is shared, in a quarter of the frames, it guesses between two facts.",
        "3/4 · 1 + 1/4 · 1/2.",
    )
    praise = "correct: 7/8. To be better than that a reader must look at both names and at the relation."

    @solution
    def accuracy():
        return 3 / 4 + 1 / 4 * 1 / 2

    @mistake("That is who looks at the relation alone. The first name tells the two people apart in most frames.")
    def relation_alone():
        return 0.5

    @mistake(
        "You count the frames with a shared first name as lost. A guess between two facts is right half of the time."
    )
    def lost_when_shared():
        return 0.75

    @mistake(
        "You multiplied the two halves of the design. The relation is always looked at; only the name may leave a choice."
    )
    def half_of_it():
        return 7 / 16

    @mistake("In frames with a shared first name two facts fit: it cannot always be right.")
    def always_right():
        return 1.0

    @mistake(
        "You let it guess among all four facts where the name is shared. It still looks at the relation: two are left."
    )
    def guesses_among_four():
        return 3 / 4 + 1 / 4 * 1 / 4


class BestSpan(Exercise):
    """Choose the first and last token together."""

    prompt = (
        "Write `best_span(first, last, n_text, longest)`: two lists of scores, one a token, for being the answer's first "
        "and its last token. Return (i, j), both included, with the largest `first[i] + last[j]` such that the span does "
        "not end before it starts, has at most `longest` tokens, and lies within the first `n_text` tokens: what comes "
        "after them is the question."
    )
    difficulty, minutes = 2, 12
    hints = (
        "The best first token and the best last token, each by itself, need not make a span.",
        "Two loops: i over the text, and for each i the j from i to i + longest - 1 that still lie in the text.",
        "`max(((i, j) for i in range(n_text) for j in range(i, min(i + longest, n_text))), key=lambda s: first[s[0]] + "
        "last[s[1]])`",
    )

    @classmethod
    def probes(cls, seed):
        return [
            ([0.0, 1.0, 5.0, 2.0, 0.0], [0.0, 4.0, 1.0, 3.0, 0.0], 5, 3),  # the best end lies before the best start
            ([4.0, 0.0, 0.0, 0.0, 0.4, 0.0], [0.0, 1.0, 1.5, 0.0, 5.0, 0.2], 6, 2),  # the best pair is too long
            ([1.0, 0.0, 2.0, 9.0, 9.0], [0.0, 1.0, 2.0, 9.0, 9.0], 3, 4),  # the question scores highest
            ([-1.0, -2.0, -4.0], [-5.0, -1.0, -2.0], 3, 2),
            ([2.0, 0.3, 0.2, 0.1], [0.0, 0.0, 1.0, 5.0], 4, 3),
        ]

    @classmethod
    def observe(cls, answer, probe):
        i, j = answer(*probe)
        return int(i), int(j)

    @solution
    def best_span(first, last, n_text, longest):
        spans = [(i, j) for i in range(n_text) for j in range(i, min(i + longest, n_text))]
        return max(spans, key=lambda span: first[span[0]] + last[span[1]])

    @mistake(
        "You choose the best first and the best last token each by itself. The end may then lie before the start, and the "
        "answer is nothing at all. Score the pair."
    )
    def independent(first, last, n_text, longest):
        return first[:n_text].index(max(first[:n_text])), last[:n_text].index(max(last[:n_text]))

    @mistake("You search the question too. A reader's highest scores may stand there; the answer stands in the text.")
    def inside_the_question(first, last, n_text, longest):
        spans = [(i, j) for i in range(len(first)) for j in range(i, min(i + longest, len(first)))]
        return max(spans, key=lambda span: first[span[0]] + last[span[1]])

    @mistake(
        "You let spans be of any length. Without a longest one, an answer may run from the first word to the last."
    )
    def any_length(first, last, n_text, longest):
        spans = [(i, j) for i in range(n_text) for j in range(i, n_text)]
        return max(spans, key=lambda span: first[span[0]] + last[span[1]])

    @mistake(
        "You let the end lie before the start, as long as it is near. A span that ends before it starts is no span."
    )
    def ends_before_it_starts(first, last, n_text, longest):
        spans = [(i, j) for i in range(n_text) for j in range(n_text) if abs(i - j) < longest]
        return max(spans, key=lambda span: first[span[0]] + last[span[1]])

    @mistake(
        "You take the best first token, and then the best end for it. Another first token may make a better pair: look at "
        "all of them."
    )
    def greedy(first, last, n_text, longest):
        i = first[:n_text].index(max(first[:n_text]))
        return i, max(range(i, min(i + longest, n_text)), key=lambda j: last[j])

    @mistake("Your spans are one token too long: both ends count, so a span from i to j has j - i + 1 tokens.")
    def one_too_long(first, last, n_text, longest):
        spans = [(i, j) for i in range(n_text) for j in range(i, min(i + longest + 1, n_text))]
        return max(spans, key=lambda span: first[span[0]] + last[span[1]])

    @mistake("Your end is the token after the span. The prompt asks for the last token itself, included.")
    def end_excluded(first, last, n_text, longest):
        spans = [(i, j) for i in range(n_text) for j in range(i, min(i + longest, n_text))]
        i, j = max(spans, key=lambda span: first[span[0]] + last[span[1]])
        return i, j + 1

    @mistake(
        "You multiply the scores. They are logits, some of them negative: two bad ones would make a good one. Logits add."
    )
    def multiplies(first, last, n_text, longest):
        spans = [(i, j) for i in range(n_text) for j in range(i, min(i + longest, n_text))]
        return max(spans, key=lambda span: first[span[0]] * last[span[1]])


class AnswerF1(Exercise):
    """Score an answer as SQuAD does."""

    prompt = (
        "Write `answer_f1(guess, golds)`: the best F1 of the guess against the right answers. Clean each text first: lower "
        "case; delete the characters of `string.punctuation`; delete the words a, an and the; split at white space. F1 is "
        "the harmonic mean of precision and recall over words, a word counted as often as it stands in both, and 0 where "
        "the two share no word. Where either side has no word, F1 is 1 if neither has and 0 otherwise."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Cleaning is four steps in this order. An article is a whole word: `re.sub(r'\\b(a|an|the)\\b', ' ', text)`.",
        "`Counter(mine) & Counter(gold)` keeps the smaller count of each word.",
        "With c common words: precision = c / words of the guess, recall = c / words of the gold, F1 = 2pr / (p + r) (0 when "
        "c is 0).",
    )

    @classmethod
    def probes(cls, seed):
        return [
            ("The, Cat!", ["cat"]),
            ("well-known man", ["wellknown man"]),
            ("cat cat", ["cat", "the cat cat sleeps", "dog"]),
            ("the cat sleeps", ["dog", "a cat", "cat cat sleeps here now"]),
            ("", ["an"]),
            ("", ["cat"]),
            ("a-b 2 d", ["ab c"]),
            ("cat", ["ct"]),
            ("cat", ["the"]),
        ]

    @solution
    def answer_f1(guess, golds):
        def clean(text):
            text = "".join(c for c in text.lower() if c not in string.punctuation)
            return re.sub(r"\b(a|an|the)\b", " ", text).split()

        def f1(gold):
            mine, right = clean(guess), clean(gold)
            common = (Counter(mine) & Counter(right)).total()
            if not mine or not right:
                return float(mine == right)
            return 2 * common / (len(mine) + len(right))

        return max(f1(gold) for gold in golds)

    @mistake(
        "You give 1 wherever a side has no word. Saying nothing is right only where nothing is the answer: 0 otherwise."
    )
    def empty_is_right(guess, golds):
        sides = [(_clean(guess), _clean(gold)) for gold in golds]
        return max(_f1(mine, right) if mine and right else 1.0 for mine, right in sides)

    @mistake(
        "You put a space for the letters of articles inside words too: cat becomes c and t. An article is a whole word, "
        "`\\b` on both sides."
    )
    def articles_inside_words(guess, golds):
        def clean(text):
            text = "".join(c for c in text.lower() if c not in string.punctuation)
            return re.sub(r"the|an|a", " ", text).split()

        return _best(guess, golds, clean)

    @mistake(
        "You delete the letters of articles inside words too: cat becomes ct. An article is a whole word, `\\b` on both "
        "sides."
    )
    def article_letters_vanish(guess, golds):
        def clean(text):
            text = "".join(c for c in text.lower() if c not in string.punctuation)
            return re.sub(r"the|an|a", "", text).split()

        return _best(guess, golds, clean)

    @mistake(
        "You replace signs by a space. SQuAD deletes them, so that U.S. becomes us, one word, and well-known wellknown."
    )
    def signs_become_spaces(guess, golds):
        def clean(text):
            text = "".join(" " if c in string.punctuation else c for c in text.lower())
            return re.sub(r"\b(a|an|the)\b", " ", text).split()

        return _best(guess, golds, clean)

    @mistake(
        "You do not lower the case: The and the are then two words, and neither is the article in the first place."
    )
    def case_counts(guess, golds):
        def clean(text):
            text = "".join(c for c in text if c not in string.punctuation)
            return re.sub(r"\b(a|an|the)\b", " ", text).split()

        return _best(guess, golds, clean)

    @mistake(
        "You delete articles before signs, and the a of a-b goes with them. The order is part of the definition: signs first."
    )
    def articles_first(guess, golds):
        def clean(text):
            text = re.sub(r"\b(a|an|the)\b", " ", text.lower())
            return "".join(c for c in text if c not in string.punctuation).split()

        return _best(guess, golds, clean)

    @mistake("You leave the articles in. A guess with *the* in front should lose nothing.")
    def articles_stay(guess, golds):
        return _best(guess, golds, lambda text: "".join(c for c in text.lower() if c not in string.punctuation).split())

    @mistake(
        "You compare sets of words. Then *cat cat* is as good as *cat*: a word must be counted as often as it stands."
    )
    def sets(guess, golds):
        scores = []
        for gold in golds:
            mine, right = set(_clean(guess)), set(_clean(gold))
            scores.append(2 * len(mine & right) / (len(mine) + len(right)) if mine and right else float(mine == right))
        return max(scores)

    @mistake(
        "You count a common word once, and the words of each side as often as they stand: *cat cat* against itself would "
        "get 1/2. A common word counts as often as it stands in both."
    )
    def distinct_common_words(guess, golds):
        def f1(mine, right):
            both = len(mine) + len(right)
            return 2 * len(set(mine) & set(right)) / both if mine and right else float(mine == right)

        return max(f1(_clean(guess), _clean(gold)) for gold in golds)

    @mistake("You take the mean over the right answers. Any one of them is right, so the best counts.")
    def mean_over_golds(guess, golds):
        return sum(_f1(_clean(guess), _clean(gold)) for gold in golds) / len(golds)

    @mistake("You look at the first right answer only. There may be several, and the best counts.")
    def first_gold(guess, golds):
        return _f1(_clean(guess), _clean(golds[0]))

    @mistake(
        "Only the last right answer counts in yours. Does each overwrite the score of the one before? Keep the best."
    )
    def last_gold(guess, golds):
        return _f1(_clean(guess), _clean(golds[-1]))

    @mistake("An empty guess always gets 1 from you. Saying nothing is right only where the right answer is empty too.")
    def empty_guess_is_right(guess, golds):
        return max(_f1(_clean(guess), _clean(gold)) if _clean(guess) else 1.0 for gold in golds)

    @mistake("Against an empty right answer every guess gets 1 from you. Only a guess without words is right there.")
    def empty_gold_is_right(guess, golds):
        return max(_f1(_clean(guess), _clean(gold)) if _clean(gold) else 1.0 for gold in golds)

    @mistake(
        "Two empty answers score 0 with you. Where nothing should be said and nothing is said, the answer is right: 1."
    )
    def empty_is_wrong(guess, golds):
        return max(_f1(_clean(guess), _clean(gold)) if _clean(guess) and _clean(gold) else 0.0 for gold in golds)

    @mistake(
        "That is the recall: a guess of the whole text would score 1. F1 also asks how much of the guess was right."
    )
    def recall_only(guess, golds):
        return max(_share(_clean(guess), _clean(gold), of=1) for gold in golds)

    @mistake(
        "That is the precision: a guess of a single right word would score 1. F1 also asks how much of the right answer was "
        "said."
    )
    def precision_only(guess, golds):
        return max(_share(_clean(guess), _clean(gold), of=0) for gold in golds)


def _share(mine, right, of):
    """Common words as a share of one side's, 0 of the guess or 1 of the gold."""
    common = (Counter(mine) & Counter(right)).total()
    return common / len((mine, right)[of]) if mine and right else float(mine == right)


def _clean(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _f1(mine, right):
    if not mine or not right:
        return float(mine == right)
    return 2 * (Counter(mine) & Counter(right)).total() / (len(mine) + len(right))


def _best(guess, golds, clean):
    return max(_f1(clean(guess), clean(gold)) for gold in golds)


class Bm25Scores(Exercise):
    """Count shared words, rare ones more."""

    prompt = (
        "Write `bm25(texts, question, k1, b)`: texts are lists of words, the question is one; return a list of scores, one "
        "a text. Each word of the question, as often as it is asked, adds  idf · n (k1 + 1) / (n + k1 (1 - b + b · length / "
        "mean length)), with n its count in the text, and idf = ln(1 + (N - m + 0.5) / (m + 0.5)), where m of the N texts "
        "hold it."
    )
    difficulty, minutes = 2, 15
    hints = (
        "m counts texts, not occurrences: `sum(word in text for text in texts)`.",
        "Two loops: over the texts, and for each over the words of the question. A word with n = 0 adds nothing.",
        "The mean length is `sum(map(len, texts)) / len(texts)`.",
    )

    @classmethod
    def probes(cls, seed):
        texts = [
            ["the", "old", "cat", "sleeps"],
            ["the", "cat", "and", "the", "cat", "and", "the", "dog", "and", "the", "old", "bird"],
            ["a", "dog"],
            ["trees", "sleep", "near", "trees", "near", "trees"],
            ["the", "end"],
        ]
        generator = torch.Generator().manual_seed(seed)
        random = [[f"w{int(i)}" for i in torch.randint(6, (n,), generator=generator)] for n in (3, 9, 5)]
        return [
            (texts, ["the", "the", "dog", "zebra"], 1.2, 0.5),
            (random, ["w1", "w2", "w3"], 0.9, 0.4),
        ]

    @solution
    def bm25(texts, question, k1, b):
        N, mean_length = len(texts), sum(map(len, texts)) / len(texts)
        scores = []
        for text in texts:
            score = 0.0
            for word in question:
                m, n = sum(word in other for other in texts), text.count(word)
                idf = math.log(1 + (N - m + 0.5) / (m + 0.5))
                score += idf * n * (k1 + 1) / (n + k1 * (1 - b + b * len(text) / mean_length))
            scores.append(score)
        return scores

    @mistake("Your idf is upside down: frequent words count most. Rare words tell more, so m stands below the line.")
    def frequent_words_count_most(texts, question, k1, b):
        return _bm25(texts, question, k1, b, idf=lambda N, m, c: math.log(1 + (m + 0.5) / (N - m + 0.5)))

    @mistake(
        "Your idf has no 1 inside the logarithm. A word in more than half of the texts then lowers the score of whoever "
        "holds it."
    )
    def negative_idf(texts, question, k1, b):
        return _bm25(texts, question, k1, b, idf=lambda N, m, c: math.log((N - m + 0.5) / (m + 0.5)))

    @mistake("Your idf counts occurrences. m is the number of *texts* that hold the word, however often.")
    def counts_occurrences(texts, question, k1, b):
        return _bm25(texts, question, k1, b, idf=lambda N, m, c: math.log(1 + (N - c + 0.5) / (c + 0.5)))

    @mistake(
        "You leave the length out. A long text holds many words by chance; b says how much that is held against it."
    )
    def no_length(texts, question, k1, b):
        return _bm25(texts, question, k1, 0.0)

    @mistake("Your length is upside down: you favour long texts. It is length / mean length.")
    def favours_long_texts(texts, question, k1, b):
        return _bm25(texts, question, k1, b, ratio=lambda length, mean: mean / length)

    @mistake("Your counts do not saturate: ten times the word is ten times as good. Divide by n + k1 (...).")
    def no_saturation(texts, question, k1, b):
        return _bm25(texts, question, k1, b, saturate=False)

    @mistake("You count each word of the question once. Here a word that is asked twice counts twice.")
    def question_as_set(texts, question, k1, b):
        return _bm25(texts, list(dict.fromkeys(question)), k1, b)

    @mistake("Every word counts the same with you: the idf is missing. Then *the* is worth as much as *cat*.")
    def no_idf(texts, question, k1, b):
        return _bm25(texts, question, k1, b, idf=lambda N, m, c: 1.0)


def _bm25(texts, question, k1, b, idf=None, ratio=None, saturate=True):
    idf = idf or (lambda N, m, c: math.log(1 + (N - m + 0.5) / (m + 0.5)))
    ratio = ratio or (lambda length, mean: length / mean)
    mean, scores = sum(map(len, texts)) / len(texts), []
    for text in texts:
        score = 0.0
        for word in question:
            m, c, n = sum(word in other for other in texts), sum(t.count(word) for t in texts), text.count(word)
            below = n + k1 * (1 - b + b * ratio(len(text), mean)) if saturate else 1.0
            score += idf(len(texts), m, c) * n * (k1 + 1) / below
        scores.append(score)
    return scores


class SearchMeasures(Exercise):
    """How good is a search?"""

    prompt = (
        "Write `measures(rankings, right, k)`: for each question a list of texts, the best first, and the set of its right "
        "texts. Return (hits, mrr): the share of questions with at least one right text among the first k, and the mean of "
        "1 / place of the first right text, places counted from 1, with 0 where no right text is in the list."
    )
    difficulty, minutes = 1, 10
    hints = (
        "For hits: `any(text in wanted for text in ranking[:k])`.",
        "For the reciprocal rank: `enumerate(ranking, start=1)`, and stop at the first right text.",
        "Both are means over *all* questions, also over those that found nothing.",
    )

    @classmethod
    def probes(cls, seed):
        made = [
            ([[0, 1, 2, 3]], [{1, 3}], 1),
            ([[0, 1, 2, 3], [3, 2, 1, 0]], [{1, 3}, {2, 3}], 2),  # hits at the last place that counts; two at once
        ]
        generator = torch.Generator().manual_seed(seed)
        rankings = [torch.randperm(6, generator=generator).tolist() for _ in range(5)]
        return [*made, (rankings, [{0}, {1, 2}, {3}, {8}, {4, 5}], 3)]

    @classmethod
    def observe(cls, answer, probe):
        hits, mrr = answer(*probe)
        return float(hits), float(mrr)

    @solution
    def measures(rankings, right, k):
        hits, reciprocal = 0, 0.0
        for ranking, wanted in zip(rankings, right, strict=True):
            hits += any(text in wanted for text in ranking[:k])
            reciprocal += next((1 / place for place, text in enumerate(ranking, 1) if text in wanted), 0.0)
        return hits / len(rankings), reciprocal / len(rankings)

    @mistake("You leave out questions that found nothing. They are failures, and count as 0 in the mean.")
    def skips_failures(rankings, right, k):
        hits, found = SearchMeasures.solution(rankings, right, k)[0], _reciprocals(rankings, right)
        found = [value for value in found if value]
        return hits, sum(found) / len(found) if found else 0.0

    @mistake("Your places count from 2: the first place must give 1, the second 1/2, the third 1/3.")
    def counts_from_two(rankings, right, k):
        values = [1 / (1 / value + 1) if value else 0.0 for value in _reciprocals(rankings, right)]
        return SearchMeasures.solution(rankings, right, k)[0], sum(values) / len(values)

    @mistake(
        "You take 1 over the mean place. The mean is over the reciprocals, so that one bad question does not rule."
    )
    def reciprocal_of_mean(rankings, right, k):
        places = [1 / value for value in _reciprocals(rankings, right) if value]
        return SearchMeasures.solution(rankings, right, k)[0], len(places) / sum(places) if places else 0.0

    @mistake("You add up all right texts of a question. Only the first one counts, or one question could exceed 1.")
    def sums_all_right_texts(rankings, right, k):
        total = sum(
            1 / place
            for ranking, wanted in zip(rankings, right, strict=True)
            for place, text in enumerate(ranking, 1)
            if text in wanted
        )
        return SearchMeasures.solution(rankings, right, k)[0], total / len(rankings)

    @mistake("Your hits count right texts and divide by k: that is precision. A question hits or it does not.")
    def precision_for_hits(rankings, right, k):
        hits = sum(len(set(ranking[:k]) & wanted) / k for ranking, wanted in zip(rankings, right, strict=True))
        return hits / len(rankings), SearchMeasures.solution(rankings, right, k)[1]

    @mistake("Your reciprocal rank stops at k. Only hits look at the first k; the rank looks at the whole list.")
    def rank_stops_at_k(rankings, right, k):
        values = _reciprocals([ranking[:k] for ranking in rankings], right)
        return SearchMeasures.solution(rankings, right, k)[0], sum(values) / len(values)

    @mistake("You look at one place too many: `ranking[:k]` has k texts, and `ranking[: k + 1]` one more.")
    def one_too_many(rankings, right, k):
        return SearchMeasures.solution(rankings, right, k + 1)[0], SearchMeasures.solution(rankings, right, k)[1]

    @mistake("You look at one place too few: `ranking[:k]` has k texts already, from place 1 to place k.")
    def one_too_few(rankings, right, k):
        return SearchMeasures.solution(rankings, right, k - 1)[0], SearchMeasures.solution(rankings, right, k)[1]

    @mistake("Your hits count right texts. A question with two of them among the first k is one hit, not two.")
    def hits_count_texts(rankings, right, k):
        hits = sum(len(set(ranking[:k]) & wanted) for ranking, wanted in zip(rankings, right, strict=True))
        return hits / len(rankings), SearchMeasures.solution(rankings, right, k)[1]


def _reciprocals(rankings, right):
    return [
        next((1 / place for place, text in enumerate(ranking, 1) if text in wanted), 0.0)
        for ranking, wanted in zip(rankings, right, strict=True)
    ]


class FollowRelations(Exercise):
    """Two steps in a row, by rule."""

    prompt = (
        "Facts are triples (who, relation, value), and a value may be who another fact is about. Write `follow(facts, "
        "start, relations)`: begin at `start`, follow the relations one after the other, and return the sorted list of all "
        "that is reached, each once. In *where does ana's friend live?* the relations are friend, city. Where nothing is "
        "known the list is empty. With no relations it is `start` alone."
    )
    difficulty, minutes = 2, 10
    hints = (
        "Keep a set of where you are. Before the first step it holds `start` alone.",
        "One step: the values of all facts whose `who` is in the set and whose relation is the step's.",
        "`here = {value for who, relation, value in facts if who in here and relation == step}`, for each step.",
    )

    @classmethod
    def probes(cls, seed):
        facts = [
            ("ana", "friend", "boris"),
            ("ana", "friend", "clara"),
            ("boris", "city", "oslo"),
            ("clara", "city", "lima"),
            ("ana", "city", "porto"),
            ("dario", "friend", "ana"),
            ("dario", "friend", "elif"),
            ("elif", "city", "porto"),
            ("clara", "friend", "dario"),
            ("dario", "city", "cairo"),
        ]
        turn = seed % len(facts)
        facts = facts[turn:] + facts[:turn]
        return [
            (facts, "dario", ["friend", "city"]),
            (facts, "elif", []),
            (facts, "ana", ["city", "city"]),  # a city has no city
            (facts, "ana", ["friend"] * 3),  # this way leads back to ana
        ]

    @solution
    def follow(facts, start, relations):
        here = {start}
        for step in relations:
            here = {value for who, relation, value in facts if who in here and relation == step}
        return sorted(here)

    @mistake("You follow the first fact only. Ana has two friends, and the answer is where either of them lives.")
    def first_fact_only(facts, start, relations):
        here = start
        for step in relations:
            here = next((value for who, relation, value in facts if who == here and relation == step), None)
        return [] if here is None else [here]

    @mistake("You stop after one step: that names the friend, and the question was where the friend lives.")
    def one_step(facts, start, relations):
        return sorted(
            {value for who, relation, value in facts if who == start and relation in relations[:1]} or {start}
        )

    @mistake(
        "Every step of yours begins at `start` again. The second step begins where the first one ended: this is why a reader "
        "of one fact at a time fails here."
    )
    def always_from_the_start(facts, start, relations):
        here = {start}
        for step in relations:
            here = {value for who, relation, value in facts if who == start and relation == step}
        return sorted(here)

    @mistake("You walk against the arrows, from the value to who it is about. Follow who to value.")
    def backwards(facts, start, relations):
        here = {start}
        for step in relations:
            here = {who for who, relation, value in facts if value in here and relation == step}
        return sorted(here)

    @mistake("You follow the relations from last to first. *Ana's friend's city* begins with the friend.")
    def last_relation_first(facts, start, relations):
        return FollowRelations.solution(facts, start, relations[::-1])

    @mistake("You keep what you passed on the way. Only what the last step reaches is the answer.")
    def keeps_the_way(facts, start, relations):
        here, every = {start}, set() if relations else {start}
        for step in relations:
            here = {value for who, relation, value in facts if who in here and relation == step}
            every |= here
        return sorted(every)

    @mistake("You follow every relation at every step. A step follows its own relation only.")
    def any_relation(facts, start, relations):
        here = {start}
        for _ in relations:
            here = {value for who, relation, value in facts if who in here}
        return sorted(here)

    @mistake("You name a place twice when two ways lead there. Each once: a set, sorted at the end.")
    def with_repetitions(facts, start, relations):
        here = [start]
        for step in relations:
            here = [value for place in here for who, relation, value in facts if who == place and relation == step]
        return sorted(here)

    @mistake("You stay where you are when a step leads nowhere. Nothing is known of it there: the list becomes empty.")
    def stays_where_nothing_is_known(facts, start, relations):
        here = {start}
        for step in relations:
            here = {value for who, relation, value in facts if who in here and relation == step} or here
        return sorted(here)

    @mistake(
        "You never go to a place twice. Ways may lead back: ana is a friend of clara's friend, though ana is where the way "
        "began."
    )
    def never_visits_twice(facts, start, relations):
        here, seen = {start}, {start}
        for step in relations:
            here = {value for who, relation, value in facts if who in here and relation == step} - seen
            seen |= here
        return sorted(here)
