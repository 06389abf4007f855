"""A published site that keeps the book of every release: `python -m tests.versions SITE BUNDLE...`.

SITE is a folder with the newest book in `latest`. Each bundle is a release's `llmcourse-book.zip` in a folder that bears its
tag, such as `v0.1.0/llmcourse-book.zip`; it comes to stand beside the newest book, under its tag. The first page leads to
`latest`, and lists all versions, as `versions.json` does.
"""

import html
import json
import re
import sys
import zipfile
from pathlib import Path

from tests.bundling import FOLDER

TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="0; url=latest/index.html"></head>
<body><main><h1>{title}</h1><ul>{items}</ul></main></body></html>
"""


def order(tag: str) -> tuple[int, ...]:
    """By which releases are sorted. Raises ValueError for a name that is no tag of a release: it would become a folder."""
    if not (found := TAG.fullmatch(tag)):
        raise ValueError(f"{tag!r} is no tag of a release; releases are called like v0.1.0")
    return tuple(map(int, found.groups()))


def unpack(bundle: Path, place: Path) -> None:
    """Put the book of a bundle into a folder. Raises ValueError for a file that would come to lie elsewhere."""
    with zipfile.ZipFile(bundle) as archive:
        for name in archive.namelist():
            target = place / Path(name).relative_to(FOLDER)
            if not target.resolve().is_relative_to(place.resolve()):
                raise ValueError(f"{bundle} holds {name!r}, which lies outside of it; make the bundle again")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def assemble(site: Path, bundles: list[Path], title: str = "Versions of this book") -> None:
    """Add the releases and the page that lists them to a site with the newest book. Raises ValueError without that book."""
    if not (site / "latest/index.html").is_file():
        raise ValueError(f"{site} holds no book in latest; copy the built book there first")
    tags = sorted((bundle.parent.name for bundle in bundles), key=order, reverse=True)
    for bundle in bundles:
        unpack(bundle, site / bundle.parent.name)
    versions = ["latest", *tags]
    (site / "versions.json").write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")
    items = "".join(f'<li><a href="{html.escape(one)}/index.html">{html.escape(one)}</a></li>' for one in versions)
    (site / "index.html").write_text(PAGE.format(title=html.escape(title), items=items), encoding="utf-8")


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
