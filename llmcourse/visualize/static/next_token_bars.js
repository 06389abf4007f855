/** Sliders for temperature, top-k (up to `most`) and top-p; they change `config`, then call `changed`. */
function samplingSliders(config, most, changed) {
  const control = (label, name, range, show) => slider(label, { ...range, value: config[name] }, show, (value) => { config[name] = value; changed(); });
  return el("div", { class: "bar" },
    control("Temperature", "temperature", { min: 0, max: 2, step: 0.05 }, (t) => (t ? t.toFixed(2) : "0, greedy")),
    control("Top-k", "topK", { min: 1, max: most }, (k) => (k === most ? "all" : `${k}`)),
    control("Top-p", "topP", { min: 0.05, max: 1, step: 0.01 }, (p) => (p === 1 ? "all" : p.toFixed(2))));
}

function nextTokenBars(stage, { words, logits, exact, prefix }) {
  const config = { temperature: 1, topK: words.length, topP: 1 };
  const { list, says, draw } = tokenBars(words);
  const update = () => draw(logits, config, exact);
  stage.append(
    prefix ? el("p", {}, el("q", {}, prefix), " …") : "",
    samplingSliders(config, words.length, update),
    says, list,
    el("p", { class: "note" }, "A full bar is probability 1.", ...(exact ? [" ", el("i", { class: "tick" }), " is the true probability."] : [])),
  );
  update();
}

start("next_token_bars", nextTokenBars);
