// The connection to the server's /events. It comes back for ever, also where a line went dead.

const SILENCE_MS = 25_000; // the server sends a sign of life every 10 s
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const LONGEST_EVENT = 4_000_000; // characters

/** This page's version: the folder of its files. */
const VERSION = new URL(".", import.meta.url).pathname.split("/").at(-2) ?? "";
/** The server's root, also behind a proxy's prefix. */
export const ROOT = new URL("../../", import.meta.url);

/** The token from `#token=…`, which stays in the browser; for screens where nobody signs in. */
export const tokenOf = () => new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

/** Goes to the page of the sign-in, and comes back to this one afterwards. */
export function goToSignIn() {
  const url = new URL("sign-in", ROOT);
  url.searchParams.set("next", location.href.slice(ROOT.href.length));
  location.assign(url);
}

/** @param {string} path behind the server's root @param {AbortSignal} [signal] */
export async function request(path, signal) {
  const headers = tokenOf() ? { Authorization: `Bearer ${tokenOf()}` } : undefined;
  const response = await fetch(new URL(path, ROOT), { headers, signal, cache: "no-store" });
  if (!response.ok) throw new Refusal(response.status);
  return response;
}

/** The server answered with an error. */
export class Refusal extends Error {
  /** @param {number} status */
  constructor(status) {
    super(`HTTP ${status}`);
    this.status = status;
  }
}

/** Follows /events until it is closed. */
export class Feed {
  #abort = new AbortController();
  #closed = false;
  #wait = FIRST_WAIT_MS;
  /** @type {(body: any) => void} */
  onEvent = () => {};
  /** 200 when connected, the server's refusal, or 0. @type {(status: number) => void} */
  onStatus = () => {};

  /** @param {string} query of /events, such as `stream=room&type=mood` */
  constructor(query) {
    this.query = query;
    this.#run();
  }

  /** Connects anew, for the present state. */
  restart() {
    this.#abort.abort();
  }

  close() {
    this.#closed = true;
    this.#abort.abort();
  }

  async #run() {
    while (!this.#closed) {
      const status = await this.#listen().catch((error) => error.status ?? 0);
      if (this.#closed) return;
      this.onStatus(status);
      const wait = this.#wait * (0.75 + Math.random() / 2);
      this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  /** Hands on the events of a connection until it ends. */
  async #listen() {
    const abort = (this.#abort = new AbortController());
    let dead = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const { headers, body } = await request(`events?${this.query}`, abort.signal);
      reloadIfOutdated(headers.get("Streamtag-Pages"));
      this.onStatus(200);
      let rest = "";
      for await (const text of chunks(/** @type {ReadableStream} */ (body))) {
        clearTimeout(dead);
        dead = setTimeout(() => abort.abort(), SILENCE_MS);
        this.#wait = FIRST_WAIT_MS;
        const parts = (rest + text).split("\n\n");
        rest = parts.pop() ?? "";
        if (rest.length > LONGEST_EVENT) throw new Error("an event without end");
        for (const part of parts) this.#handle(part);
      }
      return 0;
    } finally {
      clearTimeout(dead);
      abort.abort();
    }
  }

  /** @param {string} part an event of the server; a sign of life has no data */
  #handle(part) {
    const data = part.split("\n").filter((line) => line.startsWith("data: "));
    if (data.length) this.onEvent(JSON.parse(data.map((line) => line.slice(6)).join("\n")));
  }
}

/** @param {ReadableStream} body */
async function* chunks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** Takes a new version of the pages, once, also where nobody touches the screen. */
function reloadIfOutdated(/** @type {string | null} */ version) {
  if (!version || version === VERSION || sessionStorage.getItem("reloaded") === version) return;
  sessionStorage.setItem("reloaded", version);
  location.reload();
}
