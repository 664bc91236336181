// The streams that a page watches, as they are now. It follows the server's /events and comes back
// for ever, also where a line went dead.

import { request } from "./feed.js";
import { language } from "./language.js";
import { Stream } from "./stream.js";

const TYPES = ["stream_up", "stream_down", "stream_status", "taggers_changed", "title"];
TYPES.push("silence_on", "silence_off", "tag_on", "tag_off");
const SILENCE_MS = 25_000; // the server sends a sign of life every 10 s
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const LONGEST_EVENT = 4_000_000; // characters
/** This page's version: the folder of its files. */
const VERSION = new URL(".", import.meta.url).pathname.split("/").at(-2) ?? "";

export class Watch {
  /** @type {Map<string, Stream>} by name */
  streams = new Map();
  /** Whether the daemon is alive. */
  daemon = false;
  /** Of the connection: 200, the server's refusal (401), or 0. */
  status = 0;
  /** Called after an event was applied. @type {(body: any) => void} */
  onEvent = () => {};
  onStatus = () => {};
  #abort = new AbortController();
  #closed = false;
  #wait = FIRST_WAIT_MS;

  /** @param {Record<string, string>} query of /events @param {string[]} types of more messages */
  constructor(query, types) {
    const parameters = new URLSearchParams(query);
    for (const type of [...TYPES, ...types]) parameters.append("type", type);
    this.#run(`events?${parameters}`);
  }

  close() {
    this.#closed = true;
    this.#abort.abort();
  }

  /** Why the page is not live, in words; empty if it is. */
  trouble() {
    if (this.status !== 200) return language.text(this.status === 401 ? "refused" : "offline");
    return this.daemon ? "" : language.text("desk_no_daemon");
  }

  /** @param {string} path */
  async #run(path) {
    while (!this.#closed) {
      const status = await this.#listen(path).catch((error) => error.status ?? 0);
      if (this.#closed) return;
      this.#say(status);
      const wait = this.#wait * (0.75 + Math.random() / 2);
      this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  /** Applies the events of a connection until it ends. @param {string} path */
  async #listen(path) {
    const abort = (this.#abort = new AbortController());
    let dead = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const { headers, body } = await request(path, abort.signal);
      reloadIfOutdated(headers.get("Streamtag-Pages"));
      this.#say(200);
      const text = /** @type {ReadableStream} */ (body).pipeThrough(new TextDecoderStream());
      const reader = text.getReader();
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) return 0;
        clearTimeout(dead);
        dead = setTimeout(() => abort.abort(), SILENCE_MS);
        this.#wait = FIRST_WAIT_MS;
        const events = (rest + value).split("\n\n");
        rest = events.pop() ?? "";
        if (rest.length > LONGEST_EVENT) throw new Error("an event without end");
        for (const [, data] of events.map((one) => one.split("\ndata: "))) {
          if (data) this.#apply(JSON.parse(data)); // a sign of life has none
        }
      }
    } finally {
      clearTimeout(dead);
      abort.abort();
    }
  }

  /** @param {number} status */
  #say(status) {
    this.status = status;
    this.onStatus();
  }

  /** @param {any} body */
  #apply(body) {
    const { type, stream, streams } = body;
    if (type === "state") {
      this.daemon = body.daemon === "up";
      for (const name of this.streams.keys()) if (!(name in streams)) this.streams.delete(name);
      for (const name of Object.keys(streams)) this.#stream(name).replace(streams[name]);
    } else if (type === "daemon") this.daemon = body.state === "up";
    else if (type === "missed") this.#abort.abort(); // connects anew, for the present state
    else if (type === "stream_down" && body.detail === "removed") this.streams.delete(stream);
    else if (stream) this.#stream(stream).update(body, performance.now());
    this.onEvent(body);
  }

  /** @param {string} name */
  #stream(name) {
    const found = this.streams.get(name) ?? new Stream(name);
    this.streams.set(name, found);
    return found;
  }
}

/** Takes a new version of the pages, once, also where nobody touches the screen. */
function reloadIfOutdated(/** @type {string | null} */ version) {
  if (!version || version === VERSION || sessionStorage.getItem("reloaded") === version) return;
  sessionStorage.setItem("reloaded", version);
  location.reload();
}
