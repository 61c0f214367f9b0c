// Plots as SVG, drawn for the width they have, so that letters keep their size.

import { el, show, svg } from "./dom.js";

const LEFT = 46, RIGHT = 12, TOP = 30, BOTTOM = 44, HIGH = 330;

// draw(width) gives what stands in the plot; told: the plot in words.
function framed(told, high, draw) {
  const box = el("figure", { class: "plot" });
  let drawn = 0;
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.floor(contentRect.width);
    if (!width || width === drawn) return;
    drawn = width;
    show(box, svg("svg", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "img", "aria-label": told }, draw(width)));
  }).observe(box);
  return box;
}

const line = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name });
const text = (x, y, name, words) => svg("text", { x, y, class: name }, words);

// points: {x, y} from left to right, both shares; point: one of its own, or null; x, y: what the axes are called.
export function curve(points, point, { x, y, at, told }) {
  const most = Math.max(0.05, ...points.map((one) => one.y), point?.y ?? 0), steps = [0, 0.25, 0.5, 0.75, 1];
  const top = Math.ceil(most * 20) / 20, shown = (share) => `${Number((100 * share).toFixed(1))}%`;
  return framed(told, HIGH, (width) => {
    const across = (share) => LEFT + share * (width - LEFT - RIGHT), up = (share) => HIGH - BOTTOM - (share / top) * (HIGH - TOP - BOTTOM);
    const path = points.map((one, index) => `${index ? "L" : "M"}${across(one.x).toFixed(1)} ${up(one.y).toFixed(1)}`).join("");
    const right = point && point.x < 0.6;
    return [[0, 0.5, 1].map((part) => [line(LEFT, up(part * top), width - RIGHT, up(part * top), "grid"), text(LEFT - 8, up(part * top) + 4, "end", shown(part * top))]),
      steps.map((share) => text(across(share), HIGH - BOTTOM + 18, share === 1 ? "end" : "middle", shown(share))),
      text(across(0.5), HIGH - 6, "middle axis", x), text(0, 10, "axis", y), svg("path", { d: path, class: "curve" }),
      point && [line(across(point.x), up(0), across(point.x), up(point.y), "mark"), svg("circle", { cx: across(point.x), cy: up(point.y), r: 5, class: "point" }),
        text(across(point.x) + (right ? 10 : -10), Math.max(TOP + 12, up(point.y) - 10), right ? "here" : "here end", at)]];
  });
}

// Two counts of each day, one above the line and one below it. kinds: the fields that hold them; names: what they are called.
export function trend(days, [up, down], names) {
  const high = 150, most = Math.max(1, ...days.flatMap((one) => [one[up], one[down]])), low = Math.max(...days.map((one) => one[down])) / most;
  const bar = (x, y, width, height, kind, told) => svg("rect", { x, y, width, height, rx: 2, class: `of-${kind}` }, svg("title", {}, told));
  return framed(names.join(", "), high, (width) => {
    const room = high - 52, zero = 16 + room / (1 + low), step = (width - LEFT - RIGHT) / days.length, wide = Math.min(18, step * 0.7);
    const tall = (count) => (count / most) * (room / (1 + low));
    const every = Math.max(1, Math.ceil(days.length / Math.max(2, Math.floor(width / 110))));
    return [line(LEFT, zero, width - RIGHT, zero, "grid"), text(LEFT - 8, zero - tall(most) + 5, "end", String(most)), text(LEFT - 8, zero + 4, "end", "0"),
      days.map((one, index) => {
        const x = LEFT + (index + 0.5) * step;
        return [bar(x - wide / 2, zero - tall(one[up]), wide, tall(one[up]), up, `${one.day} · ${names[0]} ${one[up]}`), bar(x - wide / 2, zero + 1, wide, tall(one[down]), down, `${one.day} · ${names[1]} ${one[down]}`),
          index % every === 0 && text(x, high - 6, "middle", one.day.slice(5))];
      })];
  });
}
