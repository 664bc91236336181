// What the feed says about one stream.

const NO_EVENTS = ["scores", "mood", "level", "clip"];
const LONG_AGO = -1e9; // on before this page looked

/** What messages change. @type {Record<string, (s: Stream, m: any, now: number) => void>} */
const CHANGES = {
  stream_up: (s) => Object.assign(s, { status: "up", cause: "", detail: "" }),
  stream_status: (s, m) => Object.assign(s, { status: m.state, cause: m.cause, detail: m.detail }),
  stream_down: end,
  title: (s, m) => (s.title = m.title),
  silence_on: (s) => (s.silent = true),
  silence_off: (s) => (s.silent = false),
  tag_on: (s, { tag, tagger, display, probability }, now) =>
    s.tags.set(key(tag, tagger), { tag, display, probability, since: now }),
  tag_off: (s, m) => s.tags.delete(key(m.tag, m.tagger)),
  scores: (s, m) =>
    m.tags.forEach((/** @type {string} */ tag, /** @type {number} */ i) => {
      const active = s.tags.get(key(tag, m.tagger));
      if (active) active.probability = m.smoothed[i];
    }),
  mood: (s, m) => (s.mood = m),
  level: (s, m, now) => (s.level = { peak: m.peak_dbfs, mean: m.rms_dbfs, lufs: m.lufs, at: now }),
};

export class Stream {
  /** Grows with every change. */
  version = 0;
  status = "unknown";
  cause = "";
  detail = "";
  /** Since when it is so, in milliseconds since 1970; NaN if that is not known. */
  since = NaN;
  title = "";
  silent = false;
  /** The newest event. @type {{type: string, what: string, at: number} | null} */
  last = null;
  /** @type {Map<string, ActiveTag>} by tag and tagger */
  tags = new Map();
  /** @type {Mood | null} */
  mood = null;
  /** @type {Level | null} */
  level = null;
  /** A letter for each minute of the last hour, see GET /api/overview. */
  hour = "";

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** The names of the tags that are on. */
  get on() {
    return Array.from(this.tags.values(), ({ tag }) => tag);
  }

  /** What to search for, and to sort by. @returns {State} */
  get state() {
    if (this.status === "up") return this.silent ? "silent" : "up";
    if (this.status === "failed" || this.status === "paused") return this.status;
    return this.status === "connecting" || this.status === "unknown" ? "waiting" : "lost";
  }

  /** Takes over a stream's part of the event `state`. @param {any} state */
  replace(state) {
    const { status, cause, detail, title, silent, mood, last } = state;
    Object.assign(this, { status, cause, detail, title, silent, mood });
    this.version += 1;
    this.since = Date.parse(state.since);
    this.last = last && { type: last.type, what: last.what, at: Date.parse(last.utc) };
    const known = this.tags;
    this.tags = new Map();
    for (const { tag, tagger, display, probability } of state.tags) {
      const since = known.get(key(tag, tagger))?.since ?? LONG_AGO;
      const now = state.scores[tagger]?.tags[tag] ?? probability;
      const name = display === tag ? "" : display;
      this.tags.set(key(tag, tagger), { tag, display: name, probability: now, since });
    }
  }

  /** Applies a message of the feed. @param {any} m @param {number} now on the page's own clock */
  update(m, now) {
    this.version += 1;
    CHANGES[m.type]?.(this, m, now);
    if (NO_EVENTS.includes(m.type)) return;
    const at = Date.parse(m.utc);
    this.last = { type: m.type, what: m.display || m.tag || m.title || m.cause || "", at };
    if (/^(stream|silence)_/.test(m.type)) this.since = at;
  }
}

/** @param {Stream} stream @param {any} m */
function end(stream, m) {
  const stays = stream.status === "failed" || stream.status === "paused";
  if (!stays || m.reason === "shutdown" || m.reason === "recovered") {
    Object.assign(stream, { status: "down", detail: m.detail });
  }
  stream.tags.clear();
  Object.assign(stream, { title: "", silent: false, mood: null, level: null });
}

/** A tag without what stands before the dashes in `genre---rock`. @param {string} tag */
export function bareName(tag) {
  return tag.split("---").at(-1) ?? "";
}

/** @param {string} tag @param {string} tagger */
function key(tag, tagger) {
  return `${tagger}\n${tag}`;
}
