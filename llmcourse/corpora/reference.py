"""Python's own help texts, which ship inside every Python: real English, about half a megabyte, always there.

They are what `help("for")` shows: most are pages of the language reference, some of the library's. They differ
a little from one Python version to the next. Source: The Python documentation, Python Software Foundation, PSF licence.
"""

from pydoc_data import topics


def text() -> str:
    """All topics in alphabetical order, each under its name."""
    return "\n\n".join(f"{name}\n\n{topics.topics[name].strip()}" for name in sorted(topics.topics))
