// Try a recommender as its shop: search and take, see the shelf turn, and why.

import { get, post } from "./api.js";
import { Catalogue, kindsOf, money, titleOf } from "./catalogue.js";
import { codeFor } from "./code.js";
import { el, problem, settled, show, styled } from "./dom.js";
import { look } from "./look.js";
import { glide, moves, places } from "./moves.js";
import { reportOf } from "./report.js";
import { figure, named, percent, say } from "./words.js";

const SHOWN = 12, FOUND = 8, KINDS = 12;
const histories = new Map(); // by model, so that another language or a look at the report card loses none

export async function drawRecommend(place, model) {
  const { data: columns, pictures, seen: usual } = await get(`v1/columns?model=${encodeURIComponent(model.id)}`);
  const catalogue = new Catalogue(model.id, pictures);
  const history = histories.get(model.id) ?? [], kinds = new Set(), priced = columns.price?.high !== undefined;
  histories.set(model.id, history);
  let asked = 0, before = null, report = null;

  const search = el("input", { type: "search", id: "search", placeholder: say("page.recommend.hint"), autocomplete: "off" });
  const found = el("ul", { class: "found", hidden: true }), taken = el("ol", { class: "taken" });
  const clear = el("button", { type: "button", class: "quiet", onclick: () => change(null, () => history.splice(0)) }, say("page.recommend.clear"));
  const shelf = el("ol", { class: "shelf" }), heading = el("h2", {}), moved = el("p", { class: "moved soft", "aria-live": "polite" }), code = el("div");
  const variety = el("input", { type: "range", id: "variety", min: "0", max: "1", step: "0.05", value: "0" }), cost = el("p", { class: "cost soft small" });
  const seen = el("input", { type: "checkbox", checked: usual });
  const [low, high] = ["low", "high"].map((end) => el("input", { type: "number", min: "0", step: "any", "aria-label": say(`page.recommend.${end}`), placeholder: priced ? money(columns.price[end]) : "" }));
  const chips = Object.keys(columns.category?.values ?? {}).slice(0, KINDS).map((kind) =>
    el("button", { type: "button", class: "pick", "aria-pressed": "false", onclick: () => { pick(kind); recommend(); } }, kind));

  const dials = el("details", { class: "filters panel", open: innerWidth > 760 }, el("summary", {}, say("page.recommend.dials")),
    el("div", {}, el("label", { for: "variety" }, say("page.recommend.variety")), variety, el("p", { class: "ends soft small" }, el("span", {}, say("page.recommend.likeliest")), el("span", {}, say("page.recommend.varied"))), cost),
    chips.length > 0 && el("div", { role: "group", "aria-label": say("page.recommend.category") }, el("p", { class: "label" }, say("page.recommend.category")), el("p", { class: "picks" }, chips)),
    priced && el("div", {}, el("p", { class: "label" }, say("page.recommend.price")), el("div", { class: "line" }, low, el("span", { class: "soft" }, "–"), high)),
    el("label", { class: "check" }, seen, say("page.recommend.seen")));
  show(place, el("div", { class: "shop" },
    el("div", { class: "column side" },
      el("section", { class: "panel" }, el("label", { for: "search", class: "h2" }, say("page.recommend.search")), el("div", { class: "seek" }, search, found),
        el("div", { class: "line between" }, el("h2", {}, say("page.recommend.history")), clear), taken), dials),
    el("section", { class: "stand" }, el("div", { class: "line between above" }, heading, moved), shelf, code)));

  // -- the history

  const take = (item) => change(say("page.recommend.with", { title: titleOf(item) }), () => history.push(item));

  function change(told, act) {
    act();
    drawTaken();
    recommend(told);
  }

  function drop(index) {
    const [item] = history.splice(index, 1);
    const back = el("button", { type: "button", class: "quiet", onclick: () => change(null, () => history.splice(index, 0, item)) }, say("page.recommend.undo"));
    drawTaken();
    recommend(say("page.recommend.without", { title: titleOf(item) }), back);
    (taken.querySelectorAll("button")[Math.min(index, history.length - 1)] ?? search).focus();
  }

  function drawTaken() {
    clear.hidden = !history.length;
    show(taken, history.length ? history.map((item, index) => el("li", { "data-id": item.id }, catalogue.tile(item), el("span", { class: "who" }, titleOf(item)),
      el("button", { type: "button", class: "quiet", "aria-label": say("page.recommend.remove", { title: titleOf(item) }), onclick: () => drop(index) }, "×")))
      : el("li", { class: "soft empty" }, say("page.recommend.empty")));
    taken.scrollTo({ left: taken.scrollWidth, top: taken.scrollHeight });
  }

  // -- the search

  async function seek() {
    const mine = search.value;
    try {
      const items = await catalogue.search(mine, FOUND);
      if (mine !== search.value) return;
      show(found, items.length ? items.map((item) => el("li", {}, el("button", { type: "button", class: "row", "aria-label": say("page.recommend.add", { title: titleOf(item) }), onclick: () => { take(item); search.select(); search.focus(); } },
        catalogue.tile(item), el("span", { class: "who" }, titleOf(item)), price(item)))) : el("li", { class: "soft empty" }, say("page.recommend.none", { q: mine })));
    } catch (error) { show(found, el("li", {}, problem(error, seek))); }
    found.hidden = false;
  }

  search.addEventListener("input", settled(seek));
  search.addEventListener("focus", () => { if (found.hidden) seek(); });
  search.parentNode.addEventListener("focusout", (event) => { if (!event.currentTarget.contains(event.relatedTarget)) found.hidden = true; });
  search.parentNode.addEventListener("mousedown", (event) => { if (event.target !== search) event.preventDefault(); });
  search.parentNode.addEventListener("keydown", (event) => {
    const stops = [search, ...found.querySelectorAll("button")], here = stops.indexOf(document.activeElement);
    const next = { ArrowDown: here + 1, ArrowUp: here - 1 }[event.key];
    // By itself a browser would empty the field, which opens the list again.
    if (event.key === "Escape") { event.preventDefault(); search.focus(); found.hidden = true; }
    else if (stops[next]) { event.preventDefault(); stops[next].focus(); }
  });

  // -- the shelf

  function pick(kind) {
    if (!kinds.delete(kind)) kinds.add(kind);
    for (const chip of chips) chip.setAttribute("aria-pressed", String(kinds.has(chip.textContent)));
  }

  function widen() {
    [...kinds].forEach(pick);
    low.value = high.value = "";
    recommend();
  }

  function question() {
    const body = { model: model.id, items: history.map((item) => item.id), k: SHOWN };
    const only = {};
    if (kinds.size) only.category = [...kinds];
    if (low.value || high.value) only.price = [low, high].map((end) => (end.value ? Number(end.value) : null));
    if (Object.keys(only).length) body.only = only;
    if (Number(variety.value)) body.diversity = Number(variety.value);
    if (seen.checked !== usual) body.seen = seen.checked;
    if (history.length) body.reasons = true;
    return body;
  }

  async function recommend(told = null, back = null) {
    const mine = ++asked, body = question();
    try {
      const [{ items }] = (await post("v1/recommendations", body)).data;
      const known = await catalogue.about(items.map((item) => item.id));
      if (mine !== asked) return;
      draw(items.map((item, index) => ({ ...known[index], ...item })), told, back);
      show(code, codeFor("v1/recommendations", body));
    } catch (error) { if (mine === asked) show(shelf, el("li", { class: "whole" }, problem(error, () => recommend(told, back)))); }
  }

  function draw(items, told, back) {
    const change = moves(before, items.map((item) => item.id)), was = places(shelf);
    const most = Math.max(...items.map((item) => item.score), Number.MIN_VALUE);
    const focused = [...shelf.children].findIndex((card) => card.contains(document.activeElement));
    heading.textContent = say(history.length ? "page.recommend.top" : "page.recommend.best");
    show(moved, told && el("span", {}, `${told} ${say("page.recommend.moved", change.count)}`), back);
    show(shelf, items.length ? items.map((item, index) => card(item, index, change.of(item.id), most))
      : el("li", { class: "whole soft empty" }, el("p", {}, say("page.recommend.nothing")), el("button", { type: "button", onclick: widen }, say("page.recommend.widen"))));
    if (focused >= 0) shelf.children[Math.min(focused, shelf.children.length - 1)]?.querySelector("button")?.focus({ preventScroll: true });
    glide(shelf, was);
    before = items.map((item) => item.id);
  }

  function card(item, index, step, most) {
    const title = titleOf(item), because = item.because?.[0];
    const mark = step === null ? null : step === "new" ? el("span", { class: "mark fresh" }, say("page.recommend.fresh"))
      : step !== 0 && el("span", { class: `mark ${step > 0 ? "rose" : "fell"}`, title: say(step > 0 ? "page.recommend.rose" : "page.recommend.fell", { n: Math.abs(step) }) }, `${step > 0 ? "▲" : "▼"} ${Math.abs(step)}`);
    const node = el("li", { class: "item", "data-id": item.id },
      el("button", { type: "button", class: "face", "aria-label": say("page.recommend.look", { title }), onclick: () => look(item, catalogue, take) },
        catalogue.tile(item), el("span", { class: "rank" }, String(index + 1)), mark),
      styled(el("i", { class: "meter", "aria-hidden": "true" }), { share: item.score / most }),
      el("p", { class: "who" }, title),
      el("p", { class: "line between facts" }, price(item) ?? el("span", { class: "soft small" }, kindsOf(item).slice(0, 2).join(" · ")),
        el("span", { class: "number soft", title: say("page.recommend.score", { p: percent(item.score) }) }, percent(item.score))),
      el("p", { class: "because soft small" }, because ? say("page.recommend.because", { title: titleOf(because) }) : ""),
      el("button", { type: "button", class: "take", "aria-label": say("page.recommend.add", { title }), onclick: () => take(item) }, "+"));
    for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
      node.addEventListener(event, () => point(item.because ?? [], on));
    }
    return node;
  }

  // Show in the history what a card rests on.
  function point(causes, on) {
    const ids = new Set(causes.map((cause) => cause.id));
    for (const line of taken.children) line.classList.toggle("cause", on && ids.has(line.dataset.id));
  }

  // What is lost where the dial stands, by the report: between two values that were measured, on a straight line.
  async function tell() {
    const dial = (await (report ??= reportOf(model.id)))?.dials?.find(({ name }) => name === "diversity");
    if (!dial) return;
    const { settings } = dial, at = Number(variety.value), next = Math.max(1, settings.findIndex(({ value }) => value >= at));
    const [one, other] = [settings[next - 1], settings[next]], way = (at - one.value) / (other.value - one.value);
    const usual = settings[0].lead, loss = usual.value - one.lead.value - way * (other.lead.value - one.lead.value);
    const facts = { loss: figure(Math.max(0, loss)), metric: named("metric", usual.name), value: figure(usual.value) };
    cost.textContent = at ? say("page.recommend.cost", facts) : "";
  }

  variety.addEventListener("input", tell);
  variety.addEventListener("input", settled(() => recommend()));
  for (const end of [low, high]) end.addEventListener("input", settled(() => recommend(), 400));
  seen.addEventListener("change", () => recommend());
  drawTaken();
  await recommend();
}

const price = (item) => (typeof item.price === "number" ? el("span", { class: "price" }, money(item.price)) : null);
