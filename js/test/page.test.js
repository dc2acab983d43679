/** In a page, what is typed becomes what Python finds. */

import { expect } from "vitest";
import { cases, elsewhere, faults, inBrowser, page, screenshot, type } from "./browser.js";

inBrowser("each text becomes what Python makes of it", async () => {
  for (const { text, first, best } of cases) {
    await type(text);
    expect(await page.textContent("#output")).toBe(first.text);
    const rows = await page.locator("#attention tbody th").allTextContents();
    expect(rows).toEqual(first.target_tokens);
    expect(await page.locator("#attention thead th").allTextContents()).toEqual(first.source_tokens);
    const found = await page.locator("#best li").evaluateAll((items) => items.map((item) => item.firstChild.textContent));
    expect(found.filter(Boolean)).toEqual([...new Set(best)].filter(Boolean)); // each text once
  }
  expect(faults).toEqual([]);
}, 120_000);

inBrowser("a row of the attention lights the source when it is pointed at", async () => {
  await type(cases[0].text);
  await page.hover("#attention tbody tr:first-child td:nth-of-type(1)");
  const lit = await page.locator("#attention thead th.lit").count();
  expect(lit).toBe(cases[0].first.source_tokens.length);
  const weight = await page.locator("#attention thead th").first().evaluate((head) => head.style.getPropertyValue("--weight"));
  expect(Number(weight)).toBeCloseTo(cases[0].first.attention[0][0], 3);
  await screenshot("light");
});

inBrowser("an empty text leaves an empty page, and no fault", async () => {
  await page.fill("#text", " ");
  await page.waitForFunction(() => document.getElementById("output").textContent === "");
  expect(await page.textContent("#fault")).toBe("");
});

inBrowser("it is as wide as a phone, and dark where that is wished", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  await page.emulateMedia({ colorScheme: "dark" });
  await type(cases[0].text);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
  const [red] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
  expect(red).toBeLessThan(60);
  await screenshot("phone");
});

inBrowser("nothing is fetched from elsewhere", () => {
  expect(elsewhere).toEqual([]);
});
