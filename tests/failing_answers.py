"""Kinds of failure that can be made from the solution of any exercise, and what `check` has to make of each.

A kind whose answer is a changed result applies only where there is something to change: no dtype in a list of words.
"""

import copy
import math
import os
import random
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmcourse.exercises import Exercise


class Kind(NamedTuple):
    """A kind of failure: `make(exercise)` is the answer; of the words at least one stands in the feedback, if any do."""

    make: Callable[[type[Exercise]], Callable]
    words: tuple[str, ...] = ()
    change: Callable[[Any], Any] | None = None  # of the solution's result, where the kind is such a change
    seconds: float | None = None  # of the time limit, where it is meant to be reached


def converted(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with a change at every leaf: inside lists, tuples and dictionaries too."""
    if isinstance(value, list | tuple):
        parts = [converted(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if type(value) is dict:
        return {key: converted(part, change) for key, part in value.items()}
    return change(value)


def changing(change: Callable[[Any], Any], *words: str) -> Kind:
    """The kind whose answers are the solution's with a change."""

    def make(exercise):
        return lambda *arguments: converted(exercise.solution(*arguments), change)

    return Kind(make, words, change)


def doing(act: Callable[[], Any], *words: str, seconds: float | None = None) -> Kind:
    """The kind whose answers do one thing, whatever they are given."""
    return Kind(lambda exercise: lambda *arguments: act(), words, seconds=seconds)


def loops():
    while True:
        pass


def swallows():
    while True:
        try:  # noqa: SIM105
            loops()
        except:  # noqa: E722 - the point of this answer
            pass


def prints():
    while True:
        print("again")


def recurses():
    return recurses() + 1


def raises():
    raise LookupError("no such word")


def interrupts():
    raise KeyboardInterrupt


def generates():
    yield 1.0


def fills_the_memory():
    kept = torch.ones(2**20)
    while True:
        kept = torch.cat([kept, kept])


def floods(exercise):
    """A right answer that prints too much."""

    lines = iter(range(20_000))

    def answer(*arguments):
        for number in lines:
            print("line", number)
        return exercise.solution(*arguments)

    return answer


def forgets_to_return(exercise):
    def answer(*arguments):
        exercise.solution(*arguments)

    return answer


def wrong(exercise: type[Exercise]) -> Callable:
    """An answer that is known to be wrong."""
    return next(iter(exercise.mistakes.values())).answer


def patches_torch(exercise):
    """A wrong answer that replaces what answers are compared with, and what solutions are computed with."""

    def answer(*arguments):
        result = wrong(exercise)(*arguments)
        torch.allclose = torch.equal = lambda *_, **__: True
        torch.Tensor.__eq__ = lambda a, b: True
        torch.Tensor.nan_to_num = lambda x, *_: torch.zeros(1)
        torch.softmax = torch.nn.functional.softmax = torch.Tensor.softmax = lambda x, *_, **__: x
        math.isclose = lambda *_, **__: True
        return result

    return answer


def changes_the_state(exercise):
    """A wrong answer that also changes the random numbers, the usual dtype and the recording of gradients."""

    def answer(*arguments):
        result = wrong(exercise)(*arguments)
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(1)
        sys.setrecursionlimit(5000)
        return result

    return answer


def overwrite(value: Any) -> bool:
    """Change a value in place, as far as it can be; was there anything to change?"""
    if isinstance(value, Tensor) and value.numel() and not value.requires_grad:
        value.copy_(torch.logical_not(value) if value.dtype == torch.bool else value + 1)
        return True
    if isinstance(value, list):
        value.append(value[0] if value else 0)
        return True
    if isinstance(value, set):
        value.add("one more")
        return True
    if type(value) is dict:
        value["one more"] = 1
        return True
    changed = [overwrite(part) for part in value] if isinstance(value, tuple) else []
    return any(changed)


def changes_its_input(exercise):
    """The right result, after which each argument is overwritten."""

    def answer(*arguments):
        result = exercise.solution(*arguments)
        kept = converted(result, tensors(Tensor.clone))  # it may share its numbers with an argument
        return kept if overwrite(arguments) else result

    return answer


def tensors(change: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    return lambda value: change(value) if isinstance(value, Tensor) else value


def numbers(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change of floating-point numbers, in tensors or plain."""

    def changed(value):
        is_floating = isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())
        return change(value) if is_floating else value

    return changed


OTHER = {torch.float32: torch.float16, torch.float64: torch.float32, torch.int64: torch.int32, torch.bool: torch.uint8}
LIMIT = "had not finished after"

KINDS = {
    "an endless loop": doing(loops, LIMIT, seconds=0.3),
    "an endless loop that swallows all": doing(swallows, LIMIT, seconds=0.3),
    "endless printing": doing(prints, LIMIT, seconds=0.3),
    "recursion": doing(recurses, "RecursionError"),
    "sys.exit": doing(lambda: sys.exit("enough"), "SystemExit"),
    "os._exit": doing(lambda: os._exit(3), "ended the Python process"),
    "KeyboardInterrupt": doing(interrupts, "KeyboardInterrupt"),
    "an exception": doing(raises, "LookupError: 'no such word'", "LookupError: no such word"),
    "a flood of lines": Kind(floods),
    "patched torch": Kind(patches_torch),
    "a changed state": Kind(changes_the_state),
    "changed input": Kind(changes_its_input, ("changes the arguments",)),
    "a detached gradient": changing(tensors(Tensor.detach)),
    "another dtype": changing(tensors(lambda x: x.to(OTHER.get(x.dtype, torch.float16))), "dtype"),
    "another device": changing(tensors(lambda x: x.to("meta")), "meta"),
    "another shape": changing(tensors(lambda x: x.expand(2, *x.shape)), "shape"),
    "NaN": changing(numbers(lambda x: x * math.nan), "NaN", "nan"),
    "infinity": changing(numbers(lambda x: x + math.inf), "inf", "that is not it"),
    "no return": Kind(forgets_to_return),
    "a generator": doing(generates),
    "a function": doing(lambda: loops),
    "a string": doing(lambda: "nothing"),
    "too large a tensor": doing(lambda: torch.empty(10**14), "memory"),
    "memory that is filled up": doing(fills_the_memory, "memory", "MemoryError", LIMIT),
}


def result_of(exercise: type[Exercise]) -> list:
    """What the solution returns on the first probe, call by call, as the exercise calls it."""
    found = []

    def spy(*arguments):
        found.append((arguments, exercise.solution(*arguments)))
        return found[-1][1]

    exercise.observe(spy, copy.deepcopy(exercise.probes(0)[0]))
    return found
