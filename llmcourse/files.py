"""Files that are either whole or not there: writing atomically, and reading text."""

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def home() -> Path:
    """Where progress and downloads are kept: the folder in LLMCOURSE_HOME, else `.llmcourse` in your home folder."""
    return Path(os.environ.get("LLMCOURSE_HOME") or Path.home() / ".llmcourse")


class NotWritten(OSError):
    """A file could not be written; what stood in its place is as it was."""


def write_atomically(path: Path | str, content: bytes, *, keep: Path | None = None) -> None:
    """Write the whole file or nothing: a crash at any moment leaves the old file as it was.

    keep: a second name, which gets what the file held until now, once the new content is safely on the disk.

    A temporary file in the same folder is written, flushed to the disk and renamed. Missing folders are made. What an
    earlier writer of this file left behind when it was killed is removed. Raises NotWritten when the disk is full, the
    folder is read-only, or there can be none.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        _replace(path, content, keep)
    except OSError as error:
        raise _not_written(path, error) from error


def require_writable(path: Path | str) -> None:
    """Raise NotWritten unless a file could be written here now. Nothing is left, and no folder is made."""
    path = Path(path)
    if path.is_dir():
        raise NotWritten(f"{path} is a folder, and a file is to be written there; give the name of a file in it")
    try:
        folder = next(one for one in path.absolute().parents if one.exists())
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise _not_written(path, error) from error


def _keep_content(path: Path, copy: Path) -> None:
    """Let a second name hold what a file holds now: a hard link, or a copy where there are none. It always holds something."""
    link = path.with_name(f"{path.name}.previous.part")  # if we are killed here, the next writer removes it
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, copy)
        link.unlink(missing_ok=True)  # it is still there when both names were one file already
    except OSError:
        write_atomically(copy, path.read_bytes())


def _not_written(path: Path, error: OSError) -> NotWritten:
    in_the_way = next((one for one in path.absolute().parents if one.is_file()), None)
    reason = f"{in_the_way} is a file, not a folder" if in_the_way else error.strerror or str(error)
    return NotWritten(
        f"{path} could not be written ({reason}); free some space there, or choose a folder that you may write to. "
        "What stood there is as it was"
    )


def _replace(path: Path, content: bytes, keep: Path | None) -> None:
    handle, temporary = _locked_temporary(path)
    try:
        file = os.fdopen(handle, "wb")
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file; elsewhere the lock must last until it has its name
            os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
            if keep is not None and path.exists():
                _keep_content(path, keep)
            os.replace(temporary, path)
        finally:
            file.close()
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _locked_temporary(path: Path) -> tuple[int, str]:
    """A new file beside this one. Its lock ends with its writer, however that ends, and so tells whether one is left."""
    while True:
        handle, temporary = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: then nothing is ever taken for abandoned
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # before it was locked, another process took it for abandoned


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of writers of this file that were killed."""
    if fcntl is None:
        return
    of_this_file = re.compile(re.escape(path.name) + r"\.[a-z0-9_]{8}\.part")
    for other in [one for one in path.parent.iterdir() if of_this_file.fullmatch(one.name)]:
        with suppress(OSError), open(other, "r+b") as file:  # an error: it is gone, or its writer lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            other.unlink(missing_ok=True)


def read_text(path: Path | str) -> str:
    """The text of a UTF-8 file. Raises ValueError with the byte at fault when it is not UTF-8, or when it is empty."""
    content = Path(path).read_bytes()
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")  # some editors begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {content[error.start]:#04x} at position {error.start}; "
            "save it as UTF-8 in your editor, or convert it with `iconv -t UTF-8`"
        ) from None
    if not text.strip():
        raise ValueError(f"{path} holds no text; give a file with something to learn from")
    return text
