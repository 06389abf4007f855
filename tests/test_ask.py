"""Ask the book: sections with their true addresses, answers that are right often enough, and a page that says the same."""

import json
import subprocess
import sys
import tomllib
from functools import cache

import pytest
from playwright.sync_api import expect

from llmcourse import asking, cli, passages
from llmcourse.asking import Book, judge, stem, terms, wanted
from llmcourse.passages import Passage, heading_anchor, plain, term_anchor
from llmcourse.visualize import ask_page
from llmcourse.visualize.page import static
from tests.axe import judged
from tests.browsing import HEAD, NARROW, ROOT, blames


def questions(name):
    return tomllib.loads((ROOT / f"tests/ask_{name}.toml").read_text(encoding="utf-8"))["question"]


@cache
def book():
    return Book(passages.load())


TEST, DEVELOPMENT = questions("questions"), questions("development")


def test_there_are_enough_questions_and_none_is_used_for_both():
    assert len(TEST) >= 60 and sum(not one["right"] for one in TEST) >= 15
    asked = [one["ask"].lower() for one in TEST + DEVELOPMENT]
    assert len(set(asked)) == len(asked)
    assert len(DEVELOPMENT) >= 30 and sum(not one["right"] for one in DEVELOPMENT) >= 10


def test_the_right_sections_exist_where_their_page_is_in_the_book():
    known = {one.address for one in book().passages}
    pages = {one.page for one in book().passages}
    named = {address for one in TEST + DEVELOPMENT for address in one["right"]}
    assert {address for address in named if address.split(".html")[0] in pages} <= known
    assert all(any(address in known for address in one["right"]) for one in TEST if one["right"])


def test_answers_are_right_and_unanswerable_questions_declined():
    found = judge(book(), TEST)
    assert found["first"] >= 0.85, found
    assert found["three"] >= 0.95, found
    assert found["declined"] >= 0.8, found


def test_no_question_copies_a_heading():
    headings = {tuple(terms(one.title)) for one in book().passages if len(terms(one.title)) > 3}
    assert not [one["ask"] for one in TEST if tuple(terms(one["ask"])) in headings]


def test_the_judge_counts_by_hand():
    small = Book(
        [Passage("a", "cats", "Cats", "A", "cats sleep much"), Passage("a", "dogs", "Dogs", "A", "dogs bark loudly")]
    )
    asked = [
        {"ask": "do cats sleep?", "right": ["a.html#cats"]},  # first
        {"ask": "who barks, dogs or cats?", "right": ["a.html#cats"]},  # second
        {"ask": "xylophone", "right": ["a.html#dogs"]},  # declined
        {"ask": "quantum xylophone", "right": []},  # rightly declined
        {"ask": "dogs bark", "right": []},  # wrongly answered
    ]
    by_hand = {"answerable": 3, "unanswerable": 2, "first": 1 / 3, "three": 2 / 3, "declined": 1 / 2}
    assert judge(small, asked) == pytest.approx(by_hand)


def test_the_opening_example_finds_its_entry():
    hits = book().ask(ask_page.EXAMPLE)
    assert hits[0].passage.address == "book/glossary.html#term-KV-cache"
    assert "keys and values" in hits[0].excerpt


def test_the_answer_to_nothing_is_nothing():
    for empty in ("", "   ", "?!", "what is it"):
        assert book().ask(empty) == []


def test_passages_are_plain_and_their_addresses_differ():
    found = passages.load()
    assert len(found) > 200
    assert len({one.address for one in found}) == len(found)
    for one in found:
        assert one.text and one.title and one.trail
        assert not [mark for mark in ("**", "```", "](", "{term}", "{cite", "{doc}", "$$") if mark in one.text], one
        assert not one.title.startswith("Exercise ") and one.title not in passages.LEFT_OUT


@pytest.mark.parametrize(
    ("markdown", "words"),
    [
        ("A **bold** `word` and a [link](http://x.y/z_1).", "A bold word and a link."),
        ("their {term}`values <value>`, by {term}`query`", "their values, by query"),
        ("filled {cite:p}`devlin2019bert`.", "filled."),
        ("see {doc}`chapter 3 </notebooks/x>` now", "see chapter 3 now"),
        ("- one\n- two\n1. three", "one two three"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a b 1 2"),
        ("before\n\n$$x = y$$\n\nafter $d$", "before after d"),
        ("a < b and <b>c</b> <!-- hidden -->", "a < b and c"),
        ("{{ number }} tokens", "tokens"),
    ],
)
def test_marks_of_markdown_are_taken_off(markdown, words):
    assert plain(markdown) == words


def test_a_heading_inside_code_is_none_and_an_exercise_ends_a_section():
    long = "Words that are many enough to be a section of the book. "
    text = f"# Page\n\n{long}\n\n## One\n\n{long}\n\n```bash\n# no heading\n```\n\n### Exercise 1.1: X\n\nTask {long}"
    found = list(passages._sections("book/x", text))
    assert [(one.title, one.anchor, one.trail) for one in found] == [("Page", "page", "Page"), ("One", "one", "Page")]
    assert found[1].text == long.strip()
    assert [one.title for one in passages._sections("notebooks/x", text)] == ["One"]  # a chapter's opening is left out


def test_anchors_are_those_of_docutils_and_sphinx():
    assert heading_anchor("Step 2: divide by √D") == "step-2-divide-by-d"
    assert heading_anchor("3 · Self-attention") == "self-attention"
    assert heading_anchor("Lines that begin with ✓: claims") == "lines-that-begin-with-claims"
    assert term_anchor("KV cache") == "term-KV-cache"
    assert term_anchor("top-k, top-p") == "term-top-k-top-p"


def test_stored_passages_are_read_back(tmp_path, monkeypatch):
    some = book().passages[:5]
    monkeypatch.setattr(passages, "HERE", tmp_path / "llmcourse")
    (tmp_path / "llmcourse").mkdir()
    with pytest.raises(ValueError, match="text of the book is not here"):
        passages.load()
    passages.store(some, tmp_path / "llmcourse/passages.json")
    assert passages.load() == some


def test_endings_are_taken_off_the_same_way_for_question_and_text():
    for group in (
        ["mask", "masks", "masked", "masking"],
        ["study", "studies"],
        ["run", "running"],
        ["explain", "explained"],
    ):
        assert len({stem(word) for word in group}) == 1, group
    assert [stem(word) for word in ("focus", "loss", "class", "is", "red")] == ["focus", "loss", "class", "is", "red"]
    assert terms("What is the √D, and why ✓?") == ["squar", "root", "d", "check", "mark"]
    assert [group[0] for group in wanted("divided by √d?")] == ["divid", "squar", "root", "d"]
    assert wanted("tiny tiny models") == [["tiny", "small"], ["model"]]


def test_the_command_answers_and_declines(capsys):
    assert cli.main(["ask", "what is the KV cache?", "--sections", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("KV cache · Glossary\n") and said.endswith("  book/glossary.html#term-KV-cache\n")
    assert cli.main(["ask", "how do I cook rice"]) == 0
    assert capsys.readouterr().out == "This book does not seem to answer that. Try other words.\n"


def test_the_script_holds_every_section_and_cannot_be_ended_by_one():
    nasty = Passage("a", "b", "</script><script>alert(1)</script>", "t", "x \u2028 y & z")
    script = ask_page.script([nasty])
    assert "</script" not in script and "\u2028" not in script
    data = json.loads(script.removeprefix("(globalThis.llmcourse ??= {}).book = ").rstrip(";\n"))
    assert data["passages"][0]["title"] == nasty.title
    assert len(ask_page.script(book().passages)) < 600_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A small site: the page, and beside it the text of the book."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static/ask").mkdir(parents=True)
    (folder / "_static/ask/book.js").write_text(ask_page.script(book().passages), encoding="utf-8")
    (folder / "book").mkdir()
    view = ask_page.page(book().passages, "../_static/ask", "../")
    (folder / "book/page.html").write_text(f"{HEAD}<title>ask</title><main>{view.html}</main>", encoding="utf-8")
    return folder


@pytest.fixture
def page(browser, site):
    faults, page = [], browser.new_page()
    page.set_default_timeout(15_000)
    page.on("console", lambda message: faults.append(message.text) if blames(message) else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto((site / "book/page.html").as_uri())
    yield page
    page.close()
    assert faults == []


def ask(page, question):
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".work")).not_to_have_text("Looking …")


@pytest.mark.slow
def test_page_and_python_agree_on_every_question(browser, site, tmp_path):
    """The whole ranking, its numbers and excerpts, of all questions and some that try to break it."""
    page = browser.new_page()
    page.goto((site / "book/page.html").as_uri())
    page.add_script_tag(path=site / "_static/ask/book.js")
    page.evaluate(f"() => {{ {static('bm25.js')}{static('ask_book.js')} window.theBook = askBook(llmcourse.book); }}")
    odd = [
        "",
        "?",
        "what is it",
        "√D ✓",
        "ÄÖÜ naïve 猫坐在垫子上 fiancée_x",
        "<script>alert(1)</script>",
        "constructor toString __proto__",
    ]
    for question in [one["ask"] for one in TEST + DEVELOPMENT] + odd:
        theirs = page.evaluate("(q) => theBook.rank(q, 10)", question)
        ours = book().rank(question, 10)
        assert [one["passage"]["anchor"] for one in theirs] == [one.passage.anchor for one in ours], question
        assert [one["score"] for one in theirs] == pytest.approx([one.score for one in ours], rel=1e-12)
        assert [one["fits"] for one in theirs] == pytest.approx([one.fits for one in ours], rel=1e-12)
        assert [one["excerpt"] for one in theirs] == [one.excerpt for one in ours], question
        assert len(page.evaluate("(q) => theBook.ask(q)", question)) == len(book().ask(question)), question
    page.close()


@pytest.mark.slow
def test_the_page_names_sections_with_links_and_says_when_it_does_not_know(page):
    ask(page, "What are logits?")
    addresses = page.locator(".hits li").evaluate_all("all => all.map((li) => li.dataset.address)")
    assert addresses == [hit.passage.address for hit in book().ask("What are logits?")]
    assert page.locator(".hits a").first.get_attribute("href") == "../book/glossary.html#term-logits"
    ask(page, "how do I cook rice?")
    expect(page.get_by_text("does not seem to answer that")).to_be_visible()
    assert page.locator(".hits li").count() == 0
    ask(page, " ")
    expect(page.get_by_text("Type a question.")).to_be_visible()


@pytest.mark.slow
def test_nothing_is_loaded_before_the_first_question_and_the_keyboard_is_enough(browser, site):
    asked, page = [], browser.new_page(viewport={"width": NARROW, "height": 740})
    page.on("request", lambda request: asked.append(request.url.rsplit("/")[-1]))
    page.goto((site / "book/page.html").as_uri())
    assert asked == ["page.html"]
    page.keyboard.press("Tab")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".hits li").first).to_have_attribute("data-address", "book/glossary.html#term-KV-cache")
    assert asked == ["page.html", "book.js"]
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    page.close()


@pytest.mark.slow
def test_a_text_that_cannot_be_loaded_can_be_asked_for_again(browser, site, tmp_path):
    script = site / "_static/ask/book.js"
    hidden = script.rename(tmp_path / "hidden.js")
    page = browser.new_page()
    page.goto((site / "book/page.html").as_uri())
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("could not be loaded")).to_be_visible()
    hidden.rename(script)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".hits li").first).to_be_visible()
    page.close()


@pytest.mark.slow
def test_without_javascript_the_example_is_answered(browser, site):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((site / "book/page.html").as_uri())
    expect(page.get_by_text("With JavaScript you could")).to_be_visible()
    assert page.locator(".hits a").first.get_attribute("href") == "../book/glossary.html#term-KV-cache"
    page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_page_is_accessible_while_it_answers(browser, site, mode):
    page = browser.new_page(color_scheme=mode)
    page.goto((site / "book/page.html").as_uri())
    for question in ("What are logits?", "how do I cook rice?"):
        ask(page, question)
        passed, broken = judged(page)
        assert {"color-contrast", "label"} <= passed
        assert broken == []
    page.close()


@pytest.mark.slow
def test_an_installed_package_brings_the_text_along(tmp_path):
    """Built as pip builds it, and asked from a folder without the sources."""
    build = [
        sys.executable,
        "setup.py",
        "-q",
        "build",
        "--build-base",
        str(tmp_path / "build"),
        "--build-lib",
        str(tmp_path / "lib"),
    ]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "lib/llmcourse/passages.json").is_file()
    asked = "from llmcourse import passages; found = passages.load(); print(passages.__file__, len(found))"
    run = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path / "lib", env={"PYTHONPATH": str(tmp_path / "lib")}, capture_output=True, text=True, check=True
    )  # fmt: skip
    file, count = run.stdout.split()
    assert file.startswith(str(tmp_path)) and int(count) == len(book().passages)


def test_settings_of_the_page_are_those_of_python():
    data = json.loads(ask_page.script([]).removeprefix("(globalThis.llmcourse ??= {}).book = ").rstrip(";\n"))
    assert set(data["settings"]["stop"]) == asking.STOP and data["settings"]["also"] == asking.ALSO
