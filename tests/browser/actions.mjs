// The buttons, with and without scripts, with the token typed into the form. A second window looks on: with scripts it
// shows by itself what has changed.

const PATIENCE_MS = 15_000;

const until = async (what, found) => {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s`);
    await new Promise((done) => setTimeout(done, 100));
  }
};

export const actions = async ({ base, json, token, contextOf, open, check, pictures }) => {
  const { resources } = await json("/index.json");
  const place = (id) => `/resources/${encodeURIComponent(id)}`;
  const quiet = (resource) => ["complete", "unread"].includes(resource.state);
  // What has no schedule runs only now, and quickly: the hardest to notice. What has one can be paused.
  const asked = resources.find((resource) => quiet(resource) && !resource.schedule) ?? resources.find(quiet);
  const timed = resources.find((resource) => quiet(resource) && resource.schedule);

  const press = async (page, id, name, text = token) => {
    await page.goto(base + place(id));
    await page.getByLabel("Token of [web]").fill(text);
    await page.getByRole("button", { name }).click();
  };
  const state = (page) => page.locator("dl > div", { has: page.getByText("State", { exact: true }) }).locator("dd");
  // Looks until something is to be seen: without scripts, by loading the page again.
  const see = async (page, scripts, locator) => {
    if (scripts) return locator.waitFor({ timeout: PATIENCE_MS });
    return until(String(locator), async () => {
      if (await locator.count()) return true;
      await page.reload();
      return false;
    });
  };

  const run = async (page, watch, scripts, picture) => {
    const newest = async () => (await json(`/runs.json?resource=${encodeURIComponent(asked.id)}`)).runs[0]?.run_id ?? 0;
    const before = await newest();
    await watch.goto(`${base}/runs`);
    if (scripts) await watch.evaluate(() => { window.isTheSame = true; });
    await press(page, asked.id, "Run now");
    await page.getByText("It runs as soon as there is room.").waitFor();
    const id = await until("a new run", async () => ((await newest()) > before ? newest() : 0));
    for (const window of [page, watch]) {
      const row = window.locator("tr", { has: window.locator(`a[href="/runs/${id}"]`) });
      await see(window, scripts, row.getByText("complete", { exact: true }));
    }
    await see(page, scripts, state(page).getByText("ok", { exact: true }));
    if (scripts && !(await watch.evaluate(() => window.isTheSame))) throw new Error("the page was loaded anew");
    if (picture) await page.screenshot({ path: `${pictures}/${picture}.png`, fullPage: true });
  };

  const pause = async (page, watch, scripts) => {
    const row = watch.locator("tr", { has: watch.locator(`a[href="${place(timed.id)}"]`) });
    await watch.goto(`${base}/`);
    await press(page, timed.id, "Pause");
    await page.getByText("It does not run by itself until it is resumed.").waitFor();
    await see(page, scripts, state(page).getByText("paused"));
    await see(watch, scripts, row.getByText("paused", { exact: true }));
    if (await page.getByRole("button", { name: "Pause" }).count()) throw new Error("what is paused can be paused");
    await press(page, timed.id, "Resume");
    await page.getByText("It runs at its times again.").waitFor();
    await see(watch, scripts, row.getByText("ok", { exact: true }));
    if (await page.getByRole("button", { name: "Resume" }).count()) throw new Error("what runs can be resumed");
  };

  const refused = async (page) => {
    await press(page, asked.id, "Run now", "not-the-token");
    await page.getByRole("heading", { level: 1, name: "Forbidden" }).waitFor();
    await page.getByText("That is not the [web] token.").waitFor();
    await page.screenshot({ path: `${pictures}/wrong-token.png`, fullPage: true });
    await page.getByRole("link", { name: "Overview" }).waitFor();
  };

  const tried = { "run now": run, "pause and resume": pause, "a wrong token": refused };
  for (const scripts of [true, false]) {
    for (const [name, act] of Object.entries(tried)) {
      const context = await contextOf({ javaScriptEnabled: scripts });
      const { page, problems } = await open(context, act === refused ? 403 : undefined);
      const { page: watch, problems: watched } = await open(context);
      try {
        await act(page, watch, scripts, scripts && "run-now");
      } catch (error) {
        problems.push(error.message.split("\n")[0]);
      }
      check(`${name}, scripts ${scripts ? "on" : "off"}`, [...problems, ...watched]);
      await context.close();
    }
  }
};
