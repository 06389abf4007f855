"""A static policy for generated code: read the program as a tree, name what it may not do, and never run it.

The policy allows a list of modules, forbids functions that reach outside or run text as code, and forbids names with two
underscores, through which everything in Python can be reached. What it cannot see is measured with snippets whose label
we know (`snippets`), and is the reason why it is no sandbox: it reads a text, it does not confine a process.
"""

import ast
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

ALLOWED_MODULES = frozenset(
    {"collections", "datetime", "itertools", "json", "math", "random", "re", "statistics", "string"}
)
FORBIDDEN_NAMES = frozenset(
    {"eval", "exec", "compile", "open", "input", "breakpoint", "globals", "locals", "vars", "getattr", "setattr"}
    | {"delattr", "help", "memoryview"}
)


@dataclass(frozen=True)
class Violation:
    """Something that the policy does not allow."""

    line: int
    rule: str
    what: str


@dataclass(frozen=True)
class Snippet:
    """A small program with its label: whether running it could do harm, and why."""

    code: str
    harmful: bool
    why: str


def violations(source: str) -> list[Violation]:
    """What a program does that the policy forbids, in the order of its lines; empty when it may pass.

    A text that is no Python is a violation too: what cannot be read is not run.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [Violation(getattr(error, "lineno", None) or 1, "unreadable", type(error).__name__)]
    found = [Violation(node.lineno, *fault) for node in ast.walk(tree) for fault in _faults(node)]
    return sorted(found, key=lambda violation: violation.line)


def _faults(node: ast.AST) -> list[tuple[str, str]]:
    """The rules that one node breaks, with what breaks them."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
        brought = [("underscores", alias.name) for alias in node.names if alias.name.startswith("__")]
        return [("import", name) for name in modules if name.split(".")[0] not in ALLOWED_MODULES] + brought
    if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
        return [("name", node.id)]
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return [("underscores", name)] if name.startswith("__") else []


@cache
def snippets() -> tuple[Snippet, ...]:
    """The labelled programs of `safe_code.toml`. They are read and never run."""
    file = resources.files("llmcourse") / "safe_code.toml"
    return tuple(Snippet(**one) for one in tomllib.loads(file.read_text(encoding="utf-8"))["snippet"])


@dataclass(frozen=True)
class Verdicts:
    """How the policy judged labelled programs."""

    caught: tuple[Snippet, ...]  # harmful, and refused
    missed: tuple[Snippet, ...]  # harmful, and passed
    false_alarms: tuple[Snippet, ...]  # harmless, and refused
    passed: tuple[Snippet, ...]  # harmless, and passed

    @property
    def precision(self) -> float:
        """Of what was refused, the share that was harmful."""
        return len(self.caught) / (len(self.caught) + len(self.false_alarms))

    @property
    def recall(self) -> float:
        """Of what was harmful, the share that was refused."""
        return len(self.caught) / (len(self.caught) + len(self.missed))


def judge(labelled: Iterable[Snippet]) -> Verdicts:
    """The policy's verdicts on programs with labels."""
    sides: dict[tuple[bool, bool], list[Snippet]] = {(h, r): [] for h in (True, False) for r in (True, False)}
    for one in labelled:
        sides[one.harmful, bool(violations(one.code))].append(one)
    order = (True, True), (True, False), (False, True), (False, False)
    return Verdicts(*(tuple(sides[side]) for side in order))
