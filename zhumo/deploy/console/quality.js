// Quality: how often the desk answers and how often rightly, what went wrong, and what becomes of it.

import { get, post } from "./api.js";
import { drawWrong } from "./correct.js";
import { el, often, problem, show, styled } from "./dom.js";
import { drawPassage } from "./passage.js";
import { curve, trend } from "./plot.js";
import { count, figure, language, moment, percent, say } from "./words.js";

const FIRST = 8; // intents shown at once

export async function drawQuality(place, about) {
  const how = el("div", { class: "column" }), corrections = el("section", { class: "panel" }), wheel = el("section", { class: "panel wheel" });
  show(place, el("div", { class: "column" }, how, el("div", { class: "two even" }, corrections, wheel)));
  await Promise.all([drawHow(how), drawCorrections(corrections), drawWheel(wheel, about)]);
}

async function drawHow(place) {
  try {
    const found = await get("v1/desk/quality");
    show(place, drawCounts(found), el("div", { class: "two even" }, drawCurve(found), drawDays(found)), found.intents.length > 0 && drawIntents(found.intents), drawFailures(found));
  } catch (error) { show(place, problem(error, () => drawHow(place))); }
}

function drawCounts(found) {
  const share = (part, whole) => (whole ? percent(part / whole) : "–");
  const facts = [["replies", count(found.replies)], ["answered", share(found.answer, found.replies)], ["right", share(found.up, found.up + found.down)], ["handed", count(found.handover)]];
  return el("section", { class: "panel counts" }, el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, say(`page.desk.count.${name}`)), el("dd", {}, value)))),
    el("p", { class: "soft small" }, say("page.desk.count.days")));
}

function drawCurve(found) {
  const points = found.curve.map((one) => ({ x: one.coverage, y: one.error }));
  const at = found.point, none = at?.error === null; // of no answer nothing is wrong or right
  const point = at && !none ? { x: at.coverage, y: at.error } : null;
  const told = at ? say("page.desk.curve.point", { coverage: percent(at.coverage), error: none ? "–" : percent(at.error), n: count(found.reviewed) }) : say("page.desk.curve.none");
  return el("section", { class: "panel" }, el("h2", {}, say("page.desk.curve")), el("p", { class: "soft small" }, told),
    points.length > 0 && curve(points, point, { x: say("page.desk.curve.x"), y: say("page.desk.curve.y"), at: say("page.desk.curve.at", { sure: figure(at.sureness) }), told }));
}

function drawDays(found) {
  const part = (up, down) => {
    const names = [up, down].map((name) => say(`page.desk.day.${name}`));
    return [el("p", { class: "legend small" }, [up, down].map((name, index) => el("span", { class: `of-${name}` }, names[index]))), trend(found.days, [up, down], names)];
  };
  return el("section", { class: "panel" }, el("h2", {}, say("page.desk.days")), found.days.length
    ? [part("answer", "handover"), part("up", "down")] : el("p", { class: "soft empty" }, say("page.desk.days.none")));
}

// Of what people ask about, how often and how much of it the desk answers.
function drawIntents(intents) {
  const drawn = (one) => styled(el("li", {}, el("span", { class: "who" }, one.intent ?? say("page.desk.intents.none")),
    el("span", { class: "number" }, say("page.desk.intents.told", { n: count(one.replies), share: percent(one.answer / one.replies) })), el("i", { class: "meter", "aria-hidden": "true" })), { share: one.answer / one.replies });
  const bars = (some) => el("ul", { class: "bars intents" }, some.map(drawn));
  return el("section", { class: "panel" }, el("h2", {}, say("page.desk.intents")), bars(intents.slice(0, FIRST)),
    intents.length > FIRST && el("details", {}, el("summary", {}, say("page.desk.intents.more", { n: intents.length - FIRST })), bars(intents.slice(FIRST))));
}

function drawFailures(found) {
  return el("section", { class: "panel" }, el("h2", {}, say("page.desk.failures")), found.failures.length ? el("ol", { class: "gaps" }, found.failures.map((one) => drawWrong(one.asked, one.times, one.citations.slice(0, 1).map(drawPlace)))) : el("p", { class: "soft empty" }, say("page.desk.failures.none")));
}

const drawPlace = (one) => (one.text ? drawPassage(one) : el("p", { class: "soft small" }, say("page.desk.unseen")));

async function drawCorrections(place) {
  const wrong = el("div"), heading = el("h2", {}, say("page.desk.corrections"));
  try {
    const { data } = await get("v1/desk/corrections?state=proposed&limit=100");
    const review = async (one, state) => {
      try {
        await post(`v1/desk/corrections/${encodeURIComponent(one.id)}`, { state });
        await drawCorrections(place);
      } catch (error) { show(wrong, problem(error)); }
    };
    show(place, heading, wrong, data.length ? el("ol", { class: "gaps" }, data.map((one) => el("li", {}, el("p", { class: "who" }, one.question),
      one.passage ? drawPlace(one.passage) : el("p", { class: "passage" }, one.text),
      el("p", { class: "soft small" }, [one.agent, moment(one.time)].filter(Boolean).join(" · ")),
      el("p", { class: "line" }, el("button", { type: "button", class: "strong", onclick: () => review(one, "accepted") }, say("page.desk.accept")), el("button", { type: "button", onclick: () => review(one, "refused") }, say("page.desk.refuse")))))) : el("p", { class: "soft empty" }, say("page.desk.corrections.none")));
  } catch (error) { show(place, heading, problem(error, () => drawCorrections(place))); }
}

// What serves, what stood before it, and the last trial with its gate's words; asked again while one is under way.
async function drawWheel(place, about) {
  const heading = el("h2", {}, say("page.desk.wheel")), wrong = el("div"), inside = el("div");
  show(place, heading, el("p", { class: "soft small" }, say("page.desk.wheel.about")), wrong, inside);
  let drawn = null;
  const version = (number) => (number ? say("page.desk.wheel.version", { number }) : say("page.desk.wheel.made"));

  function draw(found) {
    const now = JSON.stringify(found);
    if (now === drawn) return;
    drawn = now;
    const { trial } = found, act = (name, may, strong) => el("button", { type: "button", class: strong ? "strong" : "", disabled: !may, onclick: () => turn(name) }, say(`page.desk.wheel.${name}`));
    show(inside, el("dl", {}, el("div", {}, el("dt", {}, say("page.desk.wheel.serves")), el("dd", {}, version(found.serves))), found.before !== null && el("div", {}, el("dt", {}, say("page.desk.wheel.before")), el("dd", {}, version(found.before)))),
      trial && el("div", { class: trial.passes ? "trial passed" : "trial" }, el("h3", {}, say("page.desk.wheel.trial", { number: trial.trial })), el("p", {}, trial.said[language]),
        el("p", { class: "soft small" }, say("page.desk.wheel.learned", { learned: count(trial.learned), time: moment(Date.parse(trial.ended) / 1000) }))),
      found.problem && el("p", { class: "wrong small" }, found.problem), found.running && el("p", { class: "waits taken small", role: "status" }, say("page.desk.wheel.running")),
      el("p", { class: "line" }, act("improve", !found.running, !found.promotes), act("promote", found.promotes && !found.running, found.promotes), act("rollback", found.before !== null && !found.running)));
  }

  async function turn(name) {
    inside.querySelectorAll("button").forEach((one) => { one.disabled = true; });
    try {
      show(wrong);
      draw(await post(`v1/desk/${name}`, {}));
    } catch (error) { show(wrong, problem(error)); }
    drawn = null;
    await look();
  }

  async function look() {
    try {
      draw(await get("v1/desk/models"));
    } catch (error) {
      drawn = null;
      show(inside, problem(error, look));
    }
  }

  if (about.improves) often(place, look);
  else show(inside, el("p", { class: "soft empty" }, say("page.desk.wheel.none")));
}
