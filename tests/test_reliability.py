"""The page of promises names commands that select tests, and each promise has one."""

import itertools
import re
import shlex

import pytest

from tests.browsing import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "book/reliability.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| (?!promise|---)", line)
]
COMMANDS = sorted({command for *_, command in ROWS if command != "the same"})


def test_every_promise_has_a_figure_and_a_command():
    assert len(ROWS) > 20
    assert all(len(row) == 3 and all(row) for row in ROWS)
    assert all(re.fullmatch(r"`pytest [^`]+`", command) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_selects_tests(command):
    words = shlex.split(command.strip("`"))[1:]
    (file,) = [word for word in words if word.startswith("tests/")]
    options = dict(itertools.pairwise(words))
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(r"^def test_", text, flags=re.MULTILINE)
    if "-m" in options:
        assert f"mark.{options['-m']}" in text, "no test of this file bears that mark"
    if "-k" in options:
        assert re.search(rf"^def test_\w*{options['-k']}", text, flags=re.MULTILINE)
