// A level meter: the mean of the last half second as a bar, its peak as a mark, from -60 dB to full scale.

import { element } from "./shell.js";

/** @typedef {{peak: number, mean: number, at: number}} Level in dB of full scale; when, on the page's own clock */

const LOWEST = -60; // dB of full scale
const HOT = -1; // from here on the peak is as good as clipped
const STALE_MS = 3000;

/** A new meter, empty. */
export function makeMeter() {
  const meter = element("span", "meter");
  meter.append(element("b"), element("u"));
  return meter;
}

/** @param {Level | null} level @returns {Level | null} none if it is too old to be shown */
export function fresh(level) {
  return level && performance.now() - level.at < STALE_MS ? level : null;
}

/** @param {HTMLElement} meter @param {Level | null} level */
export function showLevel(meter, level) {
  const [bar, mark] = /** @type {HTMLElement[]} */ ([...meter.children]);
  const part = (/** @type {number} */ db) => Math.min(1, Math.max(0, 1 - db / LOWEST));
  bar.style.transform = `scaleX(${level ? part(level.mean) : 0})`;
  mark.style.left = `${level ? 100 * part(level.peak) : 0}%`;
  meter.dataset.level = !level ? "none" : level.peak >= HOT ? "hot" : "good";
}
