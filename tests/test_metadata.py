"""What stands around the course says the same as the course: version, licence, citation, containers, and Colab's versions."""

import json
import re
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from llmcourse import __version__
from tests.browsing import ROOT
from tests.test_workflows import makefile_targets

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The keys that version 1.2.0 of the format knows.
CFF = {"abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license",
       "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact", "repository-code",
       "title", "type", "url", "version"}  # fmt: skip
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_package_and_its_metadata_have_one_version():
    assert PROJECT["version"] == __version__


def test_the_citation_can_be_read_and_names_this_version():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= CFF
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert str(citation["version"]) == __version__
    assert citation["license"] == PROJECT["license"]
    assert citation["title"] == yaml.safe_load(text("_config.yml"))["title"]


def changes() -> list[tuple[str, str, str]]:
    """The changelog's entries: version, day, and what stands below."""
    pieces = re.split(r"^## \[(.+?)\](?: - (\S+))?$", text("CHANGELOG.md"), flags=re.MULTILINE)[1:]
    return list(zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True))


def test_the_changelog_has_an_entry_for_this_version_and_is_in_order():
    entries = changes()
    versions = [version for version, *_ in entries if version != "Unreleased"]
    assert versions[0] == __version__
    as_numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert as_numbers == sorted(as_numbers, reverse=True)
    for version, day, below in entries:
        assert version == "Unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d|Unreleased", day or ""), version
        kinds = re.findall(r"^### (.+)$", below, flags=re.MULTILINE)
        assert set(kinds) <= KINDS and (kinds or version == "Unreleased")
        assert all(piece.strip().startswith("- ") for piece in re.split(r"^### .+$", below, flags=re.MULTILINE)[1:])


def test_a_container_for_developing_is_made_by_make_and_opens_the_book_s_door():
    container = json.loads(text(".devcontainer/devcontainer.json"))
    _, tag = container["image"].split(":")
    assert tag.split("-")[0] in SpecifierSet(PROJECT["requires-python"])
    command, target = container["postCreateCommand"].split()
    assert command == "make" and target in makefile_targets(text("Makefile"))
    (port,) = re.findall(r"^PORT \?= (\d+)$", text("Makefile"), flags=re.MULTILINE)
    assert container["forwardPorts"] == [int(port)]


def test_binder_gets_the_package_and_a_python_that_it_allows():
    assert "-e ." in text(".binder/requirements.txt").splitlines()
    version = text(".binder/runtime.txt").strip().removeprefix("python-")
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_every_picture_of_the_readme_is_there_and_small():
    named = set(re.findall(r'(?:src|srcset)="([^"]+)"|!\[[^\]]*\]\(([^)]+)\)', text("README.md")))
    pictures = {one or other for one, other in named}
    taken = {path.relative_to(ROOT).as_posix() for path in (ROOT / "book/_static/screenshots").glob("*.png")}
    assert taken and taken == {name for name in pictures if name.endswith(".png")}
    assert [name for name in pictures if (ROOT / name).stat().st_size > 150_000] == []
    assert all(len(words.split()) > 5 for words in re.findall(r'alt="([^"]*)"', text("README.md")))


def colab() -> dict[str, str]:
    """What Colab has installed, by name."""
    lines = (line for line in text("tests/colab_pins.txt").splitlines() if line and not line.startswith("#"))
    return dict(line.split("==") for line in lines)


def moved(asked: list[str], there: dict[str, str]) -> set[str]:
    """The requirements that an installation on Colab could only meet by exchanging what is there."""
    found = map(Requirement, asked)
    return {
        str(one) for one in found if (name := canonicalize_name(one.name)) in there and there[name] not in one.specifier
    }


def closure(asked: list[str], there: dict[str, str]) -> list[str]:
    """All requirements of what would be installed beside what is there: those named, and theirs, as far as installed here."""
    here = {"python_version": "3.13", "python_full_version": there["python"], "sys_platform": "linux", "extra": ""}
    waiting, seen, found = list(asked), set(), []
    while waiting:
        one = Requirement(waiting.pop())
        if one.marker and not one.marker.evaluate(here):
            continue
        found.append(str(one))
        name = canonicalize_name(one.name)
        if name not in there and name not in seen:
            seen.add(name)
            waiting += metadata.requires(name) or []
    return found


def test_installing_on_colab_exchanges_nothing_that_is_there():
    there, asked = colab(), PROJECT["dependencies"]
    assert there["python"] in SpecifierSet(PROJECT["requires-python"])
    named = {canonicalize_name(Requirement(one).name) for one in asked}
    assert {"torch", "numpy", "matplotlib", "ipywidgets", "safetensors"} <= named & set(there)
    assert moved(asked, there) == set()


def test_what_those_packages_need_exchanges_nothing_either():
    there = colab()
    needed = closure(PROJECT["dependencies"], there)
    assert {"bertviz", "transformers", "boto3"} <= {Requirement(one).name for one in needed}  # it did go on
    assert moved(needed, there) == set()


@pytest.mark.parametrize("asked", ["ipywidgets>=8", "torch>=2.13", "numpy<2", "ipython>=8; python_version > '3'"])
def test_a_requirement_that_would_exchange_something_is_found(asked):
    assert moved(["tqdm>=4", asked], colab()) == {str(Requirement(asked))}
