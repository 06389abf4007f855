/** A head at every stored step of training: a slider over the steps, and lines of what was measured on the way. */
function dynamics(stage, { queries, keys, steps, names, frames, curves, logX, opens }) {
  const W = 240, H = 80, PAD = 6;
  let frame = opens.frame, { layer, head } = opens, chosen = opens.cell;
  const says = live("work"), panels = el("div", { class: "side" });
  const cells = queries.map((_, i) => keys.map((_, j) => numberCell("weights", i, j)));
  const all = [...steps, ...curves.flatMap((curve) => curve.steps)];
  const warp = (step) => (logX ? Math.log(step + 1) : step);
  const [first, last] = [warp(Math.min(...all)), warp(Math.max(...all))];
  const short = (x) => x.toFixed(Math.abs(x) < 10 ? 3 : 2).replace(/^-([.0]+)$/, "$1").replace("-", "−");
  const tables = [...stage.parentElement.querySelectorAll(":scope > details [data-step]")];

  /** A line over the steps, and a mark at the chosen one: the last value that was measured by then. */
  function panel({ name, steps: xs, values }, range) {
    const [low, high] = range ?? [Math.min(...values), Math.max(...values)];
    const x = (step) => (last > first ? PAD + (W - 2 * PAD) * (warp(step) - first) / (last - first) : W / 2);
    const y = (value) => H - PAD - (high > low ? (H - 2 * PAD) * (value - low) / (high - low) : (H - 2 * PAD) / 2);
    const mark = xs.findLastIndex((step) => step <= steps[frame]);
    const points = xs.map((step, i) => `${x(step).toFixed(2)},${y(values[i]).toFixed(2)}`).join(" ");
    const dot = mark < 0 ? "" : el("circle", { cx: x(xs[mark]), cy: y(values[mark]), r: 4.5, "data-name": "mark", "data-value": values[mark], "data-step": xs[mark] });
    const svg = el("svg", { viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true" },
      el("line", { class: "axis", x1: PAD, x2: W - PAD, y1: H - 1, y2: H - 1 }), el("polyline", { points }), dot);
    const said = mark < 0 ? "not measured yet" : `${short(values[mark])}${xs[mark] === steps[frame] ? "" : ` (at step ${xs[mark]})`}`;
    return el("div", { class: "panel" }, el("b", {}, name), el("span", {}, said), svg,
      el("span", { class: "note" }, `from ${short(low)} to ${short(high)}`));
  }

  function draw() {
    const weights = frames[frame][layer][head], [i, j] = chosen;
    cells.forEach((row, i) => row.forEach((cell, j) => {
      setNumber(cell, weights[i][j]);
      cell.classList.toggle("here", i === chosen[0] && j === chosen[1]);
    }));
    const followed = { name: `“${queries[i]}” to “${keys[j]}”`, steps, values: frames.map((maps) => maps[layer][head][i][j]) };
    panels.replaceChildren(panel(followed, [0, 1]), ...curves.map((curve) => panel(curve)));
    for (const part of tables) part.hidden = +part.dataset.step !== steps[frame];
    says.textContent = `Step ${steps[frame]}: “${queries[i]}” gives “${keys[j]}” ${weights[i][j].toFixed(3)}. Choose a cell to follow it.`;
  }

  const control = stepper("Step", { min: 0, max: steps.length - 1, value: frame }, (n) => `${steps[n]}`, (n) => { frame = opens.frame = n; draw(); });
  const table = matrix("Rows are queries, columns are keys", queries, keys, (i, j) => cells[i][j]);
  roam(table, "td[data-name]", cells[chosen[0]][chosen[1]], ({ dataset: { row, column } }) => { chosen = [+row, +column]; draw(); });
  stage.append(
    control,
    headChoice(names, frames[0].map((heads) => heads.length), opens, (l, h) => { layer = opens.layer = l; head = opens.head = h; draw(); }),
    says, el("div", { class: "side" }, table, panels));
  draw();
  whenSeen(table, () => reveal(cells[chosen[0]][chosen[1]]));
}

start("dynamics", dynamics);
