/** Rotary positions in double precision: pair i is (x[i], x[i + D/2]), turned by position · base^(-2i/D). */
function turned(x, position, base) {
  const half = x.length / 2, out = new Array(x.length);
  for (let i = 0; i < half; i++) {
    const angle = position * base ** ((-2 * i) / x.length), cos = Math.cos(angle), sin = Math.sin(angle);
    out[i] = x[i] * cos - x[i + half] * sin;
    out[i + half] = x[i + half] * cos + x[i] * sin;
  }
  return out;
}

function ropeClock(stage, { query, key, base, positions, names }) {
  const half = query.length / 2, last = positions - 1;
  const [asks, looked] = names;
  let place = 0, distance = Math.min(3, last), pair = 0;
  const number = (x) => x.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−");
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const scores = Array.from({ length: positions }, (_, d) => dot(turned(query, d, base), turned(key, 0, base)));

  // The clock: the chosen pair as two hands, and faintly where they stood before they were turned.
  const reach = Math.max(1e-9, ...query.map((_, i) => Math.hypot(query[i % half], query[(i % half) + half])), ...key.map((_, i) => Math.hypot(key[i % half], key[(i % half) + half])));
  const hand = (colour, width, faint) => el("line", { x1: 0, y1: 0, style: `stroke: ${colour}; stroke-width: ${width}; opacity: ${faint ? 0.35 : 1}; transition: none` });
  const hands = { query: hand("var(--blue)", 5), key: hand("var(--tick)", 5), query0: hand("var(--blue)", 2, true), key0: hand("var(--tick)", 2, true) };
  const clock = el("svg", { viewBox: "-110 -110 220 220", "aria-hidden": "true", style: "width: 220px; max-width: 100%" },
    el("circle", { r: 104, style: "fill: none; stroke: var(--edge)" }), ...Object.values(hands));
  const set = (line, x) => {
    line.setAttribute("x2", (100 * x[pair]) / reach);
    line.setAttribute("y2", (-100 * x[pair + half]) / reach); // up is positive
  };

  // The score by distance, with a dot where the tokens stand.
  const low = Math.min(...scores, 0), high = Math.max(...scores, 0), span = high - low || 1;
  const across = (d) => 6 + (288 * d) / last, up = (score) => 114 - (108 * (score - low)) / span;
  const mark = el("circle", { r: 6 });
  const curve = el("svg", { viewBox: "0 0 300 120", "aria-hidden": "true", style: "width: 300px; max-width: 100%" },
    el("line", { class: "axis", x1: 6, x2: 294, y1: up(0), y2: up(0), style: "stroke: var(--edge)" }),
    el("polyline", { points: scores.map((score, d) => `${across(d)},${up(score)}`).join(" ") }), mark);

  const says = live("work"), total = el("p", {}, "Score of all pairs: ", el("output", { "data-name": "score", "data-row": 0 }));
  const columns = ["rate", `“${asks}” at`, `“${looked}” at`, "between", "adds"];
  const cells = Array.from({ length: half }, (_, i) => columns.map((_, j) => el("td", { "data-name": "pairs", "data-row": i, "data-column": j })));

  function draw() {
    const at = place + distance, q = turned(query, at, base), k = turned(key, place, base), score = dot(q, k);
    set(hands.query, q), set(hands.key, k), set(hands.query0, query), set(hands.key0, key);
    cells.forEach((row, i) => {
      const rate = base ** ((-2 * i) / query.length);
      [rate, at * rate, place * rate, distance * rate, q[i] * k[i] + q[i + half] * k[i + half]].forEach((value, j) => {
        row[j].dataset.value = value;
        row[j].textContent = j ? number(value) : value.toPrecision(3);
        row[j].classList.toggle("part", i === pair);
      });
    });
    mark.setAttribute("cx", across(distance)), mark.setAttribute("cy", up(score));
    total.lastChild.dataset.value = score;
    total.lastChild.textContent = number(score);
    says.textContent = `“${asks}” stands at ${at}, “${looked}” at ${place}: distance ${distance}. Their score is ${number(score)}.`;
  }

  const swatch = (colour) => el("i", { class: "swatch", style: `background: ${colour}` });
  stage.append(
    el("div", { class: "bar" },
      slider(`Place of “${looked}”`, { min: 0, max: last, value: place }, (n) => `${n}`, (n) => { place = n; draw(); }),
      slider(`“${asks}” so many places later`, { min: 0, max: last, value: distance }, (n) => `${n}`, (n) => { distance = n; draw(); }),
      choice("Pair on the clock", cells.map((_, i) => `${i}`), (i) => { pair = i; draw(); })),
    says,
    el("div", { class: "side" },
      el("div", {}, el("p", { class: "note" }, swatch("var(--blue)"), asks, swatch("var(--tick)"), looked), clock),
      el("div", {}, el("p", { class: "note" }, "Score by distance"), curve, total)),
    matrix("What each pair does: angles in radians, and its part of the score", cells.map((_, i) => `pair ${i}`), columns, (i, j) => cells[i][j], true),
    el("p", { class: "note" }, "Faint hands: before turning. Move the first slider: all hands turn together, and the score stays."),
  );
  draw();
}

start("rope_clock", ropeClock);
