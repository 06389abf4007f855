"""WCAG 2.2, levels A and AA, as far as axe-core can judge it.

axe-core comes from the package axe-playwright-python, of which nothing else is used.
"""

from collections.abc import Sequence
from importlib import resources

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Of these tags too, and off in axe unless they are named
NAMED = ["css-orientation-lock", "label-content-name-mismatch", "p-as-heading", "table-fake-caption", "td-has-header"]
FLOOR = 20  # rules that a page with a title, landmarks, links and text passes; an empty one passes fewer than ten
# What only shows when it is opened is measured too, and nothing while it fades in. The theme takes a while to find out what
# scrolls, on a large page and a busy machine some seconds; whoever waits for it in vain finds the fault.
UNFOLD = """async () => {
    document.head.append(Object.assign(document.createElement("style"), {
        textContent: "*, ::before, ::after { animation: none !important; transition: none !important; }" }));
    for (const details of document.querySelectorAll("details")) details.open = true;
    const late = () => [...document.querySelectorAll("pre[tabindex='-1']")].some((pre) => pre.scrollWidth > pre.clientWidth);
    const wait = (time) => new Promise((done) => setTimeout(done, time));
    await wait(500);
    for (let turn = 0; late() && turn < 50; turn++) await wait(200);
}"""
# Code and views have thousands of words in a few colours, and axe takes milliseconds for the contrast of each: one word of
# each colour on each ground stands for the others, which are hidden meanwhile. In a view the grounds are shades; of those
# that differ by less than a sixteenth one is enough here, since each view is judged whole by itself elsewhere.
THIN_OUT = """() => {
    const seen = new Set();
    const ground = (element) => {
        const { backgroundColor } = getComputedStyle(element);
        return backgroundColor === "rgba(0, 0, 0, 0)" && element.parentElement ? ground(element.parentElement) : backgroundColor;
    };
    const rounded = (colour) => colour.replace(/\\d+/g, (channel) => channel >> 4);
    for (const word of document.querySelectorAll(":is(.highlight, .llmcourse-view) :not(:has(*))")) {
        const text = word.textContent.trim(), inView = word.closest(".llmcourse-view");
        if (text.length < (inView ? 1 : 2)) continue;
        const colours = [getComputedStyle(word).color, ground(word)];
        const key = (inView ? [...colours.map(rounded), word.tagName, word.getAttribute("class")] : colours).join(" ");
        word.classList.toggle("stood-for", seen.has(key));
        seen.add(key);
    }
    document.head.append(Object.assign(document.createElement("style"), {
        id: "thinned", textContent: ".stood-for { visibility: hidden !important; }" }));
}"""
RUN = """async ([tags, rules, contrast, only]) => {
    const options = { resultTypes: ["violations"] };
    const whole = { runOnly: tags, rules: { ...rules, "color-contrast": { enabled: false } }, ...options };
    const colours = { runOnly: { type: "rule", values: ["color-contrast"] }, ...options };
    const results = contrast ? [await axe.run(colours)] : [];
    document.getElementById("thinned")?.remove();
    results.push(await axe.run(only.length ? { runOnly: { type: "rule", values: only }, ...options } : whole));
    return { passes: results.flatMap((result) => result.passes), violations: results.flatMap((result) => result.violations) };
}"""


def judged(tab, contrast: str = "of all", only: Sequence[str] = ()) -> tuple[set[str], list[str]]:
    """The names of the rules that the page passes, and a line for each element that breaks one.

    contrast: of which words the contrast is judged: "of all", "of one a colour" or "of none"
    only: the names of the rules to judge beside the contrast; none stands for all
    """
    tab.evaluate(UNFOLD)
    tab.evaluate(AXE)
    if contrast == "of one a colour":
        tab.evaluate(THIN_OUT)
    result = tab.evaluate(RUN, [TAGS, {name: {"enabled": True} for name in NAMED}, contrast != "of none", list(only)])
    broken = [f"{rule['id']}: {node['html'][:150]}" for rule in result["violations"] for node in rule["nodes"]]
    return {rule["id"] for rule in result["passes"]}, broken


def complaints(tab, *needed: str, floor: int = FLOOR, **options) -> list[str]:
    """What is amiss on the page; a page that did not load passes too few rules, and not those that are needed."""
    passed, broken = judged(tab, **options)
    short = [f"only {len(passed)} rules had something to judge"] if len(passed) < floor else []
    return broken + short + [f"{rule} had nothing to judge" for rule in needed if rule not in passed]
