import { type Generated, type Runner, load } from "../runner.js";

const runner: Runner = await load(new URL("https://example.org/model/"));
const found: Generated[] = await runner.generate("text", { numBeams: 1, onText: (text: string) => text.length });
const best: string = found[0].text;
// @ts-expect-error
await runner.generate(3);
const label: string = (await runner.classify("text"))[0].label;
const { words, intent } = await runner.tag("text");
export default [best, label, words[0].label ?? intent];
