"""What a cell shows: HTML with a plain-text twin, and the package's own source.

Only the standard library is needed: Jupyter asks an object for its `_repr_html_`, a terminal for its `repr`.
"""

import html
import inspect
import re
import textwrap
from dataclasses import dataclass
from types import FunctionType


@dataclass(frozen=True)
class Html:
    """HTML for a browser, and the same content as text for everything else."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Source:
    """Python source, shown with colours where the page can."""

    code: str
    origin: str  # which file of the package holds it

    def _repr_markdown_(self) -> str:
        caption = f"`{self.origin}`\n\n" if self.origin else ""
        runs = re.findall("`+", self.code)
        fence = "`" * max(3, 1 + max(map(len, runs), default=0))  # longer than any that the code itself holds
        return f"{caption}{fence}python\n{self.code.rstrip()}\n{fence}"

    def __repr__(self) -> str:
        return self.code


def show_source(*things: type | FunctionType) -> Source:
    """The definitions as they stand in the package: what a chapter shows is what its models run."""
    if not things:
        raise ValueError("show_source() needs at least one function or class to show")
    for thing in things:
        if not isinstance(thing, type | FunctionType):
            raise TypeError(f"{thing!r} is of type {type(thing).__name__}; give show_source() functions and classes")
    code = "\n\n".join(textwrap.dedent(inspect.getsource(thing)) for thing in things)
    return Source(code, ", ".join(dict.fromkeys(thing.__module__.replace(".", "/") + ".py" for thing in things)))


def escape(text: str) -> str:
    """Text made safe to stand inside HTML, also inside a quoted attribute (not inside a script)."""
    return html.escape(text, quote=True)


def inline(text: str) -> str:
    """Text as HTML, in which `code` is code and *emphasis* is emphasis; two stars, a power, are left alone."""
    pieces = escape(text).split("`")
    emphasis = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*]+)(?<=[^\s*])\*(?![\w*])")
    if len(pieces) % 2 == 0:  # a sign without its twin is a sign
        pieces[-2:] = ["`".join(pieces[-2:])]
    return "".join(
        f"<code>{piece}</code>" if i % 2 else emphasis.sub(r"<em>\1</em>", piece) for i, piece in enumerate(pieces)
    )
