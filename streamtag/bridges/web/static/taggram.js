// The live taggram: the probabilities of tags in the last ten minutes, and bars of what is on now.

import { AXIS, Chart } from "./chart.js";
import { byId, canvasById, colour } from "./dom.js";
import { ROOT, tokenOf } from "./feed.js";
import { language } from "./language.js";

/** A step, and a byte for each tag. @typedef {{at: number, levels: Uint8Array}} Column */
/** What a tagger said. Columns may have holes, which no method visits.
 * @typedef {{tags: string[], now: Uint8Array, columns: Column[]}} Trail */
/** @typedef {{tag: string, index: number, trail: Trail}} Row */

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
  #trails = /** @type {Map<number, Trail>} */ (new Map());
  #newest = 0; // step
  #rows = /** @type {Row[]} */ ([]);
  #ordered = -Infinity;
  #about = {};
  #canvas = canvasById("taggram");

  /** Follows a stream for ever. @param {string} stream @param {TagBook} book */
  constructor(stream, book) {
    this.book = book;
    this.#follow(new URLSearchParams(tokenOf() ? { stream, token: tokenOf() } : { stream }));
  }

  /** @param {URLSearchParams} query */
  #follow(query) {
    const url = new URL(`ws/scores?${query}`, ROOT);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#announce(JSON.parse(data));
      else this.#take(data);
    };
    socket.onclose = () => setTimeout(() => this.#follow(query), RETRY_MS);
  }

  /** @param {{number: number, tags: string[]}} head */
  #announce({ number, tags }) {
    const same = this.#trails.get(number)?.tags.join("\n") === tags.join("\n");
    if (!same) this.#trails.set(number, { tags, now: new Uint8Array(), columns: [] });
  }

  /** @param {ArrayBuffer} packet see docs/web.md */
  #take(packet) {
    const view = new DataView(packet);
    const trail = this.#trails.get(view.getUint8(0));
    const size = 8 + (trail?.tags.length ?? 0);
    for (let at = 1; trail && at + size <= packet.byteLength; at += size) {
      const step = Math.floor(view.getFloat64(at, true) / STEP_MS);
      trail.now = new Uint8Array(packet, at + 8, trail.tags.length);
      trail.columns[step % COLUMNS] = { at: step, levels: trail.now };
      this.#newest = Math.max(this.#newest, step);
    }
  }

  /** The tags that came near their thresholds, or nearest, by category. @param {Set<string>} on */
  #order(on) {
    const best = [...this.#trails.values()].flatMap((trail) =>
      trail.tags.map((tag, index) => {
        const most = Math.max(0, ...trail.columns.flatMap(({ levels }) => levels[index]));
        const score = on.has(tag) ? 9 : most / 255 / this.book.threshold(tag);
        return { tag, index, trail, score };
      }),
    );
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
    const chart = new Chart(this.#canvas, count, row);
    const bars = chart.wide < 600 ? 70 : 150;
    const heat = Math.max(60, chart.wide - chart.left - bars - 14);
    this.#drawHeat(chart, heat);
    this.#rows.forEach(({ tag, index, trail }, i) => {
      const level = live ? (trail.now[index] ?? 0) / 255 : 0;
      chart.fill(colour("ground"), chart.left, (i + 1) * row - 1.5, heat, 1.5);
      chart.name(this.book.name(tag), i, on.has(tag) ? { paint: "ink", weight: 620 } : {});
      const [x, y] = [chart.left + heat + 12, (i + 0.5) * row];
      chart.fill(colour("line"), x, y - 3, bars, 6);
      chart.fill(on.has(tag) ? this.book.colour(tag) : colour("sound"), x, y - 3, bars * level, 6);
      chart.fill(colour("ink"), x + bars * this.book.threshold(tag), y - 5, 1, 10);
    });
    const names = Array.from(on, (tag) => this.book.name(tag)).join(", ");
    this.#canvas.ariaLabel = `${language.text("desk_column_now")}: ${names || "–"}`;
    for (const minutes of heat < 350 ? [10, 5, 0] : [10, 8, 6, 4, 2, 0]) {
      const label = minutes ? `−${language.duration(minutes)}` : language.text("stream_now");
      const align = minutes === 10 ? "left" : minutes ? "center" : "right";
      chart.tick(label, chart.left + heat * (1 - minutes / 10), align);
    }
  }

  /** The height of a row, as far as the plane beside it leaves room. @param {number} count */
  #height(count) {
    const plane = byId("mood").getBoundingClientRect();
    const { top, right } = this.#canvas.getBoundingClientRect();
    const room = plane.left < right ? 0 : (plane.bottom - top - AXIS) / count;
    return Math.min(HIGHEST, Math.max(LOWEST, room));
  }

  /** A field for each tag and step. @param {Chart} chart @param {number} width */
  #drawHeat(chart, width) {
    const first = this.#newest - COLUMNS + 1;
    const x = (/** @type {number} */ step) => Math.round(((step - first) * width) / COLUMNS);
    this.#rows.forEach(({ tag, index, trail }, row) => {
      const paint = this.book.colour(tag);
      const threshold = 255 * this.book.threshold(tag);
      for (const { at, levels } of trail.columns.filter(({ at }) => at >= first)) {
        const level = levels[index];
        const below = 0.4 * (level / threshold) ** 1.5;
        chart.context.globalAlpha = level >= threshold ? 0.55 + 0.45 * (level / 255) : below;
        chart.fill(paint, chart.left + x(at), row * chart.row, x(at + 1) - x(at), chart.row);
      }
    });
    chart.context.globalAlpha = 1;
  }
}
