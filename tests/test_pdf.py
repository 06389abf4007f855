"""The book as a PDF: every page in its order, with an outline, page numbers, links and figures, and nothing cut off."""

import logging
import re
from html import unescape

import pytest
import yaml
from pypdf import PdfReader
from pypdf.generic import ArrayObject

from llmcourse import __version__
from tests.browsing import BOOK, ROOT
from tests.printing import CUT, PRINTED, anchor, composed, contents, laid_out, printed

pytestmark = pytest.mark.slow
FEW = ["book/notation", "notebooks/03_self_attention"]
logging.getLogger("pypdf").setLevel(logging.ERROR)


def text_of(page) -> str:
    """The words of a page, with one space between them."""
    return " ".join(page.extract_text().split())


def plain(text: str) -> str:
    """The words and numbers of a text, without signs."""
    return " ".join(re.findall(r"\w+", unescape(text)))


def titles(outline: list, depth: int = 0) -> list[tuple[int, str]]:
    """The outline's entries with their depth."""
    found = []
    for one in outline:
        found += titles(one, depth + 1) if isinstance(one, list) else [(depth, str(one.title).strip())]
    return found


def fonts(reader: PdfReader) -> dict[str, bool]:
    """Each font of the document, and whether it is inside."""
    found = {}
    for page in reader.pages:
        for font in (page["/Resources"].get("/Font") or {}).values():
            font = font.get_object()
            below = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
            about = below.get("/FontDescriptor", {})
            about = about.get_object() if about else {}
            inside = any(f"/FontFile{kind}" in about for kind in ("", "2", "3")) or font["/Subtype"] == "/Type3"
            found[str(font.get("/BaseFont", font["/Subtype"]))] = inside
    return found


def led_nowhere(reader: PdfReader) -> list[str]:
    """Links inside the document whose place it does not have, and links to files of this machine."""
    names, lost = reader.named_destinations, []
    for page in reader.pages:
        for link in (one.get_object() for one in page.get("/Annots") or []):
            place = link.get("/Dest") or link.get("/A", {}).get("/D")
            address = str(link.get("/A", {}).get("/URI", ""))
            if address.startswith("file:") or (
                place is not None
                and not isinstance(place, ArrayObject)
                and str(place).lstrip("/") not in {name.lstrip("/") for name in names}
            ):
                lost.append(address or str(place))
    return lost


def pictures(reader: PdfReader) -> list[int]:
    """How many shades each picture has: a blank one has a single shade."""
    return [
        len(image.image.convert("L").resize((64, 64)).getcolors()) for page in reader.pages for image in page.images
    ]


def judge(reader: PdfReader, pages: list[str]) -> None:
    """What holds for a PDF of any pages."""
    texts = [text_of(page) for page in reader.pages]
    outline = [plain(title) for depth, title in titles(reader.outline) if depth == 0]
    heads = [(BOOK / f"{page}.html").read_text("utf-8") for page in pages]
    words = [plain(re.sub(r"<[^>]+>", "", re.search(r'<h1>([^\n]*?)<a class="headerlink"', head)[1])) for head in heads]
    assert outline == ["Large Language Models", "Contents", *words]
    assert texts[0].startswith("Large Language Models") and __version__ in texts[0]
    assert [
        number for number, text in enumerate(texts[1:], 2) if str(number) not in (text.split()[0], text.split()[-1])
    ] == []
    together = plain(" ".join(texts))
    assert [title for title in words if title not in together] == []
    assert [name for name, inside in fonts(reader).items() if not inside] == []
    assert led_nowhere(reader) == []
    assert "/StructTreeRoot" in reader.trailer["/Root"]  # for who listens to it
    assert reader.trailer["/Root"]["/Lang"] == "en"


@pytest.fixture(scope="module")
def few(built, browser, tmp_path_factory):
    """A PDF of two pages of the book, and what was cut off in it."""
    target = tmp_path_factory.mktemp("pdf") / "few.pdf"
    cut = printed(browser, target, only=FEW)
    return PdfReader(target), cut


def test_two_pages_are_printed_in_the_order_of_the_book_with_all_that_belongs_to_them(few):
    reader, cut = few
    assert cut == []
    judge(reader, ["notebooks/03_self_attention", "book/notation"])
    assert 15 < len(reader.pages) < 60


def test_figures_views_formulas_and_answers_are_in_it(few):
    reader, _ = few
    shades = pictures(reader)
    assert len(shades) >= 3 and min(shades) > 5
    whole = " ".join(text_of(page) for page in reader.pages)
    assert "Rows are queries, columns are keys" in whole  # of a view
    assert "Right." in whole  # an answer of the quiz
    assert "import torch" in whole  # code that is folded away on the page


def test_a_page_that_is_too_wide_is_found(browser, tmp_path):
    planted = f'<style>{PRINTED}</style><main style="width: 300px"><section class="sheet" id="x"><p style="width: 900px">wide</p></section></main>'
    tab = laid_out(browser, planted, tmp_path)
    assert [one.split(":")[0] for one in tab.evaluate(CUT)] == ["x"]
    tab.close()


def test_its_order_is_that_of_the_contents():
    read = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    pages = [page for _, pages in contents() for page in pages]
    assert pages == [read["root"], *(one["file"] for part in read["parts"] for one in part["chapters"])]
    text = composed(BOOK, {page: ("T", f"<p>{anchor(page)}") for page in FEW}, [], contents(FEW))
    assert text.index("notebooks-03_self_attention") < text.index('id="book-notation"')


def test_without_a_book_it_says_what_to_do(browser, tmp_path):
    with pytest.raises(ValueError, match="run 'make book' first"):
        printed(browser, tmp_path / "x.pdf", tmp_path, FEW)


@pytest.mark.soak
def test_the_whole_book_is_printed(built, browser, tmp_path):
    target = tmp_path / "llmcourse.pdf"
    assert printed(browser, target) == []
    reader = PdfReader(target)
    judge(reader, [page for _, pages in contents() for page in pages])
    assert len(reader.pages) > 500
    assert len(pictures(reader)) > 50 and min(pictures(reader)) > 3
