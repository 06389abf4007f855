"""Slides of the chapters: `make slides`, or `python -m tests.slides 03 --out FOLDER` for one.

They are cut from the notebooks: titles and headings with their first paragraph, predictions, figures, views, and the
claims. The rest of the prose becomes the speaker's notes. nbconvert lays them out for reveal.js, which is copied, as
MathJax is, out of an installed package, so that a slide asks no other host for anything and opens from a disk.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.notebooks import ROOT, paths, read
from tests.pages import extension

SLIDES = ROOT / "_build/slides"
NO_SLIDE = re.compile(r"## (Exercises|Quiz|Going further|The same on)")  # these are for the learner's own time
INVITATION = re.compile(r"\n\nStuck\? `.*", re.DOTALL)
FOREIGN = re.compile(r'(?:src|href)="(?:https?:)?//|require\.config')  # what BertViz's views ask for
GOES_ON = ("> ", "$$", "|", "- ", "1. ")  # a quotation, a formula, a table or a list belongs to the paragraph before it
TICK = "\u2713"
# nbconvert's own template asks three hosts for scripts, and speaks to MathJax 2. The book has MathJax 3.
TEMPLATE = r"""
{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}
<script>MathJax = { tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]] } };</script>
<script defer src="mathjax/tex-chtml.js"></script>
{%- endblock -%}
{%- block html_head_css -%}
<style>
.reveal { font-size: 26px; }
.reveal .slides { text-align: left; }
.reveal .slides section { max-height: 100%; overflow: auto; box-sizing: border-box; padding: 0 1em; }
.reveal .slides section :is(h1, h2, h3) { text-transform: none; }
.reveal .slides h1 { font-size: 1.7em; } .reveal .slides h2 { font-size: 1.4em; } .reveal .slides h3 { font-size: 1.2em; }
.reveal .slides section img { height: 560px; width: auto; max-width: 100%; object-fit: contain; }
.jp-OutputPrompt, .jp-InputPrompt { display: none; }
</style>
{%- endblock -%}
{%- block data_png scoped -%}
<img src="data:image/png;base64,{{ output.data["image/png"] | replace("\n", "") }}"
     alt="{{ output.metadata["image/png"].alt | escape_html }}">
{%- endblock -%}
{%- block footer_js -%}
<script src="reveal/dist/reveal.js"></script>
<script src="reveal/plugin/notes/notes.js"></script>
<script>
Reveal.initialize({ hash: true, slideNumber: true, transition: "none", center: false, width: 1200, height: 720,
                    plugins: [RevealNotes] });
</script>
{%- endblock -%}
"""


def cut(notebook: NotebookNode) -> NotebookNode:
    """A notebook that holds what a slide shows, each cell marked with its place as nbconvert wants it."""
    cells, shown = [], True
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if cell.source.startswith("## "):
                shown = not NO_SLIDE.match(cell.source)
            cells += of_text(cell, shown)
        elif shown:
            cells += of_output(cell)
    for number, cell in enumerate(cells):
        cell["id"] = f"slide-{number:03}"
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def of_text(cell: NotebookNode, shown: bool) -> list[NotebookNode]:
    """A heading opens a slide with its first paragraph; a prediction has one of its own; the rest is for the speaker."""
    if "exercise" in cell.metadata:
        predicts = cell.metadata["exercise"].startswith("Predict")
        return [text(INVITATION.sub("", cell.source), "subslide")] if predicts else []
    if not shown:
        return []
    if not (level := re.match(r"(#{1,3}) ", cell.source)):
        return [text(cell.source, "notes")]
    if cell.source.startswith("## Summary"):
        return [text(cell.source, "slide")]
    parts, first = cell.source.split("\n\n"), 2
    while first < len(parts) and (parts[first - 1].endswith(":") or parts[first].startswith(GOES_ON)):
        first += 1
    kind = "subslide" if len(level[1]) == 3 else "slide"
    rest = "\n\n".join(parts[first:])
    return [text("\n\n".join(parts[:first]), kind), *([text(rest, "notes")] if rest else [])]


def of_output(cell: NotebookNode) -> list[NotebookNode]:
    """A figure or a view on a slide of its own, and claims as steps of the slide before."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            output.metadata["image/png"] = {"alt": cell.metadata.mystnb.image.alt}
            found.append(shows(output, "subslide"))
        elif "llmcourse-view" in data.get("text/html", "") and not FOREIGN.search(data["text/html"]):
            found.append(shows(output, "subslide"))
        elif claims := [line for line in output.get("text", "").splitlines() if line.startswith(TICK)]:
            found.append(shows(new_output("stream", name="stdout", text="\n".join(claims)), "fragment"))
    return found


def text(source: str, kind: str) -> NotebookNode:
    """A cell of text with its place: slide, subslide, or notes."""
    return new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}})


def shows(output: NotebookNode, kind: str) -> NotebookNode:
    """A cell of which only the output is seen."""
    return new_code_cell(outputs=[output], metadata={"slideshow": {"slide_type": kind}})


def page(notebook: NotebookNode, title: str) -> str:
    """The slides as one page, beside which the folders `reveal` and `mathjax` have to lie."""
    exporter = SlidesExporter(raw_template=TEMPLATE, exclude_input=True, exclude_output_prompt=True)
    exporter.reveal_url_prefix, exporter.reveal_theme = "reveal", "white"
    slides = cut(notebook)
    slides.metadata.title = title
    return exporter.from_notebook_node(slides)[0]


def copy_scripts(folder: Path) -> None:
    """Put reveal.js and MathJax beside the slides, with their licences."""
    offline = extension("offline")
    reveal = offline._installed("sphinx-revealjs", "revealjs/LICENSE").parent
    for part in ("LICENSE", "dist/reveal.js", "dist/reveal.css", "dist/theme/white.css", "plugin/notes/notes.js"):
        offline._copy(reveal / part, folder / "reveal" / part)
    fonts = "dist/theme/fonts/source-sans-pro"
    shutil.copytree(reveal / fonts, folder / "reveal" / fonts, dirs_exist_ok=True)
    mathjax = offline._installed("sphinx-mathjax-offline", "tex-chtml.js").parent
    for path in (path for pattern in offline.MATHJAX for path in mathjax.glob(pattern)):
        offline._copy(path, folder / "mathjax" / path.relative_to(mathjax))
    offline._copy(offline._installed("requests", "LICENSE"), folder / "mathjax/LICENSE")


def main(arguments: list[str]) -> int:
    """Write the slides of all chapters, or of those that begin with a given number."""
    parser = argparse.ArgumentParser(prog="python -m tests.slides", description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="what the notebooks' names begin with, such as 03")
    parser.add_argument("--out", type=Path, default=SLIDES, help="where they go (_build/slides)")
    parsed = parser.parse_args(arguments)
    copy_scripts(parsed.out)
    for path in paths():
        if not parsed.chapters or path.name.split("_")[0] in parsed.chapters:
            notebook = read(path)
            title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
            (parsed.out / f"{path.stem}.html").write_text(page(notebook, title), encoding="utf-8")
            print(parsed.out / f"{path.stem}.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
