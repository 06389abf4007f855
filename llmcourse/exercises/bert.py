"""Exercises of chapter 7: hide words, count the loss where words were hidden, lay two sentences, and know the ceiling."""

import copy
import math
import random

import torch
from torch.nn import functional as F

from llmcourse.exercises import CHANGED_INPUT, Exercise, mistake, solution

CHAPTER = 7
MASK, SPECIAL, N_VOCAB = 3, (0, 1, 2, 3, 59), 60  # of the rows that `HideWords` is given; 0 fills up


class PredictMasks(Exercise):
    """Predict, then run: how many [MASK]s stand in a batch?"""

    prompt = (
        "Predict before you run the next cell. A batch has 100 rows of 20 tokens. In each row three are special: `[CLS]` and "
        "two `[SEP]`. Words are chosen with probability 0.15, and 80 % of the chosen become `[MASK]`. How many `[MASK]`s "
        "stand in the batch, on average?"
    )
    difficulty, minutes, tolerance = 1, 4, 1e-9
    hints = ("How many of the 20 tokens of a row may be chosen?", "17 of 20 may be chosen: 100 · 17 · 0.15 · 0.8.")
    praise = "correct: 204. Run the next cell to count them."

    @solution
    def masks():
        return 100 * 17 * 0.15 * 0.8

    @mistake("You let the special tokens be chosen. They are never hidden, so a row has 17 candidates, not 20.")
    def specials_too():
        return 100 * 20 * 0.15 * 0.8

    @mistake("That is how many are *chosen*. Only 80 % of those are shown as `[MASK]`; the others look like words.")
    def all_chosen():
        return 100 * 17 * 0.15

    @mistake("That is 15 % of all tokens. Leave the special ones out, and take 80 % of what is chosen.")
    def share_of_everything():
        return 100 * 20 * 0.15

    @mistake("You hid 80 % of all words. First 15 % are chosen; 80 % of *those* become `[MASK]`.")
    def no_choice():
        return 100 * 17 * 0.8


def _nearest(value, step=0.05):
    return round(round(float(value) / step) * step, 2)


def _hidden(tokens, special, n_vocab, *, share=0.15, masked=0.8, swapped=0.1, lowest=4):
    """`HideWords` with other numbers, for its mistakes: `special` is spared, random tokens are `lowest` or above.

    The last token of the vocabulary is special, and never drawn.
    """
    chosen = (torch.rand(tokens.shape) < share) & ~torch.isin(tokens, torch.tensor(special))
    fate, others = torch.rand(tokens.shape), torch.randint(lowest, n_vocab - 1, tokens.shape)
    shown = tokens.masked_fill(chosen & (fate < masked), MASK)
    shown = torch.where(chosen & (fate >= masked) & (fate < masked + swapped), others, shown)
    return shown, tokens.masked_fill(~chosen, -100)


class HideWords(Exercise):
    """BERT's masking, judged by its statistics."""

    prompt = (
        "Write `hide(tokens, mask, special, n_vocab)`: for rows of tokens of shape (B, T), a pair (shown, targets). Choose "
        "each token that is not in `special` with probability 0.15. Of the chosen, show 80 % as `mask`, 10 % as a random "
        "token that is not special, and leave 10 % as they are. `targets` holds the original token at every chosen place, "
        "and -100 everywhere else. Draw anew at each call."
    )
    difficulty, minutes = 2, 15
    seconds = 10.0  # time for a loop over every place
    probe_names = ()
    hints = (
        "`torch.isin(tokens, torch.tensor(special))` says where no word stands.",
        "One draw decides what is chosen: `torch.rand(tokens.shape) < 0.15`. A second one decides its fate: below 0.8, "
        "between 0.8 and 0.9, or above.",
        "`tokens.masked_fill(~chosen, -100)` are the targets. Take the random tokens from a list of the ordinary ones.",
    )
    praise = "correct: your shares lie within 0.025 of 0.8 and 0.1, and no special token was touched."

    @classmethod
    def probes(cls, seed):
        return [(seed,)]

    @classmethod
    def observe(cls, answer, probe):
        torch.manual_seed(probe[0])
        tokens = torch.randint(4, N_VOCAB - 1, (400, 128))  # words stand between the special ones
        tokens[:, 0], tokens[:, 60], tokens[:, 110], tokens[:, 111:] = 1, 2, 2, 0
        given = tokens.clone()
        answers = [answer(given, MASK, SPECIAL, N_VOCAB) for _ in range(2)]
        if not torch.equal(given, tokens):
            return CHANGED_INPUT
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in answers):
            raise ValueError("return a pair: (shown, targets)")
        shown, targets = answers[0]
        for name, tensor in (("shown", shown), ("targets", targets)):
            if (tensor.shape, tensor.dtype, tensor.device) != (tokens.shape, tokens.dtype, tokens.device):
                found = f"shape {tuple(tensor.shape)}, dtype {tensor.dtype}, device {tensor.device}"
                raise ValueError(f"{name} needs the shape, dtype and device of tokens; it has {found}")
        chosen, is_special = targets != -100, torch.isin(tokens, torch.tensor(SPECIAL))
        words = chosen & ~is_special
        replaced = words & (shown != tokens) & (shown != MASK)
        return {
            "words that are chosen": _nearest(words.sum() / (~is_special).sum()),
            "chosen words shown as [MASK]": _nearest((shown[words] == MASK).float().mean()),
            "chosen words shown as another": _nearest(replaced.sum() / words.sum().clamp(min=1)),
            "a chosen word is shown as another": replaced.any().item(),
            "[CLS] and [SEP] are left alone": not (chosen & is_special & (tokens != 0)).any().item(),
            "padding is left alone": not (chosen & (tokens == 0)).any().item(),
            "what was not chosen is unchanged": torch.equal(shown[~chosen], tokens[~chosen]),
            "targets are the original tokens": torch.equal(targets[chosen], tokens[chosen]),
            "other words are drawn anew": len(shown[replaced].unique()) > 1 or not replaced.any().item(),
            "a special token in a word's place": torch.isin(shown[replaced], torch.tensor(SPECIAL)).any().item(),
            "the second call hides others": not torch.equal(shown, answers[1][0]),
        }

    @solution
    def hide(tokens, mask, special, n_vocab):
        ordinary = torch.tensor([token for token in range(n_vocab) if token not in special])
        chosen = (torch.rand(tokens.shape) < 0.15) & ~torch.isin(tokens, torch.tensor(special))
        fate = torch.rand(tokens.shape)
        others = ordinary[torch.randint(len(ordinary), tokens.shape)]
        shown = tokens.masked_fill(chosen & (fate < 0.8), mask)
        shown = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), others, shown)
        return shown, tokens.masked_fill(~chosen, -100)

    @mistake(
        "You hide special tokens as well. What stands at `[CLS]` or `[SEP]` is always the same; to ask for it teaches "
        "nothing, and to hide it takes away what the model steers by."
    )
    def hides_specials(tokens, mask, special, n_vocab):
        return _hidden(tokens, (), n_vocab)

    @mistake(
        "You hide padding. It is no word, and there is so much of it that the model would mostly learn to name it."
    )
    def hides_padding(tokens, mask, special, n_vocab):
        return _hidden(tokens, (1, 2, 3), n_vocab)

    @mistake(
        "You show every chosen word as `[MASK]`. In later use no `[MASK]` stands in a text; words that look like words must "
        "be asked for too, in one case of five."
    )
    def always_masks(tokens, mask, special, n_vocab):
        return _hidden(tokens, special, n_vocab, masked=1.0, swapped=0.0)

    @mistake(
        "Of what is left after the masking you replace 80 % again: 80/16/4 instead of 80/10/10. Compare *one* draw with both "
        "bounds, 0.8 and 0.9."
    )
    def eighty_of_the_rest(tokens, mask, special, n_vocab):
        return _hidden(tokens, special, n_vocab, masked=0.8, swapped=0.16)

    @mistake("You replace all that is left after the masking: 80/20/0. Half of it stays as it is.")
    def all_of_the_rest(tokens, mask, special, n_vocab):
        return _hidden(tokens, special, n_vocab, masked=0.8, swapped=0.2)

    @mistake("You replace 10 % of the *rest*: 80/2/18. The shares are of all chosen words.")
    def ten_of_the_rest(tokens, mask, special, n_vocab):
        return _hidden(tokens, special, n_vocab, masked=0.8, swapped=0.02)

    @mistake(
        "The second replacement overwrites the first: you replace everything whose draw is below 0.9, and no `[MASK]` is "
        "left. Replace only between 0.8 and 0.9."
    )
    def overwrites_the_masks(tokens, mask, special, n_vocab):
        return _hidden(tokens, special, n_vocab, masked=0.0, swapped=0.9)

    @mistake(
        "Your targets hold every token, hidden or not. The model is then paid for copying what it sees, and learns that."
    )
    def labels_everywhere(tokens, mask, special, n_vocab):
        return _hidden(tokens, special, n_vocab)[0], tokens.clone()

    @mistake("Your targets hold what is *shown*. The model should name what was there before: take the targets first.")
    def targets_from_shown(tokens, mask, special, n_vocab):
        shown, targets = _hidden(tokens, special, n_vocab)
        return shown, torch.where(targets == -100, targets, shown)

    @mistake(
        "Your random tokens may be special ones: a `[SEP]` in the middle of a sentence. Draw from the tokens that are not in "
        "`special`, wherever in the vocabulary they stand."
    )
    def specials_as_words(tokens, mask, special, n_vocab):
        return _hidden(tokens, special, n_vocab, lowest=0)

    @mistake(
        "One random word replaces all of them: you draw a single number in each call. Draw one for each place, with "
        "`tokens.shape` for the size."
    )
    def one_word_for_all(tokens, mask, special, n_vocab):
        shown, targets = _hidden(tokens, special, n_vocab)
        replaced = (targets != -100) & (shown != tokens) & (shown != mask)
        return shown.masked_fill(replaced, 4 + int(torch.randint(n_vocab - 5, (1,)))), targets

    @mistake(
        "Each call hides the same words. A row is shown many times; hide others each time, and it teaches more "
        "(`torch.manual_seed` inside the function is the usual cause)."
    )
    def always_the_same(tokens, mask, special, n_vocab):
        state = torch.random.get_rng_state()
        torch.manual_seed(0)
        pair = _hidden(tokens, special, n_vocab)
        torch.random.set_rng_state(state)
        return pair


class MaskedLoss(Exercise):
    """The loss counts where words were hidden, and nowhere else."""

    prompt = (
        "Write `masked_mean(logits, targets)`: for logits of shape (B, T, V) and targets of shape (B, T), the mean "
        "cross-entropy in nats over the places whose target is not -100. The result is a tensor with one number; where no place counts, the loss is 0.0."
    )
    difficulty, minutes = 1, 10
    hints = (
        "`chosen = targets != -100` picks rows of both: `logits[chosen]` has shape (N, V).",
        "`F.cross_entropy(logits[chosen], targets[chosen], reduction='sum')`, divided by the number that count.",
        "To divide by zero gives NaN: `chosen.sum().clamp(min=1)`.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(3, 7, 9, generator=generator)
        targets = torch.full((3, 7), -100)
        targets[0, 1], targets[0, 4], targets[0, 5], targets[2, 0] = 4, 0, 8, 3  # row 1 has none, row 2 has one
        return [(logits, targets), (logits[2:], targets[2:]), (logits[1:2], targets[1:2])]

    @classmethod
    def observe(cls, answer, probe):
        loss = answer(*probe)
        return torch.tensor(0.0) if isinstance(loss, int | float) and loss == 0 else loss  # "the loss is 0": so said

    @solution
    def masked_mean(logits, targets):
        chosen = targets != -100
        losses = F.cross_entropy(logits[chosen], targets[chosen], reduction="sum")
        return losses / chosen.sum().clamp(min=1)

    @mistake(
        "You sum and do not divide. A batch with more hidden words then takes a longer step, and in the sum of the two "
        "losses nothing is left of the next sentence."
    )
    def sum_for_mean(logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")

    @mistake("You divide by all places. Most of them were not hidden: divide by the number that count.")
    def mean_over_all_places(logits, targets):
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        return losses / targets.numel()

    @mistake(
        "You average each row first, and then the rows. A word in a row with few hidden ones then weighs more than another. "
        "It agrees only where all rows have equally many."
    )
    def mean_of_row_means(logits, targets):
        rows = []
        for row, wanted in zip(logits, targets, strict=True):
            chosen = wanted != -100
            if chosen.any():
                rows.append(F.cross_entropy(row[chosen], wanted[chosen]))
        return torch.stack(rows).mean() if rows else torch.tensor(0.0)

    @mistake(
        "You average over the rows, and a row without hidden words counts as a loss of 0. It should not count at all."
    )
    def empty_rows_count(logits, targets):
        rows = []
        for row, wanted in zip(logits, targets, strict=True):
            chosen = wanted != -100
            rows.append(F.cross_entropy(row[chosen], wanted[chosen]) if chosen.any() else torch.tensor(0.0))
        return torch.stack(rows).mean()

    @mistake(
        "You turned -100 into token 0 and let it count: the model is trained to say token 0 wherever nothing was hidden."
    )
    def ignored_is_token_zero(logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten().clamp(min=0))

    @mistake("You leave out the places whose target is 0, as if 0 were padding. Here only -100 does not count.")
    def zero_is_left_out(logits, targets):
        chosen = targets > 0
        losses = F.cross_entropy(logits[chosen], targets[chosen], reduction="sum")
        return losses / chosen.sum().clamp(min=1)

    @mistake("In a batch without hidden words your loss is NaN (0 divided by 0), and one step with it ruins the model.")
    def nan_when_none(logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)

    @mistake("Your loss is in bits: it is divided by ln 2. The course counts in nats.")
    def in_bits(logits, targets):
        chosen = targets != -100
        losses = F.cross_entropy(logits[chosen], targets[chosen], reduction="sum")
        return losses / chosen.sum().clamp(min=1) / math.log(2)


class PairRow(Exercise):
    """Two sentences in one row, and the segment of each token."""

    prompt = (
        "Write `lay_pair(first, second, cls, sep)` for two lists of tokens: a pair (tokens, segments) of two lists, for "
        "`[CLS]` first `[SEP]` second `[SEP]`. The segment is 0 up to and with the first `[SEP]`, and 1 after it."
    )
    difficulty, minutes = 1, 8
    hints = (
        "How many special tokens, and where?",
        "`[cls, *first, sep, *second, sep]` is the row.",
        "The first part has len(first) + 2 tokens: its `[CLS]` and its `[SEP]` belong to it.",
    )

    @classmethod
    def probes(cls, seed):
        return [([10 + seed, 11, 12], [20, 21], 1, 2), ([13], [22, 23, 24, 25 + seed], 4, 5)]

    @solution
    def lay_pair(first, second, cls, sep):
        tokens = [cls, *first, sep, *second, sep]
        cut = len(first) + 2
        return tokens, [0] * cut + [1] * (len(tokens) - cut)

    @mistake("Your first `[SEP]` has segment 1. It ends the first sentence, and belongs to it.")
    def separator_in_the_second(first, second, cls, sep):
        tokens = [cls, *first, sep, *second, sep]
        cut = len(first) + 1
        return tokens, [0] * cut + [1] * (len(tokens) - cut)

    @mistake("You counted the words of the first sentence, and forgot that `[CLS]` and `[SEP]` belong to it too.")
    def words_only(first, second, cls, sep):
        tokens = [cls, *first, sep, *second, sep]
        cut = len(first)
        return tokens, [0] * cut + [1] * (len(tokens) - cut)

    @mistake("The second sentence lacks its `[SEP]`: each of the two ends with one.")
    def no_last_separator(first, second, cls, sep):
        tokens = [cls, *first, sep, *second]
        cut = len(first) + 2
        return tokens, [0] * cut + [1] * (len(tokens) - cut)

    @mistake("You put a second `[CLS]` before the second sentence. There is one, in front of everything.")
    def two_beginnings(first, second, cls, sep):
        tokens = [cls, *first, sep, cls, *second, sep]
        cut = len(first) + 2
        return tokens, [0] * cut + [1] * (len(tokens) - cut)

    @mistake("Your segments are 1 and 2. The table of segments has two rows, 0 and 1; a 2 would be outside of it.")
    def counts_from_one(first, second, cls, sep):
        tokens = [cls, *first, sep, *second, sep]
        cut = len(first) + 2
        return tokens, [1] * cut + [2] * (len(tokens) - cut)

    @mistake("Your last `[SEP]` has segment 0. All after the first `[SEP]` belongs to the second sentence.")
    def last_separator_in_the_first(first, second, cls, sep):
        tokens = [cls, *first, sep, *second, sep]
        return tokens, [0] * (len(first) + 2) + [1] * len(second) + [0]


DOCUMENTS = [[(document, line) for line in range(lines)] for document, lines in enumerate((2, 5, 3, 4, 2, 6))]


class NextSentence(Exercise):
    """Pairs of which half follow each other, and half come from two documents."""

    prompt = (
        "Write `pair(documents, generator)`: one training example (first, second, label) for next-sentence prediction. A "
        "document is a list of sentences; each document has at least two sentences. The first is any sentence that has a next one. "
        "With probability 0.5 the second is that next one, label 0; otherwise it is any sentence of *another* document, "
        "label 1. Use `generator.random()`, `generator.choice(...)` and `generator.randrange(n)`."
    )
    difficulty, minutes = 2, 12
    seconds = 8.0  # thousands of pairs are drawn
    probe_names = ()
    hints = (
        "The first sentence needs a next one: draw its place from `randrange(len(document) - 1)`.",
        "For label 1, draw from the documents that are not the first one's.",
        "`others = [d for d in documents if d is not document]`, then a document, then one of its sentences.",
    )

    @classmethod
    def probes(cls, seed):
        return [(seed,)]

    @classmethod
    def observe(cls, answer, probe):
        generator, given, pairs = random.Random(probe[0]), copy.deepcopy(DOCUMENTS), []
        for _ in range(2000):
            pairs.append(answer(given, generator))
            if given != DOCUMENTS:
                return CHANGED_INPUT
        if not all(isinstance(pair, tuple) and len(pair) == 3 for pair in pairs):
            raise ValueError("return three things: (first, second, label)")
        zeros = [(a, b) for a, b, label in pairs if label == 0]
        ones = [(a, b) for a, b, label in pairs if label == 1]

        def share(pairs, holds):
            return _nearest(sum(map(holds, pairs)) / len(pairs), 0.1) if pairs else None

        return {
            "label 0": _nearest(len(zeros) / len(pairs), 0.1),
            "label 0: the second follows the first": share(
                zeros, lambda p: p[0][0] == p[1][0] and p[1][1] - p[0][1] == 1
            ),
            "label 0: any two neighbours": len(set(zeros)) >= sum(len(document) - 1 for document in DOCUMENTS),
            "label 1: from another document": share(ones, lambda p: p[0][0] != p[1][0]),
            "label 1: always an opening": bool(ones) and all(second[1] == 0 for _, second in ones),
            "label 1: any sentence of it": len({b for _, b in ones}) == sum(map(len, DOCUMENTS)),
        }

    @solution
    def pair(documents, generator):
        document = generator.choice(documents)
        place = generator.randrange(len(document) - 1)
        first = document[place]
        if generator.random() < 0.5:
            return first, document[place + 1], 0
        others = [other for other in documents if other is not document]
        return first, generator.choice(generator.choice(others)), 1

    @mistake(
        "Your label is the other way round. In the published models 0 means that the second sentence follows; a model "
        "trained with your labels and used with theirs is wrong almost always."
    )
    def labels_turned_round(documents, generator):
        document = generator.choice(documents)
        place = generator.randrange(len(document) - 1)
        if generator.random() < 0.5:
            return document[place], document[place + 1], 1
        others = [other for other in documents if other is not document]
        return document[place], generator.choice(generator.choice(others)), 0

    @mistake(
        "Your wrong sentences come from the same document. They share its topic, and some of them really follow: the "
        "labels are partly false."
    )
    def negatives_from_the_same_document(documents, generator):
        document = generator.choice(documents)
        place = generator.randrange(len(document) - 1)
        if generator.random() < 0.5:
            return document[place], document[place + 1], 0
        return document[place], generator.choice(document), 1

    @mistake(
        "You draw wrong sentences from all documents, so now and then from the same one. Leave the first one's document out."
    )
    def negatives_from_anywhere(documents, generator):
        document = generator.choice(documents)
        place = generator.randrange(len(document) - 1)
        if generator.random() < 0.5:
            return document[place], document[place + 1], 0
        return document[place], generator.choice(generator.choice(documents)), 1

    @mistake("For label 0 you take any later sentence of the document. It should be the very next one.")
    def any_later_sentence(documents, generator):
        document = generator.choice(documents)
        place = generator.randrange(len(document) - 1)
        if generator.random() < 0.5:
            return document[place], generator.choice(document[place + 1 :]), 0
        others = [other for other in documents if other is not document]
        return document[place], generator.choice(generator.choice(others)), 1

    @mistake(
        "Every pair follows and has label 0. A judge that always says *follows* is then perfect, and learns nothing."
    )
    def never_wrong(documents, generator):
        document = generator.choice(documents)
        place = generator.randrange(len(document) - 1)
        return document[place], document[place + 1], 0

    @mistake(
        "Your wrong sentence is always the first of its document. The model will learn how documents begin, not what "
        "belongs together."
    )
    def always_an_opening(documents, generator):
        document = generator.choice(documents)
        place = generator.randrange(len(document) - 1)
        if generator.random() < 0.5:
            return document[place], document[place + 1], 0
        others = [other for other in documents if other is not document]
        return document[place], generator.choice(others)[0], 1


class Ceiling(Exercise):
    """The best that anyone could do."""

    prompt = (
        "Write `best_possible(joint)`: `joint[c, w]` is the probability that context c is shown *and* word w was hidden in it; all "
        "of them sum to 1. Return, as a number, how often the best possible guesser is right: it names one word for each "
        "context."
    )
    difficulty, minutes = 2, 10
    hints = (
        "In context c the best guess is its likeliest word. How often is c shown and this word right?",
        "That is the largest entry of row c, as it stands: it holds the probability of the context already.",
    )

    @classmethod
    def probes(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        joint = torch.rand(5, 4, generator=generator).double() ** 3 * torch.tensor([[8.0], [1], [0.2], [3], [0.5]])
        return [(joint / joint.sum(),), (torch.tensor([[0.5, 0.0], [0.1, 0.4]]).double(),)]

    @solution
    def best_possible(joint):
        return joint.max(dim=1).values.sum().item()

    @mistake(
        "You average over the contexts as if each were shown equally often. A context counts as often as it comes: its row "
        "of `joint` holds that already."
    )
    def contexts_weigh_the_same(joint):
        return (joint.max(dim=1).values / joint.sum(dim=1)).mean().item()

    @mistake("You take the mean of the rows' best. Each is already weighted by how often its context comes: add them.")
    def mean_of_the_best(joint):
        return joint.max(dim=1).values.mean().item()

    @mistake(
        "You name one word for all contexts. That is the baseline of the most frequent word; the guesser sees its context."
    )
    def most_frequent_word(joint):
        return joint.sum(dim=0).max().item()

    @mistake(
        "You took the largest entry of each column. The guesser sees the context, a row, and chooses a word in it."
    )
    def over_the_columns(joint):
        return joint.max(dim=0).values.sum().item()

    @mistake(
        "That is a guesser who *draws* a word by its probability. It is right less often than one who names the likeliest."
    )
    def draws_its_answer(joint):
        return (joint.square().sum(dim=1) / joint.sum(dim=1)).sum().item()

    @mistake("You took the single largest entry: one context and one word. Add up the best of every context.")
    def one_context(joint):
        return joint.max().item()

    @mistake(
        "You took the share of the contexts in which the likeliest word is more likely than not. Count how often it is right."
    )
    def counts_sure_contexts(joint):
        share = joint.max(dim=1).values / joint.sum(dim=1)
        return (share > 0.5).double().mean().item()
