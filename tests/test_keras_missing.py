"""Without TensorFlow the course works, and the twins say what to install."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.notebooks import ROOT, read


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment
    )


SENTENCE = (
    "ImportError: llmcourse.keras is the TensorFlow twin of the models and needs TensorFlow: "
    "pip install tensorflow (tensorflow-cpu is smaller, where there is no GPU)"
)
BLOCKED = "import sys\nsys.modules['tensorflow'] = sys.modules['keras'] = None\n"


@pytest.mark.slow
def test_a_missing_tensorflow_is_named_with_what_to_install():
    done = run(BLOCKED + "import llmcourse.keras")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(SENTENCE)


@pytest.mark.slow
def test_the_exercises_and_the_rest_of_the_course_need_no_tensorflow():
    done = run(
        BLOCKED + "from llmcourse.exercises import all_exercises\n"
        "from llmcourse.exercises.tensorflow import WhereOneMayLook\n"
        "import llmcourse.training, llmcourse.cli, llmcourse.visualize.views\n"
        "print(WhereOneMayLook.check(WhereOneMayLook.solution).status, len(all_exercises()) > 50)"
    )
    assert done.stdout.split() == ["correct", "True"], done.stderr


@pytest.mark.slow
def test_the_rest_of_the_course_does_not_load_tensorflow():
    done = run(
        "import sys, llmcourse, llmcourse.training, llmcourse.bert\nfrom llmcourse.exercises import all_exercises\n"
        "all_exercises()\nprint({'tensorflow', 'keras'} & set(sys.modules))"
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed: pip install tensorflow")
def test_keras_on_another_backend_is_refused_with_the_way_out():
    done = run("import llmcourse.keras", KERAS_BACKEND="torch")
    assert done.returncode == 1
    assert "Keras runs on torch here; set the environment variable KERAS_BACKEND=tensorflow" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed: pip install tensorflow")
def test_triton_is_loaded_before_tensorflow_and_never_after(tmp_path):
    (tmp_path / "triton.py").write_text("import sys\nprint('after' if 'tensorflow' in sys.modules else 'before')\n")
    assert run("import llmcourse.keras", PYTHONPATH=str(tmp_path)).stdout == "before\n"
    assert run("import tensorflow, llmcourse.keras", PYTHONPATH=str(tmp_path)).stdout == ""


@pytest.mark.slow
def test_the_chapter_says_what_to_install_and_its_exercises_and_quiz_need_nothing():
    cells = [cell for cell in read(ROOT / "notebooks/14_tensorflow.ipynb").cells if cell.cell_type == "code"]
    (looks,) = [number for number, cell in enumerate(cells) if "import llmcourse.keras" in cell.source]
    mine = [cell for cell in cells[looks:] if "exercise" in cell.metadata.get("tags", []) or "quiz(" in cell.source]
    ours = "\n".join(cell.source for cell in cells[1:looks] + mine) + "\nprint('all of these ran')\n"
    done = run(BLOCKED + ours + cells[looks].source)
    assert done.stdout.strip() == "all of these ran", done.stderr
    assert done.stderr.rstrip().endswith(SENTENCE)
