// Try a reranker: which of some documents answers a question.

import { post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show, styled } from "./dom.js";
import { percent, say } from "./words.js";

export function drawRerank(place, model) {
  const query = el("textarea", { id: "text", rows: "2", required: "" });
  const documents = el("textarea", { id: "documents", rows: "8", required: "" });
  const button = el("button", { class: "strong" }, say("page.rerank.ask"));
  const result = el("div", { "aria-live": "polite" }, el("p", { class: "soft empty" }, say("page.rerank.empty")));
  const form = el("form", { class: "panel" }, el("label", { for: "text", class: "h2" }, say("page.rerank.label")), query,
    el("label", { for: "documents", class: "h2" }, say("page.rerank.documents")), documents, el("p", {}, button));
  show(place, el("div", { class: "two" }, form, el("section", { class: "panel" }, el("h2", {}, say("page.rerank.top")), result)));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });

  async function ask() {
    const texts = documents.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (texts.length < 2) return show(result, el("p", { class: "soft empty" }, say("page.rerank.empty")));
    button.disabled = true;
    const body = { model: model.id, query: query.value, documents: texts };
    try {
      const { results } = await post("v1/rerank", body);
      show(result, el("ol", { class: "bars" }, results.map((one, place) => bar(texts[one.index], one.relevance_score, place === 0))), codeFor("v1/rerank", body));
    } catch (error) { show(result, problem(error, ask)); }
    button.disabled = false;
  }
}

function bar(text, score, best) {
  const item = el("li", { class: best ? "chosen" : "" }, el("span", { class: "who" }, text),
    el("span", { class: "number" }, percent(score)), el("i", { class: "meter", "aria-hidden": "true" }));
  return styled(item, { share: score });
}
