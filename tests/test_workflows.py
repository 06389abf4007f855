"""What runs on the code host: with few rights, within a time, with parts that cannot change, and with commands that exist."""

import itertools
import re
import tomllib

import pytest
import yaml

from tests import hashes
from tests.browsing import ROOT

FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
# Rights beyond reading, by the job that needs them.
WIDER = {"deploy": {"pages": "write", "id-token": "write"}, "release": {"contents": "write", "actions": "write"}}
LONGEST = 60  # minutes
PINNED = r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
SPOKEN = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")  # ${{ ... }}


# What is published is built from these files. requirements.txt does not name what builds a package, which pip brings along, and
# what torch asks for beside a GPU, which not every machine has.
HASHED, LISTED = "requirements-publish.txt", "requirements.txt"
LINE = re.compile(r"([\w.-]+)==([\w.]+) --hash=sha256:[0-9a-f]{64}")
UNLISTED = re.compile(r"build|pyproject-hooks|setuptools|wheel|triton|(cuda|nvidia)-.+")
INSTALLS = f"-m pip install --require-hashes --only-binary :all: --requirement {HASHED}"


def workflow(path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs() -> list[tuple[str, str, dict]]:
    """Every job with its file and its name."""
    return [(path.stem, name, job) for path in FILES for name, job in workflow(path)["jobs"].items()]


def makefile_targets(text: str) -> set[str]:
    """The targets of a Makefile, those that are named by a variable too."""
    values = dict(re.findall(r"^(\w+) [:?]?= (\S+)$", text, flags=re.MULTILINE))
    names = re.findall(r"^([^\s#:=][^:=\n]*):(?!=)", text, flags=re.MULTILINE)
    plain = [re.sub(r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), name) for name in names]
    return {target for name in plain for target in name.split() if not target.startswith(".PHONY")}


def cases(job: dict) -> list[dict]:
    """The values of a job's matrix, one dictionary for each run."""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    more = matrix.pop("include", [])
    product = [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]
    return product + more


def filled(command: str, case: dict) -> str:
    """A command with the values of one run of the matrix put in."""
    return SPOKEN.sub(lambda found: str(case.get(found[1].removeprefix("matrix."), "")), command)


def made(job: dict) -> set[str]:
    """What a job asks make for, in all runs of its matrix."""
    commands = [filled(step.get("run", ""), case) for step in job["steps"] for case in cases(job)]
    return {word for words in re.findall(r"\bmake\b([^\n;&|]*)", "\n".join(commands)) for word in words.split()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_may_read_and_a_job_more_only_where_it_must(path):
    text, found = path.read_text(encoding="utf-8"), workflow(path)
    assert found["permissions"] == {"contents": "read"}
    assert {
        name: job["permissions"] for name, job in found["jobs"].items() if "permissions" in job
    }.items() <= WIDER.items()
    assert "secrets" not in text, "no job needs one"
    assert "group" in found["concurrency"]
    assert "pull_request_target" not in text


def test_what_is_published_is_built_from_no_cache():
    """A cache is shared between runs, so that another run could have changed what it holds."""
    steps = [step for workflow, _, job in jobs() if workflow == "publish" for step in job["steps"]]
    assert [step for step in steps if "cache" in step.get("with", {}) or "actions/cache" in step.get("uses", "")] == []


def test_every_job_has_a_limit_and_every_checkout_forgets_its_key():
    assert len(jobs()) >= 6
    assert [name for _, name, job in jobs() if not 0 < job.get("timeout-minutes", 0) <= LONGEST] == []
    steps = [step for *_, job in jobs() for step in job["steps"] if "checkout@" in step.get("uses", "")]
    assert steps and all(step["with"]["persist-credentials"] is False for step in steps)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(path):
    used = re.findall(r"uses: (.+)", path.read_text(encoding="utf-8"))
    assert used
    assert [line for line in used if not re.fullmatch(PINNED, line)] == []


def test_one_action_has_one_version():
    used = {line for path in FILES for line in re.findall(r"uses: (.+)", path.read_text(encoding="utf-8"))}
    assert len(used) == len({line.split("@")[0] for line in used})


def test_no_command_is_put_together_from_what_a_stranger_can_name():
    """A branch's or a tag's name inside a command would be run by the shell; in a variable it is only text."""
    spoken = {name for *_, job in jobs() for step in job["steps"] for name in SPOKEN.findall(step.get("run", ""))}
    assert {name for name in spoken if not name.startswith("matrix.")} == set()


def test_make_is_asked_only_for_what_it_has():
    targets = makefile_targets((ROOT / "Makefile").read_text(encoding="utf-8"))
    assert {"book", "test", "check", ".venv/.installed"} <= targets
    asked = {target for *_, job in jobs() for target in made(job)}
    assert {"test", "check", "book"} <= asked
    assert asked - targets == set()


def test_a_target_that_make_lacks_is_found():
    job = {
        "strategy": {"matrix": {"target": ["x"], "include": [{"target": "y"}]}},
        "steps": [{"run": "make ${{ matrix.target }}"}],
    }
    assert made(job) == {"x", "y"}
    assert made({"steps": [{"run": "cd a && make b\nremake c"}]}) == {"b"}
    assert makefile_targets("A := b/c\n$(A): d\n\techo e: f\ng h: i\nJ := k:\n") == {"b/c", "g", "h"}


def test_every_promised_python_is_tried():
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    (check,) = [job for file, name, job in jobs() if (file, name) == ("check", "check")]
    assert set(promised) == set(check["strategy"]["matrix"]["python"])


def test_the_audit_runs_by_the_calendar_and_blocks_nothing():
    (audit,) = [job for _, name, job in jobs() if name == "audit"]
    assert audit["continue-on-error"] is True and "schedule" in audit["if"]
    (file,) = [path for path in FILES if path.stem == "check"]
    assert workflow(file)[True]["schedule"]  # YAML reads the key `on` as true


def pinned(name: str) -> dict[str, str]:
    """The versions that a file of requirements asks for."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


def test_every_file_that_what_is_published_is_built_from_has_a_hash_and_the_tested_version():
    text = (ROOT / HASHED).read_text(encoding="utf-8")
    assert text.startswith(hashes.HEAD) and "://" not in text
    lines = text.removeprefix(hashes.HEAD).splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    published, tested = pinned(HASHED), pinned(LISTED)
    assert len(published) == len(lines) > 90
    assert {name for name in published if published[name] != tested.get(name) and not UNLISTED.fullmatch(name)} == set()


def test_the_hashed_files_are_all_that_the_package_and_the_book_ask_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["book"], "build", "setuptools"]
    assert {re.match(r"[\w.-]+", one)[0].lower() for one in asked} - set(pinned(HASHED)) == set()


def test_what_is_published_is_built_from_hashed_files_alone():
    publishing = {name: job for file, name, job in jobs() if file == "publish" and name in ("book", "package")}
    assert len(publishing) == 2
    for job in publishing.values():
        assert job["runs-on"] == "ubuntu-latest"
        assert [step["with"]["python-version"] for step in job["steps"] if "setup-python@" in step.get("uses", "")] == [
            "3.11"
        ]
        commands = [step.get("run", "") for step in job["steps"]]
        installs = [command for command in commands if re.search(r"\bpip\b", command)]
        assert installs[0].endswith(INSTALLS)
        assert all("--no-index --no-deps --no-build-isolation" in command for command in installs[1:])
        if asks := [place for place, command in enumerate(commands) if command.startswith("make ")]:
            # make finds its environment complete, and installs nothing
            assert any(command.startswith("touch .venv/.installed") for command in commands[: asks[0]])
        assert all("--no-isolation" in command for command in commands if "-m build" in command)
    assert any("-m build" in step.get("run", "") for step in publishing["package"]["steps"])


def test_the_hash_of_a_local_build_is_refused():
    def item(version: str, **found) -> dict:
        return {"metadata": {"name": "torch", "version": version}, "download_info": found}

    good = item("2.13.0", archive_info={"hashes": {"sha256": "0" * 64}})
    assert LINE.fullmatch(hashes.line(good))
    assert hashes.lines({"install": [good, good]}, leave_out="torch") == hashes.HEAD
    for local in (item("2.13.0+cpu", archive_info={"hashes": {"sha256": "0" * 64}}), item("2.13.0", dir_info={})):
        with pytest.raises(ValueError, match=r"torch 2\.13\.0\S* is a local build; unset"):
            hashes.line(local)
