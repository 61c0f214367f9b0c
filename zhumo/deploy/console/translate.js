// Try a translator: a text in, its translation out.

import { drawAsk } from "./ask.js";
import { el } from "./dom.js";
import { say } from "./words.js";

export const drawTranslate = (place, model) => drawAsk(place, model, "v1/translations", translation);

function translation(answer) {
  const sure = `${say("page.translate.score")}: ${answer.score.toFixed(2)}`;
  return [el("p", { class: "said" }, answer.text), el("p", { class: "soft" }, sure)];
}
