// A constellation: the mood plane as a sky, the music as a star with its trail of ten minutes.

import { css, mix, palette } from "../colour.js";
import { contextOf } from "../dom.js";

const STEP_SECONDS = 2;
const POINTS = 600 / STEP_SECONDS; // of the trail
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
  #trail = /** @type {{spot: Spot, paint: string}[]} */ ([]); // the oldest first
  #elapsed = 0;

  /** @param {HTMLCanvasElement} canvas @param {Look} look @param {Drawing} drawing */
  draw(canvas, look, { light, transparent, seconds, font }) {
    const context = contextOf(canvas);
    const { width, height } = canvas;
    const colours = palette(look.valence, look.arousal, look.colourful, light);
    const wide = width > height;
    const side = wide ? 0.43 * height : 0.448 * Math.min(width, 0.62 * height);
    const [x, y] = wide ? [width - 1.16 * side, 0.5 * height] : [width / 2, 1.16 * side];
    /** @param {Spot} spot @param {number} [far] 1 at it, 0 in the middle @returns {Spot} */
    const at = (spot, far = 1) => [x + far * spot[0] * side, y - far * spot[1] * side];
    const ink = /** @type {Lab} */ (light ? [0.23, 0.002, -0.025] : [0.977, 0, -0.011]);
    const star = /** @type {Spot} */ ([look.valence, look.arousal]);
    const picture = { context, look, colours, light, ink, at, star, side };
    context.clearRect(0, 0, width, height);
    if (!transparent) drawSky(picture);
    this.#elapsed += seconds;
    if (this.#elapsed >= STEP_SECONDS && look.lost <= 0.5 && look.silence <= 0.5) {
      this.#elapsed = 0;
      this.#add(star, light);
    }
    const seen = 1 - 0.55 * look.lost - 0.3 * look.silence;
    drawPlane(picture, this.places, seen);
    this.#drawTrail(picture);
    drawStar(picture);
    context.globalAlpha = seen;
    drawLabels(picture, this.places, font);
    context.globalAlpha = 1;
  }

  /** The trail until now, oldest first, one place every two seconds.
   * @param {number[]} moods valence and arousal by turns @param {boolean} light */
  fill(moods, light) {
    this.#trail = [];
    for (let i = 0; i + 1 < moods.length; i += 2) this.#add([moods[i], moods[i + 1]], light);
  }

  /** @param {Spot} spot @param {boolean} light */
  #add(spot, light) {
    const { accent, bright } = palette(...spot, 1, light);
    this.#trail.push({ spot, paint: css(light ? accent : bright) });
    if (this.#trail.length > POINTS) this.#trail.shift();
  }

  /** @param {SkyPicture} picture */
  #drawTrail({ context, at, side, look }) {
    const strength = 0.85 * (1 - look.lost) * (1 - 0.6 * look.silence);
    context.lineCap = "round";
    this.#trail.forEach(({ spot, paint }, i) => {
      const young = 1 - (this.#trail.length - i) / POINTS;
      context.globalAlpha = strength * young;
      const width = side * (0.003 + 0.011 * young ** 2);
      if (i) drawLine(context, at(this.#trail[i - 1].spot), at(spot), paint, width);
    });
    context.globalAlpha = 1;
  }
}

/** @param {SkyPicture} picture @param {NamedSpot[]} places @param {number} seen */
function drawPlane({ context, at, star, side, ink }, places, seen) {
  for (const radius of [1, 0.5]) {
    drawCircle(context, at([0, 0]), radius * side, css(ink, 0.2 * seen * radius), side / 320);
  }
  for (const { position, lit } of places) {
    if (lit) drawLine(context, at(star), at(position), css(ink, 0.5 * seen), side / 220);
    const paint = css(ink, (lit ? 1 : 0.62) * seen);
    drawCircle(context, at(position), side * (lit ? 0.016 : 0.008), paint);
  }
}

/** The names of the places where there is room, the lit ones first: those stand away from the star.
 * @param {SkyPicture} picture @param {NamedSpot[]} places @param {string} font */
function drawLabels({ context, at, star, side, ink, light }, places, font) {
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = side * 0.022;
  context.strokeStyle = css([Number(light), 0, 0], 0.5);
  /** @type {[number, number, number][]} middle and half width of the labels so far */
  const labels = [];
  for (const { name, position, lit } of [...places].sort((a, b) => Number(b.lit) - Number(a.lit))) {
    context.font = `${lit ? 650 : 450} ${Math.round(side * (lit ? 0.078 : 0.056))}px ${font}`;
    const half = context.measureText(name).width / 2 + 0.02 * side;
    const [x, y] = at(position);
    const [dx, dy] = [position[0] - star[0], star[1] - position[1]];
    const away = (dy > 0 ? 0.068 : -0.068) * side;
    const beside = x + Math.sign(dx) * (half + 0.03 * side);
    /** @type {Spot[]} the best first */
    const spots = lit ? [[x, y + away], [x, y - away]] : [[x, y - 0.048 * side]];
    const inside = Math.abs(beside - at([0, 0])[0]) + half < 1.12 * side;
    if (lit && inside) spots.splice(Math.abs(dx) > Math.abs(dy) ? 0 : 1, 0, [beside, y]);
    const spot = spots.find(([left, top]) =>
      labels.every(
        ([a, b, width]) => Math.abs(a - left) > half + width || Math.abs(b - top) > 0.062 * side,
      ),
    );
    if (!spot) continue;
    labels.push([...spot, half]);
    context.fillStyle = css(ink, lit ? 1 : 0.62);
    context.strokeText(name, ...spot);
    context.fillText(name, ...spot);
  }
}

/** @param {SkyPicture} picture */
function drawSky({ context, look, colours, light, at, star, side }) {
  const { width, height } = context.canvas;
  const { deep, mid, accent } = colours;
  const far = light ? mix([1, 0, 0], mid, 0.3) : mix([0.117, 0, -0.014], deep, 0.3);
  const near = light ? mid : mix(deep, mid, 0.42);
  const strength = 1 - 0.7 * look.lost - 0.4 * look.silence;
  const middle = at(star, 0.6);
  const nebula = context.createRadialGradient(...middle, 0, ...middle, 2.3 * side);
  nebula.addColorStop(0, css(near, strength));
  nebula.addColorStop(0.45, css(light ? mid : deep, 0.6 * strength));
  nebula.addColorStop(1, css(far, 0));
  for (const paint of [css(far), nebula]) {
    context.fillStyle = paint;
    context.fillRect(0, 0, width, height);
  }
  const unit = Math.min(width, height) / 540;
  const paint = css(light ? accent : [1, 0, 0], light ? 0.6 : 0.6 - 0.25 * look.lost);
  for (const { turn, far: distance, size } of SKY) {
    const angle = turn + look.slow * 0.12;
    const r = 0.6 * Math.hypot(width, height) * distance;
    const place = [width / 2 + r * Math.cos(angle), height / 2 + r * Math.sin(angle)];
    drawCircle(context, place, unit * size, paint);
  }
}

/** Its halo is as wide as the uncertainty; in silence it is a ring, a voice sends out rings.
 * @param {SkyPicture} picture */
function drawStar({ context, look, colours, light, ink, at, star, side }) {
  const strength = 1 - look.lost;
  if (strength < 0.02) return;
  const colour = light ? mix(colours.accent, ink, 0.35) : mix(colours.bright, ink, 0.25);
  const place = at(star);
  const breath = 1 + 0.08 * Math.sin(look.phases[7]);
  const radius = side * breath * (0.13 + 0.3 * (1 - look.certainty));
  const solid = strength * (1 - look.silence);
  const glow = solid * (0.35 + 0.65 * look.certainty);
  const halo = context.createRadialGradient(...place, 0, ...place, radius);
  halo.addColorStop(0, css(colour, 0.75 * glow));
  halo.addColorStop(0.25, css(colour, 0.28 * glow));
  halo.addColorStop(1, css(colour, 0));
  drawCircle(context, place, radius, halo);
  drawCircle(context, place, side * 0.024, css(colour, solid));
  const ring = css(colour, 0.8 * look.silence * strength);
  drawCircle(context, place, side * 0.05 * breath, ring, side * 0.008);
  for (const third of [0, 1, 2]) {
    const grown = (look.phases[1] / TURN + third / 3) % 1;
    const faint = css(colour, 0.6 * look.voice * (1 - grown) * Math.min(1, 6 * grown));
    drawCircle(context, place, side * (0.04 + 0.4 * grown), faint, side * 0.008);
  }
}

/** A disc, or a ring of a width.
 * @param {Context} context @param {number[]} middle @param {number} radius
 * @param {string | CanvasGradient} paint @param {number} [width] */
function drawCircle(context, [x, y], radius, paint, width = 0) {
  context.beginPath();
  context.arc(x, y, radius, 0, TURN);
  context.fillStyle = context.strokeStyle = paint;
  context.lineWidth = width;
  if (width) context.stroke();
  else context.fill();
}

/** @param {Context} context @param {Spot} from @param {Spot} to @param {string} paint
 * @param {number} width */
function drawLine(context, from, to, paint, width) {
  context.beginPath();
  context.strokeStyle = paint;
  context.lineWidth = width;
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}
