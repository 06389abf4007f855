"""Quizzes: a chapter's questions with an explanation on every option, as HTML that needs no script.

The questions stand in `quizzes/<chapter>.toml`.
"""

import tomllib
from functools import cache
from importlib import resources

from llmcourse.display import Html, inline


@cache
def questions(chapter: str) -> tuple[dict, ...]:
    """A chapter's questions: `ask`, and `option`s with `text`, `why`, and `right = true` on exactly one."""
    file = resources.files("llmcourse.exercises") / "quizzes" / f"{chapter}.toml"
    if not file.is_file():
        known = sorted(path.name.removesuffix(".toml") for path in file.parent.iterdir())
        raise ValueError(f"there is no quiz {chapter!r}; there are {', '.join(known)}")
    return tuple(tomllib.loads(file.read_text(encoding="utf-8"))["question"])


def quiz(chapter: str) -> Html:
    """The chapter's quiz. Choose an option to read whether it is right, and why."""
    items, lines = [], []
    for number, question in enumerate(questions(chapter), start=1):
        options = "".join(_option(option) for option in question["option"])
        items.append(f"<li>{inline(question['ask'])}{options}</li>")
        lines.append(f"{number}. {question['ask']}")
        lines += [f"   ( ) {option['text']}" for option in question["option"]]
    return Html(f'<div class="llmcourse-quiz"><ol>{"".join(items)}</ol></div>', "\n".join(lines))


def _option(option: dict) -> str:
    verdict = "\u2713 Right." if option.get("right") else "\u2717 No."
    return (
        f"<details><summary>{inline(option['text'])}</summary>"
        f"<p><strong>{verdict}</strong> {inline(option['why'])}</p></details>"
    )
