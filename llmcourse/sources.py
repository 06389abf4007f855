"""Text from outside: public data sets, fetched once and checked, and parallel text files of your own.

A download is read over https from the very host that was named, compared with its size and its SHA-256 and only then
written, whole or not at all, into the folder `downloads` of `files.home()`. When the connection is cut, it is asked for
again. `sources.toml` holds the addresses and the licences. For a file whose checksum is not known there, the checksum of
the first download is kept beside it, and whatever comes later must be the same: that shows a file which changed, not one
that was false from the beginning. Nothing that is fetched is unpacked onto the disk or run.

Without a network `load_parallel` gives the generated twin, in the same form, and says so.
"""

import gzip
import hashlib
import io
import lzma
import stat
import struct
import tarfile
import time
import tomllib
import zipfile
import zlib
from collections.abc import Collection, Mapping
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
TRIES = 3  # how often an address is asked when the connection is cut; one that cannot be reached is asked once
PAUSE = 1.0  # seconds before the second try, twice that before the third
DAMAGED = (  # what the unpackers raise when a byte is not what it was
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class Refused(ValueError):
    """What came is not what was expected, or means harm: it is not used."""


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
        """The sentences that are translated, in order."""
        return [source for source, _ in self.pairs]

    @property
    def targets(self) -> list[str]:
        """Their translations, in the same order."""
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
    expected, which is never passed over: Refused, a kind of it, for a file that is another one or means harm.
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
    path = fetch(side["address"], side.get("sha256"), timeout, size=side.get("bytes"))
    lines = lines_of(text_of(path, side.get("member")))
    if "column" not in side:
        return lines
    rows = [line.split("\t") for line in lines]
    short = next((number for number, row in enumerate(rows, start=1) if len(row) <= side["column"]), None)
    if short:
        raise ValueError(f"line {short} of {path.name} has no column {side['column']}: it is another table")
    return [row[side["column"]] for row in rows]


def fetch(address: str, sha256: str | None = None, timeout: float = TIMEOUT, *, size: int | None = None) -> Path:
    """The file of an address: from the cache, or downloaded. Its content has the checksum, known or first seen.

    size: in bytes, where it is known; an answer of another one is not even read.

    Raises ValueError for another content, an address that is not https, and a host that sends us on to another one;
    OSError or http.client.HTTPException when there is no whole answer.
    """
    _check_address(address)
    name = PurePosixPath(urlsplit(address).path).name or "file"
    path = home() / "downloads" / f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{name}"
    record = path.with_name(f"{path.name}.sha256")
    expected = sha256 or (record.read_text(encoding="ascii").strip() if record.exists() else None)
    if path.exists():
        _check_content(path.read_bytes(), expected, f"{path} in the cache", "delete it to fetch it again")
        return path
    content = _download(address, timeout, size)
    found = _check_content(content, expected, address, f"if it was changed on purpose, delete {record}")
    write_atomically(record, found.encode())
    write_atomically(path, content)
    return path


def _check_content(content: bytes, expected: str | None, what: str, advice: str) -> str:
    found = hashlib.sha256(content).hexdigest()
    if expected not in (None, found):
        raise Refused(f"{what} has the SHA-256 {found}, not {expected}: it is not used; {advice}")
    return found


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL)):
        raise Refused(f"{address} is no https address, and could be changed by anyone on the way")


class _Redirects(request.HTTPRedirectHandler):
    """A redirection may lead away neither from https nor from the host that was named."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check_address(newurl)
        asked, sent_to = urlsplit(req.full_url).hostname, urlsplit(newurl).hostname
        if sent_to != asked:
            raise Refused(
                f"{req.full_url} sends us on to another host, {newurl}: it is not used; if you trust that one, name it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(address: str, timeout: float, size: int | None = None) -> bytes:
    """All bytes of the answer; the connection may be cut all but once."""
    for tried in range(1, TRIES):
        try:
            return _answer(address, timeout, size)
        except (HTTPException, ConnectionError):
            time.sleep(PAUSE * tried)
    return _answer(address, timeout, size)


def _answer(address: str, timeout: float, size: int | None) -> bytes:
    """All bytes of one answer. Raises ConnectionError when it breaks off: its length was announced."""
    asked = request.Request(address, headers={"User-Agent": "llmcourse"})
    with request.build_opener(_Redirects).open(asked, timeout=timeout) as answer:
        said = answer.headers.get("Content-Length") or ""
        announced = int(said) if said.isascii() and said.isdigit() else None
        _check_size(announced, size, address)
        content = answer.read(LARGEST + 1)
    if announced is not None and len(content) < announced:
        raise ConnectionError(f"{address} broke off after {len(content)} of {announced} bytes")
    _check_size(len(content), size, address)
    return content


def _check_size(found: int | None, size: int | None, what: Path | str) -> None:
    if found is not None and found > LARGEST:
        raise Refused(f"{what} is larger than {LARGEST:,} bytes: it is not used")
    if None not in (found, size) and found != size:
        raise Refused(f"{what} has {found:,} bytes, not {size:,}: it is not used")


def text_of(path: Path, member: str | None = None) -> str:
    """The UTF-8 text of a file, of a gzipped file, or of one member of a zip or tar archive. Nothing is unpacked to disk.

    Raises ValueError for an archive with a member that would land outside the folder it is unpacked into, or is a link or
    a device: whoever made it meant harm. So did who packed more than LARGEST bytes.
    """
    content = path.read_bytes()
    try:
        if path.name.endswith(".zip"):
            content = _zip_member(content, member, path)
        elif path.name.endswith((".tar.gz", ".tgz")):
            content = _tar_member(_gunzipped(content, path), member, path)
        elif path.name.endswith(".tar"):
            content = _tar_member(content, member, path)
        elif path.name.endswith(".gz"):
            content = _gunzipped(content, path)
    except Refused:
        raise
    except DAMAGED as error:
        raise Refused(f"{path} is a damaged archive ({error}); delete it to fetch it again") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{member or path} is not UTF-8 at byte {error.start}") from None


def _gunzipped(content: bytes, path: Path) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return _all_of(file, path)


def _all_of(file: io.BufferedIOBase, what: Path | str) -> bytes:
    """What a packed file holds; not a byte more than LARGEST is unpacked, whatever it says of its size."""
    content = file.read(LARGEST + 1)
    _check_size(len(content), None, f"what is packed in {what}")
    return content


def _zip_member(content: bytes, member: str | None, path: Path) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        _check_kinds([one.filename for one in entries if _is_odd(one.external_attr >> 16)], path)
        _check_members(
            [one.filename for one in entries], [one.filename for one in entries if not one.is_dir()], member, path
        )
        with archive.open(member) as file:
            return _all_of(file, path)


def _is_odd(mode: int) -> bool:
    """Whether the mode of a member, where there is one, is that of a link, a device or the like."""
    return stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)


def _tar_member(content: bytes, member: str | None, path: Path) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        members = archive.getmembers()
        _check_kinds([one.name for one in members if not (one.isfile() or one.isdir())], path)
        _check_members([one.name for one in members], [one.name for one in members if one.isfile()], member, path)
        return _all_of(archive.extractfile(member), path)


def _check_kinds(odd: list[str], path: Path) -> None:
    if odd:
        raise Refused(f"{path} holds {odd[0][:80]!r}, which is no plain file: it is not used")


def _check_members(names: list[str], files: Collection[str], member: str | None, path: Path) -> None:
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise Refused(f"{path} holds {name[:80]!r}, which would be written outside its folder: it is not used")
    if member not in files:
        listed = ", ".join(ascii(name[:40]).strip("'\"") for name in names[:5]) or "nothing"
        raise Refused(f"{path} holds no {member!r}, but {listed}")
