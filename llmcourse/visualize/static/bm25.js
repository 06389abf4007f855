/** The words of a text in lower case, without signs: `retrieval.words_of`. */
const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];

/** The places of the k highest scores, the highest first; of equal ones the first comes first: `retrieval.best_first`. */
const bestFirst = (scores, k = scores.length) => scores.map((_, place) => place).sort((a, b) => scores[b] - scores[a] || a - b).slice(0, k);

/** What `retrieval.BM25` computes, in the same order of operations; `texts` are lists of words. */
function bm25(texts, { k1 = 1.5, b = 0.75 } = {}) {
  const postings = new Map(), mean = texts.reduce((sum, text) => sum + text.length, 0) / texts.length;
  texts.forEach((text, place) => {
    const counts = new Map();
    for (const word of text) counts.set(word, (counts.get(word) ?? 0) + 1);
    for (const [word, count] of counts) postings.set(word, [...(postings.get(word) ?? []), [place, count]]);
  });
  const idf = (word) => {
    const n = postings.get(word)?.length ?? 0;
    return n ? Math.log(1 + (texts.length - n + 0.5) / (n + 0.5)) : 0;
  };
  const scores = (question) => {
    const found = texts.map(() => 0);
    for (const word of question) {
      const tells = idf(word);
      for (const [place, count] of postings.get(word) ?? []) {
        const damped = k1 * (1 - b + (b * texts[place].length) / mean);
        found[place] += (tells * count * (k1 + 1)) / (count + damped);
      }
    }
    return found;
  };
  return { idf, scores };
}
