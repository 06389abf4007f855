"""The reference names everything that is public, says what each is for, and keeps the exercises' answers to itself."""

import re

import pytest

from tests.browsing import BOOK, ROOT
from tests.pages import extension

reference = extension("reference")
SHAPED = re.compile(r"\b(?:Float|Int|Bool|Num|U?[Ii]nt\d+)\[(?:\w+\.)?Tensor, ")
HELD = re.compile(
    r"(?:Mapping|dict|Callable|list|tuple|Iterable|Sequence)\[[^()]*?\]+"
)  # named tensors, each of its own shape
SAID = re.compile(r"\([A-Za-z]+(?:, [A-Za-z0-9]+)+,?\)|\b(?:shape|axis|axes|row|number|loss)")  # in a docstring


def everything() -> list:
    """All public names of the package, members too."""
    return [one for module in reference.modules(ROOT) for one in reference.everything(reference.read(ROOT, module)[1])]


def test_every_module_stands_on_one_page():
    listed = [name for names in reference.pages(ROOT).values() for name in names]
    assert sorted(listed) == reference.modules(ROOT), "name it in a line `% modules:` of a page in book/api"
    assert len(listed) > 100


def test_every_public_name_says_what_it_is_for():
    silent = [one.name for one in everything() if not (one.text or "").strip()]
    assert silent == []
    modules = {name: reference.read(ROOT, name)[0] for name in reference.modules(ROOT)}
    assert [name for name, text in modules.items() if len(text.split()) < 4] == []


def test_what_takes_a_tensor_says_its_shape():
    """In its signature, or, where several shapes will do, in its words. Named tensors have each their own."""
    takes = [one for one in everything() if one.kind != "class" and "Tensor" in HELD.sub("", one.signature)]
    assert len(takes) > 150
    silent = {
        one.name.removeprefix("llmcourse.")
        for one in takes
        if not SHAPED.search(one.signature) and not SAID.search(one.text)
    }
    any_shape = {  # weights, whatever their shape
        "keras.copying.Slot.as_torch", "keras.learning.AdamW.update_step", "optimisers.load_state_tensors",
        "distributed.placed_like", "distributed.taking_part", "distributed.whole",
    }  # fmt: skip
    views = {  # of one axis, or as the view that calls it has checked
        "visualize.bias.decided", "visualize.playground.measure", "visualize.views.next_token_bars",
        "visualize.page.as_text", "interop.forms.stream_order",
    }  # fmt: skip
    assert silent - any_shape - views == set()


@pytest.mark.parametrize(
    ("source", "signature", "fields"),
    [
        ('def f(x: int, *, y="a") -> str:\n    """Says."""', "f(x: int, *, y='a') -> str", ()),
        ('class A(B):\n    """Is."""\n    size: int = 3  # in bytes\n    _own: int = 1', "A(B)", (("size: int = 3", "in bytes"),)),
        ('class A:\n    """Is."""\n    def __init__(self, n: int): ...', "A(n: int)", ()),
    ],
)  # fmt: skip
def test_a_name_is_read_from_its_source(source, signature, fields):
    (node,) = reference.public(reference.ast.parse(source).body)
    one = reference.entry(node, "llmcourse.x", source.splitlines())
    assert (one.signature, one.fields, one.name) == (signature, fields, f"llmcourse.x.{node.name}")


def test_an_exercise_tells_neither_its_solution_nor_its_mistakes():
    source = 'class A(Exercise):\n    """Asks."""\n    hints = 3\n    @solution\n    def right(self): ...'
    (node,) = reference.public(reference.ast.parse(source).body)
    assert reference.entry(node, "llmcourse.exercises.x", source.splitlines()).members == ()
    told = {one.name for one in everything() if one.name.startswith("llmcourse.exercises.self_attention.Attention")}
    assert told == {"llmcourse.exercises.self_attention.Attention"}


def test_a_docstring_becomes_text_that_shows_no_marks():
    text = "`f(x)` *is* a < b.\nx: so\n\n    a = 1\n    b = 2"
    shown = reference.paragraphs(text, {"f": "p.html#f"})
    assert '<a href="p.html#f"><code>f(x)</code></a> <em>is</em> a &lt; b.' in shown
    assert "<br><b>x</b>: so" in shown and "<code>a = 1\nb = 2</code>" in shown


@pytest.mark.slow
def test_the_built_pages_hold_every_name_and_the_search_knows_it(built):
    texts = {page: (BOOK / f"{page}.html").read_text("utf-8") for page in reference.pages(ROOT)}
    assert len(texts) == 5 and all(len(text) < 400_000 for text in texts.values())
    together = "".join(texts.values())
    assert [one.name for one in everything() if f'id="{one.name}"' not in together] == []
    index = (BOOK / "searchindex.js").read_text("utf-8")
    assert "causal_mask" in index and "llmcourse.attention" in index
