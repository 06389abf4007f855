// What the views of heads share.

/** A row of buttons of which one is pressed; `changed` gets the number of the pressed one. Arrow keys move among them. */
function pick(label, texts, changed, first = 0) {
  const press = (i) => { buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === i)); changed(i); };
  const buttons = texts.map((text, i) => el("button", { type: "button", class: "pick", title: text, "data-row": 0, "data-column": i, click: () => press(i) }, text));
  const box = el("div", { class: "bar", role: "group", "aria-label": label }, el("span", {}, label), ...buttons);
  roam(box, "button", buttons[first]);
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === first));
  return box;
}

/** A slider over the numbers up to `last`, with a button for one step back and one for one step on. */
function stepper(label, range, show, changed) {
  const control = slider(label, range, show, changed), input = control.querySelector("input");
  const turn = (by, text, says) => el("button", { type: "button", "aria-label": says, click: () => {
    input.valueAsNumber += by;
    input.dispatchEvent(new Event("input"));
  } }, text);
  return el("div", { class: "bar" }, control, el("span", { class: "pair" }, turn(-1, "−", "one step back"), turn(1, "+", "one step on")));
}

/** Choices of a layer and of one of its heads; `changed(layer, head)` is called at each choice. */
function headChoice(names, counts, opens, changed) {
  const box = el("span", { class: "bar" });
  const heads = (layer, first) => box.replaceChildren(
    choice("Head", Array.from({ length: counts[layer] }, (_, i) => `${i}`), (head) => changed(layer, head), first));
  heads(opens.layer, opens.head);
  return el("div", { class: "bar" }, choice("Layer", names, (layer) => { heads(layer, 0); changed(layer, 0); }, opens.layer), box);
}

/** Arrow keys move the focus among the elements of a box that have a data-row and a data-column; one is in the tab order. */
function roam(box, selector, first, look) {
  const moves = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
  let now = first;
  const all = [...box.querySelectorAll(selector)];
  for (const element of all) element.tabIndex = element === first ? 0 : -1;
  box.addEventListener("keydown", (event) => {
    const move = moves[event.key], from = event.target.closest(selector);
    if (!move || !from || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    all.find(({ dataset: { row, column } }) => +row === +from.dataset.row + move[0] && +column === +from.dataset.column + move[1])?.focus();
  });
  box.addEventListener("focusin", (event) => {
    const to = event.target.closest(selector);
    if (!to) return;
    now.tabIndex = -1;
    to.tabIndex = 0;
    now = to;
    look?.(to);
  });
}

/** A cell of a table: its number in full for who reads the page by a program, in short for the eye, and a colour. */
function setNumber(cell, value, heat = value, text = value.toFixed(2).replace(/^(-?)0\./, "$1.")) {
  cell.dataset.value = value;
  cell.textContent = text.replace(/^-([.0]+)$/, "$1").replace("-", "−");
  cell.classList.toggle("minus", value < 0);
  cell.style.setProperty("--heat", Math.min(Math.abs(heat), 1));
}

/** An empty cell that can be coloured and reached. */
const numberCell = (name, row, column) => el("td", { class: "heat", "data-name": name, "data-row": row, "data-column": column });
