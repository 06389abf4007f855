"""The published site keeps the book of every release beside the newest one."""

import json
import zipfile

import pytest

from tests.bundling import pack
from tests.versions import assemble


def site_with_a_book(folder):
    (folder / "latest").mkdir(parents=True)
    (folder / "latest/index.html").write_text("newest", encoding="utf-8")
    return folder


def released(folder, tag: str, text: str):
    book = folder / f"book of {tag}"
    (book / "notebooks").mkdir(parents=True)
    (book / "index.html").write_text(text, encoding="utf-8")
    (book / "notebooks/01.html").write_text("one", encoding="utf-8")
    bundle = folder / tag / "llmcourse-book.zip"
    pack(book, bundle)
    return bundle


def test_every_release_stands_under_its_tag_and_in_the_list_newest_first(tmp_path):
    site = site_with_a_book(tmp_path / "site")
    bundles = [released(tmp_path, tag, f"book {tag}") for tag in ("v0.9.0", "v0.10.0", "v0.2.1")]
    assemble(site, bundles)
    assert json.loads((site / "versions.json").read_text("utf-8")) == ["latest", "v0.10.0", "v0.9.0", "v0.2.1"]
    assert (site / "v0.10.0/index.html").read_text("utf-8") == "book v0.10.0"
    assert (site / "v0.2.1/notebooks/01.html").read_text("utf-8") == "one"
    assert (site / "latest/index.html").read_text("utf-8") == "newest"
    page = (site / "index.html").read_text("utf-8")
    assert "url=latest/index.html" in page and page.count('/index.html">v0.') == 3


def test_a_site_without_a_release_leads_to_the_newest_book(tmp_path):
    site = site_with_a_book(tmp_path)
    assemble(site, [])
    assert json.loads((site / "versions.json").read_text("utf-8")) == ["latest"]


def test_what_is_no_release_or_leaves_its_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no book in latest"):
        assemble(tmp_path / "nothing", [])
    site = site_with_a_book(tmp_path / "site")
    for tag in ("latest", "v1.0", "v1.0.0<b>"):
        with pytest.raises(ValueError, match="is no tag of a release"):
            assemble(site, [released(tmp_path / "named", tag, "")])
    bundle = tmp_path / "v1.0.0/llmcourse-book.zip"
    bundle.parent.mkdir()
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("llmcourse-book/../../outside.html", "x")
    with pytest.raises(ValueError, match="lies outside of it"):
        assemble(site, [bundle])
    assert not list(tmp_path.rglob("outside.html"))
