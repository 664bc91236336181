// Plain type: a flat ground, large words, and one line that moves like the music.

import { css, mix, palette } from "../colour.js";
import { contextOf } from "../dom.js";

const STRANDS = [-0.5, -1 / 3, -1 / 6, 0, 1 / 6, 1 / 3, 0.5]; // certainty draws them together
const LEAST_SPREAD = 0.22;
const STEPS = 140;
const FINE_STEPS = 420; // a voice has finer waves than music

export class Type {
  widest = 3840;

  /** @param {HTMLCanvasElement} canvas @param {Look} look @param {Drawing} drawing */
  draw(canvas, look, { light, transparent }) {
    const context = contextOf(canvas);
    const { valence, arousal, colourful } = look;
    const { deep, mid, bright, accent } = palette(valence, arousal, colourful, light);
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    context.fillStyle = css(light ? mix(mid, [1, 0, 0], 0.3) : mix(deep, mid, 0.12));
    if (!transparent) context.fillRect(0, 0, width, height);
    const ink = light ? mix(accent, [0, 0, 0], 0.25) : mix(bright, mid, 0.25);
    const sound = (1 - look.silence) * (1 - look.lost) * (1 - look.voice);
    const spread = sound * Math.max(LEAST_SPREAD, 1 - look.certainty);
    context.lineWidth = Math.max(1, Math.min(width, height) / 340);
    context.lineJoin = "round";
    for (const off of STRANDS) {
      context.strokeStyle = css(ink, 0.95 - 0.75 * Math.min(1, 4 * spread) * Math.abs(2 * off));
      drawStrand(context, look, off * spread);
    }
  }
}

/** @param {Context} context @param {Look} look @param {number} off from the middle of the bundle */
function drawStrand(context, look, off) {
  const { width, height } = context.canvas;
  const lively = (look.arousal + 1) / 2;
  const sound = (1 - look.silence) * (1 - look.lost);
  const swing = Math.min(height, 0.7 * width) * sound * (0.026 + 0.03 * lively);
  const [a, b, c, d, e] = look.phases;
  const gap = 0.06 * look.lost;
  const steps = look.voice > 0.02 ? FINE_STEPS : STEPS;
  context.beginPath();
  for (let i = 0; i <= steps; i++) {
    const x = i / steps;
    const turn = 2 * Math.PI * x * (0.9 + 1.6 * lively);
    const slow = 0.7 * Math.sin(turn - a + 2.4 * off) + 0.4 * Math.sin(1.7 * turn - b + 4.2 * off);
    const quick = lively * 0.34 * Math.sin(3.1 * turn - c + 6.5 * off);
    const syllables = Math.sin(9 * x - d) * Math.sin(23 * x - e) * Math.sin(41 * x - c);
    const words = 2.4 * Math.sin(330 * x) * syllables ** 2 * Math.sin(Math.PI * x);
    const music = slow + quick + 0.9 * off;
    const y = 0.795 * height - swing * (music + look.voice * (words - music));
    if (Math.abs(x - 0.5) < gap || i === 0) context.moveTo(x * width, y);
    else context.lineTo(x * width, y);
  }
  context.stroke();
}
