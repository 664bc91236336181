// A table that stays quick with thousands of rows: only those in sight are elements.

const SPARE = 4; // rows beyond the edges

/**
 * @template T
 * @typedef {{make: () => HTMLElement, fill: (row: HTMLElement, item: T) => void, open: (item: T) => void}} Rows
 */

/** @template T */
export class VirtualTable {
  #items = /** @type {T[]} */ ([]);
  #pool = /** @type {HTMLElement[]} */ ([]);
  #active = -1;
  #first = 0;
  #count = 0;
  #high = 0;
  height = 34;
  #body = document.createElement("div");

  /**
   * @param {HTMLElement} scroller it has the focus, and scrolls
   * @param {Rows<T>} rows
   * @param {number} headers rows of the head, which count for those who hear the table
   */
  constructor(scroller, rows, headers) {
    this.scroller = scroller;
    this.rows = rows;
    this.headers = headers;
    this.#body.setAttribute("role", "rowgroup");
    scroller.append(this.#body);
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    scroller.addEventListener("keydown", (event) => this.#onKey(event));
    new ResizeObserver(() => this.#measure()).observe(scroller);
    this.#measure();
  }

  /** Takes the height of a row in pixels from the stylesheet. */
  #measure() {
    this.height = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row")) || 34;
    this.#high = this.scroller.clientHeight;
    for (const row of this.#pool) row.dataset.index = "";
    this.draw();
  }

  /** The items whose rows are elements now. */
  get inSight() {
    return this.#items.slice(this.#first, this.#first + this.#count);
  }

  get active() {
    return this.#items[this.#active];
  }

  /** @param {T[]} items @param {(a: T, b: T) => boolean} same the active row stays the same item */
  show(items, same) {
    const before = this.active;
    this.#items = items;
    if (before !== undefined) this.#active = items.findIndex((item) => same(item, before));
    this.scroller.setAttribute("aria-rowcount", String(items.length + this.headers));
    this.draw();
  }

  /** Calls a function with every row in sight and its item. @param {(row: HTMLElement, item: T) => void} act */
  each(act) {
    this.#pool.slice(0, this.#count).forEach((row, i) => act(row, this.#items[this.#first + i]));
  }

  draw() {
    const height = this.height;
    this.#body.style.height = `${height * this.#items.length}px`;
    const first = (this.#first = Math.max(0, Math.floor(this.scroller.scrollTop / height) - SPARE));
    const count = (this.#count = Math.max(0, Math.min(this.#items.length - first, Math.ceil(this.#high / height) + 2 * SPARE)));
    for (let i = 0; i < Math.max(count, this.#pool.length); i++) {
      const row = (this.#pool[i] ??= this.#add());
      const index = first + i;
      row.hidden = i >= count;
      if (row.hidden) continue;
      if (row.dataset.index !== String(index)) this.#place(row, index);
      row.classList.toggle("active", index === this.#active);
      this.rows.fill(row, this.#items[index]);
    }
    this.#describeActive();
  }

  /** @param {HTMLElement} row @param {number} index */
  #place(row, index) {
    row.style.transform = `translateY(${index * this.height}px)`;
    row.dataset.index = String(index);
    row.setAttribute("aria-rowindex", String(index + 1 + this.headers));
  }

  #add() {
    const row = this.rows.make();
    row.id = `row${this.#pool.length}`;
    row.setAttribute("role", "row");
    row.addEventListener("pointerdown", () => this.#move(Number(row.dataset.index), false));
    this.#body.append(row);
    return row;
  }

  #describeActive() {
    const row = this.#pool.find((one) => !one.hidden && Number(one.dataset.index) === this.#active);
    if (row) this.scroller.setAttribute("aria-activedescendant", row.id);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  /** Moves the active row. @param {number} index @param {boolean} [follow] whether it scrolls into sight */
  #move(index, follow = true) {
    this.#active = Math.max(0, Math.min(this.#items.length - 1, index));
    const top = this.#active * this.height;
    const { scrollTop, clientHeight } = this.scroller;
    if (follow) {
      if (top < scrollTop) this.scroller.scrollTop = top;
      else if (top + this.height > scrollTop + clientHeight) this.scroller.scrollTop = top + this.height - clientHeight;
    }
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
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.height) - 1);
    /** @type {Record<string, number>} */
    const to = {
      ArrowDown: this.#active + 1,
      ArrowUp: this.#active - 1,
      PageDown: this.#active + page,
      PageUp: this.#active - page,
      Home: 0,
      End: this.#items.length - 1,
    };
    if (event.key in to) this.#move(to[event.key]);
    else if (event.key === "Enter" && this.active !== undefined) this.rows.open(this.active);
    else return;
    event.preventDefault();
  }
}
