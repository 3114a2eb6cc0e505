// Elements out of plain values. Text becomes text nodes and nothing else, so no name or sentence can be markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "rect", "circle", "line", "g", "polyline"]);
const PROPERTIES = new Set([
  "value", "checked", "disabled", "selected", "indeterminate", "hidden", "htmlFor", "tabIndex", "readOnly", "required",
  "multiple", "open", "noValidate",
]);
const FORBIDDEN = new Set(["innerhtml", "outerhtml", "srcdoc", "style"]);

/**
 * An element. `props`: `class`, `text`, `data` (object), `style` (object of CSS properties), `aria` (object), `on` (object of
 * listeners), `ref` (called with the element); a few DOM properties by their names; anything else is an attribute: `true`
 * sets it empty, `null`, `undefined` and `false` leave it out. `children`: nodes, strings, numbers, arrays of these; `null` and `false` are left out.
 */
export function h(tag, props, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) set(element, name, value);
  append(element, children);
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined) return;
  if (name === "class") element.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
  else if (name === "text") element.textContent = value;
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, String(one));
  else if (name === "aria") for (const [key, one] of Object.entries(value)) aria(element, key, one);
  else if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
  else if (name === "ref") value(element);
  else if (PROPERTIES.has(name)) element[name] = value;
  else if (FORBIDDEN.has(name.toLowerCase()) || /^on/i.test(name)) throw new TypeError(`h: ${name} is not for markup`);
  else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
}

/** Set `aria-{name}`; `null` and `undefined` take it away. */
export function aria(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(`aria-${name}`);
  else element.setAttribute(`aria-${name}`, String(value));
}

/** Append nodes, strings, numbers and arrays of these to `element`. */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === true) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Put `children` in the place of what `element` holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Set an element's text, and only if it is another: a write that changes nothing still costs layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
