// The desk: a talk in which every answer is quoted, with its place, or goes to a person, whose answer comes here too.

import { get, post } from "./api.js";
import { codeFor } from "./code.js";
import { el, often, problem, show, styled, svg } from "./dom.js";
import { drawMessage, drawPassage, flowing } from "./passage.js";
import { figure, say } from "./words.js";

const TALK = "zhumo.talk", MOST = 50; // questions of one talk that are kept, and that the server reads

export function drawDesk(place, about) {
  const said = JSON.parse(sessionStorage.getItem(TALK) ?? "[]"); // of this tab, so that a person's answer finds its talk
  const talk = el("ol", { class: "talk", "aria-live": "polite" }, said.length ? said.map(drawTurn) : el("li", { class: "soft empty" }, say("page.desk.empty")));
  const field = el("textarea", { id: "question", rows: "2", placeholder: say("page.desk.hint"), required: "", maxLength: 2000 });
  const button = el("button", { class: "strong" }, say("page.desk.ask"));
  const again = el("button", { type: "button", class: "quiet", onclick: () => { sessionStorage.removeItem(TALK); drawDesk(place, about); } }, say("page.desk.again"));
  const code = el("div");
  const form = el("form", { class: "panel" }, el("label", { for: "question", class: "h2" }, say("page.desk.label")), field, el("p", { class: "line between" }, button, again));
  show(place, el("div", { class: "desk" }, el("section", { class: "panel" }, talk), el("div", { class: "column" }, form,
    el("section", { class: "panel small" }, el("h2", {}, say("page.desk.knows")), el("p", { class: "soft" }, say("page.desk.size", { passages: about.passages, files: about.files.length })),
      el("details", {}, el("summary", {}, say("page.desk.files")), el("ul", { class: "files" }, about.files.map((file) => el("li", {}, file)))), code))));
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(field.value.trim()); });
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); } });
  field.focus();

  function keep() {
    sessionStorage.setItem(TALK, JSON.stringify(said.slice(-MOST)));
  }

  function drawTurn(turn) {
    return [el("li", { class: "visitor" }, turn.question), el("li", { class: `reply ${turn.found.kind}` }, drawReply(turn, about.sure, keep))];
  }

  async function ask(question) {
    if (!question || button.disabled) return;
    if (!said.length) show(talk);
    const line = el("li", { class: "reply soft" });
    talk.append(el("li", { class: "visitor" }, question), line);
    field.value = "";
    await answer(question, line);
    field.focus();
  }

  async function answer(question, line) {
    const body = { questions: [...said.map((turn) => turn.question), question].slice(-MOST) };
    const before = said.findLast((turn) => turn.found.id);
    if (before) body.talk = before.found.id;
    show(line, say("page.desk.looking"));
    line.scrollIntoView({ block: "nearest" });
    button.disabled = true;
    try {
      const turn = { question, found: await post("v1/desk/replies", body) };
      line.className = `reply ${turn.found.kind}`;
      show(line, drawReply(turn, about.sure, keep));
      show(code, codeFor("v1/desk/replies", body));
      said.push(turn);
      keep();
    } catch (error) {
      show(line, problem(error, () => answer(question, line)));
    }
    button.disabled = false;
    line.scrollIntoView({ block: "nearest" });
  }
}

function drawReply(turn, least, keep) {
  const { found } = turn, answered = found.kind === "answer";
  const sure = styled(el("p", { class: "sure small soft" }, el("span", {}, say("page.desk.sure", { sureness: figure(found.sureness), least: figure(least) })), el("i", { class: "meter", "aria-hidden": "true" })), { share: Math.min(1, Math.max(0, found.sureness / (2 * least))) });
  return [el(answered ? "blockquote" : "p", { lang: found.language === "zh" ? "zh-CN" : "en" }, flowing(found.text)),
    el("div", { class: "line between" }, sure, answered && found.id && drawThumbs(turn, keep)),
    found.ticket && drawWaiting(found.id),
    !answered && found.citations.length > 0 && el("p", { class: "small soft" }, say("page.desk.handover")),
    found.citations.length > 0 && el("ul", { class: "places", "aria-label": say(answered ? "page.desk.cited" : "page.desk.near") }, found.citations.map((one, index) => el("li", {}, drawPassage(one, answered && index === 0))))];
}

function drawThumbs(turn, keep) {
  const box = el("div", { class: "thumbs", role: "group", "aria-label": say("page.desk.thumbs") });
  const buttons = ["up", "down"].map((verdict) => el("button", { type: "button", class: `quiet ${verdict}`, "aria-label": say(`page.desk.${verdict}`), title: say(`page.desk.${verdict}`), onclick: () => judge(verdict) },
    svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: "M7 10.5v9.5M7 20H4V10.5h3l4.4-7.2c1.6.1 2.5 1.3 2.2 2.9L13 9.5h5.3c1.3 0 2.2 1.1 1.9 2.4l-1.5 6.4c-.2 1-1.1 1.7-2.1 1.7H7" }))));
  const told = el("span", { class: "small soft", role: "status" });
  const press = () => buttons.forEach((one, index) => one.setAttribute("aria-pressed", String(turn.verdict === ["up", "down"][index])));
  async function judge(verdict) {
    try {
      await post("v1/desk/verdicts", { reply: turn.found.id, verdict });
      turn.verdict = verdict;
      keep();
      press();
      show(told, say("page.desk.thanks"));
    } catch (error) { show(told, error.message); }
  }
  press();
  show(box, told, buttons);
  return box;
}

// A hand-over that waits for a person, and what they write.
function drawWaiting(reply) {
  const note = el("p", { class: "waits small", role: "status" }), list = el("ol", { class: "messages" });
  const box = el("div", {}, note, list);
  let drawn = null;
  often(box, async () => {
    try {
      const { state, data } = await get(`v1/desk/replies/${encodeURIComponent(reply)}/messages`);
      if (drawn !== `${state} ${data.length}`) {
        drawn = `${state} ${data.length}`;
        note.className = `waits small ${state}`;
        show(note, say(`page.desk.waits.${state}`));
        show(list, data.map((one) => drawMessage(one)));
      }
      return state !== "closed";
    } catch (error) {
      show(note, error.message);
      drawn = null;
      return error.status !== 404;
    }
  });
  return box;
}
