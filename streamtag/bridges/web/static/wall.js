// The wall: the mood of one stream on a screen, for weeks. See docs/wall.md.

import { canvasById } from "./dom.js";
import { Sharpness, allowFullScreen, keepAwake } from "./kiosk.js";
import { language } from "./language.js";
import { Lettering } from "./lettering.js";
import { Look } from "./look.js";
import { SceneKeeper, sceneOf } from "./scene.js";
import { ask } from "./shell.js";
import { TagBook } from "./tag-book.js";
import { Constellation } from "./themes/constellation.js";
import { Field } from "./themes/field.js";
import { Type } from "./themes/type.js";
import { Watch } from "./watch.js";
import { WordChooser } from "./words.js";

const TICK_MS = 500;
const CHOOSE_MS = 5000; // how often another stream is looked for while this one is not up
const STILL_FRAME = 0.5; // seconds between two frames where motion is not wanted
/** @type {Record<string, new (canvas: HTMLCanvasElement) => Field | Constellation | Type>} */
const THEMES = { field: Field, constellation: Constellation, type: Type };

class Wall {
  #canvas = canvasById("picture");
  #look = new Look();
  #sharpness = new Sharpness();
  #keeper = new SceneKeeper();
  #chooser = new WordChooser();
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #book = new TagBook(language);
  #lettering = new Lettering(this.#book);
  #theme = new THEMES[document.body.dataset.theme ?? "field"](this.#canvas);
  #clear = document.body.classList.contains("transparent");
  #asked = document.documentElement.dataset.stream ?? "";
  #name = "";
  #watch = /** @type {Watch | null} */ (null);
  #described = false;
  #refused = 0; // why there is nothing to watch
  #last = 0;
  #chosen = 0;

  constructor() {
    if (this.#asked) this.#follow(this.#asked);
    setInterval(() => this.#tick(performance.now()), TICK_MS);
    this.#tick(performance.now());
    requestAnimationFrame((now) => this.#frame(now));
  }

  get #stream() {
    return this.#watch?.streams.get(this.#name) ?? null;
  }

  /** @param {string} name */
  #follow(name) {
    this.#watch?.close();
    this.#name = name;
    this.#described = false;
    this.#chooser.clear();
    const watch = new Watch({ stream: name }, ["mood", "scores"]);
    watch.onStatus = () => void (watch.status === 200 && this.#describe());
    watch.onEvent = ({ type }) => {
      if (type === "stream_up" || type === "taggers_changed") this.#describe();
    };
    this.#watch = watch;
  }

  /** Asks what the tags mean, and for the last ten minutes. */
  async #describe() {
    const theme = this.#theme;
    try {
      await this.#book.load(this.#name);
      if (!(theme instanceof Constellation)) return;
      theme.fill((await ask("api/mood", { stream: this.#name })).moods, this.#book.light);
    } catch {
      // asked again after the next connection
    } finally {
      this.#described = true;
    }
  }

  /** Without a name in the address: follows the first stream that is up, and stays with it. */
  async #chooseStream() {
    try {
      const { streams } = await ask("api/state");
      const names = Object.keys(streams);
      const up = names.find((name) => streams[name].status === "up");
      const best = up ?? (this.#name || names[0]);
      if (best && best !== this.#name) this.#follow(best);
    } catch (error) {
      this.#refused = /** @type {any} */ (error).status ?? 0;
    }
  }

  /** @param {number} now */
  #tick(now) {
    const stream = this.#stream;
    const watch = this.#watch ?? { status: this.#refused, daemon: false };
    const up = stream?.status === "up" && watch.status === 200;
    if (!this.#asked && !up && now - this.#chosen >= CHOOSE_MS) {
      this.#chosen = now;
      this.#chooseStream();
    }
    const known = this.#described ? stream : null; // what its tags mean decides what is seen
    const words = this.#chooser.update(known?.tags.values() ?? [], this.#book.about, now);
    const moodless = !stream?.mood && words.genre.length + words.instrument.length > 0;
    const seen = sceneOf(watch, known, words.mood.length > 0 || moodless);
    if (this.#keeper.update(seen, now)) this.#look.jump();
    const { scene } = this.#keeper;
    if (["lost", "paused", "silence"].includes(scene)) this.#chooser.clear();
    this.#lettering.show(this.#keeper, words, stream?.title ?? "", now);
    const lit = scene === "music" ? this.#chooser.words.mood : [];
    if (!(this.#theme instanceof Constellation)) return;
    this.#theme.places = this.#book.spots(lit.map(({ tag }) => tag));
  }

  /** @param {number} now */
  #frame(now) {
    requestAnimationFrame((next) => this.#frame(next));
    const seconds = (now - this.#last) / 1000;
    const still = this.#still.matches;
    if (still && seconds < STILL_FRAME) return;
    this.#last = now;
    this.#look.update(this.#keeper.scene, this.#stream?.mood ?? null, seconds, still);
    this.#sharpness.fit(this.#canvas, this.#theme.widest, still ? 0 : seconds);
    const { light } = this.#book;
    const { font } = this.#lettering;
    this.#theme.draw(this.#canvas, this.#look, { light, transparent: this.#clear, seconds, font });
  }
}

keepAwake();
allowFullScreen();
new Wall();
