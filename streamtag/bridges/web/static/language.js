// The words of the pages and the names of tags, from languages/*.json.

import { bareName } from "./stream.js";

/** @typedef {{ui: Record<string, string>, tags: Record<string, string>}} Texts */

export class Language {
  #texts;

  /** @param {string} chosen such as `de`; empty if nobody chose one @param {Texts} texts */
  constructor(chosen, texts) {
    this.chosen = chosen;
    this.#texts = texts;
  }

  /** The language in which the server wrote this page. */
  static async load() {
    const { lang, dataset } = document.documentElement;
    const response = await fetch(new URL(`languages/${lang}.json`, import.meta.url));
    return new Language(dataset.chosen ?? "", await response.json());
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
