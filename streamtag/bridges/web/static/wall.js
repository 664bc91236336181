// The wall: the mood of one stream on a screen, for weeks. See docs/wall.md.

import { canvasById } from "./dom.js";
import { Sharpness, allowFullScreen, keepAwake } from "./kiosk.js";
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

const canvas = canvasById("picture");
const theme = new THEMES[document.body.dataset.theme ?? "field"](canvas);
const plane = theme instanceof Constellation ? theme : null;
const transparent = document.body.classList.contains("transparent");
const asked = document.documentElement.dataset.stream ?? "";
const motion = matchMedia("(prefers-reduced-motion: reduce)");
const look = new Look();
const sharpness = new Sharpness();
const keeper = new SceneKeeper();
const chooser = new WordChooser();
const book = new TagBook();
const lettering = new Lettering(book);
let name = "";
let watch = /** @type {Watch | null} */ (null);
let described = false;
let refused = 0; // why there is nothing to watch
let last = 0;
let chosen = -CHOOSE_MS;

const present = () => watch?.streams.get(name) ?? null;

/** @param {string} stream */
function follow(stream) {
  watch?.close();
  name = stream;
  described = false;
  chooser.clear();
  const followed = (watch = new Watch({ stream }, ["mood", "scores"]));
  followed.onStatus = () => void (followed.status === 200 && describe());
  followed.onEvent = ({ type }) => {
    if (type === "stream_up" || type === "taggers_changed") describe();
  };
}

/** Asks what the tags mean, and for the last ten minutes. */
async function describe() {
  try {
    await book.load(name);
    plane?.fill((await ask("api/mood", { stream: name })).moods, book.light);
  } catch {
    // asked again after the next connection
  } finally {
    described = true;
  }
}

/** Without a name in the address: follows the first stream that is up, and stays with it. */
async function choose() {
  try {
    const { streams } = await ask("api/state");
    const names = Object.keys(streams);
    const best = names.find((one) => streams[one].status === "up") ?? (name || names[0]);
    if (best && best !== name) follow(best);
  } catch (error) {
    refused = /** @type {any} */ (error).status ?? 0;
  }
}

function tick() {
  const now = performance.now();
  const stream = present();
  const line = watch ?? { status: refused, daemon: false };
  const up = stream?.status === "up" && line.status === 200;
  if (!asked && !up && now - chosen >= CHOOSE_MS) {
    chosen = now;
    choose();
  }
  const known = described ? stream : null; // what its tags mean decides what is seen
  const words = chooser.update(known?.tags.values() ?? [], book.about, now);
  const moodless = !stream?.mood && words.genre.length + words.instrument.length > 0;
  if (keeper.update(sceneOf(line, known, words.mood.length > 0 || moodless), now)) look.jump();
  if (["lost", "paused", "silence"].includes(keeper.scene)) chooser.clear();
  lettering.show(keeper, words, stream?.title ?? "", now);
  const lit = keeper.scene === "music" ? chooser.words.mood : [];
  if (plane) plane.places = book.spots(lit.map(({ tag }) => tag));
}

/** @param {number} now */
function frame(now) {
  requestAnimationFrame(frame);
  const seconds = (now - last) / 1000;
  const still = motion.matches;
  if (still && seconds < STILL_FRAME) return;
  last = now;
  look.update(keeper.scene, present()?.mood ?? null, seconds, still);
  sharpness.fit(canvas, theme.widest, still ? 0 : seconds);
  theme.draw(canvas, look, { light: book.light, transparent, seconds, font: lettering.font });
}

keepAwake();
allowFullScreen();
if (asked) follow(asked);
setInterval(tick, TICK_MS);
tick();
requestAnimationFrame(frame);
