// What moved between two lists, and the way it takes there (first, last, invert, play).

const CALM = matchMedia("(prefers-reduced-motion: reduce)");

// before: ids, or null at the first list. of(id): places it rose (below 0: fell), "new", or null at the first.
export function moves(before, now) {
  const was = new Map((before ?? []).map((id, place) => [id, place]));
  const of = (id) => (before === null ? null : was.has(id) ? was.get(id) - now.indexOf(id) : "new");
  const steps = now.map(of);
  const count = { up: steps.filter((step) => step > 0).length, down: steps.filter((step) => step < 0).length, fresh: steps.filter((step) => step === "new").length };
  return { of, count };
}

export function places(list) {
  return new Map([...list.children].map((node) => [node.dataset.id, node.getBoundingClientRect()]));
}

export function glide(list, was) {
  if (CALM.matches || !was.size) return;
  for (const node of list.children) {
    const from = was.get(node.dataset.id), to = node.getBoundingClientRect();
    const start = from ? { transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` } : { opacity: 0, transform: "scale(.94)" };
    node.animate([start, { opacity: 1, transform: "none" }], { duration: from ? 480 : 320, easing: "cubic-bezier(.2, .8, .2, 1)" });
  }
}
