"""Writes llms.txt into the built book: what the site holds, for language models that help its readers.

The form is that of https://llmstxt.org: a title, a summary as a quotation, notes, then lists of links with what is behind
them. All of it comes from _toc.yml and from each page's own title and first paragraph, at each build.
"""

import json
import re
from pathlib import Path

import yaml
from sphinx.application import Sphinx

from llmcourse.passages import plain

TUTOR = "book/tutor"  # how an assistant should help
NOTES = """The text, numbers and figures of a page stand in its HTML, and its source is at `_sources/` followed by its path, ending
in `.md` or `.ipynb`. Figures and numbers are stored outputs of code that the tests run again. A line that begins with ✓ is a result
that was checked where it stands. Addresses below are relative to this file."""
# What begins a line that is no prose: a heading, a directive, code, a table, a comment, a list, a picture or HTML.
MARKS = ("#", ":::", "```", "|", "%", "- ", "* ", "![", "<")
# Without its citation such a sentence would lack its subject or its object.
CITES = re.compile(r"[^.!?]*\{cite:t\}`[^`]*`[^.!?]*[.!?]")


def source(root: Path, page: str) -> str:
    """The text of a page, or of a notebook's first cell, by its name in _toc.yml."""
    if (path := root / f"{page}.md").is_file():
        return path.read_text(encoding="utf-8")
    notebook = json.loads((root / f"{page}.ipynb").read_text(encoding="utf-8"))
    return "".join(notebook["cells"][0]["source"])


def title(text: str) -> str:
    """The first heading, without marks. Raises ValueError when there is none."""
    if not (found := re.search(r"^# (.+)$", text, flags=re.MULTILINE)):
        raise ValueError(f"no line begins with '# ', so this page has no title: {text[:60]!r}")
    return plain(found[1])


def first_paragraph(text: str) -> str:
    """The first block of prose in one line, without marks. Raises ValueError when there is none."""
    for block in re.split(r"\n\s*\n", text):
        prose = "\n".join(line for line in block.splitlines() if not line.startswith(MARKS))
        if words := plain(CITES.sub("", prose)):
            return words
    raise ValueError(f"a page needs a paragraph that says what it is about: {text[:60]!r}")


def entry(root: Path, page: str, base: str) -> str:
    """One line of a list: where the page is, and what it is about."""
    text = source(root, page)
    return f"- [{title(text)}]({base}{page}.html): {first_paragraph(text)}"


def compose(root: Path, base: str = "") -> str:
    """The whole file for the book whose sources lie in `root`; `base` is what comes before each address.

    Raises ValueError when _toc.yml does not name the page that tells assistants how to help.
    """
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = [(part["caption"], [chapter["file"] for chapter in part["chapters"]]) for part in contents["parts"]]
    if not any(TUTOR in pages for _, pages in parts):
        raise ValueError(f"_toc.yml does not name {TUTOR}, which llms.txt sends assistants to; add it to a part")
    front = source(root, contents["root"])
    lines = [f"# {title(front)}", "", f"> {first_paragraph(front)}", "", *NOTES.splitlines(), ""]
    lines += ["## Read this first", "", entry(root, TUTOR, base), ""]
    for caption, pages in parts:
        lines += [f"## {caption}", "", *(entry(root, page, base) for page in pages if page != TUTOR), ""]
    return "\n".join(lines)


def write(app: Sphinx, error: Exception | None) -> None:
    """Put the file where the site begins."""
    if error or app.builder.format != "html":
        return
    text = compose(Path(app.srcdir), app.config.html_baseurl)
    (Path(app.outdir) / "llms.txt").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
