// The live taggram: the probabilities of tags in the last ten minutes, and bars of what is on now.

import { AXIS, Chart } from "./chart.js";
import { byId, colour } from "./dom.js";
import { ROOT, tokenOf } from "./feed.js";

/** @typedef {{tag: string, index: number}} Row its index in the levels of a column */
/** @typedef {{at: number, levels: Uint8Array}} Column which step it is; a byte for each tag */

const STEP_MS = 2000;
const COLUMNS = 300;
const MOST_ROWS = 26;
const LEAST_ROWS = 10;
const NEAR = 0.45; // of its threshold
const LOWEST = 19; // height of a row in pixels …
const HIGHEST = 36; // … where there is room
const ORDER_MS = 8000; // rows keep their places for so long
const RETRY_MS = 3000;

export class Taggram {
  #heads = /** @type {Map<number, {base: number, tags: string[]}>} */ (new Map());
  #tags = /** @type {string[]} */ ([]);
  #columns = /** @type {Column[]} */ ([]); // with holes, which no method visits
  #newest = /** @type {Column} */ ({ at: 0, levels: new Uint8Array() });
  #rows = /** @type {Row[]} */ ([]);
  #ordered = -Infinity;
  #about = {};

  /** @param {HTMLCanvasElement} canvas @param {TagBook} book */
  constructor(canvas, book) {
    this.canvas = canvas;
    this.book = book;
  }

  /** Follows a stream for ever. @param {string} stream */
  follow(stream) {
    const url = new URL(`ws/scores?${new URLSearchParams({ stream })}`, ROOT);
    url.protocol = url.protocol.replace("http", "ws");
    if (tokenOf()) url.searchParams.set("token", tokenOf());
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#announce(JSON.parse(data));
      else this.#take(data);
    };
    socket.onclose = () => setTimeout(() => this.follow(stream), RETRY_MS);
  }

  /** @param {{number: number, tags: string[]}} head */
  #announce({ number, tags }) {
    if (this.#heads.get(number)?.tags.join("\n") === tags.join("\n")) return;
    this.#heads.set(number, { base: this.#tags.length, tags });
    this.#tags.push(...tags);
  }

  /** @param {ArrayBuffer} packet see docs/web.md */
  #take(packet) {
    const view = new DataView(packet);
    const head = this.#heads.get(view.getUint8(0));
    if (!head) return;
    const size = 8 + head.tags.length;
    for (let at = 1; at + size <= packet.byteLength; at += size) {
      const column = this.#column(Math.floor(view.getFloat64(at, true) / STEP_MS));
      column.levels.set(new Uint8Array(packet, at + 8, head.tags.length), head.base);
      if (column.at >= this.#newest.at) this.#newest = column;
    }
  }

  /** The column of a step, with room for all tags. @param {number} step */
  #column(step) {
    const known = this.#columns[step % COLUMNS];
    const column = known?.at === step ? known : { at: step, levels: new Uint8Array() };
    this.#columns[step % COLUMNS] = column;
    if (column.levels.length < this.#tags.length) {
      const levels = new Uint8Array(this.#tags.length);
      levels.set(column.levels);
      column.levels = levels;
    }
    return column;
  }

  /** The tags that came near their thresholds, or nearest, by category. @param {Set<string>} on */
  #order(on) {
    const best = this.#tags.map((tag, index) => {
      const most = Math.max(0, ...this.#columns.flatMap(({ levels }) => levels[index] ?? 0));
      return { tag, index, score: on.has(tag) ? 9 : most / 255 / this.book.threshold(tag) };
    });
    const found = best.sort((a, b) => b.score - a.score).slice(0, MOST_ROWS);
    const rows = found.filter(({ score }, i) => score > (i < LEAST_ROWS ? 0 : NEAR));
    this.#rows = rows.sort((a, b) => this.book.compare(a, b) || a.index - b.index);
    this.#ordered = rows.length < LEAST_ROWS ? -Infinity : performance.now();
    this.#about = this.book.about;
  }

  /** @param {Set<string>} on the tags that are on @param {boolean} live whether anything arrives */
  draw(on, live) {
    const old = performance.now() - this.#ordered > ORDER_MS;
    if (old || this.#about !== this.book.about) this.#order(on);
    const count = Math.max(LEAST_ROWS, this.#rows.length);
    const row = this.#height(count);
    const chart = new Chart(this.canvas, count, row);
    const bars = chart.wide < 600 ? 70 : 150;
    const heat = Math.max(60, chart.wide - chart.left - bars - 14);
    this.#drawHeat(chart, heat);
    this.#rows.forEach(({ tag, index }, i) => {
      const level = live ? (this.#newest.levels[index] ?? 0) / 255 : 0;
      chart.fill(colour("ground"), chart.left, (i + 1) * row - 1.5, heat, 1.5);
      chart.name(this.book.name(tag), i, on.has(tag) ? { paint: "ink", weight: 620 } : {});
      const [x, y] = [chart.left + heat + 12, (i + 0.5) * row];
      chart.fill(colour("line"), x, y - 3, bars, 6);
      chart.fill(on.has(tag) ? this.book.colour(tag) : colour("sound"), x, y - 3, bars * level, 6);
      chart.fill(colour("ink"), x + bars * this.book.threshold(tag), y - 5, 1, 10);
    });
    const { language } = this.book;
    for (const minutes of heat < 350 ? [10, 5, 0] : [10, 8, 6, 4, 2, 0]) {
      const label = minutes ? `−${language.duration(minutes)}` : language.text("stream_now");
      const align = minutes === 10 ? "left" : minutes ? "center" : "right";
      chart.tick(label, chart.left + heat * (1 - minutes / 10), align);
    }
  }

  /** The height of a row, as far as the plane beside it leaves room. @param {number} count */
  #height(count) {
    const plane = byId("mood").getBoundingClientRect();
    const { top, right } = this.canvas.getBoundingClientRect();
    const room = plane.left < right ? 0 : (plane.bottom - top - AXIS) / count;
    return Math.min(HIGHEST, Math.max(LOWEST, room));
  }

  /** A field for each tag and step. @param {Chart} chart @param {number} width */
  #drawHeat(chart, width) {
    const first = Math.max(this.#newest.at, 0) - COLUMNS + 1;
    this.#rows.forEach(({ tag, index }, row) => {
      const paint = this.book.colour(tag);
      const threshold = 255 * this.book.threshold(tag);
      for (const { at, levels } of this.#columns.filter((column) => column.at >= first)) {
        const level = levels[index] ?? 0;
        const below = 0.4 * (level / threshold) ** 1.5;
        chart.context.globalAlpha = level >= threshold ? 0.55 + 0.45 * (level / 255) : below;
        const begin = Math.round(((at - first) * width) / COLUMNS);
        const end = Math.round(((at - first + 1) * width) / COLUMNS);
        chart.fill(paint, chart.left + begin, row * chart.row, end - begin, chart.row);
      }
    });
    chart.context.globalAlpha = 1;
  }
}
