"""The gates of the built book themselves: each finds a planted fault, and lets pass what is sound.

The functions are those that test_book.py and test_accessibility.py call for every page.
"""

import contextlib
import re
import time
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler
from typing import ClassVar

import pytest

from tests.axe import complaints
from tests.browsing import HEAD, Visitor, incomplete, served
from tests.pages import (
    MOST_JAVASCRIPT,
    broken_links,
    extension,
    javascript,
    missing_launches,
    names_a_host,
    outside_sources,
    silent_pictures,
    unguarded,
)

ELSEWHERE = "https://example.com"
SOUND = (
    '<header><nav aria-label="Pages"><ul><li><a href="sound.html">The book</a></li></ul></nav></header><main><h1>A page</h1>'
    '<p>Some words, and <a href="#place">a link</a> to a place.</p><h2 id="place">A place</h2>'
    '<label>A word <input type="text" autocomplete="off"></label> <button type="button">Go</button>'
    '<img src="bars.svg" alt="Three bars, the last of which is the tallest."></main><footer><p>The end.</p></footer>'
)
BARS = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


@pytest.fixture
def folder(tmp_path):
    """Where pages are written, beside a script, a style sheet and a picture of their own."""
    for name, text in {"own.js": "window.own = 1", "own.css": "p { color: #111 }", "bars.svg": BARS}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def written(folder, body: str, name: str = "page", head: str = "<title>A page</title>"):
    """A page with this body."""
    (path := folder / f"{name}.html").write_text(f"{HEAD.replace('<html', '<html data-theme=light')}{head}<body>{body}")
    return path


# What stands in the page, and what the gate of the links then names.
LINKS = {
    "gone.html": '<a href="gone.html">x</a>',
    "#nowhere": '<a href="#nowhere">x</a>',
    "sound.html#nowhere": '<a href="sound.html#nowhere">x</a>',
    "../gone/": '<a href="../gone/">x</a>',
    "gone.js": '<script src="gone.js"></script>',
    "gone.css": '<link rel="stylesheet" href="gone.css">',
    "gone.png": '<img src="gone.png" alt="x">',
    "#Entry2099": '<p>as <a class="reference internal" href="#Entry2099">Entry (2099)</a> says</p>',  # a citation
}
SOURCES = {
    "a script": f'<script src="{ELSEWHERE}/x.js"></script>',
    "a script without a scheme": '<script src="//example.com/x.js"></script>',
    "a style sheet": f'<link rel="stylesheet" href="{ELSEWHERE}/x.css">',
    "a picture": f'<img src="{ELSEWHERE}/x.png" alt="x">',
    "a set of pictures": f'<img srcset="own.png 1x, {ELSEWHERE}/x.png 2x" alt="x">',
    "a frame": f'<iframe src="{ELSEWHERE}"></iframe>',
    "a sound": f'<audio src="{ELSEWHERE}/x.ogg"></audio>',
    "an object": f'<object data="{ELSEWHERE}/x.svg"></object>',
    "a font": f"<style>@font-face {{ font-family: x; src: url('{ELSEWHERE}/x.woff2') }}</style>",
    "an import": f'<style>@import "{ELSEWHERE}/x.css";</style>',
    "a ground": f'<p style="background: url({ELSEWHERE}/x.png)">x</p>',
}


@pytest.mark.parametrize("planted", LINKS)
def test_a_broken_link_is_found(folder, planted):
    written(folder, SOUND, "sound")
    assert broken_links(written(folder, SOUND)) == []
    assert broken_links(written(folder, SOUND + LINKS[planted], "planted")) == [planted]


@pytest.mark.parametrize("planted", SOURCES)
def test_what_another_host_would_send_is_found(folder, planted):
    harmless = f'<a href="{ELSEWHERE}">a link may lead away</a><link rel="canonical" href="{ELSEWHERE}/page.html">'
    assert outside_sources(written(folder, SOUND + harmless)) == []
    (found,) = outside_sources(written(folder, SOUND + SOURCES[planted], "planted"))
    assert "example.com" in found


@pytest.mark.parametrize("rule", ["src: url(https://example.com/x.woff2)", "background: url('//example.com/x.png')"])
def test_a_style_sheet_of_another_host_is_found(folder, rule):
    (folder / "planted.css").write_text(f"@font-face {{ {rule} }}")
    assert names_a_host(folder / "planted.css")
    assert not names_a_host(folder / "own.css")


@pytest.mark.parametrize("words", ["", ' alt=""', ' alt="_images/1a2b.png"', ' alt="bars.svg"', ' alt="Three bars."'])
def test_a_picture_without_words_is_found(folder, words):
    output = '<div class="cell_output"><img src="bars.svg"{}></div>'
    assert silent_pictures(written(folder, SOUND + output.format(' alt="Six words that say what is shown"'))) == []
    assert silent_pictures(written(folder, SOUND + output.format(words), "planted")) == ["bars.svg"]


def test_a_launch_button_that_opens_another_notebook_or_branch_is_found(folder):
    colab, binder = missing_launches(written(folder, SOUND, "bare"), "notebooks/x")
    assert "/main/notebooks/x.ipynb" in colab and binder.endswith("=lab/tree/notebooks/x.ipynb")
    buttons = [f'<a href="{address}">x</a>' for address in (colab, binder)]
    assert missing_launches(written(folder, "".join(buttons)), "notebooks/x") == []
    for place, (old, new) in enumerate([("notebooks/x", "notebooks/y"), ("notebooks/x", "x"), ("/main", "/master")]):
        wrong = [button.replace(old, new) for button in buttons]
        assert len(missing_launches(written(folder, "".join(wrong), f"wrong{place}"), "notebooks/x")) == 4
    # A right button does not make up for a wrong one beside it.
    assert missing_launches(written(folder, "".join(buttons + wrong), "both"), "notebooks/x")


def test_a_page_with_too_much_javascript_is_found(folder):
    text = "".join(f"var name{i} = {i * 7919 % 100_003};" for i in range(40_000))
    (folder / "large.js").write_text(text)
    assert javascript(written(folder, f'<script src="own.js"></script>{SOUND}')) < 1_000
    assert javascript(written(folder, f'<script src="large.js?v=1"></script>{SOUND}', "file")) > MOST_JAVASCRIPT
    assert javascript(written(folder, f"<script>{text}</script>{SOUND}", "inline")) > MOST_JAVASCRIPT
    data = f'<script type="application/json">"{text}"</script>'
    assert javascript(written(folder, data + SOUND, "data")) < 1_000


def guarded(folder, body: str, name: str = "page", **options):
    """A page with this body, and with the policy that the book gives it."""
    path = written(folder, body, name, **options)
    path.write_text(extension("policy").guarded(path.read_text()))
    return path


def test_a_page_without_its_policy_is_found(folder):
    assert unguarded(written(folder, SOUND, "bare")) != []
    good = guarded(folder, f"{SOUND}<script>window.own = 1</script>")
    assert unguarded(good) == []
    for place, (old, new) in enumerate(
        [
            ("own = 1", "own = 2"),  # a script that was changed after the policy was written
            ("default-src 'self'", f"default-src 'self' {ELSEWHERE}"),
            ("script-src 'self'", "script-src 'self' 'unsafe-inline'"),
            ('<meta charset="utf-8">', '<meta charset="utf-8"><script src="own.js"></script>'),
        ]
    ):
        bad = folder / f"bad{place}.html"
        bad.write_text(good.read_text().replace(old, new, 1))
        assert unguarded(bad) != [], new
    assert extension("policy").guarded(good.read_text()) == good.read_text()  # a second build changes nothing


# How a script asks another host for something; "HOST" stands for its address.
FETCHES = {
    "fetch": "fetch('HOST/fetch').catch(() => 0)",
    "request": "x = new XMLHttpRequest(); x.open('GET', 'HOST/request'); x.send()",
    "beacon": "navigator.sendBeacon('HOST/beacon')",
    "events": "new EventSource('HOST/events').onerror = (event) => event.target.close()",
    "socket": "new WebSocket('HOST/socket'.replace('http', 'ws'))",
    "picture": "new Image().src = 'HOST/picture'",
    "script": "document.head.append(Object.assign(document.createElement('script'), { src: 'HOST/script' }))",
    "sheet": "document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href: 'HOST/sheet' }))",
    "ground": "document.body.style.background = 'url(HOST/ground)'",
    "font": "new FontFace('x', 'url(HOST/font)').load().catch(() => 0)",
    "module": "import('HOST/module').catch(() => 0)",
    "sound": "new Audio('HOST/sound').load()",
    "frame": "document.body.append(Object.assign(document.createElement('iframe'), { src: 'HOST/frame' }))",
}
BY_ELEMENTS = (
    "<style>@font-face { font-family: far; src: url('HOST/font-in-style') } h1 { font-family: far }</style>"
    '<style>@import "HOST/import";</style><img src="HOST/img" alt="x">'
)
ALL_FETCHES = [*FETCHES, "font-in-style", "import", "img"]
FAULTS = {  # what stands in the page, by words of what the visitor then says
    "planted error": '<script>console.error("planted error")</script>',
    "thrown is not defined": "<script>thrown()</script>",
    "gone.png": '<img src="gone.png" alt="x">',
    "gone.js": '<script src="gone.js"></script>',
    "gone.css": '<link rel="stylesheet" href="gone.css">',
}
LACKS = {  # what differs from the sound page, by what it then lacks
    "no title": {"head": ""},
    "no words": {"body": "<main></main>"},
    "0 of 1 formulas": {"body": SOUND.replace("</main>", '<span class="math">x</span></main>')},
    "wider than a phone": {"body": SOUND.replace("<main>", '<main style="width: 500px">')},
}


def all_ways(host: str) -> str:
    """A page's body that asks another host in every way."""
    scripts = "".join(f"<script>{script}</script>" for script in FETCHES.values())
    return (SOUND + scripts + BY_ELEMENTS).replace("HOST", host)


@contextlib.contextmanager
def at_home(folder, where: str):
    """The address of the folder."""
    with served(folder) if where == "from a server" else contextlib.nullcontext(folder.as_uri()) as address:
        yield address


def wait(tab, seconds: float, enough: Callable[[], bool]) -> None:
    """Let the page go on until it is enough, but no longer than that: a browser sends a beacon when it likes."""
    until = time.monotonic() + seconds
    while not enough() and time.monotonic() < until:
        tab.wait_for_timeout(50)


on_both = pytest.mark.parametrize("where", ["from a disk", "from a server"])


@pytest.mark.slow
@on_both
def test_what_a_page_asks_for_and_complains_of_is_heard(browser, folder, where):
    written(folder, f'{SOUND}<link rel="stylesheet" href="own.css"><script src="own.js"></script>', "sound")
    written(folder, all_ways(ELSEWHERE), "asking")
    written(folder, SOUND + "".join(FAULTS.values()), "faulty")

    def unheard(name: str, patterns: list[str]) -> list[str]:
        visitor = Visitor(browser, home, "light")

        def missing() -> list[str]:
            return [
                pattern for pattern in patterns if not any(re.search(pattern, str(fault)) for fault in visitor.faults)
            ]

        with visitor.visit(f"{name}.html") as tab:
            wait(tab, 60, lambda: not missing())
        return missing()

    with at_home(folder, where) as home:
        assert unheard("asking", [rf"asked for \w+://example.com/{way}$" for way in ALL_FETCHES]) == []
        assert unheard("faulty", list(map(re.escape, FAULTS))) == []
        visitor = Visitor(browser, home, "light")
        with visitor.visit("sound.html") as tab:
            tab.wait_for_timeout(100)
        assert visitor.faults == []
        visitor = Visitor(browser, home, "light")
        if where == "from a server":
            with visitor.visit("not-there.html"):
                pass
            assert any(": 404: " in str(fault) for fault in visitor.faults)
        else:
            with pytest.raises(Exception, match="ERR_FILE_NOT_FOUND"), visitor.visit("not-there.html"):
                pass


@pytest.mark.slow
def test_what_a_page_lacks_in_a_browser_is_found(browser, folder):
    visitor = Visitor(browser, folder.as_uri(), "light")
    written(folder, SOUND, "sound")
    with visitor.visit("sound.html") as tab:
        assert incomplete(tab, "light") == []
        assert incomplete(tab, "dark") == ["the theme is light, not dark"]
    for place, (fault, change) in enumerate(LACKS.items()):
        written(folder, **{"body": SOUND, **change}, name=f"lacking{place}")
        with visitor.visit(f"lacking{place}.html") as tab:
            assert incomplete(tab, "light") == [fault]


UNREADABLE = {
    "color-contrast": SOUND.replace("<p>Some", '<p style="color: #999; background: #fff">Some'),
    "label": SOUND.replace("<label>A word ", "<label>"),
    "image-alt": SOUND.replace(' alt="Three bars, the last of which is the tallest."', ""),
}


@pytest.mark.slow
def test_what_cannot_be_read_or_used_is_found(browser, folder):
    visitor = Visitor(browser, folder.as_uri(), "light")
    for name, body in {"sound": SOUND, **UNREADABLE}.items():
        written(folder, body, name)
        with visitor.visit(f"{name}.html") as tab:
            found = complaints(
                tab, "color-contrast" if name != "color-contrast" else "label", contrast="of one a colour"
            )
        assert {line.split(":")[0] for line in found} == ({name} if name != "sound" else set()), name
    written(folder, "", "empty")
    with visitor.visit("empty.html") as tab:
        found = complaints(tab, "color-contrast")
    assert any(re.match(r"only \d rules", line) for line in found)
    assert "color-contrast had nothing to judge" in found


class Listening(SimpleHTTPRequestHandler):
    """A host that keeps what it was asked for, and gives nothing."""

    asked: ClassVar[set[str]] = set()

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.add(self.path.rpartition("/")[2])
        self.send_error(404)

    do_POST = do_GET


# What a script that got into a page might try; each sets a mark, and is stopped.
INTRUSIONS = """
document.body.insertAdjacentHTML("beforeend", '<img src="gone" alt="" onerror="window.marks.push(1)"><a onclick="window.marks.push(2)">x</a>');
document.body.lastChild.click();
document.body.append(Object.assign(document.createElement("script"), { textContent: "window.marks.push(3)" }));
try { eval("window.marks.push(4)"); } catch {}
try { new Function("window.marks.push(5)")(); } catch {}
try { setTimeout("window.marks.push(6)"); } catch {}
document.body.append(Object.assign(document.createElement("a"), { href: "javascript:window.marks.push(7)" }));
document.body.lastChild.click();
document.body.append(Object.assign(document.createElement("script"), { src: "data:text/javascript,window.marks.push(8)" }));
try { new Worker(URL.createObjectURL(new Blob(["postMessage(9)"]))).onmessage = ({ data }) => window.marks.push(data); } catch {}
document.head.append(Object.assign(document.createElement("base"), { href: "HOST/" }));
if (document.baseURI.startsWith("HOST")) window.marks.push(10);
"""


@pytest.mark.slow
@on_both
def test_the_policy_itself_keeps_every_request_and_every_stranger_s_script_out(browser, folder, where):
    """In a browser that may reach the other host: without the policy it is asked in every way, with it in none."""

    def marks(tab) -> list[int]:
        return sorted(set(tab.evaluate("window.marks")))

    def all_done(tab) -> bool:
        return set(ALL_FETCHES) <= Listening.asked and marks(tab) == list(range(1, 11))

    def tried(name: str, write: Callable, seconds: float, enough: Callable) -> list[int]:
        """Write and open a page that tries everything, and return the marks that were set."""
        Listening.asked.clear()
        with served(folder, Listening) as other, contextlib.closing(browser.new_page()) as tab:
            (folder / "intruder.js").write_text(INTRUSIONS.replace("HOST", other))
            write(
                folder, f"<script>window.marks = [];</script>{all_ways(other)}<script src='intruder.js'></script>", name
            )
            tab.goto(f"{home}/{name}.html")
            wait(tab, seconds, lambda: enough(tab))
            return marks(tab)

    with at_home(folder, where) as home:
        began = time.monotonic()
        assert tried("open", written, 60, all_done) == list(range(1, 11))
        assert set(ALL_FETCHES) <= Listening.asked
        longer = 1 + 2 * (time.monotonic() - began)  # what is late in the open page would be late in this one
        assert tried("guarded", guarded, longer, lambda tab: False) == []
        assert Listening.asked == set()


@pytest.mark.slow
@on_both
def test_the_policy_lets_the_page_s_own_parts_work(browser, folder, where):
    own = (
        '<link rel="stylesheet" href="own.css"><script src="own.js"></script><script>window.inline = 1</script>'
        '<style>h1 { color: rgb(1, 2, 3) }</style><p id="own" style="margin: 7px">x</p>'
        '<img id="drawn" alt="A dot" src="data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22/%3E">'
        '<button id="press" onclick="window.pressed = 1">press</button>'
        '<form action="page.html"><input name="q" value="word"><button id="search">search</button></form>'
    )
    guarded(folder, SOUND + own)
    with at_home(folder, where) as home:
        visitor = Visitor(browser, home, "light")
        with visitor.visit("page.html") as tab:
            tab.locator("#press").click()
            assert tab.evaluate("[window.own, window.inline, window.pressed]") == [1, 1, 1]
            assert tab.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
            assert tab.evaluate("getComputedStyle(document.querySelector('#own')).margin") == "7px"
            assert tab.evaluate("getComputedStyle(document.querySelector('#own')).color") == "rgb(17, 17, 17)"
            assert tab.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth)")
            tab.locator("#search").click()
            tab.wait_for_url("**/page.html?q=word")
    assert visitor.faults == []
