/** What Python's runner has found, which tests/test_web.py leaves in the folder MODELS, is found here too. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { load } from "../runner.js";
import { serve } from "./server.js";

const { MODELS } = process.env;
const cases = JSON.parse(readFileSync(join(MODELS, "cases.json")));
let server;
beforeAll(async () => {
  server = await serve(MODELS);
});
afterAll(() => server.close());

const runners = new Map();
function open(model) {
  if (!runners.has(model)) runners.set(model, load(server.url + model));
  return runners.get(model);
}

test.each(cases)("$model with $options finds what Python finds", async ({ model, options, texts, expected }) => {
  const runner = await open(model);
  for (const [index, text] of texts.entries()) {
    const found = await runner.generate(text, options);
    expect(found.map((one) => one.tokenIds)).toEqual(expected[index].map((one) => one.token_ids));
    expect(found.map((one) => one.text)).toEqual(expected[index].map((one) => one.text));
    found.forEach((one, rank) => expect(one.score).toBeCloseTo(expected[index][rank].score, 4));
    if (!expected[index][0].attention) continue;
    found.forEach((one, rank) => {
      const { attention, source_tokens, target_tokens } = expected[index][rank];
      expect(one.sourceTokens).toEqual(source_tokens);
      expect(one.targetTokens).toEqual(target_tokens);
      expect(one.attention.map((row) => row.length)).toEqual(attention.map((row) => row.length));
      const expectedWeights = attention.flat();
      one.attention.flat().forEach((weight, place) => expect(weight).toBeCloseTo(expectedWeights[place], 4));
    });
  }
});

test("the text is told as it grows", async () => {
  const runner = await open(cases[0].model);
  const told = [];
  const [{ text, tokenIds }] = await runner.generate(cases[0].texts[0], { numBeams: 1, minNewTokens: 5, onText: (part) => told.push(part) });
  expect(told.at(-1)).toBe(text);
  expect(told.length).toBe(tokenIds.length);
});

test("what is told as it grows has one beam", async () => {
  const runner = await open(cases[0].model);
  const own = runner.config.generation;
  runner.config.generation = { ...own, num_beams: 3, num_return_sequences: 3 };
  const told = [];
  const found = await runner.generate(cases[0].texts[0], { onText: (part) => told.push(part) });
  runner.config.generation = own;
  expect(found.map(({ text }) => text)).toEqual([told.at(-1)]);
  await expect(runner.generate("a", { numBeams: 3, onText: () => {} })).rejects.toThrow("onText needs one beam, got 3");
});

test("an option that there is not is refused", async () => {
  const runner = await open(cases[0].model);
  await expect(runner.generate("a", { num_beams: 3 })).rejects.toThrow("There is no option num_beams");
});

test("calls at the same time wait for each other", async () => {
  const { model, texts, options } = cases[0];
  const runner = await open(model);
  const together = await Promise.all(texts.map((text) => runner.generate(text, options)));
  for (const [index, text] of texts.entries()) {
    expect((await runner.generate(text, options))[0].tokenIds).toEqual(together[index][0].tokenIds);
  }
});

test("a call that is not wanted any more ends, and the next one goes on", async () => {
  const { model, texts } = cases[0];
  const runner = await open(model);
  const controller = new AbortController();
  const call = runner.generate(texts[0], { signal: controller.signal, onText: () => controller.abort(), minNewTokens: 5 });
  await expect(call).rejects.toThrow("aborted");
  expect(await runner.generate(texts[0])).toHaveLength(1);
});

test.each(["classifier", "single label", "tagger", "tagger of words"])("the %s reads what Python reads", async (model) => {
  const runner = await open(model);
  for (const { text, expected } of JSON.parse(readFileSync(join(MODELS, model, "read.json")))) {
    if (runner.config.task === "text-classification") {
      const found = await runner.classify(text);
      expect(found.map(({ label }) => label)).toEqual(expected.map(({ label }) => label));
      found.forEach(({ score }, rank) => expect(score).toBeCloseTo(expected[rank].score, 4));
      continue;
    }
    const { words, intent, score } = await runner.tag(text);
    expect(words).toEqual(expected.words ?? expected);
    expect(intent).toBe(expected.intent ?? null);
    if (intent !== null) expect(score).toBeCloseTo(expected.score, 4);
  }
});

test("a model does what it is for", async () => {
  const runner = await open("classifier");
  await expect(runner.generate("abc")).rejects.toThrow("must be for text2text-generation or text-generation, got text-classification");
  await expect(runner.tag("abc")).rejects.toThrow("must be for token-classification, got text-classification");
  await expect(runner.classify(" ")).rejects.toThrow("must be a string that is not empty");
});

test.each([
  ["", {}, "must be a string that is not empty"],
  [3, {}, "must be a string that is not empty"],
  ["abc", { numBeams: 0 }, "numBeams must be a whole number of at least 1, got 0"],
  ["abc", { maxNewTokens: 1.5 }, "maxNewTokens must be a whole number"],
  ["abc", { numReturnSequences: 2 }, "numReturnSequences must be at most numBeams, 1"],
  ["abc", { lengthPenalty: 11 }, "lengthPenalty must be from -10 to 10"],
])("%s with %o is refused", async (text, options, message) => {
  const runner = await open(cases[0].model);
  await expect(runner.generate(text, options)).rejects.toThrow(message);
});

test.each([
  ["nothing", "config.json cannot be read: 404"],
  ["damaged", "step.onnx is damaged or no ONNX graph"],
  ["foreign", "must be of the format attention-rnn-onnx, got undefined"],
  ["newer", "has the version 99"],
  ["reader", "must be for text2text-generation or text-generation or text-classification or token-classification, got question"],
  ["copying", "knows no models that copy"],
])("the folder %s is refused", async (folder, message) => {
  await expect(load(server.url + folder)).rejects.toThrow(message);
});
