"""A file is whole or not there, and text is UTF-8 or an error names the byte."""

import ast
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from llmcourse import files
from llmcourse.files import NotWritten, home, read_text, write_atomically

ROOT = Path(__file__).parents[1]


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    for content in (b"first", b"", bytes(range(256))):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace", "fdopen"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_at_any_step_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_process_that_dies_while_writing_leaves_the_old_file(tmp_path, step):
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    dying = (
        "import os, sys; from llmcourse.files import write_atomically; "
        f"os.{step} = lambda *a: os._exit(9); write_atomically(sys.argv[1], b'new' * 10_000)"
    )
    assert subprocess.run([sys.executable, "-c", dying, path], check=False).returncode == 9
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(files.fcntl is None, reason="Windows has no such locks")
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "file.bin"
    dying = (
        "import os, sys; from llmcourse.files import write_atomically; "
        "os.replace = lambda *a: os.kill(os.getpid(), 9); write_atomically(sys.argv[1], b'half')"
    )
    assert subprocess.run([sys.executable, "-c", dying, path], check=False).returncode == -9
    left = [one.name for one in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].endswith(".part")
    handle, living = files._locked_temporary(path)
    others = {"file.bin2.abcdefgh.part", "file.bin.mine.part", "other.abcdefgh.part"}
    for name in others:
        (tmp_path / name).write_bytes(b"")
    write_atomically(path, b"whole")
    assert {one.name for one in tmp_path.iterdir()} == others | {"file.bin", Path(living).name}
    os.close(handle)  # now its writer has ended without giving it its name
    write_atomically(path, b"again")
    assert {one.name for one in tmp_path.iterdir()} == others | {"file.bin"}


@pytest.mark.skipif(files.fcntl is None, reason="Windows has no such locks")
def test_a_temporary_file_that_was_taken_for_abandoned_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    make, made = tempfile.mkstemp, []

    def make_and_lose(**options):
        handle, name = make(**options)
        made.append(name)
        if len(made) == 1:
            os.unlink(name)  # by another process, in the moment before the lock
        return handle, name

    monkeypatch.setattr(files.tempfile, "mkstemp", make_and_lose)
    write_atomically(tmp_path / "file.bin", b"whole")
    assert (tmp_path / "file.bin").read_bytes() == b"whole"
    assert len(made) == 2


def test_two_processes_that_write_one_file_at_once_never_mix_and_lose_nothing_of_each_other(tmp_path):
    path = tmp_path / "file.bin"
    writing = (
        "import sys; from llmcourse.files import write_atomically\n"
        "for _ in range(40): write_atomically(sys.argv[1], sys.argv[2].encode() * 50_000)"
    )
    both = [subprocess.Popen([sys.executable, "-c", writing, path, letter]) for letter in "ab"]
    while any(one.poll() is None for one in both):
        if path.exists():
            assert path.read_bytes() in (b"a" * 50_000, b"b" * 50_000)
    assert [one.wait() for one in both] == [0, 0]
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_keeps_the_content_when_the_file_is_replaced(tmp_path, monkeypatch, links):
    def refuse(*arguments):
        raise OSError("this file system has no hard links")

    if not links:
        monkeypatch.setattr(files.os, "link", refuse)
    path, copy = tmp_path / "file.bin", tmp_path / "before.bin"
    for content in (b"1", b"22", b"333"):
        write_atomically(path, content, keep=copy)
    assert (path.read_bytes(), copy.read_bytes()) == (b"333", b"22")
    assert sorted(os.listdir(tmp_path)) == ["before.bin", "file.bin"]


@pytest.mark.parametrize("refused", ["fsync", "replace"])
def test_what_a_second_name_holds_stays_where_nothing_can_be_written(tmp_path, monkeypatch, refused):
    path, copy = tmp_path / "file.bin", tmp_path / "before.bin"
    for content in (b"1", b"22"):
        write_atomically(path, content, keep=copy)

    def refuse(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, refused, refuse)
    with pytest.raises(NotWritten, match="No space left"):
        write_atomically(path, b"333", keep=copy)
    assert (path.read_bytes(), copy.read_bytes()) == (b"22", b"1")
    monkeypatch.undo()
    write_atomically(path, b"333", keep=copy)
    assert (path.read_bytes(), copy.read_bytes()) == (b"333", b"22")
    assert sorted(os.listdir(tmp_path)) == ["before.bin", "file.bin"]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these permissions")
def test_others_may_read_what_is_written(tmp_path):
    write_atomically(tmp_path / "file.bin", b"")
    assert stat.S_IMODE((tmp_path / "file.bin").stat().st_mode) == 0o644


@pytest.mark.parametrize("text", ["plain\n", "naïve 从前 👩‍👩‍👧", "a\r\nb\r", "tail \ufeff"])
def test_text_comes_back_as_it_was_written(tmp_path, text):
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    assert read_text(path) == text
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())  # the mark that some editors put first
    assert read_text(path) == text


@pytest.mark.parametrize(
    ("content", "byte", "position"),
    [
        (b"caf\xe9 noir", "0xe9", 3),
        (b"\xef\xbb\xbfcaf\xe9 noir", "0xe9", 6),
        ("从前".encode("gb18030"), "0xb4", 0),
        ("text".encode("utf-16"), "0xff", 0),
        ("前".encode()[:2], "0xe5", 0),
    ],
)
def test_a_file_that_is_not_utf_8_names_byte_and_position(tmp_path, content, byte, position):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"text\.txt is not UTF-8: byte {byte} at position {position};.*iconv"):
        read_text(path)
    assert hex(content[position]) == byte


@pytest.mark.parametrize("content", [b"", b" \n\t", b"\xef\xbb\xbf"])
def test_a_file_without_text_says_so(tmp_path, content):
    (tmp_path / "empty.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"empty\.txt holds no text"):
        read_text(tmp_path / "empty.txt")


def test_home_is_where_the_reader_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("LLMCOURSE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert home() == tmp_path / ".llmcourse"


# Nothing that is read may run code. Who opens one of these runs its author's choice.
LOADERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"torch.load", "hub.load", "yaml.load", "eval", "exec"}
METHODS = {"extractall", "extract", "unpack_archive", "unsafe_load", "read_pickle", "load_state_dict_from_url"}
OPTIONS = {"allow_pickle": "False", "weights_only": "True", "trust_remote_code": "False", "use_safetensors": "True"}
SUSPECT = re.compile(
    rf"\b({'|'.join([*LOADERS, *METHODS, *OPTIONS])})\b|\b(torch|hub|yaml)\.load\b|(?<![.\w])(eval|exec)\("
)


def code_loaders(source: str) -> list[str]:
    """What in this source loads a pickle, runs text as code, or unpacks an archive onto the disk."""
    found = []
    for node in ast.walk(ast.parse(source)) if SUSPECT.search(source) else ():
        match node:
            case ast.Import():
                found += [alias.name for alias in node.names if alias.name.split(".")[0] in LOADERS]
            case ast.ImportFrom() if (node.module or "").split(".")[0] in LOADERS:
                found.append(node.module)
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                found.append(name)
            case ast.Call(func=ast.Attribute(attr=name, value=owner)):
                owned = f"{getattr(owner, 'id', getattr(owner, 'attr', ''))}.{name}"
                if name in METHODS or owned in CALLS:
                    found.append(owned)
            case ast.keyword(arg=name, value=value) if name in OPTIONS and ast.unparse(value) != OPTIONS[name]:
                found.append(f"{name}={ast.unparse(value)}")
    return found


PLANTED = [
    "import pickle",
    "from pickle import loads",
    "import torch\nx = torch.load(path, weights_only=True)",
    "import numpy as np\nx = np.load(path, allow_pickle=True)",
    "import joblib",
    "x = pandas.read_pickle(path)",
    "with zipfile.ZipFile(path) as archive:\n    archive.extractall(folder)",
    "tarfile.open(path).extract(member)",
    "shutil.unpack_archive(path)",
    "x = yaml.load(text)",
    "x = eval(text)",
    "model = AutoModel.from_pretrained(name, trust_remote_code=True)",
    "model = AutoModel.from_pretrained(name, use_safetensors=False)",
    "x = torch.hub.load_state_dict_from_url(address)",
]


@pytest.mark.parametrize("source", PLANTED)
def test_a_planted_loader_of_pickles_is_found(source):
    assert len(code_loaders(source)) == 1
    assert code_loaders("model.eval()\nnp.load(path)\nclaims.load(path)\nquantise.extracted(x)") == []


PACKAGE = sorted((ROOT / "llmcourse").rglob("*.py")) + sorted((ROOT / "book" / "_ext").rglob("*.py"))


def test_no_pickle_is_loaded_and_no_archive_is_unpacked_onto_the_disk_anywhere_in_the_package():
    found = {str(path.relative_to(ROOT)): code_loaders(path.read_text(encoding="utf-8")) for path in PACKAGE}
    assert len(found) > 100
    assert {path: faults for path, faults in found.items() if faults} == {}
