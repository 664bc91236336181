// What the feed says about one stream.

/**
 * A tag that is on.
 * @typedef {object} ActiveTag
 * @property {string} tag
 * @property {string} display its name in the stream's language; may be empty
 * @property {number} probability the newest one, smoothed
 * @property {number} since on the page's own clock, in milliseconds
 */
/** @typedef {{valence: number, arousal: number, certainty: number}} Mood */

const MEASUREMENTS = ["scores", "mood", "level"];
const LONG_AGO = -1e9; // on before this page looked

export class Stream {
  constructor() {
    /** Grows with every change. */
    this.version = 0;
    this.status = "unknown";
    this.cause = "";
    this.detail = "";
    /** Since when it is so, in milliseconds since 1970; NaN if that is not known. */
    this.since = NaN;
    this.title = "";
    this.silent = false;
    /** The newest event. @type {{type: string, what: string, at: number} | null} */
    this.last = null;
    /** @type {Map<string, ActiveTag>} by tag and tagger */
    this.tags = new Map();
    /** @type {Mood | null} */
    this.mood = null;
    /** @type {import("./meter.js").Level | null} */
    this.level = null;
  }

  /**
   * Takes over a stream's part of the event `state`.
   * @param {any} state
   */
  replace(state) {
    this.version += 1;
    this.status = state.status;
    this.cause = state.cause;
    this.detail = state.detail;
    this.since = Date.parse(state.since);
    this.last = state.last && { type: state.last.type, what: state.last.what, at: Date.parse(state.last.utc) };
    this.title = state.title;
    this.silent = state.silent;
    this.mood = state.mood;
    const known = this.tags;
    this.tags = new Map();
    for (const { tag, tagger, display, probability } of state.tags) {
      const since = known.get(key(tag, tagger))?.since ?? LONG_AGO;
      const now = state.scores[tagger]?.tags[tag] ?? probability;
      const name = display === tag ? "" : display;
      this.tags.set(key(tag, tagger), { tag, display: name, probability: now, since });
    }
  }

  /**
   * Applies a message of the feed.
   * @param {any} m
   * @param {number} now on the page's own clock, in milliseconds
   */
  update(m, now) {
    this.version += 1;
    if (!MEASUREMENTS.includes(m.type)) this.#note(m);
    switch (m.type) {
      case "stream_up":
        this.status = "up";
        this.cause = this.detail = "";
        break;
      case "stream_status":
        this.status = m.state;
        this.cause = m.cause;
        this.detail = m.detail;
        break;
      case "stream_down":
        this.#down(m);
        break;
      case "title":
        this.title = m.title;
        break;
      case "silence_on":
      case "silence_off":
        this.silent = m.type === "silence_on";
        break;
      case "tag_on":
        this.tags.set(key(m.tag, m.tagger), {
          tag: m.tag,
          display: m.display,
          probability: m.probability,
          since: now,
        });
        break;
      case "tag_off":
        this.tags.delete(key(m.tag, m.tagger));
        break;
      case "scores":
        for (let i = 0; i < m.tags.length; i++) {
          const active = this.tags.get(key(m.tags[i], m.tagger));
          if (active) active.probability = m.smoothed[i];
        }
        break;
      case "mood":
        this.mood = m;
        break;
      case "level":
        this.level = { peak: m.peak_dbfs, mean: m.rms_dbfs, at: now };
        break;
    }
  }

  /** @param {any} m an event */
  #note(m) {
    const at = Date.parse(m.utc);
    this.last = { type: m.type, what: m.display || m.tag || m.title || m.cause || "", at };
    if (/^(stream|silence)_/.test(m.type)) this.since = at;
  }

  /** @param {any} m */
  #down(m) {
    const stays = this.status === "failed" || this.status === "paused";
    if (!stays || m.reason === "shutdown" || m.reason === "recovered") {
      this.status = "down";
      this.detail = m.detail;
    }
    this.tags.clear();
    this.title = "";
    this.silent = false;
    this.mood = this.level = null;
  }
}

/**
 * A tag without what stands before the dashes in `genre---rock`.
 * @param {string} tag
 */
export function bareName(tag) {
  const dashes = tag.lastIndexOf("---");
  return dashes < 0 ? tag : tag.slice(dashes + 3);
}

/** @param {string} tag @param {string} tagger */
function key(tag, tagger) {
  return `${tagger}\n${tag}`;
}
