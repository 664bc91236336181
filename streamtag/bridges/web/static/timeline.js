// The past of a stream from the journal: when it was received, its titles, its sections, and when
// each tag was on.

import { Chart, leftOf } from "./chart.js";
import { all, byId, canvasById, colour, element } from "./dom.js";
import { request } from "./feed.js";
import { askPart } from "./parts.js";
import { ask } from "./shell.js";
import { formatTime } from "./settings.js";

/** @typedef {{name: string, tagger: string, tag: string, paint: string, spans: Span[]}} Row */
/** @typedef {(row: number, spans: Iterable<any>, paint: string, inset?: number) => void} Bar */

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const LONGEST = 8 * DAY;
const SHORTEST = 60_000;
const MOST_TAGS = 24;
const ROW = 17;
const REFRESH_MS = 20_000;
/** By key. @type {Record<string, number>} */
const PANS = { ArrowLeft: -0.25, ArrowRight: 0.25 };
/** @type {Record<string, number>} */
const ZOOMS = { "+": 0.5, "-": 2 };
const TICKS = [1, 5, 15, 30, 60, 180, 360, 720, 1440].map((minutes) => minutes * 60_000);
/** The colours of sections, by kind. @type {Record<string, string>} */
const KINDS = { music: "kind", speech: "speech", silence: "silence", other: "sound", lost: "lost" };

export class Timeline {
  #past = /** @type {Past | null} */ (null);
  #rows = /** @type {Row[]} */ ([]);
  #heads = 2; // rows above those of the tags
  #from = 0;
  #to = 0;
  #follows = true;
  #asked = 0;
  #drag = /** @type {{x: number, from: number, moved: boolean} | null} */ (null);

  /** @param {string} stream @param {TagBook} book */
  constructor(stream, book) {
    this.stream = stream;
    this.book = book;
    this.canvas = canvasById("timeline");
    const query = new URLSearchParams(location.search);
    const [from, to] = [Number(query.get("from")), Number(query.get("to"))];
    if (to - from >= SHORTEST) [this.#from, this.#to, this.#follows] = [from, to, false];
    else this.#last(HOUR);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    setInterval(() => !document.hidden && this.#follows && this.#last(this.#length), REFRESH_MS);
    this.#ask();
  }

  get #length() {
    return this.#to - this.#from;
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
    const range = `?from=${Math.round(this.#from)}&to=${Math.round(this.#to)}`;
    const { pathname, hash } = location;
    history.replaceState(null, "", pathname + (this.#follows ? "" : range) + hash);
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
    const step = share * this.#length;
    this.#follows = this.#to + step >= Date.now();
    this.#show(this.#from + step, this.#to + step);
  }

  get #range() {
    const [from, to] = [this.#from, this.#to].map((ms) => new Date(ms).toISOString());
    return { stream: this.stream, from, to };
  }

  async #ask() {
    try {
      this.#past = await ask("api/timeline", this.#range);
      this.draw();
    } catch {
      // there is no journal, or the server is away
    }
  }

  #listen() {
    const { canvas } = this;
    byId("zoom").onclick = ({ target }) => {
      const { hours, zoom, pan } = /** @type {HTMLElement} */ (target).dataset;
      if (hours) this.#last(Number(hours) * HOUR);
      if (zoom) this.#zoom(Number(zoom));
      if (pan) this.#pan(Number(pan));
    };
    const [csv, json, png] = all("#export button");
    csv.onclick = () => this.#export("csv");
    json.onclick = () => this.#export("json");
    png.onclick = () => canvas.toBlob((blob) => blob && this.#save("png", blob));
    canvas.onpointerdown = (event) => {
      this.#drag = { x: event.offsetX, from: this.#from, moved: false };
      canvas.setPointerCapture(event.pointerId);
    };
    canvas.onpointermove = (event) => this.#move(event.offsetX);
    canvas.onpointerup = (event) => {
      if (this.#drag && !this.#drag.moved) this.#choose(event.offsetX, event.offsetY);
      this.#drag = null;
    };
    canvas.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    canvas.onkeydown = ({ key }) => {
      if (key in PANS) this.#pan(PANS[key]);
      if (key in ZOOMS) this.#zoom(ZOOMS[key]);
    };
  }

  /** @param {WheelEvent} event */
  #onWheel(event) {
    if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls
    event.preventDefault();
    this.#zoom(event.deltaY + event.deltaX > 0 ? 1.25 : 0.8, this.#moment(event.offsetX));
  }

  /** @param {number} x of the pointer */
  #move(x) {
    const drag = this.#drag;
    if (!drag || (!drag.moved && Math.abs(x - drag.x) < 5)) return;
    drag.moved = true;
    const from = drag.from - ((x - drag.x) / this.#wide) * this.#length;
    this.#follows = false;
    this.#show(from, from + this.#length);
  }

  get #wide() {
    return Math.max(60, this.canvas.clientWidth - leftOf(this.canvas) - 4);
  }

  /** @param {number} x */
  #moment(x) {
    return this.#from + ((x - leftOf(this.canvas)) / this.#wide) * this.#length;
  }

  /** The tags that were on longest, by category. */
  #order() {
    const { book } = this;
    const tags = (this.#past?.tags ?? []).map((one) => {
      const total = one.spans.reduce((sum, [a, b]) => sum + b - a, 0);
      return { ...one, total, name: book.name(one.tag), paint: book.colour(one.tag) };
    });
    const longest = tags.sort((a, b) => b.total - a.total).slice(0, MOST_TAGS);
    this.#rows = longest.sort(book.compare); // which keeps equal ones in order
    this.#heads = this.#past?.sections.length ? 3 : 2;
  }

  draw() {
    this.#order();
    const text = (/** @type {string} */ key) => this.book.language.text(key);
    const chart = new Chart(this.canvas, this.#heads + this.#rows.length, ROW);
    const scale = this.#wide / this.#length;
    const x = (/** @type {number} */ ms) => chart.left + (ms - this.#from) * scale;
    this.#drawTicks(chart, x);
    if (!this.#past) return;
    chart.context.save();
    chart.context.beginPath();
    chart.context.rect(chart.left, 0, this.#wide, this.canvas.clientHeight);
    chart.context.clip();
    this.#drawPast(chart, x, this.#past);
    chart.context.restore();
    const heads = [text("stream_signal"), text("desk_column_title"), text("stream_sections")];
    heads.slice(0, this.#heads).forEach((name, i) => chart.name(name, i, {}));
    this.#rows.forEach(({ name }, i) => chart.name(name, i + this.#heads, { paint: "ink" }));
  }

  /** @param {Chart} chart @param {(ms: number) => number} x @param {Past} past */
  #drawPast(chart, x, past) {
    /** @type {Bar} */
    const bar = (row, spans, paint, inset = 3) => {
      for (const [a, b] of spans) {
        chart.fill(paint, x(a), row * ROW + inset, Math.max(1, x(b) - x(a)), ROW - 2 * inset);
      }
    };
    bar(0, [[past.from, past.to]], colour("line"));
    bar(0, past.states.filter(([, , state]) => state !== "paused"), colour("lost"));
    bar(0, past.received, colour("good"), 5.5);
    bar(0, past.silences, colour("warn"));
    bar(0, past.gaps, colour("lost"));
    for (const section of past.sections) bar(2, [section], colour(KINDS[section[2]] ?? "line"));
    this.#rows.forEach((row, i) => bar(i + this.#heads, row.spans, row.paint));
    for (const [a, b, title] of past.titles) {
      bar(1, [[a, b]], colour("line"), 1.5);
      chart.fill(colour("ground"), x(a), ROW, 1, ROW);
      const begin = Math.max(chart.left, x(a)) + 4;
      const width = x(b) - begin - 4;
      if (width > 20) chart.writeCut(title, begin, 1.5 * ROW, width);
    }
  }

  /** @param {Chart} chart @param {(ms: number) => number} x */
  #drawTicks(chart, x) {
    const scale = this.#wide / this.#length;
    const step = TICKS.find((tick) => tick * scale > 68) ?? DAY;
    const zone = new Date(this.#from).getTimezoneOffset() * 60_000;
    const first = Math.ceil((this.#from - zone) / step) * step + zone;
    const last = this.#to - 24 / scale; // later labels would be cut
    for (let at = first; at < last; at += step) {
      chart.fill(colour("line"), x(at), 0, 1, chart.bottom);
      const day = step >= DAY || new Date(at).getHours() + new Date(at).getMinutes() === 0;
      chart.tick(formatTime(at, day ? { weekday: "short", day: "numeric" } : undefined), x(at));
    }
  }

  /** Shows what there is at a place. @param {number} px @param {number} py */
  async #choose(px, py) {
    const row = this.#rows[Math.floor(py / ROW) - this.#heads];
    const slack = (4 / this.#wide) * this.#length;
    const at = this.#moment(px);
    const span = row?.spans.find(([a, b]) => a - slack <= at && at <= b + slack);
    if (!span) return byId("detail").replaceChildren();
    const [from, to] = span.map((ms) => new Date(ms).toISOString());
    const { tagger, tag } = row;
    const parts = await askPart("span", { stream: this.stream, tagger, tag, from, to });
    byId("detail").style.setProperty("--tag", row.paint);
    byId("detail").replaceChildren(...parts);
  }

  /** What is shown, as the server writes it. @param {string} format */
  async #export(format) {
    const query = new URLSearchParams({ ...this.#range, format });
    this.#save(format, await (await request(`api/timeline?${query}`)).blob());
  }

  /** @param {string} suffix @param {Blob} blob */
  #save(suffix, blob) {
    const href = URL.createObjectURL(blob);
    const time = new Date(this.#from).toISOString().slice(0, 16).replaceAll(":", "");
    element("a", { href, download: `${this.stream}-${time}.${suffix}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }
}
