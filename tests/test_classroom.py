"""A class is graded: from a chapter's notebook to the scores of twenty synthetic students, by nbgrader."""

import ast
import csv
import json
import linecache
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from llmcourse.exercises import Exercise, all_exercises
from llmcourse.exercises.grading import full_points, points_for
from llmcourse.exercises.language_models import Bigram, Perplexity, PredictFloor, SentenceProbability, Shortcut
from tests import classroom
from tests.editions import exercises_of
from tests.notebooks import CHECK, ROOT, is_exercise, paths, read

CHAPTER = ROOT / "notebooks/01_language_models.ipynb"
NAME = CHAPTER.stem
WORTH = {PredictFloor: 2, Bigram: 4, Perplexity: 4, SentenceProbability: 4, Shortcut: 2}
ALL = sum(WORTH.values())
MOST = max(len(exercise.mistakes) for exercise in WORTH)  # so many students make every known mistake of the chapter
HALVES = ALL / 2 - 1  # a wrong prediction earns nothing
Student = Callable[[NotebookNode], None]


def cell_of(notebook: NotebookNode, exercise: type[Exercise], part: str = "answer") -> NotebookNode:
    return next(
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") == f"{part}-{exercise.__name__}"
    )


def writes(exercise: type[Exercise], code: str) -> Student:
    """Someone who puts this in place of the stub, and leaves the line that checks."""

    def student(notebook: NotebookNode) -> None:
        cell = cell_of(notebook, exercise)
        cell.source = f"{code}\n\n{cell.source.splitlines()[-1]}"

    return student


def solves(*exercises: type[Exercise]) -> Student:
    """Someone who writes the solutions."""

    def student(notebook: NotebookNode) -> None:
        for exercise in exercises:
            writes(exercise, exercise.show_solution().code)(notebook)

    return student


def all_but(exercise: type[Exercise], code: str) -> Student:
    """Someone who solves all, and gives this for one."""
    return both(solves(*WORTH), writes(exercise, code))


def both(first: Student, second: Student) -> Student:
    def student(notebook: NotebookNode) -> None:
        first(notebook)
        second(notebook)

    return student


def errs(number: int) -> Student:
    """Someone who makes a known mistake in each exercise: the one of this number, counted round."""

    def student(notebook: NotebookNode) -> None:
        for exercise in WORTH:
            names = list(exercise.mistakes)
            wrong = f"{exercise.__name__}.mistakes[{names[number % len(names)]!r}].answer"
            writes(exercise, f"{exercise.solution.__name__} = {wrong}")(notebook)

    return student


def deletes(*parts: str) -> Student:
    """Someone who solves all, and then loses cells of one exercise."""

    def student(notebook: NotebookNode) -> None:
        solves(*WORTH)(notebook)
        for part in parts:
            notebook.cells.remove(cell_of(notebook, Bigram, part))

    return student


def pays_itself(notebook: NotebookNode) -> None:
    for exercise in WORTH:
        cell = cell_of(notebook, exercise, "points")
        cell.source, cell.metadata.nbgrader.points = "100.0", 100


OTHERWISE = {
    PredictFloor: "lowest_loss = math.log(2 ** 1.5)",
    Bigram: """
def bigram(sentences, n_vocab, k):
    table = torch.full((n_vocab, n_vocab), float(k))
    for words in sentences:
        for place in range(len(words) - 1):
            table[words[place]][words[place + 1]] += 1
    return torch.nn.functional.normalize(table, p=1, dim=-1)""",
    Perplexity: """
def perplexity(logits, targets):
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    return math.exp(loss)""",
    SentenceProbability: """
def log_probability(words):
    shares = dict(the=1, old=1 / 6, red=1 / 6, cat=1 / 2, dog=3 / 10, trees=1 / 5, sleeps=3 / 5, waits=2 / 5)
    return math.log(3 / 4) + sum(math.log(shares[word]) for word in words)""",
    Shortcut: """
def guess(words):
    for word in words:
        if word in agree.PLURAL_NOUNS:
            return "plural"
        if word in agree.SINGULAR_NOUNS:
            return "singular\"""",
}


def writes_otherwise(notebook: NotebookNode) -> None:
    for exercise, code in OTHERWISE.items():
        writes(exercise, code.lstrip())(notebook)


def mixes(notebook: NotebookNode) -> None:
    """Someone of whom all is true at once: right in other words, wrong in a known way, endless, blank, and greedy."""
    for exercise in (PredictFloor, Bigram):
        writes(exercise, OTHERWISE[exercise].lstrip())(notebook)
    writes(Perplexity, "perplexity = Perplexity.mistakes['forgets_exp'].answer")(notebook)
    writes(SentenceProbability, "def log_probability(words):\n    while True:\n        pass")(notebook)
    pays_itself(notebook)


ENDLESS = "def perplexity(logits, targets):\n    while True:\n        pass"
NAN = "def bigram(sentences, n_vocab, k):\n    return torch.full((n_vocab, n_vocab), math.nan)"
CLASS: dict[str, tuple[Student, float]] = {  # who hands in what, and the score out of 16
    "perfect": (solves(*WORTH), ALL),
    "otherwise": (writes_otherwise, ALL),
    "blank": (lambda notebook: None, 0),
    "half-done": (solves(PredictFloor, Bigram, Perplexity), 10),
    **{f"mistakes-{number}": (errs(number), HALVES) for number in range(MOST)},
    "crash": (all_but(Bigram, "def bigram(sentences, n_vocab, k):\n    return 1 / 0"), ALL - 4),
    "endless-call": (all_but(Perplexity, ENDLESS), ALL - 4),
    "endless-cell": (all_but(SentenceProbability, "while True:\n    pass"), ALL - 4),
    "syntax": (all_but(Shortcut, "def guess(words) return 'plural'"), ALL - 2),
    "nan": (all_but(Bigram, NAN), ALL - 4),
    "exits": (all_but(Perplexity, "def perplexity(logits, targets):\n    sys.exit()"), ALL - 4),
    "pays-itself": (pays_itself, 0),
    "mixed": (mixes, 2 + 4 + 4 / 2),
    "deleted-answer": (deletes("answer"), ALL - 4),
    "deleted-points": (deletes("points"), ALL),
    "deleted-both": (deletes("answer", "points"), 0),  # nbgrader 0.9 cannot grade this one, nor the next; it names them
    "kills": (all_but(Bigram, "import os\n\nos._exit(1)"), 0),
}
UNGRADED = {"deleted-both", "kills"}
SAMPLE = ("otherwise", "mixed")


def nbgrader(course: Path, *arguments: str) -> subprocess.CompletedProcess:
    """One command, as an instructor gives it in an activated environment: nbgrader calls another program by name."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["nbgrader", *arguments]
    return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, timeout=2400)


def released(course: Path) -> NotebookNode:
    """Make the assignment and release it; what the students get."""
    assert classroom.main(["01", "--out", str(course)]) == 0
    done = nbgrader(course, "generate_assignment", NAME)
    assert done.returncode == 0, done.stderr
    return nbformat.read(course / "release" / NAME / CHAPTER.name, as_version=4)


def graded(course: Path, students: Iterable[str]) -> tuple[dict[str, float], str]:
    """Hand in, grade and export: each student's score, and what nbgrader said."""
    for name in students:
        notebook = nbformat.read(course / "release" / NAME / CHAPTER.name, as_version=4)
        CLASS[name][0](notebook)
        file = course / "submitted" / name / NAME / CHAPTER.name
        file.parent.mkdir(parents=True)
        nbformat.write(notebook, file)
    said = nbgrader(course, "autograde", NAME).stderr
    done = nbgrader(course, "export")
    assert done.returncode == 0, done.stderr
    with (course / "grades.csv").open(encoding="utf-8") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}, said


def read_by(course: Path, student: str) -> str:
    """All that stands in a student's graded notebook."""
    return (course / "autograded" / student / NAME / CHAPTER.name).read_text(encoding="utf-8")


def expected(students: Iterable[str]) -> dict[str, float]:
    return {name: float(CLASS[name][1]) for name in students}


def test_the_class_is_large_and_hands_in_all_exercises_of_the_chapter():
    assert len(CLASS) >= 20 and exercises_of(read(CHAPTER)) == list(WORTH)
    assert [full_points(exercise) for exercise in WORTH] == list(WORTH.values())


@pytest.mark.slow
def test_points_are_full_half_or_none(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))
    assert points_for(Shortcut, Shortcut.solution) == 2.0
    assert points_for(Shortcut, Shortcut.mistakes["last_noun"].answer) == 1.0
    assert "next to the verb" in capsys.readouterr().out
    assert points_for(Shortcut, lambda words: "neither") == points_for(Shortcut, ...) == 0.0
    assert (points_for(PredictFloor, 1.04), points_for(PredictFloor, 1.5)) == (
        2.0,
        0.0,
    )  # 1.5 is a known mistake, and a guess


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_an_assignment_holds_every_exercise_with_its_solution_and_its_points(path):
    made = classroom.assignment(read(path))
    by_name = {exercise.__name__: exercise for exercise in all_exercises()}
    wanted = [CHECK.search(cell.source)[1] for cell in read(path).cells if is_exercise(cell)]
    names = [cell.metadata.nbgrader.grade_id for cell in made.cells if "nbgrader" in cell.metadata]
    assert names == [f"{part}-{name}" for name in wanted for part in ("answer", "points")]
    assert len(names) == len(set(names))
    for name in wanted:
        answer, reward = (cell_of(made, by_name[name], part) for part in ("answer", "points"))
        assert by_name[name].show_solution().code.rstrip() in answer.source.partition("### BEGIN SOLUTION")[2]
        assert reward.metadata.nbgrader.points == full_points(by_name[name]) and reward.metadata.nbgrader.locked
    assert "show_solution" not in "".join(cell.source for cell in made.cells if cell.cell_type == "markdown")


@pytest.mark.slow
def test_from_release_to_scores_with_two_of_the_class(tmp_path):
    release = released(tmp_path)
    assert "SOLUTION" not in "".join(cell.source for cell in release.cells)
    for exercise in WORTH:
        body = exercise.show_solution().code.split("\n", 1)[1].strip()
        assert body not in cell_of(release, exercise).source
        assert "..." in cell_of(release, exercise).source
    scores, said = graded(tmp_path, SAMPLE)
    assert scores == expected(SAMPLE), said
    assert Perplexity.mistakes["forgets_exp"].sentence in read_by(tmp_path, "mixed")
    assert "Is there a loop that never ends?" in read_by(tmp_path, "mixed")


@pytest.mark.slow
@pytest.mark.soak
def test_the_scores_of_the_whole_class_are_those_expected(tmp_path):
    released(tmp_path)
    scores, said = graded(tmp_path, CLASS)
    assert scores == expected(CLASS), said
    assert set(re.findall(r"error processing assignment '\w+' for student '([\w-]+)'", said)) == UNGRADED
    for number in range(MOST):
        text = read_by(tmp_path, f"mistakes-{number}")
        for exercise in WORTH:
            sentence = list(exercise.mistakes.values())[number % len(exercise.mistakes)].sentence
            assert json.dumps(sentence, ensure_ascii=False)[1:-1] in text
    done = nbgrader(tmp_path, "generate_feedback", NAME, "--student=mistakes-0")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "feedback" / "mistakes-0" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert "Score: 7.0 / 16.0" in page


def run(cell: NotebookNode, name: str, names: dict) -> object:
    """Run a cell here, as a kernel would, and return the value of its last line if that is an expression."""
    linecache.cache[name] = (len(cell.source), None, cell.source.splitlines(keepends=True), name)  # some checks read it
    tree = ast.parse(cell.source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names) if last else None


def in_slow_form(path: Path) -> bool:
    """The chapters whose assignments are the oddest: an answer whose source is read, and one that needs two others."""
    return path.name.startswith(("00", "20"))


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if in_slow_form(path) else pytest.mark.soak) for path in paths()],
)
def test_the_solutions_of_an_assignment_earn_all_its_points(path, monkeypatch, tmp_path):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))
    names = {"__name__": "__main__"}
    cells = [cell for cell in classroom.assignment(read(path)).cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells[1:]):  # the first installs the course on Colab
        result = run(cell, f"<assignment-{path.stem}-{number}>", names)
        if cell.metadata.get("nbgrader", {}).get("grade"):
            assert result == cell.metadata.nbgrader.points, cell.source


def test_a_chapter_that_is_not_there_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        classroom.main(["99", "--out", str(tmp_path)])
    assert "there are the chapters 00, 01" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
