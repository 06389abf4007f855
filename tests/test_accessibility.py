"""WCAG 2.2, levels A and AA, on every page of the built book, as far as axe-core can judge it."""

import pytest

from tests.axe import FLOOR, judged
from tests.browsing import BOOK, NARROW, Visitor, all_pages, make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built():
    result = make("book")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_page_of_the_book_is_accessible(browser, built):
    visitor, faults = Visitor(browser, BOOK.as_uri(), "light"), {}
    for path in all_pages():
        name = path.relative_to(BOOK).as_posix()
        with visitor.visit(name) as tab:
            passed, faults[name] = judged(tab, contrast="of one a colour")
            assert len(passed) >= FLOOR and {"color-contrast", "link-name", "document-title"} <= passed, name
    assert len(faults) > 10
    assert {name: broken for name, broken in faults.items() if broken} == {}


def test_the_colours_of_every_page_contrast_in_the_dark_too(browser, built):
    visitor, faults = Visitor(browser, BOOK.as_uri(), "dark"), {}
    for path in all_pages():
        name = path.relative_to(BOOK).as_posix()
        with visitor.visit(name) as tab:
            passed, faults[name] = judged(tab, contrast="of one a colour", only_colours=True)
            assert "color-contrast" in passed, name
    assert len(faults) > 10
    assert {name: broken for name, broken in faults.items() if broken} == {}


def test_what_scrolls_on_a_small_phone_can_be_scrolled_by_keyboard(browser, built):
    visitor, faults, scrolls = Visitor(browser, BOOK.as_uri(), "light"), {}, 0
    visitor.context.set_default_timeout(15_000)
    for path in all_pages():
        name = path.relative_to(BOOK).as_posix()
        with visitor.visit(name) as tab:
            tab.set_viewport_size({"width": NARROW, "height": 740})
            passed, faults[name] = judged(tab, contrast="of none")  # the colours are those of a wide page
            assert len(passed) >= FLOOR, name
            scrolls += "scrollable-region-focusable" in passed
    assert scrolls > 3
    assert {name: broken for name, broken in faults.items() if broken} == {}
