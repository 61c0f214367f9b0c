// Try a writer: a chat, or a text to be continued, shown while it is written.

import { stream } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show } from "./dom.js";
import { figure, say } from "./words.js";

export function drawWrite(place, model) {
  const messages = [];
  let chats = Boolean(model.chat), stopping = null;
  const log = el("div", { class: "log", role: "log", "aria-live": "polite", tabindex: "0" });
  const field = el("textarea", { id: "message", rows: "3", required: "" });
  const label = el("label", { for: "message", class: "hidden" }, say("page.write.message"));
  const send = el("button", { class: "strong" }, say("page.write.send"));
  const stop = el("button", { type: "button", hidden: true, onclick: () => stopping?.abort() }, say("page.write.stop"));
  const fresh = el("button", { type: "button", class: "quiet", onclick: begin }, say("page.write.new"));
  const temperature = el("input", { type: "range", id: "temperature", min: "0", max: "1.5", step: "0.1", value: "0.7" });
  const length = el("input", { type: "number", id: "length", min: "1", max: "2048", value: "200" });
  const shown = el("output", { for: "temperature" }, "0.7"), code = el("div");
  const modes = el("div", { class: "modes", role: "group" }, ["chat", "continue"].map((mode) =>
    el("button", { type: "button", class: "mode", onclick: () => { chats = mode === "chat"; begin(); } }, say(`page.write.${mode}`))));
  const form = el("form", { class: "compose" }, label, field, el("div", { class: "line" }, send, stop));
  show(place, el("div", { class: "write" }, el("section", { class: "panel talk" }, el("div", { class: "line between" }, modes, fresh), log, form),
    el("section", { class: "panel dials" },
      el("div", {}, el("label", { for: "temperature" }, say("page.write.temperature"), " ", shown), temperature, el("p", { class: "soft small" }, say("page.write.temperature.about"))),
      el("div", {}, el("label", { for: "length" }, say("page.write.length")), length)), code));
  temperature.addEventListener("input", () => { shown.textContent = temperature.value; });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); } });
  form.addEventListener("submit", (event) => { event.preventDefault(); if (!stopping && field.value.trim()) write(field.value); });
  begin();

  function begin() {
    stopping?.abort();
    messages.splice(0);
    [...modes.children].forEach((button, index) => button.setAttribute("aria-pressed", String((index === 0) === chats)));
    field.placeholder = say(chats ? "page.write.hint" : "page.write.begin");
    show(log, el("p", { class: "soft empty" }, say("page.write.empty")));
    show(code);
    field.focus({ preventScroll: true });
  }

  function turn(role, name, text) {
    const body = el("p", { class: "said" }, text), note = el("p", { class: "soft small note" });
    if (log.querySelector(".empty")) show(log);
    log.append(el("div", { class: `turn ${role}` }, el("span", { class: "name" }, name), body, note));
    return { body, note };
  }

  async function write(text) {
    field.value = "";
    const options = { model: model.id, max_tokens: Number(length.value), temperature: Number(temperature.value) };
    if (chats) messages.push({ role: "user", content: text });
    const body = chats ? { ...options, messages: [...messages] } : { ...options, prompt: text };
    const path = chats ? "v1/chat/completions" : "v1/completions";
    if (chats) turn("user", say("page.write.you"), text);
    const { body: said, note } = turn("model", model.id, "");
    if (!chats) said.append(el("span", { class: "given" }, text));
    const mine = stopping = new AbortController();
    const began = performance.now();
    let told = "", usage = null, finish = null;
    send.hidden = true;
    stop.hidden = false;
    said.classList.add("writing");
    try {
      for await (const event of stream(path, body, mine.signal)) {
        const choice = event.choices[0];
        const piece = choice?.delta?.content ?? choice?.text ?? "";
        told += piece;
        said.append(piece);
        finish = choice?.finish_reason ?? finish;
        usage = event.usage ?? usage;
        log.scrollTop = log.scrollHeight;
      }
      const speed = usage && figure(Math.round((10000 * usage.completion_tokens) / (performance.now() - began)) / 10);
      const counted = usage ? say("page.write.usage", { read: usage.prompt_tokens, wrote: usage.completion_tokens, speed }) : "";
      note.textContent = [finish === "length" ? say("page.write.cut") : "", counted].filter(Boolean).join(" · ");
    } catch (error) {
      if (error.name === "AbortError") note.textContent = say("page.write.stopped");
      else log.append(problem(error));
    }
    if (chats && told) messages.push({ role: "assistant", content: told });
    else if (chats) messages.pop();
    said.classList.remove("writing");
    if (stopping === mine) stopping = null;
    send.hidden = false;
    stop.hidden = true;
    show(code, codeFor(path, body));
  }
}
