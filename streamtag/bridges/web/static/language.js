// The words of the pages and the names of tags, from languages/*.json.

import { bareName } from "./stream.js";

const LANGUAGES = ["en", "de", "es", "fr"];

/** @typedef {{ui: Record<string, string>, tags: Record<string, string>}} Texts */

export class Language {
  #texts;

  /** @param {string} code such as `de` @param {Texts} texts @param {boolean} chosen by somebody */
  constructor(code, texts, chosen) {
    this.code = code;
    this.chosen = chosen;
    this.#texts = texts;
  }

  /** The language wanted, or that of the browser, or English. @param {string | null} wanted */
  static async load(wanted) {
    const codes = [wanted ?? "", ...navigator.languages].map((one) => one.slice(0, 2));
    const code = codes.find((one) => LANGUAGES.includes(one.toLowerCase()))?.toLowerCase() ?? "en";
    const response = await fetch(new URL(`languages/${code}.json`, import.meta.url));
    return new Language(wanted ?? code, await response.json(), wanted !== null);
  }

  /** @param {string} key @param {Record<string, string | number>} [values] for what is in braces */
  text(key, values = {}) {
    const text = this.#texts.ui[key] ?? "";
    return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  }

  /** @param {number} minutes */
  duration(minutes) {
    return minutes < 60
      ? this.text("minutes", { n: minutes })
      : this.text("hours", { n: Math.floor(minutes / 60) });
  }

  /** A tag's name: the configuration's in this language, then the stream's, then the page's.
   * @param {string} tag @param {string} configured @param {string} display */
  tag(tag, configured, display) {
    const bare = bareName(tag);
    const known = this.#texts.tags[bare.toLowerCase()];
    const [first, second] = this.chosen ? [known, display] : [display, known];
    return configured || first || second || bare;
  }
}
