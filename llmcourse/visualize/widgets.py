"""Exploring with controls: live where a kernel runs, a flip-book of stored outputs on a page."""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from llmcourse.display import Html, escape
from llmcourse.visualize.page import block

MAX_PAGES = 40
GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "epsilon": "ε", "tau": "τ"}
WIDGET = "application/vnd.jupyter.widget-view+json"


class Exploration:
    """What `explore` returns: controls while a kernel runs, and the flip-book on a stored page."""

    def __init__(self, view: Callable[..., Html], choices: Mapping[str, Sequence], page: Html) -> None:
        self.view, self.choices, self.page = view, choices, page

    def __repr__(self) -> str:
        return self.page.text

    def _repr_html_(self) -> str:
        return self.page.html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/html": self.page.html, "text/plain": self.page.text}
        if _kernel_runs():
            model_id = controls(self.view, self.choices).model_id
            bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return bundle


def explore(view: Callable[..., Html], /, **choices: Sequence) -> Exploration:
    """Let a reader choose the arguments of `view`: explore(show, size=[1, 2], kind=["a"]).

    Numbers get a slider, everything else a list. `view` is called with each combination, at most 40 of them, so
    that a page without a kernel has them all.
    """
    n_pages = math.prod(len(values) for values in choices.values())
    if not choices or n_pages == 0:
        raise ValueError("there is nothing to choose; give values, such as explore(view, temperature=[0.5, 1])")
    if n_pages > MAX_PAGES:
        sizes = " x ".join(f"{len(values)} {name}" for name, values in choices.items())
        raise ValueError(f"{sizes} are {n_pages} outputs, and a page bears {MAX_PAGES}; give fewer values")
    return Exploration(view, choices, _flip_book(view, choices))


def controls(view: Callable[..., Html], choices: Mapping[str, Sequence]):
    """The ipywidgets: a slider or a list for each choice, and the output of `view` below them."""
    import ipywidgets
    from IPython.display import display

    def control(name: str, values: Sequence):
        kind = ipywidgets.SelectionSlider if _is_numeric(values) else ipywidgets.Dropdown
        return kind(options=[(_label(value), value) for value in values], value=values[0], description=_named(name))

    chosen = {name: control(name, values) for name, values in choices.items()}
    output = ipywidgets.interactive_output(lambda **values: display(view(**values)), chosen)
    return ipywidgets.VBox([*chosen.values(), output])


def _flip_book(view: Callable[..., Html], choices: Mapping[str, Sequence]) -> Html:
    """Every combination's output, stored; the page's own controls choose among them."""
    body, text = "", ""
    for values in itertools.product(*choices.values()):
        arguments = dict(zip(choices, values, strict=True))
        title = ", ".join(f"{_named(name)} = {_label(value)}" for name, value in arguments.items())
        shown = view(**arguments)
        if not isinstance(shown, Html):
            raise TypeError(f"the view returned a {type(shown).__name__} for {title}; it must return an Html")
        body += f'<div class="page"><p class="note">{escape(title)}</p>\n{shown.html}</div>\n'
        text += f"{title}\n{shown.text}\n\n"
    body, shared = _once(body)
    data = [
        {"name": _named(name), "values": [_label(value) for value in values], "slider": _is_numeric(values)}
        for name, values in choices.items()
    ]
    twin = f'<div class="pages">\n{body}</div>\n{shared}'
    return block("flip_book", "Outputs to choose among", data, twin, text.rstrip())


def _once(html: str) -> tuple[str, str]:
    """The HTML without the styles and scripts that its parts repeat, and each of these once."""
    shared: dict[str, None] = {}

    def lift(match: re.Match) -> str:
        shared[match.group()] = None
        return ""

    return re.sub(r"<(style|script)>.*?</\1>\n?", lift, html, flags=re.DOTALL), "".join(shared)


def _is_numeric(values: Sequence) -> bool:
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def _named(argument: str) -> str:
    """What a reader calls it: a Greek letter by its sign."""
    return GREEK.get(argument, argument)


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kernel_runs() -> bool:
    """Whether this Python is a kernel that can answer a widget."""
    try:
        import ipywidgets  # noqa: F401
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None
