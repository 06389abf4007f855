"""Execute the notebooks and store what they show: `make notebooks`, or `python -m tests.notebooks 03` for one.

Each stored notebook carries two hashes: of its own code cells, and of the package that ran. A test compares the first,
publishing the second, so that no figure outlives the code that drew it.
"""

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from llmcourse.exercises import Exercise, all_exercises
from tests.kernels import PortlessKernelManager
from tests.timing import seconds_of_children

ROOT = Path(__file__).parents[1]
PACKAGE_SUFFIXES = {".py", ".js", ".css", ".toml", ".txt"}
HANGS = 300  # seconds after which a cell is given up; the time of a whole notebook is judged by strict_nbval
CHECK = re.compile(r"^(\w+)\.check\((.*?)\)\s*(?:#.*)?$", re.MULTILINE)
DIFFICULTY = {1: "a few lines", 2: "some thought", 3: "a puzzle"}


def paths() -> list[Path]:
    """All chapters, in their order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    """A notebook as stored."""
    return nbformat.read(path, as_version=4)


def code_hash(notebook: NotebookNode) -> str:
    """A hash of what the notebook runs."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def package_hash() -> str:
    """A hash of all that ships with the package."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "llmcourse").rglob("*")):
        if path.suffix in PACKAGE_SUFFIXES and path.is_file():
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


# What a title made of a class name does not spell as the course does.
SPELLED = {
    "Word piece": "WordPiece", "bleu": "BLEU", "gpt2": "GPT-2", "Bm25scores": "BM25 scores", "gelus": "GELUs", "f1": "F1",
    "adam w": "AdamW", "Multi head": "Multi-head", "Pre norm": "Pre-norm", "feed forward": "feed-forward",
    "Low rank": "Low-rank", "all reduce": "all-reduce", "Log odds": "Log-odds", "Compute optimal": "Compute-optimal",
    "Previous token": "Previous-token", "Cross attention": "Cross-attention", "Next token": "Next-token",
    "Language of": "Language of a question",
}  # fmt: skip


def title_of(exercise: type[Exercise]) -> str:
    """An exercise's name in words."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", exercise.__name__).capitalize()
    for made, right in SPELLED.items():
        name = re.sub(rf"\b{made}\b", right, name)
    return name


def exercise_card(exercise: type[Exercise], number: str) -> str:
    """The text above an exercise's cell, from the one place where its prompt is written."""
    return (
        f"### Exercise {number}: {title_of(exercise)}\n\n"
        f"*{DIFFICULTY[exercise.difficulty].capitalize()}, about {exercise.minutes} minutes.* {exercise.prompt}\n\n"
        f"Stuck? `{exercise.__name__}.hint()`; to compare, `{exercise.__name__}.show_solution()`."
    )


def number_of(path: Path) -> str:
    """The number that a notebook's name begins with, as its title has it: 3 of `03_self_attention`, 18b of `18b_domains`."""
    return path.name.partition("_")[0].removeprefix("0")


def fill_cards(notebook: NotebookNode, chapter: str) -> None:
    """Write the text of every markdown cell whose metadata names an exercise."""
    by_name = {exercise.__name__: exercise for exercise in all_exercises()}
    cards = [cell for cell in notebook.cells if cell.cell_type == "markdown" and "exercise" in cell.metadata]
    for number, cell in enumerate(cards, start=1):
        cell.source = exercise_card(by_name[cell.metadata["exercise"]], f"{chapter}.{number}")


def is_exercise(cell: NotebookNode) -> bool:
    """Whether the cell is one that a learner completes."""
    return cell.cell_type == "code" and "exercise" in cell.metadata.get("tags", [])


def solved(notebook: NotebookNode) -> NotebookNode:
    """The notebook with every exercise solved as `show_solution()` shows it, pasted in place of the learner's stub."""
    by_name = {exercise.__name__: exercise for exercise in all_exercises()}
    for cell in filter(is_exercise, notebook.cells):
        if check := CHECK.search(cell.source):
            exercise = by_name[check[1]]
            cell.source = f"{exercise.show_solution().code}\n\n{check[1]}.check({exercise.solution.__name__})"
    return notebook


def execute(notebook: NotebookNode) -> float:
    """Run all cells in place, without progress bars and with a progress file of its own.

    Returns the seconds of processor time that the kernel used: a busy machine changes them little.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(TQDM_DISABLE="1", LLMCOURSE_HOME=folder)
        began = seconds_of_children()
        here = {"metadata": {"path": ROOT}}
        options = {"kernel_name": "python3", "kernel_manager_class": PortlessKernelManager, "coalesce_streams": True}
        NotebookClient(notebook, timeout=HANGS, resources=here, **options).execute()
        return seconds_of_children() - began


def clean(notebook: NotebookNode) -> None:
    """Keep only the metadata that means something, so that a stored notebook changes only when its content does."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if output.output_type == "error":  # a learner needs its last line; the rest names folders of this machine
                output.traceback = [f"{output.ename}: {output.evalue}"]
            output.get("data", {}).pop(
                "application/vnd.jupyter.widget-view+json", None
            )  # its model is gone with the kernel
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        llmcourse={"code_sha256": code_hash(notebook), "package_sha256": package_hash()},
    )


def refresh(path: Path) -> None:
    """Execute one notebook and store it."""
    notebook = read(path)
    fill_cards(notebook, number_of(path))
    seconds = execute(notebook)
    clean(notebook)
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03}"
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1e6:.2f} MB")


def stale(chapters: Sequence[Path] | None = None) -> list[str]:
    """The notebooks whose outputs were made by another state of the package or of their own code; of all, if none are given."""
    hashes = {"package_sha256": package_hash()}
    return [
        path.name
        for path in (paths() if chapters is None else chapters)
        if (notebook := read(path)).metadata.llmcourse != {**hashes, "code_sha256": code_hash(notebook)}
    ]


def main(wanted: list[str]) -> int:
    """Refresh all notebooks, or those that begin with a given number; with --stale only name those that need it."""
    if wanted == ["--stale"]:
        print("\n".join([f"{name} is stale: run make notebooks" for name in stale()] or ["every notebook is fresh"]))
        return bool(stale())
    for chapter in paths():
        if not wanted or any(chapter.name.startswith(prefix) for prefix in wanted):
            refresh(chapter)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
