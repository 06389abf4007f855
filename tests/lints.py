"""What must hold for every stored notebook. Each rule names what breaks it; tests/planted.py has a defect for every rule.

A rule sees only the stored file. What shows when the cells run is for nbval, with the plugin strict_nbval.
"""

import ast
import builtins
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from nbformat import NotebookNode
from nbval.plugin import comment_markers

from llmcourse.exercises import all_exercises
from tests.notebooks import CHECK, ROOT, code_hash, exercise_card, is_exercise, number_of, read

SECTIONS = ("## Quiz", "## Summary")
CHAPTER_SECTIONS = ("## Failure museum", "## Exercises", "## Going further")
FIRST_CELL = (
    "# On Colab this installs the course; anywhere else there is nothing to do.\nimport sys\n\n"
    'if "google.colab" in sys.modules:\n    %pip install --quiet llmcourse'
)
TAGS = {"nbval-ignore-output", "exercise", "raises-exception", "hide-input"}
WORK = re.compile(r"https://(?:arxiv\.org/abs/|doi\.org/|aclanthology\.org/)([^\s)]+)")  # the address of a paper
NEAR = 8  # cells of code after a figure, in one of which a claim says what it shows


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A notebook as stored, with its file's name and size in bytes."""

    path: Path
    notebook: NotebookNode
    size: int

    @cached_property
    def code(self) -> list[NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @cached_property
    def prose(self) -> list[NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]


def chapter(path: Path) -> Chapter:
    """The chapter that a file holds."""
    return Chapter(path=path, notebook=read(path), size=path.stat().st_size)


def tags(cell: NotebookNode) -> set[str]:
    """What the cell is tagged with."""
    return set(cell.metadata.get("tags", []))


def data_of(cell: NotebookNode) -> list[dict]:
    """What the cell's outputs hold, by kind; nothing for text that it printed."""
    return [output.get("data", {}) for output in cell.outputs]


def is_figure(cell: NotebookNode) -> bool:
    """Whether a picture is stored with the cell."""
    return any("image/png" in data for data in data_of(cell))


def python(cell: NotebookNode) -> ast.Module:
    """The cell's syntax tree, without the lines that only IPython understands."""
    return ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", cell.source, flags=re.MULTILINE))


def defined(tree: ast.Module) -> set[str]:
    """The functions and classes at the top of some code."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def stored_outputs_belong_to_the_stored_code(chapter: Chapter) -> Iterator[str]:
    if chapter.notebook.metadata.get("llmcourse", {}).get("code_sha256") != code_hash(chapter.notebook):
        yield "code was changed after the notebook ran; run: make notebooks"


def every_code_cell_was_run_in_order(chapter: Chapter) -> Iterator[str]:
    counts = [cell.execution_count for cell in chapter.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the counts are {counts}"


def first_cell_is_the_same_everywhere(chapter: Chapter) -> Iterator[str]:
    if chapter.code[0].source != FIRST_CELL:
        yield chapter.code[0].source


def nothing_is_hidden_from_nbval(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.code:
        hidden = (
            any(comment in cell.source for comment in ("NBVAL", *comment_markers))
            or not tags(cell) <= TAGS
            or tags(cell) >= {"raises-exception", "nbval-ignore-output"}
            or cell.source.rstrip().endswith(";")
            or "clear_output" in cell.source
        )
        failed = any(output.output_type == "error" for output in cell.outputs)
        if hidden or failed != ("raises-exception" in tags(cell)):
            yield cell.source


def a_cell_has_one_kind_of_output(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.code:
        kinds = {(output.output_type, output.get("name")) for output in cell.outputs}
        if len(kinds) > 1 or ("stream", "stderr") in kinds:
            yield cell.source


def what_is_not_compared_is_there(chapter: Chapter) -> Iterator[str]:
    """nbval finds an output that was taken out, but not where it does not compare, and no picture anywhere."""
    for cell in chapter.code:
        described = "image" in cell.metadata.get("mystnb", {})
        if ("nbval-ignore-output" in tags(cell) and not cell.outputs) or (described and not is_figure(cell)):
            yield cell.source


def figures_have_an_alt_text_and_their_message_is_not_compared(chapter: Chapter) -> Iterator[str]:
    for cell in filter(is_figure, chapter.code):
        words = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if len(words) <= 40 or "nbval-ignore-output" not in tags(cell):
            yield cell.source


def what_a_figure_shows_is_pinned_by_a_claim_after_it(chapter: Chapter) -> Iterator[str]:
    figures = [i for i, cell in enumerate(chapter.code) if is_figure(cell)]
    claims = [i for i, cell in enumerate(chapter.code) if re.search(r"\bclaim\(", cell.source)]
    if not claims:
        yield "a chapter states results; let claims back them"
    for figure in figures:
        if not any(0 < claim - figure <= NEAR for claim in claims):
            yield chapter.code[figure].source


def outputs_hold_nothing_that_differs_between_machines(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.code:
        text = "".join(output.get("text", "") for output in cell.outputs)
        text += "".join(data.get("text/plain", "") for data in data_of(cell))
        if re.search(r" at 0x[0-9a-f]{6}|/home/|/root/|/tmp/|\.venv", text):
            yield cell.source


def prose_is_plain_markdown(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.prose:
        if re.search(r"^(`{3,}|:{3,})\{\w|\{\w[\w:.+-]*\}`", cell.source, re.MULTILINE):
            yield cell.source


def a_heading_begins_its_cell(chapter: Chapter) -> Iterator[str]:
    """Jupyter and Colab fold a chapter by its cells, and slides are cut at them: a heading further down would be lost."""
    for cell in chapter.prose:
        bare = re.sub(r"^```.*?^```$", "", cell.source, flags=re.MULTILINE | re.DOTALL)
        yield from re.findall(r"\n(#{1,3} .*)", bare)


def cells_are_small(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.code:
        if not cell.source.startswith(("import ", "from ")) and cell.source.count("\n") >= 20:
            yield cell.source
    if chapter.size >= 1_000_000:
        yield f"the file has {chapter.size:,} bytes"


def exercise_cards_are_those_of_the_package(chapter: Chapter) -> Iterator[str]:
    by_name = {exercise.__name__: exercise for exercise in all_exercises()}
    cards = [cell for cell in chapter.prose if "exercise" in cell.metadata]
    for number, cell in enumerate(cards, start=1):
        exercise = by_name[cell.metadata["exercise"]]
        if cell.source != exercise_card(exercise, f"{number_of(chapter.path)}.{number}"):
            yield f"run: make notebooks\n{cell.source}"
    shown = [CHECK.search(cell.source)[1] for cell in chapter.code if is_exercise(cell)]
    if shown != [cell.metadata["exercise"] for cell in cards]:
        yield f"the cells check {shown}"


@cache
def package_names() -> frozenset[str]:
    """The functions and classes of the package, without the exercises."""
    files = [path for path in (ROOT / "llmcourse").rglob("*.py") if "exercises" not in path.parts]
    return frozenset().union(*(defined(ast.parse(path.read_text(encoding="utf-8"))) for path in files))


def notebook_defines_nothing_that_the_package_defines(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.code:
        if not is_exercise(cell):
            yield from sorted(defined(python(cell)) & package_names())


def definitions(module: str) -> Iterator[str]:
    """The text of every function and class of a file of the package, as `show_source` shows it."""
    text = (ROOT / module).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
            yield textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno])).strip("\n")


def shown_code_is_that_of_the_package(chapter: Chapter) -> Iterator[str]:
    for data in (data for cell in chapter.code for data in data_of(cell)):
        shown = data.get("text/markdown", "")
        if match := re.fullmatch(r"`(llmcourse/[^`]+)`\n\n```python\n(.*)\n```", shown, re.DOTALL):
            left = match[2]
            if data["text/plain"] != left:  # nbval compares this one
                yield f"run: make notebooks. The plain text is not the code:\n{data['text/plain']}"
            known = {one for file in match[1].split(", ") for one in definitions(file)}
            for code in sorted(known, key=len, reverse=True):
                left = left.replace(code, "")
            if left.strip():
                yield f"run: make notebooks. The package no longer says:\n{left}"


def bound(tree: ast.AST) -> set[str]:
    """All names that some code binds: by assigning, importing, defining, or as an argument."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def code_in_prose_uses_names_that_there_are(chapter: Chapter) -> Iterator[str]:
    """A reader pastes it into the notebook."""
    known = set(dir(builtins)).union(*(bound(python(cell)) for cell in chapter.code))
    for cell in chapter.prose:
        for snippet in re.findall(r"^```python\n(.*?)^```", cell.source, re.MULTILINE | re.DOTALL):
            tree = ast.parse(snippet)
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            yield from sorted(used - bound(tree) - known)


@cache
def references() -> str:
    """The list of references, in lower case: names of papers on doi.org are written in both."""
    return (ROOT / "book/references.bib").read_text(encoding="utf-8").lower()


def works_that_are_cited_stand_in_the_references(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.prose:
        yield from (name for name in WORK.findall(cell.source) if name.lower().rstrip("/") not in references())


def an_answer_has_the_name_that_its_card_asks_for(chapter: Chapter) -> Iterator[str]:
    cards = {cell.metadata["exercise"]: cell.source for cell in chapter.prose if "exercise" in cell.metadata}
    for cell in filter(is_exercise, chapter.code):
        asked = re.search(r"Write `(\w+)\(", cards.get(CHECK.search(cell.source)[1], ""))
        if asked and asked[1] not in defined(python(cell)):
            yield f"{asked[1]} is asked for:\n{cell.source}"


def chapter_has_all_its_parts(chapter: Chapter) -> Iterator[str]:
    prose = "\n".join(cell.source for cell in chapter.prose)
    headings = SECTIONS if chapter.path.name.startswith("00") else SECTIONS + CHAPTER_SECTIONS
    wanted = [f"^{heading}$" for heading in headings] + ["You will be able to", "minutes"]
    yield from (pattern for pattern in wanted if not re.search(pattern, prose, re.MULTILINE))
    if not prose.startswith(f"# {number_of(chapter.path)} · "):
        yield "the title has not the number of the file's name"


RULES: tuple[Callable[[Chapter], Iterator[str]], ...] = (
    stored_outputs_belong_to_the_stored_code,
    every_code_cell_was_run_in_order,
    first_cell_is_the_same_everywhere,
    nothing_is_hidden_from_nbval,
    a_cell_has_one_kind_of_output,
    what_is_not_compared_is_there,
    figures_have_an_alt_text_and_their_message_is_not_compared,
    what_a_figure_shows_is_pinned_by_a_claim_after_it,
    outputs_hold_nothing_that_differs_between_machines,
    prose_is_plain_markdown,
    a_heading_begins_its_cell,
    cells_are_small,
    exercise_cards_are_those_of_the_package,
    notebook_defines_nothing_that_the_package_defines,
    shown_code_is_that_of_the_package,
    code_in_prose_uses_names_that_there_are,
    works_that_are_cited_stand_in_the_references,
    an_answer_has_the_name_that_its_card_asks_for,
    chapter_has_all_its_parts,
)
