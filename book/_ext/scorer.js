// How the search weighs what it found. Whole words of the question in a heading say what a section is about. A chapter explains, so
// it comes before the page where all mistakes are named; a function comes first when its name was typed as in code, and late otherwise.
var Scorer = {
  score: ([page, title, anchor, description, score]) => {
    const asked = (new URLSearchParams(location.search).get("q") || "").trim().toLowerCase(), name = title.toLowerCase();
    if (page.startsWith("book/api/")) return score + (asked.includes("_") && name.split(".").pop() === asked ? 60 : -6);
    const about = name.includes(asked) ? 20 : 0;
    return score + about + (page.startsWith("notebooks/") ? 6 : page === "book/misconceptions" ? -6 : 0);
  },
  objNameMatch: 11, objPartialMatch: 2,
  objPrio: { 0: 4, 1: 0, 2: -5 }, objPrioDefault: 0,
  title: 40, partialTitle: 9,
  term: 5, partialTerm: 1,
};
