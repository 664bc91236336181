// Plain type: a flat ground, large words, and one line that moves like the music.

import { css, mix, palette } from "../colour.js";

/** @typedef {import("../look.js").Look} Look */

const STRANDS = 7; // the line is a bundle; certainty draws it together
const LEAST_SPREAD = 0.22;
const STEPS = 140;
const FINE_STEPS = 420; // a voice has finer waves than music

export class Type {
  widest = 3840;

  /** @param {HTMLCanvasElement} canvas @param {Look} look @param {{light: boolean, transparent: boolean}} options */
  draw(canvas, look, { light, transparent }) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const colours = palette(look.valence, look.arousal, look.colourful, light);
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    if (!transparent) {
      context.fillStyle = css(light ? mix(colours.mid, [1, 1, 1], 0.3) : mix(colours.deep, colours.mid, 0.12));
      context.fillRect(0, 0, width, height);
    }
    const ink = light ? mix(colours.accent, [0, 0, 0], 0.25) : mix(colours.bright, colours.mid, 0.25);
    const sound = (1 - look.silence) * (1 - look.lost) * (1 - look.voice);
    const spread = sound * Math.max(LEAST_SPREAD, 1 - look.certainty);
    context.lineWidth = Math.max(1, Math.min(width, height) / 340);
    context.lineJoin = "round";
    for (let strand = 0; strand < STRANDS; strand++) {
      const off = strand / (STRANDS - 1) - 0.5;
      context.strokeStyle = css(ink, 0.95 - 0.75 * Math.min(1, 4 * spread) * Math.abs(2 * off));
      this.#drawLine(context, look, off * spread);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Look} look
   * @param {number} off how far this strand is from the middle of the bundle, from -0.5 to 0.5
   */
  #drawLine(context, look, off) {
    const { width, height } = context.canvas;
    const lively = (look.arousal + 1) / 2;
    const sound = (1 - look.silence) * (1 - look.lost);
    const swing = Math.min(height, 0.7 * width) * sound * (0.026 + 0.03 * lively);
    const [a, b, c, d, e] = look.phases;
    const waves = 0.9 + 1.6 * lively;
    const middle = 0.5;
    const gap = 0.06 * look.lost;
    context.beginPath();
    const steps = look.voice > 0.02 ? FINE_STEPS : STEPS;
    for (let i = 0; i <= steps; i++) {
      const x = i / steps;
      const turn = 2 * Math.PI * x * waves;
      const slow = 0.7 * Math.sin(turn - a + 2.4 * off) + 0.4 * Math.sin(1.7 * turn - b + 4.2 * off);
      const quick = lively * 0.34 * Math.sin(3.1 * turn - c + 6.5 * off);
      const syllables = Math.sin(9 * x - d) * Math.sin(23 * x - e) * Math.sin(41 * x - c);
      const words = 2.4 * Math.sin(330 * x) * syllables ** 2 * Math.sin(Math.PI * x);
      const music = slow + quick + 0.9 * off;
      const y = 0.795 * height - swing * (music + look.voice * (words - music));
      const broken = Math.abs(x - middle) < gap;
      if (broken || i === 0) context.moveTo(x * width, y);
      else context.lineTo(x * width, y);
    }
    context.stroke();
  }
}
