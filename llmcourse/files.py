"""Files that are either whole or not there: writing atomically, and reading text."""

import os
import tempfile
from pathlib import Path


def home() -> Path:
    """Where progress and downloads are kept: the folder in LLMCOURSE_HOME, else `.llmcourse` in your home folder."""
    return Path(os.environ.get("LLMCOURSE_HOME") or Path.home() / ".llmcourse")


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write the whole file or nothing: a crash at any moment leaves the old file as it was.

    A temporary file in the same folder is written, flushed to the disk and renamed. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
