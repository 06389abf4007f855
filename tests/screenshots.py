"""Takes the pictures of README.md from the built book, by light and by dark: `python -m tests.screenshots`, after `make book`.

They lie in book/_static/screenshots. A test holds their number and size; whether they are up to date, only an eye can see.
"""

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from tests.browsing import BOOK, ROOT, Visitor

FOLDER = ROOT / "book/_static/screenshots"
LARGEST = 150_000  # bytes of one picture
SIZE = {"width": 1200, "height": 720}  # of the window, in pixels
ABOVE = 90  # pixels of the page that stay visible above what is shown


def attention(tab: Page) -> Locator:
    """The heads of the model that chapter 10 sets by hand, one of them opened."""
    return tab.locator('[data-view="head_grid"]').first


def playground(tab: Page) -> Locator:
    """The playground with its model loaded and its first prediction made."""
    tab.get_by_role("button", name="Load the model").click()
    tab.locator("[data-name=probability] >> visible=true").first.wait_for()
    return tab.locator('[data-view="playground_button"]').first


SHOWN: dict[str, tuple[str, Callable[[Page], Locator]]] = {
    "attention": ("notebooks/10_inside.html", attention),
    "playground": ("book/playground.html", playground),
}


def take(tab: Page, find: Callable[[Page], Locator]) -> bytes:
    """The window as it looks when what is shown stands near its top, as a PNG of at most 256 colours."""
    tab.set_viewport_size(SIZE)
    top = find(tab).evaluate("view => view.getBoundingClientRect().top + scrollY")
    tab.evaluate("top => scrollTo({ top, behavior: 'instant' })", top - ABOVE)
    tab.mouse.move(0, 0)
    tab.wait_for_timeout(500)  # the theme fades things in and out
    small = io.BytesIO()
    Image.open(io.BytesIO(tab.screenshot())).convert("RGB").quantize(256).save(small, "png", optimize=True)
    return small.getvalue()


def main(book: Path = BOOK) -> None:
    """Write all pictures. Raises ValueError for a page with a fault, or a picture that is too large."""
    if not (book / "index.html").is_file():
        raise SystemExit(f"{book} holds no book: run 'make book' first")
    FOLDER.mkdir(exist_ok=True)
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for mode in ("light", "dark"):
            visitor = Visitor(browser, book.as_uri(), mode)
            for name, (page, find) in SHOWN.items():
                with visitor.visit(page) as tab:
                    picture = take(tab, find)
                if visitor.faults or len(picture) > LARGEST:
                    raise ValueError(f"{name}, {mode}: {len(picture):,} bytes of at most {LARGEST:,}; {visitor.faults}")
                (FOLDER / f"{name}-{mode}.png").write_bytes(picture)
                print(f"{name}-{mode}.png  {len(picture):,} bytes")
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
