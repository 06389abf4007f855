// Keeps, in this browser, which questions of a page's quiz were answered right at the first choice.
(() => {
  const PLACE = "llmcourse.quiz";
  let kept;
  try {
    kept = JSON.parse(localStorage.getItem(PLACE)) ?? {};
    localStorage.setItem(PLACE, JSON.stringify(kept));
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
    const keep = () => {
      try { localStorage.setItem(PLACE, JSON.stringify(kept)); } catch { /* full: shown, and not kept */ }
      show();
    };
    for (const { options, key } of questions)
      for (const option of options)
        option.addEventListener("toggle", () => {
          if (!option.open || key in kept) return;
          kept[key] = option.querySelector("p")?.textContent.startsWith(tick.trim()) ?? false;
          keep();
        });
    forget.addEventListener("click", () => {
      for (const { key, options } of questions) {
        delete kept[key];
        for (const option of options) option.open = false;
      }
      keep();
    });
    show();
  }
})();
