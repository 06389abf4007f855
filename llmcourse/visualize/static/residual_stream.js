/** The stream flows down; each row is a part that is added to it, drawn as thick as it is long. */
function residualStream(stage, { tokens, parts, adds, stream, push, towards, position }) {
  const HEIGHT = 34, WIDEST = 26; // pixels: of a row, and of the stream where it is longest
  const longest = Math.max(...stream.flat(), ...adds.flat(), 1e-9);
  const strongest = push ? Math.max(...push.flat().map(Math.abs), 1e-9) : 1;
  const says = live("work");
  const number = (x) => x.toFixed(2).replace("-", "−");
  const signed = (x) => (x > 0 ? "+" : "") + number(x);
  const thick = (length) => Math.max(0.75, (WIDEST * length) / longest);

  const pipe = (x1, y1, x2, y2, style = "") => el("line", { x1, y1, x2, y2, style });
  const drawings = parts.map((_, i) => {
    const before = pipe(24, 0, 24, HEIGHT / 2), after = pipe(24, HEIGHT / 2, 24, HEIGHT);
    const added = pipe(118, HEIGHT / 2, 24, HEIGHT / 2, "stroke: var(--tick)");
    const svg = el("svg", { viewBox: `0 0 120 ${HEIGHT}`, "aria-hidden": "true", style: `width: 120px; height: ${HEIGHT}px` }, added, before, after);
    return { before, after, added, svg };
  });
  const columns = [...(push ? ["push"] : []), "the stream", "adds", "stream after"];
  const kinds = [...(push ? ["push"] : []), null, "adds", "stream"];
  const cells = parts.map((_, i) => columns.map((_, j) => kinds[j]
    ? el("td", { "data-name": kinds[j], "data-row": i, class: kinds[j] === "push" && "heat" })
    : el("td", { style: "padding-block: 0" }, drawings[i].svg)));

  function draw() {
    parts.forEach((_, i) => {
      const { before, after, added } = drawings[i];
      before.style.strokeWidth = i ? thick(stream[i - 1][position]) : 0;
      after.style.strokeWidth = thick(stream[i][position]);
      added.style.strokeWidth = thick(adds[i][position]);
      for (const [kind, values] of Object.entries({ adds, stream, push })) {
        if (!values) continue;
        const value = values[i][position], cell = cells[i][kinds.indexOf(kind)], pushes = kind === "push";
        cell.dataset.value = value;
        cell.textContent = pushes ? signed(value) : number(value);
        cell.style.setProperty("--heat", pushes ? Math.abs(value) / strongest : 0);
        cell.classList.toggle("minus", pushes && value < 0);
      }
    });
    const most = adds.map((row) => row[position]).reduce((best, x, i, all) => (x > all[best] ? i : best), 0);
    says.textContent = `At “${tokens[position]}” the longest addition is that of ${parts[most]}, ${number(adds[most][position])}.`
      + (push ? ` All together push by ${signed(push.reduce((sum, row) => sum + row[position], 0))} ${towards}.` : "");
    buttons.forEach((button, t) => button.setAttribute("aria-pressed", t === position));
  }

  const buttons = tokens.map((text, t) => el("button", { type: "button", class: "pick", title: text, click: () => { position = t; draw(); } }, text));
  const table = matrix("From top to bottom: what is added, and how long the stream is then", parts, columns, (i, j) => cells[i][j], true);
  for (const name of table.querySelectorAll("th")) name.style.maxWidth = "none"; // the end of a part's name tells it apart
  stage.append(
    el("div", { class: "bar", role: "group", "aria-label": "Position" }, ...buttons), says,
    table,
    el("p", { class: "note" }, "The thicker a line, the longer the row of numbers it stands for. The stream runs down; parts join it from the right."),
  );
  draw();
}

start("residual_stream", residualStream);
