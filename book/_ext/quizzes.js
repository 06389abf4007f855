// Keeps, in this browser, which questions of a page's quiz were answered right at the first choice.
(() => {
  const PLACE = "llmcourse.quiz";
  const stored = () => JSON.parse(localStorage.getItem(PLACE)) ?? {};
  let kept;
  try {
    kept = stored();
    localStorage.setItem(`${PLACE}.asked`, ""); // never over what is kept: a busy Chromium may show that as empty for a moment
    localStorage.removeItem(`${PLACE}.asked`);
  } catch {
    return; // a browser that keeps nothing: the quiz works as before
  }
  const tick = "\u2713 ", cross = "\u2717 ";
  for (const quiz of document.querySelectorAll(".llmcourse-quiz")) {
    const questions = [...quiz.querySelectorAll("li")].map((item) => {
      const options = [...item.querySelectorAll("details")];
      const words = [...item.childNodes].filter((node) => !options.includes(node)).map((node) => node.textContent);
      const mark = item.insertBefore(document.createElement("strong"), item.firstChild);
      return { options, mark, key: words.join("").replace(/\s+/g, " ").trim() }; // worded anew, it is a new question
    });
    const line = document.createElement("p"), words = document.createElement("span"), forget = document.createElement("button");
    words.setAttribute("role", "status");
    Object.assign(forget, { type: "button", textContent: "Forget" });
    line.append(words, " ", forget);
    quiz.append(line);
    const show = () => {
      const answered = questions.filter(({ key }) => key in kept);
      for (const { key, mark } of questions) mark.textContent = key in kept ? (kept[key] ? tick : cross) : "";
      words.textContent = `${answered.filter(({ key }) => kept[key]).length} of ${questions.length} right at the first choice. `
        + (answered.length ? "Kept in this browser, and nowhere else." : "What you choose is kept in this browser, and nowhere else.");
      forget.hidden = !answered.length;
    };
    const keep = (change) => {
      try { kept = { ...stored(), ...kept }; } catch { /* shown as it was */ }
      change();
      try { localStorage.setItem(PLACE, JSON.stringify(kept)); } catch { /* full: shown, and not kept */ }
      show();
    };
    for (const { options, key } of questions)
      for (const option of options) // a click, or its key: what the browser opens by itself, to show a word, is no choice
        option.querySelector("summary").addEventListener("click", () => {
          const right = option.querySelector("p")?.textContent.startsWith(tick.trim()) ?? false;
          if (!option.open && !(key in kept)) keep(() => { kept[key] = right; });
        });
    forget.addEventListener("click", () => {
      for (const { options } of questions) for (const option of options) option.open = false;
      keep(() => { for (const { key } of questions) delete kept[key]; });
    });
    addEventListener("storage", ({ key, newValue }) => { // another tab
      if (key !== PLACE && key !== null) return;
      kept = JSON.parse(newValue) ?? {};
      show();
    });
    show();
  }
})();
