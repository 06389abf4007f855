"""Checkers that hold: whatever an answer does, its author reads what happened, and the notebook goes on as before.

Beside test_exercises.py, which has the plainer ways to fail. And right answers pass however they are written: by loops,
by einsum, by the library.
"""

import importlib
import math
import os
import pkgutil
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from llmcourse.exercises import Exercise, _judge, all_exercises, limits, mistake, solution
from llmcourse.exercises.capstone_assistant import SubmitAssistant
from llmcourse.exercises.hugging_face import PadOnTheLeft
from llmcourse.exercises.limits import TimeUp, run_limited
from llmcourse.exercises.self_attention import PredictScale, PreviousTokenKeys
from llmcourse.exercises.start_here import SameEveryTime
from tests import right_answers
from tests.failing_answers import KINDS, converted, overwrite, result_of

EXERCISES = all_exercises()
HARMLESS = {  # failures in kind only: the task leaves open what they change
    (PreviousTokenKeys, "another dtype"),
    (PadOnTheLeft, "another dtype"),
}
UNTOUCHED = {(SubmitAssistant, "no return")}  # its stub gives None, which says that nothing was written yet


@pytest.fixture(autouse=True)
def own_progress_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))


class Doubled(Exercise):
    """An exercise of the tests' own."""

    prompt, difficulty, minutes, hints = "Write `double(x)`.", 1, 1, ("Add x to itself.",)

    @classmethod
    def probes(cls, seed):
        return [(torch.arange(3.0),), (torch.tensor([[-1.0, 2.0]]),)]

    @solution
    def double(x):
        return x + x

    @mistake("You squared x.")
    def squared(x):
        return x * x


class Gradient(Doubled):
    """What is observed of this one is the gradient of the answer."""

    @classmethod
    def observe(cls, answer, probe):
        x = probe[0].clone().requires_grad_()
        answer(x).sum().backward()
        return x.grad

    @solution
    def double(x):
        return x + x


def deep(x):
    return deep(x) + 1


def deeper_than_the_stack(x):
    sys.setrecursionlimit(10**9)
    return deep(x)


def interrupts(x):
    raise KeyboardInterrupt


def quits(x):
    sys.exit("enough")


def floods(x):
    for number in range(20_000):
        print("line", number)
    return x


def prints_for_ever(x):
    while True:
        print("again")


def loops_on(x):
    while True:
        x = x + 1


def swallows_all(x):
    while True:
        try:  # noqa: SIM105
            loops_on(x)
        except BaseException:
            pass


def sleeps(x):
    time.sleep(60)


def patches_torch(x):
    torch.allclose = torch.equal = lambda *arguments, **options: True
    torch.Tensor.__eq__ = lambda a, b: True
    return x


def patches_the_judge(x):
    import llmcourse.exercises as engine

    engine.same = lambda *arguments: True
    engine.Feedback.status = "correct"
    return x


def breaks_random_state(x):
    torch.manual_seed(time.time_ns() % 1000)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    return x


def generates(x):
    yield from x + x


def asks(x):
    return x * float(input("by how much? "))


def writes_below(x):
    os.write(1, b"straight to the terminal\n")
    return x


def kills_itself(x):
    os.kill(os.getpid(), 9)


class Class:
    def __init__(self, x):
        self.x = x + x


FAILING = {
    "an array": (lambda x: (x + x).numpy(), "returned a numpy.ndarray; a tensor is expected"),
    "deep recursion": (deep, "RecursionError"),
    "KeyboardInterrupt": (interrupts, "raised KeyboardInterrupt"),
    "sys.exit": (quits, "raised SystemExit: enough"),
    "flood of print": (floods, "right in 1 of 3 places"),
    "endless print": (prints_for_ever, "had not finished"),
    "endless loop": (loops_on, "had not finished after 1 second"),
    "loop that swallows all": (swallows_all, "had not finished after 1 second"),
    "sleep": (sleeps, "had not finished"),
    "patched torch": (patches_torch, "right in 1 of 3 places"),
    "patched judge": (patches_the_judge, None),
    "random state": (breaks_random_state, "right in 1 of 3 places"),
    "generator": (generates, "returned a generator; a tensor is expected"),
    "list": (lambda x: (x + x).tolist(), "returned a list; a tensor is expected"),
    "class": (Class, "returned a Class; a tensor is expected"),
    "other parameters": (lambda x, y: x + y, "missing 1 required positional argument: 'y'"),
    "no parameters": (lambda *, x: x + x, "raised TypeError"),
    "half precision": (lambda x: (x + x).half(), "dtype torch.float16; torch.float32 is expected"),
    "whole numbers": (lambda x: (x + x).int(), "dtype torch.int32"),
    "input()": (asks, "raised EOFError"),
    "below Python": (writes_below, "right in 1 of 3 places"),
    "kill": (kills_itself, "ended the Python process"),
    "infinity": (lambda x: x + x + math.inf, "inf"),
    "string": ("double", "you passed a value of type str"),
    "a tensor": (torch.zeros(3), "you passed a value of type Tensor"),
    "huge words": (lambda x: "z" * 100_000, "returned a str; a tensor is expected"),
}  # fmt: skip


def state() -> tuple:
    """What a cell may rely on after `check`: torch's functions and modes, its random numbers, the printing."""
    names = torch.allclose, torch.equal, torch.softmax, torch.Tensor.__eq__, torch.Tensor.softmax, math.isclose
    modes = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), sys.getrecursionlimit()
    drawn = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    return (*names, *modes, *drawn, sys.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("case", FAILING)
def test_a_failing_answer_gets_a_clear_message_and_leaves_all_as_it_was(case, monkeypatch):
    answer, words = FAILING[case]
    monkeypatch.setattr(Doubled, "seconds", 1.0 if "not finished" in str(words) else 10.0)
    before = state()
    feedback = Doubled.check(answer)
    assert state() == before
    assert words is None or (feedback.status == "wrong" and words in feedback.message), feedback
    assert len(feedback.message) < 600 and len(feedback.printed) <= 300
    assert Doubled.check(lambda x: 2 * x).status == "correct", "the next answer is judged as ever"


@pytest.mark.parametrize("answer", [lambda x: (x + x).detach(), lambda x: (x + x).data], ids=["detach", "data"])
def test_a_detached_gradient_is_seen(answer):
    feedback = Gradient.check(answer)
    assert feedback.status == "wrong" and "does not require grad" in feedback.message
    assert Gradient.check(lambda x: torch.add(x, x)).status == "correct"


@pytest.mark.parametrize(
    "answer", [loops_on, swallows_all, prints_for_ever, sleeps], ids=lambda answer: answer.__name__
)
def test_the_time_limit_is_overshot_by_less_than_a_fifth_of_a_second(answer):
    def overshoot() -> float:
        began = time.monotonic()
        with pytest.raises(TimeUp):
            run_limited(lambda: answer(torch.zeros(3)), 0.3)
        return time.monotonic() - began - 0.3

    assert min(overshoot() for _ in range(3)) < 0.2


class Shares(Doubled):
    """An exercise whose solution computes with a name that an answer may replace."""

    @solution
    def shares(x):
        return x.softmax(-1)

    @mistake("You divide the scores themselves.")
    def divided(x):
        return x / x.sum(-1, keepdim=True)


def replaces_what_the_solution_uses(x):
    torch.Tensor.softmax = torch.softmax = lambda x, *_, **__: x
    return x


def switches_to_double(x):
    torch.set_default_dtype(torch.float64)
    return x.tolist() and torch.tensor(x.tolist()).softmax(-1)


@pytest.mark.parametrize("where", ["linux", "win32"])
@pytest.mark.parametrize("answer", [replaces_what_the_solution_uses, switches_to_double], ids=lambda one: one.__name__)
def test_a_name_that_an_answer_replaces_is_put_back_before_the_solution_needs_it(answer, where, monkeypatch):
    monkeypatch.setattr(limits.sys, "platform", where)  # in a process of its own, or in the notebook's
    before = state()[:8]
    assert Shares.check(answer).status == "wrong"
    assert state()[:8] == before and "softmax" not in vars(torch.Tensor)
    assert Shares.check(lambda x: torch.softmax(x, -1)).status == "correct"


def test_what_an_answer_started_ends_with_it(tmp_path, monkeypatch):
    def starts_another(x):
        started = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
        (tmp_path / "started").write_text(str(started.pid))
        started.wait()

    monkeypatch.setattr(Doubled, "seconds", 1.0)
    assert "had not finished" in Doubled.check(starts_another).message
    number = (tmp_path / "started").read_text()
    for _ in range(100):  # the system needs a moment to clear it away
        try:
            status = Path(f"/proc/{number}/stat").read_text().split()[2]
        except FileNotFoundError:
            return
        if status == "Z":
            return
        time.sleep(0.01)
    pytest.fail(f"process {number} goes on")


@pytest.mark.parametrize("answer", [torch.tensor(7.3), lambda: torch.tensor([7.3]), np.float32(7.3), lambda: 7, 8])
def test_a_wrong_prediction_is_not_told_the_right_one_however_it_is_written(answer):
    feedback = PredictScale.check(answer)
    assert (feedback.status, feedback.message) == ("wrong", "that is not it. PredictScale.hint() helps.")


def found_right_answers() -> dict:
    """The right answers of all chapters, by exercise."""
    found = {}
    for module in pkgutil.iter_modules(right_answers.__path__, right_answers.__name__ + "."):
        found |= importlib.import_module(module.name).RIGHT
    return found


RIGHT = found_right_answers()
# Those whose solution can be wrapped in an answer: SameEveryTime reads an answer's own source.
WRAPPED = [exercise for exercise in EXERCISES if exercise is not SameEveryTime]


def test_every_exercise_has_three_right_answers_beside_its_solution():
    few = {
        exercise.__name__: len(RIGHT.get(exercise, ())) for exercise in EXERCISES if len(RIGHT.get(exercise, ())) < 3
    }
    assert few == {}
    assert [e.__name__ for e, answers in RIGHT.items() if e.solution in answers or len(set(map(id, answers))) < 3] == []
    assert len(FAILING) >= 15 and len(KINDS) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("exercise", RIGHT, ids=lambda exercise: exercise.__name__)
def test_right_answers_that_are_written_differently_pass(exercise):
    def judge_all():  # in one child process: to start one costs more than most answers
        for answer in RIGHT[exercise]:
            began = time.process_time()
            yield getattr(answer, "__name__", repr(answer)), _judge(exercise, answer), time.process_time() - began

    torch.optim.AdamW([torch.zeros(1)])  # the first optimiser of a process imports for seconds: not in each child
    found = run_limited(lambda: list(judge_all()), 120.0)  # what counts below is time on the processor
    assert {name: feedback for name, feedback, _ in found if feedback.status != "correct"} == {}
    assert {name: seconds for name, _, seconds in found if seconds > exercise.seconds} == {}


def leaves(value) -> list:
    found = []
    converted(value, found.append)
    return found


def applicable(exercise) -> set[str]:
    """The kinds whose answer differs from the solution here: no result without tensors has another dtype."""

    def find() -> set[str]:
        calls = result_of(exercise)
        parts = [part for _, result in calls for part in leaves(result)]
        kinds = {name for name, kind in KINDS.items() if not kind.change or any(kind.change(p) is not p for p in parts)}
        if not any(isinstance(part, torch.Tensor) and part.requires_grad for part in parts):
            kinds -= {"a detached gradient"}
        return kinds if any(overwrite(part) for part, _ in calls) else kinds - {"changed input"}

    return run_limited(find, 60.0)


def complaint(exercise, name: str, applies: bool, monkeypatch) -> str | None:
    """What is amiss in how the exercise judges an answer of this kind, if anything."""
    kind, before = KINDS[name], state()
    with monkeypatch.context() as patched:
        if kind.seconds is not None:
            patched.setattr(exercise, "seconds", kind.seconds)
        if name == "memory that is filled up":
            # Of less, a refused request leaves so little that Python's own small ones may be refused next.
            patched.setattr(limits, "MEMORY", 2**28)
        began = sum(os.times()[:4])  # this process and its children, on the processor
        feedback = exercise.check(kind.make(exercise))
        took = sum(os.times()[:4]) - began
    # Where an exercise looks at what a result does, it says that, and not how the result looks.
    words = kind.words if not kind.change or exercise.observe.__func__ is Exercise.observe.__func__ else ()
    wanted = "correct" if name == "a flood of lines" or not applies else "wrong"
    if state() != before:
        return "the notebook's state is another one"
    wanted = "correct" if (exercise, name) in HARMLESS else "open" if (exercise, name) in UNTOUCHED else wanted
    if feedback.status != wanted:
        return f"{wanted} is expected: {feedback!r}"
    told = feedback.status != "wrong" or feedback.mistake or not words or any(w in feedback.message for w in words)
    if not told:
        return f"the message names none of {words}: {feedback.message}"
    if not 0 < len(feedback.message) < 700 or len(feedback.printed) > 300:
        return f"the feedback is too long: {feedback!r}"
    return f"{took:.2f} s of computing" if kind.seconds and took > kind.seconds + 0.2 else None


def loops_in_a_fresh_python(words):
    while True:
        pass


def swallows_in_a_fresh_python(words):
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722 - the point of this answer
            pass


def prints_in_a_fresh_python(words):
    for word in words:
        print(word)
    return {word: number for number, word in enumerate(sorted(set(words)))}


def recurses_in_a_fresh_python(words):
    return recurses_in_a_fresh_python(words)


def ends_a_fresh_python(words):
    import os

    os._exit(0)


def patches_a_fresh_python(words):
    import json

    json.dumps = lambda numbers: "{}"
    return {word: number for number, word in enumerate(words)}


def returns_nothing_in_a_fresh_python(words):
    words.sort()


IN_A_FRESH_PYTHON = {
    loops_in_a_fresh_python: "had not finished after",
    swallows_in_a_fresh_python: "had not finished after",
    recurses_in_a_fresh_python: "RecursionError",
    ends_a_fresh_python: "printed nothing",
    patches_a_fresh_python: "expected",
    returns_nothing_in_a_fresh_python: "None",
    (lambda words: {}): "a lambda cannot be run in a fresh Python",
    len: "its source cannot be found",
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", IN_A_FRESH_PYTHON, ids=lambda answer: answer.__name__)
def test_failures_are_told_where_the_answer_runs_in_a_fresh_python(answer, monkeypatch):
    if IN_A_FRESH_PYTHON[answer].startswith("had not"):
        monkeypatch.setattr(SameEveryTime, "seconds", 0.5)
    feedback = SameEveryTime.check(answer)
    assert feedback.status == "wrong" and IN_A_FRESH_PYTHON[answer] in feedback.message, feedback


@pytest.mark.slow
def test_what_a_right_answer_prints_in_a_fresh_python_does_no_harm():
    assert SameEveryTime.check(prints_in_a_fresh_python).status == "correct"


def complaints(exercise, names, monkeypatch) -> dict[str, str]:
    torch.optim.AdamW([torch.zeros(1)])  # as above
    applies = applicable(exercise)
    found = {name: complaint(exercise, name, name in applies, monkeypatch) for name in names}
    return {name: text for name, text in found.items() if text}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(WRAPPED)), ids=lambda number: WRAPPED[number].__name__)
def test_two_kinds_of_failure_are_told_at_each_exercise(number, monkeypatch):
    names = list(KINDS)
    chosen = {names[number % len(names)], names[(number + len(names) // 2) % len(names)]}
    assert complaints(WRAPPED[number], chosen, monkeypatch) == {}


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("exercise", WRAPPED, ids=lambda exercise: exercise.__name__)
def test_every_kind_of_failure_is_told_at_each_exercise(exercise, monkeypatch):
    assert complaints(exercise, KINDS, monkeypatch) == {}
