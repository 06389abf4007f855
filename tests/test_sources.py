"""What is downloaded is checked, whole and harmless, or it is not used; own files are paired line by line."""

import gzip
import hashlib
import http.server
import io
import random
import re
import socket
import stat
import tarfile
import threading
import tracemalloc
import zipfile
from contextlib import suppress
from urllib import request

import pytest

from llmcourse import sources
from llmcourse.files import home
from llmcourse.sources import catalogue, fetch, lines_of, load_parallel, paired, read_parallel, text_of

ENGLISH, GERMAN = "a dog\ntwo cats\n", "ein Hund\nzwei Katzen\n"
TABLE = "a dog\tein Hund\tCC\ntwo cats\tzwei Katzen\tCC\n"
PAIRS = [("a dog", "ein Hund"), ("two cats", "zwei Katzen")]


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return file.getvalue()


def tarred(*entries):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(text), "elsewhere"
            archive.addfile(entry, io.BytesIO(text.encode()))
    return file.getvalue()


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sources, "PAUSE", 0.0)


class Served:
    """What a small server on this machine answers: `files` by path, and how often each was asked for.

    cuts: how many answers break off before the next one is whole; -1 is all. silent: how many end before they begin.
    says: the length that is announced, in place of the true one; None announces nothing. moved: where else to look.
    """

    def __init__(self):
        self.files, self.asked, self.cuts, self.silent, self.says, self.moved = {}, [], {}, {}, {}, {}
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                served.asked.append(self.path)
                if self.path in served.moved:
                    self.send_response(302)
                    self.send_header("Location", served.moved[self.path])
                    self.end_headers()
                    return
                if served.silent.get(self.path):
                    served.silent[self.path] -= 1
                    return
                content = served.files.get(self.path)
                self.send_response(404 if content is None else 200)
                if (length := served.says.get(self.path, len(content or b""))) is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                cut = served.cuts.get(self.path, 0)
                served.cuts[self.path] = cut - (cut > 0)
                self.wfile.write((content or b"")[: -3 if cut else None])

            def log_message(self, *arguments):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})


@pytest.fixture
def served():
    served = Served()
    served.thread.start()
    yield served
    served.server.shutdown()
    served.thread.join()
    served.server.server_close()


def entry(served, source, target, **more):
    sides = {"source": {"address": f"{served.address}/{source}"}, "target": {"address": f"{served.address}/{target}"}}
    for side, column in more.pop("columns", {}).items():
        sides[side]["column"] = column
    for side in sides:
        sides[side] |= more
    return {"small": {"languages": ["en", "de"], "licence": "ours", "twin": "lojic"} | sides}


def downloads():
    folder = home() / "downloads"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_two_files_become_pairs_and_are_fetched_once(served):
    served.files |= {"/a.en.gz": gzip.compress(ENGLISH.encode()), "/a.de": GERMAN.encode()}
    known = entry(served, "a.en.gz", "a.de")
    first, again = (load_parallel("small", known=known) for _ in range(2))
    assert first.pairs == again.pairs == PAIRS
    assert first.sources == ["a dog", "two cats"]
    assert first.targets == ["ein Hund", "zwei Katzen"]
    assert served.asked == ["/a.en.gz", "/a.de"]
    assert (
        repr(first) == "small: 2 pairs, en to de; from 127.0.0.1:" + served.address.split(":")[-1] + ", licence: ours"
    )


@pytest.mark.parametrize("name", ["t.zip", "t.tar.gz"])
def test_two_columns_of_a_table_in_an_archive_become_pairs(served, name):
    whole = {
        "t.zip": zipped(about_txt="x", deu_txt=TABLE),
        "t.tar.gz": tarred(("deu.txt", TABLE, tarfile.REGTYPE), ("more", "", tarfile.DIRTYPE)),
    }
    served.files[f"/{name}"] = whole[name]
    known = entry(served, name, name, member="deu.txt", columns={"source": 0, "target": 1})
    assert load_parallel("small", known=known).pairs == PAIRS
    assert len(served.asked) == 1
    with pytest.raises(ValueError, match=r"line 1 of .* has no column 3"):
        load_parallel("small", known=entry(served, name, name, member="deu.txt", columns={"source": 0, "target": 3}))


def test_without_an_answer_the_twin_comes_and_says_so(served, without_shape_checks):
    known = entry(served, "nowhere.en", "nowhere.de")
    found = load_parallel("small", known=known)
    assert len(found.pairs) == 3000
    assert repr(found).startswith("lojic: 3,000 pairs, en to lojic; the generated twin of small, which could not")
    assert "404" in found.origin
    assert all(isinstance(text, str) and text for pair in found.pairs for text in pair)
    with pytest.raises(ConnectionError, match="small could not be fetched"):
        load_parallel("small", known=known, offline_ok=False)
    assert downloads() == []


def test_a_file_with_another_checksum_is_refused_and_not_kept(served):
    served.files["/a.en"] = served.files["/a.de"] = ENGLISH.encode()
    known = entry(served, "a.en", "a.de", sha256="0" * 64)
    with pytest.raises(
        ValueError, match=rf"a\.en has the SHA-256 {hashlib.sha256(ENGLISH.encode()).hexdigest()}, not 000"
    ):
        load_parallel("small", known=known)
    assert downloads() == []
    right = entry(served, "a.en", "a.de", sha256=hashlib.sha256(ENGLISH.encode()).hexdigest())
    assert load_parallel("small", known=right).sources == ["a dog", "two cats"]


def test_the_first_download_is_remembered_and_another_one_later_refused(served):
    served.files["/a.txt"] = b"first"
    path = fetch(f"{served.address}/a.txt")
    assert path.read_bytes() == b"first"
    path.unlink()
    served.files["/a.txt"] = b"other"
    with pytest.raises(ValueError, match=r"not .*: it is not used; if it was changed on purpose, delete .*\.sha256"):
        fetch(f"{served.address}/a.txt")
    assert not path.exists()
    path.write_bytes(b"tampered")
    with pytest.raises(ValueError, match=r"in the cache has the SHA-256 .*; delete it to fetch it again"):
        fetch(f"{served.address}/a.txt")


@pytest.mark.slow
def test_a_download_that_breaks_off_leaves_nothing(served, without_shape_checks):
    served.files["/a.txt"], served.cuts = b"0123456789", {"/a.txt": -1}
    with pytest.raises((OSError, sources.HTTPException)):
        fetch(f"{served.address}/a.txt")
    assert downloads() == []
    assert len(served.asked) == 3
    assert load_parallel("small", known=entry(served, "a.txt", "a.txt")).name == "lojic"
    served.cuts = {}
    assert fetch(f"{served.address}/a.txt").read_bytes() == b"0123456789"


@pytest.mark.parametrize("fault", ["cuts", "silent"])
def test_a_connection_that_is_cut_twice_is_tried_a_third_time_and_what_comes_is_whole(served, fault):
    served.files["/a.txt"] = content = bytes(range(256)) * 400
    getattr(served, fault)["/a.txt"] = 2
    assert fetch(f"{served.address}/a.txt", hashlib.sha256(content).hexdigest()).read_bytes() == content
    assert len(served.asked) == 3


def test_a_host_that_is_not_there_is_asked_once_so_that_offline_is_quick(served, monkeypatch):
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: pytest.fail("it was asked again"))
    with pytest.raises(OSError, match="404"):
        fetch(f"{served.address}/nothing.txt")
    assert len(served.asked) == 1
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/a.txt")


@pytest.mark.parametrize("says", [10, 3, None, 500_000_000_000])
def test_a_file_that_is_too_large_is_refused_whatever_it_says_of_its_size(served, monkeypatch, says):
    monkeypatch.setattr(sources, "LARGEST", 5)
    served.files["/a.txt"], served.says["/a.txt"] = b"0123456789", says
    if says == 3:  # no more than was announced is read
        assert fetch(f"{served.address}/a.txt").read_bytes() == b"012"
        return
    with pytest.raises(ValueError, match="larger than 5 bytes"):
        fetch(f"{served.address}/a.txt")
    assert downloads() == []


@pytest.mark.parametrize("says", [10, None])
@pytest.mark.parametrize("size", [9, 11])
def test_a_file_of_another_size_is_refused_and_not_kept(served, says, size):
    served.files["/a.txt"], served.says["/a.txt"] = b"0123456789", says
    with pytest.raises(ValueError, match=rf"a\.txt has 10 bytes, not {size}: it is not used"):
        fetch(f"{served.address}/a.txt", size=size)
    assert downloads() == []
    assert fetch(f"{served.address}/a.txt", size=10).read_bytes() == b"0123456789"


def test_a_length_that_is_no_number_is_passed_over(served):
    served.files["/a.txt"], served.says["/a.txt"] = b"0123456789", "many"
    assert fetch(f"{served.address}/a.txt").read_bytes() == b"0123456789"


@pytest.mark.parametrize("address", ["http://example.org/a.txt", "ftp://example.org/a", "file:///etc/hosts", "a.txt"])
def test_only_https_is_asked(address):
    with pytest.raises(ValueError, match="is no https address"):
        fetch(address)


def test_a_redirection_may_not_leave_https(served):
    served.moved["/a.txt"] = "http://example.org/a.txt"
    with pytest.raises(ValueError, match=r"http://example\.org/a\.txt is no https address"):
        fetch(f"{served.address}/a.txt")
    asked = request.Request("https://example.org/a.txt")
    with pytest.raises(ValueError, match=r"http://example\.org/b\.txt is no https address"):
        sources._Redirects().redirect_request(asked, None, 302, "", {}, "http://example.org/b.txt")


@pytest.mark.parametrize("elsewhere", ["https://example.org/a.txt", "http://localhost:{port}/b.txt"])
def test_a_redirection_may_not_lead_to_another_host(served, elsewhere):
    served.files["/b.txt"] = b"theirs"
    served.moved["/a.txt"] = elsewhere.format(port=served.server.server_port)
    with pytest.raises(ValueError, match=rf"another host, {re.escape(served.moved['/a.txt'])}: it is not used"):
        fetch(f"{served.address}/a.txt", hashlib.sha256(b"theirs").hexdigest())
    assert served.asked == ["/a.txt"]
    assert downloads() == []


def test_a_redirection_on_the_same_host_is_followed_and_one_in_a_circle_ends(served):
    served.files["/b.txt"] = b"moved"
    served.moved |= {"/a.txt": "/b.txt", "/round.txt": "/round.txt"}
    assert fetch(f"{served.address}/a.txt").read_bytes() == b"moved"
    with pytest.raises(OSError, match="redirect"):
        fetch(f"{served.address}/round.txt")


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "C:/evil.txt", "..\\evil.txt"])
def test_an_archive_whose_members_escape_is_refused(tmp_path, name):
    good = ("good.txt", "fine", tarfile.REGTYPE)
    (tmp_path / "t.tar.gz").write_bytes(tarred(good, (name, "evil", tarfile.REGTYPE)))
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("good.txt", "fine")
        archive.writestr(name, "evil")
    for file in ("t.tar.gz", "t.zip"):
        with pytest.raises(ValueError, match=r"evil\.txt', which would be written outside its folder"):
            text_of(tmp_path / file, "good.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.tar.gz", "t.zip"]


KINDS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_with_links_or_devices_is_refused(tmp_path, kind):
    (tmp_path / "t.tar.gz").write_bytes(tarred(("good.txt", "fine", tarfile.REGTYPE), ("odd", "", kind)))
    with pytest.raises(ValueError, match=r"t\.tar\.gz holds 'odd', which is no plain file"):
        text_of(tmp_path / "t.tar.gz", "good.txt")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_a_zip_archive_with_links_or_devices_is_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("good.txt", "fine")
        odd = zipfile.ZipInfo("odd")
        odd.create_system, odd.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(odd, "/etc/passwd")
    with pytest.raises(ValueError, match=r"t\.zip holds 'odd', which is no plain file"):
        text_of(tmp_path / "t.zip", "good.txt")


@pytest.mark.parametrize("name", ["t.zip", "t.tar.gz", "t.txt.gz"])
def test_an_archive_that_unpacks_to_more_than_anyone_needs_is_refused_before_it_fills_the_memory(
    tmp_path, monkeypatch, name
):
    bomb = "0" * 10_000_000
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep/a.txt", bomb)
    (tmp_path / "t.tar.gz").write_bytes(
        tarred(("small.txt", "x", tarfile.REGTYPE), ("deep/a.txt", bomb, tarfile.REGTYPE))
    )
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(bomb.encode()))
    monkeypatch.setattr(sources, "LARGEST", 1_000_000)
    assert (tmp_path / name).stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"what is packed in .*{re.escape(name)} is larger than 1,000,000 bytes"):
        text_of(tmp_path / name, "deep/a.txt" if name != "t.tar.gz" else "small.txt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000, "it was unpacked all the same"


def test_a_folder_is_no_member_and_a_locked_archive_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.mkdir("folder")
        archive.writestr("a.txt", "fine")
    (tmp_path / "t.tar.gz").write_bytes(tarred(("folder", "", tarfile.DIRTYPE)))
    for name, member in (("t.zip", "folder/"), ("t.tar.gz", "folder")):
        with pytest.raises(ValueError, match=rf"{name} holds no '{member}'"):
            text_of(tmp_path / name, member)
    content = bytearray((tmp_path / "t.zip").read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1  # the mark of an encrypted member
    (tmp_path / "t.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"is a damaged archive .*encrypted"):
        text_of(tmp_path / "t.zip", "a.txt")


@pytest.mark.parametrize("name", ["t.zip", "t.tar.gz", "t.gz", "t.tar"])
def test_an_archive_with_any_byte_changed_gives_a_text_or_an_error_that_names_it(tmp_path, name):
    text = "".join(random.Random(0).choices("abcdefgh \n", k=600))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", text)
    packed = tarred(("a.txt", text, tarfile.REGTYPE))
    whole = {
        "t.zip": file.getvalue(),
        "t.tar.gz": packed,
        "t.gz": gzip.compress(text.encode()),
        "t.tar": gzip.decompress(packed),
    }
    content, draw, refused = whole[name], random.Random(name), 0
    for _ in range(150):
        at, changed = draw.randrange(min(len(content), 1500)), bytearray(content)
        changed[at] ^= 1 << draw.randrange(8)
        (tmp_path / name).write_bytes(changed)
        with suppress(ValueError):
            found = text_of(tmp_path / name, "a.txt")
            assert found == text or name == "t.tar", f"byte {at} changed the text, and nothing noticed"
            continue
        with pytest.raises(ValueError, match=rf"^(.*{re.escape(name)}|a\.txt is not UTF-8).*$"):
            text_of(tmp_path / name, "a.txt")
        refused += 1
    assert refused > 50


@pytest.mark.parametrize("name", ["t.zip", "t.tar.gz", "t.gz"])
def test_a_damaged_archive_and_a_missing_member_say_so(tmp_path, name):
    whole = {
        "t.zip": zipped(a_txt="x"),
        "t.tar.gz": tarred(("a.txt", "x", tarfile.REGTYPE)),
        "t.gz": gzip.compress(b"x"),
    }
    (tmp_path / name).write_bytes(whole[name][: len(whole[name]) // 2])
    with pytest.raises(ValueError, match="is a damaged archive"):
        text_of(tmp_path / name, "a.txt")
    if name != "t.gz":
        (tmp_path / name).write_bytes(whole[name])
        with pytest.raises(ValueError, match=r"holds no 'b\.txt', but a\.txt"):
            text_of(tmp_path / name, "b.txt")


def test_text_that_is_not_utf_8_names_the_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8 at byte 3"):
        text_of(tmp_path / "a.txt")


def test_the_catalogue_holds_what_a_loader_needs():
    known = catalogue()
    assert {"multi30k", "tatoeba-de", "tatoeba-zh"} <= known.keys()
    for one in known.values():
        assert one["licence"] and len(one["languages"]) == 2 and one["about"].startswith("https://")
        for side in ("source", "target"):
            assert one[side]["address"].startswith("https://")
            assert ("member" in one[side]) == one[side]["address"].endswith(".zip")
            assert len(one[side].get("sha256", "0" * 64)) == 64
    with pytest.raises(ValueError, match="'wmt' is none of the known data sets: multi30k"):
        load_parallel("wmt")


def test_own_files_are_paired_line_by_line(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeff a dog \r\ntwo cats", encoding="utf-8")
    (tmp_path / "b.txt").write_text(GERMAN, encoding="utf-8")
    assert read_parallel(tmp_path / "a.txt", tmp_path / "b.txt") == PAIRS


def test_only_the_ends_of_lines_cut_a_text():
    assert lines_of("a\u2028b\x0cc\x85\r\nd\re\n\nf") == ["a\u2028b\x0cc\x85", "d", "e", "", "f"]
    assert lines_of("a\n") == ["a"]


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (["a"], ["b", "c"], "x has 1 lines and y has 2"),
        (["a", " "], ["b", "c"], "line 2 of x is empty"),
        (["a", "b"], ["", "c"], "line 1 of y is empty"),
    ],
)
def test_lines_that_do_not_fit_are_named(source, target, words):
    with pytest.raises(ValueError, match=words):
        paired(source, target, names=("x", "y"))
