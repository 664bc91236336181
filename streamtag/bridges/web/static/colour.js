// Colours of the mood plane, mixed in OKLab (Ottosson, "A perceptual color space", 2020).

const NAMES = /** @type {(keyof Palette)[]} */ (["deep", "mid", "bright", "accent"]);
/** Lightness, chroma and hue in degrees of these colours at each corner of the plane. */
const CORNERS = [
  [[0.3, 0.1, 20], [0.6, 0.18, 42], [0.82, 0.15, 78], [0.58, 0.2, 2]], // happy
  [[0.19, 0.07, 330], [0.42, 0.18, 12], [0.62, 0.21, 28], [0.42, 0.18, 300]], // tense
  [[0.17, 0.05, 268], [0.34, 0.09, 262], [0.58, 0.08, 240], [0.38, 0.11, 292]], // sad
  [[0.25, 0.05, 205], [0.48, 0.09, 182], [0.78, 0.1, 152], [0.55, 0.1, 228]], // calm
];
/** What becomes of lightness on a light wall. */
const LIGHT = [0.95, 0.87, 0.985, 0.8];
/** Models seldom reach the plane's edge: the colours are at theirs before that. */
const GAIN = 2.2;

/** The colours of a place on the mood plane. Uncertainty and silence take the colour out.
 * @param {number} valence @param {number} arousal @param {number} colourful from 0, grey, to 1
 * @param {boolean} light */
export function palette(valence, arousal, colourful, light) {
  const right = (Math.tanh(GAIN * valence) + 1) / 2;
  const up = (Math.tanh(GAIN * arousal) + 1) / 2;
  const weights = [right * up, (1 - right) * up, (1 - right) * (1 - up), right * (1 - up)];
  const cool = (1 - colourful) * (light ? 0.4 : 1); // greys lean to slate
  const mixed = /** @type {Palette} */ ({});
  NAMES.forEach((name, k) => {
    let [lightness, a, b] = [0, 0, 0];
    CORNERS.forEach((corner, i) => {
      const [bright, chroma, hue] = corner[k];
      const angle = (hue * Math.PI) / 180;
      lightness += weights[i] * (light ? LIGHT[k] : bright);
      a += weights[i] * chroma * Math.cos(angle);
      b += weights[i] * chroma * Math.sin(angle);
    });
    const fade = (0.12 + 0.88 * colourful) * (light ? (name === "accent" ? 0.75 : 0.5) : 1);
    mixed[name] = toRgb(lightness, a * fade - 0.004 * cool, b * fade - 0.028 * cool);
  });
  return mixed;
}

/** @param {number} lightness @param {number} a @param {number} b @returns {Rgb} */
function toRgb(lightness, a, b) {
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
export function css(rgb, alpha = 1) {
  const bytes = rgb.map((x) => Math.round(255 * x));
  return `rgb(${bytes.join(" ")} / ${alpha})`;
}

/** @param {Rgb} a @param {Rgb} b @param {number} share of b */
export function mix(a, b, share) {
  return /** @type {Rgb} */ (a.map((x, i) => x + share * (b[i] - x)));
}
