// A text in, something out: the form that translators, taggers and classifiers are tried with.

import { post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show } from "./dom.js";
import { say } from "./words.js";

// `answered` makes what is shown from the model's answer to the text, and the text.
export function drawAsk(place, model, path, answered) {
  const word = (name) => say(`page.${model.task}.${name}`);
  const field = el("textarea", { id: "text", rows: "7", placeholder: word("hint"), required: "" });
  const button = el("button", { class: "strong" }, word("ask"));
  const result = el("div", { "aria-live": "polite" }, el("p", { class: "soft empty" }, word("empty")));
  const form = el("form", { class: "panel" }, el("label", { for: "text", class: "h2" }, word("label")), field, el("p", {}, button));
  show(place, el("div", { class: "two" }, form, el("section", { class: "panel" }, el("h2", {}, word("top")), result)));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });

  async function ask() {
    button.disabled = true;
    const body = { model: model.id, input: field.value };
    try {
      const [answer] = (await post(path, body)).data;
      show(result, answered(answer, body.input), codeFor(path, body));
    } catch (error) { show(result, problem(error, ask)); }
    button.disabled = false;
  }
}
