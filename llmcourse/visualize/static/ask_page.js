/** The page of "Ask the book": a question, and the sections that answer it. The text of the book is fetched at the first one. */
function askPage(stage, { address, root, example }) {
  const says = live("work"), hits = el("ol", { class: "hits" });
  const field = el("input", { type: "search", id: "question-to-the-book", value: example, maxlength: 300, autocomplete: "off" });
  let book = null;

  /** A script, because a page opened from a disk may fetch nothing else. */
  const load = () => (book ??= new Promise((done, failed) => document.head.append(el("script", { src: `${address}/book.js`, load: done, error: failed }))).then(() => askBook(globalThis.llmcourse.book)));

  async function answer(event) {
    event?.preventDefault();
    hits.replaceChildren();
    if (!field.value.trim()) {
      says.textContent = "Type a question.";
      return;
    }
    says.textContent = "Looking …";
    try {
      show((await load()).ask(field.value));
    } catch {
      book = null;
      says.textContent = "The text of the book could not be loaded. Try again when there is a connection.";
    }
  }

  function show(found) {
    says.textContent = found.length
      ? `${found.length} ${found.length === 1 ? "section" : "sections"}, the best first.`
      : "This book does not seem to answer that. Try other words, or the search.";
    hits.replaceChildren(...found.map(({ passage, excerpt, fits }) => el("li", { "data-address": `${passage.page}.html#${passage.anchor}`, "data-fits": fits },
      el("a", { href: `${root}${passage.page}.html#${passage.anchor}` }, passage.title),
      passage.trail === passage.title ? "" : el("span", { class: "note" }, ` · ${passage.trail}`),
      el("p", {}, excerpt))));
  }

  stage.append(
    el("form", { class: "stage", role: "search", "aria-label": "Ask the book", submit: answer },
      el("label", { class: "text", for: "question-to-the-book" }, el("span", {}, "Your question"), field),
      el("div", { class: "bar" }, el("button", { type: "submit", class: "load" }, "Ask"))),
    says, hits);
  stage.parentElement.querySelector(":scope > .without-script")?.remove();
}

start("ask_page", askPage);
