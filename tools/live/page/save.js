// Save: the page, its modules and the recorded events as one HTML file that plays without a server.
//
// The modules are put one after another into one script, without their imports and exports. The file holds no token and
// no bodies, every `<` of the data is escaped, and its policy allows only this script and this style, by their hashes.

/** Modules in an order in which each comes after those that it needs. */
export const MODULES = ["dom", "state", "words", "layout", "player", "view", "detail", "actions", "api", "save", "main"]
  .map((name) => `${name}.js`);
/** Fields of events that a recording keeps; anything else stays here. */
const FIELDS = `seq at kind hop name task request id account queue attempt redelivered text outcome delayMs service slot
  process state pid image node error waiting role ready unacked consumers exchange gone up address changed step status
  ms level lost`.split(/\s+/);

/** Joins modules to one script. */
export function bundle(sources) {
  const joined = sources.map((source) => source.replace(/^import [^;]*;\n/gm, "").replace(/^export /gm, "")).join("\n");
  return joined.replaceAll("</", "<\\/").replaceAll("<!--", "<\\!--");
}

/** Returns an event without what a recording must not hold. */
export const cleaned = (event) =>
  Object.fromEntries(FIELDS.filter((name) => event[name] !== undefined).map((name) => [name, event[name]]));

/** Encodes data for a script element: no `<` is left that could end it. */
export const encode = (data) => JSON.stringify(data).replaceAll("<", "\\u003c");

/** Puts page, style, script and recording into one file. */
export async function file(page, style, script, recording) {
  const hashes = `script-src ${await hash(script)}; style-src ${await hash(style)}`;
  const policy = `default-src 'none'; ${hashes}; img-src data:; base-uri 'none'`;
  const data = `<script type="application/json" id="recording">${encode(recording)}</script>`;
  return page
    .replace('<link rel="stylesheet" href="style.css">', () => `<style>${style}</style>`)
    .replace('<script type="module" src="main.js"></script>', "")
    .replace("<head>", `<head>\n<meta http-equiv="Content-Security-Policy" content="${policy}">`)
    .replace("</body>", () => `${data}\n<script type="module">${script}</script>\n</body>`);
}

async function hash(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `'sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}'`;
}

/** Fetches the page's own files and offers the recording as a download. */
export async function save(events, { kind, brokerName, broker }) {
  const get = async (name) => (await fetch(`/${name}`)).text();
  const [page, style, ...sources] = await Promise.all(["", "style.css", ...MODULES].map(get));
  const savedAt = new Date().toISOString();
  const recording = { savedAt, system: { kind, brokerName, broker }, events: events.map(cleaned) };
  const content = await file(page, style, bundle(sources), recording);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/html" }));
  link.download = `hops-${savedAt.slice(0, 19).replaceAll(":", "")}.html`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
