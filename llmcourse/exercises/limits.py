"""Run a learner's code so that it cannot hang, crash or change the notebook.

On Linux it runs in a forked child process, which can always be killed: a loop that swallows every exception, a native
call that never returns and a crash all end there. Elsewhere, and once a GPU is in use (which does not survive a fork),
it runs in a thread that is abandoned when its time is up.
"""

import contextlib
import ctypes
import functools
import math
import multiprocessing
import operator
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

THREAD = "an answer that is checked"  # what such a thread is called
MEMORY = 4 * 2**30  # bytes that an answer may take beyond what the notebook holds


class TimeUp(Exception):
    """The code had not finished when its time was up."""


class _Abandoned(BaseException):
    """Ends the thread of an answer: neither a checker nor an answer that catches what programs raise stops it."""


class Names:
    """What torch's names mean before an answer runs, to be put back after it.

    An answer that replaces `torch.softmax` or switches gradients off would else change what the solution gives, and how
    the two are compared: a wrong answer would pass.
    """

    def __init__(self) -> None:
        self.spaces = [(space, dict(vars(space))) for space in (torch, torch.Tensor, nn.functional, math)]
        self.modes = torch.get_default_dtype(), torch.is_grad_enabled()

    def put_back(self) -> None:
        """Give each name its old meaning. What an import added since stays."""
        dtype, gradients = self.modes
        for space, before in self.spaces:
            if all(map(operator.is_, vars(space).values(), before.values())):
                continue  # thousands of calls take this way; what an import added stands behind the old names
            for name in [name for name, value in before.items() if vars(space).get(name) is not value]:
                setattr(space, name, before[name])
        for name in vars(torch.Tensor).keys() - self.spaces[1][1].keys():
            if hasattr(torch._C.TensorBase, name):  # a method that came from there was hidden by another
                delattr(torch.Tensor, name)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)

    def kept_by(self, answer: Callable) -> Callable:
        """The answer, with the names put back after each of its calls. Classes and modules stay what they are."""
        if isinstance(answer, type | nn.Module):
            return answer

        @functools.wraps(answer)
        def kept(*arguments: Any, **options: Any) -> Any:
            try:
                return answer(*arguments, **options)
            finally:
                self.put_back()

        return kept


def run_limited(function: Callable[[], Any], seconds: float) -> Any:
    """What the function returns. Raises TimeUp after `seconds`, RuntimeError when it ended its process."""
    if sys.platform == "linux" and not torch.cuda.is_initialized():
        return _in_child(function, seconds)
    return _in_thread(function, seconds)


def _in_child(function: Callable[[], Any], seconds: float) -> Any:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        os.setpgid(0, 0)  # a group of its own: what it starts ends with it
        torch.set_num_threads(1)  # the pool of the parent's threads is not there after a fork
        _limit_memory()
        sender.send(function())

    child = context.Process(target=work, daemon=True)
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads; this child takes no lock that they may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise TimeUp
        return receiver.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"exit code {child.exitcode}") from None
    finally:
        child.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.join()
        receiver.close()


def _limit_memory() -> None:
    """Let this process grow by `MEMORY` at most: then it gets an error, where the whole machine would come to a halt."""
    import resource  # Linux and its like only

    with open("/proc/self/statm") as sizes:
        size = int(sizes.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = size + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _in_thread(function: Callable[[], Any], seconds: float) -> Any:
    results: list[Any] = []

    def work() -> None:
        with contextlib.suppress(_Abandoned):
            results.append(function())

    worker = threading.Thread(target=work, name=THREAD, daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        # Ends a Python loop at its next line; a loop with a bare `except:` swallows it and goes on, alone and unheard.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(_Abandoned))
        raise TimeUp
    if not results:
        raise RuntimeError("it ended its thread")
    return results[0]
