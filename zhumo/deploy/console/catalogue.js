// A shop's items: what is known of each, asked for once, and how each looks.

import { blob, get } from "./api.js";
import { el, show, styled } from "./dom.js";
import { language } from "./words.js";

const WIDE = 480; // pixels of a picture

export const titleOf = (item) => item.title ?? item.id;
export const kindsOf = (item) => [].concat(item.category ?? []);
export const money = (price) => price.toLocaleString(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

// A number that stands for a word, always the same.
function numberOf(word) {
  let hash = 7;
  for (const sign of word) hash = (hash * 31 + sign.codePointAt(0)) >>> 0;
  return hash;
}

// The colour of an item: near that of its kind.
const hueOf = (kind, id) => (numberOf(kind) * 137 + (numberOf(id) % 5) * 8) % 360;

export class Catalogue {
  constructor(model, pictures) {
    Object.assign(this, { model, pictures, known: new Map(), painted: new Map() });
  }

  // The items of some ids, in their order; of one nobody knows just the id.
  async about(ids) {
    const missing = ids.filter((id) => !this.known.has(id));
    if (missing.length) this.keep((await get(this.path("v1/items", missing.map((id) => ["id", id])))).data);
    return ids.map((id) => this.known.get(id) ?? { id });
  }

  async search(query, limit) {
    return this.keep((await get(this.path("v1/items", [["limit", limit], ["q", query]]))).data);
  }

  keep(items) {
    for (const item of items) this.known.set(item.id, item);
    return items;
  }

  path(path, values) {
    return `${path}?${new URLSearchParams([["model", this.model], ...values])}`;
  }

  // The face of an item: its picture, or its first letter on the colour of its kind.
  tile(item) {
    const kind = kindsOf(item)[0] ?? "";
    const letter = [...titleOf(item).trim()][0]?.toUpperCase() ?? "";
    const face = styled(el("span", { class: "tile", "aria-hidden": "true" }, el("span", { class: "glyph" }, letter), el("span", { class: "kind" }, kind)), { hue: hueOf(kind, item.id) });
    if (this.pictures && item.picture) this.paint(item).then((picture) => picture && show(face, picture));
    return face;
  }

  // The picture on a canvas: it is fetched with the key, and the policy of the page allows no other address.
  async paint(item) {
    if (!this.painted.has(item.id)) this.painted.set(item.id, this.picture(item));
    const found = await this.painted.get(item.id);
    if (!found) return null;
    const canvas = el("canvas", { width: found.width, height: found.height });
    canvas.getContext("2d").drawImage(found, 0, 0);
    return canvas;
  }

  async picture(item) {
    try {
      const found = await createImageBitmap(await blob(this.path(`v1/items/${encodeURIComponent(item.id)}/picture`, [])));
      return found.width <= WIDE ? found : await createImageBitmap(found, { resizeWidth: WIDE, resizeQuality: "high" });
    } catch { return null; }
  }
}
