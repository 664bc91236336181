// The streams of the desk: their states, their order, and the search language.

import { bareName } from "./stream.js";

/** @typedef {import("./stream.js").Stream} Stream */
/** @typedef {{name: string, stream: Stream, hour: string}} Station */
/** @typedef {"failed" | "lost" | "silent" | "up" | "waiting" | "paused"} State */
/** @typedef {{field: string, value: string, not: boolean}} Term */

/** All states, the worst first. @type {State[]} */
export const STATES = ["failed", "lost", "silent", "waiting", "up", "paused"];
export const SORTS = /** @type {const} */ (["state", "name", "title", "last"]);
const FIELDS = ["state", "tag", "title", "name", "group", "cause"];

/** @param {Stream} stream @returns {State} */
export function stateOf(stream) {
  if (stream.status === "up") return stream.silent ? "silent" : "up";
  if (stream.status === "failed" || stream.status === "paused") return stream.status;
  return stream.status === "connecting" || stream.status === "unknown" ? "waiting" : "lost";
}

/** The part of a name that names with the same beginning share: `de` of `de-berlin`. @param {string} name */
export function groupOf(name) {
  return /^(.+?)[-_.:/]/.exec(name)?.[1] ?? "";
}

/**
 * The terms of a search such as `state:lost -tag:speech "late news" words`.
 * @param {string} text
 * @returns {Term[]}
 */
export function parseSearch(text) {
  const found = text.toLowerCase().matchAll(/(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/g);
  return Array.from(found, ([, minus, field = "", quoted, word]) => {
    const value = quoted ?? word;
    return FIELDS.includes(field)
      ? { field, value, not: minus !== "" }
      : { field: "", value: field ? `${field}:${value}` : value, not: minus !== "" };
  });
}

/** @param {Term[]} terms @param {Station} station */
export function matches(terms, station) {
  return terms.every((term) => has(station, term) !== term.not);
}

/** @param {Station} station @param {Term} term */
function has({ name, stream }, { field, value }) {
  const holds = (/** @type {string} */ text) => text.toLowerCase().includes(value);
  const tagged = () => [...stream.tags.values()].some(({ tag, display }) => holds(bareName(tag)) || holds(display));
  switch (field) {
    case "state":
      return stateOf(stream).startsWith(value);
    case "tag":
      return tagged();
    case "title":
      return holds(stream.title);
    case "name":
      return holds(name);
    case "group":
      return groupOf(name).toLowerCase() === value;
    case "cause":
      return holds(stream.cause) || holds(stream.detail);
    default:
      return holds(name) || holds(stream.title) || tagged();
  }
}

const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/**
 * Sorts streams; those with trouble come first unless another order was chosen.
 * @param {Station[]} stations
 * @param {string} sort
 */
export function sorted(stations, sort) {
  const rank = new Map(stations.map((one) => [one, STATES.indexOf(stateOf(one.stream))]));
  /** @type {Record<string, (a: Station, b: Station) => number>} */
  const orders = {
    state: (a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0),
    name: () => 0,
    title: (a, b) => Number(!a.stream.title) - Number(!b.stream.title) || byName(a.stream.title, b.stream.title),
    last: (a, b) => (b.stream.last?.at || 0) - (a.stream.last?.at || 0),
  };
  const order = orders[sort] ?? orders.state;
  return stations.sort((a, b) => order(a, b) || byName(a.name, b.name));
}

/** @param {Iterable<Station>} stations @returns {Record<State, number>} */
export function countStates(stations) {
  const counts = /** @type {Record<State, number>} */ (Object.fromEntries(STATES.map((state) => [state, 0])));
  for (const { stream } of stations) counts[stateOf(stream)] += 1;
  return counts;
}
