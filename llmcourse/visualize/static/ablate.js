/** A small model: switch heads off, and see the bars and the attention of later layers change. */
function ablate(stage, { source, tokens, segments, words, opens }) {
  const model = engine.load(source), { n_layers, n_heads } = model.config, plain = { temperature: 1, topK: words.length, topP: 1 };
  const shown = tokens.map((id) => words[id]), seen = { layer: n_layers - 1, head: 0, query: null };
  const off = Object.fromEntries(opens.off.map((name) => [name, "mean"]));
  const intact = engine.forward(model, tokens, { segments }), says = live("work"), picture = el("div", { class: "stage" });
  let { position } = opens, changed = intact;
  const switches = headSwitches(n_layers, n_heads, off, compute), bars = barsBeside(words);
  const at = (pass) => Array.from(pass.logits[position]);

  function compute() {
    changed = switches.anyOff() ? engine.forward(model, tokens, { segments, off }) : intact;
    switches.draw(intact, changed);
    const layers = Object.fromEntries(changed.attention.map((heads, layer) => [`${layer}`, heads.map((rows) => rows.map((row) => Array.from(row)))]));
    picture.replaceChildren();
    attentionHeads(picture, { queries: shown, keys: shown, layers, opens: seen });
    read();
  }

  function read() {
    bars.draw(at(intact), switches.anyOff() ? at(changed) : null, plain);
    const [before, after] = [intact, changed].map((pass) => softmax(at(pass))), best = before.indexOf(Math.max(...before));
    const shift = before.reduce((sum, p, id) => sum + Math.abs(p - after[id]), 0) / 2;
    says.textContent = switches.anyOff()
      ? `At “${shown[position]}”: “${words[best]}” goes from ${before[best].toFixed(3)} to ${after[best].toFixed(3)}; ${shift.toFixed(3)} of all probability lies elsewhere.`
      : `At “${shown[position]}”: “${words[best]}” is the likeliest, ${before[best].toFixed(3)}. Switch a head off.`;
  }

  const title = (text) => el("h3", { class: "llmcourse-part" }, text);
  stage.append(
    title("Heads"), ...switches.parts,
    title("What the model predicts"), choice("Read at", shown.map((word, i) => `${i}: ${word}`), (i) => { position = i; read(); }, position), says, ...bars.parts,
    title("Who looks at whom"), picture,
  );
  compute();
}

start("ablate", ablate);
