// The server, asked with the key of this tab.

import { language, say } from "./words.js";

const KEY = "zhumo.key";

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The key comes in the address, which never leaves the browser; it is kept for this tab and taken out of sight.
export function takeKey() {
  const found = /^#key=(.+)$/.exec(location.hash);
  if (!found) return;
  setKey(decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname);
}

export const setKey = (key) => sessionStorage.setItem(KEY, key.trim());
export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

async function ask(path, body, signal, method = body ? "POST" : "GET") {
  const headers = { "Authorization": `Bearer ${sessionStorage.getItem(KEY) ?? ""}`, "Accept-Language": language };
  const file = body instanceof Blob;
  if (body) headers["Content-Type"] = file ? "application/octet-stream" : "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && !file ? JSON.stringify(body) : body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, say("page.away"));
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => null);
  throw new Failure(answer.status, problem?.error?.message ?? `${answer.status} ${answer.statusText}`);
}

export const get = async (path) => (await ask(path)).json();
export const blob = async (path) => (await ask(path)).blob();
export const text = async (path) => (await ask(path)).text();
export const put = async (path, file) => (await ask(path, file, undefined, "PUT")).json();
export const remove = async (path) => (await ask(path, undefined, undefined, "DELETE")).json();
export const post = async (path, body, signal) => (await ask(path, body, signal)).json();

// Each event of a stream, as it comes. Leaving the loop, or the signal, ends it at the server too.
export async function* stream(path, body, signal) {
  const answer = await ask(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const found = JSON.parse(data);
      if (found.error) throw new Failure(500, found.error.message);
      yield found;
    }
  }
}
