/** In the page of a model that classifies or tags, what is typed is read as Python reads it. */

import { expect } from "vitest";
import { cases, elsewhere, faults, inBrowser, page, screenshot, type } from "./browser.js";

inBrowser("each text is read as Python reads it", async () => {
  for (const { text, expected } of cases) {
    await type(text);
    if (expected[0].word) {
      const words = await page.locator("#output .word").evaluateAll((shown) =>
        shown.map((one) => [one.firstChild.textContent, one.querySelector("small")?.textContent ?? "O"]),
      );
      expect(words).toEqual(expected.map(({ word, label }) => [word, label]));
    } else {
      expect(await page.textContent("#output")).toBe(expected[0].label);
      const found = await page.locator("#best li").evaluateAll((items) => items.map((item) => item.firstChild.textContent));
      expect(found).toEqual(expected.map(({ label }) => label));
    }
  }
  expect(await page.locator("#beams").isVisible()).toBe(false);
  await screenshot("reading");
  expect([faults, elsewhere]).toEqual([[], []]);
}, 60_000);
