// Elements, made so that text can never become markup: every string goes in as a text node.

import { say } from "./words.js";

const there = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && typeof value !== "string") node[key] = value;
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...there(children));
  return node;
}

// Numbers for the style sheet, as custom properties: the policy allows no style attribute.
export function styled(node, numbers) {
  for (const [name, value] of Object.entries(numbers)) node.style.setProperty(`--${name}`, value);
  return node;
}

export function show(place, ...children) {
  place.replaceChildren(...there(children));
}

// Runs `work` once nothing has happened for a moment.
export function settled(work, wait = 180) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), wait);
  };
}

// What went wrong, and the way to try again.
export function problem(error, again) {
  const retry = again && el("button", { type: "button", onclick: again }, say("page.retry"));
  return el("div", { class: "problem", role: "alert" }, el("strong", {}, say("page.failed")), el("p", {}, error.message), retry);
}
