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

const name = document.documentElement.dataset.stream ?? "";
const look = new Look();
const plane = new Constellation();
const sharpness = new Sharpness();
const book = new TagBook(() => timeline.draw());
const timeline = new Timeline(name, book);
const taggram = new Taggram(name, book);
const watch = new Watch({ stream: name }, ["mood", "level", "clip"]);
watch.onStatus = onStatus;
watch.onEvent = onEvent;
setInterval(draw, DRAW_MS);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
setInterval(drawPlane, still ? STILL_MS : FRAME_MS);

const present = () => watch.streams.get(name) ?? null;

function onStatus() {
  if (watch.status === 401) goToSignIn();
  if (watch.status === 200) describe().catch(() => undefined); // asked again later
}

/** @param {any} body */
function onEvent({ type }) {
  if (type === "state") look.jump();
  if (type === "clip") showClips().catch(() => undefined);
  if (type === "stream_up" || type === "taggers_changed") onStatus();
  if (type === "level") drawLevel();
  else if (type !== "mood") draw();
}

async function describe() {
  await book.load(name);
  const { moods } = await shell.ask("api/mood", { stream: name });
  plane.fill(moods, book.light);
  timeline.draw();
  await showClips();
}

/** The newest clips of the last day. */
async function showClips() {
  byId("clips").replaceChildren(...(await askPart("clips", { stream: name })));
}

function draw() {
  const stream = present();
  const state = stream?.state ?? "waiting";
  const said = stream
    ? [stream.cause.replaceAll("_", " "), shell.ago(stream.since), stream.detail]
    : [language.text("stream_unknown")];
  const word = language.text(`desk_${state}`);
  byId("state").dataset.state = state;
  setText(byId("state"), [stream ? word : "", ...said].filter(Boolean).join(" · "));
  setText(byId("playing"), stream?.title ?? "");
  const trouble = watch.trouble();
  shell.showBanner(trouble);
  document.title = `${name} – ${trouble || word}`;
  taggram.draw(new Set(stream?.on), stream?.status === "up");
  drawLevel();
}

function drawLevel() {
  const level = fresh(present()?.level ?? null);
  const [meter, said] = all("#level span");
  showLevel(meter, level);
  byId("level").hidden &&= !level; // it stays once it was there
  const key = level?.lufs == null ? "stream_level" : "stream_loudness";
  const values = level && { level: levelText(level), peak: level.peak.toFixed(0) };
  setText(said, values ? language.text(key, values) : "");
}

function drawPlane() {
  const canvas = canvasById("mood");
  const seconds = (still ? STILL_MS : FRAME_MS) / 1000;
  plane.places = book.spots(present()?.on ?? []);
  look.update(sceneOf(watch, present(), true), present()?.mood ?? null, seconds, still);
  sharpness.fit(canvas, plane.widest, 0);
  const font = getComputedStyle(document.body).fontFamily;
  plane.draw(canvas, look, { light: book.light, transparent: true, seconds, font });
}
