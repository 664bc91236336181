// Types that several modules share, for `tsc`. No page loads this file.

/** @typedef {import("./language.js").Language} Language */
/** @typedef {import("./look.js").Look} Look */
/** @typedef {import("./stream.js").Stream} Stream */
/** @typedef {import("./tag-book.js").TagBook} TagBook */
/** @typedef {import("./options.js").Options} Options */
/** @typedef {CanvasRenderingContext2D} Context */

/** @typedef {[number, number]} Spot a place on the mood plane: valence and arousal */
/** @typedef {{valence: number, arousal: number, certainty: number}} Mood */
/** @typedef {{name: string, position: Spot, lit: boolean}} NamedSpot */

/**
 * What the server knows of a tag, see GET /api/tags. It goes on at the threshold; its name is empty
 * if the configuration has none in the language.
 * @typedef {{category: string, threshold: number, position: Spot | null, name: string}} Description
 * @typedef {Record<string, Description>} Descriptions by tag
 */

/**
 * A tag that is on, with the newest smoothed probability; `since` is on the page's own clock in
 * milliseconds, `display` its name in the stream's language, or empty.
 * @typedef {{tag: string, display: string, probability: number, since: number}} ActiveTag
 */

/**
 * The last half second in dB of full scale, its loudness in LUFS if that is measured; when, on the
 * page's own clock.
 * @typedef {{peak: number, mean: number, lufs?: number | null, at: number}} Level
 */

/** @typedef {"failed" | "lost" | "silent" | "waiting" | "up" | "paused"} State */
/** @typedef {"music" | "uncertain" | "speech" | "silence" | "paused"} HeardScene */
/** @typedef {HeardScene | "lost" | "offline" | "refused" | "waiting"} Scene */
/** @typedef {"mood" | "genre" | "instrument"} WordPlace */
/** @typedef {WordPlace | "speech" | "kind"} TagPlace */

/**
 * A word on the wall. Its score in [0, 1] says how far it is above its threshold, and for how long.
 * `shown` is when it came, `seen` when it last deserved its place, both in milliseconds. It is
 * doubtful if it is less probable than not, and not far above its threshold.
 * @typedef {{tag: string, display: string, score: number, shown: number, seen: number,
 *   doubtful: boolean}} Word
 * @typedef {Record<WordPlace, Word[]>} Words
 */

/** @typedef {{group: string, count: number, bad: number}} Group heading of a group of streams */
/** @typedef {Stream | Group} Item */

/** @typedef {[number, number]} Span in milliseconds since 1970 */
/** @typedef {[number, number, string]} Labelled a span and its text */
/** @typedef {{tagger: string, tag: string, spans: Span[]}} TagSpans */

/**
 * What GET /api/timeline answers.
 * @typedef {{from: number, to: number, received: Span[], silences: Span[], gaps: Span[],
 *   titles: Labelled[], states: Labelled[], sections: Labelled[], tags: TagSpans[]}} Past
 */

/** @typedef {[number, number, number]} Rgb each from 0 to 1, sRGB */
/** @typedef {{deep: Rgb, mid: Rgb, bright: Rgb, accent: Rgb}} Palette */

/** How a theme draws: for a light ground, on no ground, seconds since the last picture. */
/** @typedef {{light: boolean, transparent: boolean, seconds: number, font: string}} Drawing */
