// A table that stays quick with thousands of rows: only those in sight are elements.

import { element } from "./dom.js";

const SPARE = 4; // rows beyond the edges

/** @template T
 * @typedef {{make: () => HTMLElement, fill: (row: HTMLElement, item: T) => void,
 *   open: (item: T) => void, same: (a: T, b: T) => boolean}} Rows */

/** @template T */
export class VirtualTable {
  #items = /** @type {T[]} */ ([]);
  #pool = /** @type {HTMLElement[]} */ ([]);
  #active = -1;
  #first = 0;
  #count = 0;
  #row = 34; // height in pixels, from the stylesheet
  #height = 0;
  #body = element("div", { role: "rowgroup" });

  /** @param {HTMLElement} scroller it has the focus, and scrolls @param {Rows<T>} rows */
  constructor(scroller, rows) {
    this.scroller = scroller;
    this.rows = rows;
    scroller.append(this.#body);
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    scroller.addEventListener("keydown", (event) => this.#onKey(event));
    new ResizeObserver(() => this.#measure()).observe(scroller);
    this.#measure();
  }

  #measure() {
    this.#row = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row")) || 34;
    this.#height = this.scroller.clientHeight;
    this.draw();
  }

  /** The items whose rows are elements now. */
  get inSight() {
    return this.#items.slice(this.#first, this.#first + this.#count);
  }

  /** Shows other items; the active row stays the same item. @param {T[]} items */
  show(items) {
    const before = this.#items[this.#active];
    this.#items = items;
    if (before !== undefined) this.#active = items.findIndex((one) => this.rows.same(one, before));
    this.scroller.ariaRowCount = String(items.length + 1); // with the head
    this.draw();
  }

  /** Calls a function with every row in sight and its item. @param {Rows<T>["fill"]} act */
  each(act) {
    this.inSight.forEach((item, i) => act(this.#pool[i], item));
  }

  draw() {
    this.#body.style.height = `${this.#row * this.#items.length}px`;
    this.#first = Math.max(0, Math.floor(this.scroller.scrollTop / this.#row) - SPARE);
    const fitting = Math.ceil(this.#height / this.#row) + 2 * SPARE;
    this.#count = Math.max(0, Math.min(this.#items.length - this.#first, fitting));
    while (this.#pool.length < this.#count) this.#add();
    this.#pool.forEach((row, i) => {
      const index = this.#first + i;
      row.hidden = i >= this.#count;
      row.classList.toggle("active", index === this.#active);
      row.style.setProperty("--index", String(index));
      row.ariaRowIndex = String(index + 2); // from 1, after the head
    });
    this.each((row, item) => this.rows.fill(row, item));
    const active = this.#pool[this.#active - this.#first];
    if (active && !active.hidden) this.scroller.setAttribute("aria-activedescendant", active.id);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  #add() {
    const row = this.rows.make();
    const place = this.#pool.push(row) - 1;
    row.id = `row${place}`;
    row.addEventListener("pointerdown", () => this.#move(this.#first + place, false));
    this.#body.append(row);
  }

  /** Moves the active row. @param {number} index @param {boolean} [follow] scrolls it into sight */
  #move(index, follow = true) {
    this.#active = Math.max(0, Math.min(this.#items.length - 1, index));
    const top = this.#active * this.#row;
    const lowest = top + this.#row - this.scroller.clientHeight;
    const { scrollTop } = this.scroller;
    if (follow) this.scroller.scrollTop = Math.max(lowest, Math.min(top, scrollTop));
    this.draw();
  }

  /** Takes the focus, with the first row if none is active. */
  focus() {
    this.scroller.focus();
    if (this.#active < 0) this.#move(0);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.#row) - 1);
    /** @type {Record<string, number>} */
    const to = {
      ArrowDown: this.#active + 1,
      ArrowUp: this.#active - 1,
      PageDown: this.#active + page,
      PageUp: this.#active - page,
      Home: 0,
      End: this.#items.length - 1,
    };
    const active = this.#items[this.#active];
    if (event.key in to) this.#move(to[event.key]);
    else if (event.key === "Enter" && active !== undefined) this.rows.open(active);
    else return;
    event.preventDefault();
  }
}
