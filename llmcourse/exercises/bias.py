"""Exercises of chapter 15: what greedy decoding does, a bias score, counterfactuals, intervals, criteria of fairness."""

import random

import torch

from llmcourse.exercises import Exercise, mistake, solution

CHAPTER = 15


class PredictGreedy(Exercise):
    """Predict, then run: what greedy decoding makes of 0.6."""

    prompt = (
        "Predict before you run the next cell. For *the cook said that* a model gives *she* 0.54, *he* 0.36 and *it* 0.10. "
        "It writes 1,000 sentences from this beginning, greedily: at each step the likeliest word. How many of them go on "
        "with *she*? Give a number."
    )
    difficulty, minutes, tolerance = 1, 3, 1e-9
    hints = (
        "Greedy decoding draws nothing. What does the second sentence look like, after the first?",
        "The likeliest word is the same every time.",
    )
    praise = "correct: all 1,000. What was 54 of 100 in the text is 100 of 100 in what the model writes."

    @solution
    def greedy_she():
        return 1000

    @mistake(
        "That is what *sampling* would give on average: each word as often as its probability. Greedy is not that."
    )
    def as_sampled():
        return 540

    @mistake("That is the share of *she* among *he* and *she*, and what sampling would do. Greedy draws nothing.")
    def among_pronouns():
        return 600

    @mistake("*she* is the likeliest of the three, and it would be so every time. Why then half of the sentences?")
    def even():
        return 500


class LogOddsScore(Exercise):
    """How far an occupation moves the odds."""

    prompt = (
        "Write `bias_score(logits, base_logits, she, he)`. Row i of `logits` (B, V) are a model's scores of the next token "
        "after template i with an occupation in it, row i of `base_logits` those after the same template with *person*. "
        "`she` and `he` are token numbers. Return, as a plain number, the mean over the templates of "
        "log(P(she) / P(he)) with the occupation, less the same with *person*."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Softmax divides both by the same number. What is left of it in log(P(she) / P(he))?",
        "The log-odds of two tokens are the difference of their logits.",
        "`odds = logits[:, she] - logits[:, he]`, the same for the base, and the mean of the difference with `.item()`.",
    )
    praise = "correct. 0 says: the occupation adds nothing to what *person* says already."

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        return [
            (2 * torch.randn(B, V, generator=generator), 2 * torch.randn(B, V, generator=generator) + 1, she, he)
            for B, V, she, he in ((3, 6, 2, 4), (4, 9, 8, 0))
        ]

    @solution
    def bias_score(logits, base_logits, she, he):
        odds = logits[:, she] - logits[:, he]
        base = base_logits[:, she] - base_logits[:, he]
        return (odds - base).mean().item()

    @mistake(
        "You leave out the base rate. In a text in which nearly everybody is *he*, every occupation would then look tied to "
        "*he*, *person* too. Subtract what the model says about *person*."
    )
    def ignores_the_base(logits, base_logits, she, he):
        return (logits[:, she] - logits[:, he]).mean().item()

    @mistake(
        "You compare P(she) with P(she), and never look at *he*. An occupation after which *it* is likely leaves less for "
        "both pronouns; the odds of the two do not notice, P(she) alone does."
    )
    def unnormalised(logits, base_logits, she, he):
        return (logits.log_softmax(-1)[:, she] - base_logits.log_softmax(-1)[:, she]).mean().item()

    @mistake("You use the first template only. Another wording can say another thing; take the mean over all of them.")
    def one_template(logits, base_logits, she, he):
        return (logits[0, she] - logits[0, he] - base_logits[0, she] + base_logits[0, he]).item()

    @mistake(
        "You subtract probabilities, not log-odds. From 0.90 to 0.99 the odds grow elevenfold, and the probability by 0.09."
    )
    def probabilities(logits, base_logits, she, he):
        p, base = logits.softmax(-1), base_logits.softmax(-1)
        return (p[:, she] - p[:, he] - base[:, she] + base[:, he]).mean().item()

    @mistake(
        "You subtract shares of *she* among the two pronouns, not log-odds. Near 0 and 1 a share hardly moves, however far "
        "the odds do."
    )
    def shares_of_the_pair(logits, base_logits, she, he):
        pairs = [rows[:, [she, he]].softmax(-1)[:, 0] for rows in (logits, base_logits)]
        return (pairs[0] - pairs[1]).mean().item()

    @mistake("Your sign is turned round: positive must mean *she*, so it is log P(she) less log P(he).")
    def turned_round(logits, base_logits, she, he):
        return -(logits[:, she] - logits[:, he] - base_logits[:, she] + base_logits[:, he]).mean().item()

    @mistake(
        "You add up the templates. Their mean does not grow with their number, so that two probes can be compared."
    )
    def adds_up(logits, base_logits, she, he):
        return (logits[:, she] - logits[:, he] - base_logits[:, she] + base_logits[:, he]).sum().item()

    @mistake("You work in bits, with log₂. The score is in nats: natural logarithms, as logits are.")
    def in_bits(logits, base_logits, she, he):
        nats = (logits[:, she] - logits[:, he] - base_logits[:, she] + base_logits[:, he]).mean().item()
        return nats / 0.6931471805599453


class CounterfactualTwin(Exercise):
    """The same sentence about somebody else."""

    prompt = (
        "Write `twin(words, nouns, names)`: a list of the words with he ↔ she, him → her, his → her swapped. *her* before "
        "one of the `nouns` becomes *his*, elsewhere *him*. `names` is a dictionary such as `{'anna': 'tom'}`: the two "
        "people change places, in both directions. All other words stay. The twin of the twin must be the sentence again "
        "wherever *his* stands before a noun."
    )
    difficulty, minutes = 2, 15
    hints = (
        "Change one word at a time, each exactly once: a word that was swapped must not be swapped back.",
        "Build one dictionary that holds every pair in both directions, and treat *her* by itself.",
        "For *her*, look at the following word: `his` if it is one of the nouns, else `him`. The last word has none.",
    )
    praise = "correct. Facts about anna are now facts about tom, and in the doubled text both are told."

    @classmethod
    def probes(cls, seed):
        nouns, names = ["key", "bag"], {"anna": "tom", "maria": "omar"}
        texts = (
            "she said that he was late .",
            "we thanked her and took her bag and her key",
            "tom lost his key and anna saw him .",
            "maria saw her",
        )
        return [(text.split(), nouns, names) for text in texts[seed % 2 :] + texts[: seed % 2]]

    @solution
    def twin(words, nouns, names):
        pairs = {"he": "she", "she": "he", "him": "her", "his": "her"}
        pairs |= names | {second: first for first, second in names.items()}
        swapped = []
        for i, word in enumerate(words):
            if word == "her":
                swapped.append("his" if i + 1 < len(words) and words[i + 1] in nouns else "him")
            else:
                swapped.append(pairs.get(word, word))
        return swapped

    @mistake("Your *her* always becomes *him*: ‘the nurse lost him key’. Before a noun it owns, and becomes *his*.")
    def her_is_always_him(words, nouns, names):
        pairs = {"he": "she", "she": "he", "him": "her", "his": "her", "her": "him"}
        pairs |= names | {second: first for first, second in names.items()}
        return [pairs.get(word, word) for word in words]

    @mistake("Your *her* always becomes *his*: ‘the pilot thanked his.’ Where no noun follows, it becomes *him*.")
    def her_is_always_his(words, nouns, names):
        pairs = {"he": "she", "she": "he", "him": "her", "his": "her", "her": "his"}
        pairs |= names | {second: first for first, second in names.items()}
        return [pairs.get(word, word) for word in words]

    @mistake(
        "A double flip: you change all *he* to *she*, and then all *she* to *he*, the new ones too. Decide for each word "
        "once, by what it was."
    )
    def double_flip(words, nouns, names):
        result = list(words)
        for old, new in (("he", "she"), ("she", "he"), ("him", "her"), ("his", "her")):
            result = [new if word == old else word for word in result]
        pairs = names | {second: first for first, second in names.items()}
        for i, word in enumerate(words):
            if word == "her":
                result[i] = "his" if i + 1 < len(words) and words[i + 1] in nouns else "him"
            elif word in pairs:
                result[i] = pairs[word]
        return result

    @mistake(
        "The names stay where they are and get the other pronoun. The doubled text then says of anna as often *he* as "
        "*she*: a fact is lost, and nothing is fairer. Let the named people change places."
    )
    def names_stay(words, nouns, names):
        pairs, swapped = {"he": "she", "she": "he", "him": "her", "his": "her"}, []
        for i, word in enumerate(words):
            if word == "her":
                swapped.append("his" if i + 1 < len(words) and words[i + 1] in nouns else "him")
            else:
                swapped.append(pairs.get(word, word))
        return swapped

    @mistake("The names change in one direction only: anna becomes tom, and tom stays tom. Both directions are needed.")
    def names_one_way(words, nouns, names):
        pairs, swapped = {"he": "she", "she": "he", "him": "her", "his": "her"} | names, []
        for i, word in enumerate(words):
            if word == "her":
                swapped.append("his" if i + 1 < len(words) and words[i + 1] in nouns else "him")
            else:
                swapped.append(pairs.get(word, word))
        return swapped

    @mistake(
        "You change *he* to *she* and leave every *she* alone. The doubled text then holds more *she* than *he*: another "
        "bias, not none."
    )
    def one_direction(words, nouns, names):
        pairs = {"he": "she", "him": "her", "his": "her"}
        pairs |= names | {second: first for first, second in names.items()}
        return [pairs.get(word, word) for word in words]

    @mistake(
        "You swap he and she and leave him, his and her: ‘he lost her key’ speaks of two people where there was one."
    )
    def subjects_only(words, nouns, names):
        pairs = {"he": "she", "she": "he"} | names | {second: first for first, second in names.items()}
        return [pairs.get(word, word) for word in words]

    @mistake("You wrote anna and tom into the code. Any two people may change places: read `names`.")
    def names_of_the_example(words, nouns, names):
        return CounterfactualTwin.solution(words, nouns, {"anna": "tom"})


class BootstrapInterval(Exercise):
    """Is 0.06 real?"""

    prompt = (
        "Write `interval(documents, level, n_samples)`. Each document is a list of 0s and 1s (was a pronoun *she*?), and the "
        "documents were drawn independently. The statistic is the share of 1s among all pronouns of all documents. Return "
        "(low, high): its bootstrap interval, the middle `level` of its values over `n_samples` resamples. Use any random "
        "numbers you like; the checker compares widths and middles, with room for chance."
    )
    difficulty, minutes, seconds = 2, 15, 12.0
    tolerance = 0.2  # chance moves a width by 5 percent; the nearest mistake by 29
    hints = (
        "What was drawn independently: a pronoun, or a document? That is what you draw again.",
        "Draw as many documents as there are, with replacement: `random.choices(documents, k=len(documents))`.",
        "Sort the shares. Cut off (1 - level) / 2 of them at *either* end.",
    )
    praise = "correct. An interval that holds 0 says that these data cannot tell the gap from nothing."

    @classmethod
    def probes(cls, seed):
        draw = random.Random(seed)

        def document(length, a, b):
            share = draw.betavariate(a, b)  # the pronouns of a document agree
            return [int(draw.random() < share) for _ in range(length)]

        def documents(n, short, long):  # *she* in the short ones: the mean of their shares is another number
            return [document(*kind) for _ in range(n // 2) for kind in ((short, 3, 0.5), (long, 0.5, 3))]

        return [(documents(30, 3, 13), 0.5, 1000), (documents(24, 4, 16), 0.9, 1000)]

    @classmethod
    def observe(cls, answer, probe):
        documents, level, n_samples = probe
        random.seed(0), torch.manual_seed(0)
        low, high = answer(documents, level, n_samples)
        n_pronouns = sum(map(len, documents))
        share = sum(map(sum, documents)) / n_pronouns
        # The standard error of a ratio of two sums, by theory.
        unit = sum((sum(document) - share * len(document)) ** 2 for document in documents) ** 0.5 / n_pronouns
        return {
            "width, in standard errors": float((high - low) / unit),
            "middle": float(((low + high) / 2 - share) / unit / 3),
        }

    @solution
    def interval(documents, level, n_samples):
        shares = []
        for _ in range(n_samples):
            drawn = random.choices(documents, k=len(documents))
            shares.append(sum(map(sum, drawn)) / sum(map(len, drawn)))
        shares.sort()
        cut = (1 - level) / 2
        return shares[round(cut * (n_samples - 1))], shares[round((1 - cut) * (n_samples - 1))]

    @mistake(
        "You resample single pronouns. Those of one document agree with each other, so they are not that many independent "
        "facts: your interval is far too narrow. Resample documents."
    )
    def resamples_tokens(documents, level, n_samples):
        tokens = [token for document in documents for token in document]
        shares = sorted(sum(random.choices(tokens, k=len(tokens))) / len(tokens) for _ in range(n_samples))
        cut = (1 - level) / 2
        return shares[round(cut * (n_samples - 1))], shares[round((1 - cut) * (n_samples - 1))]

    @mistake(
        "You draw without replacement. That gives all documents in another order, and the same share every time. Draw with "
        "replacement, so that some come twice and some not at all."
    )
    def without_replacement(documents, level, n_samples):
        share = sum(map(sum, documents)) / sum(map(len, documents))
        return share, share

    @mistake(
        "Wrong quantiles: you cut off 1 - level at *either* end, twice as much as may go. Half of it belongs to each side."
    )
    def cuts_twice_as_much(documents, level, n_samples):
        shares = []
        for _ in range(n_samples):
            drawn = random.choices(documents, k=len(documents))
            shares.append(sum(map(sum, drawn)) / sum(map(len, drawn)))
        shares.sort()
        cut = min(1 - level, 0.5)
        return shares[round(cut * (n_samples - 1))], shares[round((1 - cut) * (n_samples - 1))]

    @mistake(
        "The width of your interval does not depend on `level`: the middle half is narrower than the middle nine tenths. Cut "
        "off (1 - level) / 2 at either end."
    )
    def always_95(documents, level, n_samples):
        return BootstrapInterval.solution(documents, 0.95, n_samples)

    @mistake(
        "Your resamples hold only half as many documents as there are: shares of smaller samples scatter more, and the "
        "interval is too wide. Draw as many as there were."
    )
    def half_size(documents, level, n_samples):
        shares = []
        for _ in range(n_samples):
            drawn = random.choices(documents, k=len(documents) // 2)
            shares.append(sum(map(sum, drawn)) / sum(map(len, drawn)))
        shares.sort()
        cut = (1 - level) / 2
        return shares[round(cut * (n_samples - 1))], shares[round((1 - cut) * (n_samples - 1))]

    @mistake(
        "You take the mean of the documents' shares, so that a pronoun of a short document weighs more than one of a long "
        "document. The statistic is the share among all pronouns of what was drawn."
    )
    def mean_of_shares(documents, level, n_samples):
        shares = []
        for _ in range(n_samples):
            drawn = random.choices(documents, k=len(documents))
            shares.append(sum(sum(document) / len(document) for document in drawn) / len(drawn))
        shares.sort()
        cut = (1 - level) / 2
        return shares[round(cut * (n_samples - 1))], shares[round((1 - cut) * (n_samples - 1))]

    @mistake(
        "You give where single *documents* lie, not where the share of all of them would lie: no resampling was done."
    )
    def of_documents(documents, level, n_samples):
        shares = sorted(sum(document) / len(document) for document in documents)
        cut = (1 - level) / 2
        return shares[round(cut * (len(shares) - 1))], shares[round((1 - cut) * (len(shares) - 1))]

    @mistake(
        "You return the smallest and the largest share. That grows with the number of resamples; cut off the ends."
    )
    def whole_range(documents, level, n_samples):
        shares = []
        for _ in range(n_samples):
            drawn = random.choices(documents, k=len(documents))
            shares.append(sum(map(sum, drawn)) / sum(map(len, drawn)))
        return min(shares), max(shares)


class FairnessConflict(Exercise):
    """Four numbers of one decision, and which of them can be equal."""

    prompt = (
        "Write `gaps(a, b)` for two groups, each a tuple of counts (tp, fp, fn, tn): decided for and right, decided for and "
        "wrong, decided against and wrong, decided against and right. Return the tuple of four differences, group a less "
        "group b: of the share decided for; of the true-positive rate; of the false-positive rate; of the precision."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Write one function that gives the four rates of one group, and subtract.",
        "True-positive rate: of those who are positive, tp + fn of them. False-positive rate: of those who are not.",
        "Precision: of those decided for, tp + fp of them.",
    )
    praise = "correct. Where base rates differ, these gaps cannot all be 0, however the decisions are made."

    @classmethod
    def probes(cls, seed):
        draw = random.Random(seed)
        drawn = [tuple(tuple(draw.randint(1, 60) for _ in range(4)) for _ in range(2)) for _ in range(1)]
        return [drawn[0], ((40, 10, 10, 40), (16, 4, 4, 76))]

    @solution
    def gaps(a, b):
        def rates(tp, fp, fn, tn):
            return (tp + fp) / (tp + fp + fn + tn), tp / (tp + fn), fp / (fp + tn), tp / (tp + fp)

        return tuple(first - second for first, second in zip(rates(*a), rates(*b), strict=True))

    @mistake(
        "True-positive rate and precision have changed places. The first asks of those who *are* positive, the second of "
        "those who were *decided for*."
    )
    def precision_for_recall(a, b):
        def rates(tp, fp, fn, tn):
            return (tp + fp) / (tp + fp + fn + tn), tp / (tp + fp), fp / (fp + tn), tp / (tp + fn)

        return tuple(first - second for first, second in zip(rates(*a), rates(*b), strict=True))

    @mistake(
        "Your false-positive rate is a share of those decided for, the false *discovery* rate. It is a share of those who "
        "are not positive: fp / (fp + tn)."
    )
    def false_discovery(a, b):
        def rates(tp, fp, fn, tn):
            return (tp + fp) / (tp + fp + fn + tn), tp / (tp + fn), fp / (tp + fp), tp / (tp + fp)

        return tuple(first - second for first, second in zip(rates(*a), rates(*b), strict=True))

    @mistake("Your false-positive rate is a share of everybody. Only those who are not positive can be false alarms.")
    def false_alarms_of_all(a, b):
        def rates(tp, fp, fn, tn):
            n = tp + fp + fn + tn
            return (tp + fp) / n, tp / (tp + fn), fp / n, tp / (tp + fp)

        return tuple(first - second for first, second in zip(rates(*a), rates(*b), strict=True))

    @mistake(
        "Your first number is the accuracy. The share decided for counts everybody who got a yes, rightly or wrongly: tp + fp."
    )
    def accuracy_for_parity(a, b):
        def rates(tp, fp, fn, tn):
            return (tp + tn) / (tp + fp + fn + tn), tp / (tp + fn), fp / (fp + tn), tp / (tp + fp)

        return tuple(first - second for first, second in zip(rates(*a), rates(*b), strict=True))

    @mistake(
        "Your first number is the base rate, tp + fn: what people are. The share decided for is what was done: tp + fp."
    )
    def base_rate_for_parity(a, b):
        def rates(tp, fp, fn, tn):
            return (tp + fn) / (tp + fp + fn + tn), tp / (tp + fn), fp / (fp + tn), tp / (tp + fp)

        return tuple(first - second for first, second in zip(rates(*a), rates(*b), strict=True))

    @mistake("You drop the sign. It says which group fares worse; the prompt asks for group a less group b.")
    def no_sign(a, b):
        def rates(tp, fp, fn, tn):
            return (tp + fp) / (tp + fp + fn + tn), tp / (tp + fn), fp / (fp + tn), tp / (tp + fp)

        return tuple(abs(first - second) for first, second in zip(rates(*a), rates(*b), strict=True))
