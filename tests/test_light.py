"""What is done to a built page's printed outputs: sentences may wrap, columns may not."""

import html

import pytest

from tests.pages import extension


def classes(text: str) -> str:
    """The classes of an output that holds this text, after the page was made light."""
    light = extension("light")
    page = f'<div class="output stream notranslate"><div class="highlight"><pre><span></span>{html.escape(text)}</pre></div></div>'
    changed = light.OUTPUT.sub(light.prose, page)
    assert light.OUTPUT.sub(light.prose, changed.replace(" prose", "")) == changed
    return light.OUTPUT.search(changed)[1]


@pytest.mark.parametrize(
    "text",
    [
        "A bank lets a program write the reasons for refused loans, in friendly words.",
        "\u2713 one line\n\n    and an indented one with <signs>",
        "{'answer': 'delhi', 'score': 0.9}",
    ],
)
def test_sentences_may_wrap(text):
    assert classes(text) == "stream notranslate prose"


@pytest.mark.parametrize(
    "text",
    [
        "temperature  loss\n0.5          1.23",
        "a heading\ntensor([[1., 2.],\n        [3., 4.]])",
        "[[0.1 0.2]\n [0.3 0.4]]",
    ],
)
def test_columns_may_not(text):
    assert classes(text) == "stream notranslate"
