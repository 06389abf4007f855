/** Confidence and result of every answer at this temperature, sorted into bins of equal width, with the mean gap. */
function binned(logits, labels, nBins, temperature) {
  const bins = Array.from({ length: nBins }, () => ({ n: 0, confidence: 0, right: 0 }));
  logits.forEach((row, i) => {
    const p = softmax(row.map((score) => score / temperature)), top = Math.max(...p);
    const bin = bins[Math.min(nBins, Math.max(1, Math.ceil(top * nBins))) - 1];
    bin.n += 1, bin.confidence += top, bin.right += row.indexOf(Math.max(...row)) === labels[i];
  });
  const error = bins.reduce((sum, bin) => sum + Math.abs(bin.confidence - bin.right), 0) / logits.length;
  return { bins, error };
}

function reliability(stage, { logits, labels, bins: nBins, temperature, fitted, most }) {
  const size = 260, edge = 16, at = (share) => edge + (size - 2 * edge) * share;
  const bars = Array.from({ length: nBins }, (_, i) => el("rect", { x: at(i / nBins) + 1, width: (size - 2 * edge) / nBins - 2, style: "fill: var(--full)" }));
  const ticks = bars.map(() => el("line", { style: "stroke: var(--tick); stroke-width: 3; transition: none" }));
  const picture = el("svg", { viewBox: `0 0 ${size} ${size}`, "aria-hidden": "true", style: `width: ${size}px; max-width: 100%` },
    el("line", { class: "axis", x1: at(0), x2: at(1), y1: at(1), y2: at(1), style: "stroke: var(--edge)" }),
    el("line", { class: "axis", x1: at(0), x2: at(0), y1: at(0), y2: at(1), style: "stroke: var(--edge)" }),
    ...[[at(0), size - 2, 0], [at(1), size - 2, 1], [edge / 2 - 1, at(1), 0], [edge / 2 - 1, at(0) + 8, 1]].map(([x, y, n]) =>
      el("text", { x, y, "font-size": 13, "text-anchor": "middle", style: "fill: var(--soft)" }, `${n}`)),
    ...bars,
    el("line", { x1: at(0), x2: at(1), y1: at(1), y2: at(0), style: "stroke: var(--ink); stroke-dasharray: 4 4" }),
    ...ticks);
  const says = live("work"), columns = ["answers", "confidence", "right"];
  const cells = bars.map((_, i) => columns.map((_, j) => el("td", { "data-name": "bins", "data-row": i, "data-column": j })));

  function draw(chosen) {
    const { bins, error } = binned(logits, labels, nBins, chosen);
    bins.forEach(({ n, confidence, right }, i) => {
      const values = [n, n ? confidence / n : 0, n ? right / n : 0];
      values.forEach((value, j) => {
        cells[i][j].dataset.value = value;
        cells[i][j].textContent = j ? (n ? value.toFixed(2) : "") : `${value}`;
      });
      bars[i].setAttribute("y", at(1 - values[2])), bars[i].setAttribute("height", at(1) - at(1 - values[2]));
      for (const [name, x, y] of [["1", i / nBins, values[1]], ["2", (i + 1) / nBins, values[1]]]) {
        ticks[i].setAttribute(`x${name}`, at(x)), ticks[i].setAttribute(`y${name}`, at(1 - y));
      }
      ticks[i].style.opacity = n ? 1 : 0;
    });
    says.dataset.value = error;
    says.textContent = `Temperature ${chosen.toFixed(2)}: expected calibration error ${error.toFixed(3)}.`;
  }

  const turn = slider("Temperature", { min: 0.25, max: most, step: 0.05, value: temperature }, (t) => t.toFixed(2), draw);
  const input = turn.querySelector("input"), free = () => { input.step = "any"; }, stepped = () => { input.step = 0.05; };
  /** A temperature may lie between the slider's steps, until the slider is moved. */
  const set = (t) => {
    free();
    input.value = t;
    input.dispatchEvent(new Event("input"));
  };
  for (const event of ["pointerdown", "keydown"]) input.addEventListener(event, stepped);
  stage.append(
    el("div", { class: "bar" }, turn, ...(fitted ? [el("button", { type: "button", click: () => set(fitted) }, "As fitted")] : [])),
    says,
    el("div", { class: "side" }, picture,
      matrix("Bins of confidence", bars.map((_, i) => `to ${+((i + 1) / nBins).toFixed(3)}`), columns, (i, j) => cells[i][j], true)),
    el("p", { class: "note" }, el("i", { class: "swatch" }), "share of right answers", el("i", { class: "swatch", style: "background: var(--tick)" }), "mean confidence in the bin. Across: confidence; up: share right. Calibrated: each bar reaches its line."),
  );
  set(temperature);
}

start("reliability", reliability);
