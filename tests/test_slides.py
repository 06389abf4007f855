"""Slides are cut from the notebooks, and open from a disk without asking anybody for anything."""

import re

import pytest

from tests import slides
from tests.browsing import blames
from tests.notebooks import paths, read
from tests.slides import FOREIGN, TICK, cut, main

each_notebook = pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
CHAPTER = next(path for path in paths() if path.name.startswith("03"))


def kind(cell) -> str:
    return cell.metadata.slideshow.slide_type


@each_notebook
def test_a_chapter_becomes_slides_with_its_headings_figures_and_claims(path):
    notebook, made = read(path), cut(read(path))
    assert kind(made.cells[0]) == "slide" and made.cells[0].source.startswith("# ")
    headings = [
        cell.source.splitlines()[0]
        for cell in notebook.cells
        if cell.cell_type == "markdown" and re.match("##? ", cell.source) and not slides.NO_SLIDE.match(cell.source)
    ]
    assert [cell.source.splitlines()[0] for cell in made.cells if kind(cell) == "slide"] == headings
    outputs = [output for cell in made.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert all(len(figure.metadata["image/png"]["alt"]) > 40 for figure in figures)
    claims = sum(output.get("text", "").count(TICK) for output in outputs)
    views = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(figures) + len(views) + claims >= 3
    assert not any(FOREIGN.search(view) for view in views)


@each_notebook
def test_a_slide_shows_no_code_to_complete_and_no_exercise_but_predictions(path):
    for cell in cut(read(path)).cells:
        if kind(cell) != "notes":
            assert cell.source == "" or cell.cell_type == "markdown"
            assert "Stuck?" not in cell.source and len(cell.source) < 2000, cell.source
            if cell.source.startswith("### Exercise"):
                assert re.match(r"### Exercise \w+\.\d+: Predict", cell.source)


def test_a_paragraph_that_announces_something_brings_it_along():
    source = "## Words\n\nThey have columns:\n\n| a | b |\n|---|---|\n\nMore.\n\nMost."
    shown, notes = slides.of_text(slides.text(source, "slide"), shown=True)
    assert shown.source.endswith("|---|---|") and notes.source == "More.\n\nMost."


@pytest.mark.slow
def test_slides_open_from_a_disk_move_on_by_the_arrow_key_and_ask_nobody(browser, tmp_path):
    assert main(["03", "--out", str(tmp_path)]) == 0
    file, faults = tmp_path / f"{CHAPTER.stem}.html", []
    tab = browser.new_page(viewport={"width": 1280, "height": 760})
    tab.set_default_timeout(15_000)
    tab.on("console", lambda message: faults.append(message.text) if blames(message) else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    here = (tmp_path.as_uri(), "data:", "blob:")
    tab.on("request", lambda request: None if request.url.startswith(here) else faults.append(request.url))
    tab.goto(file.as_uri())
    tab.wait_for_function("window.Reveal?.isReady() && document.querySelector('mjx-container')")
    pictures = tab.locator(".slides img").evaluate_all("all => all.map((one) => one.alt)")
    assert pictures and all(len(alt) > 40 and "No description" not in alt for alt in pictures)
    assert tab.title() == "3 \u00b7 Self-attention slides"
    assert tab.locator("section.present h1").inner_text().startswith("3 \u00b7 Self-attention")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("section.present h2:visible").inner_text().startswith("One word needs another")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowDown")
    view = tab.locator("section.present [data-view=attention_heads]:visible")
    view.get_by_role("button", name="trees").first.click()  # a view on a slide can be operated
    assert '"trees" looks most at' in view.inner_text().replace("\u201c", '"').replace("\u201d", '"')
    steps = 0
    while not tab.evaluate("Reveal.isLastSlide() && !Reveal.availableFragments().next"):
        tab.keyboard.press("Space")
        steps += 1
        assert steps < 200
    assert tab.locator("section.present h2:visible").inner_text().startswith("Summary")
    assert faults == []
    tab.close()
