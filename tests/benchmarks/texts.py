"""Real text for the bench, without a network: what lies in every Python installation that has torch.

`sources` is program text, `prose` the documentation inside it, which is English. Both depend on the versions of Python
and torch alone, and the bench writes these down.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from llmcourse.tokenizers import BPETokenizer

FOLDERS = (Path(sysconfig.get_path("stdlib")), Path(torch.__file__).parent)


def _files() -> Iterator[str]:
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            if "site-packages" in path.relative_to(folder).parts:
                continue
            try:
                yield path.read_text(encoding="utf-8")
            except UnicodeDecodeError:  # some files of Python's own tests are written in other encodings, or in none
                continue


def _cut(pieces: Iterator[str], n_characters: int) -> str:
    """The pieces one after the other, up to so many characters; ValueError where there are fewer."""
    kept, length = [], 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length >= n_characters:
            return "".join(kept)[:n_characters]
    raise ValueError(f"{FOLDERS} hold {length:,} characters, fewer than the {n_characters:,} asked for")


@cache
def sources(n_characters: int) -> str:
    """So many characters of Python programs."""
    return _cut(_files(), n_characters)


@cache
def sentences(n_vocab: int, special: tuple[str, ...]) -> tuple[BPETokenizer, list[list[list[int]]]]:
    """A tokenizer trained on documentation, and its paragraphs as lists of sentences in that tokenizer's ids."""
    text = prose(300_000)
    tokenizer = BPETokenizer.train(text, n_vocab, special)
    paragraphs = [re.split(r"(?<=[.!?])\s+", one.strip()) for one in text.split("\n\n") if one.strip()]
    return tokenizer, [[tokenizer.encode(sentence) for sentence in one] for one in paragraphs]


@cache
def prose(n_characters: int) -> str:
    """So many characters of what programs say about themselves: the texts that document modules, classes, functions."""
    return _cut(_documentation(), n_characters)


def _documentation() -> Iterator[str]:
    for content in _files():
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):  # Python's own tests hold files that are wrong on purpose
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (said := ast.get_docstring(node)):
                yield said + "\n\n"
