// The words of the pages and the names of tags, from languages/*.json.

import { bareName } from "./stream.js";

const LANGUAGES = ["en", "de", "es", "fr"];

/** @typedef {{ui: Record<string, string>, tags: Record<string, string>}} Texts */

export class Language {
  /**
   * @param {string} code such as `de`
   * @param {Texts} texts
   * @param {boolean} chosen whether somebody asked for this language
   */
  constructor(code, texts, chosen) {
    this.code = code;
    this.chosen = chosen;
    this.#texts = texts;
  }

  #texts;

  /**
   * The language of `?lang=`, or that of the browser, or English.
   * @param {string | null} wanted
   */
  static async load(wanted) {
    const codes = [wanted ?? "", ...navigator.languages].map((code) => code.slice(0, 2).toLowerCase());
    const code = codes.find((one) => LANGUAGES.includes(one)) ?? "en";
    const read = async (/** @type {string} */ name) => {
      const response = await fetch(new URL(`languages/${name}.json`, import.meta.url));
      return /** @type {Texts} */ (await response.json());
    };
    const texts = await read(code);
    return new Language(wanted ?? code, texts, wanted !== null);
  }

  /** @param {string} key */
  text(key) {
    return this.#texts.ui[key] ?? "";
  }

  /** @param {number} minutes */
  duration(minutes) {
    const [unit, count] = minutes < 60 ? ["minutes", minutes] : ["hours", Math.floor(minutes / 60)];
    return this.text(unit).replace("{n}", String(count));
  }

  /**
   * A tag's name: the configuration's in this language, then the stream's, then the page's.
   * @param {string} tag
   * @param {string} configured
   * @param {string} display
   */
  tag(tag, configured, display) {
    const bare = bareName(tag);
    const known = this.#texts.tags[bare.toLowerCase()];
    const [first, second] = this.chosen ? [known, display] : [display, known];
    return configured || first || second || bare;
  }
}
