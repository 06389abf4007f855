/** How one query's weights come about: q times k number by number, their sum, the scale, softmax. */
function neuronView(stage, { queries, keys, query, key, bias, opens }) {
  const D = query[0].length;
  const FEW = 12; // numbers of a row that are written out; more of them are colours only
  const NOTHING = "\u00a0"; // as high as a number
  let at, now;

  function compute(i) {
    const products = key.map((k) => k.map((x, d) => query[i][d] * x));
    const sum = products.map((row) => row.reduce((a, b) => a + b, 0));
    const scaled = sum.map((score) => score / Math.sqrt(D));
    const masked = scaled.map((score, j) => (bias === null ? score : bias[i][j] === null ? -Infinity : score + bias[i][j]));
    return { products, sum, scaled, masked, weights: softmax(masked) };
  }

  const number = (x) => (x === -Infinity ? "−∞" : x.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−"));
  const signed = (x) => (x < 0 ? `(${number(x)})` : number(x));
  const power = (x) => (x === -Infinity ? "0" : `e^${signed(x)}`);
  const written = (numbers, sign) => (numbers.length > FEW ? `${numbers.slice(0, 3).join(sign)}${sign}…${sign}${numbers.at(-1)}` : numbers.join(sign));
  const steps = {
    products: (j, d) => `number ${d}: q ${number(query[at][d])} × k ${number(key[j][d])} = ${number(now.products[j][d])}`,
    sum: (j) => `${written(now.products[j].map(signed), " + ")} = ${number(now.sum[j])}`,
    scaled: (j) => `${number(now.sum[j])} ÷ √${D} = ${number(now.scaled[j])}`,
    masked: (j) => (bias[at][j] === null ? "hidden by the mask: −∞" : `${number(now.scaled[j])} + ${signed(bias[at][j])} = ${number(now.masked[j])}`),
    weights: (j) => `${power(now.masked[j])} ÷ (${written(now.masked.map(power), " + ")}) = ${now.weights[j].toFixed(3)}`,
  };
  const columns = ["sum", "scaled", ...(bias === null ? [] : ["masked"]), "weights"];
  const titles = { sum: "sum", scaled: `÷ √${D}`, masked: "mask", weights: "softmax" };
  const gives = { sum: "q · k", scaled: "score", masked: "score", weights: "weight" };
  const says = live("work");

  const dimensions = query[0].map((_, d) => (D > FEW ? NOTHING : `${d}`));
  const left = matrix("q × k, number by number", ["query q", ...keys], dimensions, (i, d) => numberCell(i ? "products" : "query", i - 1, d));
  const right = matrix("Sum, scale, softmax", ["gives", ...keys], columns.map((name) => titles[name]), (i, c) =>
    (i ? numberCell(columns[c], i - 1, D + c) : el("td", { class: "note" }, gives[columns[c]])));
  const tables = el("div", { class: "side joined" }, left, right);
  left.classList.toggle("pixels", D > FEW);
  const cells = [...tables.querySelectorAll("td[data-name]")];

  function show(i) {
    at = opens.query = i;
    now = compute(i);
    const top = Math.max(...now.products.flat().map(Math.abs), 1e-9), most = Math.max(...query[i].map(Math.abs), 1e-9);
    const tops = Object.fromEntries(["sum", "scaled"].map((name) => [name, Math.max(...now[name].map(Math.abs), 1e-9)]));
    for (const cell of cells) {
      const { name, row, column } = cell.dataset;
      const value = name === "query" ? query[i][column] : name === "products" ? now.products[row][column] : now[name][row];
      const heat = name === "query" ? value / most : name === "products" ? value / top : name === "weights" ? value : name === "masked" ? 0 : value / tops[name];
      setNumber(cell, value, heat, D > FEW && (name === "query" || name === "products") ? NOTHING : name === "weights" ? value.toFixed(3) : number(value));
      cell.parentElement.classList.toggle("off", now.masked[row] === -Infinity);
    }
    const best = now.weights.indexOf(Math.max(...now.weights));
    says.textContent = now.weights[best] ? `“${queries[i]}” looks most at “${keys[best]}”: ${now.weights[best].toFixed(3)}. Point at a number to see how it comes about.` : `“${queries[i]}” may look nowhere.`;
  }

  function explain(cell) {
    const { name, row, column } = cell.dataset;
    says.textContent = name === "query" ? `“${queries[at]}”, number ${column} of its query: ${number(query[at][column])}`
      : `“${queries[at]}” and “${keys[row]}”, ${steps[name](+row, +column)}`;
  }
  roam(tables, "td[data-name]", cells[0], explain);
  tables.addEventListener("pointerover", ({ target }) => { if (target.dataset.name) explain(target); });
  stage.append(pick("Query", queries, show, opens.query), tables, says,
    el("p", { class: "note key" }, el("i", { class: "swatch" }), "above 0", el("i", { class: "swatch minus" }), "below 0; the deeper, the farther from 0"));
  show(opens.query);
}

start("neuron_view", neuronView);
