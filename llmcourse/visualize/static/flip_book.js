/** Show one of the stored outputs: the last choice changes fastest, as in an odometer. */
function flipBook(stage, choices) {
  const pages = [...stage.parentElement.querySelectorAll(":scope > .pages > .page")];
  const chosen = choices.map(() => 0);

  for (const page of pages) page.querySelector(":scope > .note").hidden = true; // what the controls say

  function show() {
    const number = choices.reduce((sum, { values }, i) => sum * values.length + chosen[i], 0);
    pages.forEach((page, i) => { page.hidden = i !== number; });
  }

  const controls = choices.map(({ name, values, slider: isSlider }, i) => {
    const changed = (value) => { chosen[i] = value; show(); };
    return isSlider ? slider(name, { min: 0, max: values.length - 1, value: 0 }, (n) => values[n], changed) : choice(name, values, changed);
  });
  stage.append(el("div", { class: "bar" }, ...controls));
  show();
}

start("flip_book", flipBook);
