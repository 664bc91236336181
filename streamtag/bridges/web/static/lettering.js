// The words on a wall: what stands where, and how it comes and goes.

import { ROOT } from "./feed.js";

/** @typedef {import("./words.js").Word} Word */
/** @typedef {import("./words.js").Place} Place */
/** @typedef {import("./words.js").Description} Description */

const FADE_MS = 700; // as in pages.css
/** The scenes that show words of the music. */
const SOUNDING = ["music", "uncertain"];
/** Parts of `?show=` by place. */
const PARTS = /** @type {const} */ ({ mood: "mood", genre: "genre", instrument: "instruments" });

export class Lettering {
  #options;
  #language;
  /** @type {Map<string, string>} what each element shows or is about to show */
  #texts = new Map();

  /** @param {import("./options.js").Options} options @param {import("./language.js").Language} language */
  constructor(options, language) {
    this.#options = options;
    this.#language = language;
    const { classList } = document.body;
    classList.add(options.theme);
    classList.toggle("light", options.light);
    classList.toggle("transparent", options.transparent);
    document.documentElement.lang = language.code;
    this.#showLogo(options.logo);
    addEventListener("resize", fit);
    this.font = getComputedStyle(document.body).fontFamily;
  }

  /** @param {string} name of a file in the folder `web.logos` */
  #showLogo(name) {
    const image = /** @type {HTMLImageElement} */ (document.getElementById("logo"));
    image.addEventListener("load", () => (image.hidden = false));
    if (name) image.src = String(new URL(`logos/${encodeURIComponent(name)}`, ROOT));
  }

  /**
   * @param {import("./scene.js").SceneKeeper} keeper
   * @param {Record<Place, Word[]>} words
   * @param {Record<string, Description>} about
   * @param {string} title
   * @param {number} now in milliseconds
   */
  show({ scene, since }, words, about, title, now) {
    const show = this.#options.show;
    document.body.dataset.scene = scene;
    const sounding = SOUNDING.includes(scene);
    for (const place of /** @type {Place[]} */ (Object.keys(words))) {
      const seen = sounding && show.has(PARTS[place]) && !(place === "mood" && scene === "uncertain");
      const lines = (seen ? words[place] : []).map((word) => this.#line(word, about));
      this.#set(place, lines);
    }
    const says = scene !== "music" && (scene !== "uncertain" || show.has("mood"));
    this.#set("scene", says ? [[this.#language.text(scene), ""]] : []);
    const minutes = since === null ? 0 : Math.floor((now - since) / 60_000);
    const parts = [this.#language.text(`${scene}_detail`)];
    if (minutes && ["silence", "lost", "offline"].includes(scene)) parts.push(this.#language.duration(minutes));
    this.#set("detail", sounding ? [] : [[parts.filter(Boolean).join(" · "), ""]]);
    const titled = show.has("title") && (sounding || scene === "speech");
    this.#set("title", titled && title ? [[title, ""]] : []);
  }

  /**
   * A word, and what stands before it.
   * @param {Word} word
   * @param {Record<string, Description>} about
   * @returns {[string, string]}
   */
  #line({ tag, display, doubtful }, about) {
    const name = this.#language.tag(tag, about[tag]?.name ?? "", display);
    return [name, doubtful ? this.#language.text("perhaps") : ""];
  }

  /**
   * Fades an element out, changes it, and fades it in; only if its lines are others.
   * @param {string} id
   * @param {[string, string][]} lines
   */
  #set(id, lines) {
    const text = JSON.stringify(lines);
    if (this.#texts.get(id) === text) return;
    const fresh = !this.#texts.get(id);
    this.#texts.set(id, text);
    const element = /** @type {HTMLElement} */ (document.getElementById(id));
    element.classList.add("changing");
    const change = () => {
      if (this.#texts.get(id) !== text) return; // overtaken by the next one
      element.replaceChildren(...lines.map(([name, before]) => item(element, name, before)));
      element.classList.remove("changing");
      fit();
    };
    if (fresh) change();
    else setTimeout(change, FADE_MS);
  }
}

/** @param {HTMLElement} parent @param {string} name @param {string} before */
function item(parent, name, before) {
  const element = document.createElement(parent instanceof HTMLUListElement ? "li" : "span");
  if (before) {
    const small = document.createElement("small");
    small.textContent = `${before} `;
    element.append(small);
  }
  element.append(name);
  return element;
}

/** Makes the largest lines so small that the longest word has room. */
function fit() {
  for (const id of ["mood", "scene"]) {
    const element = /** @type {HTMLElement} */ (document.getElementById(id));
    element.style.setProperty("--fit", "1");
    const widest = Math.max(1, ...[...element.children].map((child) => child.getBoundingClientRect().width));
    element.style.setProperty("--fit", String(Math.min(1, element.clientWidth / widest)));
  }
}
