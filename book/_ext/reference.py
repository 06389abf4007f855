"""The reference: every public name of the package, with its signature and what its author says of it.

It is read from the sources at each build, without running them. A page of book/api names its modules in a line that begins
with `% modules:`; there they are written. Search and other projects' references find each name as an object of Python.
"""

import ast
import fnmatch
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx

FOLDER, MARK = "book/api/", re.compile(r"^% modules: (.+)$", re.MULTILINE)
PACKAGE = "llmcourse"
BASES = (
    "Exercise",
    "Prediction",
    "Predict",
)  # an exercise's members are its solution and its mistakes: they stay untold
KINDS = {"class": "class", "def": "function", "method": "method", "property": "property"}
CODE = re.compile(r"`([^`]+)`")
NAMED = re.compile(r"^(\w+(?:, \w+)*): ", re.MULTILINE)  # a line of a docstring that is about a parameter


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One public name."""

    name: str  # as it is imported, such as llmcourse.attention.causal_mask
    kind: str  # one of KINDS
    signature: str
    text: str | None  # its docstring
    fields: tuple[tuple[str, str], ...] = ()  # of a class: what is written in its body, and the comment behind it
    members: tuple["Entry", ...] = ()


def module_path(root: Path, module: str) -> Path:
    """The file of a module, such as 'tokenizers.bpe'."""
    path = root / PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def modules(root: Path) -> list[str]:
    """Every module of the package, by its name below the package."""
    found = (path.relative_to(root / PACKAGE).with_suffix("").parts for path in (root / PACKAGE).rglob("*.py"))
    names = {".".join(part for part in parts if part != "__init__") for parts in found}
    return sorted(name for name in names if name and not name.split(".")[-1].startswith("__"))


def is_exercise(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).split(".")[-1].startswith(BASES) for base in node.bases)


def function(node: ast.FunctionDef, owner: str, kind: str = "def") -> Entry:
    """A function or a method; what it takes and gives stands in its signature, shapes too."""
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    kind = "property" if marks & {"property", "cached_property"} else kind
    takes = "" if kind == "property" else f"({ast.unparse(node.args)})"
    gives = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    name = f"{owner}.{node.name}"
    return Entry(name=name, kind=kind, signature=f"{node.name}{takes}{gives}", text=ast.get_docstring(node))


def held(node: ast.ClassDef, lines: list[str]) -> Iterator[tuple[str, str]]:
    """The fields of a class, each with the comment that gives its unit or meaning."""
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and not ast.unparse(field.target).startswith("_"):
            behind = lines[field.end_lineno - 1][field.end_col_offset :].partition("#")[2].strip()
            yield ast.unparse(field), behind


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node


def entry(node: ast.FunctionDef | ast.ClassDef, owner: str, lines: list[str]) -> Entry:
    """A public name of a module, with what belongs to it."""
    if isinstance(node, ast.FunctionDef):
        return function(node, owner)
    name, bases = f"{owner}.{node.name}", ", ".join(map(ast.unparse, node.bases))
    made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    takes = f"({ast.unparse(made[0].args).removeprefix('self, ')})" if made else f"({bases})" if bases else ""
    told = not is_exercise(node)
    inside = (one for one in public(node.body) if isinstance(one, ast.FunctionDef) and told)
    members = tuple(function(one, name, "method") for one in inside)
    fields = tuple(held(node, lines)) if told else ()
    text = ast.get_docstring(node)
    return Entry(name=name, kind="class", signature=node.name + takes, text=text, fields=fields, members=members)


@cache
def read(root: Path, module: str) -> tuple[str, tuple[Entry, ...]]:
    """What a module says of itself, and its public names in the order of its file."""
    source = module_path(root, module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    entries = tuple(entry(node, f"{PACKAGE}.{module}", source.splitlines()) for node in public(tree.body))
    return ast.get_docstring(tree) or "", entries


def inline(text: str, links: dict[str, str]) -> str:
    """A line as HTML: `code`, with a link where it is a public name, and *emphasis*."""
    pieces = CODE.split(text)
    for i, piece in enumerate(pieces):
        if i % 2:
            address = links.get(piece.removeprefix(f"{PACKAGE}.").split("(")[0])
            code = f"<code>{html.escape(piece)}</code>"
            pieces[i] = f'<a href="{address}">{code}</a>' if address else code
        else:
            pieces[i] = re.sub(r"(?<![\w*])\*(\w[^*\n]*)\*(?![\w*])", r"<em>\1</em>", html.escape(piece, quote=False))
    return "".join(pieces)


def paragraphs(text: str, links: dict[str, str]) -> str:
    """A docstring as HTML. Lines about a parameter each begin a line of their own; what is set in keeps its form."""
    out = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            out.append(f'<p class="set-in"><code>{html.escape(chr(10).join(line[4:] for line in lines))}</code></p>')
            continue
        shown = "\n".join(inline(line, links) for line in lines)
        broken = re.sub(NAMED, r"<br><b>\1</b>: ", shown).removeprefix("<br>")
        out.append(f"<p>{broken}</p>")
    return "".join(out)


def described(one: Entry, links: dict[str, str]) -> str:
    """An entry as a term and what is said of it."""
    mark = {"class": "class ", "property": "property "}.get(one.kind, "")
    term = f'<dt id="{one.name}"><code><span class="kind">{mark}</span>{html.escape(one.signature)}</code></dt>'
    text = paragraphs(one.text or "As in the class that it extends.", links)
    for field, comment in one.fields:
        text += (
            f'<p class="field"><code>{html.escape(field)}</code>{"  " + inline(comment, links) if comment else ""}</p>'
        )
    if one.members:
        text += f"<dl>{''.join(described(member, links) for member in one.members)}</dl>"
    return f"{term}<dd>{text}</dd>\n"


def everything(entries: tuple[Entry, ...]) -> Iterator[Entry]:
    for one in entries:
        yield one
        yield from everything(one.members)


@cache
def pages(root: Path) -> dict[str, list[str]]:
    """The modules of each page of the reference."""
    found = {}
    for path in sorted((root / FOLDER).glob("*.md")):
        if named := MARK.search(path.read_text(encoding="utf-8")):
            found[f"{FOLDER}{path.stem}"] = [
                name for one in named[1].split() for name in fnmatch.filter(modules(root), one)
            ]
    return found


def links_from(root: Path, module: str) -> dict[str, str]:
    """The address of every public name, by the names that a docstring of this module may call it."""
    found = {}
    for page, names in pages(root).items():
        for name in names:
            for one in everything(read(root, name)[1]):
                address = f"{Path(page).name}.html#{one.name}"
                inner = one.name.removeprefix(f"{PACKAGE}.")
                found[inner] = address
                if name == module:
                    found[inner.removeprefix(f"{name}.")] = address
    return found


def section(app: Sphinx, module: str) -> str:
    """A module: a heading, what it says of itself, and its names."""
    root = Path(app.srcdir)
    about, entries = read(root, module)
    links = links_from(root, module)
    file = module_path(root, module).relative_to(root).as_posix()
    options = app.config.html_theme_options
    source = f'<p class="source"><a href="{options["repository_url"]}/blob/{options["repository_branch"]}/{file}">{file}</a></p>'
    body = (
        paragraphs(about, links)
        + source
        + (f"<dl>\n{''.join(described(one, links) for one in entries)}</dl>" if entries else "")
    )
    return f'## {module}\n\n```{{raw}} html\n<div class="reference">{body}</div>\n```\n'


def write(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the modules where the page names them, and tell Sphinx of each name."""
    root = Path(app.srcdir)
    if page not in pages(root):
        return
    read.cache_clear()
    pages.cache_clear()
    for module in pages(root)[page]:
        for one in everything(read(root, module)[1]):
            app.env.get_domain("py").note_object(one.name, KINDS[one.kind], one.name)
    source[0] = MARK.sub(lambda _: "\n".join(section(app, module) for module in pages(root)[page]), source[0])


def outdated(app: Sphinx, *changes: object) -> list[str]:
    """All pages, always: Sphinx cannot see that the package has changed."""
    return [page for page in pages(Path(app.srcdir)) if page in app.env.all_docs]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", write)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
