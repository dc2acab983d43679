/** The page in the folder SITE, in a browser, if there is one. */

import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, test } from "vitest";
import { serve } from "./server.js";

const { SITE, SCREENSHOTS } = process.env;
const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
let server, profile, browser;
export let page;
export const { cases } = JSON.parse(readFileSync(join(SITE, "expected.json")));
export const faults = [];
export const elsewhere = [];
export const inBrowser = test.skipIf(!existsSync(BROWSER));

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

export async function type(text) {
  await page.fill("#text", text);
  await page.waitForFunction((typed) => document.getElementById("status").dataset.text === typed, text);
}

export async function screenshot(name) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
