// The saved file: one script of all modules that parses, without markup that could end it, and without bodies.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";
import { bundle, cleaned, encode, file, MODULES } from "../save.js";

const folder = new URL("..", import.meta.url);
const read = (name) => readFileSync(new URL(name, folder), "utf8");

test("all modules are saved, each after those that it imports", () => {
  assert.deepEqual([...MODULES].sort(), readdirSync(folder).filter((name) => name.endsWith(".js")).sort());
  for (const name of MODULES) {
    for (const [, needed] of read(name).matchAll(/from "\.\/(.*)"/g)) {
      assert.ok(MODULES.indexOf(needed) < MODULES.indexOf(name), `${name} needs ${needed}`);
    }
  }
});

test("the modules become one script without two equal names", () => {
  const script = bundle(MODULES.map(read));
  // A function body allows the same declarations as a module does, but not two of one name.
  new vm.Script(`(function () { "use strict"; ${script} })`);
  assert.doesNotMatch(script, /<\/|<!--|^(import|export) /m);
});

test("an id from a stranger cannot end the recording's element", async () => {
  const id = '</script><img src=x onerror="alert(1)">';
  const page = await file(read("index.html"), "body{}", "1", { events: [cleaned({ kind: "hop", hop: 4, id, text: id })] });
  assert.equal(page.match(/<\/script>/g).length, 2);
  assert.doesNotMatch(page, /<img/);
  const data = /id="recording">(.*?)<\/script>/s.exec(page)[1];
  assert.equal(JSON.parse(data).events[0].id, id);
  assert.match(page, /default-src 'none'; script-src 'sha256-[^']*'; style-src 'sha256-[^']*'/);
});

test("a recording has no body and no field that is unknown", () => {
  const kept = cleaned({ kind: "hop", hop: 7, at: "x", token: "secret", text: "got a message", body: "{}" });
  assert.deepEqual(kept, { kind: "hop", hop: 7, at: "x", text: "got a message" });
  assert.equal(encode("<"), '"\\u003c"');
});
