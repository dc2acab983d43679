/** The page in the folder SITE, in a browser: what is typed becomes what Python finds. */

import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve } from "./server.js";

const { SITE, SCREENSHOTS } = process.env;
const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
const { cases } = JSON.parse(readFileSync(join(SITE, "expected.json")));
let server, profile, browser, page;
const faults = [];
const elsewhere = [];

beforeAll(async () => {
  if (!existsSync(BROWSER)) return;
  server = await serve(SITE);
  profile = await mkdtemp(join(tmpdir(), "page-"));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: BROWSER,
    args: [...FLAGS.split(" "), "--disable-component-update", "--disable-sync"],
    viewport: { width: 1000, height: 800 },
  });
  page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("request", (request) => request.url().startsWith(server.url) || elsewhere.push(request.url()));
  await page.goto(server.url);
  await page.waitForFunction(() => document.getElementById("status").textContent === "Ready.");
}, 60_000);

afterAll(async () => {
  await browser?.close();
  server?.close();
  if (profile) await rm(profile, { recursive: true });
});

const inBrowser = test.skipIf(!existsSync(BROWSER));

async function type(text) {
  await page.fill("#text", text);
  await page.waitForFunction((typed) => document.getElementById("status").dataset.text === typed, text);
}

inBrowser("each text becomes what Python makes of it", async () => {
  for (const { text, greedy, best } of cases) {
    await type(text);
    expect(await page.textContent("#output")).toBe(greedy.text);
    const rows = await page.locator("#attention tbody th").allTextContents();
    expect(rows).toEqual(greedy.target_tokens);
    expect(await page.locator("#attention thead th").allTextContents()).toEqual(greedy.source_tokens);
    const found = await page.locator("#best li").evaluateAll((items) => items.map((item) => item.firstChild.textContent));
    expect(found.filter(Boolean)).toEqual(best.filter(Boolean));
  }
  expect(faults).toEqual([]);
}, 120_000);

inBrowser("a row of the attention lights the source when it is pointed at", async () => {
  await type(cases[0].text);
  await page.hover("#attention tbody tr:first-child td:nth-of-type(1)");
  const lit = await page.locator("#attention thead th.lit").count();
  expect(lit).toBe(cases[0].greedy.source_tokens.length);
  const weight = await page.locator("#attention thead th").first().evaluate((head) => head.style.getPropertyValue("--weight"));
  expect(Number(weight)).toBeCloseTo(cases[0].greedy.attention[0][0], 3);
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "light.png") });
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
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "phone.png") });
});

inBrowser("nothing is fetched from elsewhere", () => {
  expect(elsewhere).toEqual([]);
});
