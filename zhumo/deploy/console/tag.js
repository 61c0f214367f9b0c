// Try a tagger: a text in, the same text out with what was found in it marked.

import { post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show } from "./dom.js";
import { percent, say } from "./words.js";

export function drawTag(place, model) {
  const field = el("textarea", { id: "text", rows: "7", placeholder: say("page.tag.hint"), required: "" });
  const button = el("button", { class: "strong" }, say("page.tag.ask"));
  const result = el("div", { "aria-live": "polite" }, el("p", { class: "soft empty" }, say("page.tag.empty")));
  const form = el("form", { class: "panel" }, el("label", { for: "text", class: "h2" }, say("page.tag.label")), field, el("p", {}, button));
  show(place, el("div", { class: "two" }, form, el("section", { class: "panel" }, el("h2", {}, say("page.tag.top")), result)));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });

  async function ask() {
    button.disabled = true;
    const body = { model: model.id, input: field.value };
    try {
      const [{ spans }] = (await post("v1/tag", body)).data;
      const letters = [...body.input]; // spans count characters, and a string of JavaScript halves of some
      const parts = [];
      let done = 0;
      for (const span of spans) {
        parts.push(letters.slice(done, span.start).join(""), el("mark", { title: percent(span.score) }, span.text, el("small", {}, ` ${span.label}`)));
        done = span.end;
      }
      parts.push(letters.slice(done).join(""));
      show(result, el("p", { class: "said" }, parts), !spans.length && el("p", { class: "soft" }, say("page.tag.none")), codeFor("v1/tag", body));
    } catch (error) { show(result, problem(error, ask)); }
    button.disabled = false;
  }
}
