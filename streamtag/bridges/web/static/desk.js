// The desk: all streams in one table, those with trouble first. See docs/desk.md.

import { Alarm } from "./alarm.js";
import { ALERT_TYPES, Alerts } from "./alerts.js";
import { all, byId, copyOf, setText } from "./dom.js";
import { goToSignIn } from "./feed.js";
import { language } from "./language.js";
import { fillLevel, fillRow } from "./rows.js";
import { ask, showBanner, streamLink } from "./shell.js";
import { grouped, isBad, parseSearch, sorted } from "./stations.js";
import { VirtualTable } from "./table.js";
import { TagBook } from "./tag-book.js";
import { Watch } from "./watch.js";

const DRAW_MS = 200; // shortest time between two drawings …
const URGENT_MS = 30; // … and where a stream has another state
const URGENT = /^(state|daemon|missed|stream_|silence_|alert_)/;
const TICK_MS = 1000;
const HOUR_MS = 10_000; // how often the past hour and the moods are asked for
const TYPES = ["gap", "dropped", "clipping", ...ALERT_TYPES];

const search = /** @type {HTMLInputElement} */ (byId("search"));
const query = new URLSearchParams(location.search);
const alarm = new Alarm();
const alerts = new Alerts(() => soon(URGENT_MS));
const book = new TagBook(() => soon());
/** @type {VirtualTable<Item>} */
const table = new VirtualTable(byId("table"), {
  make: () => copyOf("row"),
  fill: (row, item) => fillRow(row, item, book),
  open: (item) => {
    if ("group" in item) choose("q", `group:${item.group}`);
    else location.assign(streamLink(item.name));
  },
  same: (a, b) => keyOf(a) === keyOf(b),
});
const watch = new Watch({ levels: "1" }, TYPES);
let drawn = 0;
let timer = 0;
let due = 0;
let asked = -Infinity;

search.value = query.get("q") ?? "";
search.oninput = () => choose("q", search.value);
document.addEventListener("click", ({ target }) => {
  const [name, value] = chosenBy(/** @type {HTMLElement} */ (target).closest("button"));
  if (name) choose(name, query.get(name) === value ? "" : value);
});
for (const kind of /** @type {const} */ (["notify", "sound"])) {
  const [button] = all(`#tools .${kind}`);
  const show = (/** @type {boolean} */ on) => (button.ariaPressed = String(on));
  show(alarm.isOn(kind));
  button.onclick = () => alarm.toggle(kind).then(show);
}
document.addEventListener("keydown", onKey);
watch.onEvent = onEvent;
watch.onStatus = () => {
  if (watch.status === 401) goToSignIn();
  if (watch.status === 200) book.load().then(askHour).catch(() => undefined); // asked again
  soon();
};
setInterval(tick, TICK_MS);

/** What a button chooses in the address: name and value. @param {HTMLElement | null} button */
function chosenBy(button) {
  return button?.dataset.choose?.split("=") ?? [];
}

/** @param {Item} item */
function keyOf(item) {
  return "group" in item ? `group:${item.group}` : item.name;
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const typing = event.target === search;
  const leaves = typing && (event.key === "ArrowDown" || event.key === "Enter");
  const enters = event.target === document.body && event.key.startsWith("Arrow");
  if (event.key === "/" && !typing) search.select();
  else if (leaves || enters || event.key === "Escape") {
    if (event.key === "Escape" && search.value) choose("q", "");
    table.focus();
  } else return;
  event.preventDefault();
}

/** Changes what is shown; the address follows, so that it can be kept and sent.
 * @param {string} name @param {string} value */
function choose(name, value) {
  if (value) query.set(name, value);
  else query.delete(name);
  if (name === "q" && search.value !== value) search.value = value;
  const url = new URL(location.href);
  url.search = String(query);
  history.replaceState(null, "", url);
  byId("table").scrollTop = 0;
  draw();
}

/** @param {any} body */
function onEvent(body) {
  if (body.type === "levels") return showLevels(body.levels);
  if (body.type === "state" || ALERT_TYPES.includes(body.type)) alerts.refresh();
  const ordered = search.value || query.get("sort");
  const seen = () => table.inSight.some((item) => keyOf(item) === body.stream);
  if (URGENT.test(body.type)) soon(URGENT_MS);
  else if (ordered || seen()) soon(); // what happens to others is drawn with the next tick
}

/** @param {Record<string, [number, number, number?]>} levels peak, mean and loudness by stream */
function showLevels(levels) {
  document.body.classList.add("levels");
  for (const [name, [peak, mean, lufs]] of Object.entries(levels)) {
    const stream = watch.streams.get(name);
    if (stream) stream.level = { peak, mean, lufs, at: performance.now() };
  }
  soon();
}

/** Draws now, or as soon as the last drawing is long enough ago. */
function soon(least = DRAW_MS) {
  const next = Math.max(performance.now(), drawn + least);
  if (timer && due <= next) return;
  clearTimeout(timer);
  due = next;
  timer = window.setTimeout(draw, due - performance.now());
}

function tick() {
  const { daemon, status, streams } = watch;
  const now = performance.now();
  const wanted = status === 200 && document.visibilityState === "visible" && now - asked > HOUR_MS;
  if (wanted) askHour().catch(() => undefined); // asked again
  const bad = [...streams.values()].filter(isBad);
  /** @type {[string, string][]} */
  const news = bad.map((one) => [one.name, one.detail || one.cause || one.status]);
  const live = daemon && status === 200 && streams.size > 0 && alerts.known;
  if (live) alarm.update(new Map([...news, ...alerts.news]), now);
  soon();
}

async function askHour() {
  asked = performance.now();
  const { streams } = await ask("api/overview");
  for (const stream of watch.streams.values()) {
    const [hour, valence, arousal, certainty] = streams[stream.name] ?? [""];
    stream.hour = hour;
    stream.mood = valence === undefined ? null : { valence, arousal, certainty };
  }
  soon();
}

function draw() {
  clearTimeout(timer);
  timer = 0;
  drawn = performance.now();
  const streams = [...watch.streams.values()];
  const sort = query.get("sort") ?? "state";
  const found = sorted(streams.filter(parseSearch(search.value)), sort);
  table.show(query.get("group") ? grouped(found) : found);
  table.each(fillLevel);
  alerts.draw();
  byId("head").dataset.sort = sort;
  /** @type {Record<string, number>} of alerts, and of streams by state */
  const counts = { alerts: alerts.news.size };
  for (const { state } of streams) counts[state] = (counts[state] ?? 0) + 1;
  for (const button of all("nav [data-choose]")) {
    const [name, value] = chosenBy(button);
    button.ariaPressed = String(query.get(name) === value);
    if (name === "q") setText(button.children[0], String(counts[button.className] ?? ""));
  }
  const bad = ["alerts", "failed", "lost", "silent"].filter((one) => counts[one]);
  const short = bad.map((one) => `${counts[one]} ${language.text(`desk_${one}`)}`).join(" · ");
  const trouble = watch.trouble();
  const usual = short || `${streams.length} ${language.text("desk_streams")}`;
  const title = `${trouble || usual} – streamtag`;
  if (document.title !== title) document.title = title;
  showBanner(trouble);
  byId("empty").hidden = found.length > 0 || trouble !== "";
  setText(byId("empty"), language.text(streams.length ? "desk_nothing" : "desk_no_streams"));
}
