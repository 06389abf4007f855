"""Text from outside: public data sets, fetched once and checked, and parallel text files of your own.

A download is read over https, compared with its SHA-256 and only then written, whole or not at all, into the folder
`downloads` of `files.home()`. `sources.toml` holds the addresses and the licences. For a file whose checksum is not known
there, the checksum of the first download is kept beside it, and whatever comes later must be the same: that shows a file
which changed, not one that was false from the beginning. Nothing that is fetched is unpacked onto the disk or run.

Without a network `load_parallel` gives the generated twin, in the same form, and says so.
"""

import gzip
import hashlib
import io
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib import request
from urllib.parse import urlsplit

from llmcourse.corpora import lojic
from llmcourse.files import home, read_text, write_atomically

LOCAL = {"127.0.0.1", "localhost", "::1"}  # this machine itself may be asked without https
LARGEST = 500_000_000  # bytes; more is none of these texts
TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class ParallelText:
    """Sentences with their translations; prints as what it is and where it comes from."""

    name: str
    pairs: list[tuple[str, str]]
    languages: tuple[str, str]
    licence: str
    origin: str  # a sentence: which text this is, and why

    @property
    def sources(self) -> list[str]:
        return [source for source, _ in self.pairs]

    @property
    def targets(self) -> list[str]:
        return [target for _, target in self.pairs]

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.pairs):,} pairs, {' to '.join(self.languages)}; {self.origin}"


def catalogue(path: Path | str | None = None) -> dict[str, dict]:
    """The tables of `sources.toml`, or of another file of the same form, by name."""
    return tomllib.loads(read_text(path or Path(__file__).with_name("sources.toml")))


def load_parallel(
    name: str, *, offline_ok: bool = True, known: Mapping[str, dict] | None = None, timeout: float = TIMEOUT
) -> ParallelText:
    """A public data set of sentences and their translations, such as "multi30k"; `catalogue()` lists all.

    Fetched once, then read from the cache. When it cannot be reached and `offline_ok`, the generated twin comes in its
    place, and the object that is returned says which of both it is. Raises ValueError when what came is not what was
    expected: that is never passed over.
    """
    known = catalogue() if known is None else known
    if name not in known:
        raise ValueError(f"{name!r} is none of the known data sets: {', '.join(known)}")
    entry = known[name]
    try:
        sides = [_lines(entry[side], timeout) for side in ("source", "target")]
    except (OSError, HTTPException) as error:
        if not offline_ok:
            raise ConnectionError(f"{name} could not be fetched ({error}); try again with a network") from error
        return _twin(name, f"{type(error).__name__}: {error}")
    origin = f"from {urlsplit(entry['source']['address']).netloc}, licence: {entry['licence']}"
    return ParallelText(name, paired(*sides, names=(name, name)), tuple(entry["languages"]), entry["licence"], origin)


def _twin(name: str, reason: str) -> ParallelText:
    pairs = [(" ".join(pair.source), " ".join(pair.target)) for pair in lojic.corpus().train]
    origin = f"the generated twin of {name}, which could not be reached ({reason})"
    return ParallelText("lojic", pairs, ("en", "lojic"), "part of this course", origin)


def read_parallel(source: Path | str, target: Path | str) -> list[tuple[str, str]]:
    """The pairs of two UTF-8 text files of your own, line by line.

    Raises ValueError when a file is not UTF-8, the numbers of lines differ, or a line is empty.
    """
    sides = [lines_of(read_text(path)) for path in (source, target)]
    return paired(*sides, names=(str(source), str(target)))


def lines_of(text: str) -> list[str]:
    """The lines of a text as an editor counts them. (`str.splitlines` would also cut at rarer characters.)"""
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None)]


def paired(source: list[str], target: list[str], *, names: tuple[str, str]) -> list[tuple[str, str]]:
    """Each line with its translation; ValueError says where they do not fit."""
    if len(source) != len(target):
        raise ValueError(
            f"{names[0]} has {len(source)} lines and {names[1]} has {len(target)}: line n of one must be the "
            "translation of line n of the other"
        )
    for lines, name in zip((source, target), names, strict=True):
        empty = next((number for number, line in enumerate(lines, start=1) if not line.strip()), None)
        if empty:
            raise ValueError(f"line {empty} of {name} is empty; delete it in both files, or write its sentence")
    return [(a.strip(), b.strip()) for a, b in zip(source, target, strict=True)]


def _lines(side: Mapping, timeout: float) -> list[str]:
    """The sentences of one side of a data set: lines of a file, or one column of a table."""
    path = fetch(side["address"], side.get("sha256"), timeout)
    lines = lines_of(text_of(path, side.get("member")))
    if "column" not in side:
        return lines
    rows = [line.split("\t") for line in lines]
    short = next((number for number, row in enumerate(rows, start=1) if len(row) <= side["column"]), None)
    if short:
        raise ValueError(f"line {short} of {path.name} has no column {side['column']}: it is another table")
    return [row[side["column"]] for row in rows]


def fetch(address: str, sha256: str | None = None, timeout: float = TIMEOUT) -> Path:
    """The file of an address: from the cache, or downloaded. Its content has the checksum, known or first seen.

    Raises ValueError for another content and for an address that is not https, OSError when there is no answer.
    """
    _check_address(address)
    name = PurePosixPath(urlsplit(address).path).name or "file"
    path = home() / "downloads" / f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{name}"
    record = path.with_name(f"{path.name}.sha256")
    expected = sha256 or (record.read_text(encoding="ascii").strip() if record.exists() else None)
    if path.exists():
        _check_content(path.read_bytes(), expected, f"{path} in the cache", "delete it to fetch it again")
        return path
    content = _download(address, timeout)
    found = _check_content(content, expected, address, f"if it was changed on purpose, delete {record}")
    write_atomically(record, found.encode())
    write_atomically(path, content)
    return path


def _check_content(content: bytes, expected: str | None, what: str, advice: str) -> str:
    found = hashlib.sha256(content).hexdigest()
    if expected not in (None, found):
        raise ValueError(f"{what} has the SHA-256 {found}, not {expected}: it is not used; {advice}")
    return found


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL)):
        raise ValueError(f"{address} is no https address, and could be changed by anyone on the way")


class _Redirects(request.HTTPRedirectHandler):
    """A redirection may not lead away from https either."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(address: str, timeout: float) -> bytes:
    """All bytes of the answer. Raises when it breaks off: http.client compares with the length that was announced."""
    asked = request.Request(address, headers={"User-Agent": "llmcourse"})
    with request.build_opener(_Redirects).open(asked, timeout=timeout) as answer:
        content = answer.read(LARGEST + 1)
        announced = answer.headers.get("Content-Length")
    if announced is not None and len(content) < min(int(announced), LARGEST):
        raise ConnectionError(f"{address} broke off after {len(content)} of {announced} bytes")
    if len(content) > LARGEST:
        raise ValueError(f"{address} is larger than {LARGEST:,} bytes: it is not used")
    return content


def text_of(path: Path, member: str | None = None) -> str:
    """The UTF-8 text of a file, of a gzipped file, or of one member of a zip or tar archive. Nothing is unpacked to disk.

    Raises ValueError for an archive with a member that would land outside the folder it is unpacked into: whoever made
    it meant harm.
    """
    content = path.read_bytes()
    try:
        if path.name.endswith(".zip"):
            content = _zip_member(content, member)
        elif path.name.endswith((".tar.gz", ".tgz", ".tar")):
            content = _tar_member(content, member)
        elif path.name.endswith(".gz"):
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST)
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is a damaged archive ({error}); delete it to fetch it again") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{member or path} is not UTF-8 at byte {error.start}") from None


def _zip_member(content: bytes, member: str | None) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        _check_members(names, member)
        with archive.open(member) as file:
            return file.read(LARGEST)


def _tar_member(content: bytes, member: str | None) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()
        links = [entry.name for entry in members if not (entry.isfile() or entry.isdir())]
        if links:
            raise ValueError(f"the archive holds {links[0]!r}, which is no plain file: it is not used")
        _check_members([entry.name for entry in members], member)
        return archive.extractfile(member).read(LARGEST)


def _check_members(names: list[str], member: str | None) -> None:
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise ValueError(f"the archive holds {name!r}, which would be written outside its folder: it is not used")
    if member not in names:
        raise ValueError(f"the archive holds no {member!r}, but {', '.join(names[:5])}")
