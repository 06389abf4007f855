"""WCAG 2.2, levels A and AA, on every page of the built book, as far as axe-core can judge it."""

import pytest

from tests.axe import complaints
from tests.browsing import BOOK, NARROW, Visitor, all_pages

pytestmark = pytest.mark.slow
LAYOUT = ("scrollable-region-focusable", "target-size")  # what another width can break
WHOLE = (
    "book/index.html",
    "notebooks/03_self_attention.html",
    "book/playground.html",
)  # judged by all rules on a phone too


@pytest.fixture(scope="module")
def pages(built):
    """The names of the pages of the book."""
    names = [path.relative_to(BOOK).as_posix() for path in all_pages()]
    assert len(names) > 10
    return names


def test_every_page_of_the_book_is_accessible(browser, pages):
    visitor, faults = Visitor(browser, BOOK.as_uri(), "light"), {}
    for name in pages:
        with visitor.visit(name) as tab:
            needed = ("color-contrast", "link-name", "document-title")
            faults[name] = complaints(tab, *needed, contrast="of one a colour")
    assert {name: broken for name, broken in faults.items() if broken} == {}


def test_the_colours_of_every_page_contrast_in_the_dark_too(browser, pages):
    visitor, faults = Visitor(browser, BOOK.as_uri(), "dark"), {}
    for name in pages:
        with visitor.visit(name) as tab:
            faults[name] = complaints(
                tab, "color-contrast", floor=1, contrast="of one a colour", only=["link-in-text-block"]
            )
    assert {name: broken for name, broken in faults.items() if broken} == {}


def test_pages_are_accessible_on_a_small_phone_and_what_scrolls_there_can_be_scrolled_by_keyboard(browser, pages):
    visitor, faults, idle = Visitor(browser, BOOK.as_uri(), "light"), {}, f"{LAYOUT[0]} had nothing to judge"
    visitor.context.set_default_timeout(15_000)
    for name in pages:
        with visitor.visit(name) as tab:
            tab.set_viewport_size({"width": NARROW, "height": 740})
            # Names, roles and colours are those of a wide page, but for what only a phone shows, and that is the same on all.
            if name in WHOLE:
                faults[name] = complaints(tab, *LAYOUT, contrast="of none")
            else:
                faults[name] = complaints(tab, *LAYOUT, floor=1, contrast="of none", only=LAYOUT)
    assert set(WHOLE) < set(pages)
    assert sum(idle not in found for found in faults.values()) > 10
    assert {name: kept for name, found in faults.items() if (kept := [one for one in found if one != idle])} == {}
