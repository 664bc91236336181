// The streams that a page watches, as they are now.

import { Feed } from "./feed.js";
import { Stream } from "./stream.js";

const TYPES = ["stream_up", "stream_down", "stream_status", "taggers_changed", "title"];
TYPES.push("silence_on", "silence_off", "tag_on", "tag_off");

export class Watch {
  /** @type {Map<string, Stream>} by name */
  streams = new Map();
  /** Whether the daemon is alive. */
  daemon = false;
  /** Of the connection: 200, the server's refusal (401), or 0. */
  status = 0;
  /** Called after an event was applied. @type {(body: any) => void} */
  onEvent = () => {};
  /** @type {() => void} */
  onStatus = () => {};

  /** @param {Record<string, string>} query of /events @param {string[]} types of more messages */
  constructor(query, types) {
    const parameters = new URLSearchParams(query);
    for (const type of [...TYPES, ...types]) parameters.append("type", type);
    this.feed = new Feed(String(parameters));
    this.feed.onEvent = (body) => {
      this.#apply(body);
      this.onEvent(body);
    };
    this.feed.onStatus = (status) => {
      this.status = status;
      this.onStatus();
    };
  }

  close() {
    this.feed.close();
  }

  /** Why the page is not live, in words; empty if it is. @param {Language} language */
  trouble(language) {
    if (this.status !== 200) return language.text(this.status === 401 ? "refused" : "offline");
    return this.daemon ? "" : language.text("desk_no_daemon");
  }

  /** @param {any} body */
  #apply(body) {
    const { type, stream, streams } = body;
    if (type === "state") {
      this.daemon = body.daemon === "up";
      for (const name of this.streams.keys()) if (!(name in streams)) this.streams.delete(name);
      for (const name of Object.keys(streams)) this.#stream(name).replace(streams[name]);
    } else if (type === "daemon") this.daemon = body.state === "up";
    else if (type === "missed") this.feed.restart();
    else if (type === "stream_down" && body.detail === "removed") this.streams.delete(stream);
    else if (stream) this.#stream(stream).update(body, performance.now());
  }

  /** @param {string} name */
  #stream(name) {
    const found = this.streams.get(name) ?? new Stream(name);
    this.streams.set(name, found);
    return found;
  }
}
