"""Exercises of chapter 1: counting, scoring, and knowing what a score is worth."""

import itertools
import math
import random

import torch

from llmcourse.corpora import agree
from llmcourse.exercises import Exercise, Wrong, mistake, solution

CHAPTER = 1


class PredictFloor(Exercise):
    """Predict, then run: the lowest loss on a source that is random."""

    prompt = (
        "A source says *sun* with probability 1/2, *rain* and *snow* with 1/4 each, every day anew. No model can know the "
        "weather. What is the lowest loss in **nats** per word that the best possible model reaches? Give a number, or an "
        "expression such as `math.log(3)`."
    )
    difficulty, minutes = 1, 4
    tolerance = 0.01
    hints = (
        "The best model says 1/2, 1/4, 1/4: the truth. Its loss is its average surprise, and *sun* surprises it by ln 2.",
        "Half of the days cost ln 2, the other half ln 4.",
    )
    praise = "correct. 1/2 · ln 2 + 1/2 · ln 4 = 1.04 nats. Nothing that learns from this source can do better."

    @solution
    def lowest_loss():
        return 0.5 * math.log(2) + 0.5 * math.log(4)

    @mistake("That is the answer in bits (log to base 2). In nats: 1.5 · ln 2.")
    def in_bits():
        return 1.5

    @mistake(
        "ln 3 is the loss of a model that thinks all three equally likely. Knowing that *sun* is likelier is better."
    )
    def uniform():
        return math.log(3)

    @mistake("A loss of 0 needs certainty, and this source leaves none: its words are random.")
    def zero():
        return 0.0

    @mistake("ln 2 is the cost of *sun* alone. Half of the days are not sunny, and cost ln 4.")
    def only_the_likeliest():
        return math.log(2)


class Bigram(Exercise):
    """A language model by counting pairs."""

    prompt = (
        "Write `bigram(sentences, n_vocab, k)`: a tensor of shape (n_vocab, n_vocab) whose row *a* holds P(next word | *a*), "
        "from counts to each of which k is added. `sentences` is a list of lists of word numbers; pairs lie inside a "
        "sentence, never across two."
    )
    difficulty, minutes = 2, 12
    hints = (
        "First count into `torch.zeros(n_vocab, n_vocab)`: for each sentence, each pair of neighbours.",
        "`itertools.pairwise(sentence)` gives the pairs.",
        "Add k to every count, then divide each row by its own sum.",
    )

    @classmethod
    def probes(cls, seed):
        generator = random.Random(seed)
        many = [[generator.randrange(5) for _ in range(generator.randrange(2, 7))] for _ in range(20)]
        return [([[0, 1, 2], [2, 1, 0, 1]], 4, 1.0), (many, 6, 0.5)]

    @classmethod
    def observe(cls, answer, probe):
        table = answer(*probe)
        return table.float() if isinstance(table, torch.Tensor) else table  # who counts in float64 is right too

    @solution
    def bigram(sentences, n_vocab, k):
        counts = torch.zeros(n_vocab, n_vocab)
        for sentence in sentences:
            for first, second in itertools.pairwise(sentence):
                counts[first, second] += 1
        counts = counts + k
        return counts / counts.sum(dim=1, keepdim=True)

    @mistake(
        "You add k above the line only, so rows sum to more than 1. Each of the V possible next words got k more: add "
        "k·V below."
    )
    def smooths_the_numerator_only(sentences, n_vocab, k):
        counts = _pair_counts(sentences, n_vocab)
        return (counts + k) / counts.sum(dim=1, keepdim=True)

    @mistake("You divide by count + k. V words got k each, so a row grew by k·V: divide by count + k·V.")
    def adds_k_below_once(sentences, n_vocab, k):
        counts = _pair_counts(sentences, n_vocab)
        return (counts + k) / (counts.sum(dim=1, keepdim=True) + k)

    @mistake("Your rows and columns are exchanged: row *a* holds P(word before | *a*), not P(next | *a*).")
    def transposed(sentences, n_vocab, k):
        counts = _pair_counts(sentences, n_vocab).T + k
        return counts / counts.sum(dim=1, keepdim=True)

    @mistake(
        "You divide by the sum of the whole table: that is P(*a* and next), not P(next given *a*). Each row sums to 1."
    )
    def joint_instead_of_conditional(sentences, n_vocab, k):
        counts = _pair_counts(sentences, n_vocab) + k
        return counts / counts.sum()

    @mistake("You glue the sentences together: the last word of one and the first of the next are counted as a pair.")
    def counts_across_sentences(sentences, n_vocab, k):
        counts = _pair_counts([list(itertools.chain(*sentences))], n_vocab) + k
        return counts / counts.sum(dim=1, keepdim=True)

    @mistake(
        "k has no effect in your table: it must be added to every count, also of pairs never seen. Without it such a pair "
        "gets probability 0, and an unseen word a row of 0/0 = NaN."
    )
    def unsmoothed(sentences, n_vocab, k):
        counts = _pair_counts(sentences, n_vocab)
        return counts / counts.sum(dim=1, keepdim=True)

    @mistake("You count each different pair once. A pair that occurs five times must weigh five times as much.")
    def counts_each_pair_once(sentences, n_vocab, k):
        counts = _pair_counts(sentences, n_vocab).clamp_max(1) + k
        return counts / counts.sum(dim=1, keepdim=True)


def _pair_counts(sentences: list[list[int]], n_vocab: int) -> torch.Tensor:
    counts = torch.zeros(n_vocab, n_vocab)
    for sentence in sentences:
        for first, second in itertools.pairwise(sentence):
            counts[first, second] += 1
    return counts


class Perplexity(Exercise):
    """Between how many words does the model hesitate?"""

    prompt = (
        "Write `perplexity(logits, targets)`: exp of the mean cross-entropy in nats **per token**, a plain number. `logits` "
        "has shape (B, T, V), `targets` (B, T); a target of -100 is padding and does not count."
    )
    difficulty, minutes = 2, 12
    hints = (
        "`logits.log_softmax(dim=-1)` are log probabilities. Which of the V belongs to the target?",
        "Choose the targets that count with `targets != -100`, before you take any mean.",
        "`(-log_probabilities[counted, targets[counted]]).mean().exp().item()`: the mask chooses the places, the targets "
        "choose the entry at each.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(3, 5, 7, generator=generator)
        targets = torch.randint(7, (3, 5), generator=generator)
        padded = targets.clone()
        padded[0, 2:], padded[2, 4:] = -100, -100
        return [(logits, padded), (torch.zeros(1, 4, 6), torch.tensor([[1, 2, -100, -100]]))]

    @solution
    def perplexity(logits, targets):
        counted = targets != -100
        log_probabilities = logits.log_softmax(dim=-1)[counted]
        losses = -log_probabilities.gather(1, targets[counted][:, None])
        return losses.mean().exp().item()

    @mistake(
        "You take exp of the *sum*. That grows with the length of the text; perplexity is exp of the mean per token."
    )
    def exp_of_sum(logits, targets):
        return _losses(logits, targets)[targets != -100].sum().exp().item()

    @mistake("You raise 2 to a loss in nats. Nats belong with e, bits with 2: use exp, or divide by ln 2 first.")
    def base_two_of_nats(logits, targets):
        return 2 ** _losses(logits, targets)[targets != -100].mean().item()

    @mistake(
        "You average within each sentence first, then over sentences: a word of a short sentence then weighs more. "
        "All tokens together, one mean."
    )
    def mean_over_sentences(logits, targets):
        counted = targets != -100
        per_sentence = (_losses(logits, targets) * counted).sum(1) / counted.sum(1)
        return per_sentence.mean().exp().item()

    @mistake("You count padding: divide by the number of targets that are not -100, not by B·T.")
    def divides_by_all_positions(logits, targets):
        return ((_losses(logits, targets) * (targets != -100)).sum() / targets.numel()).exp().item()

    @mistake("You average the perplexities of the tokens. Take the mean of the losses first, and exp once at the end.")
    def mean_of_exps(logits, targets):
        return _losses(logits, targets)[targets != -100].exp().mean().item()

    @mistake("That is the mean loss in nats. Perplexity is its exponential.")
    def forgets_exp(logits, targets):
        return _losses(logits, targets)[targets != -100].mean().item()

    @mistake("Your perplexity is below 1, which would be better than certainty: the sign of the loss is turned around.")
    def wrong_sign(logits, targets):
        return (-_losses(logits, targets)[targets != -100].mean()).exp().item()


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -logits.log_softmax(-1).gather(-1, targets.clamp_min(0)[..., None])[..., 0]


class SentenceProbability(Exercise):
    """The exact probability of a sentence, branch by branch."""

    prompt = (
        "A tiny grammar: a sentence begins with *the*; then, with probability 1/4, comes an adjective (*old* or *red*, "
        "equally likely); then a noun (*cat* 1/2, *dog* 3/10, *trees* 1/5); then *sleeps* (3/5) or *waits* (2/5). Write "
        "`log_probability(words)` for a list of words: ln of the exact probability of the sentence."
    )
    difficulty, minutes = 2, 10
    hints = (
        "Probabilities of steps multiply, so their logarithms add.",
        "There are two ways on after *the*: with an adjective, and without. Both have a probability.",
        "Without an adjective: ln 3/4 + ln P(noun) + ln P(verb). With one: ln 1/4 + ln 1/2 + ln P(noun) + ln P(verb).",
    )

    @classmethod
    def probes(cls, seed):
        sentences = (
            "the old cat sleeps",
            "the trees waits",
            "the red dog waits",
        )
        return [(sentence.split(),) for sentence in sentences]

    @solution
    def log_probability(words):
        noun = {"cat": 0.5, "dog": 0.3, "trees": 0.2}
        verb = {"sleeps": 0.6, "waits": 0.4}
        has_adjective = len(words) == 4
        probability = 0.25 * 0.5 if has_adjective else 0.75
        return math.log(probability * noun[words[-2]] * verb[words[-1]])

    @mistake("You forgot the branch without an adjective: not saying one is a choice too, and has probability 3/4.")
    def forgets_no_adjective(words):
        return math.log((0.125 if len(words) == 4 else 1.0) * _noun_and_verb(words))

    @mistake("You forgot to choose between the two adjectives: saying *old* has probability 1/4 · 1/2.")
    def forgets_which_adjective(words):
        return math.log((0.25 if len(words) == 4 else 0.75) * _noun_and_verb(words))

    @mistake("That is the probability itself. Take its logarithm: for whole texts the product soon rounds to 0.")
    def no_logarithm(words):
        return (0.125 if len(words) == 4 else 0.75) * _noun_and_verb(words)

    @mistake("That is the logarithm to base 2, in bits. `math.log` is ln, in nats.")
    def in_bits(words):
        return math.log2((0.125 if len(words) == 4 else 0.75) * _noun_and_verb(words))

    @mistake("You turned the sign around: that is the surprise. A log probability is never above 0.")
    def surprise(words):
        return -math.log((0.125 if len(words) == 4 else 0.75) * _noun_and_verb(words))

    @mistake(
        "You divided by the number of words: that is the mean per word. The sentence's log probability is the sum."
    )
    def mean_per_word(words):
        return math.log((0.125 if len(words) == 4 else 0.75) * _noun_and_verb(words)) / len(words)


def _noun_and_verb(words: list[str]) -> float:
    noun = {"cat": 0.5, "dog": 0.3, "trees": 0.2}[words[-2]]
    return noun * {"sleeps": 0.6, "waits": 0.4}[words[-1]]


class Shortcut(Exercise):
    """Beat a worthless test with one line."""

    prompt = (
        "`agree-naive` is `agree` without phrases before the subject, as in *the cat near the trees sleeps*. Write "
        "`guess(words)`: given the words before the verb, return 'singular' or 'plural', right in at least 90 % of its "
        "sentences, in one line, without learning anything. `agree.SINGULAR_NOUNS` and `agree.PLURAL_NOUNS` list the nouns. "
        "Then say to yourself why a model that scores 100 % on this test may have understood nothing."
    )
    difficulty, minutes = 1, 8
    one_set = "the share of all that is guessed right is judged"
    hints = (
        "Without a phrase in front, where does the subject always stand?",
        "Find the first noun. `next(word for word in words if ...)` gives the first word that fits.",
    )
    praise = (
        "correct: the first noun is always the subject here. A model may have learned just that place, and no grammar. "
        "On `agree`, where phrases may come first, your line is far from perfect: that is why the chapter uses `agree`."
    )

    @classmethod
    def probes(cls, seed):
        stream = itertools.islice(agree.sentences(seed=1000 + seed, fronted=0.0), 400)
        return [(list(sentence.words[: sentence.verb]),) for sentence in stream]

    @classmethod
    def verify(cls, answer, seed=0):
        guesses = [answer(*probe) for probe in cls.probes(seed)]
        strange = [guess for guess in guesses if guess not in ("singular", "plural")]
        if strange:
            raise Wrong(f"your code returned {strange[0]!r}; return 'singular' or 'plural'.")
        right = sum(guess == cls.solution(*probe) for guess, probe in zip(guesses, cls.probes(seed), strict=True))
        if right < 0.9 * len(guesses):
            raise Wrong(f"your guess is right in {right / len(guesses):.0%} of the sentences; 90 % are asked for.")

    @solution
    def guess(words):
        first = next(word for word in words if word in agree.SINGULAR_NOUNS + agree.PLURAL_NOUNS)
        return "singular" if first in agree.SINGULAR_NOUNS else "plural"

    @mistake(
        "You go by the *last* noun, the one next to the verb. It is often a distractor: in *the cat near the trees sleeps* "
        "it is *trees*."
    )
    def last_noun(words):
        last = [word for word in words if word in agree.SINGULAR_NOUNS + agree.PLURAL_NOUNS][-1]
        return "singular" if last in agree.SINGULAR_NOUNS else "plural"

    @mistake("You let the nouns vote. Distractors vote too, and two of them outvote the subject.")
    def majority_of_nouns(words):
        singular = sum(word in agree.SINGULAR_NOUNS for word in words)
        plural = sum(word in agree.PLURAL_NOUNS for word in words)
        return "singular" if singular >= plural else "plural"

    @mistake("You say plural as soon as any noun is plural. A plural distractor then overrules a singular subject.")
    def any_plural(words):
        return "plural" if any(word in agree.PLURAL_NOUNS for word in words) else "singular"

    @mistake("You have singular and plural exchanged: with one subject the verb ends in -s.")
    def exchanged(words):
        first = next(word for word in words if word in agree.SINGULAR_NOUNS + agree.PLURAL_NOUNS)
        return "plural" if first in agree.SINGULAR_NOUNS else "singular"

    @mistake("You always say singular. About half of the subjects are plural.")
    def always_singular(words):
        return "singular"

    @mistake("You always say plural. About half of the subjects are singular.")
    def always_plural(words):
        return "plural"
