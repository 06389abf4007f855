"""The Python language reference that ships inside every Python: real English, about half a megabyte, always there.

It is the documentation that `help("for")` shows. Its text differs a little from one Python version to the next. Source:
The Python Language Reference, Python Software Foundation, PSF licence.
"""

from pydoc_data import topics


def text() -> str:
    """All topics in alphabetical order, each under its name."""
    return "\n\n".join(f"{name}\n\n{topics.topics[name].strip()}" for name in sorted(topics.topics))
