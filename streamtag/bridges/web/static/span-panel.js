// What there is to say of a time in which a tag was on: its facts, its clip, its probability.

import { byId, colour, contextOf, element } from "./dom.js";
import { formatTime } from "./settings.js";
import { ask, linkTo } from "./shell.js";

const LONGEST_CLIP = 3_600_000;

/** @param {number} ms */
const iso = (ms) => new Date(ms).toISOString();
/** @param {number} ms */
const clock = (ms) => formatTime(ms, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Fills the panel below the time line.
 * @param {string} stream @param {import("./timeline.js").Row} row @param {Span} span
 * @param {TagBook} book */
export async function showSpan(stream, { tagger, tag, name, paint }, [begin, end], book) {
  const query = { stream, tag, from: iso(begin - 1000), to: iso(end + 1000) };
  const earlier = iso(begin - LONGEST_CLIP); // a clip that begins there may reach the span
  const [{ events }, { points }, { clips }] = await Promise.all([
    ask("api/history", { ...query, limit: "1000" }),
    ask("api/curve", { ...query, tagger }),
    ask("api/clips", { stream, from: earlier, to: iso(end) }),
  ]);
  const mine = /** @type {any[]} */ (events).filter((event) => event.tagger === tagger);
  const on = mine.find(({ type }) => type === "tag_on") ?? {};
  const offs = mine.filter(({ type }) => type === "tag_off");
  const peak = Math.max(on.probability ?? 0, ...offs.map((off) => off.peak));
  const times = offs.length > 1 ? `, ${offs.length} ×` : "";
  /** @type {Record<string, string>} */
  const facts = {
    stream_time: `${clock(begin)} – ${clock(end)}`,
    stream_length: `${((end - begin) / 1000).toFixed(1)} s${times}`,
    stream_peak: peak.toFixed(2),
    stream_threshold: book.about[tag]?.threshold.toFixed(2) ?? "",
    stream_model: [tagger, on.model].filter(Boolean).join(" · "),
    desk_column_title: on.title ?? "",
  };
  const list = Object.entries(facts).flatMap(([key, value]) =>
    value ? [element("dt", {}, book.language.text(key)), element("dd", {}, value)] : [],
  );
  const heard = /** @type {Clip[]} */ (clips).filter(
    ({ stage, utc, seconds }) => stage === "ready" && Date.parse(utc) + 1000 * seconds > begin,
  );
  const curve = points.length > 1 ? [drawCurve(points, book.threshold(tag), paint)] : [];
  const parts = [...heard.map(player), ...curve];
  byId("detail").replaceChildren(element("h3", {}, name), element("dl", {}, ...list), ...parts);
}

/** @param {Clip} clip */
function player({ id, event, seconds }) {
  const href = linkTo(`clip/${encodeURIComponent(id)}`);
  const audio = element("audio", { controls: true, preload: "none", src: href, ariaLabel: event });
  const link = element("a", { href, download: "" }, `${event}, ${seconds.toFixed(0)} s`);
  return element("p", { className: "clip" }, audio, link);
}

/** A tag's probability over time with its threshold.
 * @param {[number, number][]} points @param {number} threshold @param {string} paint */
function drawCurve(points, threshold, paint) {
  const canvas = element("canvas", { className: "curve", width: 720, height: 160 });
  const context = contextOf(canvas);
  const [begin, end] = [points[0][0], points[points.length - 1][0]];
  const y = (/** @type {number} */ p) => 152 - 144 * p;
  context.fillStyle = colour("quiet");
  context.fillRect(0, y(threshold), 720, 1.5);
  context.strokeStyle = paint;
  context.lineWidth = 3;
  context.lineJoin = "round";
  for (const [at, p] of points) context.lineTo((720 * (at - begin)) / (end - begin), y(p));
  context.stroke();
  return canvas;
}
