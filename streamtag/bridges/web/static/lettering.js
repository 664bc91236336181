// The words on a wall: what stands where, and how it comes and goes.

import { all, byId, element } from "./dom.js";
import { language } from "./language.js";

const FADE_MS = 700; // as in pages.css
const PLACES = /** @type {WordPlace[]} */ (["mood", "genre", "instrument"]);
/** The scenes that say for how long. */
const LASTING = ["silence", "lost", "offline"];

/** @typedef {{name: string, before?: string}} Line a word, and what stands before it */

export class Lettering {
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
    document.body.dataset.scene = scene;
    const sounding = scene === "music" || scene === "uncertain";
    const shows = (/** @type {string} */ part) => this.#show.includes(part);
    for (const place of PLACES) {
      const seen = sounding && shows(place) && !(place === "mood" && scene === "uncertain");
      set(place, (seen ? words[place] : []).map((word) => this.#line(word)));
    }
    const says = scene !== "music" && (scene !== "uncertain" || shows("mood"));
    set("scene", says ? [{ name: language.text(scene) }] : []);
    const minutes = since === null ? 0 : Math.floor((now - since) / 60_000);
    const lasts = minutes && LASTING.includes(scene) ? language.duration(minutes) : "";
    const detail = [language.text(`${scene}_detail`), lasts].filter(Boolean).join(" · ");
    set("detail", sounding ? [] : [{ name: detail }]);
    const titled = title && shows("title") && (sounding || scene === "speech");
    set("title", titled ? [{ name: title }] : []);
  }

  /** @param {Word} word @returns {Line} */
  #line({ tag, display, doubtful }) {
    const before = doubtful ? `${language.text("perhaps")} ` : "";
    return { name: this.book.name(tag, display), before };
  }
}

/** Fades an element out, changes it, and fades it in; only if its lines are others.
 * @param {string} id @param {Line[]} lines */
function set(id, lines) {
  const parent = byId(id);
  const kind = parent.tagName === "UL" ? "li" : "span";
  const { text: before } = parent.dataset;
  const text = JSON.stringify(lines);
  if (before === text) return;
  parent.dataset.text = text;
  parent.classList.add("changing");
  const change = () => {
    if (parent.dataset.text !== text) return; // overtaken by the next one
    const small = (before = "") => (before ? [element("small", {}, before)] : []);
    const made = lines.map((line) => element(kind, {}, ...small(line.before), line.name));
    parent.replaceChildren(...made);
    parent.classList.remove("changing");
    fit();
  };
  if (before) setTimeout(change, FADE_MS);
  else change();
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
