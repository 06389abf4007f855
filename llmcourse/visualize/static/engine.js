/**
 * The course's GPT and BERT in plain JavaScript: the same numbers as in `llmcourse/`, with every intermediate kept.
 *
 * Letters: T positions, S keys, C width of the model, D width of a head, V vocabulary. All sums are kept in doubles, so that
 * their order, which is not torch's, does not show.
 */
const engine = (() => {
  const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));
  const add = (x, y) => x.map((v, i) => v + y[i]);

  /** erf by its series 2/√π e^(-x²) (x + 2x³/3 + 4x⁵/15 + …): all terms of one sign, so nothing cancels. */
  function erf(x) {
    if (Math.abs(x) > 5.93) return Math.sign(x); // equal to 1 in a double
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  const bends = {
    gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
    gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    relu: (x) => Math.max(x, 0),
    relu2: (x) => Math.max(x, 0) ** 2,
    swiglu: (x) => x / (1 + Math.exp(-x)), // of the gate
  };

  // Of settings that an older config does not name.
  const DEFAULTS = {
    kind: "GPT", n_vocab: 1, context: 128, d_model: 64, n_heads: 4, n_layers: 2, d_feed_forward: null, positions: "rotary",
    rotary_base: 1e4, dropout: 0, bias: true, tied: false, n_kv_heads: null, norm: "layer", norm_place: "pre", norm_eps: 1e-5,
    activation: "gelu", qk_norm: false, scaled_embedding: false, n_source: null, pad: null,
  };
  const CHOICES = {
    kind: ["GPT", "PreTrainingBert"], positions: ["rotary", "learned", "sinusoidal", "alibi", "none"], norm: ["layer", "rms"],
    norm_place: ["pre", "post"], activation: Object.keys(bends), n_source: [null],
  };

  // What the parts of a model are called in its file.
  const NAMES = {
    GPT: { embedding: "embedding", blocks: "blocks", norm: "norm", head: "head" },
    PreTrainingBert: { embedding: "bert.embedding", blocks: "bert.encoder.blocks", norm: "bert.encoder.norm", head: "masked_lm.decoder" },
  };

  /** The config, complete. What is not computed here is refused: a wrong number would look like a right one. */
  function checked(given) {
    const config = { ...DEFAULTS, ...given };
    for (const [name, value] of Object.entries(config)) {
      if (!(name in DEFAULTS) || !(CHOICES[name] ?? [value]).includes(value))
        throw new RangeError(`This page cannot compute a model with ${name} ${JSON.stringify(value)}.`);
    }
    return config;
  }

  /** A number of 16 bits: a sign, 5 bits of exponent, 10 of fraction; the smallest (exponent 0) have no leading 1. */
  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }

  /** Named arrays from a safetensors file of float16: 8 bytes of length, that much JSON, then the numbers. */
  function readTensors(buffer) {
    const view = new DataView(buffer), length = Number(view.getBigUint64(0, true)), tensors = {};
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
    delete header.__metadata__;
    for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(header)) {
      if (dtype !== "F16") throw new Error(`${name} is ${dtype}, and F16 is read here`);
      tensors[name] = Float32Array.from(times((to - from) / 2, (i) => fromHalf(view.getUint16(8 + length + from + 2 * i, true))));
    }
    return tensors;
  }

  /** A model from `config.json`, in base64 `model.safetensors`, and, where it reads text, `tokenizer.json`. */
  function load({ config: given, weights, tokenizer }) {
    const config = checked(given), bytes = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0));
    return { config, names: NAMES[config.kind], tensors: readTensors(bytes.buffer), table: positionTable(config), ...(tokenizer && engine.readTokenizer(tokenizer)) };
  }

  /** cos and sin of every position's angles, which torch computes in single precision. */
  function positionTable({ positions, context, d_model, n_heads, rotary_base }) {
    if (positions !== "rotary" && positions !== "sinusoidal") return null;
    const [base, width] = positions === "rotary" ? [rotary_base, d_model / n_heads] : [1e4, d_model];
    const angle = (t, i) => Math.fround(t * Math.fround(base ** Math.fround((-2 * i) / width)));
    return times(context, (t) => times(width / 2, (i) => [Math.cos(angle(t, i)), Math.sin(angle(t, i))]));
  }

  /** Variance 1 ("layer": and mean 0), then each number's own scale and shift. */
  function norm({ tensors, config }, name, x, kind = config.norm, small = config.norm_eps) {
    const mean = kind === "layer" ? x.reduce((a, b) => a + b) / x.length : 0;
    const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length;
    const scale = tensors[`${name}.weight`], shift = tensors[`${name}.bias`];
    return x.map((v, i) => ((v - mean) / Math.sqrt(variance + small)) * scale[i] + (shift ? shift[i] : 0));
  }

  /** A matrix, a row an output, times x; plus the bias where there is one. A tied head's matrix is the embedding. */
  function linear({ config, names, tensors }, name, x) {
    const matrix = config.tied && name === names.head ? `${names.embedding}.tokens` : name;
    const W = tensors[`${matrix}.weight`], bias = tensors[`${name}.bias`], C = x.length, y = new Float64Array(W.length / C);
    for (let i = 0, at = 0; i < y.length; i++) {
      let sum = bias ? bias[i] : 0;
      for (let j = 0; j < C; j++) sum += W[at++] * x[j];
      y[i] = sum;
    }
    return y;
  }

  /** Turn the pairs (i, i + D/2) of every head by the angles of this position. */
  function rotate(x, turns, D) {
    const y = x.slice();
    for (let at = 0; at < x.length; at += D) {
      turns.forEach(([cos, sin], i) => {
        const a = at + i, b = a + D / 2;
        y[a] = x[a] * cos - x[b] * sin;
        y[b] = x[b] * cos + x[a] * sin;
      });
    }
    return y;
  }

  /**
   * softmax(q·k / √D + bias) over the keys, for one head; 0 where the bias is -∞, also where all are.
   *
   * at, from: where the head's numbers begin in the query and in the keys.
   */
  function attend(query, keys, at, from, D, bias) {
    const scores = keys.map((key, s) => {
      if (bias(s) === -Infinity) return -Infinity;
      let dot = 0;
      for (let d = 0; d < D; d++) dot += query[at + d] * key[from + d];
      return dot / Math.sqrt(D) + bias(s);
    });
    const top = scores.reduce((a, b) => Math.max(a, b));
    if (top === -Infinity) return scores.fill(0);
    const powers = scores.map((score) => Math.exp(score - top)); // e^0 is the largest: no overflow
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / sum);
  }

  const newCache = ({ config }) => times(config.n_layers, () => ({ keys: [], values: [] }));

  /** What enters the first block: what a token is, where it stands, and in BERT in which sentence. */
  function embed(model, tokens, segments, start) {
    const { config: { d_model, positions, scaled_embedding }, names, tensors, table } = model;
    const pick = (name, row) => tensors[`${name}.weight`].subarray(row * d_model, (row + 1) * d_model);
    const scale = scaled_embedding ? Math.sqrt(d_model) : 1;
    return tokens.map((token, t) => {
      let x = Float64Array.from(pick(`${names.embedding}.tokens`, token), (v) => v * scale);
      if (positions === "learned") x = add(x, pick(`${names.embedding}.positions`, start + t));
      if (positions === "sinusoidal") x = add(x, table[start + t].flatMap(([cos, sin]) => [sin, cos]));
      return names.head === "head" ? x : norm(model, "bert.embedding_norm", add(x, pick("bert.segments", segments?.[t] ?? 0)));
    });
  }

  /** One position's feed-forward layer, with its gate where there is one. */
  function feedForward(model, name, x) {
    const bend = bends[model.config.activation], expanded = linear(model, `${name}.expand`, x);
    const gate = model.tensors[`${name}.gate.weight`] && linear(model, `${name}.gate`, x).map(bend);
    return linear(model, `${name}.contract`, gate ? expanded.map((v, i) => v * gate[i]) : expanded.map(bend));
  }

  /**
   * What an attention layer says at these positions, its weights, and what went into them.
   *
   * bias(head, t, s) is added to a score; -∞ hides the key.
   */
  function attentionLayer(model, layer, x, { keys, values }, bias, off) {
    const { config: { n_heads, n_kv_heads, d_model, positions, qk_norm }, table } = model;
    const D = d_model / n_heads, group = n_heads / (n_kv_heads ?? n_heads), start = keys.length, name = `${model.names.blocks}.${layer}.attention`;
    const project = (part) => x.map((row) => linear(model, `${name}.${part}`, row));
    const sized = (part, row) => Float64Array.from(times(row.length / D, (h) =>
      [...norm(model, `${name}.${part}_norm`, row.slice(h * D, (h + 1) * D), "rms", 2 ** -23)]).flat()); // the step of a float32
    const compared = (part) => project(part).map((row, t) => {
      const even = qk_norm ? sized(part, row) : row;
      return positions === "rotary" ? rotate(even, table[start + t], D) : even;
    });
    const queries = compared("query");
    keys.push(...compared("key"));
    values.push(...project("value"));

    const read = x.map(() => new Float64Array(d_model)), said = {}; // what the heads read, side by side
    const weights = times(n_heads, (head) => queries.map((query, t) => {
      const at = head * D, from = Math.floor(head / group) * D; // neighbours may share keys
      const row = attend(query, keys, at, from, D, (s) => bias(head, t, s));
      row.forEach((weight, s) => {
        if (weight) for (let d = 0; d < D; d++) read[t][at + d] += weight * values[s][from + d];
      });
      return Float64Array.from(row);
    }));
    for (let head = 0; head < n_heads; head++) {
      const silenced = `${layer}.${head}`, instead = off[silenced], from = head * D;
      if (!instead) continue;
      said[silenced] = instead === "mean" ? times(D, (d) => read.reduce((sum, row) => sum + row[from + d], 0) / read.length) : instead;
      for (const row of read) row.set(said[silenced], from);
    }
    return { out: read.map((row) => linear(model, `${name}.out`, row)), weights, said, parts: { queries, keys: [...keys], values: [...values], read } };
  }

  /** Logits for the word at each position, and two for whether the second sentence follows. */
  function bertHeads(model, last) {
    const bend = bends[model.config.activation];
    const logits = last.map((x) => linear(model, model.names.head, norm(model, "masked_lm.norm", linear(model, "masked_lm.dense", x).map(bend))));
    return { logits, follows: linear(model, "next_sentence.classify", linear(model, "bert.pooler", last[0]).map(Math.tanh)) };
  }

  /**
   * Logits for what follows each token (GPT) or stands there (BERT), and all that was computed on the way.
   *
   * tokens: the new ones; what came before is in the cache, which grows. BERT takes a text whole.
   * segments: for BERT, 0 in the first sentence and 1 in the second; all 0 when left out.
   * off: what silenced heads say instead, by "layer.head": D numbers, or "mean", the mean of what the head would have said
   *   over these tokens (as `recording.ablate_heads` does).
   * Gives logits [T][V], attention [layer][head][T][S], residual [layer][T][C] (what enters each layer, what leaves the last),
   * parts [layer] (queries, keys, values, what the heads read), last [T][C] (what the model's head reads), said (what silenced
   * heads say, to pass as `off` when the text goes on), and of BERT follows [2].
   */
  function forward(model, tokens, { cache = newCache(model), off = {}, segments } = {}) {
    const { config: { kind, n_heads, context, positions, norm_place, pad }, names, tensors } = model;
    const start = cache[0].keys.length, both = kind !== "GPT";
    if (both && start) throw new RangeError("BERT reads both ways: a text cannot go on");
    if (start + tokens.length > context) throw new RangeError(`${start + tokens.length} tokens, and the context holds ${context}`);
    let stream = embed(model, tokens, segments, start);
    const attention = [], residual = [stream], parts = [], said = {};

    /** GPT sees itself and the past, BERT all but padding; ALiBi fades with the distance, by each head's slope. */
    const bias = (head, t, s) => {
      const distance = start + t - s;
      if (both ? tokens[s] === pad : distance < 0) return -Infinity;
      return positions === "alibi" ? -(2 ** ((-8 * (head + 1)) / n_heads)) * Math.abs(distance) : 0;
    };
    /** Pre-norm: x + layer(norm(x)). Post-norm: norm(x + layer(x)). */
    const sublayer = (name, layer) => {
      const normal = (x) => norm(model, `${name}_norm`, x);
      const said = layer(norm_place === "pre" ? stream.map(normal) : stream), sum = stream.map((x, t) => add(x, said[t]));
      stream = norm_place === "pre" ? sum : sum.map(normal);
    };
    cache.forEach((past, layer) => {
      const block = `${names.blocks}.${layer}`;
      sublayer(`${block}.attention`, (x) => {
        const done = attentionLayer(model, layer, x, past, bias, off);
        attention.push(done.weights);
        parts.push(done.parts);
        Object.assign(said, done.said);
        return done.out;
      });
      if (tensors[`${block}.feed_forward.expand.weight`]) sublayer(`${block}.feed_forward`, (x) => x.map((row) => feedForward(model, `${block}.feed_forward`, row)));
      residual.push(stream);
    });
    const last = norm_place === "pre" ? stream.map((x) => norm(model, names.norm, x)) : stream;
    const heads = both ? bertHeads(model, last) : { logits: last.map((x) => linear(model, names.head, x)) };
    return { ...heads, attention, residual, parts, last, said };
  }

  return { load, forward, newCache, erf };
})();
