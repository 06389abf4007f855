"""A pytest plugin for the run over the notebooks: what nbval lets pass, and a learner would not, is a failure.

nbval waits the whole time of a cell for a kernel that has died, and marks the cells that follow as expected to fail, which the
summary would call no failure. It lets a cell pass that is skipped, that says it raises and does not, or that warns where outputs
are not compared. And it has no bound for a whole notebook. That each of these is red is tested in test_gates.py.
"""

import time
from functools import partial
from pathlib import Path
from queue import Empty

import nbval.kernel
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell

from tests.kernels import PortlessKernelManager
from tests.timing import BUDGET, pace, seconds_of_children

LOOK = 1.0  # seconds between two looks whether a kernel still lives
nbval.kernel.KernelManager = PortlessKernelManager  # which nbval offers no option for
used = 0.0  # seconds of processor time, by the kernels that have ended in this process


def budget_of(path: Path) -> float:
    """How many seconds of processor time a notebook may use, on a machine like the one on which the course was written."""
    return BUDGET


def await_reply(kernel: RunningKernel, message: str, timeout: float) -> None:
    """Wait as nbval does for the kernel's answer, and no longer once the kernel has died."""
    until = time.monotonic() + timeout
    while True:
        try:
            return RunningKernel.await_reply(kernel, message, timeout=LOOK)
        except Empty:
            if not kernel.is_alive():
                pytest.fail("the kernel died in this cell", pytrace=False)
            if time.monotonic() > until:
                raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Run the cell, and judge what nbval does not."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    kernel = item.parent.kernel
    kernel.await_reply = partial(await_reply, kernel)
    try:
        result = yield
    except pytest.skip.Exception:
        pytest.fail(f"this cell was not run:\n{item.cell.source}", pytrace=False)
    kinds = {(output.output_type, output.get("name")) for output in item.test_outputs}
    if item.options["check_exception"] and ("error", None) not in kinds:
        pytest.fail(f"this cell should raise an exception:\n{item.cell.source}", pytrace=False)
    if ("stream", "stderr") in kinds:
        said = "".join(output.text for output in item.test_outputs if output.get("name") == "stderr")
        pytest.fail(f"this cell warns:\n{item.cell.source}\n{said}", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Nothing in this run is expected to fail."""
    report = yield
    if report.skipped:
        report.outcome, report.longrepr = (
            "failed",
            f"{item.nodeid} was not run, or failed as expected: {report.longrepr}",
        )
        vars(report).pop("wasxfail", None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    """After the last cell of a notebook its kernel has ended, and its time is known; an error here is that cell's."""
    global used
    result = yield
    if nextitem is None or nextitem.parent is not item.parent:
        seconds, used = seconds_of_children() - used, seconds_of_children()
        limit = budget_of(item.path)
        if seconds > limit and seconds > limit * pace():  # measuring the pace takes a second itself
            pytest.fail(f"{item.path.name} used {seconds:.0f} s of processor time, more than {limit}", pytrace=False)
    return result
