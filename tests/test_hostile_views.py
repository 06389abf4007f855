"""Hostile texts through everything that is shown as HTML: beside harmless texts no element and no attribute is new.

The views are those of view_catalogue.py, built anew with other words in the places where it has words that look like HTML.
"""

import ast
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llmcourse.display import Html, Source
from llmcourse.exercises import Feedback, quiz, reviewing
from llmcourse.exercises.course_map import course_map
from llmcourse.exercises.reviewing import Card
from llmcourse.passages import Passage
from llmcourse.tokenizers import BPETokenizer
from llmcourse.visualize import ask_page, bias, page, preferences, twins, views, widgets
from tests import view_catalogue

HOSTILE = [
    "</script>", "</SCRIPT >", "</script\n>", "<script>alert(1)</script>", "<!--", "-->", "<!--<script>", "<![CDATA[", "]]>", "<?php",
    "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<b>bold</b>", "<iframe srcdoc='<p>'>", "</div></details>", "</table>", "<td>",
    "</style><style>*{display:none}", "<style>", "<base href=//evil>", "<a href='javascript:alert(1)'>", "<textarea>", "<plaintext>",
    '" onmouseover="alert(1)', "' autofocus onfocus='alert(1)", '"><script>', "'><img>", '" style="position:fixed', "=alert(1) ",
    "javascript:alert(1)", "&lt;script&gt;", "&#60;img&#62;", "&amp;lt;", "&quot;onload=", "&", "{{7*7}}", "${7*7}", "<%= 7 %>", "{% raw %}",
    "`${alert(1)}`", "`<img src=x>`", "\\u003cscript\\u003e", "\\", "\u2028", "\u2029alert(1)", "\u202e<b>\u202c", "\u2066</b>\u2069",
    "\x00<b>", "\x00", "\r\n\t", "\ufeff<i>", "＜script＞", "<" * 3_000, "a" * 20_000, "$(\\textbf{x})$", "__proto__", "constructor", "[object Object]",
]  # fmt: skip
MARKS = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script>")  # what the catalogue itself holds
HARMLESS = ("mat", "rug", "bed")
NO_BLANKS = ("fill_blanks", "ask_facts")  # their words are those of a WordTokenizer
FIXED = ("class", "style", "type", "href", "src", "data-view", "tabindex")  # attributes whose values no text decides


class Skeleton(HTMLParser):
    """The elements of a page in order, each with its attributes' names, and the values of those that no text decides."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.scripts, self.others, self._inside = [], [], [], None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *((name, value if name in FIXED else None) for name, value in attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            self.scripts.append(data)

    def handle_comment(self, data):
        self.others.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def breakouts(hostile: str, harmless: str) -> list[str]:
    """What a hostile text added to the same view of a harmless one."""
    one, other = Skeleton(hostile), Skeleton(harmless)
    faults = [f"{a} instead of {b}" for a, b in zip(one.elements, other.elements, strict=False) if a != b][:3]
    faults += [f"{len(one.elements)} elements"] * (len(one.elements) != len(other.elements))
    faults += [f"comment {text[:40]!r}" for text in one.others]
    for a, b in zip(one.scripts, other.scripts, strict=False):
        if a != b and (not a.lstrip().startswith(("{", "[")) or set(a) & set("<>\u2028\u2029") or not _is_json(a)):
            faults.append(f"script {a[:60]!r}")
    return faults


def _is_json(text: str) -> bool:
    try:
        return json.loads(text) is not None
    except ValueError:
        return False


@cache
def catalogue(words: tuple[str, ...]) -> dict:
    """The views of the catalogue, with these words for the three that look like HTML."""

    instead = dict(zip(MARKS, words, strict=True))

    class Reword(ast.NodeTransformer):
        def visit_Constant(self, node):
            if isinstance(node.value, str):
                node.value = re.sub("|".join(map(re.escape, MARKS)), lambda found: instead[found[0]], node.value)
            return node

    file = Path(view_catalogue.__file__)
    tree = ast.fix_missing_locations(Reword().visit(ast.parse(file.read_text(encoding="utf-8"))))
    found = {"__name__": "reworded"}
    exec(compile(tree, file.name, "exec"), found)
    return found["ALL"] | found["STILL"]


def first_html(name: str, words: tuple[str, ...]) -> str:
    if name in NO_BLANKS:
        words = tuple("".join(word.split()) + str(i) for i, word in enumerate(words))
    return catalogue(words)[name]()[0].html


ALONE = [(text, *HARMLESS[1:]) for text in HOSTILE]
TOGETHER = ["".join(HOSTILE[i::6]) for i in range(6)]  # all of them in six words
GROUPS = [tuple(TOGETHER[:3]), tuple(TOGETHER[3:])]
VIEWS = [
    name
    for name in (*view_catalogue.ALL, *view_catalogue.STILL)
    if name not in ("merge_steps", "reliability", "selective")
]

LIVE = ("ablate", "ask_facts", "fill_blanks")  # 400 kB of weights a page, which takes seconds to parse
each_view = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LIVE)) for name in VIEWS]
)


def test_there_are_enough_hostile_texts_and_each_is_shown():
    assert len(set(HOSTILE)) == len(HOSTILE) >= 40
    assert all(any(text in word for group in GROUPS for word in group) for text in HOSTILE)


@each_view
def test_no_text_adds_an_element_or_an_attribute_to_a_view(name):
    harmless = first_html(name, HARMLESS)
    assert breakouts(harmless, harmless) == []
    for words in GROUPS:
        assert breakouts(first_html(name, words), harmless) == []


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("name", VIEWS)
def test_no_text_alone_adds_an_element_or_an_attribute_to_a_view(name):
    harmless = first_html(name, HARMLESS)
    for words in ALONE:
        assert breakouts(first_html(name, words), harmless) == [], words


def test_no_text_to_be_merged_adds_a_kind_of_element():
    """Another text has other merges, so the kinds are compared and not their number."""
    allowed = set(Skeleton(view_catalogue.merges_view().html).elements)
    texts = [text for text in HOSTILE if len(text) < 100]
    for text in ("".join(texts[i::4]) for i in range(4)):
        html = views.merge_steps(BPETokenizer.train(text * 2, 260), text).html
        assert set(Skeleton(html).elements) <= allowed, text
        assert Skeleton(html).others == [] and html.count("<script") == html.count("</script>") == 2


def _nothing_escaped(monkeypatch):
    for module in (page, bias, preferences, twins, widgets):
        monkeypatch.setattr(module, "escape", str)


def _nothing_embedded(monkeypatch):
    monkeypatch.setattr(page, "embedded", lambda data: json.dumps(data, ensure_ascii=False))


@each_view
def test_a_planted_breakout_is_caught(name, monkeypatch):
    words = ("<script>alert(2)</script>", '"><img src=x onerror=alert(2)>', "</script><b>")
    harmless, caught = first_html(name, HARMLESS), []
    for plant in (_nothing_escaped, _nothing_embedded):
        with monkeypatch.context() as patched:
            plant(patched)
            caught += breakouts(first_html(name, words), harmless)
    assert caught


def kinds(html: str) -> set:
    return {(tag, *(name for name, _ in attributes)) for tag, *attributes in Skeleton(html).elements}


@pytest.mark.parametrize("text", HOSTILE)
def test_feedback_quiz_and_pages_show_a_text_as_text(text, monkeypatch):
    feedback = Feedback(text, "wrong", f"your code raised ValueError: {text} and `{text}`", printed=text)
    assert kinds(feedback._repr_html_()) <= {("div", "class"), ("strong",), ("code",), ("pre",)}
    option = {"text": text, "why": text, "right": True}
    monkeypatch.setattr(quiz, "questions", lambda chapter: ({"ask": text, "option": [option, option]},))
    allowed = {("div", "class"), ("ol",), ("li",), ("details",), ("summary",), ("p",), ("strong",), ("code",)}
    assert kinds(quiz.quiz("any").html) <= allowed
    card = reviewing.anki([Card("any", text, (option,))]).splitlines()[5:]
    assert len(card) == 1 and len(card[0].split("\t")) == 4
    assert kinds(card[0]) <= {("ul",), ("li",), ("b",), ("br",), ("code",)}


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_that_is_asked_shows_passages_as_text(text):
    def shown(text: str) -> Html:
        words = f"the cache {text} of keys and values"
        return ask_page.page([Passage("notebooks/a", "b", words, words, words * 2)], "book", "../")

    assert breakouts(shown(text).html, shown("harmless").html) == []
    script = ask_page.script([Passage("a", "b", text, text, text)])
    assert not set(script) & set("<>\u2028\u2029")


@pytest.mark.slow
def test_a_record_that_somebody_else_wrote_adds_nothing_to_the_map(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))
    before = course_map().html
    (tmp_path / "progress.json").write_text(json.dumps({text: {"tries": 1, "solved": text} for text in HOSTILE}))
    assert course_map().html == before


def test_code_with_fences_of_its_own_does_not_end_the_block_that_shows_it():
    code = 'def f():\n    """```\n    <script>alert(1)</script>\n    ````\n    """\n'
    markdown = Source(code, "some.py")._repr_markdown_()
    fence = markdown.split("\n")[2].removesuffix("python")
    assert markdown.rstrip().endswith(f"\n{fence}") and set(fence) == {"`"}
    assert fence not in code
