"""Turns what pip would install into lines with hashes: `python -m tests.hashes REPORT`, which `make lock` calls.

The report is that of `pip install --dry-run --report`: for each package the file that pip chose for this system, and its SHA-256.
"""

import json
import sys
from pathlib import Path

HEAD = """\
# What builds the published book, wheel and source distribution, on Linux (x86-64) with Python 3.11. pip takes these files and
# no others, since it is called with --require-hashes. Written by: make lock
"""


def line(item: dict) -> str:
    """One requirement with the hash of its file. Raises ValueError when the file was not made by an index."""
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
    if "sha256" not in hashes or "+" in version:
        raise ValueError(f"{name} {version} is a local build; unset what makes pip prefer it, such as PIP_FIND_LINKS")
    return f"{name}=={version} --hash=sha256:{hashes['sha256']}"


def lines(report: dict, leave_out: str) -> str:
    """The text of the whole file, without the package that is built itself."""
    found = [item for item in report["install"] if item["metadata"]["name"] != leave_out]
    return HEAD + "".join(f"{one}\n" for one in sorted(map(line, found), key=str.lower))


if __name__ == "__main__":
    print(lines(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), leave_out="llmcourse"), end="")
