// Every page, light and dark, on a phone and on a desk, with and without scripts: nothing in the console, nothing asked
// of anybody else, nothing wider than the window. See `run`.
import { chromium } from "playwright-core";

const [base, pictures] = process.argv.slice(2);
const token = process.env.WEB_TOKEN;
const origin = new URL(base).origin;
const headers = token ? { authorization: `Bearer ${token}` } : {};
const FLAGS = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

let wrong = 0;
const check = (what, problems) => {
  if (problems.length === 0) return;
  wrong += problems.length;
  for (const problem of problems) console.log(`WRONG  ${what}: ${problem}`);
};

const json = async (path) => {
  const answer = await fetch(base + path, { headers });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
};

// One page of each kind, found in what the API says.
const paths = async () => {
  const { resources } = await json("/index.json");
  const { runs } = await json("/runs.json");
  const found = ["/", "/runs", "/errors", "/quarantine", "/config"];
  const aside = resources.find((resource) => resource.quarantined > 0) ?? resources[0];
  if (aside) found.push(`/resources/${encodeURIComponent(aside.id)}`);
  const stored = resources.find((resource) => resource.table && resource.rows > 0);
  if (stored) found.push(`/tables/${encodeURIComponent(stored.table)}`);
  const full = runs.find((run) => run.pages > 0);
  if (full) found.push(`/runs/${full.run_id}`);
  const failed = runs.find((run) => run.outcome === "failed");
  if (failed) found.push(`/runs/${failed.run_id}`);
  return found;
};

// What is wider than the window without a box of its own around it to scroll in.
const overflow = () => {
  const width = document.documentElement.clientWidth;
  return document.documentElement.scrollWidth > width ? [`${document.documentElement.scrollWidth} px in ${width} px`] : [];
};

// The texts that do not stand out from what is behind them (WCAG 2.2, 1.4.3).
const contrast = () => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const poor = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("noscript, .away")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(`"${texts.currentNode.data.trim().slice(0, 30)}" has a contrast of ${ratio.toFixed(2)}`);
  }
  return [...poor];
};

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, headless: true, chromiumSandbox: false, args: FLAGS });
const open = async (options) => {
  const context = await browser.newContext({ extraHTTPHeaders: headers, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`the console says: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`a script failed: ${error.message}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) problems.push(`it asked for ${request.url()}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) problems.push(`${response.status()} for ${response.url()}`);
  });
  return { context, page, problems };
};

let opened = 0;
for (const path of await paths()) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [390, 1280]) {
      for (const javaScriptEnabled of [true, false]) {
        const what = `${path} ${colorScheme} ${width} px, scripts ${javaScriptEnabled ? "on" : "off"}`;
        const { context, page, problems } = await open({ colorScheme, javaScriptEnabled, viewport: { width, height: 800 } });
        const answer = await page.goto(base + path);
        if (answer.status() !== 200) problems.push(`status ${answer.status()}`);
        problems.push(...(await page.evaluate(overflow)), ...(await page.evaluate(contrast)));
        if (javaScriptEnabled) {
          const name = path === "/" ? "overview" : path.slice(1).replace(/[^a-z0-9]+/gi, "-");
          await page.screenshot({ path: `${pictures}/${name}-${colorScheme}-${width}.png`, fullPage: true });
        }
        check(what, problems);
        await context.close();
        opened += 1;
      }
    }
  }
}

// With a token: "Run now" leads back to the resource, and says so; the page then shows the run by itself.
if (token) {
  for (const javaScriptEnabled of [true, false]) {
    const { context, page, problems } = await open({ javaScriptEnabled, viewport: { width: 1280, height: 800 } });
    const { resources } = await json("/index.json");
    await page.goto(`${base}/resources/${encodeURIComponent(resources[0].id)}`);
    await page.getByLabel("Token of [web]").fill(token);
    await page.getByRole("button", { name: "Run now" }).click();
    await page.getByText("It runs as soon as there is room.").waitFor({ timeout: 10_000 });
    const before = (await json("/runs.json")).runs[0]?.run_id ?? 0;
    if (javaScriptEnabled) await page.screenshot({ path: `${pictures}/run-now.png`, fullPage: true });
    check(`run now, scripts ${javaScriptEnabled ? "on" : "off"}, run ${before}`, problems);
    await context.close();
    opened += 1;
  }
}

await browser.close();
console.log(`${opened} pages opened, ${wrong} things wrong; pictures are in ${pictures}`);
process.exit(wrong === 0 ? 0 : 1);
