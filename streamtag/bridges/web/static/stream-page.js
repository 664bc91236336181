// The page of one stream: what is on, its place on the mood plane, its past. See docs/desk.md.

import { all, byId, canvasById, setText } from "./dom.js";
import { goToSignIn } from "./feed.js";
import { Sharpness } from "./kiosk.js";
import { language } from "./language.js";
import { Look } from "./look.js";
import { fresh, levelText, showLevel } from "./meter.js";
import { askPart } from "./parts.js";
import { sceneOf } from "./scene.js";
import * as shell from "./shell.js";
import { TagBook } from "./tag-book.js";
import { Taggram } from "./taggram.js";
import { Constellation } from "./themes/constellation.js";
import { Timeline } from "./timeline.js";
import { Watch } from "./watch.js";

const DRAW_MS = 500;
const FRAME_MS = 100;
const STILL_MS = 1000; // between two pictures of the plane where motion is not wanted

class StreamPage {
  #look = new Look();
  #plane = new Constellation();
  #sharpness = new Sharpness();
  #book;
  #taggram;
  #timeline;
  #watch;

  /** @param {string} name @param {Language} language */
  constructor(name, language) {
    this.name = name;
    this.language = language;
    shell.furnish();
    this.#book = new TagBook(language, () => this.#timeline.draw());
    this.#taggram = new Taggram(canvasById("taggram"), this.#book);
    this.#timeline = new Timeline(name, this.#book);
    this.#taggram.follow(name);
    this.#watch = new Watch({ stream: name }, ["mood", "level", "clip"]);
    this.#watch.onEvent = (body) => this.#onEvent(body);
    this.#watch.onStatus = () => this.#onStatus();
    setInterval(() => this.#draw(), DRAW_MS);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const frame = still ? STILL_MS : FRAME_MS;
    setInterval(() => this.#drawPlane(frame / 1000, still), frame);
  }

  get #stream() {
    return this.#watch.streams.get(this.name) ?? null;
  }

  #onStatus() {
    if (this.#watch.status === 401) goToSignIn();
    if (this.#watch.status === 200) this.#describe().catch(() => undefined); // asked again later
  }

  async #describe() {
    await this.#book.load(this.name);
    const { moods } = await shell.ask("api/mood", { stream: this.name });
    this.#plane.fill(moods, this.#book.light);
    this.#timeline.draw();
    await this.#showClips();
  }

  /** The newest clips of the last day. */
  async #showClips() {
    byId("clips").replaceChildren(...(await askPart("clips", { stream: this.name })));
  }

  /** @param {any} body */
  #onEvent({ type }) {
    if (type === "state") this.#look.jump();
    if (type === "clip") this.#showClips().catch(() => undefined);
    if (type === "stream_up" || type === "taggers_changed") this.#onStatus();
    if (type === "level") this.#drawLevel();
    else if (type !== "mood") this.#draw();
  }

  #draw() {
    const { language } = this;
    const stream = this.#stream;
    const state = stream?.state ?? "waiting";
    const said = stream
      ? [stream.cause.replaceAll("_", " "), shell.ago(language, stream.since), stream.detail]
      : [language.text("stream_unknown")];
    const word = language.text(`desk_${state}`);
    byId("state").dataset.state = state;
    setText(byId("state"), [stream ? word : "", ...said].filter(Boolean).join(" · "));
    setText(byId("playing"), stream?.title ?? "");
    const trouble = this.#watch.trouble(language);
    shell.showBanner(trouble);
    document.title = `${this.name} – ${trouble || word}`;
    const on = new Set(stream?.on);
    this.#taggram.draw(on, stream?.status === "up");
    const names = Array.from(on, (tag) => this.#book.name(tag)).join(", ");
    byId("taggram").ariaLabel = `${language.text("desk_column_now")}: ${names || "–"}`;
    this.#drawLevel();
  }

  #drawLevel() {
    const level = fresh(this.#stream?.level ?? null);
    const [meter, said] = all("#level span");
    showLevel(meter, level);
    byId("level").hidden &&= !level; // it stays once it was there
    const key = level?.lufs == null ? "stream_level" : "stream_loudness";
    const values = level && { level: levelText(level), peak: level.peak.toFixed(0) };
    setText(said, values ? this.language.text(key, values) : "");
  }

  /** @param {number} seconds since the last picture @param {boolean} still */
  #drawPlane(seconds, still) {
    const canvas = canvasById("mood");
    this.#plane.places = this.#book.spots(this.#stream?.on ?? []);
    const scene = sceneOf(this.#watch, this.#stream, true);
    this.#look.update(scene, this.#stream?.mood ?? null, seconds, still);
    this.#sharpness.fit(canvas, this.#plane.widest, 0);
    const font = getComputedStyle(document.body).fontFamily;
    const { light } = this.#book;
    this.#plane.draw(canvas, this.#look, { light, transparent: true, seconds, font });
  }
}

new StreamPage(document.documentElement.dataset.stream ?? "", language);
