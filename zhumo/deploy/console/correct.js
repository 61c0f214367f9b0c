// The right answer to a question: the passage that answers, found here, or words of one's own.

import { get, post } from "./api.js";
import { el, problem, show } from "./dom.js";
import { drawPassage } from "./passage.js";
import { count, say } from "./words.js";

const LONGEST = 2_000; // letters that are looked for

export const propose = (question, answer) => post("v1/desk/corrections", { question, ...answer });
export const nameOf = ({ file, digest }) => ({ file, digest });
export const findPassages = async (q) => (await get(`v1/desk/search?q=${encodeURIComponent(q.slice(0, LONGEST))}`)).data;

// A question that was not answered rightly, how many times, and the way to mend it. beside: what else is known of it.
export function drawWrong(question, times, beside) {
  const act = el("button", { type: "button", class: "quiet small", onclick: () => correct(question, () => show(line, el("span", { class: "small soft" }, say("page.desk.proposed")))) }, say("page.desk.write"));
  const line = el("div", { class: "line between" }, el("span", { class: "small soft" }, say("page.desk.times", { n: count(times) })), act);
  return el("li", {}, el("p", { class: "who" }, question), beside, line);
}

// done: what to do once one is proposed.
function correct(question, done) {
  const dialog = el("dialog", { class: "look", "aria-label": say("page.desk.correct") });
  const wrong = el("div"), places = el("ul", { class: "places" }, el("li", { class: "soft" }, say("page.desk.looking")));
  const field = el("textarea", { id: "words", rows: "3", maxLength: 5000, required: "" });
  const form = el("form", {}, el("label", { for: "words" }, say("page.desk.own")), field, el("p", { class: "line" }, el("button", { class: "strong" }, say("page.desk.propose"))));
  form.addEventListener("submit", (event) => { event.preventDefault(); send({ text: field.value.trim() }); });
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  show(dialog, el("div", { class: "inside" }, el("button", { type: "button", class: "quiet close", "aria-label": say("page.recommend.close"), onclick: () => dialog.close() }, "×"),
    el("h2", {}, question), wrong, el("h3", {}, say("page.desk.which")), places, form));
  document.body.append(dialog);
  dialog.showModal();
  field.focus();
  find();

  async function find() {
    try {
      const found = await findPassages(question);
      show(places, found.length ? found.map((one) => el("li", {}, drawPassage(one, false, el("p", { class: "line" }, el("button", { type: "button", onclick: () => send({ passage: nameOf(one) }) }, say("page.desk.this"))))))
        : el("li", { class: "soft" }, say("page.desk.found.none")));
    } catch (error) { show(places, el("li", {}, problem(error, find))); }
  }

  async function send(answer) {
    if (answer.text === "") return;
    try {
      await propose(question, answer);
      dialog.close();
      done();
    } catch (error) { show(wrong, problem(error)); }
  }
}
