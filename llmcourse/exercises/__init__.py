"""Exercises that know what you got wrong.

An exercise is a class: a prompt, hints, a solution that runs, and the classic mistakes, each a wrong answer with the
sentence that explains it. `check(answer)` compares what the answer does with what the solution does on probes chosen
to tell them apart; when it does what a known mistake does, the learner reads that mistake's own sentence.

    class Doubled(Exercise):
        prompt, difficulty, minutes, hints = "Write `double(x)`.", 1, 2, ("Add x to itself.",)

        @classmethod
        def probes(cls, seed):
            return [(0.0,), (1.5 + seed,)]

        @solution
        def double(x):
            return x + x

        @mistake("You squared x; squared and doubled agree only at 0 and 2.")
        def squared(x):
            return x * x
"""

import contextlib
import copy
import dis
import importlib
import inspect
import io
import math
import pkgutil
import textwrap
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar

import torch

from llmcourse.display import Html, Source, escape, inline
from llmcourse.exercises import progress
from llmcourse.exercises.comparing import describe, difference, holds_nan, same, with_nan_of
from llmcourse.exercises.limits import Names, TimeUp, run_limited

MARKS = {"correct": "\u2713", "wrong": "\u2717", "open": "\u25cb"}


class Wrong(Exception):
    """The answer is wrong; the message says how, to the learner."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people really give, and the sentence that helps them."""

    answer: Callable
    sentence: str


@dataclass(frozen=True)
class Raised:
    """What is observed of an answer that raises: the kind counts, the words are for the learner."""

    kind: str
    message: str


CHANGED_INPUT = Raised(
    "changed input",
    "your code changes the arguments that it is given; work on a copy (`x.clone()` of a tensor, `x.copy()` of a list or dictionary)",
)

NAN_BESIDES = " And apart from that, your result holds NaN: a 0/0, inf - inf or 0 * inf happened on the way, or a root or logarithm below 0."


@dataclass(frozen=True)
class Feedback:
    """What `check` says: 'correct', 'wrong' or 'open' (not attempted), with a message and, if known, the mistake."""

    exercise: str
    status: str
    message: str
    mistake: str | None = None
    printed: str = ""

    def __repr__(self) -> str:
        printed = f"\n  your code printed: {self.printed}" if self.printed else ""
        return f"{MARKS[self.status]} {self.exercise}: {self.message}{printed}"

    def _repr_html_(self) -> str:
        printed = f"<pre>{escape(self.printed)}</pre>" if self.printed else ""
        return (
            f'<div class="llmcourse-feedback {self.status}"><strong>{MARKS[self.status]} {escape(self.exercise)}</strong> '
            f"{inline(self.message)}{printed}</div>"
        )


def solution(function: Callable) -> Callable:
    """Mark the right answer; its name is the name that the learner's function has."""
    function.is_solution = True
    return function


def mistake(sentence: str) -> Callable[[Callable], Mistake]:
    """Mark a wrong answer with the sentence that the learner reads when theirs does the same."""
    return lambda function: Mistake(function, sentence)


class Exercise:
    """The base of all exercises; see the module's docstring for one."""

    prompt: ClassVar[str]
    difficulty: ClassVar[int]  # 1 a few lines, 2 some thought, 3 a puzzle
    minutes: ClassVar[int]
    hints: ClassVar[tuple[str, ...]]
    seconds: ClassVar[float] = 4.0  # how long the answer may compute
    tolerance: ClassVar[float] = 1e-5  # relative, and absolute for numbers near 0
    praise: ClassVar[str] = "correct."
    probe_names: ClassVar[tuple[str, ...] | None] = (
        None  # what a probe's parts are called; None: the answer's arguments
    )
    one_set: ClassVar[str] = ""  # why the probes are one set, of which none need be necessary by itself
    solution: ClassVar[Callable]
    mistakes: ClassVar[dict[str, Mistake]]

    def __init_subclass__(cls) -> None:
        members = vars(cls).items()
        cls.mistakes = {name: member for name, member in members if isinstance(member, Mistake)}
        solutions = [member for _, member in members if getattr(member, "is_solution", False)]
        if len(solutions) != 1:
            raise TypeError(f"{cls.__name__} has {len(solutions)} functions marked @solution; an exercise has one")
        cls.solution = staticmethod(solutions[0])

    @classmethod
    def probes(cls, seed: int) -> list[tuple]:
        """Arguments to call an answer with, chosen so that every mistake shows on at least one."""
        return [()]

    @classmethod
    def observe(cls, answer: Callable, probe: tuple) -> Any:
        """What of the answer is compared: by default what it returns. Override to compare what a result *does*."""
        return answer(*probe)

    @classmethod
    def verify(cls, answer: Callable, seed: int = 0) -> None:
        """Raise Wrong, with a message for the learner, unless the answer does on all probes what the solution does."""
        for probe in cls.probes(seed):
            expected, observed = _observe(cls, cls.solution, probe), _observe(cls, answer, probe)
            if same(observed, expected, cls.tolerance):
                continue
            # A prediction: to say what was expected would give it away.
            if not probe and isinstance(observed, Real | type(expected)) and observed == observed:  # NaN is not
                raise Wrong(f"that is not it. {cls.__name__}.hint() helps.")
            names = list(inspect.signature(cls.solution).parameters) if cls.probe_names is None else cls.probe_names
            called = f"called with {describe(probe, names)}, " if probe and names else ""
            if observed is CHANGED_INPUT:
                raise Wrong(called + observed.message)
            if isinstance(observed, Raised) and not isinstance(expected, Raised):
                raise Wrong(f"{called}your code raised {observed.kind}: {observed.message}")
            raise Wrong(called + difference(observed, expected, cls.tolerance))

    @classmethod
    def check(cls, answer: Any = None) -> Feedback:
        """Judge an answer. Never raises, never hangs, and never changes anything but your recorded progress."""
        try:
            feedback = run_limited(lambda: _judge(cls, answer), cls.seconds)
        except TimeUp:
            message = f"your code had not finished after {cls.seconds:g} seconds. Is there a loop that never ends?"
            feedback = Feedback(cls.__name__, "wrong", message)
        except RuntimeError as error:
            feedback = Feedback(cls.__name__, "wrong", f"your code ended the Python process it ran in ({error}).")
        if feedback.status != "open":
            progress.record(cls.__name__, solved=feedback.status == "correct")
        return feedback

    @classmethod
    def hint(cls, number: int = 1) -> Html:
        """The hint of this number; each says more than the one before."""
        number = min(max(1, number), len(cls.hints))
        more = f" More: {cls.__name__}.hint({number + 1})" if number < len(cls.hints) else ""
        text = f"Hint {number} of {len(cls.hints)}: {cls.hints[number - 1]}{more}"
        return Html(f'<div class="llmcourse-hint">{inline(text)}</div>', text)

    @classmethod
    def show_solution(cls) -> Source:
        """The solution's source, ready to be pasted into the exercise's cell."""
        source = textwrap.dedent(inspect.getsource(cls.solution))
        return Source(source.removeprefix("@solution\n"), "")


def all_exercises() -> list[type[Exercise]]:
    """Every exercise of the course, in the order of the chapters: a module says its `CHAPTER`, 18, or "18b" of a part."""
    modules = [importlib.import_module(found.name) for found in pkgutil.iter_modules(__path__, __name__ + ".")]
    chapters = {module.__name__: module.CHAPTER for module in modules if hasattr(module, "CHAPTER")}
    found = [cls for cls in _subclasses(Exercise) if cls.__module__ in chapters]
    return sorted(found, key=lambda cls: _place(chapters[cls.__module__]))


def _place(chapter: int | str) -> tuple[int, str]:
    """Where a chapter stands: 18 before 18b, and that before 19."""
    return int(str(chapter).rstrip("abc")), str(chapter)


def _subclasses(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


def _is_blank(answer: Any) -> bool:
    """Nothing was written yet: no answer, `...`, or a function whose body is only `...`, `pass` or a docstring."""
    if answer is None or answer is ... or answer is NotImplemented or (isinstance(answer, str) and not answer):
        return True
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("RESUME", "NOP")]
    return all("RETURN" in step.opname or "CONST" in step.opname for step in steps) and all(
        step.argval in (None, ...) for step in steps if "CONST" in step.opname
    )


def _judge(cls: type[Exercise], answer: Any) -> Feedback:
    """The feedback on an answer; what the answer prints is caught and shown with it."""
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
        feedback = _compare(cls, answer)
    return replace(feedback, printed=textwrap.shorten(printed.getvalue(), 300, placeholder=" ..."))


def _compare(cls: type[Exercise], answer: Any) -> Feedback:
    say = lambda status, message, name=None: Feedback(cls.__name__, status, message, name)  # noqa: E731
    if _is_blank(answer):
        return say("open", f"not attempted yet. Stuck? {cls.__name__}.hint()")
    if not callable(answer) and cls.probes(seed=0)[0]:
        kind = f"you passed a value of type {type(answer).__name__}"
        return say("wrong", f"{kind}; pass the function itself, without calling it: check({cls.solution.__name__})")
    function = Names().kept_by(answer) if callable(answer) else lambda: answer
    observed = [_observe(cls, function, probe) for probe in cls.probes(seed=0)]
    if all(outcome is ... or _is_stub(outcome) for outcome in observed):
        return say("open", f"not attempted yet. Stuck? {cls.__name__}.hint()")
    try:
        cls.verify(function)
    except Wrong as wrong:
        name, besides = _diagnose(cls, observed)
        return say("wrong", cls.mistakes[name].sentence + besides if name else str(wrong), name)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # a property check that the answer broke by raising
        return say("wrong", f"your code raised {type(error).__name__}: {error}{_line(error)}")
    if any(
        outcome is CHANGED_INPUT for outcome in observed
    ):  # the results are right, and some caller is in for a surprise
        return say("wrong", CHANGED_INPUT.message)
    return say("correct", cls.praise)


def _plain(answer: Any) -> Any:
    """A prediction as a plain number, also where it was computed with tensors or with numpy."""
    return answer.item() if hasattr(answer, "item") and math.prod(getattr(answer, "shape", (0,))) == 1 else answer


def _is_stub(outcome: Any) -> bool:
    # The kind is asked first: what an answer returns may have an == of its own, an array's gives no yes or no.
    return isinstance(outcome, Raised) and outcome == Raised("NotImplementedError", "")


def _diagnose(cls: type[Exercise], observed: list) -> tuple[str | None, str]:
    """The known mistake that does on every probe what the answer did, if there is one, and what is wrong besides.

    NaN in an answer is often a second mistake. So when nothing fits, the one mistake that fits all other places counts.
    """
    probes, tried = cls.probes(seed=0), {}
    if all(isinstance(outcome, Raised) for outcome in observed):
        return None, ""  # raising everywhere looks like any other answer that raises everywhere

    def fits(outcomes: list) -> bool:
        return all(same(mine, theirs, cls.tolerance) for mine, theirs in zip(observed, outcomes, strict=True))

    for name, wrong in cls.mistakes.items():
        tried[name] = [_observe(cls, wrong.answer, probe) for probe in probes]
        if fits(tried[name]):
            return name, ""
    if any(map(holds_nan, observed)):
        right = [_observe(cls, cls.solution, probe) for probe in probes]
        pardoned = {name: list(map(with_nan_of, outcomes, observed)) for name, outcomes in tried.items()}
        named = [name for name, outcomes in pardoned.items() if fits(outcomes)]
        if len(named) == 1 and not fits(list(map(with_nan_of, right, observed))):
            return named[0], NAN_BESIDES
    return None, ""


def _observe(cls: type[Exercise], answer: Callable, probe: tuple) -> Any:
    """What the exercise observes of one call, on a copy of the arguments; an exception is an observation too."""
    given = copy.deepcopy(probe)
    try:
        observed = cls.observe(answer, given)
        if not same(given, probe, 0.0):
            return CHANGED_INPUT
        return observed if probe else _plain(observed)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if not same(given, probe, 0.0):  # which is likely why
            return CHANGED_INPUT
        return Raised(type(error).__name__, f"{error}{_line(error)}" if str(error) else "")


def _line(error: BaseException) -> str:
    """Where in the learner's code an exception arose."""
    outer = traceback.extract_tb(error.__traceback__, limit=50)  # of a recursion that never ends, the beginning
    frames = [frame for frame in outer if "llmcourse" not in frame.filename]
    return f" (line {frames[0].lineno}: {frames[0].line})" if frames and frames[0].line else ""
