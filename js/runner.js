/**
 * Runs a folder that `attention-rnn export` has written, in a browser or in Node.
 *
 * The searches are those of OnnxRunner in Python, whose scores are in single precision, so that sums are rounded here.
 */

import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor, env } from "onnxruntime-web";

const FORMAT = "attention-rnn-onnx";
const FORMAT_VERSION = 2;
const TASKS = ["text2text-generation", "text-generation"];
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
  const [source, target, encoder, step] = await Promise.all([
    readJson("tokenizer.json"),
    config.has_target_tokenizer ? readJson("target_tokenizer.json") : null,
    config.task === "text-generation" ? null : open("encoder.onnx"),
    open("step.onnx"),
  ]);
  const settings = { unk_token: config.unk_token }; // of word-level models the library reads it from here alone
  const tokenizer = new Tokenizer(source, settings);
  return new Runner(config, tokenizer, target ? new Tokenizer(target, settings) : tokenizer, encoder, step, {
    size,
    milliseconds: performance.now() - started,
  });
}

function check(config) {
  if (config?.format !== FORMAT) throw new Error(`config.json must be of the format ${FORMAT}, got ${config?.format}`);
  if (config.format_version > FORMAT_VERSION) {
    throw new Error(`config.json has the version ${config.format_version}, and this runner knows ${FORMAT_VERSION}`);
  }
  if (!TASKS.includes(config.task)) throw new Error(`The model must be for ${TASKS.join(" or ")}, got ${config.task}`);
  if (config.copy || config.max_word_length) {
    throw new Error("This runner knows no models that copy unknown words or read the characters of words");
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
  #encoder;
  #step;
  #ends;
  #last = Promise.resolve();

  constructor(config, tokenizer, target, encoder, step, loaded) {
    this.config = config;
    this.loaded = loaded;
    this.#tokenizer = tokenizer;
    this.#target = target;
    this.#encoder = encoder;
    this.#step = step;
    this.#ends = new Set(config.special_tokens.eos);
  }

  /** What the model makes of a text, the best first. One call waits for the other. */
  generate(text, options = {}) {
    const result = this.#last.then(() => this.#generate(text, options));
    this.#last = result.catch(() => {});
    return result;
  }

  async #generate(text, options) {
    const settings = this.#settings(options);
    if (typeof text !== "string" || !text.trim()) throw new TypeError("The text must be a string that is not empty");
    const ids = this.#tokenizer.encode(this.config.spelt ? readLemma(text) : text).ids;
    const limit = this.config.max_source_length;
    if (!ids.length) throw new RangeError("The text must hold a token");
    if (limit !== null && ids.length > limit) throw new RangeError(`The text may have ${limit} tokens, got ${ids.length}`);
    settings.signal?.throwIfAborted();
    const isCausal = this.config.task === "text-generation";
    const prompt = isCausal ? ids : [this.config.special_tokens.start];
    settings.maxNewTokens ??= Math.max(1, this.config.max_length - prompt.length);
    const decoding = new Decoding(this.#step, this.config, isCausal ? {} : await this.#read(ids));
    const found =
      settings.numBeams === 1
        ? await this.#greedy(decoding, prompt, settings, (tokens) => this.#decode(isCausal ? ids : [], tokens))
        : await this.#beamSearch(decoding, prompt, settings);
    const sourceTokens = ids.map((id) => this.#tokenizer.id_to_token(id) ?? "");
    return found.slice(0, settings.numReturnSequences).map(({ tokens, score, attention }) => ({
      text: this.#decode(isCausal ? ids : [], tokens),
      score,
      tokenIds: tokens,
      targetTokens: tokens.map((id) => this.#target.id_to_token(id) ?? ""),
      sourceTokens,
      attention,
    }));
  }

  #settings(options) {
    const { generation } = this.config;
    const settings = {
      numBeams: options.numBeams ?? generation.num_beams,
      numReturnSequences: options.numReturnSequences ?? generation.num_return_sequences,
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
    if (!(Math.abs(settings.lengthPenalty) <= 10)) {
      throw new RangeError(`lengthPenalty must be from -10 to 10, got ${settings.lengthPenalty}`);
    }
    return settings;
  }

  #read(ids) {
    return this.#encoder.run({ input_ids: integers(ids, [1, ids.length]), attention_mask: integers(ids.map(() => 1), [1, ids.length]) });
  }

  #decode(prompt, tokens) {
    const text = this.#target.decode([...prompt, ...tokens], { skip_special_tokens: true, clean_up_tokenization_spaces: false });
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

function zeros(dims) {
  return new Tensor("float32", new Float32Array(dims.reduce((size, axis) => size * axis, 1)), dims);
}

function rowsOf({ data, dims }) {
  const width = data.length / dims[0];
  return Array.from({ length: dims[0] }, (_, row) => Array.from(data.subarray(row * width, (row + 1) * width)));
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
