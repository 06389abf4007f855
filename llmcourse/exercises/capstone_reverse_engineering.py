"""Exercises of chapter 19, the first capstone: choose an experiment, say what the model says, name the heads that do it."""

from collections import Counter
from collections.abc import Mapping
from functools import cache

from llmcourse.capstone.judging import judge_heads, judge_predictor, majority, n_gram_predictor
from llmcourse.capstone.released import FOLDER, LETTERS, answers, question_rows, released_model
from llmcourse.exercises import Exercise, Wrong, mistake, solution
from llmcourse.models import load_model

CHAPTER = 19
N_ROWS = 200  # on which a submission is judged


def _most(row: str) -> str:
    return Counter(row).most_common(1)[0][0]


@cache
def _table():
    """What the model said after each last letter, in rows of their own; asked of a copy, which nobody watches."""
    rows = question_rows(N_ROWS, seed=1000)
    return n_gram_predictor(rows, answers(load_model(FOLDER), rows), n=2)


class TellApart(Exercise):
    """Choose the experiment that decides between two hypotheses."""

    prompt = (
        "Two hypotheses, `one` and `other`, are functions from a row to a letter. Write `tell_apart(one, other, rows)`: the "
        "first of the rows on which they say different letters, or None when they agree on all of them. Only such a row can "
        "decide between the two."
    )
    difficulty, minutes = 1, 6
    hints = (
        "Go through the rows in order, and ask both hypotheses about each.",
        "Return the row itself as soon as the two letters differ. After the loop nothing was found.",
        "`next((row for row in rows if one(row) != other(row)), None)`.",
    )
    praise = "correct. A row on which both say the same teaches you nothing about which of them is right."

    @classmethod
    def probes(cls, seed):
        rows = question_rows(40, seed)
        agreeing = [row for row in rows if row[0] != row[5]]
        by_letter = lambda row: min(row[0], row[5])  # noqa: E731
        return [
            (_most, lambda row: row[0], agreeing),
            (by_letter, lambda row: row[0], sorted(agreeing)),
            (_most, _most, rows[:5]),
        ]

    @solution
    def tell_apart(one, other, rows):
        return next((row for row in rows if one(row) != other(row)), None)

    @mistake(
        "You return a row on which they *agree*. It cannot decide between them: look for one on which they differ."
    )
    def where_they_agree(one, other, rows):
        return next((row for row in rows if one(row) == other(row)), None)

    @mistake("You return the number of the row. The prompt asks for the row itself.")
    def its_number(one, other, rows):
        return next((number for number, row in enumerate(rows) if one(row) != other(row)), None)

    @mistake("You return the last such row. The prompt asks for the first: stop when you have found it.")
    def the_last_one(one, other, rows):
        return next((row for row in reversed(rows) if one(row) != other(row)), None)

    @mistake(
        "You return whether such a row exists. The prompt asks for the row, so that the model can be asked about it."
    )
    def whether_there_is_one(one, other, rows):
        return any(one(row) != other(row) for row in rows)

    @mistake("You return all such rows, in a list. The prompt asks for the first, or None.")
    def all_of_them(one, other, rows):
        return [row for row in rows if one(row) != other(row)]


class PredictTheModel(Exercise):
    """The first half of the capstone: say what the model says."""

    prompt = (
        "Write `predict(row)`: for a row of 24 letters the letter that the released model says after it, without asking the "
        "model. It is judged on rows that you have not seen, and must agree with the model on at least 0.98 of them."
    )
    difficulty, minutes = 3, 45
    one_set = "the share of all that is foretold is judged"
    hints = (
        "Which places of a row matter? In the picture of exchanged letters, look at what stands at the light places: compare "
        "these letters with the row's last letter and with the answer.",
        "The last letter stands in the row before. How far from there is the answer? Count in several rows, and beware of what "
        "you know from chapter 10. Layer 0 has a head that always looks equally far back: how far?",
        "If the last letter stands in the row several times, which of them counts? Make a row in which they would give different "
        "answers, and ask the model.",
        "`row[:-2].rfind(letter)` is the last place of a letter, among the places that are at least two before the end.",
    )
    praise = "correct: you say what it says. Now show which heads say it."
    seconds = 20.0

    @classmethod
    def probes(cls, seed):
        return [(row,) for row in question_rows(N_ROWS, seed)]

    @classmethod
    def verify(cls, answer, seed=0):
        rows, model, asked = question_rows(N_ROWS, seed), released_model(), []
        handle = model.register_forward_pre_hook(lambda *_: asked.append(True))
        try:
            said = [answer(row) for row in rows]
        finally:
            handle.remove()
        for letter in said:
            if not (isinstance(letter, str) and len(letter) == 1 and letter in LETTERS):
                raise Wrong(f"your code returned {letter!r}; one of the letters {LETTERS} is expected.")
        if asked:
            raise Wrong(cls.mistakes["asks_the_model"].sentence)
        if reason := judge_predictor(answer, model, rows).reason:
            raise Wrong(reason)

    @solution
    def predict(row):
        place = row[:-2].rfind(row[-1])
        return row[place + 2]

    @mistake(
        "You say the letter that is most frequent in the row. Shuffle the row, and the model says another: order counts."
    )
    def the_majority(row):
        return majority(row)

    @mistake(
        "You keep a table of what the model said after each last letter. In rows drawn at random such a table holds noise: the "
        "model answers from the row, not from habit."
    )
    def table_of_last_letters(row):
        return _table()(row)

    @mistake("You repeat the last letter. It is what the model searches with, not what it says.")
    def the_last_letter(row):
        return row[-1]

    @mistake("You say the letter two before the end. Exchange it: in most rows the model does not care.")
    def two_before_the_end(row):
        return row[-3]

    @mistake(
        "You say what followed the last letter when it stood there before. That is the induction of chapter 10, and a good first "
        "guess; this model was not made for it. Find a row in which the answer stands once, and count its distance."
    )
    def what_followed(row):
        return row[row[:-1].rfind(row[-1]) + 1]

    @mistake("You are at the right occurrence and one too far to the right. Count the distance again.")
    def three_after(row):
        return row[min(row[:-2].rfind(row[-1]) + 3, len(row) - 1)]

    @mistake(
        "You look on the wrong side: the answer does not stand *before* the earlier occurrence of the last letter."
    )
    def two_before_it(row):
        return row[row[:-2].rfind(row[-1]) - 2]

    @mistake("You look one to the left of the earlier occurrence of the last letter. It is the wrong side.")
    def one_before_it(row):
        return row[row[:-2].rfind(row[-1]) - 1]

    @mistake(
        "Your distance is right and the occurrence is not: where the last letter stands several times before, you take the first. "
        "You agree with the model on the rows in which there is only one."
    )
    def first_occurrence(row):
        return row[row.find(row[-1]) + 2]

    @mistake("You ask the model itself. It agrees with itself, and you have explained nothing: write the rule.")
    def asks_the_model(row):
        return answers(released_model(), [row])[0]


class PredictSilencing(Exercise):
    """Predict, then run: a head that looks, silenced."""

    prompt = (
        "Predict before you run the next cell. Of all heads in layer 1, head 3 gives the most attention to the place where the "
        "answer stands. We silence it, and it alone. What share of the model's answers stays the same, from 0 to 1? Give a number; "
        "0.05 more or less is close enough."
    )
    difficulty, minutes, tolerance = 1, 3, 0.05
    hints = (
        "Is another head looking at the same place?",
        "What a head looks at says nothing of what it writes. Remember the decoy of chapter 10.",
    )
    praise = "correct: all of it. Head 3 looks best, and what it reads there is of no use to anybody."

    @solution
    def stays():
        return 1.0

    @mistake(
        "No answer would stay if head 3 alone brought the letter. Another head looks there too; which of them is needed?"
    )
    def nothing():
        return 0.0

    @mistake("Two heads look, and you let each do half of the work. Work is not shared out by attention.")
    def half():
        return 0.5

    @mistake("A blind guess, 1 in 16, would be left if nothing else knew the answer. Something else does.")
    def blind_guess():
        return 1 / 16


class NameTheHeads(Exercise):
    """The second half of the capstone: the heads that cause the answer."""

    prompt = (
        'Name the heads that implement the rule, as `named = {"blocks.0.attention": [...], "blocks.1.attention": [...]}`. They are '
        "judged by what they cause. With all other heads silenced, at least 0.95 of the answers must stay; without yours, at most "
        "0.3; and none of yours may be idle."
    )
    difficulty, minutes = 2, 20
    hints = (
        "Silence one head at a time. For which does the share of answers that stay fall?",
        "The rule takes two steps, one in each layer. Which head of layer 0 could a head of layer 1 hear?",
        "Among heads that look at the same place, keep the one without which the answers are gone.",
    )
    praise = "correct: these heads alone give the answers, and without any of them the answers are gone."
    seconds = 20.0

    @classmethod
    def observe(cls, answer, probe):
        return sorted((layer, head) for layer, chosen in answer().items() for head in set(chosen))

    @classmethod
    def verify(cls, answer, seed=0):
        heads = answer()
        if not isinstance(heads, Mapping) or not all(isinstance(chosen, list | tuple) for chosen in heads.values()):
            raise Wrong('name the heads of each layer in a list, such as {"blocks.0.attention": [0]}.')
        # numpy's and torch's whole numbers as Python's
        heads = {layer: [h.item() if hasattr(h, "item") else h for h in chosen] for layer, chosen in heads.items()}
        try:
            judgement = judge_heads(heads, released_model(), question_rows(N_ROWS, seed))
        except ValueError as error:
            raise Wrong(f"{error}.") from None
        if judgement.reason:
            raise Wrong(judgement.reason)

    @solution
    def named():
        return {"blocks.0.attention": [2], "blocks.1.attention": [1]}

    @mistake(
        "You took in each layer the head whose attention is sharpest. Both are decoys: silence them, and every answer stays."
    )
    def the_sharpest():
        return {"blocks.0.attention": [0], "blocks.1.attention": [3]}

    @mistake(
        "The head of layer 1 is right. That of layer 0 looks where the right one looks, but layer 1 cannot use what it writes: see "
        "which connection lies above chance."
    )
    def decoy_below():
        return {"blocks.0.attention": [0], "blocks.1.attention": [1]}

    @mistake(
        "The head of layer 0 is right. That of layer 1 finds the answer's place and does not carry the letter over: silence it alone."
    )
    def decoy_above():
        return {"blocks.0.attention": [2], "blocks.1.attention": [3]}

    @mistake(
        "You named all heads that look at the right places. The right ones are among them, and so are idle ones: looking is not causing."
    )
    def all_that_look():
        return {"blocks.0.attention": [0, 2], "blocks.1.attention": [1, 3]}

    @mistake("You named only the head that brings the letter. It takes a head below that tells it where to look.")
    def layer_1_alone():
        return {"blocks.1.attention": [1]}

    @mistake("You named only the head that notes what stood before. Another must search for the note, and read.")
    def layer_0_alone():
        return {"blocks.0.attention": [2]}

    @mistake("You named every head. Of course the answers are gone without them; which of them are *needed*?")
    def every_head():
        return {"blocks.0.attention": [0, 1, 2, 3], "blocks.1.attention": [0, 1, 2, 3]}

    @mistake("The numbers are right and the layers are swapped: layers are counted from 0, the lower one first.")
    def layers_swapped():
        return {"blocks.0.attention": [1], "blocks.1.attention": [2]}
