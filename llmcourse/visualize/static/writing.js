/** What the engine needs to read and write text: the course's byte-level BPE, and drawing token after token. */
Object.assign(engine, (() => {
  // Text and tokens: byte-level BPE. In these strings a character stands for a byte, as in `tokenizer.json`.

  // The \s of Python's module regex is the property White_Space; JavaScript's is another set.
  const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
  const toBytes = (text) => Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte));
  const toText = (spelled, options) => new TextDecoder("utf-8", { ignoreBOM: true, ...options }).decode(Uint8Array.from(spelled, (c) => c.charCodeAt(0)));

  /** The piece of each id: 256 bytes in GPT-2's order, then one a merge. The id of each piece; the rank of each merge. */
  function readTokenizer({ merges }) {
    const printable = (b) => (b > 0x20 && b < 0x7f) || (b > 0xa0 && b !== 0xad);
    const bytes = [...Array(256).keys()].sort((a, b) => printable(b) - printable(a) || a - b).map((b) => String.fromCharCode(b));
    const pieces = [...new Set([...bytes, ...merges.map(([left, right]) => left + right)])]; // two merges can spell one piece
    return { pieces, ids: new Map(pieces.map((piece, id) => [piece, id])), ranks: new Map(merges.map((pair, rank) => [JSON.stringify(pair), rank])) };
  }

  /** The ids of a text: in each word, the merge that was learnt first is made first. */
  function encode({ ids, ranks }, text) {
    return (text.match(WORDS) ?? []).flatMap((word) => {
      let symbols = toBytes(word);
      for (;;) {
        const rank = symbols.slice(1).map((right, i) => ranks.get(JSON.stringify([symbols[i], right])) ?? Infinity);
        const first = rank.reduce((a, b) => Math.min(a, b), Infinity);
        if (first === Infinity) return symbols.map((symbol) => ids.get(symbol));
        const merged = [];
        for (let i = 0; i < symbols.length; i++) merged.push(rank[i] === first ? symbols[i] + symbols[++i] : symbols[i]);
        symbols = merged;
      }
    });
  }

  /** The text of ids. Bytes that are no UTF-8, which a model can well write, become U+FFFD. */
  const decode = ({ pieces }, ids) => toText(ids.map((id) => pieces[id]).join(""));

  /** One token to show: bytes that are no character look like <0xE4>. */
  function piece({ pieces }, id) {
    try {
      return toText(pieces[id], { fatal: true });
    } catch {
      return [...pieces[id]].map((c) => `<0x${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}>`).join("");
    }
  }

  // Writing

  /** Numbers from 0 to 1, the same for the same seed, in Python too. */
  function mulberry32(seed) {
    let state = seed | 0;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  /** Walk along the vocabulary until the probabilities passed add up to more than `point`. */
  function draw(probabilities, point) {
    let passed = 0, last = 0;
    for (let id = 0; id < probabilities.length; id++) {
      if (probabilities[id] > 0) last = id;
      if ((passed += probabilities[id]) > point) return id;
    }
    return last; // the sum may end a rounding error below 1
  }

  /**
   * Token after token, each drawn from `distribution(logits)`. A full context goes on from its last half.
   *
   * Silenced heads keep saying what they said about the prompt, for a mean over one new token would be no silence.
   */
  function* write(model, prompt, seed, distribution, off = {}) {
    const random = mulberry32(seed), { context } = model.config;
    let tokens = prompt.slice(-context), fresh = tokens, cache = engine.newCache(model);
    for (;;) {
      if (cache[0].keys.length + fresh.length > context) [cache, fresh] = [engine.newCache(model), tokens.slice(-Math.max(1, context >> 1))];
      const { logits, said } = engine.forward(model, fresh, { cache, off });
      off = said;
      fresh = [draw(distribution(Array.from(logits.at(-1))), random())];
      tokens = [...tokens, ...fresh];
      yield fresh[0];
    }
  }

  return { readTokenizer, encode, decode, piece, mulberry32, write };
})());
