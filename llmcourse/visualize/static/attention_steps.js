/** softmax(QKᵀ/√D)V in double precision, with every step on the way. */
function attend({ query, key, value, mask }) {
  const D = query[0].length;
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const scores = query.map((q) => key.map((k) => dot(q, k)));
  const scaled = scores.map((row) => row.map((score) => score / Math.sqrt(D)));
  const masked = scaled.map((row, i) => row.map((score, j) => (!mask || mask[i][j] ? score : -Infinity)));
  const weights = masked.map(softmax);
  const output = weights.map((row) => value[0].map((_, d) => dot(row, value.map((v) => v[d]))));
  return { scores, scaled, masked, weights, output };
}

function attentionSteps(stage, given) {
  const { tokens, mask } = given;
  const D = given.query[0].length;
  let now, results, step = 0, chosen = [0, 0];

  const number = (x) => (x === -Infinity ? "−∞" : x.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−"));
  const signed = (x) => (x < 0 ? `(${number(x)})` : number(x));
  const power = (x) => (x === -Infinity ? "0" : `e^${signed(x)}`);
  const products = (a, b) => a.map((x, i) => `${signed(x)} × ${signed(b[i])}`).join(" + ");
  const steps = [
    { label: "Q, K, V", shows: [], work: () => "",
      say: "Each token has a query (what it looks for), a key (what it is found by) and a value (what it gives). Change any number below." },
    { label: "QKᵀ", shows: ["scores"], work: (i, j) => products(now.query[i], now.key[j]),
      say: "A score is a query times a key, number by number, summed: high when the key offers what the query looks for." },
    { label: "÷ √D", shows: ["scores", "scaled"], work: (i, j) => `${number(results.scores[i][j])} ÷ √${D}`,
      say: `The more numbers in a row, the larger its scores. Dividing by √D = √${D} takes that growth away.` },
    { label: "mask", shows: ["scaled", "masked"], work: (i, j) => (mask[i][j] ? "may look, its score stays" : "may not look"),
      say: "Where a token may not look, its score becomes −∞, so that softmax gives exactly 0." },
    { label: "softmax", shows: [mask ? "masked" : "scaled", "weights"],
      work: (i, j) => `${power(results.masked[i][j])} ÷ (${results.masked[i].map(power).join(" + ")})`,
      say: "e to the power of each score, divided by the sum of its row: shares that sum to 1." },
    { label: "× V", shows: ["weights", "output"], work: (i, d) => products(results.weights[i], now.value.map((v) => v[d])),
      say: "Each token reads a blend of all values, mixed by its weights." },
  ].filter(({ label }) => mask || label !== "mask");

  const result = () => steps[step].shows.at(-1);
  const cells = (kind = "") => [...stage.querySelectorAll(`${kind}[data-name]`)].map((cell) =>
    ({ cell, name: cell.dataset.name, i: +cell.dataset.row, j: +cell.dataset.column }));

  /** Point at one number of the step's result: say how it comes about, and mark what it is made of. */
  function choose(i, j) {
    const name = result();
    j = Math.min(j, (results[name] ?? tokens.map(() => tokens))[0].length - 1);
    chosen = [i, j];
    const blend = name === "output";
    const part = { key: (r) => !blend && r === j, value: (r, c) => blend && c === j };
    for (const { cell, name: own, i: r, j: c } of cells()) {
      cell.classList.toggle("part", part[own] ? part[own](r, c) : r === i);
      cell.classList.toggle("here", own === name && r === i && c === j);
      if (cell.tagName === "TD") cell.tabIndex = r === i && c === j ? 0 : -1;
    }
    work.textContent = name
      ? `“${tokens[i]}”, ${blend ? `number ${j}` : `“${tokens[j]}”`}: ${steps[step].work(i, j)} = ${number(results[name][i][j])}` : "";
  }

  function compute() {
    results = attend(now);
    for (const { cell, name, i, j } of cells("td")) {
      cell.dataset.value = results[name][i][j];
      cell.textContent = number(results[name][i][j]);
      cell.style.setProperty("--heat", results[name][i][j]);
    }
    choose(...chosen);
  }

  function reset() {
    now = structuredClone(given);
    for (const { cell, name, i, j } of cells("input")) {
      cell.value = now[name][i][j].toFixed(2);
      cell.removeAttribute("aria-invalid");
    }
    compute();
  }

  function go(to) {
    step = Math.min(Math.max(to, 0), steps.length - 1);
    buttons.forEach((button, i) => button.setAttribute("aria-current", i === step ? "step" : "false"));
    for (const [name, table] of Object.entries(tables)) table.hidden = !steps[step].shows.includes(name);
    say.textContent = steps[step].say;
    choose(...chosen);
  }

  function edit({ target }) {
    const { name, row, column } = target.dataset;
    const number = target.valueAsNumber;
    target.setAttribute("aria-invalid", !Number.isFinite(number));
    if (Number.isFinite(number)) now[name][row][column] = number;
    compute();
  }

  function point({ target }) {
    const { name, row, column } = target.dataset;
    if (name) choose(name === "key" || name === "value" ? chosen[0] : +row, name === "key" ? +row : name === "query" ? chosen[1] : +column);
  }

  function walk(event) {
    const { name, row, column } = event.target.dataset;
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [];
    if (down === undefined || event.target.tagName !== "TD") return;
    event.preventDefault();
    cells("td").find(({ name: own, i, j }) => own === name && i === +row + down && j === +column + right)?.cell.focus();
  }

  const at = (name, i, j) => ({ "data-name": name, "data-row": i, "data-column": j });
  const grid = (name, title, columns) => matrix(title, tokens, columns, (i, j) => el("td", at(name, i, j)));
  const inputs = (name, title) => matrix(title, tokens, given[name][0].map((_, d) => `${d}`), (i, d) => el("td", {},
    el("input", { type: "number", step: 0.1, ...at(name, i, d), "aria-label": `${name} of ${tokens[i]}, number ${d}`, input: edit })));
  const tables = {
    scores: grid("scores", "Scores QKᵀ", tokens), scaled: grid("scaled", "Scores ÷ √D", tokens), masked: grid("masked", "After the mask", tokens),
    weights: grid("weights", "Weights", tokens), output: grid("output", "Output: weights × V", given.value[0].map((_, d) => `${d}`)),
  };
  const button = (text, click) => el("button", { type: "button", click }, text);
  const buttons = steps.map(({ label }, i) => button(`${i + 1}  ${label}`, () => go(i)));
  const say = live("say"), work = live("work");
  stage.append(
    el("div", { class: "bar", role: "group", "aria-label": "Steps" }, ...buttons), say,
    el("div", { class: "side", pointerover: point, focusin: point, keydown: walk }, ...Object.values(tables)), work,
    el("div", { class: "bar" }, button("← Back", () => go(step - 1)), button("Next →", () => go(step + 1)), button("Reset the numbers", reset)),
    el("div", { class: "side", focusin: point }, inputs("query", "Q: queries"), inputs("key", "K: keys"), inputs("value", "V: values")),
  );
  reset();
  go(0);
}

start("attention_steps", attentionSteps);
