// The desk: a talk in which every answer is quoted, with its place, or goes to a person.

import { get, post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, show, styled } from "./dom.js";
import { figure, say } from "./words.js";

export async function drawDesk(place) {
  const about = await get("v1/desk");
  const asked = [];
  const talk = el("ol", { class: "talk", "aria-live": "polite" }, el("li", { class: "soft empty" }, say("page.desk.empty")));
  const field = el("textarea", { id: "question", rows: "2", placeholder: say("page.desk.hint"), required: "", maxLength: 2000 });
  const button = el("button", { class: "strong" }, say("page.desk.ask"));
  const again = el("button", { type: "button", class: "quiet", onclick: () => drawDesk(place) }, say("page.desk.again"));
  const code = el("div");
  const form = el("form", { class: "panel" }, el("label", { for: "question", class: "h2" }, say("page.desk.label")), field, el("p", { class: "line between" }, button, again));
  show(place, el("div", { class: "desk" }, el("section", { class: "panel" }, talk), el("div", { class: "column" }, form,
    el("section", { class: "panel small" }, el("h2", {}, say("page.desk.knows")), el("p", { class: "soft" }, say("page.desk.size", { passages: about.passages, files: about.files.length })),
      el("details", {}, el("summary", {}, say("page.desk.files")), el("ul", { class: "files" }, about.files.map((file) => el("li", {}, file)))), code))));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(field.value.trim()); });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); } });
  field.focus();

  async function ask(question) {
    if (!question || button.disabled) return;
    if (!asked.length) show(talk);
    talk.append(el("li", { class: "visitor" }, question));
    field.value = "";
    await answer([...asked, question]);
    field.focus();
  }

  async function answer(questions) {
    const line = el("li", { class: "reply soft" }, say("page.desk.looking"));
    talk.append(line);
    line.scrollIntoView({ block: "nearest" });
    button.disabled = true;
    try {
      const found = await post("v1/desk/replies", { questions });
      line.className = `reply ${found.kind}`;
      show(line, drawReply(found, about.sure));
      show(code, codeFor("v1/desk/replies", { questions }));
      asked.push(questions.at(-1));
    } catch (error) {
      show(line, problem(error, () => { line.remove(); answer(questions); }));
    }
    button.disabled = false;
    line.scrollIntoView({ block: "nearest" });
  }
}

function drawReply(found, least) {
  const answered = found.kind === "answer";
  const sure = styled(el("p", { class: "sure small soft" }, el("span", {}, say("page.desk.sure", { sureness: figure(found.sureness), least: figure(least) })), el("i", { class: "meter", "aria-hidden": "true" })), { share: Math.min(1, Math.max(0, found.sureness / (2 * least))) });
  return [el(answered ? "blockquote" : "p", { lang: found.language === "zh" ? "zh-CN" : "en" }, found.text), sure, !answered && found.citations.length > 0 && el("p", { class: "small soft" }, say("page.desk.handover")),
    found.citations.length > 0 && el("ul", { class: "places", "aria-label": say(answered ? "page.desk.cited" : "page.desk.near") }, found.citations.map((one, index) => drawCitation(one, answered && index === 0)))];
}

function drawCitation(one, open) {
  const where = [one.file, ...one.headings].join(" › ");
  return el("li", {}, el("details", { open }, el("summary", {}, where),
    el("p", { class: "passage" }, one.text.slice(0, one.start), el("mark", {}, one.text.slice(one.start, one.end)), one.text.slice(one.end)),
    one.also.length > 0 && el("p", { class: "soft small" }, say("page.desk.also", { files: one.also.join(", ") }))));
}
