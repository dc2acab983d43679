/**
 * Runs a folder that `attention-rnn export` has written, in a browser or in Node.
 *
 * The searches are those of OnnxRunner in Python, whose scores are in single precision, so that sums are rounded here.
 */

import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor, env } from "onnxruntime-web";

const FORMAT = "attention-rnn-onnx";
const FORMAT_VERSION = 2;
const GENERATION = ["text2text-generation", "text-generation"];
const CLASSIFICATION = "text-classification";
const LABELLING = "token-classification";
const TASKS = [...GENERATION, CLASSIFICATION, LABELLING];
const OPTIONS = ["numBeams", "numReturnSequences", "maxNewTokens", "minNewTokens", "lengthPenalty", "earlyStopping", "onText", "signal"];
const WORDS = /[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g; // what Python's \S knows
const MEMORY = ["keys", "values", "mask"];
const IMPOSSIBLE = -1e9; // added to the score of what must not be chosen

env.wasm.numThreads = 1; // more gain nothing on models of this size

/** The model in a folder of this address. */
export async function load(url) {
  const started = performance.now();
  const folder = String(url).replace(/\/?$/, "/");
  let size = 0;
  const read = async (name) => {
    const response = await fetch(folder + name);
    if (!response.ok) throw new Error(`${folder}${name} cannot be read: ${response.status} ${response.statusText}`);
    const content = await response.arrayBuffer();
    size += content.byteLength;
    return content;
  };
  const readJson = async (name) => {
    const text = new TextDecoder().decode(await read(name));
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Error(`${folder}${name} is damaged: ${error.message}`);
    }
  };
  const open = async (name) => {
    const content = await read(name);
    try {
      return await InferenceSession.create(new Uint8Array(content), { logSeverityLevel: 3 });
    } catch (error) {
      throw new Error(`${folder}${name} is damaged or no ONNX graph: ${error.message}`);
    }
  };
  const config = await readJson("config.json");
  check(config);
  const generates = GENERATION.includes(config.task);
  const [source, target, encoder, step, model] = await Promise.all([
    readJson("tokenizer.json"),
    config.has_target_tokenizer ? readJson("target_tokenizer.json") : null,
    config.task === "text2text-generation" ? open("encoder.onnx") : null,
    generates ? open("step.onnx") : null,
    generates ? null : open("model.onnx"),
  ]);
  const settings = { unk_token: config.unk_token }; // of word-level models the library reads it from here alone
  const tokenizer = new Tokenizer(source, settings);
  const loaded = { size, milliseconds: performance.now() - started };
  return new Runner(config, tokenizer, target ? new Tokenizer(target, settings) : tokenizer, { encoder, step, model }, loaded);
}

function check(config) {
  if (config?.format !== FORMAT) throw new Error(`config.json must be of the format ${FORMAT}, got ${config?.format}`);
  if (config.format_version > FORMAT_VERSION) {
    throw new Error(`config.json has the version ${config.format_version}, and this runner knows ${FORMAT_VERSION}`);
  }
  if (!TASKS.includes(config.task)) throw new Error(`The model must be for ${TASKS.join(" or ")}, got ${config.task}`);
  if (config.copy || (config.max_word_length && config.task !== LABELLING)) {
    throw new Error("This runner knows no models that copy unknown words, and of those that read characters of words only taggers");
  }
}

/** A lemma with its features behind a tab or a space, letter by letter: see onnx/spelling.py of the package. */
function readLemma(text) {
  const [, lemma, features] = text.trim().match(text.includes("\t") ? /^(.*)\t(.*)$/su : /^(.*) (.*)$/su) ?? [];
  if (!/^[A-Z0-9][\p{L}\p{N}_./+{}-]*(;[\p{L}\p{N}_./+{}()-]+)*$/u.test(features?.trim() ?? "")) {
    throw new TypeError(`This model needs a lemma and its features, such as "gehen V;PST", got "${text}"`);
  }
  const letters = Array.from(lemma.trim(), (letter) => (letter === " " ? "␣" : letter));
  return [...letters, ...features.trim().split(";").map((feature) => `[${feature}]`)].join(" ");
}

class Runner {
  #tokenizer;
  #target;
  #graphs;
  #ends;
  #last = Promise.resolve();

  constructor(config, tokenizer, target, graphs, loaded) {
    this.config = config;
    this.loaded = loaded;
    this.#tokenizer = tokenizer;
    this.#target = target;
    this.#graphs = graphs;
    this.#ends = new Set(config.special_tokens.eos);
  }

  /** What the model makes of a text, the best first. */
  generate(text, options = {}) {
    return this.#inTurn(GENERATION, text, () => this.#generate(text, options));
  }

  /** The labels of a text with their scores, the best first. */
  classify(text) {
    return this.#inTurn([CLASSIFICATION], text, () => this.#classify(text));
  }

  /** A label for each word between white space, and the intent of the text, where the model knows intents. */
  tag(text) {
    return this.#inTurn([LABELLING], text, () => this.#tag(text));
  }

  /** One call waits for the other: a graph runs once at a time. */
  #inTurn(tasks, text, run) {
    const result = this.#last.then(() => {
      const { task } = this.config;
      if (!tasks.includes(task)) throw new TypeError(`The model must be for ${tasks.join(" or ")}, got ${task}`);
      if (typeof text !== "string" || !text.trim()) throw new TypeError("The text must be a string that is not empty");
      return run();
    });
    this.#last = result.catch(() => {});
    return result;
  }

  #checkLength(ids) {
    const limit = this.config.max_source_length;
    if (!ids.length) throw new RangeError("The text must hold a token");
    if (limit !== null && ids.length > limit) throw new RangeError(`The text may have ${limit} tokens, got ${ids.length}`);
  }

  async #classify(text) {
    const { ids } = this.#tokenizer.encode(text);
    this.#checkLength(ids);
    const { logits } = await this.#graphs.model.run(inputsOf(ids));
    const problem = this.config.problem_type;
    let scores = Array.from(logits.data);
    const alone = problem === "multi_label_classification" || (problem === null && scores.length === 1); // as the pipelines
    if (alone) scores = scores.map((logit) => 1 / (1 + Math.exp(-logit)));
    else if (problem !== "regression") scores = softmax(scores);
    return top(scores.map((score, index) => ({ label: this.config.labels[index], score })), scores.length, ({ score }) => score);
  }

  async #tag(text) {
    const matches = Array.from(text.matchAll(WORDS));
    const words = matches.map(([word]) => word);
    const { ids, wordIds } = this.#encodeWords(words);
    this.#checkLength(ids);
    const inputs = inputsOf(ids);
    const longest = this.config.max_word_length;
    if (longest) inputs.character_ids = spell(wordIds.map((index) => words[index] ?? ""), longest);
    const outputs = await this.#graphs.model.run(inputs);
    const best = this.#labels(rowsOf(outputs.logits, outputs.logits.dims[1]), ids);
    const labelled = matches.map(({ 0: word, index: start }, index) => ({
      word,
      label: this.#wordLabel(best.filter((_, place) => wordIds[place] === index)),
      start,
      end: start + word.length,
    }));
    if (!this.config.intents) return { words: labelled, intent: null, score: null };
    const scores = softmax(Array.from(outputs.intent_logits.data));
    const intent = scores.indexOf(Math.max(...scores));
    return { words: labelled, intent: this.config.intents[intent], score: scores[intent] };
  }

  /** The tokens of words, the word of each, and around them what the tokenizer puts around a text. */
  #encodeWords(words) {
    const pieces = words.map((word) => this.#tokenizer.encode(word, { add_special_tokens: false }).ids);
    if (this.config.max_word_length && pieces.some(({ length }) => length > 1)) {
      throw new RangeError("This runner reads the characters of words that are one token alone");
    }
    const first = pieces.findIndex(({ length }) => length);
    if (first < 0) throw new RangeError("The text must hold a token");
    const around = this.#tokenizer.encode(words[first]).ids;
    const start = around.findIndex((_, place) => pieces[first].every((id, index) => around[place + index] === id));
    const [before, after] = [around.slice(0, start), around.slice(start + pieces[first].length)];
    return {
      ids: [...before, ...pieces.flat(), ...after],
      wordIds: [...before.map(() => null), ...pieces.flatMap((ids, word) => ids.map(() => word)), ...after.map(() => null)],
    };
  }

  /** The best label of each token: of a conditional random field those of the best chain. */
  #labels(emissions, ids) {
    const best = emissions.map((scores) => scores.indexOf(Math.max(...scores)));
    if (this.config.crf === null) return best;
    const { pad, bos, eos } = this.config.special_tokens;
    const special = new Set([pad, bos, ...eos]);
    const chain = [...ids.keys()].filter((place) => !special.has(ids[place]));
    const labels = viterbi(chain.map((place) => emissions[place]), ...this.config.crf);
    chain.forEach((place, index) => (best[place] = labels[index]));
    return best;
  }

  #wordLabel(pieces) {
    if (!pieces.length) return null; // the tokenizer has dropped the word
    const { labels, joined_labels: joined } = this.config; // joined: what two pieces make, if the second goes on with the first
    const [first, ...others] = pieces;
    let last = first;
    if (joined !== null) {
      for (const label of others) {
        if (joined[last][label] === null) break;
        last = label;
      }
    }
    return labels[last === first ? first : joined[first][last]];
  }

  async #generate(text, options) {
    const settings = this.#settings(options);
    const ids = this.#tokenizer.encode(this.config.spelt ? readLemma(text) : text).ids;
    this.#checkLength(ids);
    settings.signal?.throwIfAborted();
    const isCausal = this.config.task === "text-generation";
    const prompt = isCausal ? ids : [this.config.special_tokens.start];
    settings.maxNewTokens ??= this.config.max_length - prompt.length;
    if (settings.maxNewTokens < 1) {
      throw new RangeError(`The prompt may have ${this.config.max_length - 1} tokens, got ${prompt.length}: give maxNewTokens`);
    }
    const read = isCausal ? this.#decode(ids).length : 0; // what follows goes on from the prompt as it was given
    const decode = (tokens) => (isCausal ? text + this.#decode([...ids, ...tokens]).slice(read) : this.#decode(tokens));
    const decoding = new Decoding(this.#graphs.step, this.config, isCausal ? {} : await this.#graphs.encoder.run(inputsOf(ids)));
    const found =
      settings.numBeams === 1
        ? await this.#greedy(decoding, prompt, settings, decode)
        : await this.#beamSearch(decoding, prompt, settings);
    const sourceTokens = ids.map((id) => this.#tokenizer.id_to_token(id) ?? "");
    return found.slice(0, settings.numReturnSequences).map(({ tokens, score, attention }) => ({
      text: decode(tokens),
      score,
      tokenIds: tokens,
      targetTokens: tokens.map((id) => this.#target.id_to_token(id) ?? ""),
      sourceTokens,
      attention,
    }));
  }

  #settings(options) {
    const unknown = Object.keys(options).find((name) => !OPTIONS.includes(name));
    if (unknown !== undefined) throw new TypeError(`There is no option ${unknown}, only ${OPTIONS.join(", ")}`);
    const { generation } = this.config;
    const settings = {
      numBeams: options.numBeams ?? (options.onText ? 1 : generation.num_beams),
      numReturnSequences: options.numReturnSequences ?? (options.onText ? 1 : generation.num_return_sequences),
      maxNewTokens: options.maxNewTokens ?? generation.max_new_tokens,
      minNewTokens: options.minNewTokens ?? generation.min_new_tokens,
      lengthPenalty: options.lengthPenalty ?? generation.length_penalty,
      earlyStopping: options.earlyStopping ?? generation.early_stopping,
      onText: options.onText,
      signal: options.signal,
    };
    for (const [name, least] of [["numBeams", 1], ["numReturnSequences", 1], ["maxNewTokens", 1], ["minNewTokens", 0]]) {
      const value = settings[name];
      if (value !== null && !(Number.isInteger(value) && value >= least)) {
        throw new RangeError(`${name} must be a whole number of at least ${least}, got ${value}`);
      }
    }
    if (settings.numReturnSequences > settings.numBeams) {
      throw new RangeError(`numReturnSequences must be at most numBeams, ${settings.numBeams}`);
    }
    if (settings.onText && settings.numBeams > 1) throw new RangeError(`onText needs one beam, got ${settings.numBeams}`);
    if (!(Math.abs(settings.lengthPenalty) <= 10)) {
      throw new RangeError(`lengthPenalty must be from -10 to 10, got ${settings.lengthPenalty}`);
    }
    return settings;
  }

  #decode(tokens) {
    const text = this.#target.decode(tokens, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
    return this.config.spelt ? text.replaceAll(" ", "").replaceAll("␣", " ") : text;
  }

  /** The tokens that may come after those so far, of each row. */
  #choices(result, mayEnd) {
    return result.scores.map((scores, row) =>
      scores.map((score, place) => {
        const token = result.ids[row][place];
        return { token, score: mayEnd || !this.#ends.has(token) ? score : -Infinity };
      }),
    );
  }

  async #greedy(decoding, prompt, settings, decode) {
    const { maxNewTokens, minNewTokens, lengthPenalty, onText, signal } = settings;
    const tokens = [];
    const attention = [];
    let score = 0;
    let result = await decoding.readPrompt(prompt, 1 + this.#ends.size);
    for (;;) {
      const [choices] = this.#choices(result, tokens.length >= minNewTokens);
      const best = choices.reduce((one, other) => (other.score > one.score ? other : one));
      tokens.push(best.token);
      score = Math.fround(score + best.score);
      if (result.attention) attention.push(result.attention[0]);
      onText?.(decode(tokens));
      if (this.#ends.has(best.token) || tokens.length === maxNewTokens) break;
      result = await decoding.step([best.token], 1 + this.#ends.size);
      signal?.throwIfAborted();
    }
    return [{ tokens, score: score / tokens.length ** lengthPenalty, attention: result.attention ? attention : null }];
  }

  async #beamSearch(decoding, prompt, settings) {
    const { numBeams, maxNewTokens, minNewTokens, lengthPenalty, earlyStopping, signal } = settings;
    const candidates = numBeams * Math.max(2, 1 + this.#ends.size);
    const count = candidates + this.#ends.size;
    const first = await decoding.readPrompt(prompt, count);
    let result = Object.fromEntries(
      Object.entries(first).map(([name, rows]) => [name, rows && Array(numBeams).fill(rows[0])]),
    );
    decoding.repeat(numBeams);
    let running = Array.from({ length: numBeams }, (_, beam) => ({ tokens: [], attention: [], score: beam ? IMPOSSIBLE : 0 }));
    let finished = running.map((hypothesis) => ({ ...hypothesis, score: IMPOSSIBLE, isFinished: false }));
    let improvable = true;
    for (let length = 1; length <= maxNewTokens; length++) {
      const best = this.#choices(result, length > minNewTokens).flatMap((choices, beam) =>
        choices.map(({ token, score }) => ({ token, beam, total: Math.fround(score + running[beam].score) })),
      );
      const extended = top(best, candidates, ({ total }) => total).map(({ token, beam, total }, place) => {
        const stops = this.#ends.has(token) || length === maxNewTokens;
        const finishes = stops && place < numBeams;
        let reached = Math.fround(total / Math.fround(length ** lengthPenalty));
        if (!improvable || !finishes) reached = Math.fround(reached + IMPOSSIBLE);
        if (earlyStopping === true && finished.every(({ isFinished }) => isFinished)) reached = Math.fround(reached + IMPOSSIBLE);
        return {
          tokens: [...running[beam].tokens, token],
          attention: result.attention && [...running[beam].attention, result.attention[beam]],
          beam,
          stops,
          reached,
          isFinished: finishes,
          score: stops ? Math.fround(total + IMPOSSIBLE) : total,
        };
      });
      const ended = extended.map((hypothesis) => ({ ...hypothesis, score: hypothesis.reached }));
      finished = top([...finished, ...ended], numBeams, ({ score }) => score);
      running = top(extended, numBeams, ({ score }) => score);
      const hoped = earlyStopping === "never" && lengthPenalty > 0 ? maxNewTokens : length;
      const least = Math.min(...finished.map(({ score }) => score));
      const hope = Math.fround(running[0].score / Math.fround(hoped ** lengthPenalty));
      improvable &&= finished.some(({ isFinished }) => hope > (isFinished ? least : IMPOSSIBLE));
      const isEnough = earlyStopping === true && finished.every(({ isFinished }) => isFinished);
      if (!improvable || extended.every(({ stops }) => stops) || isEnough) break;
      decoding.select(running.map(({ beam }) => beam));
      result = await decoding.step(running.map(({ tokens }) => tokens.at(-1)), count);
      signal?.throwIfAborted();
    }
    return finished.map(({ tokens, score, attention }) => ({ tokens, score, attention }));
  }
}

/** What is looked at, and what is known before the next token of each row. */
class Decoding {
  #step;
  #vocabularySize;
  #memory;
  #states;
  #outputs;
  #repeatsMemory;

  constructor(step, config, encoded) {
    this.#step = step;
    this.#vocabularySize = config.vocab_size;
    this.#repeatsMemory = config.repeats_memory;
    this.#outputs = step.outputNames.filter((name) => name !== "log_probabilities"); // of all tokens
    const needed = new Set(step.inputNames);
    this.#memory = Object.fromEntries(MEMORY.filter((name) => name in encoded && needed.has(name)).map((name) => [name, encoded[name]]));
    this.#states = Object.fromEntries(
      Object.entries(config.states).map(([name, shape]) => [name, encoded[name] ?? zeros([1, ...shape])]),
    );
  }

  async readPrompt(prompt, count) {
    let result;
    for (const token of prompt) result = await this.step([token], count);
    return result;
  }

  /** The log probabilities and the ids of the best tokens of each row, and where it looked. */
  async step(tokens, count) {
    const k = Math.min(count, this.#vocabularySize);
    const inputs = { tokens: integers(tokens, [tokens.length]), k: integers([k], [1]), ...this.#memory, ...this.#states };
    const outputs = await this.#step.run(inputs, this.#outputs);
    for (const name of Object.keys(this.#states)) this.#states[name] = outputs[`${name}_next`];
    return {
      scores: rowsOf(outputs.top_scores),
      ids: rowsOf(outputs.top_ids).map((ids) => ids.map(Number)),
      attention: outputs.attention ? rowsOf(outputs.attention).map((row) => meanOfHeads(row, outputs.attention.dims[1])) : null,
    };
  }

  select(rows) {
    for (const [name, state] of Object.entries(this.#states)) this.#states[name] = takeRows(state, rows);
  }

  repeat(beams) {
    const rows = Array(beams).fill(0);
    this.select(rows);
    if (!this.#repeatsMemory) return;
    for (const [name, part] of Object.entries(this.#memory)) this.#memory[name] = takeRows(part, rows);
  }
}

function top(items, count, score) {
  return items.toSorted((one, other) => score(other) - score(one) || 0).slice(0, count); // a difference of infinities is none
}

function integers(values, dims) {
  return new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}

function inputsOf(ids) {
  return { input_ids: integers(ids, [1, ids.length]), attention_mask: integers(ids.map(() => 1), [1, ids.length]) };
}

/** The bytes of words and one more, 0 behind their end: of a long word its first and its last ones. */
function spell(words, longest) {
  const half = Math.floor(longest / 2);
  const rows = words.map((word) => {
    const bytes = Array.from(new TextEncoder().encode(word), (byte) => byte + 1);
    const kept = bytes.length > longest ? [...bytes.slice(0, half), ...bytes.slice(-half)] : bytes;
    return [...kept, ...Array(longest - kept.length).fill(0)];
  });
  return integers(rows.flat(), [1, words.length, longest]);
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / sum);
}

/** The best labels of a chain (Viterbi, 1967): see onnx/decoding.py of the package. */
function viterbi(emissions, start, transitions, end) {
  if (!emissions.length) return [];
  const argmax = (values) => values.indexOf(Math.max(...values));
  let best = start.map((score, label) => score + emissions[0][label]);
  const origins = emissions.slice(1).map((emission) => {
    const scores = emission.map((_, to) => best.map((score, from) => score + transitions[from][to]));
    best = scores.map((fromAll, to) => Math.max(...fromAll) + emission[to]);
    return scores.map(argmax);
  });
  const labels = [argmax(best.map((score, label) => score + end[label]))];
  for (const origin of origins.reverse()) labels.unshift(origin[labels[0]]);
  return labels;
}

function zeros(dims) {
  return new Tensor("float32", new Float32Array(dims.reduce((size, axis) => size * axis, 1)), dims);
}

function rowsOf({ data, dims }, count = dims[0]) {
  const width = data.length / count;
  return Array.from({ length: count }, (_, row) => Array.from(data.subarray(row * width, (row + 1) * width)));
}

function takeRows({ type, data, dims }, rows) {
  const width = data.length / dims[0];
  const taken = new data.constructor(rows.length * width);
  rows.forEach((row, place) => taken.set(data.subarray(row * width, (row + 1) * width), place * width));
  return new Tensor(type, taken, [rows.length, ...dims.slice(1)]);
}

function meanOfHeads(row, heads) {
  const width = row.length / heads;
  return Array.from({ length: width }, (_, place) => {
    let sum = 0;
    for (let head = 0; head < heads; head++) sum += row[head * width + place];
    return sum / heads;
  });
}
