"""What Lighthouse and search engines ask of a page, for every page of the built book; and the weight of each."""

import gzip
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from bs4 import BeautifulSoup

from tests import lighthouse
from tests.browsing import BOOK, NARROW, ROOT, all_pages, served
from tests.pages import page as read
from tests.printing import contents

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("built")]
HEAVIEST = 1_500_000  # bytes of a page with all that it loads by itself
AT_ONCE = ("script", "link", "img")  # elements that load something, if nothing says later
PAGES = [page for _, pages in contents() for page in pages]


def page(name: str) -> BeautifulSoup:
    return read(BOOK / f"{name}.html")


def loaded(path: Path, soup: BeautifulSoup, late: bool = True) -> set[Path]:
    """The files that a page loads: scripts, styles and pictures; with `late`, what waits until it comes near too."""
    found = set()
    for element in soup.find_all(AT_ONCE):
        if element.get("loading") == "lazy" and not late:
            continue
        rel = element.get("rel") or []
        address = (
            element.get("href") if element.name == "link" and {"stylesheet", "icon"} & set(rel) else element.get("src")
        )
        if address and not address.startswith(("data:", "http")):
            found.add((path.parent / unquote(address.split("?")[0])).resolve())
    if late and soup.find(class_="math"):
        found |= {BOOK / "_static/mathjax/tex-chtml.js", *(BOOK / "_static/mathjax").rglob("MathJax_Main-*.woff")}
        found |= set((BOOK / "_static/mathjax").rglob("MathJax_Math-*.woff"))
    return found


def weight(name: str) -> tuple[int, int]:
    """How many bytes a page is with all that it loads: as they lie on a disk, and compressed as a server sends them."""
    path = BOOK / f"{name}.html"
    contents = [path.read_bytes(), *(file.read_bytes() for file in loaded(path, page(name)))]
    return sum(map(len, contents)), sum(min(len(one), len(gzip.compress(one))) for one in contents)


def test_every_page_weighs_less_than_a_megabyte_and_a_half_as_it_is_sent():
    weights = {name: weight(name) for name in PAGES}
    assert min(sent for _, sent in weights.values()) > 50_000
    assert {name: sent for name, (_, sent) in weights.items() if sent > HEAVIEST} == {}


def without_formulas(name: str) -> int:
    """Bytes on a disk of a page and what it loads at once: no formula and no picture has come near."""
    path = BOOK / f"{name}.html"
    return path.stat().st_size + sum(file.stat().st_size for file in loaded(path, page(name), late=False))


def test_without_media_even_an_uncompressed_chapter_stays_below_it():
    weights = {name: without_formulas(name) for name in PAGES}
    assert {name: size for name, size in weights.items() if size > HEAVIEST} == {}


def test_every_page_says_what_it_is_in_words_of_its_own():
    described = {name: page(name).find("meta", attrs={"name": "description"})["content"] for name in PAGES}
    assert len(set(described.values())) == len(PAGES)
    assert [
        name for name, words in described.items() if not 30 <= len(words) <= 200 or re.search(r"[`{}*]|\$", words)
    ] == []
    named = {name: page(name).title.string.strip() for name in PAGES}
    assert len(set(named.values())) == len(PAGES)


def test_every_page_names_its_place_in_the_newest_book():
    repository = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]["url"]
    owner, name = repository.split("/")[-2:]
    for one in PAGES:
        (link,) = page(one).find_all("link", rel="canonical")
        assert link["href"] == f"https://{owner}.github.io/{name}/latest/{one}.html"


def test_the_head_of_a_page_lets_the_words_come_first():
    for path in all_pages():
        soup = read(path)
        head, name = soup.head, path.name
        assert soup.html["lang"] == "en", name
        assert len(head.find_all("link", rel="stylesheet")) == 1, name
        assert len(head.find_all("meta", attrs={"name": "viewport"})) == 1, name
        assert [one["src"] for one in head.find_all("script", src=True) if not one.has_attr("defer")] == [], name


def test_pictures_keep_their_room_free_and_wait_until_they_come_near():
    figures = [image for name in PAGES for image in page(name).select(".cell_output img")]
    assert len(figures) > 50
    assert [
        image["src"] for image in figures if not all(image.get(one) for one in ("width", "height", "loading"))
    ] == []


def test_on_a_phone_a_wide_figure_keeps_a_size_at_which_it_can_be_read_and_scrolls_by_itself(browser):
    wide = [name for name in PAGES if page(name).select(".wide > img")]
    assert "notebooks/07_bert" in wide and len(wide) > 4
    tab = browser.new_page(viewport={"width": NARROW, "height": 800})
    for name in wide:
        tab.goto((BOOK / f"{name}.html").as_uri())
        for figure in tab.locator(".wide").all():
            shown, room, drawn = figure.evaluate("(one) => [one.clientWidth, one.scrollWidth, one.firstChild.width]")
            assert shown <= NARROW < 600 < room == drawn, name
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW, name
    tab.close()


def test_the_one_style_sheet_has_the_rules_that_pages_use_and_no_fonts_of_icons():
    css = (BOOK / "_static/book.css").read_text("utf-8")
    assert not re.search(r"@font-face[^}]*Awesome", css) and len(gzip.compress(css.encode())) < 45_000
    for rule in (".bd-article", ".llmcourse-feedback", "@media print", ".highlight .k", ".reference dt", ".search"):
        assert rule in css, rule
    lost = [
        address
        for address in re.findall(r"url\([\"']?((?!data:|#)[^)\"']+)", css)
        if not (BOOK / "_static" / address.split("?")[0].split("#")[0]).is_file()
    ]
    assert lost == []


def test_formulas_are_typeset_when_one_comes_near_and_not_before(browser):
    asked = []
    tab = browser.new_page(viewport={"width": 412, "height": 600})
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((BOOK / "notebooks/03_self_attention.html").as_uri())
    tab.wait_for_timeout(500)
    assert not [url for url in asked if "mathjax" in url]
    tab.locator(".math").first.scroll_into_view_if_needed()
    tab.locator("mjx-container").first.wait_for()
    assert [url for url in asked if "mathjax" in url]
    tab.close()


@pytest.mark.soak
@pytest.mark.parametrize("name", lighthouse.PAGES)
def test_lighthouse_gives_at_least_95(name):
    lighthouse.install()
    with served(BOOK, lighthouse.Compressing) as home:
        marks, failed = lighthouse.best(f"{home}/{name}")
    assert lighthouse.below(marks) == {}, failed
