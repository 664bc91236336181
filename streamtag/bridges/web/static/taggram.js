// The live taggram: the probabilities of tags in the last ten minutes, and bars of what is on now.

import { ROOT, tokenOf } from "./feed.js";
import { PLACES, colour } from "./shell.js";

/** @typedef {{tag: string, index: number}} Row its index in the levels of a column */

const STEP_MS = 2000;
const COLUMNS = 300;
const MOST_ROWS = 26;
const ROW = 19; // pixels
const AXIS = 20;
const ORDER_MS = 8000; // rows keep their places for so long
const RETRY_MS = 3000;

export class Taggram {
  #heads = /** @type {Map<number, {base: number, tags: string[]}>} */ (new Map());
  #tags = /** @type {string[]} */ ([]);
  #columns = /** @type {{at: number, levels: Uint8Array}[]} */ (new Array(COLUMNS));
  #newest = /** @type {{at: number, levels: Uint8Array}} */ ({ at: 0, levels: new Uint8Array() });
  #rows = /** @type {Row[]} */ ([]);
  #ordered = -Infinity;
  #about = {};
  #small = Object.assign(document.createElement("canvas"), { width: COLUMNS, height: MOST_ROWS });

  /** @param {HTMLCanvasElement} canvas @param {import("./shell.js").TagBook} book */
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
    for (let at = 1; at + 8 + head.tags.length <= packet.byteLength; at += 8 + head.tags.length) {
      const step = Math.floor(view.getFloat64(at, true) / STEP_MS);
      let column = this.#columns[step % COLUMNS];
      if (column?.at !== step) column = { at: step, levels: new Uint8Array(this.#tags.length) };
      this.#columns[step % COLUMNS] = column;
      if (column.levels.length < this.#tags.length) {
        const longer = new Uint8Array(this.#tags.length);
        longer.set(column.levels);
        column.levels = longer;
      }
      column.levels.set(new Uint8Array(packet, at + 8, head.tags.length), head.base);
      if (step >= this.#newest.at) this.#newest = column;
    }
  }

  /** The tags that came near their thresholds, by category. @param {Iterable<string>} on */
  #order(on) {
    const active = new Set(on);
    const best = this.#tags.map((tag, index) => {
      const most = Math.max(0, ...this.#columns.map((column) => column?.levels[index] ?? 0));
      return { tag, index, score: active.has(tag) ? 9 : most / 255 / (this.book.about[tag]?.threshold ?? 0.5) };
    });
    const rows = best.filter(({ score }) => score > 0.45).sort((a, b) => b.score - a.score).slice(0, MOST_ROWS);
    const place = (/** @type {Row} */ row) => PLACES.indexOf(this.book.place(row.tag));
    this.#rows = rows.sort((a, b) => place(a) - place(b) || a.index - b.index);
  }

  /** @param {Iterable<string>} on the tags that are on @param {boolean} live whether anything arrives */
  draw(on, live) {
    const { canvas, book } = this;
    if (performance.now() - this.#ordered > ORDER_MS || this.#about !== book.about) {
      this.#order(on);
      this.#ordered = this.#rows.length ? performance.now() : -Infinity;
      this.#about = book.about;
    }
    const active = new Set(on);
    const wide = canvas.clientWidth;
    canvas.style.height = `${Math.max(6, this.#rows.length) * ROW + AXIS}px`;
    const scale = devicePixelRatio;
    canvas.width = wide * scale;
    canvas.height = canvas.clientHeight * scale;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.scale(scale, scale);
    const font = getComputedStyle(document.body).fontFamily;
    const left = wide < 600 ? 104 : 140;
    const bars = wide < 600 ? 70 : 150;
    const heat = Math.max(60, wide - left - bars - 14);
    this.#drawHeat();
    context.imageSmoothingEnabled = false;
    const high = this.#rows.length * ROW;
    if (high) context.drawImage(this.#small, 0, 0, COLUMNS, this.#rows.length, left, 0, heat, high);
    context.textBaseline = "middle";
    this.#rows.forEach(({ tag, index }, i) => {
      const y = i * ROW;
      const level = live ? (this.#newest.levels[index] ?? 0) / 255 : 0;
      context.fillStyle = colour("ground");
      context.fillRect(left, y + ROW - 1.5, heat, 1.5);
      context.font = `${active.has(tag) ? 620 : 400} 12px ${font}`;
      context.fillStyle = colour(active.has(tag) ? "ink" : "quiet");
      context.textAlign = "right";
      context.fillText(book.name(tag), left - 10, y + ROW / 2, left - 14);
      context.fillStyle = colour("line");
      context.fillRect(left + heat + 12, y + 6, bars, ROW - 13);
      context.fillStyle = active.has(tag) ? book.colour(tag) : colour("sound");
      context.fillRect(left + heat + 12, y + 6, bars * level, ROW - 13);
      context.fillStyle = colour("ink");
      context.fillRect(left + heat + 12 + bars * (book.about[tag]?.threshold ?? 0.5), y + 4, 1, ROW - 9);
    });
    context.font = `11px ${font}`;
    context.fillStyle = colour("quiet");
    for (const minutes of heat < 350 ? [10, 5, 0] : [10, 8, 6, 4, 2, 0]) {
      context.textAlign = minutes === 10 ? "left" : minutes ? "center" : "right";
      const label = minutes ? `−${book.language.duration(minutes)}` : book.language.text("stream_now");
      context.fillText(label, left + heat * (1 - minutes / 10), canvas.clientHeight - AXIS / 2 + 2);
    }
  }

  /** One pixel for each tag and step. */
  #drawHeat() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.#small.getContext("2d"));
    const image = context.createImageData(COLUMNS, MOST_ROWS);
    const last = Math.max(this.#newest.at, 0);
    this.#rows.forEach(({ tag, index }, y) => {
      const [red, green, blue] = (this.book.colour(tag).match(/[\d.]+/g) ?? []).map(Number);
      const threshold = 255 * (this.book.about[tag]?.threshold ?? 0.5);
      for (let x = 0; x < COLUMNS; x++) {
        const column = this.#columns[(last - COLUMNS + 1 + x + COLUMNS) % COLUMNS];
        if (column?.at !== last - COLUMNS + 1 + x) continue;
        const level = column.levels[index] ?? 0;
        const strength = level >= threshold ? 0.55 + 0.45 * (level / 255) : 0.4 * (level / threshold) ** 1.5;
        image.data.set([red, green, blue, 255 * strength], 4 * (y * COLUMNS + x));
      }
    });
    context.putImageData(image, 0, 0);
  }
}
