// Try an encoder: how near several texts are to each other.

import { post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show, styled } from "./dom.js";
import { say } from "./words.js";

const MOST = 8;

export function drawEmbed(place, model) {
  const texts = el("div", { class: "texts" });
  const add = el("button", { type: "button", onclick: () => { addText(); texts.lastChild.querySelector("textarea").focus(); } }, say("page.embed.add"));
  const button = el("button", { class: "strong" }, say("page.embed.ask"));
  const result = el("div", { "aria-live": "polite" }, el("p", { class: "soft empty" }, say("page.embed.empty")));
  const form = el("form", { class: "panel" }, texts, el("p", { class: "line" }, button, add));
  show(place, el("div", { class: "two" }, form, el("section", { class: "panel" }, el("h2", {}, say("page.embed.top")), el("p", { class: "soft small" }, say("page.embed.about")), result)));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  for (const _ of [1, 2, 3]) addText();

  function addText() {
    const field = el("textarea", { rows: "2", id: `text-${Date.now()}-${Math.random()}` });
    const label = el("label", { for: field.id });
    const remove = el("button", { type: "button", class: "quiet", onclick: () => { line.remove(); number(); } }, "×");
    const line = el("div", { class: "text" }, el("div", { class: "line between" }, label, remove), field);
    texts.append(line);
    number();
  }

  function number() {
    [...texts.children].forEach((line, index) => {
      line.querySelector("label").textContent = say("page.embed.text", { n: index + 1 });
      line.querySelector("button").setAttribute("aria-label", say("page.embed.remove", { n: index + 1 }));
      line.querySelector("button").hidden = texts.children.length <= 2;
    });
    add.disabled = texts.children.length >= MOST;
  }

  async function ask() {
    const input = [...texts.querySelectorAll("textarea")].map((field) => field.value.trim()).filter(Boolean);
    if (input.length < 2) return show(result, el("p", { class: "soft empty" }, say("page.embed.empty")));
    button.disabled = true;
    const body = { model: model.id, input };
    try {
      const vectors = (await post("v1/embeddings", body)).data.map((one) => one.embedding);
      show(result, matrix(input, vectors), codeFor("v1/embeddings", body));
    } catch (error) { show(result, problem(error, ask)); }
    button.disabled = false;
  }
}

function matrix(input, vectors) {
  const dot = (one, other) => one.reduce((sum, value, index) => sum + value * other[index], 0);
  const cosine = (one, other) => dot(one, other) / Math.sqrt(dot(one, one) * dot(other, other));
  const head = el("tr", {}, el("td"), input.map((_, index) => el("th", { scope: "col" }, String(index + 1))));
  const rows = input.map((text, row) => el("tr", {}, el("th", { scope: "row", title: text }, el("span", {}, `${row + 1} `, el("span", { class: "soft" }, text))),
    vectors.map((other, column) => {
      const near = cosine(vectors[row], other);
      return styled(el("td", { class: row === column ? "same" : "" }, near.toFixed(2)), { near: Math.max(0, near) });
    })));
  return el("div", { class: "wide" }, el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, rows)));
}
