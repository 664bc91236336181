// The page of one stream: what is on now, its place on the mood plane, and its past. See docs/desk.md.

import { ROOT, Feed, goToSignIn, request } from "./feed.js";
import { Sharpness } from "./kiosk.js";
import { Language } from "./language.js";
import { Look } from "./look.js";
import { fresh, makeMeter, showLevel } from "./meter.js";
import { sceneOf } from "./scene.js";
import { settings } from "./settings.js";
import { TagBook, ago, byId, linkTo, element, patiently, setText } from "./shell.js";
import { stateOf } from "./stations.js";
import { Stream } from "./stream.js";
import { Taggram } from "./taggram.js";
import { Constellation } from "./themes/constellation.js";
import { Timeline } from "./timeline.js";

const TYPES = ["stream_up", "stream_down", "stream_status", "taggers_changed", "title"];
TYPES.push("silence_on", "silence_off", "tag_on", "tag_off", "mood", "level", "clip");
const DRAW_MS = 500;
const FRAME_MS = 100;
const STILL_MS = 1000; // between two pictures of the plane where motion is not wanted

class StreamPage {
  #stream = new Stream();
  #known = false;
  #daemon = false;
  #status = 0;
  #look = new Look();
  #plane = new Constellation();
  #sharpness = new Sharpness();
  #feed;
  #book;
  #taggram;
  #meter = makeMeter();
  #said = element("span");

  /** @param {string} name @param {Language} language */
  constructor(name, language) {
    this.name = name;
    this.language = language;
    this.#book = new TagBook(language, () => this.#timeline.draw());
    this.#taggram = new Taggram(/** @type {HTMLCanvasElement} */ (byId("taggram")), this.#book);
    this.#furnish();
    this.#timeline = new Timeline(name, this.#book);
    this.#taggram.follow(name);
    const query = new URLSearchParams([["stream", name], ...TYPES.map((type) => ["type", type])]);
    this.#feed = new Feed(String(query), (body) => this.#onEvent(body), (status) => this.#onStatus(status));
    setInterval(() => this.#draw(), DRAW_MS);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const frame = still ? STILL_MS : FRAME_MS;
    setInterval(() => this.#drawPlane(frame / 1000, still), frame);
  }

  #timeline;

  #furnish() {
    const text = (/** @type {string} */ key) => this.language.text(key);
    document.documentElement.lang = this.language.code;
    setText(byId("name"), this.name);
    byId("level").append(this.#meter, this.#said);
    /** @type {HTMLAnchorElement} */ (byId("home")).href = linkTo("");
    for (const [id, key] of [["now", "stream_taggram"], ["plane", "stream_mood"], ["past", "stream_past"]]) {
      setText(/** @type {Element} */ (byId(id).querySelector("h2")), text(key));
      /** @type {HTMLElement} */ (byId(id).querySelector("canvas")).ariaLabel = text(key);
    }
    const own = `/${encodeURIComponent(this.name)}`;
    for (const [path, key] of [[`report${own}`, "stream_report"], [`wall${own}`, "desk_wall"], ["settings", "set_settings"]]) {
      const link = element("a", "", text(key));
      link.href = linkTo(path);
      byId("tools").append(link);
    }
  }

  /** @param {number} status */
  async #onStatus(status) {
    this.#status = status;
    if (status === 401) goToSignIn();
    if (status !== 200) return;
    try {
      await this.#book.load(this.name);
      const { moods } = await (await request(`api/mood?stream=${encodeURIComponent(this.name)}`)).json();
      this.#plane.fill(moods, this.#book.light);
      this.#timeline.draw();
      await this.#showClips();
    } catch {
      // asked again after the next connection
    }
  }

  /** The newest clips of the last day. */
  async #showClips() {
    const { clips } = await (await request(`api/clips?from=-24h&stream=${encodeURIComponent(this.name)}`)).json();
    const links = clips.filter((/** @type {any} */ one) => one.stage === "ready").slice(-8).map((/** @type {any} */ one) => {
      const link = element("a", "", `${new Date(one.utc).toLocaleTimeString(this.language.code)} ${one.event}`);
      link.href = linkTo(`clip/${encodeURIComponent(one.id)}`);
      return link;
    });
    byId("clips").replaceChildren(`${this.language.text("report_clips")}: `, ...links.flatMap((/** @type {any} */ link) => [link, " · "]).slice(0, -1));
    byId("clips").hidden = !links.length;
  }

  /** @param {any} body */
  #onEvent(body) {
    if (body.type === "state") {
      this.#daemon = body.daemon === "up";
      this.#look.jump();
      this.#known = this.name in body.streams;
      if (this.#known) this.#stream.replace(body.streams[this.name]);
    } else if (body.type === "daemon") this.#daemon = body.state === "up";
    else if (body.type === "missed") this.#feed.restart();
    else if (body.type === "clip") this.#showClips().catch(() => undefined);
    else if (body.stream === this.name) {
      this.#known = true;
      this.#stream.update(body, performance.now());
      if (body.type === "stream_up" || body.type === "taggers_changed") this.#onStatus(200);
    }
    if (body.type === "level") this.#drawLevel();
    else if (body.type !== "mood") this.#draw();
  }

  #draw() {
    const stream = this.#stream;
    const text = (/** @type {string} */ key) => this.language.text(key);
    const state = stateOf(stream);
    const since = ago(this.language, stream.since);
    byId("state").dataset.state = state;
    setText(byId("state"), this.#known ? [text(`desk_${state}`), stream.cause, since, stream.detail].filter(Boolean).join(" · ") : text("stream_unknown"));
    setText(byId("playing"), stream.title);
    const offline = this.#status !== 200 ? text(this.#status === 401 ? "refused" : "offline") : this.#daemon ? "" : text("desk_no_daemon");
    setText(byId("banner"), offline);
    byId("banner").hidden = !offline;
    document.body.classList.toggle("stale", offline !== "");
    document.title = `${this.name} – ${offline || text(`desk_${state}`)}`;
    const on = Array.from(stream.tags.values(), ({ tag }) => tag);
    this.#taggram.draw(on, stream.status === "up");
    const names = on.map((tag) => this.#book.name(tag)).join(", ");
    this.#drawLevel();
    byId("taggram").ariaLabel = `${text("desk_column_now")}: ${names || "–"}`;
  }

  #drawLevel() {
    const level = fresh(this.#stream.level);
    showLevel(this.#meter, level);
    byId("level").hidden &&= !level; // it stays once it was there
    const text = this.language.text("stream_level");
    setText(this.#said, level ? text.replace("{mean}", level.mean.toFixed(0)).replace("{peak}", level.peak.toFixed(0)) : "");
  }

  /** @param {number} seconds since the last picture @param {boolean} still */
  #drawPlane(seconds, still) {
    const canvas = /** @type {HTMLCanvasElement} */ (byId("mood"));
    const on = new Set(Array.from(this.#stream.tags.values(), ({ tag }) => tag));
    const known = Object.entries(this.#book.about).filter(([tag, { position }]) => position && this.#book.place(tag) === "mood");
    this.#plane.places = known.map(([tag, { position }]) => ({
      name: this.#book.name(tag),
      position: /** @type {[number, number]} */ (position),
      lit: on.has(tag),
    }));
    const light = this.#book.light;
    const scene = sceneOf(this.#status, this.#daemon, this.#known ? this.#stream : null, true);
    this.#look.update(scene, this.#stream.mood, seconds, still);
    this.#sharpness.fit(canvas, this.#plane.widest, 0);
    this.#plane.draw(canvas, this.#look, { light, transparent: true, seconds, font: getComputedStyle(document.body).fontFamily });
  }
}

const language = await patiently(() => Language.load(new URLSearchParams(location.search).get("lang") ?? settings.language));
new StreamPage(decodeURIComponent(location.pathname.slice(ROOT.pathname.length).split("/")[1] ?? ""), language);
