/** Whose words reach an answer: the tokens of a prompt in the boxes of those who said them, each the more coloured the larger its share. */
function trustBoundaries(stage, { models, names, opens }) {
  const seen = { model: opens.model, said: opens.said, trace: opens.trace };
  const says = live("work"), boxes = el("div", { class: "stage" }), shares = el("ol", { class: "bars zones" }), pickers = el("span", { class: "bar" });
  const model = () => models[names[seen.model]];

  function draw() {
    const { tokens, zones, injected, traces } = model(), trace = Object.keys(traces)[seen.trace];
    const weights = traces[trace][seen.said], top = Math.max(...weights, 1e-9);
    const sum = (wanted) => weights.reduce((total, weight, i) => total + (wanted(i) ? weight : 0), 0);
    const chip = (i) => {
      const mark = injected.includes(i);
      return el("span", { class: `piece${mark ? " new" : ""}`, "data-token": i, "data-value": weights[i], title: `${tokens[i]}: ${weights[i].toFixed(3)}`, style: `background: color-mix(in srgb, var(--paper), var(--full) ${(100 * weights[i]) / top}%)` }, tokens[i]);
    };
    const zonesHere = [...new Set(zones)];
    boxes.replaceChildren(...zonesHere.map((zone) => el("div", { "data-zone": zone, style: "border: 1px solid var(--edge); border-radius: 6px; padding: 0.3rem 0.6rem" },
      el("strong", {}, zone), " ", el("span", { class: "pieces" }, ...tokens.flatMap((_, i) => (zones[i] === zone ? [chip(i), " "] : []))))));
    const drawn = sum((i) => injected.includes(i)), within = zonesHere.findLast((zone) => injected.some((i) => zones[i] === zone)) ?? zonesHere.at(-1);
    const rows = zonesHere.flatMap((zone) => [[zone, sum((i) => zones[i] === zone)], ...(zone === within ? [["injected", drawn]] : [])]);
    shares.replaceChildren(...rows.map(([zone, share]) => el("li", { class: zone === "injected" && "within" }, el("span", { class: "word", title: zone }, zone === "injected" ? "of which injected" : zone),
      el("span", { class: "track" }, el("span", { class: "fill", style: `--share: ${share}` })), el("span", { class: "number", "data-share": zone, "data-value": share }, share.toFixed(2)))));
    says.textContent = `${names[seen.model]}: “${model().said[seen.said]}” draws ${drawn.toFixed(2)} from the injected words.`;
  }

  function pick(number) {
    seen.model = number;
    seen.said = Math.min(seen.said, model().said.length - 1);
    seen.trace = Math.min(seen.trace, Object.keys(model().traces).length - 1);
    pickers.replaceChildren(
      choice("Said", model().said, (i) => { seen.said = i; draw(); }, seen.said),
      choice("Traced through", Object.keys(model().traces), (i) => { seen.trace = i; draw(); }, seen.trace));
    draw();
  }
  stage.append(
    el("div", { class: "bar" }, choice("Model", names, pick, seen.model), pickers), says, boxes,
    el("p", { class: "note" }, "A line below a word: it belongs to the injected instruction. The stronger its colour, the larger its share; the bars add the shares up."), shares);
  pick(seen.model);
}

start("trust_boundaries", trustBoundaries);
