// The past of a stream from the journal: when it was received, its titles, and when each tag was on.

import { request } from "./feed.js";
import { formatTime } from "./settings.js";
import { PLACES, byId, colour, element, linkTo } from "./shell.js";

/** @typedef {[number, number]} Span in milliseconds since 1970 */
/** @typedef {{tagger: string, tag: string, spans: Span[]}} TagSpans */
/**
 * What GET /api/timeline answers.
 * @typedef {{from: number, to: number, received: Span[], silences: Span[], gaps: Span[], titles: [number, number, string][], states: [number, number, string][], tags: TagSpans[]}} Past
 */
/** @typedef {{name: string, tagger: string, tag: string, paint: string, spans: Span[]}} Row */

const HOUR = 3_600_000;
const LONGEST = 8 * 24 * HOUR;
const SHORTEST = 60_000;
const LONGEST_CLIP = HOUR;
const MOST_TAGS = 24;
const ROW = 17;
const AXIS = 20;
const REFRESH_MS = 20_000;
const TICKS = [1, 5, 15, 30, 60, 180, 360, 720, 1440].map((minutes) => minutes * 60_000);

export class Timeline {
  #past = /** @type {Past | null} */ (null);
  #rows = /** @type {Row[]} */ ([]);
  #from = 0;
  #to = 0;
  #follows = true;
  #asked = 0;
  #drag = /** @type {{x: number, from: number, moved: boolean} | null} */ (null);

  /** @param {string} stream @param {import("./shell.js").TagBook} book */
  constructor(stream, book) {
    this.stream = stream;
    this.book = book;
    this.canvas = /** @type {HTMLCanvasElement} */ (byId("timeline"));
    const query = new URLSearchParams(location.search);
    const [from, to] = [Number(query.get("from")), Number(query.get("to"))];
    if (to - from >= SHORTEST) [this.#from, this.#to, this.#follows] = [from, to, false];
    else this.#last(HOUR);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    setInterval(() => this.#follows && document.visibilityState === "visible" && this.#last(this.#to - this.#from), REFRESH_MS);
    this.#ask();
  }

  /** Shows the last time until now. @param {number} length in milliseconds */
  #last(length) {
    this.#follows = true;
    this.#show(Date.now() - length, Date.now());
  }

  /** @param {number} from @param {number} to */
  #show(from, to) {
    const length = Math.min(LONGEST, Math.max(SHORTEST, to - from));
    this.#to = Math.min((from + to + length) / 2, Date.now());
    this.#from = this.#to - length;
    const url = new URL(location.href);
    url.search = this.#follows ? "" : `?from=${Math.round(this.#from)}&to=${Math.round(this.#to)}`;
    history.replaceState(null, "", url);
    this.draw();
    clearTimeout(this.#asked);
    this.#asked = window.setTimeout(() => this.#ask(), 200);
  }

  /** @param {number} factor @param {number} [at] the moment that stays where it is */
  #zoom(factor, at = this.#follows ? this.#to : (this.#from + this.#to) / 2) {
    if (at !== this.#to) this.#follows = false;
    this.#show(at - (at - this.#from) * factor, at + (this.#to - at) * factor);
  }

  /** @param {number} share of what is shown */
  #pan(share) {
    const step = share * (this.#to - this.#from);
    this.#follows = this.#to + step >= Date.now();
    this.#show(this.#from + step, this.#to + step);
  }

  async #ask() {
    const iso = (/** @type {number} */ ms) => new Date(ms).toISOString();
    const query = new URLSearchParams({ stream: this.stream, from: iso(this.#from), to: iso(this.#to) });
    try {
      this.#past = await (await request(`api/timeline?${query}`)).json();
      this.draw();
    } catch {
      // there is no journal, or the server is away
    }
  }

  #listen() {
    const { canvas } = this;
    const text = (/** @type {string} */ key) => this.book.language.text(key);
    const add = (/** @type {string} */ where, /** @type {string} */ name, /** @type {() => void} */ press) => {
      const button = element("button", "", name);
      button.addEventListener("click", press);
      byId(where).append(button);
    };
    for (const [name, hours] of /** @type {[string, number][]} */ ([["1 h", 1], ["6 h", 6], ["24 h", 24], ["7 d", 168]])) {
      add("zoom", name, () => this.#last(hours * HOUR));
    }
    for (const [name, act] of /** @type {[string, () => void][]} */ ([["−", () => this.#zoom(2)], ["+", () => this.#zoom(0.5)], ["‹", () => this.#pan(-0.5)], ["›", () => this.#pan(0.5)]])) add("zoom", name, act);
    byId("zoom").ariaLabel = text("stream_zoom");
    add("export", "CSV", () => this.#save("csv", new Blob([this.#csv()], { type: "text/csv" })));
    add("export", "JSON", () => this.#save("json", new Blob([JSON.stringify(this.#past)], { type: "application/json" })));
    add("export", "PNG", () => canvas.toBlob((blob) => blob && this.#save("png", blob)));
    canvas.addEventListener("pointerdown", (event) => {
      this.#drag = { x: event.offsetX, from: this.#from, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const drag = this.#drag;
      if (!drag || (!drag.moved && Math.abs(event.offsetX - drag.x) < 5)) return;
      drag.moved = true;
      const from = drag.from - ((event.offsetX - drag.x) / this.#wide) * (this.#to - this.#from);
      this.#follows = false;
      this.#show(from, from + this.#to - this.#from);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (this.#drag && !this.#drag.moved) this.#choose(event.offsetX, event.offsetY);
      this.#drag = null;
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls
      event.preventDefault();
      this.#zoom(event.deltaY + event.deltaX > 0 ? 1.25 : 0.8, this.#moment(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft" || key === "ArrowRight") this.#pan(key === "ArrowLeft" ? -0.25 : 0.25);
      else if (key === "+" || key === "-") this.#zoom(key === "+" ? 0.5 : 2);
    });
  }

  get #left() {
    return this.canvas.clientWidth < 600 ? 104 : 140;
  }

  get #wide() {
    return Math.max(60, this.canvas.clientWidth - this.#left - 4);
  }

  /** @param {number} x */
  #moment(x) {
    return this.#from + ((x - this.#left) / this.#wide) * (this.#to - this.#from);
  }

  draw() {
    const { canvas, book } = this;
    const past = this.#past;
    const text = (/** @type {string} */ key) => book.language.text(key);
    const total = (/** @type {TagSpans} */ { spans }) => spans.reduce((sum, [a, b]) => sum + b - a, 0);
    const tags = [...(past?.tags ?? [])].sort((a, b) => total(b) - total(a)).slice(0, MOST_TAGS);
    const place = (/** @type {TagSpans} */ { tag }) => PLACES.indexOf(book.place(tag));
    tags.sort((a, b) => place(a) - place(b) || total(b) - total(a));
    this.#rows = tags.map(({ tagger, tag, spans }) => ({ name: book.name(tag), tagger, tag, paint: book.colour(tag), spans }));
    canvas.style.height = `${(this.#rows.length + 2) * ROW + AXIS}px`;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.scale(devicePixelRatio, devicePixelRatio);
    const font = getComputedStyle(document.body).fontFamily;
    const left = this.#left;
    const x = (/** @type {number} */ ms) => left + ((ms - this.#from) / (this.#to - this.#from)) * this.#wide;
    const bar = (/** @type {number} */ row, /** @type {Iterable<any>} */ spans, /** @type {string} */ paint, inset = 3) => {
      context.fillStyle = paint;
      for (const [a, b] of spans) context.fillRect(x(a), row * ROW + inset, Math.max(1, x(b) - x(a)), ROW - 2 * inset);
    };
    context.textBaseline = "middle";
    this.#drawTicks(context, x, font);
    if (!past) return;
    context.save();
    context.beginPath();
    context.rect(left, 0, this.#wide, canvas.clientHeight);
    context.clip();
    bar(0, [[past.from, past.to]], colour("line"));
    bar(0, past.states.filter(([, , state]) => state !== "paused"), colour("lost"));
    bar(0, past.received, colour("good"), 5.5);
    bar(0, past.silences, colour("warn"));
    bar(0, past.gaps, colour("lost"));
    this.#rows.forEach((row, i) => bar(i + 2, row.spans, row.paint));
    context.font = `11px ${font}`;
    for (const [a, b, title] of past.titles) {
      bar(1, [[a, b]], colour("line"), 1.5);
      context.fillStyle = colour("ground");
      context.fillRect(x(a), ROW, 1, ROW);
      context.fillStyle = colour("ink");
      context.textAlign = "left";
      const begin = Math.max(left, x(a)) + 4;
      if (x(b) - begin > 24) context.fillText(cut(context, title, x(b) - begin - 4), begin, 1.5 * ROW);
    }
    context.restore();
    context.textAlign = "right";
    [text("stream_signal"), text("desk_column_title"), ...this.#rows.map((row) => row.name)].forEach((name, i) => {
      context.fillStyle = colour(i < 2 ? "quiet" : "ink");
      context.font = `12px ${font}`;
      context.fillText(name, left - 10, (i + 0.5) * ROW, left - 14);
    });
  }

  /** @param {CanvasRenderingContext2D} context @param {(ms: number) => number} x @param {string} font */
  #drawTicks(context, x, font) {
    const length = this.#to - this.#from;
    const step = TICKS.find((tick) => (this.#wide * tick) / length > 68) ?? TICKS[8];
    const zone = new Date(this.#from).getTimezoneOffset() * 60_000;
    const bottom = this.canvas.clientHeight - AXIS;
    context.font = `11px ${font}`;
    context.textAlign = "center";
    for (let at = Math.ceil((this.#from - zone) / step) * step + zone; at < this.#to; at += step) {
      if (x(at) > this.#left + this.#wide - 24) break; // its label would be cut
      context.fillStyle = colour("line");
      context.fillRect(x(at), 0, 1, bottom);
      context.fillStyle = colour("quiet");
      const day = step >= TICKS[8] || new Date(at).getHours() + new Date(at).getMinutes() === 0;
      const label = formatTime(at, day ? { weekday: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" });
      context.fillText(label, x(at), bottom + AXIS / 2 + 2);
    }
  }

  /** Shows what there is at a place. @param {number} px @param {number} py */
  async #choose(px, py) {
    const row = this.#rows[Math.floor(py / ROW) - 2];
    const slack = (4 / this.#wide) * (this.#to - this.#from);
    const at = this.#moment(px);
    const span = row?.spans.find(([a, b]) => a - slack <= at && at <= b + slack);
    const panel = byId("detail");
    if (!span) return panel.replaceChildren();
    const [from, to] = [new Date(span[0] - 1000).toISOString(), new Date(span[1] + 1000).toISOString()];
    const { stream } = this;
    const events = new URLSearchParams({ stream, tag: row.tag, from, to, limit: "1000" });
    const curve = new URLSearchParams({ stream, tagger: row.tagger, tag: row.tag, from, to });
    const [found, { points }] = await Promise.all([`api/history?${events}`, `api/curve?${curve}`].map(async (path) => (await request(path)).json()));
    const mine = found.events.filter((/** @type {any} */ event) => event.tagger === row.tagger);
    const on = mine.find((/** @type {any} */ event) => event.type === "tag_on") ?? {};
    const offs = mine.filter((/** @type {any} */ event) => event.type === "tag_off");
    const { language, about } = this.book;
    const seconds = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
    const peak = Math.max(on.probability ?? 0, ...offs.map((/** @type {any} */ off) => off.peak));
    /** @type {[string, string][]} */
    const facts = [
      ["stream_time", `${formatTime(span[0], seconds)} – ${formatTime(span[1], seconds)}`],
      ["stream_length", `${((span[1] - span[0]) / 1000).toFixed(1)} s${offs.length > 1 ? `, ${offs.length} ×` : ""}`],
      ["stream_peak", peak.toFixed(2)],
      ["stream_threshold", about[row.tag]?.threshold.toFixed(2) ?? ""],
      ["stream_model", [row.tagger, on.model].filter(Boolean).join(" · ")],
      ["desk_column_title", on.title ?? ""],
    ];
    const list = element("dl");
    for (const [key, value] of facts) if (value) list.append(element("dt", "", language.text(key)), element("dd", "", value));
    const name = element("h3", "", row.name);
    panel.replaceChildren(name, list);
    panel.append(...(await this.#clips(span)));
    if (points.length > 1) panel.append(drawCurve(points, about[row.tag]?.threshold ?? 0.5, row.paint));
  }

  /** Players of the clips that are kept of a span. @param {Span} span */
  async #clips([begin, end]) {
    const from = new Date(begin - LONGEST_CLIP).toISOString();
    const query = new URLSearchParams({ stream: this.stream, from, to: new Date(end).toISOString() });
    const { clips } = await (await request(`api/clips?${query}`)).json();
    const heard = clips.filter((/** @type {any} */ { stage, utc, seconds }) => stage === "ready" && Date.parse(utc) + 1000 * seconds > begin);
    return heard.map((/** @type {any} */ { id, event, seconds }) => {
      const clip = element("p", "clip");
      const src = linkTo(`clip/${encodeURIComponent(id)}`);
      const link = Object.assign(element("a", "", `${event}, ${seconds.toFixed(0)} s`), { href: src, download: "" });
      clip.append(Object.assign(element("audio"), { controls: true, preload: "none", src, ariaLabel: event }), link);
      return clip;
    });
  }

  /** The range as lines of CSV: kind, tagger, name, begin, end. */
  #csv() {
    const past = this.#past;
    if (!past) return "";
    /** @type {[string, string, string, number, number][]} */
    const lines = [];
    for (const kind of /** @type {const} */ (["received", "silences", "gaps"])) for (const [a, b] of past[kind]) lines.push([kind, "", "", a, b]);
    for (const kind of /** @type {const} */ (["titles", "states"])) for (const [a, b, name] of past[kind]) lines.push([kind, "", name, a, b]);
    for (const { tagger, tag, spans } of past.tags) for (const [a, b] of spans) lines.push(["tag", tagger, tag, a, b]);
    const quoted = (/** @type {string} */ word) => `"${word.replace(/^(?=[=+\-@\t])/, "'").replaceAll('"', '""')}"`;
    const iso = (/** @type {number} */ ms) => new Date(ms).toISOString();
    return ["kind,tagger,name,begin,end", ...lines.map(([kind, tagger, name, a, b]) => [kind, quoted(tagger), quoted(name), iso(a), iso(b)].join(","))].join("\n") + "\n";
  }

  /** @param {string} suffix @param {Blob} blob */
  #save(suffix, blob) {
    const link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${this.stream}-${new Date(this.#from).toISOString().slice(0, 16).replaceAll(":", "")}.${suffix}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

/** A text that fits. @param {CanvasRenderingContext2D} context @param {string} text @param {number} width */
function cut(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const length = Math.floor((text.length * width) / context.measureText(text).width) - 1;
  return length > 1 ? `${text.slice(0, length)}…` : "";
}

/** A tag's probability over time with its threshold. @param {Span[]} points @param {number} threshold @param {string} paint */
function drawCurve(points, threshold, paint) {
  const canvas = Object.assign(element("canvas", "curve"), { width: 720, height: 160 });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const [begin, end] = [points[0][0], points[points.length - 1][0]];
  const y = (/** @type {number} */ p) => 152 - 144 * p;
  context.fillStyle = colour("quiet");
  context.fillRect(0, y(threshold), 720, 1.5);
  context.strokeStyle = paint;
  context.lineWidth = 3;
  context.lineJoin = "round";
  for (const [at, p] of points) context.lineTo((720 * (at - begin)) / (end - begin), y(p));
  context.stroke();
  return canvas;
}
