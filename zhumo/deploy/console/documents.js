// Knowledge: the documents answered from, uploads, and what visitors ask that none of them answers.

import { Failure, get, put, remove } from "./api.js";
import { drawWrong } from "./correct.js";
import { el, problem, show } from "./dom.js";
import { count, moment, say } from "./words.js";

const MOST = 50; // gaps shown

export async function drawKnowledge(place, about) {
  const list = el("div"), gaps = el("div");
  const tell = el("ul", { class: "told", "aria-live": "polite" });
  const pick = el("input", { type: "file", id: "files", class: "hidden", multiple: true, onchange: () => { upload([...pick.files]); pick.value = ""; } });
  const drop = el("label", { for: "files", class: "drop" }, el("strong", {}, say("page.desk.drop")), el("span", { class: "soft small" }));
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); upload([...event.dataTransfer.files]); });
  show(place, el("div", { class: "knowledge" }, el("section", { class: "panel" }, el("h2", {}, say("page.desk.documents")), pick, drop, tell, list),
    el("section", { class: "panel" }, el("h2", {}, say("page.desk.gaps")), el("p", { class: "soft small" }, say("page.desk.gaps.about")), gaps)));
  let most = Infinity;
  await Promise.all([refresh(), missing()]);

  async function refresh() {
    try {
      const told = await get("v1/desk/documents");
      most = told.most_bytes;
      pick.accept = told.kinds.join(",");
      show(drop.lastChild, say("page.desk.drop.about", { kinds: told.kinds.map((kind) => kind.slice(1)).join(", "), most: most / 1e6 }));
      const problems = told.problems.map((bad) => el("li", {}, el("p", { class: "name" }, bad.file), el("p", { class: "wrong small" }, bad.problem)));
      show(list, el("ul", { class: "documents" }, problems, told.data.map(drawOne)), !told.data.length && !problems.length && el("p", { class: "soft empty" }, say("page.desk.documents.none")));
    } catch (error) { show(list, problem(error, refresh)); }
  }

  function drawOne(one) {
    const facts = [say("page.desk.passages", { n: count(one.passages) }), one.merged > 0 && say("page.desk.merged", { n: count(one.merged) }), moment(one.read), one.uploaded && say("page.desk.uploaded")];
    const gone = one.uploaded && el("button", { type: "button", class: "quiet small", "aria-label": say("page.desk.delete.one", { file: one.file }), onclick: () => forget(one, gone) }, say("page.desk.delete"));
    return el("li", { class: "line between" }, el("div", {}, el("p", { class: "name" }, one.file), el("p", { class: "soft small" }, facts.filter(Boolean).join(" · "))), gone);
  }

  async function upload(files) {
    for (const file of files) {
      const line = el("li", { class: "small soft" }, say("page.desk.reading", { file: file.name }));
      tell.append(line);
      try {
        // A server that refuses a body half-way looks like one that is gone.
        if (file.size > most) throw new Failure(413, say("page.desk.too_large", { file: file.name, most: most / 1e6 }));
        const made = await put(`v1/desk/documents/${encodeURIComponent(file.name)}`, file);
        show(line, say("page.desk.read", { file: made.file, passages: count(made.passages) }));
      } catch (error) {
        line.className = "small wrong";
        show(line, error.message);
      }
      await refresh();
    }
  }

  async function forget(one, button) {
    // The second click means it: what is deleted is gone from the disk.
    if (!button.classList.contains("sure-of-it")) {
      button.classList.add("sure-of-it");
      button.addEventListener("blur", refresh, { once: true });
      return show(button, say("page.desk.delete.really"));
    }
    try {
      await remove(`v1/desk/documents/${encodeURIComponent(one.file)}`);
      await refresh();
    } catch (error) { show(tell, el("li", { class: "small wrong" }, error.message)); }
  }

  async function missing() {
    if (!about.kept) return show(gaps, el("p", { class: "soft empty" }, say("page.desk.not_kept")));
    try {
      const { data } = await get("v1/desk/gaps");
      show(gaps, data.length ? el("ol", { class: "gaps" }, data.slice(0, MOST).map(drawGap)) : el("p", { class: "soft empty" }, say("page.desk.gaps.none")));
    } catch (error) { show(gaps, problem(error, missing)); }
  }

  function drawGap(gap) {
    return drawWrong(gap.question, gap.size, gap.members.length > 1 && el("details", {}, el("summary", {}, say("page.desk.gaps.more", { n: gap.members.length - 1 })),
      el("ul", { class: "small soft" }, gap.members.slice(1).map((one) => el("li", {}, one)))));
  }
}
