// The order of the desk's streams, and its search language.

import { bareName } from "./stream.js";

/** All states, the worst first. @type {State[]} */
const STATES = ["failed", "lost", "silent", "waiting", "up", "paused"];

/** The part of a name that names with the same beginning share. @param {string} name */
export function groupOf(name) {
  return /^(.+?)[-_.:/]/.exec(name)?.[1] ?? "";
}

/** @param {Stream} stream @param {string} value */
const tagged = ({ tags }, value) =>
  [...tags.values()].some(({ tag, display }) => has(bareName(tag), value) || has(display, value));

/** @param {string} text @param {string} value in small letters */
const has = (text, value) => text.toLowerCase().includes(value);

/** What a term looks at, by field. @type {Record<string, (s: Stream, value: string) => boolean>} */
const FIELDS = {
  state: ({ state }, value) => state.startsWith(value),
  tag: tagged,
  title: ({ title }, value) => has(title, value),
  name: ({ name }, value) => has(name, value),
  group: ({ name }, value) => groupOf(name).toLowerCase() === value,
  cause: ({ cause, detail }, value) => has(cause, value) || has(detail, value),
  "": (one, value) => has(one.name, value) || has(one.title, value) || tagged(one, value),
};

/** Whether a stream is searched for, by a text such as `state:lost -tag:speech "late news" words`.
 * @param {string} text @returns {(stream: Stream) => boolean} */
export function parseSearch(text) {
  const found = text.toLowerCase().matchAll(/(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/g);
  const terms = Array.from(found, ([, minus, field = "", quoted, word]) => {
    const value = quoted ?? word;
    const known = Object.hasOwn(FIELDS, field);
    const holds = FIELDS[known ? field : ""];
    const wanted = known ? value : `${field}:${value}`;
    return (/** @type {Stream} */ stream) => holds(stream, wanted) !== (minus !== "");
  });
  return (stream) => terms.every((term) => term(stream));
}

const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/** @type {Record<string, (a: Stream, b: Stream) => number>} */
const ORDERS = {
  state: (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state),
  name: () => 0,
  title: (a, b) => Number(!a.title) - Number(!b.title) || byName(a.title, b.title),
  last: (a, b) => (b.last?.at || 0) - (a.last?.at || 0),
};

/** Streams in an order; those with trouble first by default.
 * @param {Stream[]} streams @param {string} by */
export function sorted(streams, by) {
  const order = ORDERS[Object.hasOwn(ORDERS, by) ? by : "state"];
  return streams.sort((a, b) => order(a, b) || byName(a.name, b.name));
}

/** A heading before the streams of each group. @param {Stream[]} streams @returns {Item[]} */
export function grouped(streams) {
  const groups = Map.groupBy(streams, ({ name }) => groupOf(name));
  return [...groups].flatMap(([group, members]) => {
    return [{ group, count: members.length, bad: members.filter(isBad).length }, ...members];
  });
}

/** @param {Stream} stream */
export function isBad({ state }) {
  return state === "failed" || state === "lost";
}
