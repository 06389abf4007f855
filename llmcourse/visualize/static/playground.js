/** The playground: type a text, see its tokens, what comes next, what heads do, and let the model write. */
function playground(stage, source, example) {
  const DRAWN = 24; // tokens in the picture of the heads; more nobody can follow
  const TO_WRITE = 30; // tokens to write at a time
  const model = engine.load(source), { n_layers, n_heads, context, n_vocab } = model.config;
  const visible = (id) => engine.piece(model, id).replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
  const words = model.pieces.map((_, id) => visible(id));
  const sampling = { temperature: 1, topK: n_vocab, topP: 1 };
  const opens = { layer: 0, head: 0, query: null };
  const off = {}; // the silenced heads, as `engine.forward` takes them
  let tokens = [], intact, changed, writing = null;

  const part = (title, ...content) => [el("h3", { class: "llmcourse-part" }, title), ...content];
  const note = (...text) => el("p", { class: "note" }, ...text);

  // The text and its tokens
  const text = el("textarea", { rows: 2, maxlength: 1000, spellcheck: "false", input: () => read() });
  text.value = example;
  const chips = el("ol", { class: "chips", tabindex: 0, "aria-label": "Tokens" }), counted = live("work");

  // What comes next
  const next = barsBeside(words, true), switches = headSwitches(n_layers, n_heads, off, compute);

  // Writing
  const seed = el("input", { type: "number", class: "seed", value: 1, min: 0, max: 999999, step: 1 });
  const written = el("p", { class: "written" }), wrote = live("work");
  const go = el("button", { type: "button", click: () => write() }, `Write ${TO_WRITE} tokens`);
  const halt = el("button", { type: "button", "aria-disabled": "true", click: () => stop("Stopped") }, "Stop");

  const heads = el("div", { class: "stage" }), few = note();

  /** Cut the text into tokens; only its end fits into the context. */
  function read() {
    const all = engine.encode(model, text.value);
    tokens = all.slice(-context);
    chips.replaceChildren(...tokens.map((id, i) =>
      el("li", { class: `p${i % 4}`, "data-name": "token", "data-value": id }, el("b", {}, words[id]), el("small", {}, `${id}`))));
    counted.textContent = all.length ? `${all.length} tokens.` : "Type something: the model needs at least one token to go on from.";
    if (all.length > context) counted.textContent += ` The model reads the last ${context}.`;
    intact = tokens.length ? engine.forward(model, tokens) : null;
    compute();
  }

  /** Everything that depends on which heads are on. */
  function compute() {
    stop("Stopped");
    changed = intact && switches.anyOff() ? engine.forward(model, tokens, { off }) : intact;
    for (const element of [results, picture]) element.hidden = !intact;
    if (!intact) return;
    switches.draw(intact, changed);
    bars();
    const shown = tokens.slice(-DRAWN).map((id) => words[id]), from = tokens.length - shown.length;
    const layers = Object.fromEntries(changed.attention.map((byHead, layer) =>
      [`${layer}`, byHead.map((rows) => rows.slice(from).map((row) => Array.from(row.slice(from))))]));
    heads.replaceChildren();
    attentionHeads(heads, { queries: shown, keys: shown, layers, opens });
    few.textContent = from ? `The last ${DRAWN} tokens are drawn; what they give to earlier ones is left out.` : "";
  }

  function bars() {
    const last = (pass) => Array.from(pass.logits.at(-1));
    next.draw(last(intact), switches.anyOff() ? last(changed) : null, sampling);
  }

  function stop(why) {
    if (writing === null) return;
    cancelAnimationFrame(writing);
    writing = null;
    halt.setAttribute("aria-disabled", "true");
    wrote.textContent = `${why} after ${written.dataset.count} tokens.`;
  }

  /** Write token by token, one a frame, so that the page stays awake and the reader can stop. */
  function write() {
    if (!tokens.length) return;
    stop("Stopped");
    const settings = { ...sampling };
    const stream = engine.write(model, tokens, seed.valueAsNumber || 0, (logits) => nextTokenProbabilities(logits, settings).probabilities, { ...off });
    const ids = [], added = el("b");
    written.dataset.count = 0;
    written.replaceChildren(text.value, added);
    wrote.textContent = "Writing …";
    halt.setAttribute("aria-disabled", "false");
    const step = () => {
      ids.push(stream.next().value);
      added.textContent = engine.decode(model, ids);
      written.dataset.count = ids.length;
      if (ids.length < TO_WRITE) writing = requestAnimationFrame(step);
      else stop("Done");
    };
    writing = requestAnimationFrame(step);
  }

  const results = el("div", { class: "stage" },
    ...part("What comes next", samplingSliders(sampling, n_vocab, bars), ...next.parts),
    ...part("Switch heads off", ...switches.parts),
    ...part("Let it write", el("div", { class: "bar" }, el("label", { class: "control" }, el("span", {}, "Seed"), seed), go, halt), wrote, written));
  const picture = el("div", { class: "stage" }, ...part("Who looks at whom", few, heads));
  stage.replaceChildren(el("label", { class: "text" }, el("span", {}, "Your text"), text), counted, chips, results, picture);
  for (const twin of stage.parentElement.querySelectorAll(":scope > .example")) twin.hidden = true;
  read();
  text.focus({ preventScroll: true });
}

Object.assign((globalThis.llmcourse ??= {}), { playground, engine, nextTokenProbabilities });
