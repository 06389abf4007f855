"""The built book: every link leads somewhere, nothing is fetched from outside, and a real browser has no complaint."""

import gzip
import re
import shutil
import time

import pytest
import yaml

from tests.browsing import (
    BOOK,
    NARROW,
    ROOT,
    Visitor,
    all_pages,
    incomplete,
    make,
    served,
    width,
)
from tests.pages import (
    MOST_JAVASCRIPT,
    broken_links,
    javascript,
    missing_launches,
    names_a_host,
    outside_sources,
    page,
    silent_pictures,
    unguarded,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("built")]


def in_contents() -> list[str]:
    """The pages that _toc.yml names, in its order, without a suffix."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [contents["root"], *(chapter["file"] for part in contents["parts"] for chapter in part["chapters"])]


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
    assert list(filter(names_a_host, BOOK.rglob("*.css"))) == []


def test_every_page_has_its_policy():
    found = {path.name: unguarded(path) for path in [*all_pages(), BOOK / "index.html"]}
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_every_picture_says_in_words_what_it_shows():
    found = {path.name: silent_pictures(path) for path in all_pages()}
    assert {name: silent for name, silent in found.items() if silent} == {}
    assert sum(len(page(path).select(".cell_output img")) for path in all_pages()) > 20


def test_launch_buttons_open_the_page_s_own_notebook():
    for name in (name for name in in_contents() if name.startswith("notebooks/")):
        assert (ROOT / f"{name}.ipynb").is_file()
        assert missing_launches(BOOK / f"{name}.html", name) == []


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
    # A few pages are soon built. They lead to pages that are missing now; the planted faults must be named all the same.
    pages = ["    chapters:", *(f"      - file: book/{name}" for name in ("notation", "tutor"))]
    contents = ["format: jb-book", "root: book/index", "parts:", "  - caption: Some", *pages]
    (copy / "_toc.yml").write_text("\n".join(contents), encoding="utf-8")
    with (copy / "book/notation.md").open("a", encoding="utf-8") as file:
        file.write("\n[a page that is not there](nowhere.md), as {cite:t}`nobody2099` says\n")
    for _ in range(2):  # Sphinx does not read an unchanged page again; the fault must not be forgotten with it
        result = make("-o", ".venv/.installed", "book", folder=copy)
        assert result.returncode != 0
        for fault in ("nowhere.md", "nobody2099"):
            assert fault in result.stdout + result.stderr


@pytest.fixture(params=["from a disk", "below a sub-path"])
def home(request):
    if request.param == "from a disk":
        yield BOOK.as_uri()
    else:
        with served(BOOK) as address:
            yield address


def test_every_page_is_complete_and_quiet_in_a_browser(browser, home):
    mode = "light" if home.startswith("file:") else "dark"  # axe judges the colours of every page in both
    visitor, lacking = Visitor(browser, home, mode), {}
    for path in all_pages():
        name = path.relative_to(BOOK).as_posix()
        with visitor.visit(name) as tab:
            lacking[name] = incomplete(tab, mode)
    assert visitor.faults == []
    assert {name: faults for name, faults in lacking.items() if faults} == {}


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


def test_a_page_loads_little_javascript():
    sizes = {path.relative_to(BOOK).as_posix(): javascript(path) for path in all_pages()}
    assert min(sizes.values()) > 10_000  # the theme's own
    assert {name: size for name, size in sizes.items() if size > MOST_JAVASCRIPT} == {}
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


def test_search_finds_a_word_and_quotes_where_a_page_may_read_another(browser, home):
    visitor = Visitor(browser, home, "light")
    with visitor.visit("search.html?q=softmax") as tab:
        tab.locator("#search-results ul.search li a").first.wait_for()
        if home.startswith("http"):
            tab.locator("#search-results ul.search li .context").nth(9).wait_for()
    assert visitor.faults == []


def test_llms_txt_names_pages_that_exist():
    named = re.findall(r"\]\(([^)]+)\)", (BOOK / "llms.txt").read_text("utf-8"))
    assert len(named) > 20
    assert [name for name in named if not (BOOK / name).is_file()] == []
