"""Put "Ask the book" into its page, and the text of the book, cut into sections, into a script that the page fetches."""

import tomllib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from llmcourse.asking import TITLE, Book, judge
from llmcourse.passages import collect
from llmcourse.visualize import ask_page

PAGE, MARK = "book/ask", '<div id="ask-the-book-here"></div>'
QUESTIONS = "tests/ask_questions.toml"  # by which the answers are judged; the page states the result


def configure(app: Sphinx, config: Config) -> None:
    """What the page's prose says in numbers."""
    root = Path(app.srcdir)
    questions = tomllib.loads((root / QUESTIONS).read_text(encoding="utf-8"))["question"]
    found = judge(Book(collect(root)), questions)
    percent = {name: f"{100 * value:.0f}" if isinstance(value, float) else str(value) for name, value in found.items()}
    for name, value in (percent | {"title": str(TITLE)}).items():
        config.myst_substitutions[f"ask_{name}"] = value


def outdated(app: Sphinx, *changes: object) -> list[str]:
    """The page, always: Sphinx cannot see that another page's text, which it answers from, has changed."""
    return [PAGE] if PAGE in app.env.all_docs else []


def fill(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Put the form where the page has the mark."""
    if page != PAGE:
        return
    if MARK not in context["body"]:
        raise ValueError(f"{PAGE} no longer holds {MARK}, where the form belongs")
    address = context["pathto"]("_static/ask", resource=True)
    root = context["pathto"]("_static", resource=True).removesuffix("_static")
    view = ask_page.page(collect(Path(app.srcdir)), address, root)
    context["body"] = context["body"].replace(MARK, view.html)


def write(app: Sphinx, error: Exception | None) -> None:
    """The sections as a script; not through the static path, which would load it on every page."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static/ask"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "book.js").write_text(ask_page.script(collect(Path(app.srcdir))), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", configure)
    app.connect("env-get-outdated", outdated)
    app.connect("html-page-context", fill)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
