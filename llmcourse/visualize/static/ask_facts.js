/** Ask a small knowledge base, and edit it: which facts are found, and where the reader points in them. */
function askFacts(stage, { source, pointer, words, special, sentences, question, k }) {
  const model = engine.load(source), { context } = model.config, C = Math.sqrt(pointer.length);
  const ids = new Map(words.map((word, id) => [word, id]).slice(special.count)); // what is typed is never a special token
  const says = live("work"), answer = live("answer"), found = el("ol", { class: "facts" }), results = el("div", { class: "stage" });

  const fields = sentences.map((text, i) => {
    const field = el("input", { type: "text", spellcheck: "false", maxlength: 80, "aria-label": `Fact ${i + 1}`, input: () => read() });
    field.value = text;
    return field;
  });
  const marks = fields.map(() => el("span", { class: "number" }));
  const asked = el("input", { type: "text", spellcheck: "false", maxlength: 80, input: () => read() });
  asked.value = question;
  const count = slider("Facts to read", { min: 1, max: Math.min(6, sentences.length), step: 1, value: k }, String, () => read());

  /** Words with spaces; a full stop or question mark at the end may be glued on or be missing. */
  const known = (word) => (ids.has(word) ? word : word.toLowerCase());
  const tidy = (text, sign) => [...text.trim().replace(/[.?]+\s*$/, "").split(/\s+/).filter(Boolean).map(known), sign];

  /** [CLS] facts [SEP] question, and for each place of a fact which fact and which word it is. */
  function lay(facts, query) {
    const tokens = [special.cls], places = [null];
    facts.forEach(({ number, cut }) => cut.forEach((word, i) => {
      tokens.push(ids.get(word));
      places.push({ number, word: i });
    }));
    const length = tokens.push(special.sep);
    tokens.push(...query.map((word) => ids.get(word)));
    return { tokens, places, segments: tokens.map((_, t) => Number(t >= length)) };
  }

  /** The probability of each place to hold the answer: what `PointingReader` gives, after the softmax. */
  function point({ tokens, places, segments }) {
    const { last } = engine.forward(model, tokens, { segments }), end = last[tokens.length - 1];
    const asks = Array.from({ length: C }, (_, j) => end.reduce((sum, v, i) => sum + v * pointer[i * C + j], 0));
    return softmax(places.map((_, t) => asks.reduce((sum, v, j) => sum + v * last[t][j], 0) / Math.sqrt(C)));
  }

  function refused(cuts, query) {
    const unknown = [...cuts.filter((cut) => cut.length > 1).flat(), ...query].find((word) => !ids.has(word));
    if (unknown) return `“${unknown}” is none of the ${ids.size} words that this reader has learned. They are listed below.`;
    if (query.length < 2) return "Ask something.";
    return cuts.some((cut) => cut.length > 1) ? "" : "Nothing is known: write a fact.";
  }

  function read() {
    const cuts = fields.map((field) => tidy(field.value, ".")), query = tidy(asked.value, "?"), trouble = refused(cuts, query);
    for (const part of [results, answer]) part.hidden = Boolean(trouble);
    fields.forEach((field, i) => field.setAttribute("aria-invalid", cuts[i].length > 1 && cuts[i].some((word) => !ids.has(word))));
    asked.setAttribute("aria-invalid", query.some((word) => !ids.has(word)));
    says.textContent = trouble;
    if (!trouble) return show(cuts, query);
    for (const mark of marks) {
      mark.textContent = "";
      delete mark.dataset.value;
    }
    for (const field of fields) field.classList.remove("found");
  }

  function show(cuts, query) {
    const scores = bm25(cuts.map((cut) => wordsOf(cut.join(" ")))).scores(wordsOf(query.join(" ")));
    marks.forEach((mark, i) => {
      mark.textContent = cuts[i].length > 1 ? scores[i].toFixed(2) : "";
      mark.dataset.value = scores[i];
    });
    const best = bestFirst(scores.map((score, i) => (cuts[i].length > 1 ? score : -1)), count.querySelector("input").valueAsNumber).filter((i) => cuts[i].length > 1);
    fields.forEach((field, i) => field.classList.toggle("found", best.includes(i)));
    const laid = lay([...best].sort((a, b) => a - b).map((number) => ({ number, cut: cuts[number] })), query);
    if (laid.tokens.length > context) {
      says.textContent = `The facts and the question have ${laid.tokens.length} words, and the reader takes ${context}: read fewer facts.`;
      for (const part of [results, answer]) part.hidden = true;
      return;
    }
    const p = point(laid), top = p.indexOf(Math.max(...p)), place = laid.places[top];
    answer.dataset.value = p[top];
    answer.replaceChildren(...(place
      ? ["Answer: ", el("strong", {}, cuts[place.number][place.word]), ` (probability ${p[top].toFixed(2)}), from fact ${place.number + 1}.`]
      : [el("strong", {}, "No answer"), ` in these facts (probability ${p[top].toFixed(2)}).`]));
    found.replaceChildren(...best.map((number) => el("li", { value: number + 1, class: place?.number === number ? "evidence" : "" },
      ...cuts[number].flatMap((word, i) => {
        const t = laid.places.findIndex((one) => one?.number === number && one.word === i);
        return [el(t === top ? "mark" : "span", { class: "heat", style: `--heat: ${p[t].toFixed(3)}`, "data-p": p[t], title: `probability ${p[t].toFixed(3)}` }, word), " "];
      }))));
    answer.dataset.none = p[0];
  }

  const part = (title, ...content) => [el("h3", { class: "llmcourse-part" }, title), ...content];
  results.append(...part("What was found, and where the reader points", found));
  stage.append(
    el("label", { class: "text" }, el("span", {}, "Your question"), asked), count, says, answer,
    results,
    ...part("The knowledge base: change any fact", el("ol", { class: "knowledge" }, ...fields.map((field, i) => el("li", {}, field, marks[i])))),
    el("p", { class: "note" }, "The number beside a fact is its BM25 score for the question. An empty fact is never found, and still counts among the texts of BM25."),
    el("details", {}, el("summary", {}, `The ${ids.size} words that the reader knows`), el("p", {}, [...ids.keys()].join(" "))));
  read();
}

start("ask_facts", askFacts);
