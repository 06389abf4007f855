"""Exercises of the opening: how checking feels, and what 'the same on every machine' takes."""

import inspect
import json
import math
import os
import random
import subprocess
import sys
import textwrap

from llmcourse.exercises import Exercise, Wrong, mistake, solution

CHAPTER = 0
SECONDS = 10.0  # that a fresh Python may take: `check` gives up earlier where it can, and ends that Python too


class MendSoftmax(Exercise):
    """A broken function to mend: learn how a diagnosis reads."""

    prompt = (
        "`softmax(scores)` should turn a list of scores into shares: none negative, together 1, and a score that is larger "
        "by 1 gets e times the share. The code below is wrong. Run it, read the diagnosis, mend it, run it again."
    )
    difficulty, minutes = 1, 3
    hints = (
        "Shares of what? The function divides the scores themselves. Which step is missing before that?",
        "`math.exp(score)` is never negative, and grows by the factor e when the score grows by 1.",
    )
    praise = "correct. You have read a diagnosis and mended the code: that is how all exercises of this book work."

    @classmethod
    def probes(cls, seed):
        return [([0.0, 1.0, 2.0],), ([-1.0, 1.5],)]

    @solution
    def softmax(scores):
        exponentials = [math.exp(score) for score in scores]
        total = sum(exponentials)
        return [exponential / total for exponential in exponentials]

    @mistake(
        "You divide the scores by their sum. A score of 0 then gets nothing, and a negative one a negative share. "
        "Take `math.exp` of each score first."
    )
    def no_exponential(scores):
        return [score / sum(scores) for score in scores]

    @mistake("Your exponentials are not divided by their sum, so the shares do not sum to 1.")
    def not_normalised(scores):
        return [math.exp(score) for score in scores]

    @mistake("You divide by the largest exponential: the best score gets 1, and all together more. Divide by the sum.")
    def divides_by_largest(scores):
        return [math.exp(score - max(scores)) for score in scores]

    @mistake("You use powers of 2: a score larger by 1 gets twice the share, not e times. Use `math.exp`.")
    def powers_of_two(scores):
        total = sum(2**score for score in scores)
        return [2**score / total for score in scores]


class PredictShares(Exercise):
    """Predict, then run."""

    prompt = (
        "Predict before you run the next cell. Two scores, 0 and ln 3. What share does softmax give to the second one? "
        "Give a number between 0 and 1."
    )
    difficulty, minutes = 1, 2
    tolerance = 0.01
    hints = ("exp(0) is 1, and exp(ln 3) is 3.",)
    praise = "correct: 3 of 4 parts. Now run the next cell and compare."

    @solution
    def share():
        return 0.75

    @mistake("3 is the exponential of the second score. Its share is 3 of the sum, 1 + 3.")
    def the_exponential():
        return 3.0

    @mistake("You counted the first score as nothing. exp(0) is 1: a score of 0 has a share too.")
    def ignores_zero():
        return 1.0

    @mistake("1/3 is how the two shares compare, first to second. The second one's share of the sum is asked for.")
    def ratio():
        return 1 / 3

    @mistake("That is the share of the first score.")
    def the_other_one():
        return 0.25


class SameEveryTime(Exercise):
    """Code that numbers words the same way in every run."""

    prompt = (
        "Write `number_words(words)`: a dictionary that gives each different word a number, 0, 1, 2, ... in alphabetical "
        "order. It must be the same in every run of Python. The checker runs your function by itself in several fresh "
        "Pythons, each with its own order of sets: what it needs it must import or define inside, and numpy and torch "
        "are not there."
    )
    difficulty, minutes = 1, 5
    seconds = 12.0  # every check starts Python a dozen times
    hints = (
        "Python mixes the order of a set of strings anew in every run (PYTHONHASHSEED).",
        "`sorted(set(words))` is a list, and its order depends on the words alone.",
    )
    praise = "correct, in every Python tried. A model trained with these numbers today can be used tomorrow."

    @classmethod
    def probes(cls, seed):
        nouns = ["cat", "lamp", "boat", "tree", "key", "dog", "bird", "child"]
        random.Random(seed).shuffle(nouns)
        return [([*nouns, "the", nouns[0]],)]

    @classmethod
    def observe(cls, answer, probe):
        given = list(probe[0])
        found = [_in_a_fresh_python(answer, given, hash_seed) for hash_seed in ("0", "1", "2")]
        probe[0][:] = next((words for _, words in found if words != given), given)  # what it did to its argument there
        return [numbers for numbers, _ in found]

    @classmethod
    def verify(cls, answer, seed=0):
        [probe] = cls.probes(seed)
        for numbers in cls.observe(answer, probe):
            if isinstance(numbers, str):
                asked = " Is a `return` missing?" if numbers == "None" else " A dictionary is expected."
                raise Wrong(f"your code returned {numbers}.{asked}")
        super().verify(answer, seed)

    @solution
    def number_words(words):
        return {word: number for number, word in enumerate(sorted(set(words)))}

    @mistake(
        "You number the words as they come out of a set. Python mixes that order anew in every run, so a model saved today "
        "reads nonsense tomorrow. Sort first."
    )
    def order_of_a_set(words):
        return {word: number for number, word in enumerate(set(words))}

    @mistake("`hash(word)` is another number in every run of Python: it is mixed with a secret that changes.")
    def hash_of_the_word(words):
        return {word: hash(word) % 1000 for word in words}

    @mistake("You number positions, not words: a word that occurs twice takes two numbers, and one is lost.")
    def numbers_positions(words):
        return {word: number for number, word in enumerate(sorted(words))}

    @mistake("You number the words in the order of their first appearance. Alphabetical order is asked for.")
    def order_of_appearance(words):
        return {word: number for number, word in enumerate(dict.fromkeys(words))}

    @mistake("Your numbers begin at 1. Count from 0, as rows of a matrix do.")
    def begins_at_one(words):
        return {word: number for number, word in enumerate(sorted(set(words)), start=1)}


PROGRAM = """
from json import dumps as _written  # by another name: the function may replace what it imports

{definition}

_words = {words!r}
_found = {name}(_words)
_kind = "None" if _found is None else "a value of type " + type(_found).__name__
print(_written([_found if isinstance(_found, dict) else _kind, _words]))
"""


def _in_a_fresh_python(function, words: list[str], hash_seed: str) -> tuple[dict | str, list[str]]:
    """What the function returns in a new Python process whose strings hash with this seed, and its argument afterwards.

    Of what is no dictionary: what it is, in words.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise ValueError("its source cannot be found; define it with `def` in the cell itself") from None
    if not (definition := source[source.find("def ") :]).startswith("def "):
        raise ValueError("define a function with `def`; a lambda cannot be run in a fresh Python")
    program = PROGRAM.format(definition=definition, words=words, name=function.__name__)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-S", "-c", program]  # -S: no site packages, which halves the time to start
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"a fresh Python had not finished with it after {SECONDS:g} seconds") from None
    if finished.returncode:
        last_line = finished.stderr.strip().splitlines()[-1]
        raise NotImplementedError if last_line == "NotImplementedError" else RuntimeError(last_line)
    if not finished.stdout:
        raise RuntimeError("the fresh Python ended and printed nothing")
    return tuple(json.loads(finished.stdout.splitlines()[-1]))  # what the function printed itself stands above
