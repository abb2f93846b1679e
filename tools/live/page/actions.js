// What one can do: the buttons of the page's form, each beside the command that does the same, ready to copy.
//
// The server says which actions apply and why others do not, and sends the commands as templates; the values that are
// typed here are filled in, quoted for a shell.

import { byId, h, setText, sync } from "./dom.js";
import { command } from "./words.js";

export class Actions {
  constructor(run) {
    Object.assign(this, { run, system: {}, form: byId("actions"), fields: byId("actions").elements });
    this.rows = [...this.form.querySelectorAll("[data-action]")].map((button) => this.row(button));
    this.form.addEventListener("input", () => this.refresh());
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  row(button) {
    const code = h("code");
    const title = `Copy the command of ${button.textContent}`;
    const copy = h("button", { type: "button", class: "copy", title, onclick: () => this.copy(code) });
    const why = h("p", { class: "why", id: `why-${button.dataset.action}` });
    const { run: action = button.dataset.action, body = "{}" } = button.dataset;
    const row = { action, body: JSON.parse(body), button, code, copy, why };
    button.setAttribute("aria-describedby", why.id);
    button.addEventListener("click", () => this.act(row));
    button.after(code, copy, why);
    return row;
  }

  /** Returns the body of an action: null stands for the value of the input of that name. */
  body({ body }) {
    const typed = ({ type, value, valueAsNumber }) => (type === "number" ? valueAsNumber : value);
    const values = Object.entries(body).map(([name, value]) => [name, value ?? typed(this.fields[name])]);
    return Object.fromEntries(values);
  }

  async act(row) {
    row.button.classList.add("busy");
    const done = this.run(row.action, this.body(row)).then(({ text }) => this.say(text));
    await done.catch((error) => this.say(`${row.action}: ${error.message}`, true));
    row.button.classList.remove("busy");
  }

  copy(code) {
    // Where the clipboard is closed to pages, the command is selected, so that a key copies it.
    const select = () => getSelection().selectAllChildren(code);
    navigator.clipboard.writeText(code.textContent).then(() => this.say(`copied: ${code.textContent}`), select);
  }

  say(text, isBad = false) {
    byId("result").classList.toggle("bad", isBad);
    byId("result").textContent = text;
  }

  /** Chooses a task in the lists and goes there. */
  choose({ task, service }) {
    this.fields.task.value = task;
    this.fields.service.value = service;
    this.fields.task.focus();
    this.refresh();
  }

  /** Shows which actions apply in this system, and the commands with the typed values. */
  refresh(system = this.system) {
    this.system = system;
    const { actions = {}, commands = {} } = system;
    for (const row of this.rows) {
      const { enabled = false, why = "" } = actions[row.action] ?? {};
      const body = this.body(row);
      // A rate of 0 ends the reads, as Ctrl-C ends their command.
      const ends = body.perSecond === 0;
      setText(row.code, ends ? "" : command((body.count === 1 && commands.curl) || commands[row.action], body));
      setText(row.why, why || (ends ? "Ctrl-C ends the command above." : ""));
      row.button.disabled = !enabled;
      row.copy.hidden = row.code.textContent === "";
    }
  }

  /** Keeps the lists of services and tasks current. What is chosen stays: a click must never hit another replica. */
  update({ tasks }) {
    for (const name of ["service", "task"]) {
      const names = new Set([this.fields[name].value, ...[...tasks.values()].map((each) => each[name])]);
      const options = [...names].sort().map((key) => ({ key }));
      sync(this.fields[name], options, ({ key }) => h("option", {}, key));
    }
  }
}
