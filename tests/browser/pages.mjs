// Every page, light and dark, on a phone and on a desk, with and without scripts: nothing in the console, nothing asked
// of anybody else, nothing wider than the window, and whatever `inspect` looks for. Then its buttons. See `run`.
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { actions } from "./actions.mjs";
import { contrast, focus, overflow, semantics } from "./inspect.mjs";

const [base, pictures, ...only] = process.argv.slice(2);
const token = process.env.WEB_TOKEN;
const origin = new URL(base).origin;
const FLAGS = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];
const PHONE = { width: 390, height: 844 };
const DESK = { width: 1280, height: 800 };

let opened = 0;
let wrong = 0;
const check = (what, problems) => {
  opened += 1;
  wrong += problems.length;
  for (const problem of problems) console.log(`WRONG  ${what}: ${problem}`);
};

// A page that other machines reach is read with the token too.
const isOpen = (await fetch(`${base}/index.json`)).status === 401;
const headers = isOpen ? { authorization: `Bearer ${token}` } : {};
const json = async (path) => {
  const answer = await fetch(base + path, { headers });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
};

// One page of each kind and each state, found in what the API says.
const paths = async () => {
  const { resources } = await json("/index.json");
  const { runs } = await json("/runs.json");
  const found = new Set(["/", "/runs", "/errors", "/quarantine", "/config"]);
  const add = (path, of) => { if (of) found.add(path + encodeURIComponent(of)); };
  for (const state of new Set(resources.map((resource) => resource.state))) {
    add("/resources/", resources.find((resource) => resource.state === state)?.id);
  }
  const aside = resources.find((resource) => resource.quarantined > 0);
  add("/resources/", aside?.id);
  add("/quarantine?resource=", aside?.id);
  add("/resources/", resources.find((resource) => resource.pass?.total > 1)?.id);
  add("/tables/", resources.find((resource) => resource.table && resource.rows > 0)?.table);
  for (const outcome of new Set(runs.map((run) => run.outcome))) {
    add("/runs/", runs.find((run) => run.outcome === outcome)?.run_id);
  }
  return [...found];
};

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, headless: true, chromiumSandbox: false, args: FLAGS });
const contextOf = (options) => browser.newContext({ extraHTTPHeaders: headers, viewport: DESK, ...options });

// A window of a context, and what goes wrong in it; answers with the status `allowed` do not.
const open = async (context, allowed) => {
  const page = await context.newPage();
  const problems = [];
  page.setDefaultTimeout(10_000);
  page.on("console", (message) => {
    const isAllowed = allowed && message.text().includes(`status of ${allowed}`);
    if (["error", "warning"].includes(message.type()) && !isAllowed) problems.push(`the console says: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`a script failed: ${error.message}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) problems.push(`it asked for ${request.url()}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400 && response.status() !== allowed) problems.push(`${response.status()} for ${response.url()}`);
  });
  return { page, problems };
};

// Tab goes to everything in turn, forwards only, and shows where it is. With a token, to the buttons too.
const keyboard = async (page) => {
  const STOPS_MAX = 400;
  const wrong = [];
  const seen = [];
  for (let stop = 0; stop < STOPS_MAX; stop += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(focus);
    if (!at || at.nth <= (seen.at(-1)?.nth ?? 0)) break;
    seen.push(at);
    if (!at.isSeen) wrong.push(`${at.name} has the focus and is not to be seen`);
    if (!at.hasRing) wrong.push(`${at.name} has the focus and no ring`);
  }
  if (seen[0]?.text !== "Skip to content") wrong.push(`Tab goes to ${seen[0]?.name} first`);
  for (const text of await page.locator("button").allTextContents()) {
    if (!seen.some((stop) => stop.text === text)) wrong.push(`Tab does not reach "${text}"`);
  }
  const fields = await page.locator("input:not([aria-hidden])").count();
  if (seen.filter((stop) => stop.name.startsWith("input")).length !== fields) wrong.push("Tab does not reach the fields");
  return wrong;
};

const look = async (context, path, { colorScheme, width, javaScriptEnabled }) => {
  const { page, problems } = await open(context);
  const answer = await page.goto(base + path);
  if (answer.status() !== 200) problems.push(`status ${answer.status()}`);
  for (const inspect of [overflow, contrast, semantics]) problems.push(...(await page.evaluate(inspect)));
  if (javaScriptEnabled) {
    const name = path === "/" ? "overview" : path.slice(1).replace(/[^a-z0-9]+/gi, "-");
    await page.screenshot({ path: `${pictures}/${name}-${colorScheme}-${width}.png`, fullPage: true });
    if (name === "overview") await page.screenshot({ path: `${pictures}/${name}-${colorScheme}-${width}-window.png` });
    if (colorScheme === "light" && width === DESK.width) problems.push(...(await keyboard(page)));
  }
  check(`${path} ${colorScheme} ${width} px, scripts ${javaScriptEnabled ? "on" : "off"}`, problems);
  await page.close();
};

mkdirSync(pictures, { recursive: true });
const all = only.length ? only : await paths();
const lookAtAll = async (colorScheme, viewport) => {
  for (const javaScriptEnabled of [true, false]) {
    const context = await contextOf({ colorScheme, javaScriptEnabled, viewport });
    for (const path of all) await look(context, path, { colorScheme, javaScriptEnabled, width: viewport.width });
    await context.close();
  }
};
for (const viewport of [PHONE, DESK]) {
  await Promise.all(["light", "dark"].map((colorScheme) => lookAtAll(colorScheme, viewport)));
}

if (token && !only.length) await actions({ base, json, token, contextOf, open, check, pictures });
await browser.close();
console.log(`${opened} pages opened, ${wrong} things wrong; pictures are in ${pictures}`);
process.exit(wrong === 0 ? 0 : 1);
