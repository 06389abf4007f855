"""The built book: every link leads somewhere, nothing is fetched from outside, and a real browser has no complaint."""

import contextlib
import functools
import gzip
import re
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from tests.browsing import BOOK, NARROW, ROOT, Visitor, all_pages, make

CARRIERS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def built():
    """Build all pages anew, once."""
    (BOOK / ".built").unlink(missing_ok=True)
    result = make("book")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "_build/html/index.html" in result.stdout


@functools.cache
def page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def in_contents() -> list[str]:
    """The pages that _toc.yml names, in its order, without a suffix."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [contents["root"], *(chapter["file"] for part in contents["parts"] for chapter in part["chapters"])]


def is_outside(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https") or address.startswith("//")


def broken_links(path: Path) -> list[str]:
    """Addresses on a page that lead to no file, or to no place inside it."""
    broken = []
    for element in page(path).find_all(["a", *CARRIERS]):
        address = element.get(CARRIERS.get(element.name, "href"))
        if not address or urlsplit(address).scheme or is_outside(address):
            continue
        target = (path.parent / unquote(urlsplit(address).path)).resolve() if urlsplit(address).path else path
        place = unquote(urlsplit(address).fragment) if target.suffix == ".html" else ""
        if not target.is_file() or (place and not page(target).find(id=place)):
            broken.append(address)
    return broken


def outside_sources(path: Path) -> list[str]:
    """What a page would fetch from another host."""
    found = [element.get(CARRIERS[element.name]) or "" for element in page(path).find_all(list(CARRIERS))]
    return [address for address in found if is_outside(address)]


def test_every_page_of_the_contents_is_built():
    assert [name for name in in_contents() if not (BOOK / f"{name}.html").is_file()] == []
    assert 'url=book/index.html"' in (BOOK / "index.html").read_text(encoding="utf-8")


def test_every_link_leads_to_a_file_and_a_place_in_it():
    found = {path.name: broken_links(path) for path in all_pages()}
    assert {name: links for name, links in found.items() if links} == {}


def test_the_atlas_and_the_exercises_name_each_other():
    atlas = page(BOOK / "book/misconceptions.html")
    exercises = [
        (path, found["href"])
        for path in all_pages()
        for found in page(path).find_all("a")
        if found.text == "what others got wrong"
    ]
    sources = [(ROOT / f"{name}.ipynb").read_text("utf-8") for name in in_contents() if name.startswith("notebooks/")]
    assert len(exercises) == sum(source.count('"exercise": "') for source in sources) > 30
    for path, address in exercises:
        name, _, place = address.partition("#")
        assert (path.parent / name).resolve() == BOOK / "book/misconceptions.html"
        section = atlas.find(id=place).find_parent("section") or atlas.find(id=place)
        assert section.find("a", href=re.compile(rf"^../notebooks/{path.name}#exercise-"))
        assert len(section.find_all("dt")) == len(section.find_all(class_="symptom")) > 0


def test_no_page_names_a_script_style_or_picture_of_another_host():
    found = {path.name: outside_sources(path) for path in all_pages()}
    assert {name: links for name, links in found.items() if links} == {}
    styles = [path for path in BOOK.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//", path.read_text("utf-8"))]
    assert styles == []


def test_a_broken_link_and_an_outside_script_are_found(tmp_path):
    planted = tmp_path / "planted.html"
    planted.write_text(
        '<a href="gone.html">x</a><a href="#nowhere">y</a><a href="#here" id="here">z</a>'
        '<script src="https://example.com/x.js"></script><link href="//example.com/y.css">'
    )
    assert broken_links(planted) == ["gone.html", "#nowhere"]
    assert len(outside_sources(planted)) == 2


def test_every_picture_says_in_words_what_it_shows():
    silent = [
        (path.name, image.get("src"))
        for path in all_pages()
        for image in page(path).find_all("img")
        if not image.get("alt") or re.search(r"_images|\.(png|svg|jpe?g)", image["alt"])
    ]
    assert silent == []
    figures = [image for path in all_pages() for image in page(path).select(".cell_output img")]
    assert [image["alt"] for image in figures if len(image["alt"].split()) < 6] == []


def test_launch_buttons_open_the_page_s_own_notebook():
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    owner, branch = repository["url"].removeprefix("https://github.com/"), repository["branch"]
    for name in (name for name in in_contents() if name.startswith("notebooks/")):
        links = {link["href"] for link in page(BOOK / f"{name}.html").find_all("a", href=True)}
        assert (ROOT / f"{name}.ipynb").is_file()
        assert f"https://colab.research.google.com/github/{owner}/blob/{branch}/{name}.ipynb" in links
        assert f"https://mybinder.org/v2/gh/{owner}/{branch}?urlpath=lab/tree/{name}.ipynb" in links


def test_copied_scripts_come_with_their_licences():
    assert "Apache License" in (BOOK / "_static/mathjax/LICENSE").read_text("utf-8")
    licences = (BOOK / "_static/bertviz/LICENSES.txt").read_text("utf-8")
    assert "Mike Bostock" in licences
    assert "OpenJS Foundation" in licences


def test_a_second_build_with_nothing_changed_takes_seconds():
    began = time.monotonic()
    assert make("book").returncode == 0
    assert time.monotonic() - began < 5


def test_a_warning_fails_the_build_and_fails_it_again(tmp_path):
    copy = tmp_path / "a copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "_build", "__pycache__"))
    (copy / ".venv").symlink_to(ROOT / ".venv")
    with (copy / "book/notation.md").open("a", encoding="utf-8") as file:
        file.write("\n[a page that is not there](nowhere.md)\n")
    for _ in range(2):  # Sphinx does not read an unchanged page again; the fault must not be forgotten with it
        result = make("-o", ".venv/.installed", "book", folder=copy)
        assert result.returncode != 0
        assert "nowhere.md" in result.stdout + result.stderr


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path):
    """The address of the folder, below a sub-path: a page of a project is rarely at a host's root."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{folder.name}"
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["from a disk", "below a sub-path"])
def home(request):
    if request.param == "from a disk":
        yield BOOK.as_uri()
    else:
        with served(BOOK) as address:
            yield address


def width(tab) -> int:
    """How wide the page is on a small phone."""
    tab.set_viewport_size({"width": NARROW, "height": 740})
    return tab.evaluate("document.documentElement.scrollWidth")


def test_planted_faults_are_caught(browser, tmp_path):
    (tmp_path / "planted.html").write_text(
        '<title>planted</title><main style="width: 500px">x</main><script src="gone.js"></script>'
        '<img src="https://example.com/x.png"><script>console.error("planted error"); thrown()</script>'
    )
    for prefix in (contextlib.nullcontext(tmp_path.as_uri()), served(tmp_path)):
        with prefix as address:
            visitor = Visitor(browser, address, "light")
            with visitor.visit("planted.html") as tab:
                assert tab.title() == "planted"
                assert width(tab) > NARROW
            seen = "\n".join(visitor.faults)
            for fault in ("asked for https://example.com/x.png", "planted error", "thrown is not defined", "gone.js"):
                assert fault in seen


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_page_is_complete_and_quiet_in_a_browser(browser, home, mode):
    visitor, wide = Visitor(browser, home, mode), []
    for path in all_pages():
        name = path.relative_to(BOOK).as_posix()
        with visitor.visit(name) as tab:
            assert tab.title()
            assert tab.locator("main").inner_text().strip()
            assert tab.locator("html").get_attribute("data-theme") == mode
            formulas = tab.locator("main span.math, main div.math")
            assert formulas.count() == tab.locator("main :is(span, div).math:has(mjx-container)").count(), name
            if width(tab) > NARROW:
                wide.append(name)
    assert visitor.faults == []
    assert wide == []


def test_formulas_are_typeset_and_bertviz_draws(browser, home):
    visitor = Visitor(browser, home, "light")
    with visitor.visit("book/notation.html") as tab:
        assert tab.locator("main mjx-container").count() > 20
    with visitor.visit("notebooks/03_self_attention.html") as tab:
        assert tab.locator('[id^="bertviz"] svg line').count() > 10
    assert visitor.faults == []


def test_the_playground_runs_where_the_book_lies(browser, home):
    """Which numbers it shows is tested in test_playground.py."""
    visitor = Visitor(browser, home, "dark")
    with visitor.visit("book/playground.html") as tab:
        began = time.monotonic()
        tab.get_by_role("button", name="Load the model").click()
        tab.locator("[data-name=probability] >> visible=true").first.wait_for()
        assert time.monotonic() - began < 3
        assert tab.locator("[data-name=token]").count() > 5
        tab.get_by_label("Your text").fill("<script>alert(1)</script>")
        assert width(tab) <= NARROW
    assert visitor.faults == []


def test_no_page_carries_the_playground_s_program_or_weights():
    for path in all_pages():
        sources = [script.get("src") or "" for script in page(path).find_all("script")]
        assert not [source for source in sources if "playground" in source]
        text = path.read_text("utf-8")
        assert "function playground(" not in text  # a view of a chapter may hold the engine, for a model of its own
    here = (BOOK / "book/playground.html").read_text("utf-8")
    assert here.count('class="example"') == 1
    assert len(here) < 90_000


# Loaded only by pages that hold formulas, a view of bertviz, or the results of a search: the words of the whole book.
LARGE = ("mathjax/", "bertviz/", "searchindex")


def javascript(path: Path) -> int:
    """How many bytes of scripts a page loads or holds, compressed as a server sends them, without those for LARGE."""
    found = page(path).find_all("script")
    files = [script["src"].split("?")[0] for script in found if script.get("src")]
    here = "".join(
        script.string or "" for script in found if script.get("type", "text/javascript") == "text/javascript"
    )
    own = [(path.parent / unquote(name)).resolve() for name in files if not any(part in name for part in LARGE)]
    return sum(len(gzip.compress(content)) for content in [here.encode(), *(file.read_bytes() for file in own)])


def test_a_page_loads_little_javascript():
    sizes = {path.relative_to(BOOK).as_posix(): javascript(path) for path in all_pages()}
    assert min(sizes.values()) > 10_000  # the theme's own
    assert {name: size for name, size in sizes.items() if size > 100_000} == {}
    assert len(gzip.compress((BOOK / "searchindex.js").read_bytes())) < 250_000  # it grows with the book


def test_icons_are_drawn_and_the_search_still_has_its_index(browser, home):
    visitor = Visitor(browser, home, "light")
    with visitor.visit("notebooks/03_self_attention.html") as tab:
        icons = tab.locator("svg.svg-inline--fa:has(path)")
        assert icons.count() > 8
        assert tab.locator("i.fas, i.fab, i.fa-solid, span.fa-solid").count() == 0
        boxes = icons.locator("visible=true").evaluate_all(
            "all => all.map((svg) => svg.getBoundingClientRect().height)"
        )
        assert boxes and min(boxes) > 8 and max(boxes) < 30
        assert tab.locator("script[src*=searchindex]").count() == 0
    with visitor.visit("search.html") as tab:
        assert tab.locator("script[src*=searchindex]").count() > 0
    assert visitor.faults == []


def test_dark_pages_have_no_light_box_behind_html_outputs(browser):
    visitor = Visitor(browser, BOOK.as_uri(), "dark")
    grounds = "boxes => boxes.map(box => getComputedStyle(box).backgroundColor)"
    for name in (name for name in in_contents() if name.startswith("notebooks/")):
        with visitor.visit(f"{name}.html") as tab:
            seen = tab.locator(".cell_output .text_html").evaluate_all(grounds)
            assert set(seen) <= {"rgba(0, 0, 0, 0)"}, name


def test_search_finds_a_word_from_a_disk(browser):
    visitor = Visitor(browser, BOOK.as_uri(), "light")
    with visitor.visit("search.html?q=softmax") as tab:
        tab.locator("#search-results ul.search li a").first.wait_for()
    assert visitor.faults == []


def test_llms_txt_names_pages_that_exist():
    named = re.findall(r"\]\(([^)]+)\)", (BOOK / "llms.txt").read_text("utf-8"))
    assert len(named) > 20
    assert [name for name in named if not (BOOK / name).is_file()] == []
