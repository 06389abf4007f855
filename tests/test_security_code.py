"""Generated code under a static policy, and pickles that are read and never loaded."""

import ast
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

from llmcourse import pickles
from llmcourse.pickles import instructions, listing, pickles_inside, read_report
from llmcourse.safe_code import Snippet, judge, snippets, violations

ROOT = Path(__file__).parents[1]
MINE = ("llmcourse/pickles.py", "llmcourse/safe_code.py", "llmcourse/exercises/security.py")


class Calling:
    """Pickles as a call of `exec`."""

    def __init__(self, text="1"):
        self.text = text

    def __reduce__(self):
        return exec, (self.text,)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import os", "import"),
        ("from os import path", "import"),
        ("import math, socket", "import"),
        ("from . import secrets", "import"),
        ("def f():\n    import ctypes", "import"),
        ("eval('1')", "name"),
        ("run = exec", "name"),
        ("print(open)", "name"),
        ("().__class__", "underscores"),
        ("__import__('os')", "underscores"),
        ("from json import __builtins__ as b\nb['ev' + 'al']('1')", "underscores"),
        ("x = (", "unreadable"),
        ("-" * 20_000 + "1", "unreadable"),
        ("x\0", "unreadable"),
    ],
)
def test_the_policy_names_what_it_refuses(source, rule):
    assert rule in [violation.rule for violation in violations(source)]


@pytest.mark.parametrize(
    "source",
    ["", "import math\nmath.pi", "x.open()", "'eval(1)'  # exec", "evaluate(1)", "import collections.abc", "_x = 1"],
)
def test_the_policy_lets_harmless_text_pass(source):
    assert violations(source) == []


def test_violations_come_in_the_order_of_the_lines():
    found = violations("x = 1\nimport os\nmath = eval\nimport sys")
    assert [(one.line, one.what) for one in found] == [(2, "os"), (3, "eval"), (4, "sys")]


def test_there_are_enough_snippets_and_each_is_python_of_its_own():
    found = snippets()
    assert len(found) >= 40
    assert len({one.code for one in found}) == len(found)
    assert min(sum(one.harmful for one in found), sum(not one.harmful for one in found)) >= 20
    assert all(ast.parse(one.code) and one.why for one in found)


def test_precision_and_recall_are_counted_as_by_hand():
    labelled = [Snippet("import os", True, ""), Snippet("import sys", False, ""), Snippet("while 1: pass", True, "")]
    labelled += [Snippet("x = 1", False, ""), Snippet("eval", True, "")]
    verdicts = judge(labelled)
    assert (verdicts.precision, verdicts.recall) == (2 / 3, 2 / 3)
    assert [one.code for one in verdicts.missed] == ["while 1: pass"]
    assert [one.code for one in verdicts.false_alarms] == ["import sys"]


def test_the_policy_is_good_and_not_perfect_on_both_sides():
    verdicts = judge(snippets())
    assert 0.8 <= verdicts.precision < 1
    assert 0.7 <= verdicts.recall < 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_found_in_every_protocol(protocol):
    report = read_report(pickle.dumps([Calling()], protocol=protocol))
    assert report.names in (("builtins.exec",), ("__builtin__.exec",))
    assert report.n_calls == 1
    assert report.unexpected() == list(report.names)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_name_that_is_fetched_twice_is_found_twice_also_from_memory(protocol):
    content = pickle.dumps([Calling("1"), Calling("2"), {"exec": "builtins"}], protocol=protocol)
    assert read_report(content).n_calls == 2
    assert set(read_report(content).names) <= {"builtins.exec", "__builtin__.exec"}


def test_plain_data_fetches_nothing():
    report = read_report(pickle.dumps({"os": ["system", 1, 2.0, b"x", None, (True,)]}))
    assert (report.names, report.n_calls) == ((), 0)


def text(word):
    return b"\x8c" + bytes([len(word)]) + word.encode()


@pytest.mark.parametrize(
    "hidden",
    [
        text("os")
        + text("system")
        + text("collections")
        + text("OrderedDict")
        + b"00\x93",  # two texts taken off again
        text("os") + text("collections") + text("OrderedDict") + b"0" + text("system") + b"\x93",
        text("os") + text("system") + b"\x940h\x00\x93",  # by way of the memory
        text("os") + text("system") + b"\x93" + text("path") + b"\x93",  # what was fetched is no text any more
    ],
)
def test_a_name_that_is_hidden_behind_another_is_not_believed(hidden):
    report = read_report(b"\x80\x04" + hidden + b")R.")
    assert report.unexpected() != []
    assert report.n_calls == 1


def test_a_name_that_comes_from_the_memory_is_read():
    told = text("os") + b"\x94" + text("system") + b"\x9400"  # remembered, and taken off the stack
    assert read_report(b"\x80\x04" + told + b"h\x00h\x01\x93)R.").names == ("os.system",)


def test_extension_codes_and_old_instances_are_reported():
    assert read_report(b"\x80\x02\x82\x01.").names == ("?",)
    assert read_report(b"(S'ls'\nios\nsystem\n.").names == ("os.system",)


def test_an_honest_checkpoint_needs_no_other_name(tmp_path):
    state = {"a": torch.zeros(2), "b": torch.ones(1, dtype=torch.bfloat16), "c": torch.tensor([1])}
    torch.save(state, tmp_path / "honest.pt")
    (content,) = pickles_inside(tmp_path / "honest.pt").values()
    assert read_report(content).unexpected() == []


def test_a_checkpoint_with_a_stowaway_is_noticed(tmp_path):
    torch.save({"a": torch.zeros(2), "b": Calling()}, tmp_path / "bad.pt")
    (content,) = pickles_inside(tmp_path / "bad.pt").values()
    assert read_report(content).unexpected() in (["builtins.exec"], ["__builtin__.exec"])


def test_a_pickle_that_would_fill_the_memory_and_a_file_that_is_no_archive_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(pickles.LARGEST + 1))
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"bomb\.pt holds a pickle of 50,000,001 bytes; at most 50,000,000 are read"):
        pickles_inside(tmp_path / "bomb.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "bomb.pt").read_bytes()[:999])
    with pytest.raises(
        ValueError, match=r"torn\.pt is no whole zip archive .*; give a checkpoint that torch\.save wrote"
    ):
        pickles_inside(tmp_path / "torn.pt")


def test_what_is_no_pickle_is_refused():
    with pytest.raises(ValueError, match="opcode"):
        read_report(b"no pickle")


def test_the_listing_has_a_line_for_every_instruction():
    steps = instructions(pickle.dumps(["x"], protocol=4))
    lines = listing(steps).splitlines()
    assert len(lines) == len(steps)
    assert lines[0].split() == ["0", "PROTO", "4"]
    assert "'x'" in listing(steps)


def test_reading_runs_nothing(tmp_path):
    target = tmp_path / "ran"
    content = pickle.dumps(Calling(f"open({str(target)!r}, 'w')"))
    read_report(content), listing(instructions(content))
    assert not target.exists()


def test_nothing_of_the_chapter_loads_a_pickle_or_runs_a_snippet():
    sources = [(ROOT / name).read_text(encoding="utf-8") for name in MINE]
    notebook = (ROOT / "notebooks/17_security.ipynb").read_text(encoding="utf-8")
    for source in (*sources, notebook):
        assert not re.search(r"pickle\.loads?\(|torch\.load\(|weights_only|Unpickler", source)
    for source in sources[:2]:
        calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        assert not [call.id for call in calls if isinstance(call, ast.Name) and call.id in ("exec", "eval", "compile")]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_may_stand_behind_the_end(protocol):
    with pytest.raises(ValueError, match="bytes stand behind the pickle's end"):
        read_report(pickle.dumps({}, protocol) + pickle.dumps(print, protocol))


def archive(path, *names):
    """A zip with a pickle under each name."""
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, pickle.dumps({"name": name}))
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_pickle_is_found_whatever_its_case_and_two_of_a_name_are_refused(tmp_path):
    assert list(pickles_inside(archive(tmp_path / "a", "model/DATA.PKL"))) == ["model/DATA.PKL"]
    for names in (("m/data.pkl", "m/data.pkl"), ("m/data.pkl", "m/Data.pkl"), ("m/version", "m/version", "m/data.pkl")):
        with pytest.raises(ValueError, match="holds 2 entries named"):
            pickles_inside(archive(tmp_path / "b", *names))
    with pytest.raises(ValueError, match="without a pickle"):
        pickles_inside(archive(tmp_path / "c", "m/version"))
