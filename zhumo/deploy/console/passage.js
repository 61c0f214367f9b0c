// A passage behind the place it stands in, and what a person of the company wrote with one.

import { el } from "./dom.js";
import { say } from "./words.js";

export const placeOf = (one) => [one.file, ...(one.headings ?? [])].join(" › ");

const WRAPPED = 60; // letters from which on a line was broken by its width and not by its meaning; a Chinese one is two wide
const wide = (line) => line.length + (line.match(/[\u2e80-\uffef]/g)?.length ?? 0);

// A text whose lines were broken by their width, as one that flows; letter stands for letter, so that places stay places.
export function flowing(text) {
  const lines = text.split("\n");
  return lines.slice(1).reduce((whole, line, index) => {
    const before = lines[index], joined = wide(before) >= WRAPPED && !before.endsWith("|") && /^[\p{L}\p{N}(（“"`]/u.test(line) && !/^\d+[.)]/.test(line);
    const between = /[\u2e80-\uffef]$/.test(before) && /^[\u2e80-\uffef]/.test(line) ? "\u2060" : " ";
    return whole + (joined ? between : "\n") + line;
  }, lines[0]);
}

// A passage that flows, in three: what stands before the part that answers, that part, and the rest. Places count
// characters, and a string of JavaScript halves of some.
export function parted({ text, start, end }) {
  const letters = [...flowing(text)];
  return [letters.slice(0, start), letters.slice(start, end), letters.slice(end)].map((part) => part.join(""));
}

// Opened, it shows the part that answers. beside: what may be done with it.
export function drawPassage(one, open = false, ...beside) {
  const [before, quoted, after] = parted(one), mark = one.end > 0 && el("mark", {}, quoted);
  const text = el("p", { class: "passage", tabindex: "0" }, mark ? [before, mark, after] : flowing(one.text));
  const look = () => { if (mark) text.scrollTop = mark.offsetTop - text.offsetTop - 40; };
  return el("details", { class: "cited", open, ontoggle: look }, el("summary", {}, placeOf(one)), text,
    one.also?.length > 0 && el("p", { class: "soft small" }, say("page.desk.also", { files: one.also.join(", ") })), beside);
}

export function drawMessage(one, ...beside) {
  return el("li", { class: "message" }, el("p", { class: "soft small" }, one.agent || say("page.desk.person")), el("p", { class: "said" }, one.text),
    one.passage && drawPassage(one.passage), beside);
}
