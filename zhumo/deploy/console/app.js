// The console: pages behind the hash of the address, #/ and #/MODEL/try and #/MODEL/report, and #/~desk/TAB for the desk.

import { Failure, get, hasKey, setKey, takeKey } from "./api.js";
import { el, problem, show } from "./dom.js";
import { drawCard, drawReport, reportOf } from "./report.js";
import { drawDesk } from "./desk.js";
import { drawTickets } from "./tickets.js";
import { drawKnowledge } from "./documents.js";
import { drawQuality } from "./quality.js";
import { drawClassify } from "./classify.js";
import { drawEmbed } from "./embed.js";
import { drawRecommend } from "./recommend.js";
import { drawRerank } from "./rerank.js";
import { drawTag } from "./tag.js";
import { drawTranslate } from "./translate.js";
import { drawWrite } from "./write.js";
import { language, large, preferred, say, speak } from "./words.js";

const TRY = { recommend: drawRecommend, classify: drawClassify, tag: drawTag, embed: drawEmbed, rerank: drawRerank, translate: drawTranslate, write: drawWrite };
const DESK = "~desk"; // no bundle's name in an address begins so
const TABS = { talk: drawDesk, tickets: drawTickets, knowledge: drawKnowledge, quality: drawQuality };
const main = document.querySelector("main");
let page = 0; // grows with each page drawn, so that a late answer cannot draw over a newer page

function frame() {
  document.querySelector(".skip").textContent = say("page.skip");
  document.querySelector("#models").textContent = say("page.models");
  document.querySelector("#language").textContent = say("page.language");
  document.querySelector("#language").lang = language === "zh" ? "en" : "zh-CN";
}

async function draw() {
  const mine = ++page;
  const [, name, tab] = location.hash.split("/").map(decodeURIComponent);
  if (!hasKey()) return askKey();
  show(main, el("p", { class: "loading", role: "status" }, say("page.loading")));
  try {
    const { data: models, apps } = await get("v1/models");
    if (mine !== page) return;
    if (!name) await drawHome(models, apps, mine);
    else if (name === DESK) await drawService(tab in TABS ? tab : "talk", mine);
    else await drawModel(models, name, tab === "report" ? "report" : "try", mine);
  } catch (error) {
    if (mine !== page) return;
    if (error instanceof Failure && error.status === 401) askKey(say("page.key.wrong"));
    else show(main, problem(error, draw));
  }
}

function askKey(wrong) {
  const field = el("input", { id: "key", type: "password", autocomplete: "off", required: "" });
  const form = el("form", { class: "key panel" }, el("h1", {}, say("page.key")), el("p", { class: "soft" }, say("page.key.about")),
    el("label", { for: "key" }, say("page.key.label")), el("div", { class: "line" }, field, el("button", { class: "strong" }, say("page.key.open"))),
    wrong && el("p", { class: "wrong", role: "alert" }, wrong));
  form.addEventListener("submit", (event) => { event.preventDefault(); setKey(field.value); draw(); });
  show(main, form);
  field.focus();
}

async function drawHome(models, apps, mine) {
  document.title = `${say("page.models")} · 铸模 Zhumo`;
  const reports = await Promise.all(models.map((model) => reportOf(model.id)));
  if (mine !== page) return;
  const cards = models.map((model, index) => el("li", { class: "card panel" }, heading(model, "h2"),
    reports[index] ? drawCard(reports[index]) : el("p", { class: "soft" }, say("page.no_report")),
    el("p", { class: "doors" }, el("a", { class: "button strong", href: link(model, "try") }, say("page.try")),
      reports[index] && el("a", { class: "button", href: link(model, "report") }, say("page.report")))));
  if (apps.includes("desk")) cards.unshift(el("li", { class: "card panel" }, el("div", { class: "title" }, el("h2", {}, say("page.desk")), el("p", { class: "soft" }, say("page.desk.about"))),
    el("p", { class: "doors" }, el("a", { class: "button strong", href: `#/${DESK}` }, say("page.desk.open")))));
  show(main, el("div", { class: "lead" }, el("h1", {}, say("page.home")), el("p", { class: "soft" }, say("page.home.lead"))),
    cards.length ? el("ul", { class: "cards" }, cards) : el("p", {}, say("page.nothing")));
}

const link = (model, tab) => `#/${encodeURIComponent(model.id)}/${tab}`;

function heading(model, level) {
  return el("div", { class: "title" }, el(level, {}, model.id), el("p", { class: "soft" },
    `${say(`page.task.${model.task}`)} · ${say("page.parameters", { n: large(model.parameters) })}`));
}

// All but the talk is for agents, and most of it needs a place where replies are kept.
async function drawService(tab, mine) {
  document.title = `${say("page.desk")} · 铸模 Zhumo`;
  const about = await get("v1/desk");
  if (mine !== page) return;
  const place = el("div", { class: "place" });
  const tabs = Object.keys(TABS).map((one) => el("a", { href: `#/${DESK}/${one}`, "aria-current": one === tab ? "page" : null }, say(`page.desk.tab.${one}`)));
  show(main, el("div", { class: "model" }, el("div", { class: "title" }, el("h1", {}, say("page.desk")), el("p", { class: "soft" }, say("page.desk.about"))),
    about.agent && el("nav", { class: "tabs", "aria-label": say("page.desk") }, tabs)), place);
  if (tab !== "talk" && !about.agent) show(place, el("p", { class: "panel" }, say("page.desk.agents")));
  else if (!about.kept && ["tickets", "quality"].includes(tab)) show(place, el("p", { class: "panel" }, say("page.desk.not_kept")));
  else await TABS[tab](place, about);
}

async function drawModel(models, name, tab, mine) {
  const model = models.find((one) => one.id === name);
  if (!model) throw new Failure(404, say("page.missing", { name }));
  document.title = `${name} · 铸模 Zhumo`;
  const tabs = ["try", "report"].map((one) => el("a", { href: link(model, one), "aria-current": one === tab ? "page" : null }, say(`page.${one}`)));
  const place = el("div", { class: "place" });
  const report = tab === "report" ? await reportOf(name) : null;
  if (mine !== page) return;
  show(main, el("div", { class: "model" }, heading(model, "h1"), el("nav", { class: "tabs", "aria-label": name }, tabs)), place);
  if (tab === "try") await TRY[model.task](place, model);
  else if (report) drawReport(place, report, name);
  else show(place, el("p", { class: "soft" }, say("page.no_report")));
}

document.querySelector("#language").addEventListener("click", async () => {
  await speak(language === "zh" ? "en" : "zh");
  frame();
  draw();
});
addEventListener("hashchange", () => { takeKey(); draw(); });
takeKey();
await speak(preferred());
frame();
draw();
