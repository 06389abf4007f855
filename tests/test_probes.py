"""Every probe of every exercise is needed: without it some wrong answer would get through, or be told the wrong thing.

What counts as a wrong answer here, and nothing else does:

- a listed mistake. It gets through when it does what the solution does on the probes that are left, and it is told the
  wrong thing when it does there what a mistake that is listed before it does, or does nothing but raise;
- the mistakes that are made in every exercise and listed in none: the result is *typed in*, as the feedback said it; a
  *parameter is not used*, but a value that it had in one call (a global variable of the notebook, say); the code works
  for *one sort* of call alone, with the sizes, the number of axes or the types of one probe; or an *empty* argument is
  forgotten;
- a slip of the pen: the solution with one operator, comparison or number changed, one sign, `not`, method or case left
  out.

An exercise may say in `one_set` why its probes count as one: of a share of many rows none is necessary. Every answer runs
once on every probe; what happens without a probe is then a question of sets. The checks of an exercise with a `verify` of
its own are not asked, only what it observes.
"""

import ast
import contextlib
import copy
import inspect
import io
import itertools
import signal
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

from llmcourse.exercises import Exercise, Raised, _observe, all_exercises, mistake, solution
from llmcourse.exercises.comparing import describe, same

SECONDS = 0.5  # of the processor, that a wrong answer may take for a probe: some never end
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
               ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}  # fmt: skip
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
             ast.Pow: ast.Mult, ast.Mod: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip


class Answer(NamedTuple):
    """A wrong answer, and what is observed of it on each probe."""

    name: str
    listed: bool
    observed: list


class TimeUp(BaseException):
    """A slip that does not end; no answer catches it."""


def slips(function: Callable) -> Iterator[tuple[str, Callable]]:
    """The function with one place of its code changed, for each place and change."""
    function = inspect.unwrap(function)  # the checks of shapes wrap it, in a module of their own
    source = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(source).body[0]
    tree.decorator_list = []
    for number, node in enumerate(ast.walk(tree)):
        for change, new in changes(node):
            mutant = copy.deepcopy(tree)
            old = next(itertools.islice(ast.walk(mutant), number, None))
            swapped = Replace(old, new).visit(mutant)
            names = dict(function.__globals__)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as that of a comparison with a literal by `is`
                exec(compile(ast.fix_missing_locations(ast.Module([swapped], [])), "<slip>", "exec"), names)
            yield f"line {node.lineno}: {change}", names[function.__name__]


class Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        """The new node for the old one, and any other as it is."""
        return copy.deepcopy(self.new) if node is self.old else self.generic_visit(node)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a slip may make of one piece of code, and its name."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in OPERATORS:
            yield "another operator", ast.BinOp(left, OPERATORS[type(op)](), right)
        case ast.Compare(left, [op], right) if type(op) in COMPARISONS:
            yield "another comparison", ast.Compare(left, [COMPARISONS[type(op)]()], right)
        case ast.BoolOp(op, values):
            yield "and for or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(_, operand):
            yield "a sign left out", operand
        case ast.Constant(bool(value)):
            yield "yes for no", ast.Constant(not value)
        case ast.Constant(int(value)):
            yield "one more", ast.Constant(value + 1)
        case ast.Constant(float(value)):
            yield "another number", ast.Constant(1.1 * value + 0.01)
        case ast.Call(ast.Attribute(value)):
            yield "a method left out", value
        case ast.IfExp(_, yes, no):
            yield "no condition", yes
            yield "never the condition", no
        case ast.If(_, body, orelse):
            yield "no condition", ast.If(ast.Constant(True), body, orelse)
            yield "never the condition", ast.If(ast.Constant(False), body, orelse)


def sizes(value: Any) -> Any:
    """The shape or the length of an argument."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return len(value) if isinstance(value, list | tuple | dict) else None


def axes(value: Any) -> int | None:
    """How many axes a tensor has."""
    return value.dim() if isinstance(value, torch.Tensor) else None


def is_empty(value: Any) -> bool:
    """Whether an argument holds nothing."""
    return value.numel() == 0 if isinstance(value, torch.Tensor) else hasattr(value, "__len__") and len(value) == 0


def only_where(exercise: type[Exercise], holds: Callable[[tuple], bool]) -> Callable:
    """The solution, which raises at other calls than these."""

    def limited(*arguments):
        if not holds(arguments):
            raise ValueError("not made for this call")
        return exercise.solution(*arguments)

    return limited


def with_constant(exercise: type[Exercise], place: int, value: Any) -> Callable:
    """The solution, which does not read one of its parameters."""

    def fixed(*arguments):
        return exercise.solution(*arguments[:place], copy.deepcopy(value), *arguments[place + 1 :])

    return fixed


def everywhere(exercise: type[Exercise], calls: list[tuple]) -> Iterator[tuple[str, Callable]]:
    """The mistakes that are made in every exercise, most of them once for each call."""
    names = list(inspect.signature(exercise.solution).parameters)
    yield "empty arguments forgotten", only_where(exercise, lambda given: not any(map(is_empty, given)))
    for number, call in enumerate(calls):
        for place, (name, value) in enumerate(zip(names, call, strict=False)):
            yield f"{name} as in call {number}", with_constant(exercise, place, value)
        for sort in (sizes, axes, type):
            wanted = list(map(sort, call))
            same_sort = lambda given, sort=sort, wanted=wanted: list(map(sort, given)) == wanted  # noqa: E731
            yield f"{sort.__name__} of call {number} alone", only_where(exercise, same_sort)


def observe(exercise: type[Exercise], answer: Callable, probes: list[tuple]) -> list:
    """What the exercise sees of an answer on each probe."""
    torch.manual_seed(0)
    found = []
    for probe in probes:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            try:
                with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    outcome = _observe(exercise, answer, probe)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except TimeUp:
            outcome = Raised("TimeUp", "")
        found.append(outcome)
    return found


def wrong_answers(exercise: type[Exercise], probes: list[tuple]) -> tuple[list, list[Answer]]:
    """What the solution does on the probes, and what every wrong answer does."""
    calls = []

    def recorded(*arguments):
        calls.append(arguments)
        return exercise.solution(*arguments)

    right = observe(exercise, recorded, probes)
    found = [Answer(name, True, observe(exercise, one.answer, probes)) for name, one in exercise.mistakes.items()]
    found += [Answer(f"result of call {i}", False, [result] * len(probes)) for i, result in enumerate(right)]
    for name, answer in itertools.chain(everywhere(exercise, calls[: len(probes)]), slips(exercise.solution)):
        found.append(Answer(name, False, observe(exercise, answer, probes)))
    return right, found


def gaps(exercise: type[Exercise]) -> tuple[int, list[tuple[str, frozenset]]]:
    """For each thing that must be seen, the probes on which it is seen. Any one of them is enough."""
    probes = exercise.probes(0)
    right, wrong = wrong_answers(exercise, probes)

    def apart(a: list, b: list) -> frozenset:
        return frozenset(i for i in range(len(probes)) if not same(a[i], b[i], exercise.tolerance))

    seen = [(f"{one.name} is wrong", apart(one.observed, right)) for one in wrong]
    listed = [one for one in wrong if one.listed]
    seen += [(f"{b.name} is not {a.name}", apart(a.observed, b.observed)) for a, b in itertools.combinations(listed, 2)]
    for one in listed:
        raises = frozenset(i for i, outcome in enumerate(one.observed) if not isinstance(outcome, Raised))
        seen.append((f"{one.name} does not only raise", raises))
    return len(probes), [(what, where) for what, where in seen if where]


def superfluous(exercise: type[Exercise]) -> list[int]:
    """The numbers of the probes that may all go together: what is seen with them is seen without them."""
    if len(exercise.probes(0)) == 1:
        return []  # without any probe all gets through
    n_probes, seen = gaps(exercise)
    kept = set(range(n_probes))
    for number in reversed(range(n_probes)):
        if len(kept) > 1 and all(where & (kept - {number}) for _, where in seen):
            kept.remove(number)
    return sorted(set(range(n_probes)) - kept)


def _time_is_up(*_: Any) -> None:
    raise TimeUp


@pytest.fixture
def alarm():
    """Ends what does not end. One thread, as `check` has: several that wait for each other take the processor's time."""
    before, n_threads = signal.signal(signal.SIGVTALRM, _time_is_up), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    signal.signal(signal.SIGVTALRM, before)
    torch.set_num_threads(n_threads)


pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer of the processor's time"),
    pytest.mark.usefixtures("alarm", "without_shape_checks"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "exercise", [one for one in all_exercises() if not one.one_set], ids=lambda exercise: exercise.__name__
)
def test_every_probe_is_necessary(exercise):
    probes, names = exercise.probes(0), list(inspect.signature(exercise.solution).parameters)
    assert [f"{number}: {describe(probes[number], names)}" for number in superfluous(exercise)] == []


def test_few_exercises_count_their_probes_as_one():
    assert {one.__name__ for one in all_exercises() if one.one_set} == {
        "Shortcut",
        "PredictTheModel",
        "FilterInjections",
    }


class Clipped(Exercise):
    """An exercise of the tests' own."""

    prompt, difficulty, minutes, hints = "Write `clip(x, most)`.", 1, 2, ("Use `min`.",)

    @classmethod
    def probes(cls, seed):
        return [(3.0, 2.0), (1.0, 2.0), (0.5, 4.0), (5.0, 3.0)]

    @solution
    def clip(x, most):
        while x > most:
            x = most
        return x

    @mistake("You always cut.")
    def always(x, most):
        return most

    @mistake("You never cut.")
    def never(x, most):
        return x


def without(*numbers: int) -> type[Exercise]:
    """The exercise without some of its probes."""

    class Fewer(Clipped):
        clip, always, never = Clipped.solution, Clipped.mistakes["always"], Clipped.mistakes["never"]

        @classmethod
        def probes(cls, seed):
            return [probe for number, probe in enumerate(Clipped.probes(seed)) if number not in numbers]

    return Fewer


@pytest.fixture
def quick(monkeypatch):
    """The exercise of these tests' own needs no time, and some of its slips never end."""
    monkeypatch.setattr(f"{__name__}.SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_a_probe_that_shows_nothing_new_is_named():
    assert superfluous(Clipped) == [2]
    assert superfluous(without(2)) == []


@pytest.mark.usefixtures("quick")
def test_what_is_seen_is_seen_where_the_answers_differ():
    n_probes, seen = gaps(Clipped)
    assert n_probes == 4
    where = dict(seen)
    assert where["always is wrong"] == {1, 2} and where["never is wrong"] == {0, 3}
    assert where["never is not always"] == {0, 1, 2, 3}
    assert where["result of call 0 is wrong"] == {1, 2, 3}
    assert where["most as in call 0 is wrong"] == {3}, "a parameter that is not read"


@pytest.mark.usefixtures("quick")
def test_a_slip_is_one_change_and_one_that_never_ends_is_stopped():
    found = dict(slips(Clipped.solution))
    assert set(found) == {"line 3: another comparison"}
    assert found["line 3: another comparison"](1.0, 2.0) == 1.0
    stopped = observe(Clipped, found["line 3: another comparison"], [(2.0, 2.0)])
    assert stopped[0].kind == "TimeUp"


def test_all_that_a_slip_may_be():
    def every(x, flag):
        if flag and x.abs() > 1.5:
            return -x + 2
        return 0 if x in (1, 3) else x

    kinds = {name.partition(": ")[2] for name, _ in slips(every)}
    assert kinds == {
        "no condition", "never the condition", "and for or", "another comparison", "another operator", "a sign left out",
        "a method left out", "one more", "another number",
    }  # fmt: skip
