// Try a tagger: a text in, the same text out with what was found in it marked.

import { drawAsk } from "./ask.js";
import { el } from "./dom.js";
import { percent, say } from "./words.js";

export const drawTag = (place, model) => drawAsk(place, model, "v1/tag", marked);

function marked({ spans }, text) {
  const letters = [...text]; // spans count characters, and a string of JavaScript halves of some
  const parts = [];
  let done = 0;
  for (const span of spans) {
    parts.push(letters.slice(done, span.start).join(""), el("mark", { title: percent(span.score) }, span.text, el("small", {}, ` ${span.label}`)));
    done = span.end;
  }
  parts.push(letters.slice(done).join(""));
  return [el("p", { class: "said" }, parts), !spans.length && el("p", { class: "soft" }, say("page.tag.none"))];
}
