// Colours of the mood plane, in OKLab (Ottosson, "A perceptual color space", 2020).

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
    mixed[name] = [lightness, a * fade - 0.004 * cool, b * fade - 0.028 * cool];
  });
  return mixed;
}

/** @param {Lab} lab @param {number} [alpha] */
export function css(lab, alpha = 1) {
  return `oklab(${lab.map((x) => x.toFixed(4)).join(" ")} / ${alpha.toFixed(4)})`;
}

/** @param {Lab} a @param {Lab} b @param {number} share of b */
export function mix(a, b, share) {
  return /** @type {Lab} */ (a.map((x, i) => x + share * (b[i] - x)));
}
