// What a row of the desk's table shows of a stream.

import { css, mix, palette } from "./colour.js";
import { fresh, makeMeter, showLevel } from "./meter.js";
import { PLACES, ago, colour, element, linkTo, setText } from "./shell.js";
import { stateOf } from "./stations.js";

/** @typedef {import("./stations.js").Station} Station */
/** @typedef {{group: string, count: number, bad: number}} Group */
/** @typedef {Station | Group} Item */

export const COLUMNS = ["state", "name", "level", "now", "title", "hour", "last"];
/** @type {Record<string, string>} */
const KINDS = { m: "music", s: "speech", o: "sound", q: "silence", x: "lost" };

/** @param {string} name of a stream */
export const streamLink = (name) => linkTo(`stream/${encodeURIComponent(name)}`);

/** A new row. */
export function makeRow() {
  const row = element("div", "row");
  for (const name of COLUMNS) {
    const cell = element("div", name);
    cell.setAttribute("role", "cell");
    if (name === "state") cell.append(element("i"), element("span"), element("small"));
    if (name === "name") cell.append(element("a"));
    if (name === "level") cell.append(makeMeter());
    if (name === "hour") cell.append(Object.assign(element("canvas"), { width: 240, height: 20, role: "img" }));
    if (name === "last") cell.append(element("span"), element("small"));
    row.append(cell);
  }
  return row;
}

/** @param {HTMLElement} row @param {Item} item @param {import("./shell.js").TagBook} book */
export function fillRow(row, item, book) {
  if (!("group" in item)) {
    const shown = `${item.name} ${item.stream.version} ${Math.floor(Date.now() / 1000)}`;
    if (row.dataset.shown === shown) return;
    row.dataset.shown = shown;
  } else row.dataset.shown = "";
  const [state, name, level, now, title, hour, last] = /** @type {HTMLElement[]} */ ([...row.children]);
  const text = (/** @type {string} */ key) => book.language.text(`desk_${key}`);
  const link = /** @type {HTMLAnchorElement} */ (name.firstElementChild);
  const grouped = "group" in item;
  row.classList.toggle("group", grouped);
  hour.hidden = level.hidden = grouped;
  if (grouped) {
    row.dataset.state = row.title = now.dataset.shown = "";
    link.removeAttribute("href");
    const words = [String(item.count), item.bad ? `${item.bad} !` : "", item.group || "–", "", "", "", ""];
    [state.children[1], state.children[2], link, now, title, ...last.children].forEach((cell, i) => setText(cell, words[i]));
    return;
  }
  const { stream } = item;
  row.dataset.state = stateOf(stream);
  setText(link, item.name);
  link.href = streamLink(item.name);
  setText(state.children[1], text(row.dataset.state));
  setText(state.children[2], [stream.cause, ago(book.language, stream.since)].filter(Boolean).join(" · "));
  fillLevel(row, item);
  fillNow(now, item, book);
  setText(title, stream.title);
  row.title = stream.detail || stream.title;
  drawHour(/** @type {HTMLCanvasElement} */ (hour.firstElementChild), item.hour, book);
  const { type, what, at } = stream.last ?? { type: "", what: "", at: NaN };
  const told = type === "title" ? "" : type.startsWith("tag") ? book.name(what) : what;
  setText(last.children[0], `${text(type)} ${told}`);
  setText(last.children[1], ago(book.language, at));
  const mood = row.dataset.state === "up" ? stream.mood : null;
  const shade = mood && palette(mood.valence, mood.arousal, Math.min(1, 1.25 * mood.certainty), false);
  row.style.setProperty("--mood", shade ? css(mix(shade.mid, shade.bright, 0.3)) : "");
}

/** Shows the level, which changes more often than the rest. @param {HTMLElement} row @param {Item} item */
export function fillLevel(row, item) {
  if ("group" in item) return;
  const level = fresh(item.stream.level);
  const cell = row.children[2];
  showLevel(/** @type {HTMLElement} */ (cell.firstElementChild), level);
  cell.ariaLabel = level ? `${level.mean} dB` : "–";
}

/** The tags that are on, by category; why there are none where the source is lost. */
function fillNow(/** @type {HTMLElement} */ cell, /** @type {Station} */ { stream }, /** @type {import("./shell.js").TagBook} */ book) {
  const state = stateOf(stream);
  const detail = state === "failed" || state === "lost" ? stream.detail : "";
  const words = Array.from(stream.tags.values(), ({ tag, display }) => ({ tag, place: book.place(tag), name: book.name(tag, display) }));
  words.sort((a, b) => PLACES.indexOf(a.place) - PLACES.indexOf(b.place));
  const shown = `${detail}\n${book.light}\n${words.map(({ name, place }) => `${name} ${place}`).join("\n")}`;
  if (cell.dataset.shown === shown) return;
  cell.dataset.shown = shown;
  cell.replaceChildren(...(detail ? [element("span", "detail", detail)] : []));
  const seen = new Set(words.length > 1 ? [book.name("music")] : []); // two taggers may agree
  for (const { tag, place, name } of words) {
    if (seen.has(name)) continue;
    seen.add(name);
    const word = element("span", place, name);
    word.style.color = book.moodColour(tag) ?? "";
    cell.append(word);
  }
}

/** A bar for every minute of the last hour. @param {HTMLCanvasElement} canvas @param {string} minutes @param {import("./shell.js").TagBook} book */
function drawHour(canvas, minutes, book) {
  const shown = `${minutes}${book.light}`;
  if (canvas.dataset.shown === shown) return;
  canvas.dataset.shown = shown;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const { width, height } = canvas;
  const colours = Object.fromEntries(Object.entries(KINDS).map(([kind, name]) => [kind, colour(name)]));
  context.clearRect(0, 0, width, height);
  [...minutes].forEach((kind, i) => {
    if (!(kind in KINDS)) return;
    const tall = (kind === "q" ? 0.3 : 1) * height;
    context.fillStyle = colours[kind];
    context.fillRect((i * width) / 60, height - tall, width / 60, tall);
  });
  const shares = Object.keys(KINDS).map((kind) => ({ kind, count: minutes.split(kind).length - 1 }));
  const said = shares.filter(({ count }) => count);
  canvas.ariaLabel = said.map(({ kind, count }) => `${book.language.text(`desk_${KINDS[kind]}`)} ${book.language.duration(count)}`).join(", ") || book.language.text("desk_column_hour");
}
