// Makes elements. Text from strangers only ever becomes a text node, and no markup is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element, of SVG if its tag is `svg:…`. Attributes that begin with `on` are listeners; false is none. */
export function h(tag, attributes = {}, ...children) {
  const [name, space] = tag.split(":").reverse();
  const element = space ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((each) => each !== false && each !== undefined));
  return element;
}

/** Makes a button that looks like a link. */
export const link = (text, onclick) => h("button", { type: "button", class: "link", onclick }, text);

export const byId = (id) => document.getElementById(id);

/** Sets a text only where it differs, so that screen readers hear changes only. */
export function setText(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Keeps one child per item, by its `key` and in order, so that what is focused or animated stays the same element. */
export function sync(parent, items, make, update = () => {}) {
  const keys = new Set(items.map((each) => each.key));
  for (const child of [...parent.children]) if (!keys.has(child.dataset.key)) child.remove();
  const known = new Map([...parent.children].map((each) => [each.dataset.key, each]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const child = known.get(item.key) ?? make(item);
    child.dataset.key = item.key;
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
}
