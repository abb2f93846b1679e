// Save: the page, its modules and the recorded events as one HTML file that plays without a server.
//
// The modules are put one after another into one script, without their imports and exports. The file holds no token and
// no bodies, every `<` of the data is escaped, and its policy allows only this script and this style, by their hashes.

import { withoutBody } from "./words.js";

/** Modules in an order in which each comes after those that it needs. */
export const MODULES = ["dom.js", "state.js", "words.js", "layout.js", "player.js", "view.js", "detail.js", "actions.js", "api.js", "save.js", "main.js"];
/** Fields of events that a recording keeps; anything else stays here. */
const FIELDS = ["seq", "at", "kind", "hop", "name", "task", "request", "trace", "id", "account", "queue", "attempt", "redelivered", "text", "outcome", "delayMs", "service", "slot", "process", "state", "pid", "image", "node", "error",
  "waiting", "role", "type", "ready", "unacked", "consumers", "exchange", "gone", "up", "address", "changed", "step", "status", "ms", "level", "skipped", "lost"];

/** Joins modules to one script. */
export function bundle(sources) {
  return sources
    .map((source) => source.replace(/^import [^;]*;\n/gm, "").replace(/^export \{[^}]*\};\n/gm, "").replace(/^export /gm, ""))
    .join("\n")
    .replaceAll("</", "<\\/")
    .replaceAll("<!--", "<\\!--");
}

/** Returns an event without what a recording must not hold, such as the body that hop 7 logs. */
export function cleaned(event) {
  const kept = Object.fromEntries(FIELDS.filter((name) => event[name] !== undefined).map((name) => [name, event[name]]));
  if (kept.text) kept.text = withoutBody(kept.text);
  return kept;
}

/** Encodes data for a script element: no `<` is left that could end it. */
export const encode = (data) => JSON.stringify(data).replaceAll("<", "\\u003c");

/** Puts page, style, script and recording into one file. */
export async function file(page, style, script, recording) {
  const policy = `default-src 'none'; script-src ${await hash(script)}; style-src ${await hash(style)}; img-src data:; base-uri 'none'`;
  const put = { policy: `<meta http-equiv="Content-Security-Policy" content="${policy}">`, style: `<style>${style}</style>`, data: `<script type="application/json" id="recording">${encode(recording)}</script>`, script: `<script type="module">${script}</script>` };
  return page
    .replace('<link rel="stylesheet" href="style.css">', () => put.style)
    .replace('<script type="module" src="main.js"></script>', "")
    .replace('<meta charset="utf-8">', (meta) => `${meta}\n${put.policy}`)
    .replace("</body>", () => `${put.data}\n${put.script}\n</body>`);
}

async function hash(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `'sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}'`;
}

/** Fetches the page's own files and returns the recording as HTML. */
export async function saved(events, system) {
  const get = async (name) => (await fetch(`/${name}`)).text();
  const [page, style, ...sources] = await Promise.all(["", "style.css", ...MODULES].map(get));
  const { kind, brokerName, broker } = system;
  return file(page, style, bundle(sources), { savedAt: new Date().toISOString(), system: { kind, brokerName, broker }, events: events.map(cleaned) });
}

/** Offers a text as a download. */
export function download(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/html" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
