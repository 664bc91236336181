// A canvas with rows that have names on the left and an axis below, in pixels of the page.

import { colour, contextOf } from "./dom.js";

export const AXIS = 20;

export class Chart {
  /** Clears a canvas. @param {HTMLCanvasElement} canvas @param {number} rows @param {number} row */
  constructor(canvas, rows, row) {
    canvas.style.height = `${rows * row + AXIS}px`;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    this.row = row;
    this.wide = canvas.clientWidth;
    this.bottom = rows * row;
    this.left = leftOf(canvas);
    this.font = getComputedStyle(document.body).fontFamily;
    this.context = contextOf(canvas);
    this.context.scale(devicePixelRatio, devicePixelRatio);
    this.context.textBaseline = "middle";
  }

  /** @param {string} paint @param {[number, number, number, number]} place x, y, width, height */
  fill(paint, ...place) {
    this.context.fillStyle = paint;
    this.context.fillRect(...place);
  }

  /** @param {string} words @param {number} x @param {number} y @param {Letters} [letters] */
  write(words, x, y, { paint = "quiet", align = "center", size = 11, weight = 400 } = {}) {
    this.context.font = `${weight} ${size}px ${this.font}`;
    this.context.fillStyle = colour(paint);
    this.context.textAlign = align;
    this.context.fillText(words, x, y, align === "right" ? this.left - 14 : undefined);
  }

  /** Of a row, from 0. @param {string} name @param {number} row @param {Letters} letters */
  name(name, row, letters) {
    const usual = /** @type {Letters} */ ({ align: "right", size: 12 });
    this.write(name, this.left - 10, (row + 0.5) * this.row, { ...usual, ...letters });
  }

  /** On the axis. @param {string} label @param {number} x @param {CanvasTextAlign} [align] */
  tick(label, x, align) {
    this.write(label, x, this.bottom + AXIS / 2 + 2, { align });
  }

  /** A text in a bar, which it parts from the one before; it is cut where it does not fit.
   * @param {string} text @param {number} row @param {number} begin @param {number} end in pixels */
  label(text, row, begin, end) {
    this.fill(colour("ground"), begin, row * this.row, 1, this.row);
    this.context.font = `11px ${this.font}`;
    const share = (end - begin - 8) / this.context.measureText(text).width;
    const cut = share < 1 ? `${text.slice(0, Math.max(0, text.length * share - 1))}…` : text;
    const letters = /** @type {Letters} */ ({ paint: "ink", align: "left" });
    if (cut.length > 2) this.write(cut, begin + 4, (row + 0.5) * this.row, letters);
  }
}

/** Where the names of rows end. @param {HTMLCanvasElement} canvas */
export const leftOf = (canvas) => (canvas.clientWidth < 600 ? 104 : 140);
