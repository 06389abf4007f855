"""What a learner gets wrong is refused in words: the argument, the bad value, and the way out, in two lines at most.

The calls stand in bad_inputs.py and are made as a learner makes them, without the tests' own checks of shapes.
"""

import json
import re
import traceback
from collections.abc import Callable, Sequence

import pytest
import torch

from llmcourse import cli
from llmcourse.files import read_text
from llmcourse.models import GPT, save_model
from llmcourse.tokenizers import BPETokenizer
from llmcourse.transformer import TransformerConfig
from tests.bad_inputs import BAD, COMMANDS, TEXT, names

MOST_LINES, MOST_CHARACTERS = 2, 500
CALLS = [pytest.param(*row, id=row[0]) for rows in BAD.values() for row in [(one[0], one[1:]) for one in rows]]
# A message that helps says what to do, or what would have been right.
WAY_OUT = re.compile(
    r"\b(use|give|take|make|choose|try|train|cut|pass|put|leave|name|run|show|save|write|add|ask|set|call|look|keep|score|"
    r"record|ids are|must|needs?|needed|at least|at most|above|below|between|one of|there (is|are)|from|\d+ to|is a|"
    r"start|of a|ours are|known|knows|holds|these have|delete|expected|required|take|install|No such|directory|encode|belongs|is one of)\b"
)
SIGNATURE = re.compile(r"\w\(\) (got an unexpected keyword|takes \d+ positional)")  # Python's own words


def judge(call: Callable[[], object], wanted: Sequence[str]) -> list[str]:
    """What is wrong with how a bad call is refused; empty when its author would know what to do."""
    try:
        call()
    except (ValueError, TypeError, OSError) as error:
        return [*_origin(error), *_message(str(error), wanted)]
    except Exception as error:
        return [f"ends in a {type(error).__name__}: {error}"]
    return ["is accepted"]


def _origin(error: Exception) -> list[str]:
    """Refused on purpose: raised by the package, by Python for a call that fits no signature, or by the file system."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    on_purpose = "llmcourse" in frame.filename and (frame.line or "").startswith("raise ")
    if on_purpose or isinstance(error, OSError) or SIGNATURE.search(str(error)):
        return []
    return [f"stumbles in {frame.name}, at {frame.line!r}: {error}"]


def _message(text: str, wanted: Sequence[str]) -> list[str]:
    faults = [f"does not name {word!r}: {text[:300]}" for word in wanted if word not in text]
    if text.count("\n") >= MOST_LINES or len(text) > MOST_CHARACTERS:
        faults.append(f"is {len(text)} characters in {text.count(chr(10)) + 1} lines")
    return faults if WAY_OUT.search(text) or SIGNATURE.search(text) else [*faults, f"shows no way out: {text[:300]}"]


def bad_files(folder) -> None:
    """Files and folders that hold something else than what is looked for."""
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "blank.txt").write_text(" \n")
    (folder / "one.txt").write_text("a\n")
    (folder / "two.txt").write_text("a\nb\n")
    (folder / "list.json").write_text("[1, 2]")
    (folder / "half.json").write_text('{"kind": "bpe"')
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "empty.safetensors").write_bytes(b"")
    save_model(GPT(TransformerConfig(n_vocab=20, context=8, d_model=16, n_heads=2)), folder / "whole")
    description, weights = ((folder / "whole" / name).read_bytes() for name in ("config.json", "model.safetensors"))
    contents = {
        "other": ('{"kind": "Mamba"}', weights), "broken": (description, weights[:99]),
        "misshapen": (json.dumps(json.loads(description) | {"n_vocab": 21}), weights),
        "pickled": ("{}", None), "strange": ('{"model_type": "mamba"}', weights), "listed": ("[1]", weights),
        "no_json": ("{", weights), "bad_index": ('{"model_type": "gpt2"}', None),
    }  # fmt: skip
    for name, (config, tensors) in contents.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_bytes(config.encode() if isinstance(config, str) else config)
        if tensors is not None:
            (folder / name / "model.safetensors").write_bytes(tensors)
    (folder / "text.txt").write_text(TEXT)
    save_model(GPT(TransformerConfig(n_vocab=260, context=8, d_model=16, n_heads=2)), folder / "ready")
    BPETokenizer.train(TEXT, 260).save(folder / "ready" / "tokenizer.json")
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    (folder / "strange" / "tokenizer.json").write_text("[]")
    (folder / "bad_index" / "model.safetensors.index.json").write_text('{"weights": 1}')


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    """What a learner's calls may use."""
    folder = tmp_path_factory.mktemp("bad")
    bad_files(folder)
    return names(folder)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("call", "wanted"), CALLS)
def test_a_bad_input_is_refused_with_its_name_its_value_and_the_way_out(call, wanted, learner):
    assert judge(lambda: eval(call, learner), wanted) == []


def judge_command(command: str, wanted: Sequence[str], capsys) -> list[str]:
    """What is wrong with how a command is refused: exit code 1 and one line, or argparse's 2 and its usage."""
    try:
        code, most = cli.main(command.split()), 1
    except SystemExit as stop:
        code, most = stop.code, 99
    except Exception as error:
        return [f"ends in a {type(error).__name__}: {error}"]
    text = capsys.readouterr().err
    faults = [f"does not name {word!r}: {text[-300:]}" for word in wanted if word not in text]
    lines = text.count("\n")
    return (
        faults if (code, most) in ((1, 1), (2, 99)) and 1 <= lines <= most else [*faults, f"code {code}, {lines} lines"]
    )


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("command", "wanted"), [pytest.param(one[0], one[1:], id=one[0]) for one in COMMANDS])
def test_a_bad_command_ends_with_one_line(command, wanted, learner, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert judge_command(command.format(*[learner["folder"]] * 3), wanted, capsys) == []


def test_there_are_enough_bad_inputs_and_none_twice():
    calls = [call for rows in BAD.values() for call, *_ in rows] + [command for command, *_ in COMMANDS]
    assert len(set(calls)) == len(calls) >= 200
    assert len(COMMANDS) >= 40


def test_the_judge_sees_what_is_no_help():
    assert judge(lambda: 1, ()) == ["is accepted"]
    assert "ends in a KeyError" in judge(lambda: {}["a"], ())[0]
    assert "ends in a IndexError" in judge(lambda: torch.zeros(2)[5], ())[0]
    assert "stumbles" in judge(lambda: len(3), ())[0]
    assert "stumbles" in judge(lambda: json.loads("{"), ())[0]
    assert judge(lambda: read_text(""), ("nothing like it",))[0].startswith("does not name")
    assert any("shows no way out" in fault for fault in _message("k=0", ("k=0",)))
    assert any("in 3 lines" in fault for fault in _message("k=0: give\nmore\nof it", ()))
    assert any("characters" in fault for fault in _message("k=0: give 1" * 99, ()))
