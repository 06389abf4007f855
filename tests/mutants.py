"""Automatic mutants of the package's core: faults put in by a program, each of which a module's own tests must notice.

`python -m tests.mutants 20 attention bleu` tries 20 mutants of each module (all modules without names) and prints
a line of JSON for each.

A mutant changes one place: an operator, a comparison by one, a number by one, a `not`, a condition, the first two
arguments of a call, a statement left out, a loop left after its first round. It is tried in a fork of a process that has
imported all but the package, with the module's fast tests, up to the first failure: first those that call the
changed function. The choice among all mutants is by a hash of each one's text, so that an edit changes the sample only where it is.

Left alone are texts, annotations, decorators, the words of errors, defaults, which are choices that the notebooks' outputs
pin, and `strict=`, which guards what holds by construction.
"""

import ast
import gc
import hashlib
import importlib
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
OWN = (
    "attention", "transformer", "masking", "data", "bert", "models", "training", "generation", "evaluation", "bleu",
    "retrieval", "weights", "speculative", "translation", "calibration", "lengths", "pretraining",
)  # fmt: skip
TESTS = {name: f"test_{name}.py" for name in OWN}
TESTS |= {f"tokenizers/{name}": "test_tokenizers.py" for name in ("base", "simple", "bpe", "wordpiece", "unigram")}
TESTS |= {
    "pretraining": "test_pretraining.py test_lengths.py",
    "optimisers": "test_training.py",
    "models": "test_models.py test_encoder_decoder.py",
}

SWAPPED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
UNTOUCHED = (ast.JoinedStr, ast.Raise)  # the words of errors and of descriptions
UNTOUCHED_FIELDS = {"annotation", "returns", "decorator_list", "bases"}
RESULTS = {pytest.ExitCode.OK: "survived", pytest.ExitCode.TESTS_FAILED: "killed", -signal.SIGXCPU: "out of time"}


class Mutant(NamedTuple):
    """One fault: what it reads like, the line at which the function around it begins, the whole source."""

    text: str
    function: int
    source: str


def changes(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    """What may be put in the place of a node's parts: (field, position in it, the new part)."""
    match node:
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in SWAPPED:
            yield "op", None, SWAPPED[type(op)]()
        case ast.Compare(ops=ops):
            yield from (("ops", i, SWAPPED[type(op)]()) for i, op in enumerate(ops))
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield "test", None, ast.UnaryOp(ast.Not(), test)
        case ast.comprehension(ifs=[test, *_]):
            yield "ifs", 0, ast.UnaryOp(ast.Not(), test)
        case ast.Call(func=function, args=[first, second, *rest]) if not isinstance(first, ast.Starred):
            if ast.dump(first) != ast.dump(second) and getattr(function, "id", "") not in {"min", "max"}:
                yield "args", None, [second, first, *rest]
    for field, value in ast.iter_fields(node):
        for i, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
            yield from ((field, i, new) for new in instead_of(part, node))


def instead_of(part: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """What may stand where a part of a node stands."""
    match part:
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)) if getattr(parent, "arg", "") != "strict":
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)) if not isinstance(value, bool):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call() | ast.Yield()) | ast.Delete():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.For(target=target, iter=iterable, body=body, orelse=orelse, lineno=line):
            yield ast.For(target, iterable, [*body, ast.Break()], orelse, lineno=line)


def skeleton(node: ast.AST) -> str:
    """A statement in one line; of one with a body the line that opens it, and whether it is left after one round."""
    lines = ast.unparse(ast.fix_missing_locations(node)).splitlines()
    first = next(line for line in lines if not line.startswith("@"))
    return f"{first} ... break" if isinstance(node, ast.For) and isinstance(node.body[-1], ast.Break) else first


def walk(
    node: ast.AST, where: tuple[str, ...] = (), begin: int = 0, statement: ast.AST | None = None
) -> Iterator[tuple[ast.AST, tuple[str, ...], int, ast.AST | None]]:
    """All nodes that may be changed: (node, names of what it lies in, where its function begins, its statement)."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        where = (*where, node.name)
    if isinstance(node, ast.FunctionDef):
        begin = min(part.lineno for part in (node, *node.decorator_list))
    yield node, where, begin, statement
    for field, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST) and not isinstance(part, UNTOUCHED) and field not in UNTOUCHED_FIELDS:
                yield from walk(part, where, begin, part if isinstance(part, ast.stmt) else statement)


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module's source, in an order that looks random and depends on nothing but their texts."""
    tree, found = ast.parse(source), []
    for node, where, begin, statement in list(walk(tree)):
        for field, i, new in changes(node):
            if field in UNTOUCHED_FIELDS or isinstance(node, ast.Module | ast.arguments | ast.AnnAssign):
                continue
            values = getattr(node, field)
            old = values if i is None else values[i]
            own = old if isinstance(old, ast.stmt) else statement
            before = skeleton(own)
            setattr(node, field, new) if i is None else values.__setitem__(i, new)
            after = skeleton(new if own is old else own)
            text = f"{'.'.join(where)}: {before} => {after}"
            found.append(Mutant(text, begin, ast.unparse(ast.fix_missing_locations(tree))))
            setattr(node, field, old) if i is None else values.__setitem__(i, old)
    found = {mutant for mutant in found if len(set(mutant.text.split(" => "))) > 1}
    return sorted(found, key=lambda mutant: hashlib.sha256(mutant.text.encode()).digest())


class Watch:
    """A pytest plugin that notes, for each test, its processor time and the functions of some files that it calls."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths, self.tests = set(map(str, paths)), {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        called, began = set(), time.process_time()

        def note(frame, event, arg):
            if frame.f_code.co_filename in self.paths:
                called.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

        sys.settrace(note)
        result = yield
        sys.settrace(None)
        self.tests[item.nodeid] = (time.process_time() - began, called)
        return result

    def in_order(self, path: Path, function: int = 0) -> dict[str, float]:
        """Names and times of the tests: those that call a file's function first, and the quickest first.

        The others follow: what it made may be kept, by a fixture or a cache, for tests that do not call it.
        """
        place = {name: ((str(path), function) not in called, seconds) for name, (seconds, called) in self.tests.items()}
        return {name: place[name][1] for name in sorted(place, key=place.get)}


class Only:
    """A pytest plugin that leaves some tests, in their order, and ends the process with the first failure."""

    def __init__(self, names: Iterable[str]) -> None:
        self.places = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((i for i in items if i.nodeid in self.places), key=lambda i: self.places[i.nodeid])

    def pytest_runtest_logreport(self, report):
        if report.failed:
            os._exit(pytest.ExitCode.TESTS_FAILED)


def forked(work: Callable[[], int]) -> int:
    """The exit code of some work in a fork; what it prints is lost, and its files lie in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            try:
                os.chdir(folder)
                os.environ.update(LLMCOURSE_HOME=folder, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
                tempfile.tempdir = folder
                silence = os.open(os.devnull, os.O_RDWR)
                [os.dup2(silence, stream) for stream in (0, 1, 2)]
                os._exit(work())
            finally:  # an error of ours is no failed test
                os._exit(pytest.ExitCode.INTERNAL_ERROR)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_tests(files: str, plugin: object) -> int:
    """Pytest's exit code for the fast tests of some files, with the checks of shapes that they always have."""
    options = ["-qx", "-m", "not slow", f"--rootdir={ROOT}", "-c", f"{ROOT}/pyproject.toml"]
    options += [f"{ROOT}/tests/{file}" for file in files.split()]
    left_out = ["-p", "no:cacheprovider", "-p", "no:unraisableexception", "--assert=plain"]  # they cost half the time
    return pytest.main(["-p", "jaxtyping._pytest_plugin", *options, *left_out], plugins=[plugin])


def watched(files: str) -> Watch:
    """The tests of some files without any fault; they must pass. What they import, this process then has imported too."""
    watch = Watch(path_of(module) for module, tests in TESTS.items() if tests == files)
    with tempfile.NamedTemporaryFile() as seen:

        def work() -> int:
            code = run_tests(files, watch)
            names = [name for name in sys.modules if name.partition(".")[0] not in {"llmcourse", "tests"}]
            Path(seen.name).write_bytes(pickle.dumps((watch.tests, names)))
            return code

        if (code := forked(work)) != pytest.ExitCode.OK:
            raise ValueError(f"{files} ends with {code} before any fault is planted; mend that first")
        watch.tests, names = pickle.loads(Path(seen.name).read_bytes())
    for name in names:
        with suppress(ImportError, AttributeError):
            importlib.import_module(name)
    gc.freeze()  # a fork need not look at what was imported before
    return watch


def attempt(path: Path, source: str, files: str, tests: dict[str, float]) -> str:
    """What some tests of some files make of a mutant: killed, survived, out of time, or broken (on import, or dead)."""

    def work() -> int:
        limit = int(10 + 5 * sum(tests.values()))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        signal.alarm(60 + 20 * limit)
        read, look = SourceFileLoader.get_data, SourceFileLoader.path_stats
        SourceFileLoader.get_data = lambda self, asked: source.encode() if asked == str(path) else read(self, asked)
        SourceFileLoader.path_stats = lambda self, asked: {"mtime": 0} if asked == str(path) else look(self, asked)
        sys.dont_write_bytecode = True  # and with an age of 0 none is read
        return run_tests(files, Only(tests))

    return RESULTS.get(forked(work), "broken")


def path_of(module: str) -> Path:
    """Where a module of the package lies."""
    return ROOT / "llmcourse" / f"{module}.py"


def report(module: str, watch: Watch, first: int, last: int) -> list[tuple[str, str]]:
    """(text, result) of some of a module's mutants, in their order."""
    path, files = path_of(module), TESTS[module]
    source = path.read_text(encoding="utf-8")
    quickest = dict(list(watch.in_order(path).items())[:3])
    if (result := attempt(path, ast.unparse(ast.parse(source)), files, quickest)) != "survived":
        raise ValueError(f"{module} without a fault is {result}: nothing that its mutants do can be believed")
    return [
        (f"{module} {mutant.text}", attempt(path, mutant.source, files, watch.in_order(path, mutant.function)))
        for mutant in mutants(source)[first:last]
    ]


if __name__ == "__main__":
    wanted = sys.argv[2:] or list(TESTS)
    watches = {files: watched(files) for files in {TESTS[module] for module in wanted}}
    for module in wanted:
        print(json.dumps([module, report(module, watches[TESTS[module]], 0, int(sys.argv[1]))]), flush=True)
