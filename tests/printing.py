"""The whole book as one PDF: `python -m tests.printing`, after `make book`, or `make pdf`.

A browser opens each page of the table of contents, typesets it and draws its views. What stands then is laid into one long
page, which the same browser prints: so there is one outline, one numbering, and links lead from chapter to chapter. Code that
is folded away and the answers of a quiz stand open, since paper cannot be clicked. No TeX is needed.
"""

import html
import shutil
import sys
from pathlib import Path

import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from llmcourse import __version__
from tests.browsing import BOOK, ROOT, Visitor

TARGET = ROOT / "_build/llmcourse.pdf"
WIDTH, HEIGHT = 680, 960  # of what stands on a sheet of A4 between the margins, in CSS pixels (96 an inch)
SMALLEST = 0.3  # what is wider than the sheet is drawn smaller, but not smaller than this
# What stands on a page once it is typeset, as text that needs no script. Its names are made those of the whole book.
FREEZE = """([prefix, known]) => {
    const article = document.querySelector("article.bd-article");
    for (const details of article.querySelectorAll("details")) details.open = true;
    for (const details of article.querySelectorAll(".llmcourse-view details")) details.remove();
    for (const canvas of article.querySelectorAll("canvas"))
        canvas.replaceWith(Object.assign(document.createElement("img"), { src: canvas.toDataURL(), width: canvas.clientWidth }));
    for (const option of article.querySelectorAll("option")) option.toggleAttribute("selected", option.selected);
    for (const input of article.querySelectorAll("input")) {
        input.setAttribute("value", input.value);
        input.toggleAttribute("checked", input.checked);
    }
    for (const gone of article.querySelectorAll("script, noscript, style, .headerlink, .copybtn")) gone.remove();
    const name = (page, place) => place ? `${page}--${place}` : page;
    for (const link of article.querySelectorAll("a[href]")) {
        const to = new URL(link.href), page = known[to.href.split("#")[0]];
        if (page) link.setAttribute("href", "#" + name(page, decodeURIComponent(to.hash.slice(1))));
        else if (to.protocol === "file:") link.removeAttribute("href");
    }
    for (const image of article.querySelectorAll("img")) {
        image.setAttribute("src", image.src);
        image.removeAttribute("loading");
    }
    for (const element of article.querySelectorAll("*")) {
        if (element.id) element.id = name(prefix, element.id);
        for (const attribute of ["for", "aria-labelledby", "aria-describedby", "aria-controls"])
            if (element.hasAttribute(attribute))
                element.setAttribute(attribute, element.getAttribute(attribute).split(" ").map((id) => name(prefix, id)).join(" "));
        for (const { name: key, value } of [...element.attributes])
            if (value.includes("url(#")) element.setAttribute(key, value.replace(/url\\(#/g, `url(#${prefix}--`));
    }
    const own = [...document.querySelectorAll("head style")].map((style) => [...style.sheet.cssRules].map((rule) => rule.cssText));
    return [article.innerHTML, own.flat()];
}"""
# What is wider than its place is drawn smaller: a table of many columns, a picture, a long formula.
FIT = """(smallest) => {
    const wide = (element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0;
    for (const element of document.querySelectorAll("main :is(.cell_output .output, .pst-scrollable-table-container, .scroll, mjx-container[display], div.math, .stage)"))
        if (wide(element)) {
            const shrunk = Math.max(smallest, (element.clientWidth / element.scrollWidth) * 0.985);
            for (const child of element.children) child.style.zoom = shrunk;
        }
}"""
# What is still cut off at the right of the sheet, by its page and its words.
CUT = """() => {
    const right = document.querySelector("main").getBoundingClientRect().right + 2, found = [];
    for (const element of document.querySelectorAll("main *")) {
        const box = element.getBoundingClientRect();
        if (box.width && box.right > right && element.checkVisibility() && !element.closest("mjx-assistive-mml, .visually-hidden, .sr-only"))
            found.push(`${element.closest("section.sheet").id}: <${element.tagName} ${element.className}> ${element.textContent.slice(0, 40)}`);
    }
    return found;
}"""
PRINTED = """
@page { size: A4; margin: 16mm 15mm 18mm; @bottom-center { content: counter(page); font: 9pt sans-serif; color: #555; } }
@page :first { @bottom-center { content: none; } }
html, body { background: #fff !important; }
main { display: block; max-width: none; }
section.sheet { break-before: page; }
section.sheet h1 { display: block !important; }
section.sheet :is(h1, h2, h3) { white-space: pre-wrap; } /* else the outline loses the space where a heading is broken */
section.title { height: 230mm; display: grid; align-content: center; gap: 1.5rem; }
section.title :is(h1, p) { margin: 0; }
.bd-article .set-in code { white-space: break-spaces; } /* else spaces hang over the edge */
.contents ul { list-style: none; padding-left: 1rem; }
.bd-article h2 { border: 0; }
"""


def contents(only: list[str] | None = None) -> list[tuple[str, list[str]]]:
    """The parts of the book, each with its pages, in the order of _toc.yml. `only` keeps the pages that it names."""
    read = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [("", [read["root"]])]
    parts += [(part["caption"], [chapter["file"] for chapter in part["chapters"]]) for part in read["parts"]]
    kept = [(caption, [page for page in pages if only is None or page in only]) for caption, pages in parts]
    return [(caption, pages) for caption, pages in kept if pages]


def anchor(page: str) -> str:
    """The name of a page inside the PDF."""
    return page.replace("/", "-")


def frozen(visitor: Visitor, book: Path, pages: list[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Each page's title and what stands on it, and the style rules that belong to them."""
    known = {(book / f"{page}.html").as_uri(): anchor(page) for page in pages}
    found, rules = {}, {}
    for page in pages:
        with visitor.visit(f"{page}.html") as tab:
            tab.evaluate("document.querySelectorAll('img').forEach((image) => image.loading = 'eager')")
            tab.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => 0)))")
            title = tab.locator("article h1").first.evaluate("one => one.firstChild.textContent").strip()
            body, own = tab.evaluate(FREEZE, [anchor(page), known])
        found[page] = (title, body)
        rules |= dict.fromkeys(own)
    return found, list(rules)


def front(found: dict[str, tuple[str, str]], parts: list[tuple[str, list[str]]]) -> str:
    """The title page and the contents."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    title, _, below = config["title"].partition(": ")
    lines = [
        f'<section class="title"><p role="heading" aria-level="1" style="font-size: 34pt">{html.escape(title)}</p>'
    ]
    lines += [f'<p style="font-size: 18pt">{html.escape(below.capitalize())}</p><p>{html.escape(config["author"])}</p>']
    lines += [f"<p>Version {__version__}. Code under the MIT licence, text and figures under CC BY 4.0.</p></section>"]
    lines += ['<section class="sheet contents" id="contents"><h1>Contents</h1>']
    for caption, pages in parts:
        entries = "".join(f'<li><a href="#{anchor(page)}">{html.escape(found[page][0])}</a></li>' for page in pages)
        lines.append(f"<p><strong>{html.escape(caption)}</strong></p><ul>{entries}</ul>")
    return "\n".join([*lines, "</section>"])


def composed(
    book: Path, found: dict[str, tuple[str, str]], rules: list[str], parts: list[tuple[str, list[str]]]
) -> str:
    """The one long page."""
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    sheets = (f'<section class="sheet" id="{anchor(page)}">{body}</section>' for page, (_, body) in found.items())
    style = "\n".join([*rules, PRINTED])
    return (
        f'<!doctype html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<link rel="stylesheet" href="{(book / "_static/book.css").as_uri()}"><style>{style}</style></head><body>'
        f'<main class="bd-main"><div class="bd-content"><div class="bd-article-container"><article class="bd-article">'
        f"{front(found, parts)}{''.join(sheets)}</article></div></div></main></body></html>"
    )


def laid_out(browser: Browser, text: str, folder: Path) -> Page:
    """The long page, open in the browser as it will be printed."""
    file = folder / "printed.html"
    file.write_text(text, encoding="utf-8")
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    tab.set_default_timeout(0)
    tab.emulate_media(media="print", color_scheme="light")
    tab.goto(file.as_uri())
    tab.evaluate("document.fonts.ready")
    tab.evaluate(FIT, SMALLEST)
    return tab


def printed(browser: Browser, target: Path, book: Path = BOOK, only: list[str] | None = None) -> list[str]:
    """Write the PDF; what it could not show whole is returned. `only` prints some pages of the book.

    Raises ValueError when a page has a fault or the book was not built.
    """
    parts = contents(only)
    pages = [page for _, pages in parts for page in pages]
    if missing := [page for page in pages if not (book / f"{page}.html").is_file()]:
        raise ValueError(f"{book} does not hold {', '.join(missing)}: run 'make book' first")
    visitor = Visitor(browser, book.as_uri(), "light")
    found, rules = frozen(visitor, book, pages)
    if visitor.faults:
        raise ValueError(f"these pages have faults, and are not printed: {visitor.faults}")
    target.parent.mkdir(parents=True, exist_ok=True)
    tab = laid_out(browser, composed(book, found, rules, parts), target.parent)
    cut = tab.evaluate(CUT)
    tab.pdf(path=target, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
    tab.close()
    (target.parent / "printed.html").unlink()
    return cut


def chromium() -> str | None:
    """The browser of this machine, or None for Playwright's own."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def main(target: Path = TARGET, book: Path = BOOK) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        cut = printed(browser, target, book)
        browser.close()
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB", *cut, sep="\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
