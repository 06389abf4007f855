"""Make every page light: what it says of itself to a search engine, one style sheet, and no script before the first words.

The theme and its parts bring nine style sheets and a dozen scripts to each page, which a browser fetches and runs before it
shows anything. Here they become one sheet without the rules that no page uses, and one script that runs after the words stand.
Formulas, views and pictures come when a reader is near (`when_near`). All of this is done to the built files, at
the end, and leaves a page as it is that has been made light before.
"""

import html
import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from posixpath import normpath

import llms_txt
import when_near
from sphinx.application import Sphinx

SHEET, PROGRAM = "_static/book.css", "_static/book.js"
STYLE = re.compile(r'[ \t]*<link [^>]*href="([^"?]+\.css)[^"]*"[^>]*>\n?')
SCRIPT = re.compile(r"[ \t]*<script([^>]*)>(.*?)</script>\n?", re.DOTALL)
PRELOAD = re.compile(r'[ \t]*<link rel="preload" as="script"[^>]*>\n?')
VIEWPORT = re.compile(r'\s*<meta name="viewport"[^>]*>')
PICTURE = re.compile(r'<img (?![^>]*\bloading=)([^>]*src="([^"]*_images/[^"]+\.png)"[^>]*?) ?/?>')
OUTPUT = re.compile(r'<div class="output ([^"]*)">(\s*<div class="highlight"><pre>)(.*?)</pre>', re.DOTALL)
WIDE = 900  # pixels: a figure of several panels, which a phone would show too small to read
LONGEST = 200  # characters of a description; a search engine shows fewer
# A view holds all that it needs, its style too; on a page with ten views a browser would begin ten times to lay it out.
OWN_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
# A name that a script puts together is written nowhere whole.
MADE = ("bs-", "tooltip", "modal", "collaps", "offcanvas", "carousel", "btn-close", "svg-inline")
# Which colours a page has is known before it is drawn: told later, by the theme, they would be worked out for all of it again.
COLOURS = """<script data-cfasync="false">
    {
      const { dataset } = document.documentElement;
      dataset.mode = localStorage.getItem("mode") || "auto";
      dataset.theme = dataset.mode !== "auto" ? dataset.mode : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    }
  </script>
"""


def rules(css: str) -> Iterator[tuple[str, str | None]]:
    """The rules of a style sheet without comments: what stands before the braces, and what stands in them.

    A rule without braces, such as `@charset`, has None.
    """
    css, start, depth, opened = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL), 0, 0, 0
    for found in re.finditer(r"[{};]", css):
        sign, place = found[0], found.start()
        if sign == "{":
            depth += 1
            opened = place if depth == 1 else opened
        elif sign == ";" and depth == 0:
            yield css[start:place].strip(), None
            start = place + 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                yield css[start:opened].strip(), css[opened + 1 : place]
                start = place + 1


def is_used(selector: str, words: frozenset[str]) -> bool:
    """Whether every class and name that a selector asks for is among the words of the pages and scripts."""
    asked = re.sub(r":(?:not|where)\([^()]*\)|\[[^\]]*\]", "", selector)
    names = re.findall(r"[.#](-?[A-Za-z_](?:[\w-]|\\.)*)", asked)
    return all(name in words or name.startswith(MADE) for name in names)


def selectors(prelude: str) -> list[str]:
    """The selectors of a rule, cut at the commas that stand in no brackets."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", prelude)]


def used(css: str, words: frozenset[str]) -> str:
    """The style sheet without the rules that no page uses, and without the fonts of icons, which are drawn."""
    kept = []
    for prelude, body in rules(css):
        if body is None:
            kept.append(f"{prelude};" if not prelude.startswith("@charset") else "")
        elif prelude.startswith(("@media", "@supports", "@container")):
            inner = used(body, words)
            kept.append(f"{prelude}{{{inner}}}" if inner else "")
        elif prelude.startswith("@"):
            kept.append("" if "Font Awesome" in body or "FontAwesome" in body else f"{prelude}{{{body}}}")
        elif fit := [one for one in selectors(prelude) if is_used(one, words)]:
            kept.append(",".join(fit) + "{" + re.sub(r"\s*\n\s*", " ", body).strip() + "}")
    return "\n".join(filter(None, kept))


def with_imports(path: Path, static: Path) -> str:
    """A style sheet with those that it imports, and with addresses as seen from the static folder."""
    css, folder = path.read_text(encoding="utf-8"), path.parent.relative_to(static.resolve()).as_posix()
    place = lambda found: f"url({found[1]}{normpath(f'{folder}/{found[2]}')}{found[1]})"  # noqa: E731
    css = re.sub(r"url\(([\"']?)(?!data:|#|https?:)([^)\"']+)\1\)", place, css)
    imported = lambda found: with_imports((path.parent / found[1]).resolve(), static)  # noqa: E731
    return re.sub(r'@import "([^"]+)";', imported, css)


@cache
def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels, from its first bytes."""
    return struct.unpack(">II", path.read_bytes()[16:24])


def picture(page: Path, found: re.Match) -> str:
    """An image that is loaded when it comes near, and whose room is kept free until then; a wide one scrolls on a phone."""
    width, height = size((page.parent / found[2]).resolve())
    image = f'<img {found[1]} width="{width}" height="{height}" loading="lazy" decoding="async">'
    frame = '<span class="wide" tabindex="0" role="region" aria-label="A wide figure">'
    return f"{frame}{image}</span>" if width > WIDE else image


def prose(found: re.Match) -> str:
    """A printed output that is marked where it is sentences, which may wrap; columns of words or numbers must not."""
    lines = [line.strip() for line in html.unescape(re.sub(r"<[^>]+>", "", found[3])).splitlines()]
    if any("  " in line or line.startswith(("[", "tensor(")) for line in lines):
        return found[0]
    return found[0].replace(found[1], f"{found[1]} prose", 1)


def programs(head: str) -> tuple[list[tuple[str, str]], str]:
    """The scripts of a page's head that can wait, each with its address or its text, and the head without them.

    Settings come before the programs that read them: once the page stands, a program runs as soon as it is read.
    """
    texts, files, first = [], [], []

    def take(found: re.Match) -> str:
        attributes, text = found[1], found[2]
        address = re.search(r'src="([^"?]+)', attributes)
        if "data-cfasync" in attributes:
            return COLOURS
        if "fontawesome" in attributes:
            return found[0]
        if "pagename" in text:
            return f'    <script>addEventListener("DOMContentLoaded", () => {{ {text.strip()} }});</script>\n'
        if address and any(name in address[1] for name in ("searchtools", "language_data", "searchindex")):
            return f"    <script defer{attributes}></script>\n"
        if not address:
            texts.append(("", text)) if ("", text) not in texts and "MathJax" not in text else None
        elif "mathjax" not in address[1]:
            (first if "documentation_options" in address[1] else files).append((address[1], ""))
        return ""

    rest = SCRIPT.sub(take, head)
    return first + texts + files, rest


def about(app: Sphinx, page: str) -> str:
    """What a page says of itself: a description, and its address in the newest book."""
    lines = []
    if page in app.env.all_docs:
        words = llms_txt.first_paragraph(llms_txt.source(Path(app.srcdir), page))
        words = words if len(words) <= LONGEST else words[: LONGEST - 1].rsplit(" ", 1)[0] + "…"
        lines.append(f'<meta name="description" content="{html.escape(words)}">')
        owner, name = app.config.html_theme_options["repository_url"].rstrip("/").split("/")[-2:]
        lines.append(f'<link rel="canonical" href="https://{owner}.github.io/{name}/latest/{page}.html">')
    return "".join(f"    {line}\n" for line in lines)


def lighten(text: str, root: str) -> tuple[str, list[str], list[tuple[str, str]]]:
    """A page made light, the style sheets that it named, and its scripts. `root` leads from the page to where the book begins."""
    head, rest = text.split("</head>", 1)
    sheets = STYLE.findall(head)
    head = PRELOAD.sub("", STYLE.sub("", head))
    scripts, head = programs(head)
    viewport = VIEWPORT.search(head)[0]
    program = f'<script defer data-sd-tabs-storage-prefix="sphinx-design-tab-id-" src="{root}{PROGRAM}"></script>'
    # The program comes first of all that wait: the search builds on it.
    head = VIEWPORT.sub("", head).replace("<title>", f"{viewport.strip()}\n    {program}\n    <title>", 1)
    lines = f'<link rel="stylesheet" href="{root}{SHEET}">\n'
    lines += "".join(f"<style>{style}</style>\n" for style in dict.fromkeys(OWN_STYLE.findall(rest)))
    rest = when_near.waiting(OUTPUT.sub(prose, rest))
    lines += when_near.scripts(rest, root)
    return f"{head}{lines}  </head>{OWN_STYLE.sub('', rest)}", sheets, scripts


def refresh(app: Sphinx, error: Exception | None) -> None:
    """Make all pages light that the build wrote, and write the sheet and the script that they share."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    pages = {
        path: path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.html")) if "_static" not in path.parts
    }
    heavy = {path: text for path, text in pages.items() if "</head>" in text and SHEET not in text}
    sheets, scripts = {}, {}
    for path, text in heavy.items():
        root = "../" * (len(path.relative_to(out).parts) - 1)
        light, names, found = lighten(text, root)
        name = path.relative_to(out).with_suffix("").as_posix()
        light = light.replace("</head>", f"{about(app, name)}  </head>", 1)
        path.write_text(PICTURE.sub(lambda one, page=path: picture(page, one), light), encoding="utf-8")
        sheets |= dict.fromkeys((path.parent / name).resolve() for name in names)
        scripts |= dict.fromkeys(((path.parent / name).resolve() if name else None, own) for name, own in found)
    write_shared(out, list(sheets), list(scripts))


def write_shared(out: Path, sheets: list[Path], scripts: list[tuple[Path | None, str]]) -> None:
    """The sheet and the script of all pages. What they are made of is remembered, for a build that writes few pages anew."""
    static, memory = out / "_static", out / "_static/book-parts.json"
    if sheets:
        parts = {
            "sheets": [path.relative_to(out.resolve()).as_posix() for path in sheets],
            "scripts": [[path.relative_to(out.resolve()).as_posix() if path else "", text] for path, text in scripts],
        }
        memory.write_text(json.dumps(parts), encoding="utf-8")
    parts = json.loads(memory.read_text(encoding="utf-8"))
    program = "\n;\n".join(
        (out / name).read_text(encoding="utf-8") if name else text for name, text in parts["scripts"]
    )
    (out / PROGRAM).write_text(re.sub(r"//# sourceMappingURL=\S+", "", program), encoding="utf-8")
    texts = [
        path.read_text(encoding="utf-8")
        for path in (*out.rglob("*.html"), *static.glob("*.js"), *static.glob("scripts/*.js"))
    ]
    words = frozenset(word for text in texts for word in re.findall(r"[\w-]+", text))
    css = "\n".join(with_imports((out / name).resolve(), static) for name in parts["sheets"])
    (out / SHEET).write_text(used(css, words), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect(
        "build-finished", refresh, priority=800
    )  # after those that write pages and scripts, before their policy is written
    return {"parallel_read_safe": True, "parallel_write_safe": True}
