// A level meter: the loudness, or the mean level, of the last half second as a bar, its peak as a
// mark, from -60 dB to full scale.

const LOWEST = -60; // dB of full scale
const HOT = -1; // from here on the peak is as good as clipped
const STALE_MS = 3000;

/** The level if it is new enough to be shown. @param {Level | null} level */
export function fresh(level) {
  return level && performance.now() - level.at < STALE_MS ? level : null;
}

/** @param {Level} level in words */
export function levelText({ mean, lufs }) {
  return lufs == null ? `${mean.toFixed(0)} dB` : `${lufs.toFixed(0)} LUFS`;
}

/** @param {HTMLElement} meter @param {Level | null} level */
export function showLevel(meter, level) {
  const part = (/** @type {number} */ db) => Math.min(1, Math.max(0, 1 - db / LOWEST));
  meter.style.setProperty("--loud", String(level ? part(level.lufs ?? level.mean) : 0));
  meter.style.setProperty("--peak", String(level ? part(level.peak) : 0));
  meter.dataset.level = !level ? "none" : level.peak >= HOT ? "hot" : "good";
}
