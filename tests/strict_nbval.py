"""A pytest plugin for the run over the notebooks: what nbval lets pass, and a learner would not, is a failure.

nbval marks all cells that follow a timed-out one as expected to fail, and would call them passed in the summary. And it
has no bound for a whole notebook.
"""

import pytest

from tests.timing import BUDGET, pace, seconds_of_children

used = 0.0  # seconds of processor time, by the kernels that have ended in this process


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("xfailed") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    """After the last cell of a notebook its kernel has ended, and its time is known; an error here is that cell's."""
    global used
    result = yield
    if nextitem is None or nextitem.parent is not item.parent:
        seconds, used = seconds_of_children() - used, seconds_of_children()
        if seconds > BUDGET * pace():
            pytest.fail(f"{item.path.name} used {seconds:.0f} s of processor time, more than {BUDGET}", pytrace=False)
    return result
