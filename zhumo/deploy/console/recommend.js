// Try a recommender: build a history by clicking, see what comes next.

import { get, post } from "./api.js";
import { codeFor } from "./code.js";
import { el, problem, settled, show, styled } from "./dom.js";
import { percent, say } from "./words.js";

export async function drawRecommend(place, model) {
  const history = [];
  const found = el("ul", { class: "found" }), taken = el("ol", { class: "taken" }), top = el("ol", { class: "top" });
  const code = el("div");
  const search = el("input", { type: "search", id: "search", placeholder: say("page.recommend.hint"), autocomplete: "off" });
  const seen = el("input", { type: "checkbox" });
  const clear = el("button", { type: "button", class: "quiet", onclick: () => change(() => history.splice(0)) }, say("page.recommend.clear"));
  const live = el("div", { class: "panel", "aria-live": "polite" }, el("h2", {}, say("page.recommend.top")), top,
    el("label", { class: "check" }, seen, say("page.recommend.seen")), code);
  let asked = 0;

  show(place, el("div", { class: "two" },
    el("div", { class: "column" },
      el("section", { class: "panel" }, el("div", { class: "line between" }, el("h2", {}, say("page.recommend.history")), clear), taken),
      el("section", { class: "panel" }, el("label", { for: "search", class: "h2" }, say("page.recommend.search")), search, found)),
    live));

  function change(act) {
    act();
    drawTaken();
    recommend();
  }

  function drawTaken() {
    clear.hidden = !history.length;
    show(taken, history.length ? history.map((item, index) => el("li", {}, el("button", { type: "button", class: "chip",
      "aria-label": say("page.recommend.remove", item), onclick: () => change(() => history.splice(index, 1)) }, item.title, el("span", { "aria-hidden": "true" }, "×"))))
      : el("li", { class: "soft empty" }, say("page.recommend.empty")));
  }

  async function look() {
    const mine = search.value;
    try {
      const { data } = await get(`v1/items?model=${encodeURIComponent(model.id)}&limit=8&q=${encodeURIComponent(mine)}`);
      if (mine !== search.value) return;
      show(found, data.length ? data.map((item) => el("li", {}, adding(item, item.title)))
        : el("li", { class: "soft empty" }, say("page.recommend.none", { q: mine })));
    } catch (error) { show(found, el("li", {}, problem(error, look))); }
  }

  function adding(item, ...inside) {
    return el("button", { type: "button", class: "row", "aria-label": say("page.recommend.add", item), onclick: () => change(() => history.push(item)) }, inside);
  }

  async function recommend() {
    const mine = ++asked;
    const body = { model: model.id, items: history.map((item) => item.id), k: 10, seen: seen.checked };
    try {
      const [{ items }] = (await post("v1/recommendations", body)).data;
      if (mine !== asked) return;
      const most = Math.max(...items.map((item) => item.score), Number.MIN_VALUE);
      show(top, items.map((item) => {
        const title = item.title ?? item.id;
        return el("li", {}, styled(adding({ id: item.id, title }, el("span", { class: "who" }, title), el("span", { class: "number", title: say("page.recommend.score", { p: percent(item.score) }) }, percent(item.score)),
          el("i", { class: "meter", "aria-hidden": "true" })), { share: item.score / most }));
      }));
      show(code, codeFor("v1/recommendations", body));
    } catch (error) { if (mine === asked) show(top, el("li", {}, problem(error, recommend))); }
  }

  search.addEventListener("input", settled(look));
  seen.addEventListener("change", recommend);
  drawTaken();
  await Promise.all([look(), recommend()]);
}
