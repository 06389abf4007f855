"""The bundle: one file that unpacks into the whole book, works from a disk, and is the same for the same book."""

import os
import zipfile

import pytest

from tests.browsing import BOOK, Visitor
from tests.bundling import FOLDER, bundled, pack


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The bundle of the built book, unpacked in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("on a disk")
    pack(BOOK, folder / "book.zip")
    assert (folder / "book.zip").stat().st_size < 20_000_000
    with zipfile.ZipFile(folder / "book.zip") as archive:
        archive.extractall(folder)
    return folder / FOLDER


@pytest.fixture
def small(tmp_path):
    """A book of few files, with what must stay out."""
    book = tmp_path / "html"
    (book / "_static").mkdir(parents=True)
    for name in ("index.html", "_static/b.js", "_static/a.css", ".built", "_static/b.js.map"):
        (book / name).write_text(name, encoding="utf-8")
    return book


def test_the_same_book_gives_the_same_bytes(small, tmp_path):
    pack(small, tmp_path / "one.zip")
    for number, path in enumerate(sorted(small.rglob("*"), reverse=True)):
        os.utime(path, (number * 86_400, number * 86_400))
    (small / "index.html").chmod(0o600)
    pack(small, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    (small / "index.html").write_text("changed", encoding="utf-8")
    pack(small, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() != (tmp_path / "two.zip").read_bytes()


def test_stamps_and_maps_stay_out_and_all_lies_in_one_folder(small, tmp_path):
    pack(small, tmp_path / "book.zip")
    with zipfile.ZipFile(tmp_path / "book.zip") as archive:
        assert archive.namelist() == [f"{FOLDER}/{name}" for name in ("_static/a.css", "_static/b.js", "index.html")]


def test_without_a_book_it_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="run 'make book' first"):
        bundled(tmp_path)


@pytest.mark.slow
def test_unpacked_it_opens_from_a_disk_with_a_chapter_the_search_and_the_playground(browser, unpacked):
    visitor = Visitor(browser, unpacked.as_uri(), "light")
    assert "url=book/index.html" in (unpacked / "index.html").read_text("utf-8")
    with visitor.visit("book/index.html") as tab:
        assert tab.locator("h1").first.inner_text().startswith("Large Language Models")
    with visitor.visit("notebooks/03_self_attention.html") as tab:
        assert tab.locator("mjx-container").count() > 0
        assert tab.locator('[data-view="attention_heads"] .stage *').count() > 10
    with visitor.visit("search.html?q=softmax") as tab:
        tab.locator("#search-results ul.search li a").first.wait_for()
    with visitor.visit("book/playground.html") as tab:
        tab.get_by_role("button", name="Load the model").click()
        tab.locator("[data-name=probability] >> visible=true").first.wait_for()
    assert visitor.faults == []
