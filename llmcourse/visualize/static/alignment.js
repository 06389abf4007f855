/** Cross-attention over a gold alignment: gold pairs are framed, and each row's largest weight has a dot. */
function alignment(stage, { source, target, gold, linked, heads, opens }) {
  const says = live("work"), scored = live("work");
  const isGold = new Set(gold.map(([i, j]) => `${i} ${j}`));
  const cells = target.map((_, i) => source.map((_, j) => numberCell("weights", i, j)));
  let now;

  function show(number) {
    now = heads[number];
    cells.forEach((row, i) => row.forEach((cell, j) => {
      const best = now.best[i] === j;
      setNumber(cell, now.weights[i][j]);
      if (best) cell.prepend(el("span", { class: "dot", role: "img", "aria-label": "largest" }, "●"));
      cell.dataset.best = best;
    }));
    scored.textContent = `${now.hits} of ${linked} linked target tokens look most at a source token that the gold alignment links to them: ${(now.hits / linked).toFixed(3)}.`;
    scored.dataset.value = now.hits / linked;
    scored.dataset.name = "share";
  }

  function explain({ dataset: { row, column, value, best, gold } }) {
    says.textContent = `“${target[row]}” gives “${source[column]}” ${(+value).toFixed(3).replace(/^-(0\.000)$/, "$1")}${best === "true" ? ", its largest weight" : ""}; ${gold === "true" ? "a gold pair" : "no gold pair"}.`;
  }

  for (const cell of cells.flat()) {
    cell.dataset.gold = isGold.has(`${cell.dataset.row} ${cell.dataset.column}`);
    cell.classList.toggle("gold", cell.dataset.gold === "true");
  }
  const table = matrix("Rows are target, columns are source", target, source, (i, j) => cells[i][j]);
  roam(table, "td[data-name]", cells[0][0], explain);
  table.addEventListener("pointerover", ({ target }) => { const cell = target.closest("td[data-name]"); if (cell) explain(cell); });
  const control = heads.length > 1 ? el("div", { class: "bar" }, choice("Head", heads.map(({ name, hits }) => `${name} (${(hits / linked).toFixed(2)})`), show, opens)) : "";
  says.textContent = "Point at a cell to read it.";
  stage.append(control, scored, table, says,
    el("p", { class: "note key" }, el("i", { class: "swatch gold" }), "gold pair", el("span", { class: "dot" }, "●"), "largest weight of the row"));
  show(opens);
}

start("alignment", alignment);
