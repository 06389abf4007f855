/** What the model would say at each position if it stopped after each layer; the chosen cell's likeliest tokens in full. */
function logitLens(stage, { layers, tokens, cells }) {
  const says = live("work"), list = el("ol", { class: "bars" });
  const table = matrix("Rows are layers, columns are positions; a cell shows the likeliest token", layers, tokens, (i, j) => {
    const { top: [[word, p]], next } = cells[i][j], cell = numberCell("lens", i, j);
    cell.dataset.value = p;
    cell.textContent = cell.title = word;
    cell.classList.add("word-cell");
    cell.classList.toggle("gold", next?.rank === 1);
    cell.style.setProperty("--heat", p);
    return cell;
  });

  function show(cell) {
    const { row, column } = cell.dataset, { top, next } = cells[row][column];
    for (const other of table.querySelectorAll(".here")) other.classList.remove("here");
    cell.classList.add("here");
    const [word, p] = top[0];
    says.textContent = `${+row ? `After ${layers[row]}` : "The embedding alone"}, at “${tokens[column]}”: the likeliest is “${word}”, ${p.toFixed(3)}.`
      + (next ? ` What comes next, “${tokens[+column + 1]}”, has ${next.p.toFixed(3)} and is number ${next.rank}.` : "");
    list.replaceChildren(...topRows(top));
  }

  const first = table.querySelector(`[data-row="${layers.length - 1}"][data-column="${tokens.length - 1}"]`);
  roam(table, "td[data-name]", first, show);
  stage.append(table,
    el("p", { class: "note key" }, "The stronger a cell's colour, the surer the model. ", el("i", { class: "swatch gold" }), " It names the token that does come next."),
    says, list, el("p", { class: "note" }, "A full bar is probability 1."));
  show(first);
  whenSeen(table, () => reveal(first));
}

start("logit_lens", logitLens);
