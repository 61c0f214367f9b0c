// The one word list of the whole house, in the reader's language.

let words = {};
export let language = "en";

export async function speak(wanted) {
  const answer = await fetch(`console/words/${wanted}.json`);
  words = await answer.json();
  language = wanted;
  localStorage.setItem("zhumo.language", wanted);
  document.documentElement.lang = wanted === "zh" ? "zh-CN" : "en";
}

export function preferred() {
  const kept = localStorage.getItem("zhumo.language");
  if (kept === "en" || kept === "zh") return kept;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function say(key, facts = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => String(facts[name] ?? whole));
}

// A measure's or contender's name: ndcg@10 by itself, then by ndcg, then as it is.
export function named(kind, name) {
  const [base, cut] = name.split("@");
  const known = words[`report.${kind}.${name}`] ?? words[`report.${kind}.${base}`];
  if (words[`report.${kind}.${name}`]) return known;
  return (known ?? base) + (cut ? `@${cut}` : "");
}

export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size >= 2) return value.toLocaleString("en");
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : size >= 0.2 ? 3 : 4;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export const count = (value) => value.toLocaleString("en");

export function percent(value) {
  return `${(100 * value).toFixed(value < 0.0995 ? 2 : 1)}%`;
}

export function large(count) {
  return new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 }).format(count);
}

// How long something took or waits, in its largest unit.
export function span(seconds) {
  const [size, unit] = [[86_400, "day"], [3_600, "hour"], [60, "minute"], [1, "second"]].find(([size]) => seconds >= size) ?? [1, "second"];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 }).format(Math.max(0, Math.floor(seconds / size)));
}

export function moment(seconds) {
  return new Date(seconds * 1000).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
}
