// Waits until the daemon of `run` shows every state, or with `config`: that it does not use its configuration.
const [base, what] = process.argv.slice(2);
const PATIENCE_MS = 30_000;
const STATES = {
  "shop.orders": "complete", "helpdesk.notes": "failed", "helpdesk.sections": "failed", "warehouse.stock": "running",
  "wholesale.prices": "incomplete", "archive.audit": "paused", "archive.articles": "unread",
};

// What is not yet as it should be.
const missing = async () => {
  const shown = await (await fetch(`${base}/index.json`)).json();
  if (what === "config") return shown.config_error ? [] : ["the configuration"];
  const by = Object.fromEntries(shown.resources.map((resource) => [resource.id, resource]));
  const wrong = Object.entries(STATES).filter(([id, state]) => by[id]?.state !== state);
  const left = wrong.map(([id, state]) => `${id} is ${by[id]?.state}, not ${state}`);
  if (!by["warehouse.stock"].activity?.includes("waits until")) left.push("warehouse.stock does not wait");
  if (by["shop.orders"].quarantined === 0) left.push("nothing is set aside");
  return left;
};

if (!what) {
  const asked = await fetch(`${base}/resources/archive.audit/pause.json`, {
    method: "POST", headers: { authorization: `Bearer ${process.env.WEB_TOKEN}` },
  });
  if (!asked.ok) throw new Error(`pause: ${asked.status}`);
}
const end = Date.now() + PATIENCE_MS;
let left = await missing();
while (left.length > 0) {
  if (Date.now() > end) {
    console.log(left.join("\n"));
    process.exit(1);
  }
  await new Promise((done) => setTimeout(done, 100));
  left = await missing();
}
