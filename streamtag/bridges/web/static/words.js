// Which words a wall shows: few, deserved and calm.

import { bareName } from "./stream.js";

/** The places of the wall and the number of words in each. @type {[WordPlace, number][]} */
const PLACES = [["mood", 2], ["genre", 1], ["instrument", 2]];
const ON_MS = 2500; // a tag that was on for less is not shown
const GROWN_MS = 10_000; // a tag that was on for so long has its full score
const STAYS_MS = 8000; // a word keeps its place against others for so long
const LINGERS_MS = 6000; // and stays for so long after it last deserved that
const MARGIN = 0.2; // a newcomer must be better by so much to take another's place
// A word is shown if its probability or its strength is at least this …
const SHOWN = { probability: 0.25, strength: 0.6 };
// … and without "perhaps" if one is at least this; a word that was firm stays so for longer.
const FIRM = { probability: 0.5, strength: 0.8 };
const STILL_FIRM = { probability: 0.4, strength: 0.65 };
const UNKNOWN_THRESHOLD = 0.5;

/** @param {string} tag @param {string} category @returns {TagPlace} `kind` has none on a wall */
export function placeOf(tag, category) {
  const bare = bareName(tag).toLowerCase();
  if (bare === "speech") return "speech";
  if (category === "kind" || bare === "music" || bare === "silence") return "kind";
  if (/mood|theme|emotion/i.test(category)) return "mood";
  return /instrument|voice/i.test(category) ? "instrument" : "genre";
}

/** How far a probability is above its threshold: 0 at it, .6 at twice its odds, .8 at thrice.
 * @param {number} probability @param {number} threshold */
function strengthOf(probability, threshold) {
  const against = ((1 - probability) * threshold) / (probability * (1 - threshold));
  return Math.max(0, 2 / (1 + against * against) - 1);
}

/** Chooses the words, and keeps its choice as long as that is right. */
export class WordChooser {
  /** @type {Words} */
  words = { mood: [], genre: [], instrument: [] };

  clear() {
    this.words = { mood: [], genre: [], instrument: [] };
  }

  /** The words of the tags that are on, the best first.
   * @param {Iterable<ActiveTag>} tags @param {Descriptions} about @param {number} now in ms */
  update(tags, about, now) {
    const words = Array.from(tags, (active) => this.#wordOf(active, about[active.tag], now));
    const found = words.filter((word) => word !== null).sort((a, b) => b.score - a.score);
    for (const [place, limit] of PLACES) {
      const fitting = found.filter(
        ({ tag }, i) =>
          placeOf(tag, about[tag]?.category ?? "") === place &&
          found.findIndex((one) => one.tag === tag) === i, // the best of several taggers
      );
      this.words[place] = choose(this.words[place], fitting, limit, now);
    }
    return this.words;
  }

  /** The word of a tag; null if it does not deserve to be one.
   * @param {ActiveTag} active @param {Description | undefined} known @param {number} now */
  #wordOf({ tag, display, probability, since }, known, now) {
    const age = now - since;
    const strength = strengthOf(probability, known?.threshold ?? UNKNOWN_THRESHOLD);
    const reaches = (/** @type {typeof FIRM} */ least) =>
      probability >= least.probability || strength >= least.strength;
    const place = placeOf(tag, known?.category ?? "");
    if (age < ON_MS || !reaches(SHOWN) || place === "kind" || place === "speech") return null;
    const vague = place === "mood" && !known?.position;
    const score = (vague ? 0.5 : 1) * strength * Math.min(1, age / GROWN_MS);
    const wasFirm = this.words[place].some((word) => word.tag === tag && !word.doubtful);
    const doubtful = !reaches(wasFirm ? STILL_FIRM : FIRM);
    return doubtful && vague ? null : { tag, display, score, shown: now, seen: now, doubtful };
  }
}

/** @param {Word[]} shown what is there now @param {Word[]} candidates the best first
 * @param {number} limit @param {number} now */
function choose(shown, candidates, limit, now) {
  const firm = candidates.filter((word) => !word.doubtful);
  const known = candidates.find((word) => shown.some((one) => one.tag === word.tag));
  const found = firm.length ? firm : [known ?? candidates[0]].filter(Boolean); // one doubt at most
  const kept = shown.flatMap((word) => {
    const current = found.find((one) => one.tag === word.tag);
    if (current) return [{ ...current, shown: word.shown }];
    return now - word.seen < LINGERS_MS ? [{ ...word, score: 0 }] : [];
  });
  for (const word of found.filter(({ tag }) => !kept.some((one) => one.tag === tag))) {
    const weakest = kept.reduce((a, b) => (a.score <= b.score ? a : b), word);
    const settled = now - weakest.shown >= STAYS_MS && word.score > weakest.score + MARGIN;
    if (kept.length < limit) kept.push(word);
    else if (settled) kept[kept.indexOf(weakest)] = word;
  }
  return kept;
}
