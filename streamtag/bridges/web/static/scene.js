// What there is to show: music, or one of the states that have a picture of their own.

import { bareName } from "./stream.js";

/** @typedef {"music" | "uncertain" | "speech" | "silence" | "paused" | "lost" | "offline" | "refused" | "waiting"} Scene */

/** How long a scene must be true before it is shown, in milliseconds. */
const HOLD_MS = { silence: 500, lost: 3000, paused: 500, uncertain: 1500, offline: 6000, refused: 500 };
const USUAL_HOLD_MS = 2500;

/**
 * @param {number} status of the connection: 200, or why there is none
 * @param {boolean} daemon whether it is alive
 * @param {import("./stream.js").Stream | null} stream
 * @param {boolean} worded whether there are words enough, of moods if the model knows some
 * @returns {Scene}
 */
export function sceneOf(status, daemon, stream, worded) {
  if (status === 401 || status === 403) return "refused";
  if (status !== 200 || !daemon) return "offline";
  if (!stream) return "waiting";
  if (["unknown", "connecting"].includes(stream.status)) return "waiting";
  if (stream.status === "paused") return "paused";
  if (stream.status !== "up") return "lost";
  if (stream.silent) return "silence";
  if (isOn(stream, "speech") && !isOn(stream, "music")) return "speech";
  return worded ? "music" : "uncertain";
}

/** @param {import("./stream.js").Stream} stream @param {string} name */
function isOn(stream, name) {
  for (const { tag } of stream.tags.values()) {
    if (bareName(tag).toLowerCase() === name) return true;
  }
  return false;
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

  /**
   * @param {Scene} found
   * @param {number} now in milliseconds
   * @returns {boolean} whether it is the first scene at all, which needs no transition
   */
  update(found, now) {
    if (found !== this.#next) {
      this.#next = found;
      this.#seen = now;
    }
    if (found === this.scene) return false;
    const hold = HOLD_MS[/** @type {keyof typeof HOLD_MS} */ (found)] ?? USUAL_HOLD_MS;
    const first = this.#fresh && found !== "offline";
    if (!first && now - this.#seen < hold) return false;
    this.scene = found;
    this.since = this.#fresh ? null : this.#seen;
    this.#fresh = false;
    return first;
  }
}
