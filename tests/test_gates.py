"""The gates themselves: each finds what it is for, and lets pass what is sound.

Planted are defects of notebooks here; those of pages of the book are planted in test_page_gates.py.
"""

import copy
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET

import nbformat
import pytest

from tests import notebooks
from tests.lints import RULES, Chapter
from tests.notebooks import ROOT, clean, code_hash, execute, package_hash, stale
from tests.planted import DYING, MARK, NAME, RUNNING, STORED, sound

PASSING = "import pytest\n\n\ndef test_passes():\n    pass\n\n\n"
EXPECTED = '@pytest.mark.xfail(reason="as nbval marks the cells after one that took too long")\ndef test_x():\n    raise ValueError\n'
LATE = "over_its_budget"  # the notebook that may use no time
RUN = (
    "import sys, pytest; from tests import strict_nbval; "
    f"strict_nbval.budget_of = lambda path: 0.001 if path.stem == '{LATE}' else 600; "
    "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'tests.strict_nbval', '--nbval', '--nbval-cell-timeout=300', "
    "'--rootdir', sys.argv[1], '--junitxml', sys.argv[1] + '/seen.xml', sys.argv[1]]))"
)
ONE_PORT = (  # Jupyter finds this port free, always
    "from jupyter_client.provisioning.local_provisioner import LocalPortCache; "
    "LocalPortCache.find_available_port = lambda cache, ip: {}"
)


@pytest.fixture(scope="module")
def base():
    """The sound notebook, run and stored as `make notebooks` does it."""
    notebook = sound()
    execute(notebook)
    clean(notebook)
    return notebook


def count_anew(notebook):
    """Give the cells the counts, and the notebook the hash, that it would have if it had run so."""
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    notebook.metadata.llmcourse.code_sha256 = code_hash(notebook)


def broken(notebook) -> set[str]:
    """The rules that the notebook breaks."""
    chapter = Chapter(path=ROOT / f"notebooks/{NAME}.ipynb", notebook=notebook, size=len(nbformat.writes(notebook)))
    return {rule.__name__ for rule in RULES if list(rule(chapter))}


@pytest.mark.slow
def test_every_defect_of_a_stored_notebook_breaks_its_rule_and_no_other(base):
    assert broken(base) == set()
    for defect in STORED:
        notebook = copy.deepcopy(base)
        defect.plant(notebook)
        if defect.counted_anew:
            count_anew(notebook)
        assert broken(notebook) == defect.breaks, defect.name


def test_no_rule_is_without_a_defect():
    assert set().union(*(defect.breaks for defect in STORED)) == {rule.__name__ for rule in RULES}
    assert len(STORED) + len(RUNNING) >= 30


@pytest.mark.slow
def test_a_notebook_made_by_another_state_of_the_package_is_stale(base, tmp_path, monkeypatch):
    path = tmp_path / f"{NAME}.ipynb"
    nbformat.write(base, path)
    assert stale([path]) == []
    monkeypatch.setattr(notebooks, "package_hash", lambda: package_hash()[::-1])
    assert stale([path]) == [path.name]


def written(base, path, cells):
    """Store the sound notebook with more cells; returns for each cell of code whether it must fail."""
    notebook = copy.deepcopy(base)
    notebook.cells += copy.deepcopy(list(cells))
    count_anew(notebook)
    nbformat.write(notebook, path)
    return [MARK in cell.metadata for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
def test_every_defect_that_shows_in_the_run_is_red_and_what_is_sound_is_green(base, tmp_path):
    cells = {"sound": (), "running": RUNNING, "dying": DYING, LATE: ()}
    must_fail = {name: written(base, tmp_path / f"{name}.ipynb", more) for name, more in cells.items()}
    must_fail[LATE][-1] = True  # whose kernel has ended after its last cell
    (tmp_path / "test_marks.py").write_text(PASSING + EXPECTED)
    result = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    seen = list(ET.parse(tmp_path / "seen.xml").iter("testcase"))
    for name, expected in must_fail.items():
        of_notebook = [case for case in seen if f"{name}.ipynb" in case.get("classname")]
        red = {
            case.get("name"): case.find("failure") is not None or case.find("error") is not None for case in of_notebook
        }
        assert red == {f"Cell {i}": fails for i, fails in enumerate(expected)}, result.stdout
    assert [case.find("failure") is not None for case in seen if "test_marks" in case.get("classname")] == [False, True]
    assert not any(case.find("skipped") is not None for case in seen)
    died = next(case for case in seen if "the kernel died" in ET.tostring(case, encoding="unicode"))
    assert float(died.get("time")) < 60  # and not the 300 s that the cell is given


@pytest.mark.slow
def test_a_port_that_another_process_takes_ends_no_kernel(base, tmp_path):
    written(base, tmp_path / "sound.ipynb", ())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = subprocess.run(
            [sys.executable, "-c", f"{ONE_PORT.format(taken.getsockname()[1])}; {RUN}", tmp_path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
        )
    assert result.returncode == pytest.ExitCode.OK, result.stdout + result.stderr
