// A constellation: the mood plane as a sky, the music as a star with its trail of ten minutes.

import { css, mix, palette } from "../colour.js";
import { contextOf } from "../dom.js";

const STEP_SECONDS = 2;
const POINTS = 600 / STEP_SECONDS; // of the trail
const FIELDS = 5; // of a point of the trail: valence, arousal, and its colour
const TURN = 2 * Math.PI;

/** Positions and sizes of the stars behind, the same at every start. */
const SKY = Array.from({ length: 150 }, (_, i) => {
  const sines = [1, 2, 3].map((k) => Math.sin(12.9898 * (i + 1) * k));
  const [a, b, c] = sines.map((sine) => Math.abs(sine * 43758.5453) % 1);
  return { turn: TURN * a, far: Math.sqrt(b), size: 0.35 + 0.8 * c ** 4 };
});

export class Constellation {
  widest = 3840;
  /** @type {NamedSpot[]} */
  places = [];
  #trail = new Float32Array(POINTS * FIELDS);
  #next = 0;
  #length = 0;
  #elapsed = 0;

  /** @param {HTMLCanvasElement} canvas @param {Look} look @param {Drawing} drawing */
  draw(canvas, look, { light, transparent, seconds, font }) {
    const context = contextOf(canvas);
    const { width, height } = canvas;
    const colours = palette(look.valence, look.arousal, look.colourful, light);
    const wide = width > height;
    const side = wide ? 0.43 * height : 0.448 * Math.min(width, 0.62 * height);
    const [x, y] = wide ? [width - 1.16 * side, 0.5 * height] : [width / 2, 1.16 * side];
    const ink = /** @type {Rgb} */ (light ? [0.1, 0.11, 0.16] : [0.96, 0.97, 1]);
    const seen = 1 - 0.55 * look.lost - 0.3 * look.silence;
    const picture = { context, look, colours, light, ink, font, x, y, side, seen };
    context.clearRect(0, 0, width, height);
    if (!transparent) drawSky(picture);
    this.#remember(look, light, seconds);
    this.#drawPlane(picture);
    this.#drawTrail(picture);
    drawStar(picture);
    this.#drawLabels(picture);
  }

  /** The trail until now, oldest first, one place every two seconds.
   * @param {number[]} moods valence and arousal by turns @param {boolean} light */
  fill(moods, light) {
    this.#length = this.#next = 0;
    for (let i = 0; i + 1 < moods.length; i += 2) this.#add(moods[i], moods[i + 1], light);
  }

  /** @param {Look} look @param {boolean} light @param {number} seconds */
  #remember(look, light, seconds) {
    this.#elapsed += seconds;
    if (this.#elapsed < STEP_SECONDS || look.lost > 0.5 || look.silence > 0.5) return;
    this.#elapsed = 0;
    this.#add(look.valence, look.arousal, light);
  }

  /** Adds to a ring that never grows. */
  #add(/** @type {number} */ valence, /** @type {number} */ arousal, /** @type {boolean} */ light) {
    const { accent, bright } = palette(valence, arousal, 1, light);
    this.#trail.set([valence, arousal, ...(light ? accent : bright)], this.#next * FIELDS);
    this.#next = (this.#next + 1) % POINTS;
    this.#length = Math.min(this.#length + 1, POINTS);
  }

  /** @param {SkyPicture} picture */
  #drawPlane({ context, x, y, side, ink, seen, look }) {
    for (const radius of [1, 0.5]) {
      drawCircle(context, x, y, radius * side, css(ink, 0.2 * seen * radius), side / 320);
    }
    for (const { position, lit } of this.places) {
      const [px, py] = [x + position[0] * side, y - position[1] * side];
      context.strokeStyle = css(ink, 0.5 * seen);
      context.lineWidth = side / 220;
      if (lit) drawLine(context, x + look.valence * side, y - look.arousal * side, px, py);
      drawCircle(context, px, py, side * (lit ? 0.016 : 0.008), css(ink, (lit ? 1 : 0.62) * seen));
    }
  }

  /** The names of the places, above all else. @param {SkyPicture} picture */
  #drawLabels(picture) {
    const { context, side, ink, font, seen } = picture;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = side * 0.022;
    context.strokeStyle = css(picture.light ? [1, 1, 1] : [0, 0, 0], 0.5 * seen);
    /** @type {[number, number, number][]} middle and half width of the labels so far */
    const labels = [];
    for (const place of [...this.places].sort((a, b) => Number(b.lit) - Number(a.lit))) {
      const { name, lit } = place;
      context.font = `${lit ? 650 : 450} ${Math.round(side * (lit ? 0.078 : 0.056))}px ${font}`;
      const half = context.measureText(name).width / 2 + 0.02 * side;
      const free = (/** @type {Spot} */ [lx, ly]) =>
        labels.every(([x, y, w]) => Math.abs(x - lx) > half + w || Math.abs(y - ly) > 0.062 * side);
      const spot = spotsOf(picture, place, half).find(free);
      if (!spot) continue;
      labels.push([...spot, half]);
      context.fillStyle = css(ink, (lit ? 1 : 0.62) * seen);
      context.strokeText(name, ...spot);
      context.fillText(name, ...spot);
    }
  }

  /** @param {SkyPicture} picture */
  #drawTrail({ context, x, y, side, look }) {
    const strength = 0.85 * (1 - look.lost) * (1 - 0.6 * look.silence);
    const trail = this.#trail;
    context.lineCap = "round";
    for (let i = 1; i < this.#length; i++) {
      const young = 1 - i / POINTS;
      const [a, b] = [i, i + 1].map((k) => ((this.#next - k + 2 * POINTS) % POINTS) * FIELDS);
      context.strokeStyle = css([trail[a + 2], trail[a + 3], trail[a + 4]], strength * young);
      context.lineWidth = side * (0.003 + 0.011 * young ** 2);
      const at = (/** @type {number} */ k) => [x + trail[k] * side, y - trail[k + 1] * side];
      drawLine(context, ...at(a), ...at(b));
    }
  }
}

/** Where a label may stand, the best first; that of a lit place stands away from the star.
 * @param {SkyPicture} picture @param {NamedSpot} place @param {number} half its width */
function spotsOf({ x, y, side, look }, { position, lit }, half) {
  const [px, py] = [x + position[0] * side, y - position[1] * side];
  const [dx, dy] = [position[0] - look.valence, look.arousal - position[1]];
  const beside = px + Math.sign(dx) * (half + 0.03 * side);
  const [above, below] = [py - 0.066 * side, py + 0.07 * side];
  if (!lit) return /** @type {Spot[]} */ ([[px, py - 0.048 * side]]);
  const [best, second] = dy > 0 ? [below, above] : [above, below];
  const spots = /** @type {Spot[]} */ ([[px, best], [px, second]]);
  const first = Math.abs(dx) > Math.abs(dy) ? 0 : 1;
  if (Math.abs(beside - x) + half < 1.12 * side) spots.splice(first, 0, [beside, py]);
  return spots;
}

/** @param {SkyPicture} picture */
function drawSky({ context, look, colours, light, x, y, side }) {
  const { width, height } = context.canvas;
  const { deep, mid, accent } = colours;
  const far = light ? mix([1, 1, 1], mid, 0.3) : mix([0.015, 0.02, 0.04], deep, 0.3);
  const near = light ? mid : mix(deep, mid, 0.42);
  const strength = 1 - 0.7 * look.lost - 0.4 * look.silence;
  const [px, py] = [x + 0.6 * look.valence * side, y - 0.6 * look.arousal * side];
  const nebula = context.createRadialGradient(px, py, 0, px, py, 2.3 * side);
  nebula.addColorStop(0, css(near, strength));
  nebula.addColorStop(0.45, css(light ? mid : deep, 0.6 * strength));
  nebula.addColorStop(1, css(far, 0));
  for (const paint of [css(far), nebula]) {
    context.fillStyle = paint;
    context.fillRect(0, 0, width, height);
  }
  const unit = Math.min(width, height) / 540;
  const paint = css(light ? accent : [1, 1, 1], light ? 0.6 : 0.6 - 0.25 * look.lost);
  for (const { turn, far: distance, size } of SKY) {
    const angle = turn + look.slow * 0.12;
    const r = 0.6 * Math.hypot(width, height) * distance;
    const [sx, sy] = [width / 2 + r * Math.cos(angle), height / 2 + r * Math.sin(angle)];
    drawCircle(context, sx, sy, unit * size, paint);
  }
}

/** Its halo is as wide as the uncertainty; in silence it is a ring, a voice sends out rings.
 * @param {SkyPicture} picture */
function drawStar({ context, look, colours, light, ink, x, y, side }) {
  const strength = 1 - look.lost;
  if (strength < 0.02) return;
  const colour = light ? mix(colours.accent, ink, 0.35) : mix(colours.bright, ink, 0.25);
  const [px, py] = [x + look.valence * side, y - look.arousal * side];
  const breath = 1 + 0.08 * Math.sin(look.phases[7]);
  const radius = side * breath * (0.13 + 0.3 * (1 - look.certainty));
  const solid = strength * (1 - look.silence);
  const glow = solid * (0.35 + 0.65 * look.certainty);
  const halo = context.createRadialGradient(px, py, 0, px, py, radius);
  halo.addColorStop(0, css(colour, 0.75 * glow));
  halo.addColorStop(0.25, css(colour, 0.28 * glow));
  halo.addColorStop(1, css(colour, 0));
  drawCircle(context, px, py, radius, halo);
  drawCircle(context, px, py, side * 0.024, css(colour, solid));
  const ring = css(colour, 0.8 * look.silence * strength);
  drawCircle(context, px, py, side * 0.05 * breath, ring, side * 0.008);
  for (const third of [0, 1, 2]) {
    const grown = (look.phases[1] / TURN + third / 3) % 1;
    const faint = css(colour, 0.6 * look.voice * (1 - grown) * Math.min(1, 6 * grown));
    drawCircle(context, px, py, side * (0.04 + 0.4 * grown), faint, side * 0.008);
  }
}

/** A disc, or a ring of a width.
 * @param {Context} context @param {number} x @param {number} y @param {number} radius
 * @param {string | CanvasGradient} paint @param {number} [width] */
function drawCircle(context, x, y, radius, paint, width = 0) {
  context.beginPath();
  context.arc(x, y, radius, 0, TURN);
  context.fillStyle = context.strokeStyle = paint;
  context.lineWidth = width;
  if (width) context.stroke();
  else context.fill();
}

/** @param {Context} context @param {number[]} ends */
function drawLine(context, ...[ax, ay, bx, by]) {
  context.beginPath();
  context.moveTo(ax, ay);
  context.lineTo(bx, by);
  context.stroke();
}
