// The words of the pages and the names of tags, in the language in which the server wrote the page.

const { chosen = "", texts = "{}" } = document.documentElement.dataset;
/** @type {{ui: Record<string, string>, tags: Record<string, string>}} */
const { ui, tags } = JSON.parse(texts);

export const language = {
  /** Such as `de`; empty if nobody chose one. */
  chosen,
  /** Names of tags in small letters. */
  tags,

  /** @param {string} key @param {Record<string, string | number>} [values] for what is in braces */
  text(key, values = {}) {
    return (ui[key] ?? "").replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  },

  /** @param {number} minutes */
  duration(minutes) {
    const n = Math.floor(minutes / 60);
    return n ? language.text("hours", { n }) : language.text("minutes", { n: minutes });
  },
};
