"""Make every page of the book complete in itself: no request leaves for another host, served or opened from a disk.

Stored notebook outputs stay as they are, because they must also work in Jupyter and on Colab; only the built page is
rewritten. Third-party scripts are copied, with their licences, out of installed packages when the book is built:
MathJax 3 from sphinx-mathjax-offline, d3 from mpld3, jQuery from sphinxcontrib-jquery.
"""

import json
import re
import shutil
from importlib import metadata
from pathlib import Path

import when_near
from sphinx.application import Sphinx
from sphinx.config import Config

from llmcourse.visualize import playground

# What pages with formulas need of MathJax; the rest is 20 MB of other outputs and of speech in thirty languages.
MATHJAX = ("tex-chtml.js", "a11y/assistive-mml.js", "input/tex/extensions/*.js", "output/chtml/fonts/woff-v2/*.woff")
# A browser lets no page that was opened from a disk fetch another one; the search does so to show excerpts.
PLAIN_SEARCH = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'
# The theme lets the keyboard reach what scrolls, when the page is loaded or resized; code that is unfolded later, it forgets.
UNFOLDED = 'addEventListener("toggle", () => dispatchEvent(new Event("resize")), true);'
REQUIRE_JS = re.compile(r'<script src="https://cdnjs\.cloudflare\.com/[^"]*/require\.min\.js"></script>')
# The playground's page holds this mark; its view and what the view loads come from the package.
PLAYGROUND, MARK = "book/playground", '<div id="the-playground"></div>'
# What Sphinx and MyST-NB write that a screen reader stumbles over, and what it is given instead: a role that went out of
# use, and a name that hides the words "Show the code".
STUMBLES = {
    'role="doc-biblioentry"': 'role="listitem"',
    '<summary aria-label="Toggle hidden content">': "<summary>",
}
# The theme's icons are a script of 1.5 MB with two thousand of them; the book draws those that it uses. In that script a name
# stands in several families, and in the last of them, the solid one, as the theme's pages ask for it.
ICON = r'[{,]"?%s"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"'
DRAW = """/* Icons: Font Awesome Free, see fontawesome.js.LICENSE.txt beside this file. */
addEventListener("DOMContentLoaded", () => {
  const space = "http://www.w3.org/2000/svg", icons = %s;
  for (const old of document.querySelectorAll("i[class*=fa], span[class*=fa-]")) {
    const name = [...old.classList].map((c) => c.slice(3)).find((c) => c in icons);
    if (!name) continue;
    const svg = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path"), [width, height, d] = icons[name];
    for (const { name, value } of old.attributes) svg.setAttribute(name, value);
    svg.classList.add("svg-inline--fa");
    for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, role: "img", "aria-hidden": "true" })) svg.setAttribute(name, value);
    for (const [name, value] of Object.entries({ d, fill: "currentColor" })) path.setAttribute(name, value);
    svg.append(path);
    old.replaceWith(svg);
  }
});
document.head.append(Object.assign(document.createElement("style"), { textContent:
  ".svg-inline--fa { display: inline-block; height: 1em; overflow: visible; vertical-align: -0.125em; box-sizing: content-box; } .svg-inline--fa.fa-lg { vertical-align: -0.2em; font-size: 1.25em; }" }));
"""
REQUIRE_PATHS = re.compile(r"require\.config\(\{\s*paths: \{[^}]*\}\s*\}\);")


def configure(app: Sphinx, config: Config) -> None:
    """Set single theme options (a whole `html_theme_options` would drop Jupyter Book's), and switch Thebe off.

    Thebe would print the address of a CDN on every page, also when its button is off.
    """
    config.html_theme_options["navbar_persistent"] = []
    config.html_context["default_mode"] = "auto"
    config.mathjax_path = "mathjax/tex-chtml.js"
    config.nb_ipywidgets_js = {}
    config.myst_substitutions["repository"] = config.html_theme_options["repository_url"]
    for name, value in playground.results().items():
        config.myst_substitutions[f"playground_{name}"] = f"{value:,}"
    app.registry.css_files = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]
    for listeners in app.events.listeners.values():
        listeners[:] = [listener for listener in listeners if listener.handler.__module__ != "sphinx_thebe"]


def outdated(app: Sphinx, *changes: object) -> list[str]:
    """The playground's page, always: Sphinx cannot see that the package has changed."""
    return [PLAYGROUND] if PLAYGROUND in app.env.all_docs else []


def fill_playground(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Put the playground's view where its page has the mark."""
    if page != PLAYGROUND:
        return
    if MARK not in context["body"]:
        raise ValueError(f"{PLAYGROUND} no longer holds {MARK}, where the playground belongs")
    address = context["pathto"]("_static/playground", resource=True)
    context["body"] = context["body"].replace(MARK, playground.page(address).html)


def rewrite_page(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Let the page's bertviz views run on the book's own d3 and jQuery, loaded once, when the first view is near."""
    if "body" not in context or not REQUIRE_JS.search(context["body"]):
        return
    here = (context["pathto"](f"_static/bertviz/{name}", resource=True) for name in ("jquery.js", "d3.js"))
    local = when_near.BERTVIZ % tuple(here)
    body = REQUIRE_JS.sub(lambda _: local, context["body"], count=1)
    context["body"] = REQUIRE_PATHS.sub("", REQUIRE_JS.sub("", body))


def smooth(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Put into the page what a screen reader understands."""
    for stumble, better in STUMBLES.items():
        if "body" in context:
            context["body"] = context["body"].replace(stumble, better)


def draw_icons(app: Sphinx, error: Exception | None) -> None:
    """Put a script with the icons that the pages use in the place of the theme's, which has all of them."""
    if error or app.builder.format != "html":
        return
    scripts = Path(app.outdir) / "_static/scripts"
    every = _installed("pydata-sphinx-theme", "static/scripts/fontawesome.js").read_text(encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html")]
    names = {
        name
        for text in pages
        for names in re.findall(r'class="([^"]*\bfa[srb]?\b[^"]*)"', text)
        for name in names.split()
    }
    icons = {}
    for name in sorted(name.removeprefix("fa-") for name in names if name.startswith("fa-")):
        if found := re.findall(ICON % re.escape(name), every):
            width, height, path = found[-1]
            icons[name] = [int(width), int(height), path]
    if not {"magnifying-glass", "sun", "github"} <= icons.keys():
        raise ValueError(
            "the theme's fontawesome.js no longer spells its icons as the pattern ICON does: write it anew"
        )
    (scripts / "fontawesome.js").write_text(DRAW % json.dumps(icons), encoding="utf-8")
    (scripts / "fontawesome.js.map").unlink(missing_ok=True)


def copy_scripts(app: Sphinx, error: Exception | None) -> None:
    """Put the third-party scripts into the built book; not through the static path, which loads all on every page."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    source = _installed("sphinx-mathjax-offline", "tex-chtml.js").parent
    for path in (path for pattern in MATHJAX for path in source.glob(pattern)):
        _copy(path, static / "mathjax" / path.relative_to(source))
    _copy(
        _installed("requests", "LICENSE"), static / "mathjax/LICENSE"
    )  # the Apache licence 2.0, which MathJax is under
    _copy(_installed("sphinxcontrib-jquery", "jquery.js"), static / "bertviz/jquery.js")
    _copy(_installed("mpld3", "d3.v5.min.js"), static / "bertviz/d3.js")
    for name, script in playground.scripts().items():
        (static / "playground").mkdir(parents=True, exist_ok=True)
        (static / "playground" / name).write_text(script, encoding="utf-8")
    _copy(Path(__file__).with_name("d3-and-jquery-licences.txt"), static / "bertviz/LICENSES.txt")


def _installed(distribution: str, name: str) -> Path:
    """The file whose path ends with this name in an installed package."""
    found = [file for file in metadata.files(distribution) or () if f"/{file.as_posix()}".endswith(f"/{name}")]
    if not found:
        raise FileNotFoundError(f"{distribution} no longer brings {name}; see requirements.txt for the tested version")
    return Path(found[0].locate())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_js_file(None, body=PLAIN_SEARCH)
    app.add_js_file(None, body=UNFOLDED)
    app.connect("config-inited", configure)
    app.connect("env-get-outdated", outdated)
    app.connect("html-page-context", rewrite_page)
    app.connect("html-page-context", smooth)
    app.connect("html-page-context", fill_playground)
    app.connect("build-finished", copy_scripts)
    app.connect("build-finished", draw_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
