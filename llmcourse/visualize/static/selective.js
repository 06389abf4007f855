function selective(stage, { confidence, risk, best, answered }) {
  const n = confidence.length, wide = 300, high = 160, edge = 6;
  const across = (coverage) => edge + (wide - 2 * edge) * coverage, up = (share) => high - edge - (high - 2 * edge) * share;
  const line = (points, style) => el("polyline", { points: points.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`).join(" "), style });
  const mark = el("circle", { r: 6 });
  const picture = el("svg", { viewBox: `0 0 ${wide} ${high}`, "aria-hidden": "true", style: `width: ${wide}px; max-width: 100%` },
    el("line", { class: "axis", x1: across(0), x2: across(1), y1: up(0), y2: up(0), style: "stroke: var(--edge)" }),
    el("line", { class: "axis", x1: across(0), x2: across(0), y1: up(0), y2: up(1), style: "stroke: var(--edge)" }),
    ...(best ? [line(best, "stroke: var(--ink); stroke-dasharray: 4 4; stroke-width: 1.5")] : []),
    line(risk.map((share, i) => [(i + 1) / n, share]), "stroke: var(--blue)"), mark);
  const says = live("work"), names = ["answered", "of these wrong", "share wrong", "right, unsaid"];
  const cells = names.map((_, i) => el("td", { "data-name": "counts", "data-row": i }));
  const right = (count) => Math.round(count * (1 - risk[count - 1]));

  function draw(count) {
    const wrong = count - right(count), values = [count, wrong, wrong / count, right(n) - right(count)];
    values.forEach((value, i) => {
      cells[i].dataset.value = value;
      cells[i].textContent = i === 2 ? value.toFixed(3) : `${value}`;
    });
    mark.setAttribute("cx", across(count / n)), mark.setAttribute("cy", up(risk[count - 1]));
    says.dataset.value = confidence[count - 1];
    const tied = count < n && confidence[count] === confidence[count - 1]; // then some answers of this confidence are not said
    says.textContent = `${tied ? "The surest answers, of equally sure ones the first, from" : "Answers with"} confidence ${confidence[count - 1].toFixed(2)}${tied ? "" : " or more"}: ${count} of ${n}, and ${wrong} of them are wrong.`;
  }

  stage.append(
    el("div", { class: "bar" }, slider("Answered", { min: 1, max: n, value: answered }, (count) => `${count} of ${n}`, draw)),
    says,
    el("div", { class: "side" },
      el("div", {}, el("p", { class: "note" }, "Up: share wrong, 0 to 1. Across: share answered."), picture),
      matrix("What is said and what is withheld", names, ["number"], (i) => cells[i], true)),
    ...(best ? [el("p", { class: "note" }, "Dashed: the lowest risk that is possible.")] : []),
  );
  draw(answered);
}

start("selective", selective);
