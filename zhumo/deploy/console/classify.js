// Try a classifier: a text in, the probability of each label out.

import { post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show, styled } from "./dom.js";
import { percent, say } from "./words.js";

const FIRST = 8;

export function drawClassify(place, model) {
  const field = el("textarea", { id: "text", rows: "7", placeholder: say("page.classify.hint"), required: "" });
  const button = el("button", { class: "strong" }, say("page.classify.ask"));
  const result = el("div", { "aria-live": "polite" }, el("p", { class: "soft empty" }, say("page.classify.empty")));
  const form = el("form", { class: "panel" }, el("label", { for: "text", class: "h2" }, say("page.classify.label")), field, el("p", {}, button));
  show(place, el("div", { class: "two" }, form, el("section", { class: "panel" }, el("h2", {}, say("page.classify.top")), result)));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });

  async function ask() {
    button.disabled = true;
    const body = { model: model.id, input: field.value };
    try {
      const [answer] = (await post("v1/classify", body)).data;
      const chosen = new Set(answer.labels ?? [answer.label]);
      const all = Object.entries(answer.scores).sort((one, other) => other[1] - one[1]);
      const bars = (labels) => el("ul", { class: "bars" }, labels.map(([label, score]) => styled(el("li", { class: chosen.has(label) ? "chosen" : "" },
        el("span", { class: "who" }, label), el("span", { class: "number" }, percent(score)), el("i", { class: "meter", "aria-hidden": "true" })), { share: score })));
      const rest = all.length > FIRST && el("details", {}, el("summary", {}, say("page.classify.all", { n: all.length })), bars(all.slice(FIRST)));
      show(result, bars(all.slice(0, FIRST)), rest || null, codeFor("v1/classify", body));
    } catch (error) { show(result, problem(error, ask)); }
    button.disabled = false;
  }
}
