/** Type a text with blanks: a small BERT on the page names what may stand in each, and shows what its heads look at. */
function fillBlanks(stage, { source, words, special, text: example, opens }) {
  const LISTED = 5, model = engine.load(source), { context } = model.config;
  const ids = new Map(words.map((word, id) => [word, id]).slice(special.count)); // what is typed is never a special token
  const says = live("work"), blanks = el("div", { class: "columns" }), filled = el("p", { class: "written" });
  const picture = el("div", { class: "stage" }), results = el("div", { class: "stage" }), judged = live("work");
  const seen = { layer: opens.layer, head: opens.head, query: null };
  const text = el("textarea", { rows: 2, maxlength: 600, spellcheck: "false", input: () => read() });
  text.value = example;

  /** The ids of a typed word; a sign may be glued to it, and it may begin with a capital. An unknown word stays text. */
  function cut(word) {
    if (/^(\[MASK\]|_+)$/i.test(word)) return [special.mask];
    for (const known of [word, word.toLowerCase()]) if (ids.has(known)) return [ids.get(known)];
    const glued = [word.slice(0, -1), word.slice(-1)];
    return word.length > 1 && /[^\p{L}\p{N}]/u.test(glued[1]) && ids.has(glued[1]) ? glued.flatMap(cut) : [word];
  }

  /** [CLS] first sentence [SEP] second sentence [SEP]; the first ends with the first full stop. */
  function lay(cuts) {
    const stop = cuts.indexOf(ids.get(".")) + 1 || cuts.length, second = cuts.slice(stop);
    const tokens = [special.cls, ...cuts.slice(0, stop), special.sep, ...(second.length ? [...second, special.sep] : [])];
    return { tokens, segments: tokens.map((_, i) => Number(i > stop + 1)), two: second.length > 0 };
  }

  function read() {
    const cuts = text.value.trim().split(/\s+/).filter(Boolean).flatMap(cut), unknown = cuts.filter((piece) => typeof piece === "string");
    const { tokens, segments, two } = lay(cuts), trouble = refused(cuts, unknown, tokens.length);
    results.hidden = Boolean(trouble);
    text.setAttribute("aria-invalid", Boolean(trouble));
    if (trouble) says.textContent = trouble;
    else show(tokens, segments, two);
  }

  function refused(cuts, unknown, length) {
    if (unknown.length) return `“${unknown[0]}” is none of the ${ids.size} words that this model has learned. They are listed below.`;
    if (!cuts.length) return "Type a text; [MASK] or _ is a blank.";
    return length > context ? `The text has ${length} tokens, and the model reads ${context}: make it shorter.` : "";
  }

  function show(tokens, segments, two) {
    const pass = engine.forward(model, tokens, { segments }), names = tokens.map((id) => words[id]);
    const hidden = tokens.flatMap((id, t) => (id === special.mask ? [t] : []));
    const tops = hidden.map((t) => {
      const p = softmax(Array.from(pass.logits[t])), order = p.map((_, id) => id).sort((a, b) => p[b] - p[a]);
      return order.slice(0, LISTED).map((id) => [words[id], p[id]]);
    });
    says.textContent = hidden.length ? tops.map(([[word, p]], i) => `Blank ${i + 1}: “${word}”, ${p.toFixed(3)}.`).join(" ") : "There is no blank. Put [MASK] or _ in the place of a word.";
    blanks.replaceChildren(...tops.map((top, i) => el("div", { class: "column" }, el("strong", {}, `Blank ${i + 1}`), el("ol", { class: "bars", "data-blank": i }, ...topRows(top)))));
    filled.replaceChildren(...tokens.flatMap((id, t) => {
      if (id === special.cls || id === special.sep) return [];
      return [hidden.includes(t) ? el("b", {}, tops[hidden.indexOf(t)][0][0]) : words[id], " "];
    }));
    const follows = softmax(Array.from(pass.follows))[0];
    judged.hidden = !two;
    judged.dataset.value = follows;
    judged.textContent = `That the second sentence follows the first: ${follows.toFixed(3)}.`;
    seen.query = hidden[0] ?? null;
    picture.replaceChildren();
    const layers = Object.fromEntries(pass.attention.map((heads, layer) => [`${layer}`, heads.map((rows) => rows.map((row) => Array.from(row)))]));
    attentionHeads(picture, { queries: names, keys: names, layers, opens: seen });
  }

  const add = el("button", { type: "button", click: () => {
    text.setRangeText(" [MASK] ", text.selectionStart, text.selectionEnd, "end");
    read();
    text.focus();
  } }, "Put a blank here");
  const part = (title, ...content) => [el("h3", { class: "llmcourse-part" }, title), ...content];
  results.append(blanks, filled, judged, ...part("Who looks at whom", picture));
  stage.append(
    el("label", { class: "text" }, el("span", {}, "Your text; [MASK] or _ is a blank"), text), el("div", { class: "bar" }, add), says, results,
    el("details", {}, el("summary", {}, `The ${ids.size} words that the model knows`), el("p", {}, [...ids.keys()].join(" "))));
  read();
}

start("fill_blanks", fillBlanks);
