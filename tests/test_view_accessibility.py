"""WCAG 2.2, levels A and AA, on every view before and after it is used; and that a planted fault is found."""

import contextlib

import pytest

from tests.axe import FLOOR, judged
from tests.browsing import HEAD
from tests.view_catalogue import ALL, STILL

# A token and a step that were chosen, and a slider at its end, where a view can have other colours.
OPERATE = """() => {
    for (const button of document.querySelectorAll(".token:nth-of-type(2), [aria-label=Steps] > :nth-child(4)")) button.click();
    for (const slider of document.querySelectorAll(".llmcourse-view input[type=range]")) {
        slider.value = slider.max / 2;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
}"""
pytestmark = pytest.mark.slow
both_modes = pytest.mark.parametrize("mode", ["light", "dark"])


@contextlib.contextmanager
def written(browser, body: str, **options):
    """A page of its own around this body."""
    with contextlib.closing(browser.new_page(**options)) as tab:
        tab.set_content(f"{HEAD}<title>views</title><main><h1>views</h1>{body}</main>")
        yield tab


@both_modes
@pytest.mark.parametrize("view", [*ALL, *STILL])
def test_a_view_is_accessible_before_and_after_it_is_used(browser, mode, view):
    body = "".join(output.html for output in (ALL | STILL)[view]())
    with written(browser, body, color_scheme=mode) as tab:
        for _ in range(2):
            passed, broken = judged(tab)
            assert broken == []
            assert {"color-contrast", *(["td-headers-attr"] if "<table" in body else [])} <= passed
            tab.evaluate(OPERATE)


PLANTED = {
    "color-contrast": '<p style="color: #999; background: #fff">Too pale to be read by all.</p>',
    "label": '<input type="text">',
    "label-content-name-mismatch": '<button aria-label="Search">Find a word</button>',
    "scrollable-region-focusable": f'<div style="overflow-x: auto; width: 200px"><pre>{"wide " * 99}</pre></div>',
    "aria-required-children": '<div role="list"><a href="#">no item</a></div>',
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_fault_is_found(browser, rule):
    with written(browser, PLANTED[rule]) as tab:
        _, broken = judged(tab)
        assert {line.split(":")[0] for line in broken} == {rule}


def test_a_fault_inside_what_is_folded_or_in_code_is_found(browser):
    pale = '<span style="color: #aaa">pale</span>'
    code = f'<div class="highlight"><pre><span>dark</span> <span>dark</span> {pale} {pale}</pre></div>'
    with written(browser, f"<details><summary>open</summary>{code}</details>") as tab:
        _, broken = judged(tab, contrast="of one a colour")
        assert [line.split(":")[0] for line in broken] == ["color-contrast"]


def test_an_empty_page_does_not_pass_for_a_good_one(browser):
    with written(browser, "") as tab:
        passed, _ = judged(tab)
        assert len(passed) < FLOOR / 2
