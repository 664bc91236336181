// The words of the pages and the names of tags, in the language in which the server wrote the page.

import { bareName } from "./stream.js";

const { chosen = "", texts = "{}" } = document.documentElement.dataset;
/** @type {{ui: Record<string, string>, tags: Record<string, string>}} */
const { ui, tags } = JSON.parse(texts);

export const language = {
  /** Such as `de`; empty if nobody chose one. */
  chosen,

  /** @param {string} key @param {Record<string, string | number>} [values] for what is in braces */
  text(key, values = {}) {
    return (ui[key] ?? "").replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  },

  /** @param {number} minutes */
  duration(minutes) {
    const n = Math.floor(minutes / 60);
    return n ? language.text("hours", { n }) : language.text("minutes", { n: minutes });
  },

  /** A tag's name: the configuration's in this language, then, unless somebody chose it, the
   * stream's, then the page's. @param {string} tag @param {string} configured
   * @param {string} display */
  tag(tag, configured, display) {
    const bare = bareName(tag);
    const known = tags[bare.toLowerCase()];
    return configured || (chosen ? known || display : display || known) || bare;
  },
};
