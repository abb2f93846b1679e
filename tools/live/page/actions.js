// What one can do: buttons, each beside the command that does the same, ready to copy.
//
// The server says which actions apply and why others do not, and sends the commands as templates; the values that are
// typed here are filled in, quoted for a shell.

import { byId, html } from "./dom.js";
import { command } from "./words.js";

/** Groups of actions: their inputs, then their buttons with the body that each one sends. */
const GROUPS = [
  {
    title: "Read an account",
    inputs: [{ name: "account", label: "Account", value: "10000" }, { name: "perSecond", label: "Rate, reads/s", value: "5", type: "number", min: 0, max: 50 }],
    buttons: [
      { action: "read", label: "Read", body: (v) => ({ account: v.account, count: 1 }), main: true },
      { action: "read", id: "read-ten", label: "Read ten times", body: (v) => ({ account: v.account, count: 10 }) },
      { action: "rate", label: "Read steadily", body: (v) => ({ account: v.account, perSecond: Number(v.perSecond) }) },
      { action: "rate", id: "rate-stop", label: "Stop reading", body: (v) => ({ account: v.account, perSecond: 0 }) },
    ],
  },
  {
    title: "Replicas",
    inputs: [
      { name: "service", label: "Service", options: (state) => unique([...state.tasks.values()].map((each) => each.service), ["vipservice", "accountservice"]), value: "vipservice" },
      { name: "replicas", label: "Replicas", value: "3", type: "number", min: 0, max: 20 },
      { name: "task", label: "Replica", options: (state) => [...state.tasks.keys()], value: "vipservice.1" },
    ],
    buttons: [
      { action: "scale", label: "Scale", body: (v) => ({ service: v.service, replicas: Number(v.replicas) }) },
      { action: "kill", label: "Kill -9", body: (v) => ({ task: v.task }), danger: true },
      { action: "pause", label: "Freeze", body: (v) => ({ task: v.task }) },
      { action: "unpause", label: "Thaw", body: (v) => ({ task: v.task }) },
    ],
  },
  {
    title: "Broker and messages",
    inputs: [],
    buttons: [
      { action: "restart-broker", label: "Restart broker", body: () => ({}), danger: true },
      { action: "cut", label: "Cut connections", body: () => ({}), danger: true },
      { action: "poison", label: "Send poison", body: () => ({}) },
      { action: "redrive", label: "Redrive", body: () => ({}) },
    ],
  },
  {
    title: "Settings",
    inputs: [{ name: "text", label: "Text of the offers", value: "Two nights by the sea" }],
    buttons: [{ action: "offer-text", label: "Change the text", body: (v) => ({ text: v.text }) }],
  },
];

const unique = (names, first) => [...new Set([...first, ...names])];

export class Actions {
  constructor(run) {
    this.run = run;
    this.system = {};
    this.values = {};
    this.selects = [];
    this.rows = [];
    this.result = html("p", { id: "result", role: "status" });
    byId("actions").append(html("div", { class: "bar" }, html("h2", {}, "Try it"), this.result), html("div", { class: "groups" }, ...GROUPS.map((each) => this.group(each))));
  }

  group({ title, inputs, buttons }) {
    return html("fieldset", {}, html("legend", {}, title),
      inputs.length > 0 && html("div", { class: "inputs" }, ...inputs.map((each) => this.input(each))),
      ...buttons.map((each) => this.row(each)));
  }

  input({ name, label, value, options, ...more }) {
    const changed = (event) => this.set(name, event.target.value);
    this.values[name] = value;
    const field = options ? html("select", { name, onchange: changed }) : html("input", { name, value, autocomplete: "off", spellcheck: "false", oninput: changed, ...more });
    if (options) this.selects.push({ name, field, options });
    return html("label", {}, html("span", {}, label), field);
  }

  row({ action, id, label, body, main, danger }) {
    const code = html("code");
    const why = html("p", { class: "why", id: `why-${id ?? action}`, hidden: true });
    const button = html("button", { type: "button", "data-action": id ?? action, id: id ?? `do-${action}`, class: main ? "main" : danger ? "danger" : "" }, label);
    const copy = html("button", { type: "button", class: "copy", title: "Copy the command", "aria-label": `Copy the command of ${label}` });
    button.addEventListener("click", () => this.click(button, action, body(this.values)));
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent).then(() => this.say("copied: ", code.textContent), () => getSelection().selectAllChildren(code));
    });
    this.rows.push({ action, body, button, code, copy, why });
    return html("div", { class: "action" }, button, html("div", { class: "command" }, code, copy), why);
  }

  async click(button, action, body) {
    button.classList.add("busy");
    try {
      const answer = await this.run(action, body);
      this.say(answer.text ?? "done");
    } catch (error) {
      this.say(`${action}: ${error.message}`, "", true);
    } finally {
      button.classList.remove("busy");
    }
  }

  say(text, code = "", bad = false) {
    this.result.classList.toggle("bad", bad);
    this.result.replaceChildren(text, code && html("code", {}, code));
  }

  set(name, value) {
    this.values[name] = value;
    this.commands();
  }

  /** Chooses a task in the lists, as a click on its box does. */
  choose(task, service) {
    for (const { name, field } of this.selects) {
      const value = name === "task" ? task : service;
      if ([...field.options].some((each) => each.value === value)) field.value = this.values[name] = value;
    }
    this.commands();
  }

  /** Shows which actions apply in this system, and with which commands. */
  setSystem(system) {
    this.system = system;
    for (const { action, button, why } of this.rows) {
      const rule = system.readOnly ? { enabled: false, why: "this page was started with --read-only" } : system.actions?.[action] ?? { enabled: false, why: "this system does not offer it" };
      button.disabled = !rule.enabled;
      why.hidden = rule.enabled;
      why.textContent = rule.enabled ? "" : rule.why ?? "";
      if (rule.enabled) button.removeAttribute("aria-describedby");
      else button.setAttribute("aria-describedby", why.id);
    }
    this.commands();
  }

  commands() {
    const templates = this.system.commands ?? {};
    for (const { action, body, code, copy } of this.rows) {
      const values = body(this.values);
      const template = values.count === 1 && templates.curl ? templates.curl : templates[action];
      code.textContent = command(template, values);
      code.title = code.textContent;
      copy.hidden = !template;
    }
  }

  /** Keeps the lists of services and tasks current. */
  update(state) {
    for (const { name, field, options } of this.selects) {
      // What is chosen stays, even while it is gone: a click must never hit another replica.
      const names = unique(options(state), [this.values[name]]).sort();
      if (names.join() === [...field.options].map((each) => each.value).join()) continue;
      field.replaceChildren(...names.map((each) => html("option", { value: each }, each)));
      field.value = this.values[name];
    }
  }
}
