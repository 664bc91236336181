// The words on a wall: what stands where, and how it comes and goes.

import { all, byId, element } from "./dom.js";

const FADE_MS = 700; // as in pages.css
/** The scenes that show words of the music. */
const SOUNDING = ["music", "uncertain"];
/** The scenes that say for how long. */
const LASTING = ["silence", "lost", "offline"];
const PLACES = /** @type {WordPlace[]} */ (["mood", "genre", "instrument"]);

/** @typedef {{name: string, before?: string}} Line a word, and what stands before it */

export class Lettering {
  #texts = /** @type {Map<string, string>} */ (new Map()); // what each element is about to show

  #show = document.body.dataset.show?.split(" ") ?? [];
  font = getComputedStyle(document.body).fontFamily;

  /** @param {TagBook} book */
  constructor(book) {
    this.book = book;
    addEventListener("resize", fit);
  }

  /** @param {{scene: Scene, since: number | null}} keeper @param {Words} words
   * @param {string} title @param {number} now in milliseconds */
  show({ scene, since }, words, title, now) {
    const shows = (/** @type {string} */ part) => this.#show.includes(part);
    const { language } = this.book;
    document.body.dataset.scene = scene;
    const sounding = SOUNDING.includes(scene);
    for (const place of PLACES) {
      const seen = sounding && shows(place) && !(place === "mood" && scene === "uncertain");
      this.#set(place, (seen ? words[place] : []).map((word) => this.#line(word)));
    }
    const says = scene !== "music" && (scene !== "uncertain" || shows("mood"));
    this.#set("scene", says ? [{ name: language.text(scene) }] : []);
    const minutes = since === null ? 0 : Math.floor((now - since) / 60_000);
    const lasts = minutes && LASTING.includes(scene) ? language.duration(minutes) : "";
    const detail = [language.text(`${scene}_detail`), lasts].filter(Boolean).join(" · ");
    this.#set("detail", sounding ? [] : [{ name: detail }]);
    const titled = title && shows("title") && (sounding || scene === "speech");
    this.#set("title", titled ? [{ name: title }] : []);
  }

  /** @param {Word} word @returns {Line} */
  #line({ tag, display, doubtful }) {
    const before = doubtful ? this.book.language.text("perhaps") : "";
    return { name: this.book.name(tag, display), before };
  }

  /** Fades an element out, changes it, and fades it in; only if its lines are others.
   * @param {string} id @param {Line[]} lines */
  #set(id, lines) {
    const text = JSON.stringify(lines);
    const before = this.#texts.get(id);
    if (before === text) return;
    this.#texts.set(id, text);
    const parent = byId(id);
    parent.classList.add("changing");
    const change = () => {
      if (this.#texts.get(id) !== text) return; // overtaken by the next one
      parent.replaceChildren(...lines.map((line) => item(parent, line)));
      parent.classList.remove("changing");
      fit();
    };
    if (before) setTimeout(change, FADE_MS);
    else change();
  }
}

/** @param {HTMLElement} parent @param {Line} line */
function item(parent, { name, before }) {
  const small = before ? [element("small", {}, `${before} `)] : [];
  return element(parent.tagName === "UL" ? "li" : "span", {}, ...small, name);
}

/** Makes the largest lines so small that the longest word has room. */
function fit() {
  for (const large of all("#mood, #scene")) {
    large.style.setProperty("--fit", "1");
    const widths = Array.from(large.children, (child) => child.getBoundingClientRect().width);
    const share = large.clientWidth / Math.max(1, ...widths);
    large.style.setProperty("--fit", String(Math.min(1, share)));
  }
}
