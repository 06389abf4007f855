"""A file is whole or not there, and text is UTF-8 or an error names the byte."""

import os
import stat
import subprocess
import sys

import pytest

from llmcourse import files
from llmcourse.files import home, read_text, write_atomically


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
