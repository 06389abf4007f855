// Switching heads off: what the playground and `ablate` share.

/** How far a head's attention moved: the share of it that now lies on other keys, on average over the queries. */
function movedShare(before, after) {
  const moved = (row, t) => row.reduce((sum, weight, s) => sum + Math.abs(weight - after[t][s]), 0) / 2;
  return before.reduce((sum, row, t) => sum + moved(row, t), 0) / before.length;
}

/** A switch for every head. A head that is off stands in `off` as "layer.head"; `changed` is called after each change. */
function headSwitches(n_layers, n_heads, off, changed) {
  const anyOff = () => Object.keys(off).length > 0;
  const all = Array.from({ length: n_layers }, (_, layer) => Array.from({ length: n_heads }, (_, head) => {
    const name = `${layer}.${head}`, press = () => {
      if (name in off) delete off[name];
      else off[name] = "mean";
      changed();
    };
    const button = el("button", { type: "button", "aria-label": `Switch off layer ${layer}, head ${head}`, "data-head": name, click: press }, `${head}`);
    return { name, button, moved: el("small", { "data-name": "moved", "data-row": layer, "data-column": head }) };
  }));
  const grid = el("div", { class: "heads", style: `--heads:${n_heads}`, role: "group", "aria-label": "Heads to switch off" },
    ...all.flatMap((heads, layer) => [el("span", {}, `layer ${layer}`), ...heads.map(({ button, moved }) => el("span", {}, button, moved))]));
  const allOn = el("button", { type: "button", click: () => { for (const name of Object.keys(off)) delete off[name]; changed(); } }, "All heads on");

  /** before: what was computed with all heads on; after: what is computed now. */
  function draw(before, after) {
    all.forEach((heads, layer) => heads.forEach(({ name, button, moved }, head) => {
      const share = movedShare(before.attention[layer][head], after.attention[layer][head]);
      button.setAttribute("aria-pressed", name in off);
      moved.dataset.value = share;
      moved.textContent = anyOff() ? share.toFixed(2).replace(/^0/, "") : "";
    }));
    allOn.setAttribute("aria-disabled", !anyOff());
  }
  const note = el("p", { class: "note" }, "A head that is switched off says the same at every position: the mean of what it would have said. Below a head stands how much of its attention lies elsewhere than before.");
  return { parts: [note, grid, el("div", { class: "bar" }, allOn)], draw, anyOff };
}

/** The next token's bars with all heads, and beside them those with some off; `sums` adds a sentence to each. */
function barsBeside(words, sums) {
  const [whole, other] = [tokenBars(words), tokenBars(words)];
  const column = (title, { says, list }) => el("div", { class: "column" }, el("strong", {}, title), sums ? says : "", list);
  const alone = column("With all heads", whole), beside = column("With heads switched off", other);
  const marked = el("p", { class: "note" }, el("i", { class: "tick" }), " marks the probability with all heads on.");

  /** after: null where all heads are on. */
  function draw(before, after, sampling) {
    whole.draw(before, sampling);
    beside.hidden = marked.hidden = !after;
    if (after) other.draw(after, sampling, nextTokenProbabilities(before, sampling).probabilities);
  }
  return { parts: [el("div", { class: "columns" }, alone, beside), marked], draw };
}
