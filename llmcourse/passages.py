"""The sections of this book as passages: a heading, its address, and the text below it, without any marks.

`collect` reads them from the book's sources. A checkout has these beside the package; an installed package brings the file
`passages.json` instead, which `setup.py` writes when the package is built, so that no copy of the book can grow old in the
repository. Only the standard library is used here: a build may have nothing else.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGES = ("how-to-use", "notation", "faq", "glossary", "playground", "for-instructors")  # of the folder book/
# Sections that name everything and explain nothing; so do the openings of chapters, which are left out too.
LEFT_OUT = ("Exercises", "Quiz", "Summary", "Going further", "Type, look, change")
SHORTEST = 40  # characters; less explains nothing


@dataclass(frozen=True)
class Passage:
    """One section, or one entry of the glossary."""

    page: str  # such as "notebooks/03_self_attention", without a suffix
    anchor: str  # the place in the page
    title: str  # the heading
    trail: str  # the heading of the whole page
    text: str

    @property
    def address(self) -> str:
        """Where it stands in the built book."""
        return f"{self.page}.html#{self.anchor}"


def load() -> list[Passage]:
    """The passages of this book: from the sources beside the package, or from the file that was installed with it.

    Raises ValueError when neither is there.
    """
    if (HERE.parent / "_toc.yml").is_file() and (HERE.parent / "book").is_dir():
        return collect(HERE.parent)
    if not (stored := HERE / "passages.json").is_file():
        raise ValueError(
            "the text of the book is not here; run this in a checkout of the course, or install the package again"
        )
    return [Passage(**fields) for fields in json.loads(stored.read_text(encoding="utf-8"))]


def store(passages: list[Passage], path: Path) -> None:
    """Write them as `load` reads them."""
    path.write_text(json.dumps([asdict(one) for one in passages], ensure_ascii=False), encoding="utf-8")


def collect(root: Path) -> list[Passage]:
    """All passages of the book whose sources lie in this folder: the chapters in their order, then the pages."""
    chapters = re.findall(r"file: (notebooks/\S+)", (root / "_toc.yml").read_text(encoding="utf-8"))
    found = [passage for page in chapters for passage in _sections(page, _notebook_text(root / f"{page}.ipynb"))]
    for name in PAGES:
        text = (root / "book" / f"{name}.md").read_text(encoding="utf-8")
        found += _glossary(text) if name == "glossary" else _sections(f"book/{name}", text)
    return found


def _notebook_text(path: Path) -> str:
    """The text cells of a notebook, without the cards of exercises."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [cell for cell in cells if cell["cell_type"] == "markdown"]
    return "\n\n".join(
        _heading_only(cell) if "exercise" in cell["metadata"] else "".join(cell["source"]) for cell in texts
    )


def _heading_only(card: dict) -> str:
    """An exercise's heading still ends the section before it."""
    return "".join(card["source"]).split("\n")[0]


def _sections(page: str, text: str) -> Iterator[Passage]:
    """The text cut at its headings; a `#` inside a block of code is none."""
    bare = re.sub(r"^(```|~~~).*?^\1[^\S\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    pieces = re.split(r"^(#{1,3}) (.+)$", bare, flags=re.MULTILINE)
    trail, taken = plain(pieces[2]) if len(pieces) > 2 else page, {}
    for level, title, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        title, anchor = plain(title), heading_anchor(plain(title))
        taken[anchor] = taken.get(anchor, 0) + 1
        is_opening = level == "#" and page.startswith("notebooks/")
        is_left_out = is_opening or title in LEFT_OUT or title.startswith("Exercise ")
        if not is_left_out and taken[anchor] == 1 and anchor and len(plain(body)) >= SHORTEST:
            yield Passage(page, anchor, title, trail, plain(body))


def _glossary(text: str) -> Iterator[Passage]:
    """An entry is a line that is not indented, and below it an indented text."""
    block = re.search(r"^```\{glossary\}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    for entry in re.split(r"\n\s*\n", block[1] if block else ""):
        term, _, meaning = entry.strip("\n").partition("\n")
        if meaning:
            yield Passage("book/glossary", term_anchor(plain(term)), plain(term), "Glossary", plain(meaning))


def plain(text: str) -> str:
    """The words of a Markdown text in one line, as a reader would read them aloud."""
    text = re.sub(r"^:{3,}.*$|^\s*\|?[-:| ]+\|[-:| ]*$|<[^>\s][^>]*>", " ", _links(text), flags=re.MULTILINE)
    text = re.sub(r"\{\{.*?\}\}|\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"\$([^$\n]+)\$", lambda found: found[1].replace("\\", " "), text)
    text = re.sub(r"^\s*(#{1,6}|>|[-*+]|\d+\.)\s+", " ", text, flags=re.MULTILINE)
    return " ".join(
        re.sub(r"[*`|]|\{[\w:-]+\}|\\(?=[()\[\]])", " ", text).replace(" .", ".").replace(" ,", ",").split()
    )


def _links(text: str) -> str:
    """Links and references by what they show; citations, pictures and comments not at all."""
    text = re.sub(r"\s*\{cite:?\w*\}`[^`]*`|!\[[^\]]*\]\([^)]*\)|<!--.*?-->|^%.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\{\w+\}`([^`<]+?)\s*(?:<[^>`]*>)?`", r"\1", text)
    return re.sub(r"\[([^\]]*)\]\([^)\s]*\)", r"\1", text)


def heading_anchor(title: str) -> str:
    """The id that docutils gives to a heading."""
    text = _ascii(title.lower())
    return re.sub(r"^[-0-9]+|-+$", "", re.sub(r"[^a-z0-9]+", "-", text))


def term_anchor(term: str) -> str:
    """The id that Sphinx gives to an entry of the glossary; it keeps capitals."""
    return "term-" + re.sub(r"^[-0-9._]+|-+$", "", re.sub(r"[^a-zA-Z0-9._]+", "-", _ascii(term)))


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
