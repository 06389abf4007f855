/** The distribution that the next token is drawn from: temperature, top-k, top-p. The likeliest token always stays. */
function nextTokenProbabilities(logits, { temperature, topK, topP }) {
  const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a]); // of equals the earlier one first
  const greedy = temperature === 0;
  const spread = greedy ? logits.map((_, i) => Number(i === order[0])) : softmax(logits.map((logit) => logit / temperature));
  const likeliest = order.slice(0, greedy ? 1 : topK);
  const total = likeliest.reduce((sum, i) => sum + spread[i], 0);
  let before = 0, held = 0;
  const kept = new Set();
  for (const i of likeliest) {
    if (topP === 1 || before < topP) { // the token that crosses the line stays; a sum may round to 1 before the last token
      kept.add(i);
      held += spread[i];
    }
    before += spread[i] / total;
  }
  return { order, spread, kept, probabilities: spread.map((p, i) => (kept.has(i) ? p / held : 0)) };
}

/** Bars of the likeliest tokens; `draw(logits, config, exact)` draws them, with a mark where the true probability lies. */
function tokenBars(words) {
  const BARS = 15;
  const list = el("ol", { class: "bars" }), says = live("work");

  function row(i, { spread, kept, probabilities }, exact) {
    const cut = !kept.has(i), p = probabilities[i];
    const mark = (kind, share) => el("i", { class: kind, style: `--share:${share}` });
    return el("li", { class: cut && "cut", "data-name": "probability", "data-row": i, "data-value": p },
      el(cut ? "s" : "span", { class: "word", title: words[i] }, words[i]),
      el("span", { class: "track" }, mark("fill", cut ? spread[i] : p), exact ? mark("tick", exact[i]) : ""),
      el("span", { class: "number" }, cut ? "cut" : p.toFixed(3)));
  }

  function draw(logits, config, exact) {
    const result = nextTokenProbabilities(logits, config);
    const { order, kept, probabilities } = result;
    const rest = order.slice(BARS);
    list.replaceChildren(...order.slice(0, BARS).map((i) => row(i, result, exact)));
    says.textContent = `${kept.size} of ${words.length} can come next. The likeliest is “${words[order[0]]}”, ${probabilities[order[0]].toFixed(3)}.`
      + (rest.length ? ` The ${rest.length} not drawn hold ${rest.reduce((sum, i) => sum + probabilities[i], 0).toFixed(3)} together.` : "");
  }
  return { list, says, draw };
}
