"""Lets a page with a quiz keep, in the reader's browser, which questions were answered right at the first choice."""

from pathlib import Path

from sphinx.application import Sphinx

QUIZ = 'class="llmcourse-quiz"'
SCRIPT = Path(__file__).with_name("quizzes.js")


def keep(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Put the script below the words of every page that holds a quiz; the other pages need none."""
    if QUIZ in context.get("body", ""):
        context["body"] += f"<script>\n{SCRIPT.read_text(encoding='utf-8')}</script>"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", keep)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
