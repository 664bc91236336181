// A constellation: the mood plane as a sky, the music as a star with its trail of ten minutes.

import { css, mix, palette } from "../colour.js";

/** @typedef {import("../look.js").Look} Look */
/** @typedef {import("../colour.js").Rgb} Rgb */
/** @typedef {{x: number, y: number, side: number}} Plane its middle and half its width, in pixels */
/** @typedef {{name: string, position: [number, number], lit: boolean}} Place */

const TRAIL_SECONDS = 600;
const STEP_SECONDS = 2;
const POINTS = TRAIL_SECONDS / STEP_SECONDS;
const FIELDS = 5; // of a point of the trail: x, y, and its colour
const STARS = 150;
const TURN = 2 * Math.PI;

/** Positions and sizes of the stars behind, the same at every start. */
const SKY = Array.from({ length: STARS }, (_, i) => {
  const random = (/** @type {number} */ k) => Math.abs(Math.sin(12.9898 * (i + 1) * k) * 43758.5453) % 1;
  return { turn: TURN * random(1), far: Math.sqrt(random(2)), size: 0.35 + 0.8 * random(3) ** 4 };
});

export class Constellation {
  widest = 3840;
  /** @type {Place[]} */
  places = [];
  #trail = new Float32Array(POINTS * FIELDS);
  #next = 0;
  #length = 0;
  #elapsed = 0;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Look} look
   * @param {{light: boolean, transparent: boolean, seconds: number, font: string}} options
   */
  draw(canvas, look, { light, transparent, seconds, font }) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const colours = palette(look.valence, look.arousal, look.colourful, light);
    const { width, height } = canvas;
    const ink = /** @type {Rgb} */ (light ? [0.1, 0.11, 0.16] : [0.96, 0.97, 1]);
    context.clearRect(0, 0, width, height);
    const wide = width > height;
    const side = wide ? 0.43 * height : 0.4 * Math.min(width, 0.62 * height) * 1.12;
    const plane = {
      x: wide ? width - 1.16 * side : width / 2,
      y: wide ? 0.5 * height : side * 1.16,
      side,
    };
    if (!transparent) this.#drawSky(context, look, colours, light, plane);
    this.#remember(look, light, seconds);
    const there = 1 - look.lost;
    const seen = 1 - 0.55 * look.lost - 0.3 * look.silence;
    this.#drawPlane(context, plane, ink, seen, look);
    this.#drawTrail(context, plane, there * (1 - 0.6 * look.silence));
    this.#drawPoint(context, plane, look, light ? mix(colours.accent, ink, 0.35) : mix(colours.bright, ink, 0.25), there);
    this.#drawLabels(context, plane, ink, font, seen, look);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Look} look
   * @param {import("../colour.js").Palette} colours
   * @param {boolean} light
   * @param {Plane} plane
   */
  #drawSky(context, look, colours, light, { x, y, side }) {
    const { width, height } = context.canvas;
    const far = /** @type {Rgb} */ (light ? mix([1, 1, 1], colours.mid, 0.3) : mix([0.015, 0.02, 0.04], colours.deep, 0.3));
    context.fillStyle = css(far);
    context.fillRect(0, 0, width, height);
    const [px, py] = [x + 0.6 * look.valence * side, y - 0.6 * look.arousal * side];
    const nebula = context.createRadialGradient(px, py, 0, px, py, 2.3 * side);
    const near = light ? colours.mid : mix(colours.deep, colours.mid, 0.42);
    const strength = 1 - 0.7 * look.lost - 0.4 * look.silence;
    nebula.addColorStop(0, css(near, strength));
    nebula.addColorStop(0.45, css(light ? colours.mid : colours.deep, 0.6 * strength));
    nebula.addColorStop(1, css(far, 0));
    context.fillStyle = nebula;
    context.fillRect(0, 0, width, height);
    const radius = 0.6 * Math.hypot(width, height);
    const unit = Math.min(width, height) / 540;
    context.fillStyle = css(light ? colours.accent : [1, 1, 1], light ? 0.6 : 0.6 - 0.25 * look.lost);
    for (const { turn, far: distance, size } of SKY) {
      const angle = turn + look.slow * 0.12;
      const r = radius * distance;
      context.beginPath();
      context.arc(width / 2 + r * Math.cos(angle), height / 2 + r * Math.sin(angle), unit * size, 0, TURN);
      context.fill();
    }
  }

  /**
   * The trail until now, oldest first: valence and arousal by turns, one pair every two seconds.
   * @param {number[]} moods
   * @param {boolean} light
   */
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

  /**
   * Adds to a ring that never grows.
   * @param {number} valence
   * @param {number} arousal
   * @param {boolean} light
   */
  #add(valence, arousal, light) {
    const { accent, bright } = palette(valence, arousal, 1, light);
    this.#trail.set([valence, arousal, ...(light ? accent : bright)], this.#next * FIELDS);
    this.#next = (this.#next + 1) % POINTS;
    this.#length = Math.min(this.#length + 1, POINTS);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Plane} plane
   * @param {Rgb} ink
   * @param {number} strength
   * @param {Look} look
   */
  #drawPlane(context, { x, y, side }, ink, strength, look) {
    context.lineWidth = side / 320;
    for (const radius of [1, 0.5]) {
      context.strokeStyle = css(ink, 0.2 * strength * radius);
      context.beginPath();
      context.arc(x, y, radius * side, 0, TURN);
      context.stroke();
    }
    for (const { position, lit } of this.places) {
      const [px, py] = [x + position[0] * side, y - position[1] * side];
      if (lit) {
        context.strokeStyle = css(ink, 0.5 * strength);
        context.lineWidth = side / 220;
        context.beginPath();
        context.moveTo(x + look.valence * side, y - look.arousal * side);
        context.lineTo(px, py);
        context.stroke();
      }
      context.fillStyle = css(ink, (lit ? 1 : 0.62) * strength);
      context.beginPath();
      context.arc(px, py, side * (lit ? 0.016 : 0.008), 0, TURN);
      context.fill();
    }
  }

  /**
   * The names of the places, above all else; those that are lit stand away from the star.
   * @param {CanvasRenderingContext2D} context
   * @param {Plane} plane
   * @param {Rgb} ink
   * @param {string} font
   * @param {number} strength
   * @param {Look} look
   */
  #drawLabels(context, { x, y, side }, ink, font, strength, look) {
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = side * 0.022;
    context.strokeStyle = css(ink[0] > 0.5 ? [0, 0, 0] : [1, 1, 1], 0.5 * strength);
    /** @type {[number, number, number][]} middle and half width of the labels so far */
    const labels = [];
    for (const { name, position, lit } of [...this.places].sort((a, b) => Number(b.lit) - Number(a.lit))) {
      const [px, py] = [x + position[0] * side, y - position[1] * side];
      const [dx, dy] = [position[0] - look.valence, look.arousal - position[1]];
      context.font = `${lit ? 650 : 450} ${Math.round(side * (lit ? 0.078 : 0.056))}px ${font}`;
      const half = context.measureText(name).width / 2 + 0.02 * side;
      const beside = px + Math.sign(dx) * (half + 0.03 * side);
      const [above, below] = [py - 0.066 * side, py + 0.07 * side];
      /** @type {[number, number][]} the best first */
      const spots = lit ? [[px, dy > 0 ? below : above], [px, dy > 0 ? above : below]] : [[px, py - 0.048 * side]];
      if (lit && Math.abs(beside - x) + half < 1.12 * side) spots.splice(Math.abs(dx) > Math.abs(dy) ? 0 : 1, 0, [beside, py]);
      const free = (/** @type {[number, number]} */ [lx, ly]) => labels.every(([ox, oy, other]) => Math.abs(ox - lx) > half + other || Math.abs(oy - ly) > 0.062 * side);
      const spot = spots.find(free);
      if (!spot) continue;
      const [lx, ly] = spot;
      labels.push([lx, ly, half]);
      context.fillStyle = css(ink, (lit ? 1 : 0.62) * strength);
      context.strokeText(name, lx, ly);
      context.fillText(name, lx, ly);
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {Plane} plane @param {number} strength */
  #drawTrail(context, { x, y, side }, strength) {
    const trail = this.#trail;
    context.lineCap = "round";
    for (let i = 1; i < this.#length; i++) {
      const age = i / POINTS;
      const a = ((this.#next - i + POINTS) % POINTS) * FIELDS;
      const b = ((this.#next - i - 1 + 2 * POINTS) % POINTS) * FIELDS;
      context.strokeStyle = css([trail[a + 2], trail[a + 3], trail[a + 4]], strength * 0.85 * (1 - age));
      context.lineWidth = side * (0.003 + 0.011 * (1 - age) ** 2);
      context.beginPath();
      context.moveTo(x + trail[a] * side, y - trail[a + 1] * side);
      context.lineTo(x + trail[b] * side, y - trail[b + 1] * side);
      context.stroke();
    }
  }

  /**
   * The star. Its halo is as wide as the uncertainty; in silence it is a ring.
   * @param {CanvasRenderingContext2D} context
   * @param {Plane} plane
   * @param {Look} look
   * @param {Rgb} colour
   * @param {number} strength
   */
  #drawPoint(context, { x, y, side }, look, colour, strength) {
    if (strength < 0.02) return;
    const [px, py] = [x + look.valence * side, y - look.arousal * side];
    const breath = 1 + 0.08 * Math.sin(look.phases[7]);
    const radius = side * breath * (0.13 + 0.3 * (1 - look.certainty));
    const solid = strength * (1 - look.silence) * (0.35 + 0.65 * look.certainty);
    const halo = context.createRadialGradient(px, py, 0, px, py, radius);
    halo.addColorStop(0, css(colour, 0.75 * solid));
    halo.addColorStop(0.25, css(colour, 0.28 * solid));
    halo.addColorStop(1, css(colour, 0));
    context.fillStyle = halo;
    context.fillRect(px - radius, py - radius, 2 * radius, 2 * radius);
    context.fillStyle = css(colour, strength * (1 - look.silence));
    context.beginPath();
    context.arc(px, py, side * 0.024, 0, TURN);
    context.fill();
    context.strokeStyle = css(colour, 0.8 * look.silence * strength);
    context.lineWidth = side * 0.008;
    context.beginPath();
    context.arc(px, py, side * 0.05 * breath, 0, TURN);
    context.stroke();
    for (let i = 0; i < 3; i++) {
      const grown = (look.phases[1] / TURN + i / 3) % 1;
      context.strokeStyle = css(colour, 0.6 * look.voice * (1 - grown) * Math.min(1, 6 * grown));
      context.beginPath();
      context.arc(px, py, side * (0.04 + 0.4 * grown), 0, TURN);
      context.stroke();
    }
  }
}
