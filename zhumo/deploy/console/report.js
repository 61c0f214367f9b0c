// The report card of a bundle, drawn from report.json.

import { get, text } from "./api.js";
import { el, show, styled } from "./dom.js";
import { figure, language, named, say } from "./words.js";

const everyone = (report) => [{ name: report.served, kind: "model", measures: report.measures, p_better: null }, ...report.rivals];
const valueOf = (one, name) => one.measures.find((value) => value.name === name);
const measureName = (name) => named("metric", name);
const interval = (value) => say("page.report.interval", { low: figure(value.low), high: figure(value.high) });

// The report of a bundle; null where it brings none.
export const reportOf = (name) => get(`v1/reports/${encodeURIComponent(name)}`).catch((error) => {
  if (error.status === 404) return null;
  throw error;
});

// What stands on the first page: the number that decides, beside its rivals, and the sentence.
export function drawCard(report) {
  return [hero(report), forest(report, report.lead, 4), el("p", { class: "sentence" }, report.sentence[language])];
}

function hero(report) {
  const lead = report.measures[0];
  return el("p", { class: "hero" }, el("b", {}, figure(lead.value)), el("span", {}, el("span", { class: "measure" }, measureName(lead.name), lead.higher_is_better ? null : ` · ${say("page.report.less")}`),
    el("span", { class: "soft" }, `${interval(lead)}, ${say("page.report.rows", { n: figure(lead.n) })}`)));
}

// Each contender's value with its interval on one scale; the dashed line is what is served.
function forest(report, name, most = Infinity) {
  const rows = everyone(report).map((one) => ({ one, value: valueOf(one, name) })).filter(({ value }) => value && value.value !== null).slice(0, most);
  const ends = rows.flatMap(({ value }) => [value.low ?? value.value, value.high ?? value.value, value.value]);
  const low = Math.min(...ends), high = Math.max(...ends), pad = (high - low || Math.abs(high) || 1) * 0.06;
  const at = (value) => (value - low + pad) / (high - low + 2 * pad);
  const lines = rows.map(({ one, value }) => {
    const track = styled(el("span", { class: "track" }, el("i", { class: "bar" }), el("i", { class: "dot" }), el("i", { class: "line" })),
      { low: at(value.low ?? value.value), high: at(value.high ?? value.value), value: at(value.value), served: at(rows[0].value.value) });
    return el("li", { class: one.kind }, el("span", { class: "who" }, named("who", one.name)), track, el("span", { class: "number" }, figure(value.value)));
  });
  const told = rows.map(({ one, value }) => `${named("who", one.name)} ${figure(value.value)} (${interval(value)})`).join("; ");
  return el("ul", { class: "forest", role: "img", "aria-label": `${measureName(name)}: ${told}` }, lines);
}

export function drawReport(place, report, name) {
  const save = el("button", { type: "button", onclick: () => download(name) }, say("page.report.save"));
  show(place, el("article", { class: "report" },
    el("section", { class: "panel answer" }, el("p", { class: "verdict" }, report.sentence[language]),
      report.parts.map((said) => el("p", { class: "soft" }, said[language])), hero(report), forest(report, report.lead),
      el("p", { class: "soft small" }, report.protocol[language])),
    section("every", measures(report)),
    report.slices.length ? section("slices", report.slices.map((slice) => sliceOf(report, slice))) : null,
    section("asked", facts([...Object.entries(report.data.parts), ["tested", report.data.tested]].map(([part, n]) => [say(`report.rows.${part}`), figure(n)]))),
    section("cost", facts([[say("report.cost.parameters"), figure(report.cost.parameters)], [say("report.cost.training"), time(report.cost.training_seconds)],
      [say("report.cost.answer"), time(report.cost.answer_seconds)]])),
    section("limits", el("ul", { class: "plain" }, report.limits.map((said) => el("li", {}, said[language])))),
    el("p", {}, save)));
}

function section(name, ...inside) {
  return el("section", { class: "panel" }, el("h2", {}, name === "every" ? say("page.report.every") : say(`report.section.${name}`)), inside);
}

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return say("report.unit.milliseconds", { n: figure(seconds * 1000) });
  return seconds < 120 ? say("report.unit.seconds", { n: figure(seconds) }) : say("report.unit.minutes", { n: figure(seconds / 60) });
}

function facts(pairs) {
  return el("dl", {}, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function measures(report) {
  const all = everyone(report);
  const head = el("tr", {}, el("th", {}), all.map((one) => el("th", { scope: "col", class: "number" }, named("who", one.name))));
  const rows = report.measures.map((measure) => el("tr", {}, el("th", { scope: "row" }, measureName(measure.name)),
    all.map((one, index) => {
      const value = valueOf(one, measure.name);
      return el("td", { class: index ? "number" : "number served", title: value ? interval(value) : null }, value ? figure(value.value) : "–");
    })));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": say("page.report.every") },
    el("table", {}, el("thead", {}, head), el("tbody", {}, rows)));
}

function sliceOf(report, slice) {
  const title = slice.automatic ? named("slice", slice.name) : slice.name;
  const values = slice.groups.flatMap(({ score }) => [score.low, score.high]);
  const low = Math.min(...values), high = Math.max(...values), at = (value) => (value - low) / (high - low || 1);
  return [el("h3", {}, title), el("ul", { class: "forest" }, slice.groups.map((group) => el("li", { class: group.weak ? "weak" : "" },
    el("span", { class: "who" }, group.value, " ", el("span", { class: "soft" }, figure(group.n))),
    styled(el("span", { class: "track" }, el("i", { class: "bar" }), el("i", { class: "dot" }), el("i", { class: "line" })),
      { low: at(group.score.low), high: at(group.score.high), value: at(group.score.value), served: at(report.measures[0].value) }),
    el("span", { class: "number" }, figure(group.score.value)))))];
}

// The page with plots has a style of its own, which this page's policy would not show: it is saved instead.
async function download(name) {
  const page = await text(`v1/reports/${encodeURIComponent(name)}/page?lang=${language}`);
  const address = URL.createObjectURL(new Blob([page], { type: "text/html" }));
  el("a", { href: address, download: `${name}.report.${language}.html` }).click();
  URL.revokeObjectURL(address);
}
