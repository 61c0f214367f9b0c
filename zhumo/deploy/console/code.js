// The same question as a command, to be taken into one's own program.

import { el } from "./dom.js";
import { say } from "./words.js";

export function codeFor(path, body) {
  const address = new URL(path, document.baseURI.split("#")[0]).href;
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  const command = `curl ${address} \\\n  -H "Authorization: Bearer $ZHUMO_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${quoted}'`;
  return el("details", { class: "code" }, el("summary", {}, say("page.code")), el("pre", { tabindex: "0" }, command));
}
