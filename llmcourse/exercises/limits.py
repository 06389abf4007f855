"""Run a learner's code so that it cannot hang, crash or change the notebook.

On Linux it runs in a forked child process, which can always be killed: a loop that swallows every exception, a native
call that never returns and a crash all end there. Elsewhere, and once a GPU is in use (which does not survive a fork),
it runs in a thread that is abandoned when its time is up.
"""

import contextlib
import ctypes
import multiprocessing
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch

THREAD = "an answer that is checked"  # what such a thread is called


class TimeUp(Exception):
    """The code had not finished when its time was up."""


class _Abandoned(BaseException):
    """Ends the thread of an answer: neither a checker nor an answer that catches what programs raise stops it."""


def run_limited(function: Callable[[], Any], seconds: float) -> Any:
    """What the function returns. Raises TimeUp after `seconds`, RuntimeError when it ended its process."""
    if sys.platform == "linux" and not torch.cuda.is_initialized():
        return _in_child(function, seconds)
    return _in_thread(function, seconds)


def _in_child(function: Callable[[], Any], seconds: float) -> Any:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        torch.set_num_threads(1)  # the pool of the parent's threads is not there after a fork
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
        child.join()
        receiver.close()


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
