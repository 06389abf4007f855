"""The page of "Ask the book": its form and program, and the script that holds the text of the book.

The built book puts `page` where `book/ask.md` has its mark, and `script` beside it; the page fetches the script with the
first question. It ranks as `llmcourse/asking.py` does, with the same settings, which travel with the text.
"""

from collections.abc import Sequence
from dataclasses import asdict

from llmcourse import asking
from llmcourse.asking import Book
from llmcourse.display import Html, escape
from llmcourse.passages import Passage
from llmcourse.visualize.page import block, embedded, static

EXAMPLE = "What is the KV cache?"  # stands in the field when the page opens


def script(passages: Sequence[Passage]) -> str:
    """A classic script that sets `llmcourse.book`: the sections, and what the ranking must know."""
    settings = {
        "title": asking.TITLE,
        "trail": asking.TRAIL,
        "named": asking.NAMED,
        "threshold": asking.THRESHOLD,
        "shown": asking.SHOWN,
        "excerpt": asking.EXCERPT,
        "stop": sorted(asking.STOP),
        "also": asking.ALSO,
        "signs": asking.SIGNS,
    }
    data = embedded({"passages": [asdict(one) for one in passages], "settings": settings})
    return f"(globalThis.llmcourse ??= {{}}).book = {data};\n"


def page(passages: Sequence[Passage], address: str, root: str) -> Html:
    """The form. Without JavaScript it says what else there is, and shows what the example would find.

    address: the folder of `book.js`, as seen from the page; root: the way from the page to the root of the book.
    """
    found = Book(passages).ask(EXAMPLE)
    items = "".join(
        f'<li><a href="{escape(root + hit.passage.address)}">{escape(hit.passage.title)}</a><p>{escape(hit.excerpt)}</p>'
        for hit in found
    )
    words = (
        "With JavaScript you could type a question here. In a terminal, <code>python -m llmcourse ask</code> answers the "
        f"same way. What it finds for “{escape(EXAMPLE)}”:"
    )
    twin = f'<div class="without-script"><p>{words}</p><ol class="hits">{items}</ol></div>\n'
    style = f"<style>\n{static('playground.css')}{static('ask.css')}</style>\n"
    data = {"address": address, "root": root, "example": EXAMPLE}
    text = "\n".join(f"{hit.passage.title}: {hit.excerpt}" for hit in found)
    return block("ask_page", "Ask the book", data, style + twin, text, ("bm25.js", "ask_book.js"))
