// Makes elements. Text from strangers only ever becomes a text node, and no markup is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

/** Makes an HTML element. Attributes that begin with `on` are listeners; false and undefined ones are left out. */
export const html = (name, attributes = {}, ...children) => make(document.createElement(name), attributes, children);

/** Makes an SVG element in the same way. */
export const svg = (name, attributes = {}, ...children) => make(document.createElementNS(SVG, name), attributes, children);

/** Returns the element with an id. */
export const byId = (id) => document.getElementById(id);

/** Shortens a text to about `width` pixels at a font of `size` pixels. */
export function fit(text, width, size = 12) {
  const letters = [...String(text ?? "")];
  const room = Math.max(1, Math.floor(width / (size * 0.56)));
  return letters.length <= room ? letters.join("") : `${letters.slice(0, room - 1).join("")}…`;
}
