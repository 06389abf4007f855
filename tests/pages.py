"""What must hold for every page of the built book, as far as its file shows it. Each function names what is amiss.

What shows only in a browser is in tests/browsing.py and tests/axe.py; that each gate finds its faults, in test_page_gates.py.
"""

import functools
import gzip
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup

from tests.browsing import ROOT

CARRIERS = {
    "script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
    "embed": "src", "object": "data", "track": "src", "input": "src", "image": "href", "use": "href",
}  # fmt: skip
OUTSIDE_STYLE = re.compile(r"""(url\(\s*["']?|@import\s+["'])(https?:)?//""")
# Loaded only by pages that hold formulas, a view of bertviz, or the results of a search: the words of the whole book.
LARGE = ("mathjax/", "bertviz/", "searchindex")
EXTENSIONS = str(ROOT / "book/_ext")
MOST_JAVASCRIPT = 100_000  # bytes, compressed


@functools.cache
def page(path: Path) -> BeautifulSoup:
    """The page, read once."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def extension(name: str) -> ModuleType:
    """One of the book's own Sphinx extensions, which lie in no package and import each other."""
    if EXTENSIONS not in sys.path:
        sys.path.append(EXTENSIONS)
    return importlib.import_module(name)


@functools.cache
def places(path: Path) -> frozenset[str]:
    """The places inside a page that a link can lead to; thousands of links ask for them."""
    return frozenset(element["id"] for element in page(path).find_all(id=True))


def is_outside(address: str) -> bool:
    """Whether an address names a host."""
    return urlsplit(address).scheme in ("http", "https", "ws", "wss") or address.startswith("//")


def broken_links(path: Path) -> list[str]:
    """Addresses on a page that lead to no file, or to no place inside it."""
    broken = []
    for element in page(path).find_all(["a", *CARRIERS]):
        address = element.get(CARRIERS.get(element.name, "href"))
        if not address or urlsplit(address).scheme or is_outside(address):
            continue
        target = (path.parent / unquote(urlsplit(address).path)).resolve() if urlsplit(address).path else path
        place = unquote(urlsplit(address).fragment) if target.suffix == ".html" else ""
        if not target.is_file() or (place and place not in places(target)):
            broken.append(address)
    return broken


def outside_sources(path: Path) -> list[str]:
    """What a page would fetch from another host, by an element, a set of pictures or a style in the page."""
    carriers = (element for element in page(path).find_all(list(CARRIERS)) if element.get("rel") != ["canonical"])
    found = [element.get(CARRIERS[element.name]) or "" for element in carriers]  # an own address is no source
    for element in page(path).find_all(srcset=True):
        found += [part.split()[0] for part in element["srcset"].split(",") if part.strip()]
    styles = [element.string or "" for element in page(path).find_all("style")]
    styles += [element["style"] for element in page(path).find_all(style=True)]
    return [address for address in found if is_outside(address)] + list(filter(OUTSIDE_STYLE.search, styles))


def names_a_host(css: Path) -> bool:
    """Whether a style sheet would fetch something from another host."""
    return bool(OUTSIDE_STYLE.search(css.read_text(encoding="utf-8")))


def silent_pictures(path: Path) -> list[str]:
    """Pictures without words for what they show; a figure needs at least six."""
    silent = []
    for image in page(path).find_all("img"):
        words = image.get("alt") or ""
        least = 6 if image.find_parent(class_="cell_output") else 1
        if len(words.split()) < least or re.search(r"_images|\.(png|svg|jpe?g)", words):
            silent.append(image.get("src"))
    return silent


def missing_launches(path: Path, name: str) -> list[str]:
    """Addresses that a chapter's launch buttons should have and have not; of the other addresses at those hosts, all.

    name: of the notebook, such as notebooks/02_tokens
    """
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    owner, branch = repository["url"].removeprefix("https://github.com/"), repository["branch"]
    wanted = {
        f"https://colab.research.google.com/github/{owner}/blob/{branch}/{name}.ipynb",
        f"https://mybinder.org/v2/gh/{owner}/{branch}?urlpath=lab/tree/{name}.ipynb",
    }
    hosts = {urlsplit(address).netloc for address in wanted}
    links = {link["href"] for link in page(path).find_all("a", href=True)}
    buttons = {address for address in links if urlsplit(address).netloc in hosts and f"/{owner}/" in address}
    return sorted((wanted - links) | (buttons - wanted))


def javascript(path: Path) -> int:
    """How many bytes of scripts a page loads or holds, compressed as a server sends them, without those for LARGE."""
    found = page(path).find_all("script")
    files = [script["src"].split("?")[0] for script in found if script.get("src")]
    here = "".join(
        script.string or "" for script in found if script.get("type", "text/javascript") == "text/javascript"
    )
    own = [(path.parent / unquote(name)).resolve() for name in files if not any(part in name for part in LARGE)]
    return sum(len(gzip.compress(content)) for content in [here.encode(), *(file.read_bytes() for file in own)])


def unguarded(path: Path) -> list[str]:
    """What is amiss with a page's policy: it must be the one that fits the page, and stand before all that can load."""
    text = path.read_text(encoding="utf-8")
    policies = page(path).find_all("meta", attrs={"http-equiv": "Content-Security-Policy"})
    if [one.get("content") for one in policies] != [extension("policy").policy(text)]:
        return ["no policy, or that of another page"]
    late = [element.name for element in policies[0].find_all_previous(["script", "link", "style", "img", "base"])]
    return [f"{late} before the policy"] if late else []
