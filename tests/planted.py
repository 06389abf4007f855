"""A small sound notebook, and defects to plant into it: a gate that cannot fail proves nothing.

A defect of the stored file is judged by the rules of tests/lints.py. One that shows when the cells run is judged by nbval with
the plugin strict_nbval; its cell bears a mark, and with all of them in one notebook exactly the marked cells must fail.
"""

from collections.abc import Callable
from dataclasses import dataclass

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from llmcourse.exercises.language_models import Bigram
from llmcourse.exercises.start_here import MendSoftmax
from tests.lints import FIRST_CELL
from tests.notebooks import exercise_card

NAME = "01_planted"
ALT = "Three bars of the heights two, three and five; the last one is the tallest of them."
FIGURE = {"tags": ["nbval-ignore-output"], "mystnb": {"image": {"alt": ALT}}}
MARK = "planted"  # in the metadata of the cell that must fail when it runs
PROSE = (
    "# 1 · A planted chapter\n\nYou will be able to find faults, in two minutes.",
    *("## Failure museum", "## Exercises", "## Going further", "## Quiz", "## Summary"),
)


def code(source: str, *outputs: NotebookNode, **metadata: object) -> NotebookNode:
    """A cell of code, with what is stored as its outputs."""
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(text: str, name: str = "stdout") -> NotebookNode:
    """What a cell has printed."""
    return new_output("stream", name=name, text=text)


def sound() -> NotebookNode:
    """A notebook that breaks no rule once it has run."""
    cells = [
        new_markdown_cell(PROSE[0]),
        code(FIRST_CELL, tags=["hide-input"]),
        code(
            "import random\nimport sys\n\nimport matplotlib.pyplot as plt\n\n"
            "from llmcourse.claims import claim\nfrom llmcourse.display import show_source"
        ),
        code("heights = [2, 3, 5]\nprint(sum(heights), 'in all')"),
        code("sorted(heights)"),
        code("plt.bar('abc', heights)\nplt.show()", **FIGURE),
        code("claim('the last bar is the tallest', heights[-1], equals=max(heights))"),
        code("heights[3]", tags=["raises-exception"]),
        code("show_source(claim)"),
        *map(new_markdown_cell, PROSE[1:]),
    ]
    return new_notebook(cells=cells)


@dataclass(frozen=True, kw_only=True)
class Defect:
    """What to do to the sound notebook, and the rules that must then be broken, no others."""

    name: str
    plant: Callable[[NotebookNode], object]
    breaks: frozenset[str]
    counted_anew: bool = True  # the defect comes with counts and a hash as if the notebook had run so


def cell_with(notebook: NotebookNode, text: str) -> NotebookNode:
    """The first cell that has the text in its source."""
    return next(cell for cell in notebook.cells if text in cell.source)


def add(notebook: NotebookNode, *cells: NotebookNode) -> None:
    """Put cells at the end."""
    notebook.cells += cells


def defect(name: str, plant: Callable[[NotebookNode], object], *breaks: str, counted_anew: bool = True) -> Defect:
    return Defect(name=name, plant=plant, breaks=frozenset(breaks), counted_anew=counted_anew)


def strip_counts(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None


def strip_outputs(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []


def run_in_another_order(notebook: NotebookNode) -> None:
    one, other = cell_with(notebook, "print(sum"), cell_with(notebook, "sorted(heights)")
    one.execution_count, other.execution_count = other.execution_count, one.execution_count


def remove(notebook: NotebookNode, text: str) -> None:
    notebook.cells.remove(cell_with(notebook, text))


def print_and_show(notebook: NotebookNode) -> None:
    shown = new_output("display_data", data={"text/plain": "'shown'"})
    add(notebook, code("display('shown')\nprint('printed')", printed("printed\n"), shown))


def show_old_source(notebook: NotebookNode) -> None:
    data = cell_with(notebook, "show_source(claim)").outputs[0].data
    data["text/markdown"] = data["text/markdown"].replace("equals is not None", "equals is None")


def end_plain_source_with_a_line_break(notebook: NotebookNode) -> None:
    cell_with(notebook, "show_source(claim)").outputs[0].data["text/plain"] += "\n"


def set_exercise(notebook: NotebookNode) -> None:
    card = exercise_card(MendSoftmax, "1.1").replace("Stuck?", "Lost?")
    add(notebook, new_markdown_cell(card, metadata={"exercise": "MendSoftmax"}))
    add(notebook, code("MendSoftmax.check(softmax)", tags=["exercise"]))


def set_answer(notebook: NotebookNode) -> None:
    card = exercise_card(Bigram, "1.1")
    add(notebook, new_markdown_cell(card, metadata={"exercise": "Bigram"}))
    add(notebook, code("def counted(): ...\n\n\nBigram.check(counted)", tags=["exercise"]))


HIDDEN, KINDS = "nothing_is_hidden_from_nbval", "a_cell_has_one_kind_of_output"
THERE, MACHINES = "what_is_not_compared_is_there", "outputs_hold_nothing_that_differs_between_machines"
FIGURES = "figures_have_an_alt_text_and_their_message_is_not_compared"
CLAIMS = "what_a_figure_shows_is_pinned_by_a_claim_after_it"
CODE, ORDER = "stored_outputs_belong_to_the_stored_code", "every_code_cell_was_run_in_order"
SHOWN, PARTS = "shown_code_is_that_of_the_package", "chapter_has_all_its_parts"
HIDING = {  # cells that hide something from nbval
    "a skip in a string": code('text = """\n# NBVAL_SKIP\n"""'),
    "an old name of a comment of nbval": code("print(1)  \n# PYTEST_VALIDATE_IGNORE_OUTPUT", printed("1\n")),
    "a skip tag": code("1 / 0", tags=["nbval-skip"]),
    "a semicolon at the end": code("heights;"),
    "an output that is cleared": code("from IPython.display import clear_output\nclear_output()"),
    "an exception that is not expected": code("1 / 0", new_output("error", ename="ZeroDivisionError", evalue="")),
    "an expected exception that is not raised": code("1 / 1", tags=["raises-exception"]),
    "an exception where outputs are not compared": code(
        "1 / 0",
        new_output("error", ename="ZeroDivisionError", evalue=""),
        tags=["raises-exception", "nbval-ignore-output"],
    ),
}

STORED = (
    *(defect(name, lambda notebook, cell=cell: add(notebook, cell), HIDDEN) for name, cell in HIDING.items()),
    defect("stripped counts", strip_counts, ORDER, counted_anew=False),
    defect("cells run in another order", run_in_another_order, ORDER, counted_anew=False),
    defect("stripped outputs", strip_outputs, HIDDEN, THERE),
    defect("a stripped picture", lambda notebook: cell_with(notebook, "plt.bar").outputs.clear(), THERE),
    defect(
        "a stripped output that is not compared", lambda n: add(n, code("1 + 1", tags=["nbval-ignore-output"])), THERE
    ),
    defect("a figure without a claim", lambda notebook: remove(notebook, "claim('the last"), CLAIMS),
    defect("stdout and display in one cell", print_and_show, KINDS),
    defect("a stored warning", lambda n: add(n, code("warn()", printed("UserWarning: x\n", name="stderr"))), KINDS),
    defect(
        "an edited cell with its old output",
        lambda notebook: cell_with(notebook, "sorted").update(source="sorted(heights)[::-1]"),
        CODE,
        counted_anew=False,
    ),
    defect(
        "another hash of the code",
        lambda notebook: notebook.metadata.llmcourse.update(code_sha256="0" * 64),
        CODE,
        counted_anew=False,
    ),
    defect("no alt text", lambda notebook: cell_with(notebook, "plt.bar").metadata.pop("mystnb"), FIGURES),
    defect("a short alt text", lambda n: cell_with(n, "plt.bar").metadata.mystnb.image.update(alt="Bars."), FIGURES),
    defect("a figure whose message is compared", lambda n: cell_with(n, "plt.bar").metadata.pop("tags"), FIGURES),
    defect(
        "a folder of this machine", lambda n: add(n, code("print(x)", printed("/" + "home/somebody/x.txt\n"))), MACHINES
    ),
    defect("an address in memory", lambda n: add(n, code("print(x)", printed("<object at 0x7f1234567890>"))), MACHINES),
    defect("old code of the package", show_old_source, SHOWN),
    defect("a plain text that is not the code shown", end_plain_source_with_a_line_break, SHOWN),
    defect("a directive", lambda n: add(n, new_markdown_cell("```{note}\nx\n```")), "prose_is_plain_markdown"),
    defect("a role", lambda n: add(n, new_markdown_cell("as {cite:t}`x` says")), "prose_is_plain_markdown"),
    defect(
        "a paper that the references do not know",
        lambda n: add(n, new_markdown_cell("[Nobody, 2020](https://arxiv.org/abs/2000.00000)")),
        "works_that_are_cited_stand_in_the_references",
    ),
    defect(
        "two sections in a cell", lambda n: add(n, new_markdown_cell("x\n\n## A\n\ny")), "a_heading_begins_its_cell"
    ),
    defect("a long cell", lambda notebook: add(notebook, code("\n".join(["x = 1"] * 21))), "cells_are_small"),
    defect(
        "another first cell",
        lambda notebook: cell_with(notebook, "google.colab").update(source="%pip install llmcourse"),
        "first_cell_is_the_same_everywhere",
    ),
    defect(
        "a name of the package",
        lambda notebook: add(notebook, code("def claim():\n    pass")),
        "notebook_defines_nothing_that_the_package_defines",
    ),
    defect("another text of an exercise", set_exercise, "exercise_cards_are_those_of_the_package"),
    defect(
        "a snippet with a name that nobody imports",
        lambda n: add(n, new_markdown_cell("```python\nmodel = GPT(heights)\n```")),
        "code_in_prose_uses_names_that_there_are",
    ),
    defect("an answer of another name", set_answer, "an_answer_has_the_name_that_its_card_asks_for"),
    defect("no summary", lambda n: n.cells[-1].update(source="The end."), PARTS),
    defect("another number in the title", lambda n: n.cells[0].update(source=PROSE[0].replace("1", "2")), PARTS),
)


def marked(name: str, source: str, *outputs: NotebookNode, tags: tuple[str, ...] = ()) -> NotebookNode:
    """A cell that must fail when it runs."""
    return code(source, *outputs, tags=list(tags), **{MARK: name})


def executed(text: str) -> NotebookNode:
    """The value that a cell has shown."""
    return new_output("execute_result", data={"text/plain": text}, execution_count=1)


RUNNING = (
    marked("a stripped output", "print(1)"),
    marked("another number", "print(2 + 2)", printed("5\n")),
    marked("an edited cell with its old output and a new hash", "sorted(heights)[::-1]", executed("[2, 3, 5]")),
    marked("old code of the package", "show_source(claim)", new_output("display_data", data={"text/markdown": "old"})),
    marked("an output that is never the same", "random.random()", executed("0.5")),
    marked("an exception that is not expected", "1 / 0", new_output("error", ename="ZeroDivisionError", evalue="")),
    marked("an expected exception that is not raised", "x = 1", tags=("raises-exception",)),
    marked("the same, not compared", "x = 1", tags=("raises-exception", "nbval-ignore-output")),
    marked("a skip in a string", 'x = """\n# NBVAL_SKIP\n"""'),
    marked("a skip tag", "x = 1", tags=("nbval-skip",)),
    marked("a warning", "print('x', file=sys.stderr)"),
    marked("a warning, not compared", "print('x', file=sys.stderr)", tags=("nbval-ignore-output",)),
    # As one who ran the second cell twice has stored it.
    code("times = 0"),
    marked("an output of another order", "times += 1\nprint(times)", printed("2\n")),
    # The stored picture is that of [2, 3, 5], and passes.
    code("heights = [5, 3, 2]"),
    code("plt.bar('abc', heights)\nplt.show()", new_output("display_data", data={"image/png": "AAAA"}), **FIGURE),
    marked(
        "the claim of another plot",
        "claim('the last bar is the tallest', heights[-1], equals=max(heights))",
        printed("✓ the last bar is the tallest: exactly 5\n"),
    ),
)
DYING = (
    marked("a kernel that dies", "import os\n\nos._exit(1)"),
    marked("a cell after it", "print(1)", printed("1\n")),
)
