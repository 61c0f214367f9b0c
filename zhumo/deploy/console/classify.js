// Try a classifier: a text in, the probability of each label out.

import { drawAsk } from "./ask.js";
import { el, styled } from "./dom.js";
import { percent, say } from "./words.js";

const FIRST = 8;

export const drawClassify = (place, model) => drawAsk(place, model, "v1/classify", scored);

function scored(answer) {
  const chosen = new Set(answer.labels ?? [answer.label]);
  const all = Object.entries(answer.scores).sort((one, other) => other[1] - one[1]);
  const bars = (some) => el("ul", { class: "bars" }, some.map(([label, score]) => bar(label, score, chosen.has(label))));
  const rest = all.length > FIRST && el("details", {}, el("summary", {}, say("page.classify.all", { n: all.length })), bars(all.slice(FIRST)));
  return [bars(all.slice(0, FIRST)), rest];
}

function bar(label, score, chosen) {
  const item = el("li", { class: chosen ? "chosen" : "" }, el("span", { class: "who" }, label),
    el("span", { class: "number" }, percent(score)), el("i", { class: "meter", "aria-hidden": "true" }));
  return styled(item, { share: score });
}
