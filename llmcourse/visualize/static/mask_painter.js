/** After how many layers each output can first be affected by each input: 0 for itself, -1 if these do not suffice. */
function layersNeeded(mask, layers) {
  const needed = mask.map((row, t) => row.map((_, s) => (t === s ? 0 : -1)));
  for (let layer = 1; layer <= layers; layer++) {
    const before = needed.map((row) => row.map((n) => n >= 0));
    needed.forEach((row, t) => row.forEach((n, s) => {
      if (n < 0 && before.some((reach, k) => mask[t][k] && reach[s])) row[s] = layer;
    }));
  }
  return needed;
}

/** Paint who may look at whom; the paths through the layers, and what can reach what, follow. */
function maskPainter(stage, { tokens, mask, layers, most, output, presets }) {
  const T = tokens.length, GAP = 56;
  const places = tokens.map((_, i) => i);
  let chosen = output === null ? null : { role: "output", index: output };
  let brush = null, focus = [0, 0];
  const says = live("work");
  const list = (indices) => indices.map((i) => `“${tokens[i]}”`).join(", ") || "nothing";

  const cell = (i, j) => el("button", { type: "button", "data-name": "mask", "data-row": i, "data-column": j, "aria-label": `${tokens[i]} looks at ${tokens[j]}`,
    style: "display: block; width: 100%; min-width: 28px; min-height: 28px; padding: 0; touch-action: none" });
  const paints = places.map((i) => places.map((j) => cell(i, j)));
  const reaches = places.map((i) => places.map((j) => el("td", { "data-name": "reach", "data-row": i, "data-column": j, style: "text-align: center" })));

  function paint({ row, column }, may) {
    if (mask[row][column] === may) return;
    mask[row][column] = may;
    preset.selectedIndex = names.length;
    draw();
  }

  /** The cell under the pointer, for a finger keeps sending its moves to where it was put down. */
  const under = ({ clientX, clientY }) => document.elementFromPoint(clientX, clientY)?.closest("[data-name=mask]");
  const grid = el("div", { style: "max-width: 100%",
    pointerdown: (event) => {
      const { dataset } = event.target;
      if (dataset.name !== "mask" || event.button) return;
      brush = 1 - mask[dataset.row][dataset.column];
      paint(dataset, brush);
    },
    pointermove: (event) => {
      if (!event.buttons) brush = null;
      const target = brush === null ? null : under(event);
      if (target && grid.contains(target)) paint(target.dataset, brush);
    },
    click: ({ target: { dataset }, detail }) => { // by a key: a pointer has painted already
      if (dataset.name === "mask" && !detail) paint(dataset, 1 - mask[dataset.row][dataset.column]);
    },
    keydown: (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [];
      const { name, row, column } = event.target.dataset;
      if (name !== "mask" || down === undefined) return;
      event.preventDefault();
      paints[+row + down]?.[+column + right]?.focus();
    },
    focusin: ({ target: { dataset } }) => { if (dataset.name === "mask") { focus = [+dataset.row, +dataset.column]; rove(); } },
  }, matrix("Paint: the row may look at the column", tokens, tokens, (i, j) => el("td", { style: "padding: 1px" }, paints[i][j])));
  const rove = () => paints.forEach((row, i) => row.forEach((button, j) => { button.tabIndex = i === focus[0] && j === focus[1] ? 0 : -1; }));

  /** The tokens of one end of the graph; pressing one keeps its paths alone. */
  const ends = (role) => places.map((index) => el("button", { type: "button", class: "token", title: tokens[index], style: "max-width: none; padding: 0 2px; text-align: center",
    click: () => { chosen = chosen?.role === role && chosen.index === index ? null : { role, index }; draw(); } }, tokens[index]));
  const outputs = ends("output"), inputs = ends("input");
  const rank = (label, buttons) => el("div", { role: "group", "aria-label": label, style: `display: grid; grid-template-columns: repeat(${T}, minmax(0, 1fr)); gap: 2px` }, ...buttons);
  const paths = el("div");

  /** Whether the chosen end lies on a path through place i of this level (level 0 holds the inputs). */
  function passes(level, i) {
    if (!chosen) return true;
    const reach = chosen.role === "output" ? layersNeeded(mask, layers - level)[chosen.index][i] : layersNeeded(mask, level)[i][chosen.index];
    return reach >= 0;
  }

  function drawPaths() {
    const height = GAP * layers, lines = [], dots = [];
    const x = (i) => (100 * (i + 0.5)) / T, y = (level) => 8 + (height - 16) * (1 - level / layers);
    for (let level = 0; level <= layers; level++) {
      const lit = places.map((i) => passes(level, i)), above = level < layers && places.map((i) => passes(level + 1, i));
      const line = (i, j, to, width, on) => el("line", { x1: x(i), x2: x(j), y1: y(level), y2: y(to), "vector-effect": "non-scaling-stroke", "stroke-width": width, "stroke-linecap": "round", style: `opacity: ${on ? 1 : 0.13}` });
      places.forEach((i) => dots.push(line(i, i, level, 9, lit[i])));
      if (above) places.forEach((s) => places.forEach((t) => { if (s === t || mask[t][s]) lines.push(line(s, t, level + 1, mask[t][s] ? 3 : 1, lit[s] && above[t])); }));
    }
    paths.replaceChildren(el("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height, "aria-hidden": "true" }, ...lines, ...dots));
  }

  function draw() {
    const needed = layersNeeded(mask, layers);
    places.forEach((i) => places.forEach((j) => {
      const n = needed[i][j], reach = reaches[i][j];
      paints[i][j].setAttribute("aria-pressed", Boolean(mask[i][j]));
      reach.dataset.value = +(n >= 0);
      reach.textContent = n < 0 ? "·" : n;
      reach.style.background = n < 0 ? "" : "color-mix(in srgb, var(--paper), var(--full) 55%)";
      reach.classList.toggle("part", Boolean(chosen) && chosen.index === (chosen.role === "output" ? i : j));
    }));
    for (const [role, buttons] of Object.entries({ output: outputs, input: inputs })) {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", chosen?.role === role && chosen.index === i));
    }
    const after = `After ${layers} layer${layers > 1 ? "s" : ""}`;
    const pairs = needed.flat().filter((n) => n >= 0).length;
    says.textContent = !chosen ? `${after} information can pass between ${pairs} of ${T * T} pairs. Choose an input or an output to follow it.`
      : chosen.role === "output" ? `${after} the output of “${tokens[chosen.index]}” can be affected by ${list(places.filter((s) => needed[chosen.index][s] >= 0))}.`
      : `${after} the input “${tokens[chosen.index]}” can affect the outputs of ${list(places.filter((t) => needed[t][chosen.index] >= 0))}.`;
    drawPaths();
  }

  const names = Object.keys(presets), same = (name) => JSON.stringify(presets[name]) === JSON.stringify(mask);
  const first = names.findIndex(same);
  const presetBox = choice("Mask", [...names, "your own"], (i) => {
    if (i < names.length) mask = structuredClone(presets[names[i]]);
    draw();
  }, first < 0 ? names.length : first);
  const preset = presetBox.querySelector("select");
  const depth = slider("Layers", { min: 1, max: most, value: layers }, (n) => `${n}`, (n) => { layers = n; draw(); });
  rove();
  const reach = matrix("Layers from input (column) to output (row)", tokens, tokens, (i, j) => reaches[i][j], true);
  stage.append(
    el("div", { class: "bar" }, presetBox, depth),
    el("div", { class: "side" }, grid, reach),
    says,
    el("div", { style: "max-width: 34rem; width: 100%" }, rank("outputs", outputs), paths, rank("inputs", inputs)),
    el("p", { class: "note" }, "Outputs above, inputs below. A thick line is a look that the mask allows; a thin one is the residual stream."),
  );
  draw();
  for (const box of [grid.firstChild, reach]) whenSeen(box, () => { // no finger can paint and scroll
    if (box.scrollWidth > box.clientWidth) for (const name of box.querySelectorAll("th[scope=col]")) name.style.maxWidth = `${Math.floor(68 / T)}vw`;
  });
}

start("mask_painter", maskPainter);
