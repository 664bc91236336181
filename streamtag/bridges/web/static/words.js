// Which words a wall shows: few, deserved and calm.

import { bareName } from "./stream.js";

/** @typedef {import("./stream.js").ActiveTag} ActiveTag */
/**
 * What the server knows of a tag, see GET /api/tags.
 * @typedef {object} Description
 * @property {string} category
 * @property {number} threshold probability at which it goes on
 * @property {[number, number] | null} position valence and arousal
 * @property {string} name in the language asked for; empty if the configuration has none
 */
/**
 * A word on the wall.
 * @typedef {object} Word
 * @property {string} tag
 * @property {string} display
 * @property {number} score in [0, 1]: how far above its threshold, and for how long
 * @property {number} shown when it came, in milliseconds
 * @property {number} seen when it last deserved its place
 * @property {boolean} doubtful less probable than not, and not far above its threshold
 */

/** The places of the wall and the number of words in each: five at most. */
export const PLACES = /** @type {const} */ ({ mood: 2, genre: 1, instrument: 2 });
/** @typedef {keyof typeof PLACES} Place */

const ON_MS = 2500; // a tag that was on for less is not shown
const GROWN_MS = 10_000; // a tag that was on for so long has its full score
const STAYS_MS = 8000; // a word keeps its place against others for so long
const LINGERS_MS = 6000; // and stays for so long after it last deserved that
const MARGIN = 0.2; // a newcomer must be better by so much to take another's place
// A word is shown if its probability or its strength is at least this …
const SHOWN = { probability: 0.25, strength: 0.6 };
// … and without "perhaps" if one of them is at least this; a word that was firm stays so for longer.
const FIRM = { probability: 0.5, strength: 0.8 };
const STILL_FIRM = { probability: 0.4, strength: 0.65 };
const UNKNOWN_THRESHOLD = 0.5;
const KINDS = ["music", "speech", "silence"]; // what a scene says already

/**
 * The place of a tag of a category; null for one that is not shown.
 * @param {string} tag
 * @param {string} category
 * @returns {Place | null}
 */
export function placeOf(tag, category) {
  if (category === "kind" || KINDS.includes(bareName(tag).toLowerCase())) return null;
  if (/mood|theme|emotion/i.test(category)) return "mood";
  if (/instrument|voice/i.test(category)) return "instrument";
  return "genre";
}

/**
 * How far a probability is above its threshold: 0 at it, 0.6 at twice its odds, 0.8 at three times.
 * @param {number} probability
 * @param {number} threshold
 */
function strengthOf(probability, threshold) {
  const against = ((1 - probability) * threshold) / (probability * (1 - threshold));
  return Math.max(0, 2 / (1 + against * against) - 1);
}

/** Chooses the words, and keeps its choice as long as that is right. */
export class WordChooser {
  constructor() {
    /** @type {Record<Place, Word[]>} */
    this.words = { mood: [], genre: [], instrument: [] };
  }

  clear() {
    this.words = { mood: [], genre: [], instrument: [] };
  }

  /**
   * @param {Iterable<ActiveTag>} tags that are on
   * @param {Record<string, Description>} about by tag
   * @param {number} now in milliseconds
   * @returns {Record<Place, Word[]>} the best first
   */
  update(tags, about, now) {
    const candidates = this.#candidates(tags, about, now);
    for (const place of /** @type {Place[]} */ (Object.keys(PLACES))) {
      const shown = this.words[place];
      const found = candidates.filter((word) => placeOf(word.tag, about[word.tag]?.category ?? "") === place);
      this.words[place] = choose(shown, found, PLACES[place], now);
    }
    return this.words;
  }

  /** @param {Iterable<ActiveTag>} tags @param {Record<string, Description>} about @param {number} now */
  #candidates(tags, about, now) {
    /** @type {Map<string, Word>} */
    const best = new Map();
    for (const active of tags) {
      const age = now - active.since;
      if (age < ON_MS) continue;
      const { tag, display, probability } = active;
      const known = about[tag];
      const strength = strengthOf(probability, known?.threshold ?? UNKNOWN_THRESHOLD);
      const reaches = (/** @type {typeof FIRM} */ least) =>
        probability >= least.probability || strength >= least.strength;
      if (!reaches(SHOWN)) continue;
      const place = placeOf(tag, known?.category ?? "");
      if (!place) continue;
      const vague = place === "mood" && !known?.position ? 0.5 : 1;
      const score = vague * strength * Math.min(1, age / GROWN_MS);
      if (score < (best.get(tag)?.score ?? -1)) continue;
      const wasFirm = this.words[place].some((word) => word.tag === tag && !word.doubtful);
      const doubtful = !reaches(wasFirm ? STILL_FIRM : FIRM);
      if (doubtful && vague < 1) continue;
      best.set(tag, { tag, display, score, shown: now, seen: now, doubtful });
    }
    return [...best.values()].sort((a, b) => b.score - a.score);
  }
}

/**
 * @param {Word[]} shown what is there now
 * @param {Word[]} candidates the best first
 * @param {number} limit
 * @param {number} now
 */
function choose(shown, candidates, limit, now) {
  const firm = candidates.filter((word) => !word.doubtful);
  const known = candidates.find((word) => shown.some((one) => one.tag === word.tag));
  const found = firm.length ? firm : [known ?? candidates[0]].filter(Boolean); // one doubt at most
  const kept = [];
  for (const word of shown) {
    const current = found.find((one) => one.tag === word.tag);
    if (current) kept.push({ ...current, shown: word.shown });
    else if (now - word.seen < LINGERS_MS) kept.push({ ...word, score: 0 });
  }
  for (const word of found) {
    if (kept.some((one) => one.tag === word.tag)) continue;
    if (kept.length < limit) {
      kept.push(word);
      continue;
    }
    /** @type {Word} */
    const weakest = kept.reduce((a, b) => (a.score <= b.score ? a : b));
    const settled = now - weakest.shown >= STAYS_MS;
    if (settled && word.score > weakest.score + MARGIN) kept[kept.indexOf(weakest)] = word;
  }
  return kept;
}
