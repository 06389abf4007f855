"""What an installation without the repository gets: the source distribution, the wheel that is built from it, its commands."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from functools import cache
from pathlib import Path

import pytest

from llmcourse import __version__
from tests.browsing import ROOT
from tests.test_architecture import files

pytestmark = pytest.mark.slow
# Written when a wheel is built (see setup.py), and so not under version control.
WRITTEN = {"llmcourse/passages.json"}
SDIST = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
SMALL = ("--steps", "3", "--vocab", "300", "--width", "32", "--layers", "1", "--context", "32", "--batch", "4")
TEXT = "The lamp is lit. The river runs to the sea. Two sisters wait at the bridge, and the fox looks on. " * 20


def call(*arguments: str | Path, **options) -> str:
    """What a Python program of this name prints; if it fails, both its outputs."""
    run = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@cache
def tracked() -> set[str]:
    """The paths of all files that are, or would be, under version control; listed once, so that all tests judge the same."""
    return {path.relative_to(ROOT).as_posix() for path in files()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The source distribution, built from a copy that holds nothing that version control does not."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    call("-c", SDIST, out, cwd=source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The wheel, built from the source distribution alone: what that lacks, this lacks too."""
    out = tmp_path_factory.mktemp("wheel")
    call(*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", out, sdist, cwd=out)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def learner(wheel, tmp_path_factory):
    """Calls Python as somebody who has installed the wheel, in a folder that is far from the repository."""
    installed, elsewhere = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("elsewhere")
    call(*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", installed, wheel, cwd=elsewhere)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LLMCOURSE"))}
    environment |= {"PYTHONPATH": str(installed), "LLMCOURSE_HOME": str(elsewhere / "home"), "TQDM_DISABLE": "1"}
    where = call("-c", "import llmcourse; print(llmcourse.__file__)", cwd=elsewhere, env=environment)
    assert Path(where.strip()).is_relative_to(installed)
    (elsewhere / "text.txt").write_text(TEXT, encoding="utf-8")
    return lambda *arguments: call(*arguments, cwd=elsewhere, env=environment)


def test_the_source_distribution_holds_what_builds_and_tests_the_course(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    visible = {name for name in tracked() if not name.startswith(".")}
    assert {"LICENSE", "tests/test_package.py", "tests/axe.py"} <= visible
    assert visible - held == set()
    assert not [name for name in held if "__pycache__" in name or name.startswith((".git", ".venv", "_build"))]


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    package = {name for name in tracked() if name.startswith("llmcourse/")}
    assert len(package) > 100
    assert package - held == set(), "name them in pyproject.toml, under [tool.setuptools.package-data]"
    assert held - package == WRITTEN


def test_the_wheel_names_its_version_and_holds_the_licence(wheel):
    about = f"llmcourse-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_string(archive.read(f"{about}/METADATA").decode())
        licence = archive.read(f"{about}/licenses/LICENSE").decode()
    assert (metadata["Version"], metadata["License-Expression"]) == (__version__, "MIT")
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert metadata.get_payload().startswith("# Large Language Models")


def test_without_the_repository_a_learner_can_check_the_machine_train_and_write(learner):
    assert f"llmcourse {__version__}" in learner("-m", "llmcourse", "doctor")
    assert "saved to own" in learner("-m", "llmcourse", "train", "--text", "text.txt", "--out", "own", *SMALL)
    written = learner("-m", "llmcourse", "generate", "--model", "own", "The river", "--tokens", "5", "--seed", "0")
    assert written.startswith("The river")


def test_without_the_repository_the_book_answers_and_its_questions_can_be_learned(learner):
    said = learner("-m", "llmcourse", "ask", "what is the KV cache?", "--sections", "1")
    assert "book/glossary.html#term-KV-cache" in said
    assert "questions written" in learner("-m", "llmcourse", "review", "--anki", "deck.txt")


def test_without_the_repository_the_views_find_their_scripts_and_the_models_their_weights(learner):
    shown = (
        "from llmcourse.capstone.released import released_model\n"
        "from llmcourse.visualize import playground\n"
        "print(len(playground.page('here').html), playground.results()['parameters'], next(released_model().parameters()).numel())"
    )
    assert all(int(number) > 0 for number in learner("-c", shown).split())
