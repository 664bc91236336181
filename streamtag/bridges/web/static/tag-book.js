// The names, categories and colours of tags, in the present mode: light or dark.

import { css, mix, palette } from "./colour.js";
import { colour } from "./dom.js";
import { language } from "./language.js";
import { ask } from "./shell.js";
import { bareName } from "./stream.js";
import { placeOf } from "./words.js";

const LIGHT = matchMedia("(prefers-color-scheme: light)");
/** Where tags stand, in this order. @type {TagPlace[]} */
const PLACES = ["speech", "kind", "mood", "genre", "instrument"];

export class TagBook {
  about = /** @type {Descriptions} */ ({});
  light = isLight();

  /** @param {() => void} [onChange] of the mode */
  constructor(onChange = () => {}) {
    LIGHT.addEventListener("change", () => {
      this.light = isLight();
      onChange();
    });
  }

  /** Asks what the tags mean; of all models without a stream. */
  async load(stream = "") {
    this.about = (await ask("api/tags", { stream, lang: language.chosen })).tags;
  }

  /** A tag's name: the configuration's in this language, then, unless somebody chose it, the
   * stream's, then the page's. @param {string} tag @param {string} [display] the stream's */
  name(tag, display = "") {
    const known = language.tags[bareName(tag).toLowerCase()];
    const usual = language.chosen ? known || display : display || known;
    return this.about[tag]?.name || usual || bareName(tag);
  }

  /** @param {string} tag */
  place(tag) {
    return placeOf(tag, this.about[tag]?.category ?? "");
  }

  /** The order of tags by category. @param {{tag: string}} a @param {{tag: string}} b */
  compare = (a, b) => PLACES.indexOf(this.place(a.tag)) - PLACES.indexOf(this.place(b.tag));

  /** @param {string} tag */
  threshold(tag) {
    return this.about[tag]?.threshold ?? 0.5;
  }

  /** The moods that have a place on the plane. @param {string[]} on @returns {NamedSpot[]} */
  spots(on) {
    return Object.entries(this.about).flatMap(([tag, { position }]) => {
      const spot = { name: this.name(tag), position, lit: on.includes(tag) };
      return position && this.place(tag) === "mood" ? [{ ...spot, position }] : [];
    });
  }

  /** The colour of a mood's place on the plane; null for other tags.
   * @param {string} tag @param {number} dark how much darker, for text on a light ground */
  moodColour(tag, dark = 0.18) {
    const position = this.about[tag]?.position;
    if (!position || this.place(tag) !== "mood") return null;
    const { bright, mid } = palette(0.55 * position[0], 0.55 * position[1], 1, false);
    return css(this.light ? mix(mid, [0, 0, 0], dark) : mix(bright, [1, 0, 0], 0.2));
  }

  /** For an area. @param {string} tag */
  colour(tag) {
    const place = this.place(tag);
    return this.moodColour(tag, 0) ?? colour(place === "mood" ? "ink" : place);
  }
}

/** Whether the page is light now. */
function isLight() {
  const { colorScheme } = getComputedStyle(document.body);
  return colorScheme === "light" || (colorScheme !== "dark" && LIGHT.matches);
}
