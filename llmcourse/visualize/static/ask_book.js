/** Ask the book: which of its sections answers a question, or that none does. The same as `llmcourse/asking.py`. */
function askBook({ passages, settings: { title, trail, named, threshold, shown, excerpt, stop, also, signs } }) {
  const stops = new Set(stop), ALSO = new Map(Object.entries(also)), SIGNS = Object.entries(signs);

  function stem(word) {
    if (word.length > 4 && word.endsWith("ies")) word = `${word.slice(0, -3)}y`;
    else if (word.length > 3 && word.endsWith("s") && !/(ss|us|is)$/.test(word)) word = word.slice(0, -1);
    for (const ending of ["ation", "ing", "ed", "ly", "ion"]) {
      if (word.length > ending.length + 3 && word.endsWith(ending)) {
        word = word.slice(0, -ending.length);
        if (word.length > 3 && word.at(-1) === word.at(-2) && !"ls".includes(word.at(-1))) word = word.slice(0, -1);
        break;
      }
    }
    return word.length > 3 && word.endsWith("e") ? word.slice(0, -1) : word;
  }

  /** The text with signs as words. */
  function spelled(text) {
    for (const [sign, name] of SIGNS) text = text.replaceAll(sign, ` ${name} `);
    return text;
  }

  function terms(text) {
    return wordsOf(spelled(text)).filter((word) => !stops.has(word)).map(stem);
  }

  /** For each word of a question that tells something, once: its stem, and those of what the book may say for it. */
  function wanted(question) {
    const groups = new Map();
    for (const word of wordsOf(spelled(question))) for (const one of terms(word)) groups.set(one, [...new Set([one, ...terms(ALSO.get(word) ?? "")])]);
    return [...groups.values()];
  }

  const headings = passages.map((one) => terms(one.title));
  const cut = passages.map((one, i) => [...Array(title).fill(headings[i]).flat(), ...(one.trail === one.title ? [] : Array(trail).fill(terms(one.trail)).flat()), ...terms(one.text)]);
  const index = bm25(cut), sets = cut.map((words) => new Set(words));
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const weight = (group) => Math.max(...group.map(index.idf)) || Math.log(2 * cut.length + 2);
  const weights = (groups) => sum(groups.map(weight));

  function namedBy(groups, place) {
    const heading = headings[place], asked = groups.filter((group) => group.some((term) => heading.includes(term)));
    if (!asked.length) return 0;
    const precision = heading.filter((term) => groups.some((group) => group.includes(term))).length / heading.length;
    const recall = weights(asked) / weights(groups);
    return (2 * precision * recall) / (precision + recall);
  }

  function scoresOf(groups) {
    let total = passages.map(() => 0);
    for (const group of groups) {
      const fits = group.map((term) => index.scores([term]));
      total = total.map((before, place) => before + Math.max(...fits.map((column) => column[place])));
    }
    return total.map((score, place) => score * (1 + named * namedBy(groups, place)));
  }

  function fitsOf(groups, place) {
    const found = weights(groups.filter((group) => group.some((term) => sets[place].has(term))));
    return Math.max(found / weights(groups), namedBy(groups, place));
  }

  /** The sentences from the one on that shares most words with the question. */
  function excerptOf(groups, place) {
    const every = new Set(groups.flat()), sentences = passages[place].text.split(/(?<=[.!?:]) /);
    const [start] = bestFirst(sentences.map((one) => [...new Set(terms(one))].filter((term) => every.has(term)).length), 1);
    let text = sentences[start];
    for (const sentence of sentences.slice(start + 1)) {
      if ([...text].length + 1 + [...sentence].length > excerpt) break;
      text += ` ${sentence}`;
    }
    return text;
  }

  function rank(question, k = shown) {
    const groups = wanted(question), scores = scoresOf(groups);
    return bestFirst(scores, k).filter((place) => scores[place] > 0).map((place) => (
      { passage: passages[place], score: scores[place], fits: fitsOf(groups, place), excerpt: excerptOf(groups, place) }));
  }

  /** The best sections; none when not one of them fits the question well enough. */
  function ask(question, k = shown) {
    const found = rank(question, k);
    return found.some((hit) => hit.fits >= threshold) ? found : [];
  }
  return { ask, rank, terms };
}
