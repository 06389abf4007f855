"""Writes the atlas of misconceptions at each build, and links it and the exercises both ways."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from sphinx.application import Sphinx

from llmcourse.exercises import Exercise
from llmcourse.exercises.atlas import Misconception, misconceptions

PAGE = "book/misconceptions"
MARK = "% the atlas"
INVITATION = re.compile(r'<p>Stuck\? <code[^>]*><span class="pre">(\w+)\.hint\(\)</span></code>')
SIGNS = re.compile(r"([\\_\[\]<>$#|{}~^])")  # that Markdown would read as its own; *emphasis* may stay


def exercises_of(notebook: dict) -> Iterator[tuple[str, str]]:
    """Each exercise's name and the heading of its text, in the order of the notebook."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and "exercise" in cell["metadata"]:
            yield cell["metadata"]["exercise"], "".join(cell["source"]).split("\n", 1)[0].removeprefix("### ")


def places(app: Sphinx) -> dict[str, tuple[str, str, str]]:
    """For each exercise that the book holds: its notebook, the chapter's title, and the exercise's heading."""
    found = {}
    for page in sorted(page for page in app.env.found_docs if page.startswith("notebooks/")):
        path = Path(app.srcdir) / f"{page}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        title = "".join(notebook["cells"][0]["source"]).split("\n", 1)[0].removeprefix("# ")
        found |= {name: (path.name, title, heading) for name, heading in exercises_of(notebook)}
    return found


def plain(text: str) -> str:
    """The text with its `code` and *emphasis*, and with nothing else that Markdown would read as its own."""
    pieces = text.split("`")
    return "`".join(SIGNS.sub(r"\\\1", piece) if i % 2 == 0 else piece for i, piece in enumerate(pieces))


def anchor(name: str) -> str:
    """Where the mistakes of the exercise of this name stand on the page."""
    return f"mistakes-{name.lower()}"


def section(exercise: type[Exercise], found: list[Misconception], place: tuple[str, str, str]) -> str:
    notebook, _, heading = place
    slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    lines = [f"({anchor(exercise.__name__)})=", f"### {heading.split(': ', 1)[-1]}", ""]
    lines += [f"[{heading}](../notebooks/{notebook}#{slug}) knows these.", ""]
    for one in found:
        seen = plain(one.symptom.replace("`", "")).replace("*", r"\*")
        lines += [one.name.capitalize(), f": {plain(one.sentence)}", "", f"  [Seen so: {seen}]{{.symptom}}", ""]
    return "\n".join(lines)


def write(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the atlas where its page has the mark."""
    if page != PAGE:
        return
    if MARK not in source[0]:
        raise ValueError(f"{PAGE} no longer holds the line {MARK}, where the atlas belongs")
    where, parts, title = places(app), [], None
    order = {name: number for number, name in enumerate(where)}  # a chapter that is not in the book yet has none
    known = [one for one in misconceptions() if one.exercise.__name__ in order]
    known.sort(key=lambda one: order[one.exercise.__name__])
    for exercise, found in groupby(known, key=lambda one: one.exercise):
        if where[exercise.__name__][1] != title:
            title = where[exercise.__name__][1]
            parts.append(f"## {title}\n")
        parts.append(section(exercise, list(found), where[exercise.__name__]))
    source[0] = source[0].replace(MARK, "\n".join(parts))


def outdated(app: Sphinx, *changes: object) -> list[str]:
    """The atlas, always: Sphinx cannot see that an exercise has changed."""
    return [PAGE] if PAGE in app.env.all_docs else []


def link_back(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Beside an exercise's hint, name the place where its mistakes stand."""
    if not page.startswith("notebooks/") or "body" not in context:
        return
    address = context["pathto"](PAGE)

    def add(found: re.Match) -> str:
        link = f'<a href="{address}#{anchor(found[1])}">what others got wrong</a>'
        return found[0].replace("Stuck? ", f"Stuck? Read {link}, or call ")

    context["body"] = INVITATION.sub(add, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", write)
    app.connect("env-get-outdated", outdated)
    app.connect("html-page-context", link_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
