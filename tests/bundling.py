"""The built book as one file to take along: `python -m tests.bundling`, after `make book`, or `make bundle`.

Unpacked, it opens from a disk by `index.html`, with all views, the search and the playground, and asks for no network. The
same book gives the same bytes: names are sorted, and all files bear the earliest day that the format knows.
"""

import sys
import zipfile
from pathlib import Path

from tests.browsing import BOOK, ROOT

TARGET = ROOT / "_build/llmcourse-book.zip"
FOLDER = "llmcourse-book"  # into which it unpacks
EARLIEST = (1980, 1, 1, 0, 0, 0)
# What builds a page again but shows nothing: the builder's stamps, and maps of scripts for the theme's authors.
LEFT_OUT = {".built", ".buildinfo", "objects.inv", "book-parts.json"}


def bundled(book: Path) -> list[Path]:
    """The files of the built book that a reader needs, sorted. Raises ValueError when there is no book."""
    if not (book / "index.html").is_file():
        raise ValueError(f"{book} holds no book: run 'make book' first")
    found = (path for path in book.rglob("*") if path.is_file() and path.name not in LEFT_OUT and path.suffix != ".map")
    return sorted(found, key=lambda path: path.relative_to(book).as_posix())


def pack(book: Path, target: Path) -> None:
    """Write the bundle of a built book."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in bundled(book):
            member = zipfile.ZipInfo(f"{FOLDER}/{path.relative_to(book).as_posix()}", EARLIEST)
            member.external_attr, member.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes(), compresslevel=9)


def main(target: Path = TARGET, book: Path = BOOK) -> None:
    pack(book, target)
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB, {len(bundled(book))} files")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
