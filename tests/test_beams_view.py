"""The tree of a beam search: the page shows what the search kept, what became of it, and at what score."""

import re

import pytest
import torch
from playwright.sync_api import expect

from llmcourse.visualize import beams
from tests.test_views_in_browser import tensor_of
from tests.view_catalogue import PIECES, beam_trace, beams_view, follow_table


def followed(seed=0, n_beams=4, steps=8):
    """Beam search once more, with whole texts instead of places: per step the list of (text, log probability)."""
    table = follow_table(seed).log()
    live, finished, kept = [([0], 0.0)], 0, []
    for _ in range(steps):
        grown = [([*text, t], p + table[text[-1], t].item()) for text, p in live for t in range(7)]
        grown = [one for one in grown if one[1] > -torch.inf]
        grown = sorted(grown, key=lambda one: -one[1])[: n_beams - finished]
        if not grown:
            break
        kept.append(grown)
        live = [one for one in grown if one[0][-1] != 1]
        finished += len(grown) - len(live)
    return kept


def state(text, kept, last):
    """What a beginning is after a step, by its definition."""
    if text[-1] == 1:
        return "finished"
    return (
        "live"
        if any(other[: len(text)] == text for other, _ in kept[last]) or _leads_to_an_end(text, kept[: last + 1])
        else "dropped"
    )


def _leads_to_an_end(text, kept):
    return any(other[: len(text)] == text and other[-1] == 1 for step in kept for other, _ in step)


@pytest.mark.parametrize(("seed", "n_beams"), [(0, 4), (1, 2), (2, 1), (3, 3)])
def test_the_table_holds_every_beginning_that_was_kept(seed, n_beams):
    html = beams_view(seed, n_beams).html
    rows = re.findall(
        r'<th scope="row">(\d+)<td[^>]*>([^<]*)<td>([^<]*)<td>', html.split("<caption>Kept after each step")[1]
    )
    rows = rows[: sum(map(len, followed(seed, n_beams)))]
    wanted = [(i, text, p) for i, step in enumerate(followed(seed, n_beams), start=1) for text, p in step]
    assert len(rows) == len(wanted)
    escaped = [piece.replace("<", "&lt;").replace(">", "&gt;") for piece in PIECES]
    for (number, shown, value), (step, text, p) in zip(rows, wanted, strict=True):
        assert int(number) == step
        assert shown == " ".join(escaped[t] for t in text[1:])
        assert float(value) == pytest.approx(p, rel=1e-5)


def test_the_text_for_a_terminal_ranks_what_was_found():
    scores = [float(line.split()[0]) for line in beams_view(0).text.splitlines()[1:]]
    found = beam_trace(0).hypotheses
    assert scores == [pytest.approx(one.score, abs=6e-4) for one in found]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: beams.beam_tree(beam_trace()._replace(steps=[]), str), "0 kept beginnings"),
        (lambda: beams.beam_tree(beam_trace()._replace(hypotheses=[]), str), "cannot be drawn"),
        (lambda: beams_view(0, length_penalty=0.0), "give the length_penalty"),
        (lambda: beams_view(0, opens=0), "opens=0"),
        (lambda: beams.beam_tree(beam_trace()._replace(steps=beam_trace().steps[1:]), str), "goes on from"),
    ],
)
def test_what_is_no_search_is_refused_with_the_way_out(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.slow
def test_at_each_step_the_page_shows_what_is_live_finished_and_dropped(open_page):
    page = open_page(beams_view(0))
    kept = followed(0)
    slider = page.get_by_role("slider", name="Step")
    for last in range(len(kept)):
        slider.fill(str(last + 1))
        for i, step in enumerate(kept):
            for j, (text, p) in enumerate(step):
                node = page.locator(f"[data-name=node][data-column='{i}'][data-row='{j}']")
                assert float(node.get_attribute("data-value")) == pytest.approx(p, rel=1e-5)
                assert node.is_visible() == (i <= last)
                if i <= last:
                    assert node.get_attribute("data-state") == state(text, kept, last), (last, text)
        shown = tensor_of(page, "kept")
        here = torch.tensor([p for _, p in kept[last]], dtype=torch.float64)
        torch.testing.assert_close(shown[: len(here), 0], here, atol=1e-5, rtol=0)
        torch.testing.assert_close(shown[: len(here), 1], here / (last + 1), atol=1e-5, rtol=0)
        set_aside = sum(text[-1] == 1 for step in kept[:last] for text, _ in step)
        assert len(shown) == len(here) + set_aside


@pytest.mark.slow
def test_a_line_leads_from_each_beginning_to_its_continuation(open_page):
    page = open_page(beams_view(0))
    kept = followed(0)
    lines = page.locator(".stage svg line").evaluate_all(
        "all => all.map((x) => [+x.dataset.column, +x.dataset.row, +x.getAttribute('y1')])"
    )
    assert len(lines) == sum(map(len, kept[1:]))
    for i, j, y in lines:
        parent = [text for text, _ in kept[i - 1]].index(kept[i][j][0][:-1])
        assert y == (parent + 0.5) * 46


@pytest.mark.slow
def test_the_tree_is_walked_by_keys_alone(open_page):
    page = open_page(beams_view(0, opens=1))
    page.get_by_role("slider", name="Step").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(page.locator("output")).to_have_text(f"3 of {len(followed(0))}")
    page.locator("[data-name=node]").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    text, p = followed(0)[1][1]
    expect(page.locator(".work").nth(1)).to_contain_text(f"“{' '.join(PIECES[t] for t in text[1:])}”")
    expect(page.locator(".work").nth(1)).to_contain_text(f"{p:.3f}".replace("-", "−"))
    assert page.locator("[data-name=node][tabindex='0']").count() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "mutant"),
    [
        ('all[i][j] !== "dropped"', 'all[i][j] === "finished"'),
        ("i === last", "i === last - 1"),
    ],
)
def test_a_tree_with_a_broken_state_does_not_pass(open_page, line, mutant):
    view = beams_view(0, opens=3)
    assert line in view.html
    page = open_page(view, mutate=lambda html: html.replace(line, mutant))
    kept = followed(0)
    states = page.locator("[data-name=node]:visible").evaluate_all("all => all.map((x) => x.dataset.state)")
    assert states != [state(text, kept, 2) for step in kept[:3] for text, _ in step]
