"""What several test files need."""

import os
import shutil

import jaxtyping
import pytest

from tests.browsing import HEAD, blames, build_once, of_this_run


@pytest.fixture(scope="session")
def browser():
    """A real Chromium. Without one the tests that need it say so and are skipped; under CI=true they fail."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("chromium is not installed; on Debian: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The book, all its pages built anew once in this run, by whichever process needs it first."""
    build_once(of_this_run(tmp_path_factory) / "book")


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens outputs as one page from a disk; in the end the page must have asked and logged nothing amiss."""
    pages, faults = [], []

    def said(message) -> str:
        return f"{message.type} at {message.location}: {message.text}"

    def open_page(*outputs, mutate=lambda html: html, **options):
        file = tmp_path / f"page{len(pages)}.html"
        body = "\n".join(output.html for output in outputs)
        file.write_text(f"{HEAD}<title>views</title><main>{mutate(body)}</main>", encoding="utf-8")
        page = browser.new_page(**options)
        page.set_default_timeout(15_000)
        pages.append(page)
        page.on("console", lambda message: faults.append(said(message)) if blames(message) else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: None if request.url == file.as_uri() else faults.append(request.url))
        page.goto(file.as_uri())
        assert page.title() == "views"
        return page

    yield open_page
    for page in pages:
        page.close()
    assert faults == []


@pytest.fixture
def without_shape_checks():
    """Call the package as a reader does: without the checks of shapes and types that the tests put on it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
