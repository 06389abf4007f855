/** Rows of a list of bars, for pairs of a token and its probability. */
function topRows(pairs) {
  return pairs.map(([word, p], i) => el("li", { "data-name": "probability", "data-row": i, "data-word": word, "data-value": p },
    el("span", { class: "word", title: word }, word),
    el("span", { class: "track" }, el("i", { class: "fill", style: `--share:${p}` })),
    el("span", { class: "number" }, p.toFixed(3))));
}
