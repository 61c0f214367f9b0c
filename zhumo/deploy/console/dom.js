// Elements, made so that text can never become markup: every string goes in as a text node.

import { say } from "./words.js";

const there = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

export const el = (name, attributes, ...children) => made(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => made(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function made(node, attributes = {}, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && typeof value !== "string" && !(node instanceof SVGElement)) node[key] = value;
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

// Runs `work` now and every few seconds, as long as the page is looked at and `node` is part of it; until it says false.
export async function often(node, work, seconds = 4) {
  do {
    if (!document.hidden && (await work()) === false) return;
    await new Promise((done) => setTimeout(done, seconds * 1000));
  } while (node.isConnected);
}

// What went wrong, and the way to try again.
export function problem(error, again) {
  const retry = again && el("button", { type: "button", onclick: again }, say("page.retry"));
  return el("div", { class: "problem", role: "alert" }, el("strong", {}, say("page.failed")), el("p", {}, error.message), retry);
}
