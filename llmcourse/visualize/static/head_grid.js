/** Every head as a small picture; the chosen one stands below it, large and with numbers. */
function headGrid(stage, { queries, keys, names, maps, opens }) {
  const says = live("work"), large = el("div", { class: "large" });
  const size = { viewBox: `0 0 ${keys.length} ${queries.length}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  const rect = (weight, i, j) => el("rect", { x: j, y: i, width: 1, height: 1, "fill-opacity": weight });
  const picture = (weights) => el("svg", size, ...weights.flatMap((row, i) => row.map((weight, j) => weight && rect(weight, i, j)).filter(Boolean)));
  const thumb = (weights, layer, head) => el("button", {
    type: "button", class: "thumb", "aria-label": `${names[layer]}, head ${head}`, "data-row": layer, "data-column": head, click: () => show(layer, head),
  }, picture(weights), `${head}`);

  function show(layer, head) {
    const weights = maps[layer][head], title = `${names[layer]}, head ${head}`;
    for (const button of grid.querySelectorAll("button"))
      button.setAttribute("aria-pressed", +button.dataset.row === layer && +button.dataset.column === head);
    large.replaceChildren(matrix("Rows are queries, columns are keys", queries, keys, (i, j) => {
      const cell = numberCell("weights", i, j);
      setNumber(cell, weights[i][j]);
      return cell;
    }));
    roam(large, "td[data-name]", large.querySelector("td[data-name]"), ({ dataset: { row, column, value } }) => {
      says.textContent = `${title}: “${queries[row]}” gives “${keys[column]}” ${(+value).toFixed(3).replace(/^-(0\.000)$/, "$1")} of its attention.`;
    });
    const mean = weights.reduce((sum, row) => sum + Math.max(...row), 0) / weights.length;
    says.textContent = `${title}: a query's largest weight is ${mean.toFixed(2)} on average.`;
  }

  const grid = el("div", { class: "thumbs scroll", role: "group", "aria-label": "All heads", style: `--heads:${Math.max(...maps.map((heads) => heads.length))}` },
    ...maps.flatMap((heads, layer) => [el("span", { class: "note" }, names[layer]), ...heads.map((weights, head) => thumb(weights, layer, head))]));
  roam(grid, "button", grid.querySelector(`[data-row="${opens.layer}"][data-column="${opens.head}"]`));
  stage.append(says, el("div", { class: "side" }, grid, large));
  show(opens.layer, opens.head);
}

start("head_grid", headGrid);
