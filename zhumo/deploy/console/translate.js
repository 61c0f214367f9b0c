// Try a translator: a text in, its translation out.

import { post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show } from "./dom.js";
import { say } from "./words.js";

export function drawTranslate(place, model) {
  const field = el("textarea", { id: "text", rows: "7", placeholder: say("page.translate.hint"), required: "" });
  const button = el("button", { class: "strong" }, say("page.translate.ask"));
  const result = el("div", { "aria-live": "polite" }, el("p", { class: "soft empty" }, say("page.translate.empty")));
  const form = el("form", { class: "panel" }, el("label", { for: "text", class: "h2" }, say("page.translate.label")), field, el("p", {}, button));
  show(place, el("div", { class: "two" }, form, el("section", { class: "panel" }, el("h2", {}, say("page.translate.top")), result)));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });

  async function ask() {
    button.disabled = true;
    const body = { model: model.id, input: field.value };
    try {
      const [answer] = (await post("v1/translations", body)).data;
      const sure = `${say("page.translate.score")}: ${answer.score.toFixed(2)}`;
      show(result, el("p", { class: "said" }, answer.text), el("p", { class: "soft" }, sure), codeFor("v1/translations", body));
    } catch (error) { show(result, problem(error, ask)); }
    button.disabled = false;
  }
}
