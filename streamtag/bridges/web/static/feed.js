// The connection to the server's /events. It comes back for ever, and notices a line that went dead.

const SILENCE_MS = 25_000; // the server sends a sign of life every 10 s
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const LONGEST_EVENT = 4_000_000; // characters

/** This page's version: the folder of its files. */
const VERSION = new URL(".", import.meta.url).pathname.split("/").at(-2) ?? "";
/** The server's root, also behind a proxy's prefix. */
export const ROOT = new URL("../../", import.meta.url);

/** The token from `#token=…`, which stays in the browser; for screens where nobody signs in. */
export function tokenOf(address = location) {
  return new URLSearchParams(address.hash.slice(1)).get("token") ?? "";
}

/** Goes to the page of the sign-in, and comes back to this one afterwards. */
export function goToSignIn() {
  const url = new URL("sign-in", ROOT);
  url.searchParams.set("next", location.href.slice(ROOT.href.length));
  location.assign(url);
}

/** @param {string} path relative to the server's root, with its parameters @param {AbortSignal} [signal] */
export async function request(path, signal) {
  const token = tokenOf();
  const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
  const options = { headers, signal, cache: /** @type {const} */ ("no-store") };
  const response = await fetch(new URL(path, ROOT), options);
  if (!response.ok) throw new Refusal(response.status);
  return response;
}

/**
 * A request that changes something. The header shows the server that one of its own pages sent it.
 * @param {string} method @param {string} path @param {object} [body]
 * @returns {Promise<{status: number, body: any}>} also where the server refuses; `error` says why
 */
export async function send(method, path, body) {
  const headers = { "Streamtag-Request": "1", "Content-Type": "application/json" };
  const options = { method, headers, body: JSON.stringify(body ?? {}), cache: /** @type {const} */ ("no-store") };
  const response = await fetch(new URL(path, ROOT), options);
  return { status: response.status, body: await response.json() };
}

/** The server answered with an error. */
export class Refusal extends Error {
  /** @param {number} status */
  constructor(status) {
    super(`HTTP ${status}`);
    this.status = status;
  }
}

/** Server-sent events from chunks of text. */
export class EventParser {
  #rest = "";

  /** @param {string} chunk @returns {any[]} the bodies of the events that are complete now */
  push(chunk) {
    const parts = (this.#rest + chunk).split("\n\n");
    this.#rest = parts.pop() ?? "";
    if (this.#rest.length > LONGEST_EVENT) throw new Error("an event without end");
    const bodies = [];
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: "));
      if (data.length) bodies.push(JSON.parse(data.map((line) => line.slice(6)).join("\n")));
    }
    return bodies;
  }
}

/** Follows /events until it is closed. */
export class Feed {
  #abort = new AbortController();
  #closed = false;
  #wait = FIRST_WAIT_MS;

  /**
   * @param {string} query of /events, such as `stream=room&type=mood`
   * @param {(body: any) => void} onEvent
   * @param {(status: number) => void} onStatus 200 when connected, the server's refusal (401), or 0
   */
  constructor(query, onEvent, onStatus) {
    this.#run(query, onEvent, onStatus);
  }

  /** Connects anew, for the present state. */
  restart() {
    this.#abort.abort();
  }

  close() {
    this.#closed = true;
    this.#abort.abort();
  }

  /** @param {string} query @param {(body: any) => void} onEvent @param {(status: number) => void} onStatus */
  async #run(query, onEvent, onStatus) {
    while (!this.#closed) {
      let status = 0;
      try {
        await this.#listen(query, onEvent, onStatus);
      } catch (error) {
        status = error instanceof Refusal ? error.status : 0;
      }
      if (this.#closed) return;
      onStatus(status);
      const wait = this.#wait * (0.75 + Math.random() / 2);
      this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  /** @param {string} query @param {(body: any) => void} onEvent @param {(status: number) => void} onStatus */
  async #listen(query, onEvent, onStatus) {
    const abort = (this.#abort = new AbortController());
    let dead = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const response = await request(`events?${query}`, abort.signal);
      reloadIfOutdated(response.headers.get("Streamtag-Pages"));
      if (!response.body) return;
      onStatus(200);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(dead);
        dead = setTimeout(() => abort.abort(), SILENCE_MS);
        this.#wait = FIRST_WAIT_MS;
        for (const body of parser.push(value)) onEvent(body);
      }
    } finally {
      clearTimeout(dead);
      abort.abort();
    }
  }
}

/** Takes a new version of the pages, once; a screen that nobody touches gets its updates so. */
function reloadIfOutdated(/** @type {string | null} */ version) {
  if (!version || version === VERSION) return;
  if (sessionStorage.getItem("reloaded") === version) return;
  sessionStorage.setItem("reloaded", version);
  location.reload();
}
