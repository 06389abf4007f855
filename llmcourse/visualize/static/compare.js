/** Two sentences under one head: their tokens side by side, and what a query gives each key in the one and in the other. */
function compare(stage, { tokens, sides: [A, B], titles, names, maps, rows, opens }) {
  const asked = rows.filter(({ a, b }) => a !== null && b !== null);
  const sides = ["a", "b"];
  let { layer, head, query } = opens;
  const says = live("work");
  const number = (x) => x.toFixed(3).replace(/^-(0\.000)$/, "$1"), isSame = rows.every(({ same }) => same);
  const plain = (x) => number(x).replace("-", "−");

  const token = (side, row) => (row[side] === null ? "" : tokens[side][row[side]]);
  const name = (row) => (row.same ? token("a", row) : `${token("a", row)} / ${token("b", row)}`);
  const shown = (side, row) => (row[side] === null ? el("td", { class: "note" }, "–")
    : el("td", { class: "word-cell", title: token(side, row) }, row.same ? token(side, row) : el("b", {}, `≠ ${token(side, row)}`)));
  const cell = (kind, side, row, i) => (row[side] === null ? el("td") : numberCell(kind, row[side], i));
  const keyed = rows.map((row, i) => [shown("a", row), cell("weights_a", "a", row, 0), shown("b", row), cell("weights_b", "b", row, 0),
    row.a === null || row.b === null ? el("td", { class: "note" }, "–") : numberCell("change", i, 0)]);
  const changes = matrix("What the query gives to each key", rows.map((_, i) => `${i + 1}`), [A, "weight", B, "weight", `${B} − ${A}`], (i, j) => keyed[i][j], true);
  changes.classList.add("diff");
  const full = (side) => matrix(`${titles[side]}, all queries`, tokens[side], tokens[side], (i, j) => numberCell(`map_${side}`, i, j), true);
  const wholes = el("div", { class: "side" }, ...sides.map(full));

  function show() {
    const chosen = asked[query];
    const given = Object.fromEntries(sides.map((side) => [side, maps[side][layer][head][chosen[side]]]));
    const both = rows.map(({ a, b }) => (a === null || b === null ? null : given.b[b] - given.a[a]));
    const fill = { weights_a: (i) => given.a[i], weights_b: (i) => given.b[i], change: (i) => both[i],
      map_a: (i, j) => maps.a[layer][head][i][j], map_b: (i, j) => maps.b[layer][head][i][j] };
    for (const cell of stage.querySelectorAll("td[data-name]")) {
      const { name, row, column } = cell.dataset, value = fill[name](+row, +column);
      if (name.startsWith("map")) setNumber(cell, value);
      else setNumber(cell, value, value, (name === "change" && number(value) > 0 ? "+" : "") + number(value));
      if (name.startsWith("map")) cell.classList.toggle("part", +row === chosen[name.at(-1)]);
    }
    const top = both.reduce((best, change, i) => (change !== null && (best < 0 || Math.abs(change) > Math.abs(both[best])) ? i : best), -1);
    const same = Math.abs(both[top]) < 0.0005;
    says.textContent = same ? `“${name(chosen)}” gives each key${isSame ? "" : " that stands in both sentences"} the same weight (${A} and ${B}).`
      : `The largest change of “${name(chosen)}”: it gives “${name(rows[top])}” ${plain(given.a[rows[top].a])} (${A}) and ${plain(given.b[rows[top].b])} (${B}).`;
  }

  const part = (side) => [...stage.querySelectorAll(`[data-name="map_${side}"].part`)];
  const heaviest = (side) => part(side).reduce((best, cell) => (+cell.dataset.value > +best.dataset.value ? cell : best));
  const look = () => { for (const side of sides) reveal(heaviest(side)); };

  stage.append(
    headChoice(names, maps.a.map((heads) => heads.length), opens, (l, h) => { layer = opens.layer = l; head = opens.head = h; show(); }),
    pick("Query", asked.map(name), (i) => { query = opens.query = i; show(); look(); }, query),
    says, changes, ...(isSame ? [] : [el("p", { class: "note" }, "≠ marks a token that differs. A key that stands in one sentence only has no change.")]), wholes);
  says.style.minHeight = "2.9em"; // of two lines: what stands below does not move
  show();
  whenSeen(stage, look);
}

start("compare", compare);
