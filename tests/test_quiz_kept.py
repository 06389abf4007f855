"""A page remembers, in the reader's own browser, how its quiz went."""

import re

import pytest

from llmcourse.exercises.quiz import questions, quiz
from tests.browsing import HEAD, served
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
    head = HEAD + '<title>quiz</title><link rel="icon" href="data:,">'  # a browser would ask the server for one
    file.write_text(f"{head}<main>{context['body']}</main>", encoding="utf-8")
    return file


RIGHT = "document.querySelector('[role=status]').textContent.startsWith('{} of')"


class _Reader:
    """A tab with the quiz, and what its page complained of."""

    def __init__(self, context, address: str):
        self.faults, self.tab = [], context.new_page()
        self.tab.on("console", lambda message: self.faults.append(message.text))
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.goto(f"{address}/page.html")
        self.asked, self.items = questions(CHAPTER), self.tab.locator(".llmcourse-quiz > ol > li")
        self.places = [next(i for i, option in enumerate(one["option"]) if option.get("right")) for one in self.asked]

    def choose(self, question: int, right: bool) -> None:
        option = self.places[question] if right else (self.places[question] + 1) % len(self.asked[question]["option"])
        self.items.nth(question).locator("summary").nth(option).click()

    def marks(self) -> list[str]:
        return [self.items.nth(i).locator("> strong").inner_text().strip() for i in range(len(self.asked))]

    def sees(self, right: int) -> None:
        self.tab.wait_for_function(RIGHT.format(right))


@pytest.fixture
def readers(browser, tmp_path):
    """Opens tabs of one browser with the same page, which no other test's browser has seen."""
    page_with_a_quiz(tmp_path)
    context, opened = browser.new_context(), []
    with served(tmp_path) as address:
        yield lambda: opened.append(_Reader(context, address)) or opened[-1]
        assert [fault for reader in opened for fault in reader.faults] == []
        context.close()


@pytest.mark.slow
def test_what_was_chosen_first_is_kept_over_a_reload_until_it_is_forgotten(readers):
    reader = readers()
    reader.sees(0)
    reader.choose(0, right=True)
    reader.choose(1, right=False)  # a wrong one first, and then the right one
    reader.choose(1, right=True)
    for _ in range(2):
        reader.sees(1)
        assert reader.marks()[:2] == ["\u2713", "\u2717"] and set(reader.marks()[2:]) <= {""}
        reader.tab.reload()
    assert reader.items.first.locator("details[open]").count() == 0  # so that one can try again
    reader.tab.get_by_role("button", name="Forget").click()
    reader.sees(0)
    assert set(reader.marks()) == {""}
    reader.tab.reload()
    reader.sees(0)


@pytest.mark.slow
def test_two_tabs_keep_what_was_chosen_in_either(readers):
    first, second = readers(), readers()
    first.choose(0, right=True)
    second.sees(1)
    second.choose(1, right=True)
    first.sees(2)
    second.tab.get_by_role("button", name="Forget").click()
    first.sees(0)
    first.choose(1, right=True)
    second.sees(1)
    assert second.marks()[:2] == ["", "\u2713"]


@pytest.mark.slow
def test_storage_that_shows_itself_as_empty_for_a_moment_loses_nothing(readers):
    """A busy Chromium does so after some reloads: in 18 of 1,600 of a page on the disk."""
    reader = readers()
    reader.choose(0, right=True)
    reader.sees(1)
    reader.tab.add_init_script(
        "const get = Storage.prototype.getItem; let asked = 0; Storage.prototype.getItem = function (key)"
        " { return asked++ || !sessionStorage.empty ? get.call(this, key) : null }"
    )
    reader.tab.evaluate("sessionStorage.empty = 'yes'")
    reader.tab.reload()
    reader.sees(0)
    reader.choose(1, right=True)
    reader.sees(2)
    reader.tab.evaluate("sessionStorage.clear()")
    reader.tab.reload()
    reader.sees(2)


@pytest.mark.slow
def test_an_answer_that_the_browser_opens_by_itself_is_no_choice(readers):
    """As when a reader searches the page for a word."""
    reader = readers()
    reader.tab.evaluate("document.querySelector('details').open = true")
    reader.tab.wait_for_timeout(200)  # it would count by then
    reader.sees(0)
    reader.items.nth(1).locator("summary").nth(reader.places[1]).press("Enter")  # a key is one
    reader.sees(1)
    assert reader.marks()[:2] == ["", "\u2713"]


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
