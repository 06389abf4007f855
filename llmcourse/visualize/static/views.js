// What all views share. Each output holds a copy of its own and leaves no name in the page.

/** An element with attributes (a function listens to the event of that name) and children; text stays text. */
function el(tag, attributes = {}, ...children) {
  const space = ["svg", "line", "rect", "polyline", "circle", "text"].includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A labelled slider; `show(number)` is what stands beside it and what a screen reader says. */
function slider(label, range, show, changed) {
  const output = el("output");
  const input = el("input", { type: "range", ...range });
  const update = () => {
    output.textContent = show(input.valueAsNumber);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => { update(); changed(input.valueAsNumber); });
  update();
  return el("div", { class: "control" }, el("label", {}, el("span", {}, label), input), output);
}

/** A labelled choice among texts; `changed` gets the number of the chosen one. */
function choice(label, options, changed, first = 0) {
  const select = el("select", { change: () => changed(select.selectedIndex) }, ...options.map((text) => el("option", {}, text)));
  select.selectedIndex = first;
  return el("label", { class: "control" }, el("span", {}, label), select);
}

/** A paragraph whose changes are read aloud. */
function live(className) {
  return el("p", { class: className, "aria-live": "polite" });
}

/** A table in a box of its own that scrolls when it is wide; `cell(i, j)` makes the inner elements.
 * Where no cell takes the focus, `reach` is true and the box does: without a mouse it could not be scrolled. */
function matrix(caption, rows, columns, cell, reach = false) {
  const head = el("tr", {}, el("td"), ...columns.map((name) => el("th", { scope: "col", title: name }, name)));
  const body = rows.map((name, i) =>
    el("tr", {}, el("th", { scope: "row", title: name }, name), ...columns.map((_, j) => cell(i, j))));
  const box = reach ? { tabindex: 0, role: "region", "aria-label": caption } : {};
  return el("div", { class: "scroll", ...box }, el("table", {}, el("caption", {}, caption), head, ...body));
}

/** Scroll the box of a cell, not the page, sideways until it stands beside the names of the rows. */
function reveal(cell) {
  const box = cell.closest(".scroll"), frame = box.getBoundingClientRect(), here = cell.getBoundingClientRect();
  const left = frame.left + cell.parentElement.firstElementChild.offsetWidth;
  if (here.left < left || here.right > frame.right) box.scrollLeft += (here.left + here.right - left - frame.right) / 2;
}

/** Call once the element has a size: when it is on the page and not hidden. */
function whenSeen(element, call) {
  new ResizeObserver((_, observer) => element.offsetWidth && (observer.disconnect(), call())).observe(element);
}

/** Probabilities from scores; all zeros where every score is minus infinity: there is nothing to choose from. */
function softmax(scores) {
  const top = Math.max(...scores);
  if (top === -Infinity) return scores.map(() => 0);
  const powers = scores.map((score) => Math.exp(score - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Whether the page was read to this view's end: to its script, or, in a flip-book, to those that its pages share. */
const isWhole = (view) => view.querySelector(":scope > script:not([type])") || view.closest(".pages")?.nextElementSibling;

/** Build every container of this kind that is not built yet, so that scripts may run in any order, once or often. */
function start(view, build) {
  const scan = () => {
    for (const box of document.querySelectorAll(`.llmcourse-view[data-view="${view}"]:not([data-ready])`)) {
      if (!isWhole(box)) continue;
      box.dataset.ready = "";
      build(box.querySelector(":scope > .stage"), JSON.parse(box.querySelector(":scope > [type='application/json']").textContent));
    }
  };
  scan();
  requestAnimationFrame(scan); // some notebooks run a script before its output is on the page
}
