"""The chapters as stored: nothing stale, nothing hidden from nbval, everything a learner needs; and run as solved."""

import ast
import importlib
import re
import subprocess
import sys
import textwrap

import nbformat
import pytest

from llmcourse.exercises import all_exercises
from llmcourse.exercises.quiz import questions
from tests import notebooks
from tests.notebooks import CHECK, ROOT, code_hash, execute, exercise_card, is_exercise, number_of, paths, read, solved
from tests.timing import BUDGET, pace

each_notebook = pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
SECTIONS = ("## Quiz", "## Summary")
CHAPTER_SECTIONS = ("## Failure museum", "## Exercises", "## Going further")
FIRST_CELL = (
    "# On Colab this installs the course; anywhere else there is nothing to do.\nimport sys\n\n"
    'if "google.colab" in sys.modules:\n    %pip install --quiet llmcourse'
)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def python(cell):
    """The cell's syntax tree, without the lines that only IPython understands."""
    return ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", cell.source, flags=re.MULTILINE))


def data_of(cell):
    return [output.get("data", {}) for output in cell.outputs]


def test_there_are_chapters():
    assert len(paths()) >= 4


def test_table_of_contents_names_every_chapter():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert re.findall(r"notebooks/(\w+)", contents) == [path.stem for path in paths()]


@each_notebook
def test_stored_outputs_belong_to_the_stored_code(path):
    notebook = read(path)
    assert notebook.metadata.llmcourse.code_sha256 == code_hash(notebook), "run: make notebooks"


def test_a_changed_package_makes_every_notebook_stale(monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "package_hash", lambda: "another")
    assert notebooks.main(["--stale"]) == 1
    assert capsys.readouterr().out.count("is stale") == len(paths())
    stored = {read(path).metadata.llmcourse.package_sha256 for path in paths()}
    if len(stored) == 1:  # all were made by one state of the package: with that state, all are fresh
        monkeypatch.setattr(notebooks, "package_hash", lambda: next(iter(stored)))
        assert notebooks.stale() == []


@each_notebook
def test_every_code_cell_was_run_in_order(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_first_cell_is_the_same_everywhere(path):
    assert code_cells(path)[0].source == FIRST_CELL


@each_notebook
def test_nothing_is_hidden_from_nbval(path):
    for cell in code_cells(path):
        assert "NBVAL" not in cell.source
        assert tags(cell) <= {"nbval-ignore-output", "exercise", "raises-exception", "hide-input"}
        assert not {"raises-exception", "nbval-ignore-output"} <= tags(cell)
        assert not cell.source.rstrip().endswith(";")
        assert "clear_output" not in cell.source
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == ("raises-exception" in tags(cell))


@each_notebook
def test_a_cell_has_one_kind_of_output(path):
    for cell in code_cells(path):
        kinds = {(output.output_type, output.get("name")) for output in cell.outputs}
        assert len(kinds) <= 1, cell.source
        assert ("stream", "stderr") not in kinds, cell.source


@each_notebook
def test_figures_have_an_alt_text_and_their_message_is_not_compared(path):
    for cell in code_cells(path):
        if any("image/png" in data for data in data_of(cell)):
            assert len(cell.metadata.mystnb.image.alt) > 40, cell.source
            assert "nbval-ignore-output" in tags(cell), cell.source


@each_notebook
def test_what_a_figure_shows_is_pinned_by_a_claim_after_it(path):
    cells = code_cells(path)
    figures = [i for i, cell in enumerate(cells) if any("image/png" in data for data in data_of(cell))]
    claims = [i for i, cell in enumerate(cells) if re.search(r"\bclaim\(", cell.source)]
    assert claims, "a chapter states results; let claims back them"
    assert not figures or max(claims) > max(figures)


@each_notebook
def test_outputs_hold_nothing_that_differs_between_machines(path):
    for cell in code_cells(path):
        text = "".join(output.get("text", "") for output in cell.outputs)
        text += "".join(data.get("text/plain", "") for data in data_of(cell))
        assert not re.search(r" at 0x[0-9a-f]{6}|/home/|/root/|/tmp/|\.venv", text), cell.source


@each_notebook
def test_prose_is_plain_markdown(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"^(`{3,}|:{3,})\{\w|\{\w+\}`", cell.source, re.MULTILINE), cell.source


@each_notebook
def test_cells_are_small(path):
    for cell in code_cells(path):
        if not cell.source.startswith(("import ", "from ")):
            assert cell.source.count("\n") < 20, cell.source
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_exercise_cards_are_those_of_the_package(path):
    by_name = {exercise.__name__: exercise for exercise in all_exercises()}
    cards = [cell for cell in read(path).cells if cell.cell_type == "markdown" and "exercise" in cell.metadata]
    for number, cell in enumerate(cards, start=1):
        exercise = by_name[cell.metadata["exercise"]]
        assert cell.source == exercise_card(exercise, f"{number_of(path)}.{number}"), "run: make notebooks"
    shown = [CHECK.search(cell.source)[1] for cell in code_cells(path) if is_exercise(cell)]
    assert shown == [cell.metadata["exercise"] for cell in cards]


@each_notebook
def test_exercises_of_a_chapter_know_its_number(path):
    name = path.stem.partition("_")[2]
    assert number_of(path) == str(importlib.import_module(f"llmcourse.exercises.{name}").CHAPTER)


def test_every_exercise_stands_in_a_chapter():
    shown = {CHECK.search(cell.source)[1] for path in paths() for cell in code_cells(path) if is_exercise(cell)}
    assert shown == {exercise.__name__ for exercise in all_exercises()}


@each_notebook
def test_notebook_defines_nothing_that_the_package_defines(path):
    package = set()
    for module in (ROOT / "llmcourse").rglob("*.py"):
        if "exercises" not in module.parts:
            tree = ast.parse(module.read_text(encoding="utf-8"))
            package |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for cell in code_cells(path):
        if not is_exercise(cell):
            names = {node.name for node in python(cell).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            assert not names & package


def definitions(module):
    """The text of every function and class of a file of the package, as `show_source` shows it."""
    text = (ROOT / module).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
            yield textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno])).strip("\n")


@each_notebook
def test_shown_code_is_that_of_the_package(path):
    for shown in filter(None, (data.get("text/markdown", "") for cell in code_cells(path) for data in data_of(cell))):
        if match := re.fullmatch(r"`(llmcourse/[^`]+)`\n\n```python\n(.*)\n```", shown, re.DOTALL):
            left = match[2]
            for code in sorted(
                {one for file in match[1].split(", ") for one in definitions(file)}, key=len, reverse=True
            ):
                left = left.replace(code, "")
            assert not left.strip(), f"run: make notebooks. The package no longer says:\n{left}"


@each_notebook
def test_chapter_has_all_its_parts(path):
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    wanted = SECTIONS if path.name.startswith("00") else SECTIONS + CHAPTER_SECTIONS
    for heading in wanted:
        assert re.search(rf"^{heading}$", prose, re.MULTILINE), heading
    assert re.match(rf"# {number_of(path)} · ", prose)
    assert re.search(r"You will be able to", prose)
    assert re.search(r"minutes", prose)


@each_notebook
def test_quiz_explains_every_option(path):
    for question in questions(path.stem.partition("_")[2]):
        assert sum(option.get("right", False) for option in question["option"]) == 1, question["ask"]
        assert len(question["option"]) >= 3
        assert all(len(option["why"]) > 20 for option in question["option"])


def test_the_place_of_an_option_does_not_tell_whether_it_is_right():
    asked = [one for path in paths() for one in questions(path.stem.partition("_")[2]) if len(one["option"]) == 3]
    places = [next(place for place, option in enumerate(one["option"]) if option.get("right")) for one in asked]
    assert all(0.2 < places.count(place) / len(asked) < 0.47 for place in range(3))


@pytest.mark.slow
@each_notebook
def test_notebook_runs_with_every_exercise_solved(path):
    notebook = solved(read(path))
    assert execute(notebook) < BUDGET * pace()
    checked = list(filter(is_exercise, notebook.cells))
    assert checked
    for cell in checked:
        assert cell.outputs[0]["data"]["text/plain"].startswith("\u2713"), cell.outputs


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "outcome"), [(0.1, 1), (600, 0)])
def test_a_notebook_over_its_budget_is_a_failure(tmp_path, budget, outcome):
    busy = nbformat.v4.new_code_cell("for _ in range(10_000_000):\n    pass", execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[busy]), tmp_path / "busy.ipynb")
    run = (
        "import sys, pytest; from tests import strict_nbval; strict_nbval.BUDGET = float(sys.argv[1]); "
        "sys.exit(pytest.main(['-q', '-p', 'tests.strict_nbval', '--nbval', sys.argv[2], '--rootdir', sys.argv[3]]))"
    )
    command = [sys.executable, "-c", run, str(budget), str(tmp_path / "busy.ipynb"), str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == outcome, result.stdout + result.stderr
    assert ("busy.ipynb used" in result.stdout) == bool(outcome)
