// What there is to show: music, or one of the states that have a picture of their own.

import { bareName } from "./stream.js";

/** Milliseconds that a scene must be true before it is shown. @type {Record<Scene, number>} */
const HOLD_MS = {
  ...{ music: 2500, speech: 2500, uncertain: 1500, waiting: 2500 },
  ...{ silence: 500, paused: 500, refused: 500, lost: 3000, offline: 6000 },
};

/** @param {{status: number, daemon: boolean}} watch @param {Stream | null} stream
 * @param {boolean} worded whether there are words enough, of moods if the model knows some
 * @returns {Scene} */
export function sceneOf({ status, daemon }, stream, worded) {
  if (status === 401 || status === 403) return "refused";
  if (status !== 200 || !daemon) return "offline";
  if (!stream || stream.state === "waiting") return "waiting";
  if (stream.state === "paused") return "paused";
  if (stream.state === "silent") return "silence";
  if (stream.state !== "up") return "lost";
  const on = new Set(stream.on.map((tag) => bareName(tag).toLowerCase()));
  if (on.has("speech") && !on.has("music")) return "speech";
  return worded ? "music" : "uncertain";
}

/** Holds a scene until another one has been true for a while. */
export class SceneKeeper {
  /** @type {Scene} */
  scene = "waiting";
  /** When it began, in milliseconds; null if nobody saw that. */
  since = /** @type {number | null} */ (null);
  #next = /** @type {Scene} */ ("waiting");
  #seen = 0;
  #fresh = true;

  /** Returns whether it is the first scene at all, which needs no transition.
   * @param {Scene} found @param {number} now in milliseconds */
  update(found, now) {
    if (found !== this.#next) [this.#next, this.#seen] = [found, now];
    if (found === this.scene) return false;
    const first = this.#fresh && found !== "offline";
    if (!first && now - this.#seen < HOLD_MS[found]) return false;
    this.scene = found;
    this.since = this.#fresh ? null : this.#seen;
    this.#fresh = false;
    return first;
  }
}
