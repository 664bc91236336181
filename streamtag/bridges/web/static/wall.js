// The wall: the mood of one stream on a screen, for weeks. See docs/wall.md.

import { ROOT, Feed, request } from "./feed.js";
import { Sharpness, allowFullScreen, keepAwake } from "./kiosk.js";
import { Language } from "./language.js";
import { Look } from "./look.js";
import { readOptions } from "./options.js";
import { SceneKeeper, sceneOf } from "./scene.js";
import { patiently } from "./shell.js";
import { Stream } from "./stream.js";
import { Lettering } from "./lettering.js";
import { Constellation } from "./themes/constellation.js";
import { Field } from "./themes/field.js";
import { Type } from "./themes/type.js";
import { WordChooser, placeOf } from "./words.js";

/** @typedef {import("./words.js").Description} Description */

const TYPES = ["stream_up", "stream_down", "stream_status", "taggers_changed", "title"];
TYPES.push("silence_on", "silence_off", "tag_on", "tag_off", "mood", "scores");
const TICK_MS = 500;
const CHOOSE_MS = 5000; // how often another stream is looked for while this one is not up
const STILL_FRAME = 0.5; // seconds between two frames where motion is not wanted
const MAKERS = { field: Field, constellation: Constellation, type: Type };

class Wall {
  #options;
  #language;
  #lettering;
  #canvas = /** @type {HTMLCanvasElement} */ (document.getElementById("picture"));
  #theme;
  #look = new Look();
  #sharpness = new Sharpness();
  #keeper = new SceneKeeper();
  #chooser = new WordChooser();
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #name = "";
  #feed = /** @type {Feed | null} */ (null);
  #stream = /** @type {Stream | null} */ (null);
  #about = /** @type {Record<string, Description>} */ ({});
  #described = false;
  #status = 0;
  #daemon = false;
  #last = 0;
  #chosen = 0;

  /** @param {import("./options.js").Options} options @param {Language} language */
  constructor(options, language) {
    this.#options = options;
    this.#language = language;
    this.#lettering = new Lettering(options, language);
    this.#theme = new MAKERS[options.theme](this.#canvas);
    if (options.stream) this.#follow(options.stream);
    setInterval(() => this.#tick(performance.now()), TICK_MS);
    this.#tick(performance.now());
    requestAnimationFrame((now) => this.#frame(now));
  }

  /** @param {string} name */
  #follow(name) {
    this.#feed?.close();
    this.#name = name;
    this.#stream = null;
    this.#described = false;
    this.#chooser.clear();
    const query = new URLSearchParams({ stream: name });
    for (const type of TYPES) query.append("type", type);
    const onStatus = (/** @type {number} */ status) => this.#onStatus(status);
    this.#feed = new Feed(String(query), (body) => this.#onEvent(body), onStatus);
  }

  /** @param {number} status */
  #onStatus(status) {
    this.#status = status;
    if (status === 200) this.#describe();
  }

  /** @param {any} body */
  #onEvent(body) {
    if (body.type === "state") {
      this.#daemon = body.daemon === "up";
      const state = body.streams[this.#name];
      this.#stream = state ? (this.#stream ?? new Stream()) : null;
      this.#stream?.replace(state);
    } else if (body.type === "daemon") {
      this.#daemon = body.state === "up";
    } else if (body.type === "missed") {
      this.#feed?.restart();
    } else if (body.stream === this.#name) {
      this.#stream ??= new Stream();
      this.#stream.update(body, performance.now());
      if (body.type === "stream_up" || body.type === "taggers_changed") this.#describe();
    }
  }

  /** Asks what the tags mean, and for the last ten minutes. */
  async #describe() {
    const query = new URLSearchParams({ stream: this.#name });
    if (this.#options.language) query.set("lang", this.#options.language);
    try {
      this.#about = (await (await request(`api/tags?${query}`)).json()).tags;
      if (!(this.#theme instanceof Constellation)) return;
      const { moods } = await (await request(`api/mood?stream=${encodeURIComponent(this.#name)}`)).json();
      this.#theme.fill(moods, this.#options.light);
    } catch {
      // asked again after the next connection
    } finally {
      this.#described = true;
    }
  }

  /** Without a name in the address: follows the first stream that is up, and stays with it. */
  async #chooseStream() {
    try {
      const { streams } = await (await request("api/state")).json();
      const names = Object.keys(streams);
      const best = names.find((name) => streams[name].status === "up") ?? this.#name ?? names[0];
      if ((best || names[0]) && best !== this.#name) this.#follow(best || names[0]);
    } catch (error) {
      if (!this.#feed) this.#status = /** @type {any} */ (error).status ?? 0;
    }
  }

  /** @param {number} now */
  #tick(now) {
    const up = this.#stream?.status === "up" && this.#status === 200;
    if (!this.#options.stream && !up && now - this.#chosen >= CHOOSE_MS) {
      this.#chosen = now;
      this.#chooseStream();
    }
    const tags = (this.#described && this.#stream?.tags.values()) || [];
    const words = this.#chooser.update(tags, this.#about, now);
    const moodless = !this.#stream?.mood && words.genre.length + words.instrument.length > 0;
    const worded = words.mood.length > 0 || moodless;
    const known = this.#described ? this.#stream : null; // what its tags mean decides what is seen
    const seen = sceneOf(this.#status, this.#daemon, known, worded);
    if (this.#keeper.update(seen, now)) this.#look.jump();
    if (["lost", "paused", "silence"].includes(this.#keeper.scene)) this.#chooser.clear();
    this.#lettering.show(this.#keeper, words, this.#about, this.#stream?.title ?? "", now);
    if (this.#theme instanceof Constellation) this.#theme.places = this.#places();
  }

  /** The moods of the stream's model, on the plane. */
  #places() {
    const shown = this.#keeper.scene === "music" ? this.#chooser.words.mood : [];
    const lit = new Set(shown.map((word) => word.tag));
    return Object.entries(this.#about).flatMap(([tag, { category, position, name }]) =>
      position && placeOf(tag, category) === "mood"
        ? [{ name: this.#language.tag(tag, name, ""), position, lit: lit.has(tag) }]
        : [],
    );
  }

  /** @param {number} now */
  #frame(now) {
    requestAnimationFrame((next) => this.#frame(next));
    const seconds = (now - this.#last) / 1000;
    if (this.#still.matches && seconds < STILL_FRAME) return;
    this.#last = now;
    const { light, transparent } = this.#options;
    const font = this.#lettering.font;
    this.#look.update(this.#keeper.scene, this.#stream?.mood ?? null, seconds, this.#still.matches);
    if (!this.#still.matches) this.#sharpness.fit(this.#canvas, this.#theme.widest, seconds);
    else this.#sharpness.fit(this.#canvas, this.#theme.widest, 0);
    this.#theme.draw(this.#canvas, this.#look, { light, transparent, seconds, font });
  }
}

const path = location.pathname.slice(ROOT.pathname.length);
const options = readOptions(new URLSearchParams(location.search), path);
keepAwake();
allowFullScreen();
new Wall(options, await patiently(() => Language.load(options.language)));
