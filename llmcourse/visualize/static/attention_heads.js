/** Draw into the stage. `opens` says what is shown first, and is kept up to date with what is chosen. */
function attentionHeads(stage, { queries, keys, layers, names = Object.keys(layers), opens }) {
  const ROW = 29; // pixels: a token's height and the gap below it
  let layer, head, pinned = null;
  const weights = () => layers[names[layer]][head];
  const says = live("work");

  /** The tokens of one side; pointing at one follows its lines, pressing it keeps them. */
  const side = (role, texts) => texts.map((text, index) => {
    const token = { role, index, text };
    const point = () => show(token), leave = () => show(pinned);
    const press = () => {
      pinned = pinned === token ? null : token;
      opens.query = pinned && role === "query" ? index : null;
      show(pinned);
      look();
    };
    token.button = el("button", { type: "button", class: "token", title: text, pointerenter: point, pointerleave: leave, focus: point, blur: leave, click: press }, text);
    return token;
  });
  const from = side("query", queries), to = side("key", keys);
  const column = (label, tokens) => el("div", { role: "group", "aria-label": label }, ...tokens.map(({ button }) => button));

  const height = ROW * Math.max(queries.length, keys.length);
  const line = (i, j) => el("line", { x1: 0, x2: 100, y1: (i + 0.5) * ROW, y2: (j + 0.5) * ROW, "vector-effect": "non-scaling-stroke" });
  const lines = queries.map((_, i) => keys.map((_, j) => line(i, j)));
  const svg = el("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height, "aria-hidden": "true" }, ...lines.flat());
  const cells = queries.map((_, i) => keys.map((_, j) => el("td", { "data-name": "weights", "data-row": i, "data-column": j })));
  const each = (visit) => weights().forEach((row, i) => row.forEach((weight, j) => visit(weight, lines[i][j], cells[i][j], i, j)));

  /** Bring the largest weight of the chosen query, or the chosen key, into sight. */
  function look() {
    if (!pinned) return;
    const { role, index } = pinned, row = weights()[index];
    reveal(role === "query" ? cells[index][row.indexOf(Math.max(...row))] : cells[0][index]);
  }

  /** Leave only the lines of one token (all of them for null), and say whom it looks at or who looks at it. */
  function show(token) {
    const involved = (i, j) => token && (token.role === "query" ? i : j) === token.index;
    each((weight, line, cell, i, j) => {
      line.style.opacity = !token || involved(i, j) ? weight : 0;
      cell.classList.toggle("part", Boolean(involved(i, j)));
    });
    for (const other of [...from, ...to]) {
      other.button.setAttribute("aria-pressed", other === pinned);
      other.button.classList.toggle("at", other === token && token !== pinned);
    }
    says.textContent = token ? sentence(token) : "Choose a token to follow its lines.";
  }

  function sentence({ role, index, text }) {
    const shares = role === "query" ? weights()[index] : weights().map((row) => row[index]);
    const others = (role === "query" ? keys : queries).map((text, i) => ({ text, share: shares[i] })).filter(({ share }) => share > 0);
    const top = others.sort((a, b) => b.share - a.share).slice(0, 3).map(({ text, share }) => `“${text}” ${share.toFixed(2)}`).join(", ");
    return role === "query" ? `“${text}” looks most at ${top || "nothing"}.` : `“${text}” is looked at most by ${top || "nobody"}.`;
  }

  function draw() {
    each((weight, line, cell) => {
      line.setAttribute("stroke-width", 0.5 + 5 * weight);
      cell.dataset.value = weight;
      cell.textContent = weight.toFixed(2).replace(/^0/, "");
      cell.style.setProperty("--heat", weight);
    });
    show(pinned);
  }

  const headBox = el("span");
  function goToLayer(number, first = 0) {
    const goToHead = (i) => { opens.head = head = i; draw(); look(); };
    opens.layer = layer = number;
    headBox.replaceChildren(choice("Head", layers[names[layer]].map((_, i) => `${i}`), goToHead, first));
    goToHead(first);
  }
  stage.append(
    el("div", { class: "bar" }, choice("Layer", names, (number) => goToLayer(number), opens.layer), headBox), says,
    el("div", { class: "side" },
      el("div", { class: "links" }, el("span", {}, "query"), el("span"), el("span", {}, "key"), column("queries", from), svg, column("keys", to)),
      matrix("Rows are queries, columns are keys", queries, keys, (i, j) => cells[i][j], true)),
  );
  pinned = from[opens.query] ?? null;
  goToLayer(opens.layer, opens.head);
  whenSeen(stage, look);
}

start("attention_heads", attentionHeads);
