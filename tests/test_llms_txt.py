"""llms.txt names every page of the book, in its order, and says what each is about."""

import json
import re

import pytest
import yaml

from tests.browsing import ROOT
from tests.pages import extension

LINK = re.compile(r"- \[([^\[\]]+)\]\(([^()\s]+)\): (.+)")


@pytest.fixture(scope="module")
def llms_txt():
    """The extension, which lies in no package."""
    return extension("llms_txt")


def links(text: str) -> list[tuple[str, str, str]]:
    return [LINK.fullmatch(line).groups() for line in text.splitlines() if line.startswith("- ")]


def contents() -> list[str]:
    read = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [chapter["file"] for part in read["parts"] for chapter in part["chapters"]]


def test_every_page_is_named_once_in_the_order_of_the_book_after_the_page_for_assistants(llms_txt):
    found = [address.removesuffix(".html") for _, address, _ in links(llms_txt.compose(ROOT))]
    assert found[0] == "book/tutor"
    assert found[1:] == [page for page in contents() if page != "book/tutor"]


def test_it_has_the_form_that_readers_of_such_files_expect(llms_txt):
    title, summary, *rest = llms_txt.compose(ROOT).split("\n\n")
    assert title == "# Large Language Models: an interactive course"
    assert summary.startswith("> ") and "\n" not in summary
    notes, *sections = rest
    assert not notes.startswith(("#", "-", ">"))
    headings, lists = sections[::2], sections[1::2]
    assert len(headings) == len(lists) and all(re.fullmatch(r"## .+", heading) for heading in headings)
    assert all(LINK.fullmatch(line) for block in lists for line in block.strip().splitlines())


def test_what_is_said_of_a_page_is_prose_without_marks(llms_txt):
    said = [words for _, _, words in links(llms_txt.compose(ROOT))]
    assert len(set(said)) == len(said)
    for words in said:
        assert re.fullmatch(r"[A-Z].{20,}[.!?]", words), words
        assert not re.search(r"\*\*|`|\{|\}|\]\(|\$", words), words


def test_an_assistant_is_told_where_to_begin_and_not_to_paste_solutions(llms_txt):
    assert llms_txt.compose(ROOT).index("(book/tutor.html)") < 2_000
    policy = (ROOT / "book/tutor.md").read_text(encoding="utf-8")
    for words in ("show_solution()", "hint(2)", "What did the check say?", "Name the section"):
        assert words in policy
    prompts = re.findall(r"`([A-Z]\w+)\.hint\(\)`", policy)
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "llmcourse/exercises").glob("*.py"))
    assert prompts and all(f"class {name}(Exercise)" in sources for name in prompts)


@pytest.fixture
def small(tmp_path):
    """A book of three pages, with the traps that a first paragraph can hold."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text(
        "root: book/front\nparts:\n- caption: All\n  chapters:\n  - file: book/tutor\n  - file: one\n", encoding="utf-8"
    )
    (tmp_path / "book/front.md").write_text("# A *book*\n\n:::{container} lead\nIt is\nshort.\n:::\n\nMore.\n", "utf-8")
    (tmp_path / "book/tutor.md").write_text(
        "# Help\n\n## Now\n\n| a |\n|---|\n\n{cite:t}`x` says so. **Hint** first.\n", "utf-8"
    )
    cell = {"cell_type": "markdown", "source": ["# 1 · One\n", "\n", "- a list\n", "\n", "You `can` [go](x.md).\n"]}
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    return tmp_path


def test_first_paragraphs_are_found_by_hand(llms_txt, small):
    text = llms_txt.compose(small, "https://example.com/")
    assert text.startswith("# A book\n\n> It is short.\n\n")
    assert links(text) == [
        ("Help", "https://example.com/book/tutor.html", "Hint first."),
        ("1 · One", "https://example.com/one.html", "You can go."),
    ]


def test_a_changed_page_changes_the_file_and_an_empty_one_is_refused(llms_txt, small):
    page = small / "book/tutor.md"
    page.write_text(page.read_text("utf-8").replace("first", "second"), encoding="utf-8")
    assert "Hint second." in llms_txt.compose(small)
    page.write_text("# Help\n\n- only a list\n", encoding="utf-8")
    with pytest.raises(ValueError, match="needs a paragraph"):
        llms_txt.compose(small)
    page.write_text("no heading\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no title"):
        llms_txt.compose(small)


def test_a_book_without_the_page_for_assistants_is_refused(llms_txt, small):
    toc = small / "_toc.yml"
    toc.write_text(toc.read_text("utf-8").replace("  - file: book/tutor\n", ""), encoding="utf-8")
    with pytest.raises(ValueError, match=r"_toc.yml does not name book/tutor"):
        llms_txt.compose(small)
