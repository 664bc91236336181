// The desk: all streams in one table, those with trouble first. See docs/desk.md.

import { Alarm } from "./alarm.js";
import { ALERT_TYPES, Alerts } from "./alerts.js";
import { Feed, goToSignIn, request } from "./feed.js";
import { Language } from "./language.js";
import { COLUMNS, fillLevel, fillRow, makeRow, streamLink } from "./rows.js";
import { TagBook, byId, element, linkTo, patiently, setText } from "./shell.js";
import { settings } from "./settings.js";
import { SORTS, STATES, countStates, groupOf, matches, parseSearch, sorted, stateOf } from "./stations.js";
import { Stream } from "./stream.js";
import { VirtualTable } from "./table.js";

/** @typedef {import("./stations.js").Station} Station */
/** @typedef {import("./rows.js").Item} Item */

const TYPES = ["stream_up", "stream_down", "stream_status", "taggers_changed", "title", "silence_on", "silence_off"];
TYPES.push("tag_on", "tag_off", "gap", "dropped", "clipping", ...ALERT_TYPES);
const DRAW_MS = 200; // shortest time between two drawings …
const URGENT_MS = 30; // … and where a stream has another state
const URGENT = /^(state|daemon|missed|stream_|silence_|alert_)/;
const TICK_MS = 1000;
const HOUR_MS = 10_000; // how often the past hour and the moods are asked for
const BAD = ["failed", "lost"];

class Desk {
  #stations = /** @type {Map<string, Station>} */ (new Map());
  #daemon = false;
  #status = 0;
  #search = /** @type {HTMLInputElement} */ (byId("search"));
  #query = new URLSearchParams(location.search);
  #alarm = new Alarm();
  #drawn = 0;
  #timer = 0;
  #due = 0;
  #asked = -Infinity;
  #measured = false; // levels that are not drawn yet
  #alerts;
  #book;
  #table;
  #feed;

  /** @param {Language} language */
  constructor(language) {
    this.language = language;
    this.#alerts = new Alerts(language);
    this.#book = new TagBook(language, () => this.#soon());
    const fill = (/** @type {HTMLElement} */ row, /** @type {Item} */ item) => fillRow(row, item, this.#book);
    this.#table = new VirtualTable(byId("table"), { make: makeRow, fill, open: (item) => this.#open(item) }, 1);
    this.#furnish();
    const query = new URLSearchParams([["levels", "1"], ...TYPES.map((type) => ["type", type])]);
    this.#feed = new Feed(String(query), (body) => this.#onEvent(body), (status) => this.#onStatus(status));
    setInterval(() => this.#tick(), TICK_MS);
  }

  /** Texts, head of the table, tools, keys. */
  #furnish() {
    const text = (/** @type {string} */ key) => this.language.text(`desk_${key}`);
    document.documentElement.lang = this.language.code;
    this.#search.placeholder = text("search");
    this.#search.ariaLabel = text("search");
    this.#search.value = this.#query.get("q") ?? "";
    this.#search.addEventListener("input", () => this.#choose("q", this.#search.value));
    byId("table").ariaLabel = text("streams");
    const head = byId("head");
    head.setAttribute("aria-hidden", "true");
    for (const name of COLUMNS) {
      const sorts = /** @type {readonly string[]} */ (SORTS).includes(name);
      const cell = element(sorts ? "button" : "span", name, text(`column_${name}`));
      cell.tabIndex = -1;
      if (sorts) cell.addEventListener("click", () => this.#choose("sort", name === "state" ? "" : name));
      head.append(cell);
    }
    for (const state of STATES) {
      const button = element("button", state);
      button.append(element("b"), ` ${text(state)}`);
      button.addEventListener("click", () => {
        const term = `state:${state}`;
        this.#choose("q", this.#search.value.trim() === term ? "" : term);
      });
      byId("counts").append(button);
    }
    this.#addTool("group", () => this.#choose("group", this.#query.get("group") ? "" : "1"));
    for (const kind of /** @type {const} */ (["notify", "sound"])) {
      const button = this.#addTool(kind, async () => (button.ariaPressed = String(await this.#alarm.toggle(kind))));
      button.ariaPressed = String(this.#alarm.isOn(kind));
    }
    for (const [path, name] of [["wall", text("wall")], ["settings", this.language.text("set_settings")]]) {
      byId("tools").append(Object.assign(element("a", "", name), { href: linkTo(path) }));
    }
    document.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** @param {string} name @param {() => void} press */
  #addTool(name, press) {
    const button = element("button", name, this.language.text(`desk_${name}`));
    button.addEventListener("click", press);
    byId("tools").append(button);
    return button;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const typing = event.target === this.#search;
    if (event.key === "/" && !typing) this.#search.select();
    else if (event.key === "Escape") {
      if (this.#search.value) this.#choose("q", "");
      this.#table.focus();
    } else if (typing && (event.key === "ArrowDown" || event.key === "Enter")) this.#table.focus();
    else if (event.target === document.body && event.key.startsWith("Arrow")) this.#table.focus();
    else return;
    event.preventDefault();
  }

  /** Changes what is shown; the address follows, so that it can be kept and sent. */
  #choose(/** @type {string} */ name, /** @type {string} */ value) {
    if (value) this.#query.set(name, value);
    else this.#query.delete(name);
    if (name === "q" && this.#search.value !== value) this.#search.value = value;
    const query = String(this.#query);
    history.replaceState(null, "", `${location.pathname}${query && "?"}${query}${location.hash}`);
    byId("table").scrollTop = 0;
    this.#draw();
  }

  /** @param {Item} item */
  #open(item) {
    if ("group" in item) this.#choose("q", `group:${item.group}`);
    else location.assign(streamLink(item.name));
  }

  /** @param {number} status */
  #onStatus(status) {
    this.#status = status;
    if (status === 401) goToSignIn();
    if (status === 200) this.#describe();
    this.#soon();
  }

  async #describe() {
    try {
      await this.#book.load();
      const { role } = await (await request("api/session")).json();
      this.#alerts.allow(role === "controller");
      this.#asked = -Infinity;
      this.#soon();
    } catch {
      // asked again after the next connection
    }
  }

  /** @param {string} name */
  #station(name) {
    let found = this.#stations.get(name);
    if (!found) this.#stations.set(name, (found = { name, stream: new Stream(), hour: "" }));
    return found;
  }

  /** @param {any} body */
  #onEvent(body) {
    if (body.type === "levels") return this.#showLevels(body.levels);
    if (body.type === "state") {
      this.#daemon = body.daemon === "up";
      this.#alerts.replace(body.alerts);
      for (const name of this.#stations.keys()) if (!(name in body.streams)) this.#stations.delete(name);
      for (const [name, state] of Object.entries(body.streams)) this.#station(name).stream.replace(state);
    } else if (body.type === "daemon") this.#daemon = body.state === "up";
    else if (body.type === "missed") this.#feed.restart();
    else if (ALERT_TYPES.includes(body.type)) this.#alerts.update(body);
    else if (body.type === "stream_down" && body.detail === "removed") this.#stations.delete(body.stream);
    else if (body.stream) this.#station(body.stream).stream.update(body, performance.now());
    if (URGENT.test(body.type)) this.#soon(URGENT_MS);
    else if (this.#search.value || this.#query.get("sort") || this.#inSight(body.stream)) this.#soon();
  }

  /** @param {Record<string, [number, number]>} levels peak and mean by stream */
  #showLevels(levels) {
    document.body.classList.add("levels");
    for (const [name, [peak, mean]] of Object.entries(levels)) {
      const station = this.#stations.get(name);
      if (station) station.stream.level = { peak, mean, at: performance.now() };
    }
    this.#measured = true;
    this.#soon();
  }

  /** What happens to other streams is drawn with the next tick, unless it is in the order. @param {string} name */
  #inSight(name) {
    return this.#table.inSight.some((item) => "name" in item && item.name === name);
  }

  /** Draws now, or as soon as the last drawing is long enough ago. @param {number} [least] in milliseconds */
  #soon(least = DRAW_MS) {
    const due = Math.max(performance.now(), this.#drawn + least);
    if (this.#timer && this.#due <= due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = window.setTimeout(() => this.#draw(), due - performance.now());
  }

  #tick() {
    const now = performance.now();
    if (this.#status === 200 && document.visibilityState === "visible" && now - this.#asked > HOUR_MS) {
      this.#asked = now;
      this.#askHour();
    }
    const bad = [...this.#stations.values()].filter(({ stream }) => BAD.includes(stateOf(stream)));
    const live = this.#daemon && this.#status === 200 && this.#stations.size > 0;
    const say = (/** @type {Station} */ { stream }) => stream.detail || stream.cause || stream.status;
    /** @type {[string, string][]} */
    const news = bad.map((one) => [one.name, say(one)]);
    if (live) this.#alarm.update(new Map([...news, ...this.#alerts.news]), now);
    this.#soon();
  }

  async #askHour() {
    try {
      const { streams } = await (await request("api/overview")).json();
      for (const [name, [hour, valence, arousal, certainty]] of Object.entries(streams)) {
        const station = this.#stations.get(name);
        if (!station) continue;
        station.hour = hour;
        station.stream.mood = valence === undefined ? null : { valence, arousal, certainty };
      }
      this.#soon();
    } catch {
      // asked again
    }
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drawn = performance.now();
    const terms = parseSearch(this.#search.value);
    const all = [...this.#stations.values()];
    const found = sorted(all.filter((station) => matches(terms, station)), this.#query.get("sort") ?? "state");
    this.#table.show(this.#query.get("group") ? grouped(found) : found, sameItem);
    if (this.#measured) this.#table.each(fillLevel);
    this.#measured = false;
    this.#alerts.draw();
    this.#drawHead(all, found.length);
  }

  /** @param {Station[]} all @param {number} found */
  #drawHead(all, found) {
    const counts = countStates(all);
    for (const state of STATES) {
      const button = /** @type {HTMLElement} */ (document.querySelector(`#counts .${state}`));
      button.hidden = !counts[state];
      setText(/** @type {Element} */ (button.firstElementChild), String(counts[state]));
      button.ariaPressed = String(this.#search.value.trim() === `state:${state}`);
    }
    const text = (/** @type {string} */ key) => this.language.text(key);
    const trouble = STATES.slice(0, 3).filter((state) => counts[state]);
    const open = this.#alerts.news.size;
    const short = [...(open ? [`${open} ${text("desk_alerts")}`] : []), ...trouble.map((state) => `${counts[state]} ${text(`desk_${state}`)}`)].join(" · ");
    const offline = this.#status !== 200 ? text(this.#status === 401 ? "refused" : "offline") : "";
    const words = offline || (this.#daemon ? "" : text("desk_no_daemon"));
    const title = `${words || short || `${all.length} ${text("desk_streams")}`} – streamtag`;
    if (document.title !== title) document.title = title;
    setText(byId("banner"), words);
    byId("banner").hidden = !words;
    document.body.classList.toggle("stale", words !== "");
    byId("empty").hidden = found > 0 || words !== "";
    setText(byId("empty"), text(all.length ? "desk_nothing" : "desk_no_streams"));
    byId("head").dataset.sort = this.#query.get("sort") ?? "state";
    /** @type {HTMLElement} */ (document.querySelector("#tools .group")).ariaPressed = String(Boolean(this.#query.get("group")));
  }
}

/** A heading before the streams of each group. @param {Station[]} stations @returns {Item[]} */
function grouped(stations) {
  /** @type {Map<string, Station[]>} */
  const groups = new Map();
  for (const one of stations) {
    const group = groupOf(one.name);
    groups.set(group, [...(groups.get(group) ?? []), one]);
  }
  return [...groups].flatMap(([group, members]) => {
    const bad = members.filter(({ stream }) => BAD.includes(stateOf(stream))).length;
    return [{ group, count: members.length, bad }, ...members];
  });
}

/** @param {Item} a @param {Item} b */
function sameItem(a, b) {
  return "group" in a ? "group" in b && a.group === b.group : "name" in b && a.name === b.name;
}

new Desk(await patiently(() => Language.load(new URLSearchParams(location.search).get("lang") ?? settings.language)));
