// The past of a stream from the journal, in rows as the server writes them.

import { Chart, leftOf } from "./chart.js";
import { all, byId, canvasById, colour, element } from "./dom.js";
import { request } from "./feed.js";
import { askPart } from "./parts.js";
import { language } from "./language.js";
import { ask } from "./shell.js";
import { formatTime } from "./settings.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const LONGEST = 8 * DAY;
const SHORTEST = 60_000;
const LEAST_ROWS = 2;
const ROW = 17;
const REFRESH_MS = 20_000;
const TICKS = [1, 5, 15, 30, 60, 180, 360, 720, 1440].map((minutes) => minutes * 60_000);

const iso = (/** @type {number} */ ms) => new Date(ms).toISOString();

export class Timeline {
  #rows = /** @type {TimelineRow[]} */ ([]);
  #from = 0;
  #to = 0;
  #follows = true;
  #asked = 0;
  #pressed = 0; // where the pointer is that drags
  #dragged = false;

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
    this.#show(Date.now() - length, Date.now(), true);
  }

  /** @param {number} from @param {number} to @param {boolean} follows the present */
  #show(from, to, follows) {
    this.#follows = follows;
    const length = Math.min(LONGEST, Math.max(SHORTEST, to - from));
    this.#to = Math.min((from + to + length) / 2, Date.now());
    this.#from = this.#to - length;
    const range = `?from=${Math.round(this.#from)}&to=${Math.round(this.#to)}`;
    const { pathname, hash } = location;
    history.replaceState(null, "", pathname + (follows ? "" : range) + hash);
    this.draw();
    clearTimeout(this.#asked);
    this.#asked = window.setTimeout(() => this.#ask(), 200);
  }

  /** @param {number} factor @param {number} [at] the moment that stays where it is */
  #zoom(factor, at = this.#follows ? this.#to : (this.#from + this.#to) / 2) {
    const [from, to] = [at - (at - this.#from) * factor, at + (this.#to - at) * factor];
    this.#show(from, to, this.#follows && at === this.#to);
  }

  /** @param {number} share of what is shown */
  #pan(share) {
    const step = share * this.#length;
    this.#show(this.#from + step, this.#to + step, this.#to + step >= Date.now());
  }

  get #range() {
    return { stream: this.stream, from: iso(this.#from), to: iso(this.#to) };
  }

  async #ask() {
    const query = { ...this.#range, lang: language.chosen };
    const old = { rows: this.#rows };
    this.#rows = (await ask("part/timeline", query).catch(() => old)).rows; // the server is away
    this.draw();
  }

  #listen() {
    const { canvas } = this;
    byId("zoom").onclick = ({ target }) => {
      const { hours, zoom, pan } = /** @type {HTMLElement} */ (target).dataset;
      if (hours) this.#last(Number(hours) * HOUR);
      if (zoom) this.#zoom(Number(zoom));
      if (pan) this.#pan(Number(pan));
    };
    canvas.onkeydown = ({ key }) =>
      all("#zoom button").find((button) => button.dataset.key === key)?.click();
    for (const button of all("#export button")) {
      button.onclick = () => this.#export(button.innerText.toLowerCase());
    }
    canvas.onpointerdown = ({ offsetX, pointerId }) => {
      [this.#pressed, this.#dragged] = [offsetX, false];
      canvas.setPointerCapture(pointerId);
    };
    canvas.onpointermove = ({ offsetX, buttons }) => {
      const by = this.#pressed - offsetX;
      if (!buttons || (!this.#dragged && Math.abs(by) < 5)) return;
      [this.#pressed, this.#dragged] = [offsetX, true];
      this.#pan(by / this.#scale / this.#length);
    };
    canvas.onclick = ({ offsetX, offsetY }) => this.#dragged || this.#choose(offsetX, offsetY);
    canvas.onwheel = (event) => {
      if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls
      event.preventDefault();
      this.#zoom(event.deltaY + event.deltaX > 0 ? 1.25 : 0.8, this.#moment(event.offsetX));
    };
  }

  /** Pixels of a millisecond. */
  get #scale() {
    return Math.max(60, this.canvas.clientWidth - leftOf(this.canvas) - 4) / this.#length;
  }

  /** @param {number} x */
  #moment(x) {
    return this.#from + (x - leftOf(this.canvas)) / this.#scale;
  }

  draw() {
    const chart = new Chart(this.canvas, Math.max(LEAST_ROWS, this.#rows.length), ROW);
    const scale = this.#scale;
    const x = (/** @type {number} */ ms) => chart.left + (ms - this.#from) * scale;
    this.#drawTicks(chart, x);
    this.#rows.forEach(({ name, tag }, i) => chart.name(name, i, tag ? { paint: "ink" } : {}));
    chart.context.beginPath();
    chart.context.rect(chart.left, 0, this.#length * scale, chart.bottom);
    chart.context.clip();
    this.#rows.forEach(({ tag = "", bars }, i) => {
      for (const { paint, inset, spans } of bars) {
        const fill = paint ? colour(paint) : this.book.colour(tag);
        for (const [begin, end, label] of spans) {
          const width = Math.max(1, x(end) - x(begin));
          chart.fill(fill, x(begin), i * ROW + inset, width, ROW - 2 * inset);
          if (label) chart.label(label, i, Math.max(chart.left, x(begin)), x(end));
        }
      }
    });
  }

  /** @param {Chart} chart @param {(ms: number) => number} x */
  #drawTicks(chart, x) {
    const step = TICKS.find((tick) => tick * this.#scale > 68) ?? DAY;
    const zone = new Date(this.#from).getTimezoneOffset() * 60_000;
    const last = this.#to - 24 / this.#scale; // later labels would be cut
    for (let at = Math.ceil((this.#from - zone) / step) * step + zone; at < last; at += step) {
      chart.fill(colour("line"), x(at), 0, 1, chart.bottom);
      const day = (at - zone) % DAY === 0;
      chart.tick(formatTime(at, day ? { weekday: "short", day: "numeric" } : undefined), x(at));
    }
  }

  /** Shows what there is at a place. @param {number} px @param {number} py */
  async #choose(px, py) {
    const { tagger = "", tag = "", bars } = this.#rows[Math.floor(py / ROW)] ?? {};
    const slack = 4 / this.#scale;
    const at = this.#moment(px);
    const spans = (tag && bars?.[0].spans) || [];
    const span = spans.find(([begin, end]) => begin - slack <= at && at <= end + slack);
    if (!span) return byId("detail").replaceChildren();
    const [from, to] = [iso(span[0]), iso(span[1])];
    const query = { stream: this.stream, tagger, tag, from, to };
    const parts = await askPart("span", query).catch(() => []);
    byId("detail").style.setProperty("--tag", this.book.colour(tag));
    byId("detail").replaceChildren(...parts);
  }

  /** Saves what is shown. @param {string} format of the server, or `png` */
  async #export(format) {
    const query = new URLSearchParams({ ...this.#range, format });
    const drawn = () => new Promise((done) => this.canvas.toBlob(done));
    const written = async () => (await request(`api/timeline?${query}`)).blob();
    const href = URL.createObjectURL(await (format === "png" ? drawn() : written()));
    const time = iso(this.#from).slice(0, 16).replaceAll(":", "");
    element("a", { href, download: `${this.stream}-${time}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }
}
