// Tickets: what waits for a person, and the place where that person answers.

import { get, post } from "./api.js";
import { findPassages, nameOf, propose } from "./correct.js";
import { el, often, problem, settled, show } from "./dom.js";
import { drawMessage, drawPassage, parted, placeOf } from "./passage.js";
import { figure, percent, say, span } from "./words.js";

const STATES = ["open", "taken", "closed"], EVERY = 5;
const waited = (ticket) => span(Date.now() / 1000 - ticket.time);

export async function drawTickets(place) {
  let state = "open", chosen = null, drawn = null, wanted = "";
  const queue = el("ol", { class: "queue" }), stand = el("section", { class: "panel ticket" });
  const names = STATES.map((one) => say(`page.desk.state.${one}`));
  const modes = STATES.map((one) => el("button", { type: "button", class: "mode", onclick: () => { state = one; drawn = null; refresh(); } }, names[STATES.indexOf(one)]));
  const about = el("select", { "aria-label": say("page.desk.intents"), hidden: true, onchange: () => { wanted = about.value; drawn = null; refresh(); } });
  queue.addEventListener("keydown", (event) => {
    const stops = [...queue.querySelectorAll("button")], next = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const to = next && stops[stops.indexOf(document.activeElement) + next];
    if (to) { event.preventDefault(); to.focus(); }
  });
  show(place, el("div", { class: "agents" }, el("section", { class: "panel line-up" }, el("div", { class: "modes", role: "group", "aria-label": say("page.desk.tickets") }, modes), about, queue), stand));
  drawNobody();
  often(queue, refresh, EVERY);

  function drawNobody() {
    show(stand, el("p", { class: "soft empty" }, say("page.desk.choose")));
  }

  async function refresh() {
    const mine = state, intent = wanted;
    modes.forEach((one, index) => one.setAttribute("aria-pressed", String(STATES[index] === mine)));
    try {
      const { data, intents } = await get(`v1/desk/tickets?state=${mine}&limit=100${intent && `&intent=${encodeURIComponent(intent)}`}`);
      if (mine !== state || intent !== wanted) return;
      drawIntents(intent && !intents.includes(intent) ? [...intents, intent] : intents);
      modes.forEach((one, index) => show(one, names[index], STATES[index] === mine && data.length > 0 && ` ${data.length}`));
      // Drawn anew only where something changed, for a person may be walking through it with the keyboard.
      const now = JSON.stringify([state, chosen, wanted, data.map((one) => [one.id, one.agent, waited(one)])]);
      if (now === drawn) return;
      drawn = now;
      const at = queue.contains(document.activeElement) ? document.activeElement.dataset.id : null;
      show(queue, data.length ? data.map(drawWaiting) : el("li", { class: "soft empty" }, say(`page.desk.none.${state}`)));
      if (at) queue.querySelector(`[data-id="${CSS.escape(at)}"]`)?.focus();
    } catch (error) { drawn = null; show(queue, el("li", {}, problem(error, refresh))); }
  }

  // What there is to choose from, where a classifier has said of any question what it is about.
  function drawIntents(intents) {
    about.hidden = !intents.length;
    const there = [...about.options].map((one) => one.value);
    if (JSON.stringify(there) === JSON.stringify(["", ...intents])) return; // it may be open
    show(about, el("option", { value: "" }, say("page.desk.intents.all")), intents.map((label) => el("option", { value: label }, label)));
    about.value = wanted;
  }

  function drawWaiting(ticket) {
    return el("li", {}, el("button", { type: "button", class: "waiting", "data-id": ticket.id, "aria-current": ticket.id === chosen ? "true" : null, onclick: () => open(ticket.id) },
      el("span", { class: "who" }, ticket.questions.at(-1)), el("span", { class: "small soft line between" }, el("span", {}, waited(ticket)), ticket.intent && el("span", { class: "intent" }, ticket.intent.label), ticket.agent && el("span", {}, ticket.agent))));
  }

  async function open(id) {
    chosen = id;
    drawn = null;
    refresh();
    try {
      const ticket = await get(`v1/desk/tickets/${encodeURIComponent(id)}`);
      if (chosen === id) drawTicket(stand, ticket, changed);
    } catch (error) { show(stand, problem(error, () => open(id))); }
    stand.scrollIntoView({ block: "nearest" });
  }

  function changed(ticket) {
    state = ticket.state;
    drawn = null;
    refresh();
    drawTicket(stand, ticket, changed);
    stand.querySelector("#answer")?.focus();
  }
}

function drawTicket(stand, ticket, changed) {
  const address = `v1/desk/tickets/${encodeURIComponent(ticket.id)}`;
  const talk = el("ol", { class: "talk" }, ticket.questions.map((question) => el("li", { class: "visitor" }, question)), ticket.messages.map((one) => drawMessage(one, drawProposal(ticket, one))));
  const facts = [say(`page.desk.in.${ticket.language}`), say("page.desk.sure", { sureness: figure(ticket.sureness), least: figure(ticket.sure) }), ticket.intent && say("page.desk.intent", { label: ticket.intent.label, score: percent(ticket.intent.score) }), ticket.agent && say("page.desk.taken", { agent: ticket.agent }), ticket.asked !== ticket.questions.at(-1) && say("page.desk.looked", { question: ticket.asked })];
  const answer = drawAnswer(ticket, address, changed);
  show(stand, el("div", {}, el("h2", {}, say("page.desk.asked", { time: waited(ticket) })), el("p", { class: "soft small" }, facts.filter(Boolean).join(" · ")), talk, answer.form),
    ticket.state !== "closed" && drawSuggestions(ticket, answer.use));
}

// A message of an agent that may become the answer from now on.
function drawProposal(ticket, message) {
  const button = el("button", { type: "button", class: "quiet small", onclick: () => once(button, () => propose(ticket.asked, message.passage ? { passage: nameOf(message.passage) } : { text: message.text }), say("page.desk.proposed")) }, say("page.desk.correction"));
  return button;
}

async function once(button, work, told) {
  button.disabled = true;
  try {
    await work();
    show(button, told);
  } catch (error) {
    button.disabled = false;
    show(button, error.message);
  }
}

function drawAnswer(ticket, address, changed) {
  let passage = null;
  const wrong = el("div"), chip = el("p", { class: "chip small", hidden: true });
  const field = el("textarea", { id: "answer", rows: "5", maxLength: 5000, "aria-label": say("page.desk.answer"), placeholder: say("page.desk.answer") });
  const act = (body, path) => post(`${address}/${path}`, body).then(changed, (error) => show(wrong, problem(error)));
  const take = () => act({}, "take");
  const send = (close) => { if (field.value.trim()) act({ text: field.value.trim(), close, ...(passage ? { passage: nameOf(passage) } : {}) }, "messages"); };

  function cite(one) {
    passage = one;
    chip.hidden = !one;
    show(chip, one && [el("span", {}, placeOf(one)), el("button", { type: "button", class: "quiet", "aria-label": say("page.desk.uncite"), onclick: () => cite(null) }, "×")]);
  }

  function use(one) {
    field.value = parted(one)[1].replaceAll("\u2060", "");
    cite(one);
    field.focus();
  }

  if (ticket.state === "closed") return { form: el("p", { class: "soft small" }, say("page.desk.done")), use };
  if (ticket.state === "open") return { form: el("div", { class: "reply-box" }, wrong, el("button", { type: "button", class: "strong", onclick: take }, say("page.desk.take"))), use: null };
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(event.shiftKey); } });
  return { use, form: el("div", { class: "reply-box" }, wrong, field, chip, el("p", { class: "line" }, el("button", { type: "button", class: "strong", onclick: () => send(false) }, say("page.desk.send")),
    el("button", { type: "button", onclick: () => send(true) }, say("page.desk.close"))), el("p", { class: "soft small keys" }, say("page.desk.keys"))) };
}

// use: puts a passage into the reply; null while the ticket is nobody's.
function drawSuggestions(ticket, use) {
  const field = el("input", { type: "search", id: "look", value: ticket.asked, autocomplete: "off" });
  const list = el("ul", { class: "places" });
  async function find() {
    const q = field.value.trim();
    if (!q) return;
    try {
      const found = await findPassages(q);
      if (q === field.value.trim()) show(list, found.length ? found.map(drawOne) : el("li", { class: "soft" }, say("page.desk.found.none")));
    } catch (error) { show(list, el("li", {}, problem(error, find))); }
  }
  function drawOne(one, index) {
    const right = el("button", { type: "button", class: "quiet small", onclick: () => once(right, () => propose(ticket.asked, { passage: nameOf(one) }), say("page.desk.proposed")) }, say("page.desk.correction"));
    return el("li", {}, drawPassage(one, index === 0, el("p", { class: "line between" }, use && el("button", { type: "button", onclick: () => use(one) }, say("page.desk.use")), right)));
  }
  field.addEventListener("input", settled(find, 300));
  find();
  return el("div", { class: "suggested" }, el("label", { for: "look", class: "h2" }, say("page.desk.suggested")), field, list);
}
