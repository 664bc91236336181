// The numbers that pictures are drawn from. All of them follow their targets slowly.

const MOOD_SECONDS = 4; // time constants of first-order low-passes
const SCENE_SECONDS = 1.5;
const LONGEST_STEP = 0.1; // seconds of motion: after a pause the picture goes on where it was
/** Speeds of the waves a picture is made of, relative to its pace; no two have a common period. */
const RATES = [0.31, 0.53, 0.43, 0.71, 0.61, 0.89, 0.79, 1.13, 1.01, 1.39];
const UNKNOWN = { valence: 0, arousal: -0.2, certainty: 0.35 }; // no word of moods
const SPEECH = { valence: 0.3, arousal: 0.05, certainty: 0.5 }; // the light of a lamp
const REST = { valence: -0.1, arousal: -0.5, certainty: 0.3 };
const TURN = 2 * Math.PI;

export class Look {
  valence = 0;
  arousal = 0;
  /** From 0 to 1: how much there is to say. */
  certainty = 0;
  /** How much of each of these is in the picture, from 0 to 1. */
  silence = 0;
  voice = 0;
  lost = 0;
  /** Phases of the waves, in radians. Each is wrapped, so weeks do not wear them out. */
  phases = RATES.map(() => TURN * Math.random());
  /** Phase of slow motions, in radians. */
  slow = 0;
  #fresh = true;

  /** How fast the picture moves, 1 at the highest arousal. */
  get pace() {
    const lively = 0.16 + 0.84 * ((this.arousal + 1) / 2) ** 1.5;
    const heard = lively + (0.9 - lively) * this.voice;
    return heard * (1 - 0.6 * this.silence) * (1 - 0.7 * this.lost);
  }

  /** How colourful it is, from 0 to 1. */
  get colourful() {
    const known = 0.35 + 0.65 * this.certainty;
    return known * (1 - 0.5 * this.silence) * (1 - 0.3 * this.voice) * (1 - this.lost);
  }

  /** @param {Scene} scene @param {Mood | null} mood @param {number} seconds since the last call
   * @param {boolean} still whether motion is not wanted */
  update(scene, mood, seconds, still) {
    const slow = this.#fresh ? 1 : 1 - Math.exp(-seconds / MOOD_SECONDS);
    const quick = this.#fresh ? 1 : 1 - Math.exp(-seconds / SCENE_SECONDS);
    this.#fresh = false;
    const heard = scene === "music" || scene === "uncertain";
    const at = heard ? (mood ?? UNKNOWN) : scene === "speech" ? SPEECH : REST;
    const certainty = Math.min(1, (scene === "uncertain" ? 0.5 : 1.25) * at.certainty);
    const quiet = scene === "silence" || scene === "paused";
    this.valence += slow * (at.valence - this.valence);
    this.arousal += slow * (at.arousal - this.arousal);
    this.certainty += slow * (certainty - this.certainty);
    this.silence += quick * (Number(quiet) - this.silence);
    this.voice += quick * (Number(scene === "speech") - this.voice);
    this.lost += quick * (Number(!heard && !quiet && scene !== "speech") - this.lost);
    if (still) return;
    const turn = Math.min(seconds, LONGEST_STEP);
    this.phases = this.phases.map((phase, i) => (phase + turn * this.pace * RATES[i]) % TURN);
    this.slow = (this.slow + turn * 0.11) % (TURN * 100);
  }

  /** The next update goes to its targets at once. */
  jump() {
    this.#fresh = true;
  }
}
