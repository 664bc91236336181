// What a row of the desk's table shows of a stream.

import { css, mix, palette } from "./colour.js";
import { all, element, setText } from "./dom.js";
import { language } from "./language.js";
import { fresh, levelText, showLevel } from "./meter.js";
import { ago, streamLink } from "./shell.js";

/** @type {Record<string, string>} by the letter of a minute */
const KINDS = { m: "music", s: "speech", o: "sound", q: "silence", x: "lost" };

/** The cells of a row. @param {HTMLElement} row */
function cellsOf(row) {
  const [state, name, level, now, title, hour, last] = all(":scope > div", row);
  return { state, name, level, now, title, hour, last };
}

/** @param {HTMLElement} row @param {Item} item @param {TagBook} book */
export function fillRow(row, item, book) {
  const grouped = "group" in item;
  const second = Math.floor(Date.now() / 1000);
  const shown = grouped ? JSON.stringify(item) : `${item.name} ${item.version} ${second}`;
  if (row.dataset.shown === shown) return;
  row.dataset.shown = shown;
  row.classList.toggle("group", grouped);
  if (grouped) fillGroup(row, item);
  else fillStream(row, item, book);
}

/** @param {HTMLElement} row @param {Group} group */
function fillGroup(row, { group, count, bad }) {
  const { state, name, now } = cellsOf(row);
  row.dataset.state = row.title = now.dataset.shown = "";
  for (const cell of all("span, small, a, .title", row)) setText(cell, "");
  now.replaceChildren();
  setText(state.children[1], String(count));
  setText(state.children[2], bad ? `${bad} !` : "");
  setText(name.children[0], group || "–");
  name.children[0].removeAttribute("href");
}

/** @param {HTMLElement} row @param {Stream} stream @param {TagBook} book */
function fillStream(row, stream, book) {
  const { state, name, now, title, hour, last } = cellsOf(row);
  row.dataset.state = stream.state;
  const why = [stream.cause.replaceAll("_", " "), ago(stream.since)];
  setText(state.children[1], language.text(`desk_${stream.state}`));
  setText(state.children[2], why.filter(Boolean).join(" · "));
  setText(name.children[0], stream.name);
  name.children[0].setAttribute("href", streamLink(stream.name));
  fillLevel(row, stream);
  fillNow(now, stream, book);
  setText(title, stream.title);
  row.title = stream.detail || stream.title;
  const [bar] = all("i", hour);
  if (bar.dataset.hour !== stream.hour) fillHour(bar, stream.hour);
  const { type, what, at } = stream.last ?? { type: "", what: "", at: NaN };
  const said = type.startsWith("tag") ? book.name(what) : what.replaceAll("_", " ");
  setText(last.children[0], `${language.text(`desk_${type}`)} ${type === "title" ? "" : said}`);
  setText(last.children[1], ago(at));
  const mood = stream.state === "up" ? stream.mood : null;
  const { valence, arousal, certainty } = mood ?? { valence: 0, arousal: 0, certainty: 0 };
  const shade = palette(valence, arousal, Math.min(1, 1.25 * certainty), false);
  row.style.setProperty("--mood", mood ? css(mix(shade.mid, shade.bright, 0.3)) : "");
}

/** Shows what changes more often than the rest. @param {HTMLElement} row @param {Item} item */
export function fillLevel(row, item) {
  if ("group" in item) return;
  const level = fresh(item.level);
  const cell = cellsOf(row).level;
  showLevel(/** @type {HTMLElement} */ (cell.firstElementChild), level);
  cell.ariaLabel = level ? levelText(level) : "–";
}

/** The tags that are on, by category; why there are none where the source is lost.
 * @param {HTMLElement} cell @param {Stream} stream @param {TagBook} book */
function fillNow(cell, { state, detail, tags }, book) {
  const why = state === "failed" || state === "lost" ? detail : "";
  const words = Array.from(tags.values(), ({ tag, display }) => {
    return { tag, name: book.name(tag, display), className: book.place(tag) };
  }).sort(book.compare);
  const shown = JSON.stringify([why, book.light, words]);
  if (cell.dataset.shown === shown) return;
  cell.dataset.shown = shown;
  cell.replaceChildren(...(why ? [element("span", { className: "detail" }, why)] : []));
  const seen = new Set(words.length > 1 ? [book.name("music")] : []); // two taggers may agree
  for (const { tag, name, className } of words) {
    if (seen.has(name)) continue;
    seen.add(name);
    const word = element("span", { className }, name);
    word.style.color = book.moodColour(tag) ?? "";
    cell.append(word);
  }
}

/** A stripe a minute. @param {HTMLElement} bar @param {string} hour */
function fillHour(bar, hour) {
  const stripe = (/** @type {string} */ kind, /** @type {number} */ i) =>
    `var(--${KINDS[kind] ?? "none"}, transparent) ${i / 0.6}% ${(i + 1) / 0.6}%`;
  bar.dataset.hour = hour;
  bar.style.backgroundImage = hour && `linear-gradient(90deg, ${[...hour].map(stripe).join()})`;
  const said = Object.entries(KINDS).flatMap(([kind, name]) => {
    const minutes = hour.split(kind).length - 1;
    return minutes ? [`${language.text(`desk_${name}`)} ${language.duration(minutes)}`] : [];
  });
  bar.ariaLabel = said.join(", ") || language.text("desk_column_hour");
}
