"""A page remembers, in the reader's own browser, how its quiz went."""

import re

import pytest

from llmcourse.exercises.quiz import questions, quiz
from tests.browsing import HEAD
from tests.pages import extension

CHAPTER = "start_here"


def test_only_a_page_with_a_quiz_gets_the_script():
    with_one, without, empty = {"body": quiz(CHAPTER).html}, {"body": "<p>llmcourse-quiz</p>"}, {}
    for context in (with_one, without, empty):
        extension("quizzes").keep(None, "page", "page.html", context, None)
    assert with_one["body"].startswith(quiz(CHAPTER).html) and "localStorage" in with_one["body"]
    assert without == {"body": "<p>llmcourse-quiz</p>"} and empty == {}


def test_the_script_asks_no_other_host_and_is_small():
    text = extension("quizzes").SCRIPT.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.\w|fetch|import", text.replace("// ", ""))
    assert len(text) < 4_000


def page_with_a_quiz(folder):
    """A page on the disk as the book builds it."""
    context = {"body": quiz(CHAPTER).html}
    extension("quizzes").keep(None, "page", "page.html", context, None)
    file = folder / "page.html"
    file.write_text(f"{HEAD}<title>quiz</title><main>{context['body']}</main>", encoding="utf-8")
    return file


@pytest.mark.slow
def test_what_was_chosen_first_is_kept_over_a_reload_until_it_is_forgotten(browser, tmp_path):
    file = page_with_a_quiz(tmp_path)
    faults, tab = [], browser.new_page()
    tab.set_default_timeout(5_000)
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(file.as_uri())
    asked, items, status = questions(CHAPTER), tab.locator(".llmcourse-quiz > ol > li"), tab.get_by_role("status")
    places = [next(i for i, option in enumerate(one["option"]) if option.get("right")) for one in asked]

    def choose(question: int, option: int) -> None:
        items.nth(question).locator("summary").nth(option).click()

    def marks() -> list[str]:
        return [items.nth(i).locator("> strong").inner_text().strip() for i in range(len(asked))]

    assert status.inner_text().startswith(f"0 of {len(asked)} right")
    choose(0, places[0])
    choose(1, (places[1] + 1) % len(asked[1]["option"]))  # a wrong one first, and then the right one
    choose(1, places[1])
    for _ in range(2):
        tab.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('1 of')")
        assert marks()[:2] == ["\u2713", "\u2717"] and set(marks()[2:]) <= {""}
        tab.reload()
    assert items.first.locator("details[open]").count() == 0  # so that one can try again
    tab.get_by_role("button", name="Forget").click()
    assert status.inner_text().startswith("0 of") and set(marks()) == {""}
    tab.reload()
    assert status.inner_text().startswith("0 of")
    assert faults == []
    tab.close()


@pytest.mark.slow
def test_where_a_browser_keeps_nothing_the_quiz_is_as_before(browser, tmp_path):
    file = page_with_a_quiz(tmp_path)
    faults, tab = [], browser.new_page()
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.add_init_script("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }")
    tab.goto(file.as_uri())
    tab.locator("summary").first.click()
    assert tab.locator("details[open]").count() == 1 and tab.get_by_role("status").count() == 0
    assert faults == []
    tab.close()
