"""What waits until a reader comes near: formulas, the course's views, and those of bertviz.

A page of ten views would else keep a phone busy for a second before it answers. `whenNear(place, work)` does the work when
the place is half a screen away, before it is printed, and for whoever goes from control to control by keys. It does it at
once where the address leads to a place inside the page, whose height may depend on it. `drawAll()` does all that is left;
its promise is kept when all is drawn.
"""

import re

FORMULA = 'class="math notranslate'
NEAR = """<script>
(() => {
  const waiting = new Map(), begun = [];
  const run = (work) => begun.push(work());
  const begin = (place) => {
    const works = waiting.get(place) ?? [];
    waiting.delete(place);
    near.unobserve(place);
    works.forEach(run);
  };
  const near = new IntersectionObserver((seen) => seen.filter((one) => one.isIntersecting).forEach((one) => begin(one.target)),
    { rootMargin: "50%" });
  window.whenNear = (place, work) => {
    if (location.hash) return run(work);
    waiting.set(place, [...(waiting.get(place) ?? []), work]);
    near.observe(place);
  };
  window.drawAll = () => {
    [...waiting.keys()].forEach(begin);
    return Promise.all(begun);
  };
  addEventListener("beforeprint", drawAll);
  addEventListener("keydown", drawAll, { once: true });
})();
</script>
"""
# MathJax is 264 KB, compressed, and works for half a second on a phone. It also comes when somebody begins to move.
FORMULAS = """<script>
addEventListener("DOMContentLoaded", () => {
  let asked;
  const load = () => asked ??= new Promise((done) => {
    window.MathJax = { options: { processHtmlClass: "tex2jax_process|mathjax_process|math|output_area" } };
    document.head.append(Object.assign(document.createElement("script"), {
      src: "%s", onload: () => done(window.MathJax.startup.promise), onerror: () => done() }));
  });
  for (const formula of document.querySelectorAll(".math")) whenNear(formula, load);
  for (const begun of ["scroll", "pointerdown"]) addEventListener(begun, load, { once: true, passive: true });
});
</script>
"""
# bertviz asks RequireJS for d3 and jQuery. Beside MathJax and the theme RequireJS breaks other scripts, so a page that
# holds a bertviz view gets this stand-in, which loads the two libraries as plain scripts when the first view is near.
BERTVIZ = """<script>
window.require = { config() {} };
(() => {
  const load = (address) => new Promise((done) => document.head.append(Object.assign(document.createElement("script"),
    { src: address, onload: done, onerror: done })));
  let libraries;
  window.requirejs = (names, run) => whenNear(document.currentScript.parentElement, async () => {
    await (libraries ??= load("%s").then(() => load("%s")));
    run(...names.map((name) => ({ jquery: window.jQuery, d3: window.d3 })[name]));
  });
})();
</script>"""
# The script of a view as `llmcourse.visualize.page.block` writes it.
VIEW = re.compile(r'<script>\n\(\(\) => \{\n("use strict";\n.*?)\}\)\(\);\n</script>', re.DOTALL)


def waiting(body: str) -> str:
    """A page's body with views that wait."""
    return VIEW.sub(
        lambda found: f"<script>\nwhenNear(document.currentScript.parentElement, () => {{\n{found[1]}}});\n</script>",
        body,
    )


def scripts(body: str, root: str) -> str:
    """What the head of a page needs for what waits in its body. `root` leads from the page to where the book begins."""
    formulas = FORMULAS % f"{root}_static/mathjax/tex-chtml.js" if FORMULA in body else ""
    return NEAR + formulas if formulas or "whenNear(" in body else ""
