// One item, close: all the catalogue says of it, why it was shown, what is like it and what goes with it.

import { post } from "./api.js";
import { kindsOf, money, titleOf } from "./catalogue.js";
import { el, problem, show, styled } from "./dom.js";
import { percent, say } from "./words.js";

const BESIDE = 6, PLAIN = new Set(["id", "title", "category", "price", "text", "picture", "score", "because"]);

export function look(item, catalogue, take) {
  const dialog = el("dialog", { class: "look" });
  const close = () => dialog.close();
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) close(); });
  document.body.append(dialog);
  dialog.showModal();
  turn(item);

  function turn(one) {
    const others = Object.entries(one).filter(([name]) => !PLAIN.has(name));
    const rows = ["similar", "complement"].map((kind) => ({ kind, list: el("ul", { class: "beside" }) }));
    dialog.setAttribute("aria-label", titleOf(one));
    show(dialog, el("div", { class: "inside" }, el("button", { type: "button", class: "quiet close", "aria-label": say("page.recommend.close"), onclick: close }, "×"),
      el("div", { class: "upper" }, catalogue.tile(one),
        el("div", {}, el("h2", {}, titleOf(one)), el("p", { class: "soft" }, [...kindsOf(one), typeof one.price === "number" ? money(one.price) : ""].filter(Boolean).join(" · ")),
          one.text && el("p", { class: "text" }, one.text),
          others.length > 0 && el("dl", {}, others.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, [].concat(value).join(", "))))),
          el("p", {}, el("button", { type: "button", class: "strong", onclick: () => { close(); take(one); } }, say("page.recommend.take"))))),
      one.because?.length > 0 && el("section", {}, el("h3", {}, say("page.recommend.why")), el("ul", { class: "bars" }, one.because.map((cause) => styled(
        el("li", {}, el("span", {}, titleOf(cause)), el("span", { class: "number" }, percent(cause.share)), el("i", { class: "meter", "aria-hidden": "true" })), { share: cause.share })))),
      rows.map(({ kind, list }) => el("section", {}, el("h3", {}, say(`page.recommend.${kind}`)), list))));
    dialog.querySelector(".strong").focus({ preventScroll: true });
    dialog.scrollTop = 0;
    rows.forEach(({ kind, list }) => fill(one, kind, list));
  }

  async function fill(one, kind, list) {
    try {
      const { items } = (await post("v1/similar", { model: catalogue.model, item: one.id, k: BESIDE, kind })).data[0];
      const known = await catalogue.about(items.map((other) => other.id));
      show(list, known.length ? known.map((other) => el("li", {}, el("button", { type: "button", class: "small", "aria-label": say("page.recommend.look", { title: titleOf(other) }), onclick: () => turn(other) },
        catalogue.tile(other), el("span", { class: "who" }, titleOf(other))))) : el("li", { class: "whole soft small" }, say("page.recommend.alone")));
    } catch (error) { show(list, el("li", { class: "whole" }, problem(error, () => fill(one, kind, list)))); }
  }
}
