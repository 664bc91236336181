// Colours of the mood plane, mixed in OKLab (Ottosson, "A perceptual color space", 2020).

/** @typedef {[number, number, number]} Lab lightness, green-red, blue-yellow */
/** @typedef {[number, number, number]} Rgb each from 0 to 1, sRGB */
/** @typedef {{deep: Rgb, mid: Rgb, bright: Rgb, accent: Rgb}} Palette */

/**
 * Four colours of each corner of the plane as lightness, chroma and hue in degrees.
 * @type {Record<string, Record<keyof Palette, [number, number, number]>>}
 */
const CORNERS = {
  happy: { deep: [0.3, 0.1, 20], mid: [0.6, 0.18, 42], bright: [0.82, 0.15, 78], accent: [0.58, 0.2, 2] },
  tense: { deep: [0.19, 0.07, 330], mid: [0.42, 0.18, 12], bright: [0.62, 0.21, 28], accent: [0.42, 0.18, 300] },
  sad: { deep: [0.17, 0.05, 268], mid: [0.34, 0.09, 262], bright: [0.58, 0.08, 240], accent: [0.38, 0.11, 292] },
  calm: { deep: [0.25, 0.05, 205], mid: [0.48, 0.09, 182], bright: [0.78, 0.1, 152], accent: [0.55, 0.1, 228] },
};
const NAMES = /** @type {(keyof Palette)[]} */ (["deep", "mid", "bright", "accent"]);
/** What becomes of lightness on a light wall. */
const LIGHT = { deep: 0.95, mid: 0.87, bright: 0.985, accent: 0.8 };
/** Models seldom reach the plane's edge: the colours are at theirs before that. */
const GAIN = 2.2;

/**
 * The colours of a place on the mood plane. Uncertainty and silence take the colour out.
 * @param {number} valence
 * @param {number} arousal
 * @param {number} colourful from 0, grey, to 1
 * @param {boolean} light
 * @returns {Palette}
 */
export function palette(valence, arousal, colourful, light) {
  const right = (Math.tanh(GAIN * valence) + 1) / 2;
  const up = (Math.tanh(GAIN * arousal) + 1) / 2;
  const weights = [right * up, (1 - right) * up, (1 - right) * (1 - up), right * (1 - up)];
  const mixed = /** @type {Palette} */ ({});
  for (const name of NAMES) {
    const lab = /** @type {Lab} */ ([0, 0, 0]);
    Object.values(CORNERS).forEach((corner, i) => {
      const [lightness, chroma, hue] = corner[name];
      const angle = (hue * Math.PI) / 180;
      lab[0] += weights[i] * (light ? LIGHT[name] : lightness);
      lab[1] += weights[i] * chroma * Math.cos(angle);
      lab[2] += weights[i] * chroma * Math.sin(angle);
    });
    const fade = (0.12 + 0.88 * colourful) * (light ? (name === "accent" ? 0.75 : 0.5) : 1);
    const cool = (1 - colourful) * (light ? 0.4 : 1); // greys lean to slate
    mixed[name] = toRgb([lab[0], lab[1] * fade - 0.004 * cool, lab[2] * fade - 0.028 * cool]);
  }
  return mixed;
}

/** @param {Lab} lab @returns {Rgb} */
export function toRgb([lightness, a, b]) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    gamma(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    gamma(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    gamma(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

/** @param {number} x linear light */
function gamma(x) {
  const c = Math.min(1, Math.max(0, x));
  return c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055;
}

/** @param {Rgb} rgb @param {number} [alpha] */
export function css([r, g, b], alpha = 1) {
  const byte = (/** @type {number} */ x) => Math.round(255 * x);
  return `rgb(${byte(r)} ${byte(g)} ${byte(b)} / ${alpha})`;
}

/** @param {Rgb} a @param {Rgb} b @param {number} share of b @returns {Rgb} */
export function mix(a, b, share) {
  const at = (/** @type {number} */ i) => a[i] + share * (b[i] - a[i]);
  return [at(0), at(1), at(2)];
}
