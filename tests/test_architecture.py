"""The house keeps its order: floors, sizes, and what may not stand in any file."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "llmcourse").rglob("*.py"))
FLOORS = (  # from 0 upward
    ("files", "display", "passages", "pickles", "safe_code", "search"),
    (
        "attention",
        "tokenizers",
        "corpora",
        "claims",
        "weights",
        "assessments",
        "calibration",
        "watermark",
        "scaling",
        "quantisation",
    ),
    ("transformer", "data", "sources"),
    ("bert", "masking", "datasets", "optimisers", "chat", "poisoning", "footprint", "distributed"),
    ("models", "heads", "checkpoints", "lengths"),
    (
        "training",
        "generation",
        "adaptation",
        "evaluation",
        "bleu",
        "retrieval",
        "squad",
        "bias",
        "recording",
        "patching",
        "circuits",
        "interop",
        "experts",
        "latent",
        "planning",
    ),
    (
        "pretraining",
        "translation",
        "answering",
        "asking",
        "instructions",
        "preferences",
        "faithfulness",
        "keras",
        "memorising",
        "scaling_runs",
        "published",
        "serving",
        "speculative",
    ),
    ("injection", "capstone"),
    ("exercises", "visualize"),
    ("cli",),
    ("__main__",),
)
BARE = -1  # the package itself, which holds only its version
SHOWING = {"IPython", "matplotlib", "ipywidgets", "bertviz"}  # floor 5 and above
HEAVY = {"transformers", "tensorflow", "keras", "datasets", "sklearn", "bertviz"}  # inside functions only
COLOUR = r"(\x1b|\\u001b)\[[\d;]*m"
TEXT = {".py", ".md", ".ipynb", ".toml", ".yml", ".txt", ".css", ".js", ".svg", ".bib", ""}


def floor(module: str) -> int:
    """The floor of a module inside llmcourse, such as 'exercises.quiz'; BARE for the package itself."""
    name = module.split(".")[0]
    if name in ("", "__version__"):
        return BARE
    found = [number for number, names in enumerate(FLOORS) if name in names]
    assert found, f"llmcourse/{name} stands on no floor: add it to FLOORS, as low as its imports allow"
    return found[0]


def inner_name(path: Path) -> str:
    """'exercises.quiz' for llmcourse/exercises/quiz.py, '' for llmcourse/__init__.py."""
    parts = path.relative_to(ROOT / "llmcourse").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(source: str) -> list[tuple[str, bool]]:
    """Every imported module, with whether it is imported when the file is, and not later inside a function.

    `from llmcourse import models` counts as llmcourse.models.
    """
    found = []

    def visit(node: ast.AST, at_once: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import does not say which file to open"
            names = [f"llmcourse.{alias.name}" for alias in node.names] if node.module == "llmcourse" else [node.module]
            found.extend((name, at_once) for name in names)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, at_once and not inside)

    visit(ast.parse(source), True)
    return found


def faults(module: str, source: str) -> list[str]:
    """What a module imports and may not."""
    mine, found = floor(module), []
    for name, at_once in imports(source):
        package = name.split(".")[0]
        inner = name.removeprefix("llmcourse").lstrip(".")
        of_one_house = inner.split(".")[0] == module.split(".")[0]  # files of one folder may use each other
        if package == "llmcourse" and not of_one_house and floor(inner) >= mine:
            found.append(f"{name} does not lie below")
        if package in SHOWING and mine < floor("visualize"):
            found.append(f"{name} is for exercises, visualize and above")
        if package in HEAVY and at_once and module.split(".")[0] != "keras":  # the twins are made of Keras's layers
            found.append(f"{name} is heavy or optional: import it inside the function that needs it")
    return found


def files() -> list[Path]:
    """All files that are, or would be, under version control."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    """Each text file by its path, without a terminal's colours. What cannot be read as UTF-8 fails here."""
    return {
        path.relative_to(ROOT).as_posix(): re.sub(COLOUR, "", path.read_text(encoding="utf-8"))
        for path in files()
        if path.suffix in TEXT
    }


@pytest.mark.parametrize("path", MODULES, ids=inner_name)
def test_a_module_imports_only_from_the_floors_below(path):
    assert not faults(inner_name(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("attention", "from llmcourse.models import GPT"),
        ("attention", "from llmcourse import models"),
        ("attention", "import llmcourse.tokenizers"),
        ("models", "def f():\n    import llmcourse.visualize.views"),
        ("training", "import matplotlib.pyplot as plt"),
        ("visualize.views", "import transformers"),
    ],
)
def test_an_import_from_above_or_a_heavy_one_is_found(module, source):
    assert faults(module, source)


@pytest.mark.parametrize("path", MODULES, ids=inner_name)
def test_a_module_stays_short_enough_to_read(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    classes = [node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.ClassDef)]
    a_catalogue = path.parent.name == "exercises" and len(classes) >= 3  # one class after the other, read one by one
    assert a_catalogue or len(lines) <= 400
    assert not [node.name for node in classes if node.end_lineno - node.lineno >= 170]


def test_no_module_is_a_drawer_for_odds_and_ends():
    assert not [path for path in MODULES if path.stem in {"utils", "util", "common", "helpers", "misc"}]


def test_the_package_re_exports_nothing():
    assert imports((ROOT / "llmcourse/__init__.py").read_text(encoding="utf-8")) == []


def test_the_public_address_stands_in_one_file_only():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    address = config["repository"]["url"].removeprefix("https://")
    assert re.fullmatch(r"[\w.-]+/[\w.-]+/[\w.-]+", address)
    assert [name for name, text in texts().items() if address in text] == ["_config.yml"]


# The words are put together here, so that this file does not hold them itself.
PRIVATE = "|".join(
    [
        r"/(home|Users|root)/\w",  # somebody's home folder
        r"[A-Z]:\\+Users\\",
        r"(?<![\w.])/" + r"(work|opt|tmp|mnt)/[\w.-]+/",
        r"File [^\w\s]*/\w+/",  # a traceback that names where the package lay
        r"(pypi\.|files\.python" + r"hosted|download\.py" + r"torch|artifactory|index-" + r"url|find-" + r"links)",
    ]
)


def test_no_file_names_a_machine_s_folder_or_a_package_registry():
    found = {name: re.search(PRIVATE, text) for name, text in texts().items() if name != "tests/test_architecture.py"}
    assert not {name: match[0] for name, match in found.items() if match}


@pytest.mark.parametrize(
    "planted",
    [
        "see /home/ada/course",
        "C:\\Users\\ada",
        "File /build/x/llmcourse/claims.py:37",
        "https://pypi.org/simple",
        "/opt/tools/x",
    ],
)
def test_a_machine_s_folder_or_a_registry_is_found(planted):
    assert re.search(PRIVATE, planted)


def test_the_lock_pins_every_version_exactly():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins[0].startswith("torch==")  # first, so that no other package chooses another build of it
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+(; sys_platform != 'darwin')?", line)] == []
    assert "jupyter-book==1.0.4.post1" in pins
