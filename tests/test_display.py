"""What is shown is the package's own source, and text stays text inside HTML."""

import ast
import html

import pytest

from llmcourse.attention import MultiHeadAttention, attention_weights, causal_mask
from llmcourse.display import Html, Source, escape, inline, show_source
from llmcourse.evaluation import mean_loss
from llmcourse.training import TrainConfig


def test_html_is_for_browsers_and_text_for_everything_else():
    shown = Html("<b>x</b>", "x")
    assert shown._repr_html_() == "<b>x</b>"
    assert repr(shown) == "x"


def test_the_source_shown_is_the_definition_that_runs():
    shown = show_source(attention_weights, causal_mask)
    assert shown.origin == "llmcourse/attention.py"
    functions = ast.parse(shown.code).body
    assert [function.name for function in functions] == ["attention_weights", "causal_mask"]
    assert ast.get_docstring(functions[0]) == attention_weights.__doc__.strip().replace("\n    ", "\n")
    assert "softmax(dim=-1)" in shown.code


@pytest.mark.parametrize("thing", [MultiHeadAttention, TrainConfig, TrainConfig.rate_at, mean_loss])
def test_classes_methods_and_decorated_functions_are_shown_whole(thing):
    (definition,) = ast.parse(show_source(thing).code).body
    assert definition.name == thing.__name__
    assert len(definition.decorator_list) == (thing in (TrainConfig, mean_loss))


def test_sources_of_several_files_name_each_once():
    shown = show_source(attention_weights, TrainConfig, causal_mask)
    assert shown.origin == "llmcourse/attention.py, llmcourse/training.py"


def test_source_is_a_coloured_block_in_a_page_and_plain_in_a_terminal():
    shown = Source("x = 1\n", "llmcourse/some.py")
    assert shown._repr_markdown_() == "`llmcourse/some.py`\n\n```python\nx = 1\n```"
    assert Source("x = 1\n", "")._repr_markdown_() == "```python\nx = 1\n```"
    assert repr(shown) == "x = 1\n"


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        show_source()


@pytest.mark.parametrize("text", ["</script><script>", "a & b", "\"quoted\" and 'single'", "&amp;", "从前 <3"])
def test_escaped_text_holds_no_markup_and_reads_as_before(text):
    safe = escape(text)
    assert not set(safe) & set("<>\"'")
    assert html.unescape(safe) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a `x * y * z` and *so* on", "a <code>x * y * z</code> and <em>so</em> on"),
        ("*the* and *cat* only, *not found*.", "<em>the</em> and <em>cat</em> only, <em>not found</em>."),
        ("A / N**alpha + B / D**beta, 2 * 3 * 4", "A / N**alpha + B / D**beta, 2 * 3 * 4"),
        ("*args, **options", "*args, **options"),
        ("<b> `<i>` *a < b*", "&lt;b&gt; <code>&lt;i&gt;</code> <em>a &lt; b</em>"),
        ("one ` alone and `two`", "one <code> alone and </code>two`"),
    ],
)
def test_code_and_emphasis_in_a_sentence(text, expected):
    assert inline(text) == expected
