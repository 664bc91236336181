// The desk: all streams in one table, those with trouble first. See docs/desk.md.

import { Alarm } from "./alarm.js";
import { ALERT_TYPES, Alerts } from "./alerts.js";
import { all, byId, copyOf, setText } from "./dom.js";
import { goToSignIn } from "./feed.js";
import { language } from "./language.js";
import { fillLevel, fillRow } from "./rows.js";
import { ask, furnish, showBanner, streamLink } from "./shell.js";
import { STATES, countStates, grouped, isBad, parseSearch, sorted } from "./stations.js";
import { VirtualTable } from "./table.js";
import { TagBook } from "./tag-book.js";
import { Watch } from "./watch.js";

const DRAW_MS = 200; // shortest time between two drawings …
const URGENT_MS = 30; // … and where a stream has another state
const URGENT = /^(state|daemon|missed|stream_|silence_|alert_)/;
const TICK_MS = 1000;
const HOUR_MS = 10_000; // how often the past hour and the moods are asked for
const TYPES = ["gap", "dropped", "clipping", ...ALERT_TYPES];

class Desk {
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
  #watch;

  constructor() {
    this.#alerts = new Alerts(language, () => this.#soon(URGENT_MS));
    this.#book = new TagBook(language, () => this.#soon());
    /** @type {import("./table.js").Rows<Item>} */
    const rows = {
      make: () => copyOf("row"),
      fill: (row, item) => fillRow(row, item, this.#book),
      open: (item) => this.#open(item),
      same: (a, b) => nameOf(a) === nameOf(b),
    };
    this.#table = new VirtualTable(byId("table"), rows);
    this.#listen();
    this.#watch = new Watch({ levels: "1" }, TYPES);
    this.#watch.onEvent = (body) => this.#onEvent(body);
    this.#watch.onStatus = () => this.#onStatus();
    setInterval(() => this.#tick(), TICK_MS);
  }

  #listen() {
    furnish();
    this.#search.value = this.#query.get("q") ?? "";
    this.#search.oninput = () => this.#choose("q", this.#search.value);
    document.addEventListener("click", ({ target }) => {
      const { choose } = /** @type {HTMLElement} */ (target).closest("button")?.dataset ?? {};
      const [name, value] = choose?.split("=") ?? [];
      if (name) this.#choose(name, this.#query.get(name) === value ? "" : value);
    });
    for (const kind of /** @type {const} */ (["notify", "sound"])) {
      const [button] = all(`#tools .${kind}`);
      const show = (/** @type {boolean} */ on) => (button.ariaPressed = String(on));
      show(this.#alarm.isOn(kind));
      button.onclick = () => this.#alarm.toggle(kind).then(show);
    }
    document.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const typing = event.target === this.#search;
    const leaves = typing && (event.key === "ArrowDown" || event.key === "Enter");
    const enters = event.target === document.body && event.key.startsWith("Arrow");
    if (event.key === "/" && !typing) this.#search.select();
    else if (leaves || enters || event.key === "Escape") {
      if (event.key === "Escape" && this.#search.value) this.#choose("q", "");
      this.#table.focus();
    } else return;
    event.preventDefault();
  }

  /** Changes what is shown; the address follows, so that it can be kept and sent.
   * @param {string} name @param {string} value */
  #choose(name, value) {
    if (value) this.#query.set(name, value);
    else this.#query.delete(name);
    if (name === "q" && this.#search.value !== value) this.#search.value = value;
    const url = new URL(location.href);
    url.search = String(this.#query);
    history.replaceState(null, "", url);
    byId("table").scrollTop = 0;
    this.#draw();
  }

  /** @param {Item} item */
  #open(item) {
    if ("group" in item) this.#choose("q", `group:${item.group}`);
    else location.assign(streamLink(item.name));
  }

  #onStatus() {
    if (this.#watch.status === 401) goToSignIn();
    if (this.#watch.status === 200) this.#describe();
    this.#soon();
  }

  async #describe() {
    try {
      await this.#book.load();
      this.#asked = -Infinity;
      this.#soon();
    } catch {
      // asked again after the next connection
    }
  }

  /** @param {any} body */
  #onEvent(body) {
    if (body.type === "levels") return this.#showLevels(body.levels);
    if (body.type === "state" || ALERT_TYPES.includes(body.type)) this.#alerts.refresh();
    const ordered = this.#search.value || this.#query.get("sort");
    const seen = () => this.#table.inSight.some((item) => nameOf(item) === body.stream);
    if (URGENT.test(body.type)) this.#soon(URGENT_MS);
    else if (ordered || seen()) this.#soon(); // what happens to others is drawn with the next tick
  }

  /** @param {Record<string, [number, number, number?]>} levels peak, mean and loudness by stream */
  #showLevels(levels) {
    document.body.classList.add("levels");
    for (const [name, [peak, mean, lufs]] of Object.entries(levels)) {
      const stream = this.#watch.streams.get(name);
      if (stream) stream.level = { peak, mean, lufs, at: performance.now() };
    }
    this.#measured = true;
    this.#soon();
  }

  /** Draws now, or as soon as the last drawing is long enough ago. @param {number} [least] in ms */
  #soon(least = DRAW_MS) {
    const due = Math.max(performance.now(), this.#drawn + least);
    if (this.#timer && this.#due <= due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = window.setTimeout(() => this.#draw(), due - performance.now());
  }

  #tick() {
    const { daemon, status, streams } = this.#watch;
    const now = performance.now();
    if (status === 200 && document.visibilityState === "visible" && now - this.#asked > HOUR_MS) {
      this.#asked = now;
      this.#askHour().catch(() => undefined); // asked again
    }
    const bad = [...streams.values()].filter(isBad);
    /** @type {[string, string][]} */
    const news = bad.map((one) => [one.name, one.detail || one.cause || one.status]);
    const live = daemon && status === 200 && streams.size > 0 && this.#alerts.known;
    if (live) this.#alarm.update(new Map([...news, ...this.#alerts.news]), now);
    this.#soon();
  }

  async #askHour() {
    const { streams } = await ask("api/overview");
    for (const stream of this.#watch.streams.values()) {
      const [hour, valence, arousal, certainty] = streams[stream.name] ?? [""];
      stream.hour = hour;
      stream.mood = valence === undefined ? null : { valence, arousal, certainty };
    }
    this.#soon();
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drawn = performance.now();
    const streams = [...this.#watch.streams.values()];
    const sort = this.#query.get("sort") ?? "state";
    const found = sorted(streams.filter(parseSearch(this.#search.value)), sort);
    this.#table.show(this.#query.get("group") ? grouped(found) : found);
    if (this.#measured) this.#table.each(fillLevel);
    this.#measured = false;
    this.#alerts.draw();
    byId("head").dataset.sort = sort;
    const counts = countStates(streams);
    for (const button of all("#counts button")) {
      button.hidden = !counts[button.className];
      setText(button.children[0], String(counts[button.className]));
    }
    for (const button of all("nav [data-choose]")) {
      const [name, value] = button.dataset.choose?.split("=") ?? [];
      button.ariaPressed = String(this.#query.get(name) === value);
    }
    this.#drawHeader(counts, streams.length, found.length);
  }

  /** Title, banner, and what stands where there is no row.
   * @param {Record<string, number>} counts @param {number} number of streams @param {number} found
   */
  #drawHeader(counts, number, found) {
    const news = { alerts: this.#alerts.news.size, failed: counts.failed, lost: counts.lost };
    const bad = Object.entries({ ...news, silent: counts.silent }).filter(([, count]) => count);
    const short = bad.map(([name, count]) => `${count} ${language.text(`desk_${name}`)}`);
    const trouble = this.#watch.trouble(language);
    const usual = short.join(" · ") || `${number} ${language.text("desk_streams")}`;
    const title = `${trouble || usual} – streamtag`;
    if (document.title !== title) document.title = title;
    showBanner(trouble);
    byId("empty").hidden = found > 0 || trouble !== "";
    setText(byId("empty"), language.text(number ? "desk_nothing" : "desk_no_streams"));
  }
}

/** @param {Item} item */
function nameOf(item) {
  return "group" in item ? `group:${item.group}` : item.name;
}

new Desk();
