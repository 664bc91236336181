// What the pages of the desk share: links, elements, times, and the names and colours of tags.

import { css, mix, palette } from "./colour.js";
import { ROOT, request, tokenOf } from "./feed.js";
import { bareName } from "./stream.js";
import { placeOf } from "./words.js";

/** @typedef {import("./language.js").Language} Language */

/** Where tags stand, in this order. */
export const PLACES = ["speech", "kind", "mood", "genre", "instrument"];

/** An address of this server; a token behind # goes along. @param {string} path */
export function linkTo(path) {
  const url = new URL(path, ROOT);
  if (tokenOf()) url.hash = `token=${encodeURIComponent(tokenOf())}`;
  return url.href;
}

/** @template {keyof HTMLElementTagNameMap} K @param {K} kind @param {string} [className] @param {string} [text] */
export function element(kind, className = "", text = "") {
  return Object.assign(document.createElement(kind), { className, textContent: text });
}

/** Sets a text only where it is another one. @param {Element} target @param {string} text */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** @param {string} id */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Whether the page is light now. */
export function isLight() {
  const scheme = getComputedStyle(document.documentElement).colorScheme;
  return scheme === "light" || (scheme !== "dark" && matchMedia("(prefers-color-scheme: light)").matches);
}

/** A colour of the stylesheet, such as `music`, as it is in the present mode. @param {string} name */
export function colour(name) {
  return getComputedStyle(document.body).getPropertyValue(`--${name}`);
}

/** How long ago something was, in one unit. @param {Language} language @param {number} at in milliseconds since 1970 */
export function ago(language, at) {
  const seconds = Math.max(0, Math.round((Date.now() - at) / 1000));
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return language.text("desk_seconds").replace("{n}", String(seconds));
  if (seconds < 172_800) return language.duration(Math.floor(seconds / 60));
  return language.text("desk_days").replace("{n}", String(Math.floor(seconds / 86_400)));
}

/** Tries until it works, also while the server just starts. @template T @param {() => Promise<T>} load */
export async function patiently(load) {
  for (;;) {
    try {
      return await load();
    } catch {
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

/** The names, categories and colours of tags, in the present mode: light or dark. */
export class TagBook {
  /** @type {Record<string, import("./words.js").Description>} by tag */
  about = {};
  light = isLight();

  /** @param {Language} language @param {() => void} onChange */
  constructor(language, onChange) {
    this.language = language;
    const update = () => {
      this.light = isLight();
      onChange();
    };
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", update);
    new MutationObserver(update).observe(document.documentElement, { attributes: true });
  }

  /** Asks what the tags mean; of all models without a stream. @param {string} [stream] */
  async load(stream) {
    const query = new URLSearchParams(stream === undefined ? {} : { stream });
    if (this.language.chosen) query.set("lang", this.language.code);
    this.about = (await (await request(`api/tags?${query}`)).json()).tags;
  }

  /** @param {string} tag @param {string} [display] */
  name(tag, display = "") {
    return this.language.tag(tag, this.about[tag]?.name ?? "", display);
  }

  /** @param {string} tag @returns {"speech" | "kind" | "mood" | "genre" | "instrument"} */
  place(tag) {
    if (bareName(tag).toLowerCase() === "speech") return "speech";
    return placeOf(tag, this.about[tag]?.category ?? "") ?? "kind";
  }

  /** The colour of a mood's place on the plane; null for other tags. @param {string} tag @param {number} dark for text on a light ground */
  moodColour(tag, dark = 0.18) {
    const position = this.about[tag]?.position;
    if (!position || this.place(tag) !== "mood") return null;
    const { bright, mid } = palette(0.55 * position[0], 0.55 * position[1], 1, false);
    return css(this.light ? mix(mid, [0, 0, 0], dark) : mix(bright, [1, 1, 1], 0.2));
  }

  /** For an area. @param {string} tag */
  colour(tag) {
    const place = this.place(tag);
    return this.moodColour(tag, 0) ?? colour(place === "mood" ? "ink" : place);
  }
}
