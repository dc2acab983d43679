/** The page: what is typed goes through the model at once, in this browser. A text may stand behind # of the address. */

import { load } from "./runner.js";

const [text, beams, output, fault, status, best, attention] = [
  "text", "beams", "output", "fault", "status", "best", "attention",
].map((id) => document.getElementById(id));
let call = new AbortController();

function element(name, content, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...[content].flat());
  return made;
}

function showBest(found) {
  const isFirst = ({ text }, place) => found.findIndex((other) => other.text === text) === place; // of one text
  best.replaceChildren(
    ...found.filter(isFirst).map(({ text, score }) => element("li", [text, element("span", score.toFixed(3), { title: "score" })])),
  );
}

function showAttention({ attention: weights, sourceTokens, targetTokens }) {
  attention.replaceChildren();
  if (!weights) return;
  const columns = sourceTokens.map((token) => element("th", token, { scope: "col" }));
  const rows = weights.map((row, index) => {
    const cells = row.map((weight) => {
      const cell = element("td", "", { title: weight.toFixed(3) });
      cell.style.setProperty("--weight", weight);
      return cell;
    });
    const head = element("th", targetTokens[index], { scope: "row" });
    const made = element("tr", [head, ...cells]);
    const light = (isLit) => {
      head.classList.toggle("lit", isLit);
      columns.forEach((column, place) => {
        column.classList.toggle("lit", isLit);
        column.style.setProperty("--weight", row[place]);
      });
    };
    made.onpointerenter = () => light(true);
    made.onpointerleave = () => light(false);
    return made;
  });
  attention.append(element("thead", element("tr", [element("td", ""), ...columns])), element("tbody", rows));
}

function clear() {
  output.replaceChildren();
  fault.textContent = "";
  best.replaceChildren();
  attention.replaceChildren();
}

/** What is shown of a text for each kind of task, and what has been counted of it. */
const SHOWN = {
  async generate(runner, signal) {
    const started = performance.now();
    const [greedy] = await runner.generate(text.value, {
      numBeams: 1,
      numReturnSequences: 1,
      signal,
      onText: (part) => (output.textContent = part),
    });
    const spent = performance.now() - started;
    const count = Math.min(10, Math.max(1, Math.trunc(beams.value) || 1));
    showAttention(greedy);
    if (count > 1) {
      const found = await runner.generate(text.value, { numBeams: count, numReturnSequences: count, signal });
      output.textContent = found[0].text;
      showAttention(found[0]);
      showBest(found);
    } else showBest([greedy]);
    return [spent, `${greedy.tokenIds.length} tokens`];
  },

  async classify(runner) {
    const started = performance.now();
    const labels = await runner.classify(text.value);
    output.textContent = labels[0].label;
    showBest(labels.slice(0, 10).map(({ label, score }) => ({ text: label, score })));
    return [performance.now() - started, `${labels.length} labels`];
  },

  async tag(runner) {
    const started = performance.now();
    const { words, intent, score } = await runner.tag(text.value);
    const labels = runner.config.labels.map((label) => label.replace(/^[BI]-/, ""));
    const kinds = [...new Set(labels)].filter((label) => label !== "O");
    output.replaceChildren(
      ...words.flatMap(({ word, label }) => {
        const kind = kinds.indexOf(label?.replace(/^[BI]-/, ""));
        const shown = element("span", kind < 0 ? word : [word, element("small", label)], { className: "word" });
        if (kind >= 0) shown.style.setProperty("--hue", Math.round((360 * kind) / kinds.length));
        return [shown, " "];
      }),
    );
    showBest(intent === null ? [] : [{ text: intent, score }]);
    return [performance.now() - started, `${words.length} words`];
  },
};
const METHODS = { "text-classification": "classify", "token-classification": "tag" };

async function show(runner) {
  call.abort();
  call = new AbortController();
  const { signal } = call;
  if (!text.value.trim()) {
    clear();
    return;
  }
  const typed = text.value;
  try {
    const [spent, counted] = await SHOWN[METHODS[runner.config.task] ?? "generate"](runner, signal);
    if (signal.aborted) return;
    fault.textContent = "";
    const { size, milliseconds } = runner.loaded;
    status.textContent =
      `${spent.toFixed(1)} ms for ${counted}, in this browser. ` +
      `The model has ${(size / 1e6).toFixed(2)} MB and was there after ${milliseconds.toFixed(0)} ms.`;
    status.dataset.text = typed; // what is shown is of this text
  } catch (error) {
    if (signal.aborted) return;
    clear();
    fault.textContent = error.message;
  }
}

function textOfAddress() {
  const written = location.hash.slice(1);
  try {
    return decodeURIComponent(written);
  } catch {
    return written; // a % that nobody has encoded
  }
}

try {
  const runner = await load(new URL("model/", document.baseURI));
  const refresh = () => show(runner);
  document.getElementById("beamed").hidden = runner.config.task in METHODS;
  text.oninput = beams.oninput = refresh;
  text.value ||= textOfAddress();
  status.textContent = "Ready.";
  refresh();
} catch (error) {
  status.textContent = "";
  fault.textContent = error.message;
}
