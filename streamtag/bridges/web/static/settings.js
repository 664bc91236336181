// What somebody chose for this browser, in a cookie: the server writes reports with it.

import { ROOT } from "./feed.js";

const COOKIE = "streamtag-settings";
const MODES = ["auto", "light", "dark"];
const OWN_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

const cookie = document.cookie.split("; ").find((one) => one.startsWith(`${COOKIE}=`));
const kept = new URLSearchParams(cookie?.slice(COOKIE.length + 1));

export const settings = {
  /** A code such as `de`; null for the browser's. */
  language: kept.get("lang") || null,
  mode: MODES.find((one) => one === kept.get("mode")) ?? "auto",
  /** A time zone's name; empty for the browser's. */
  zone: kept.get("own") ? "" : (kept.get("zone") ?? ""),
  /** `12`, `24`, or empty for what is usual in the language. */
  clock: kept.get("clock") ?? "",
};
showMode();

/** Keeps the settings for a year. The server gets the zone and the clock that are in use. */
export function keepSettings() {
  const { language, mode, zone, clock } = settings;
  const used = { lang: language ?? "", mode, zone: zone || OWN_ZONE, own: zone ? "" : "1", clock };
  const path = `path=${ROOT.pathname}; max-age=31536000; samesite=lax`;
  document.cookie = `${COOKIE}=${new URLSearchParams(used)}; ${path}`;
  showMode();
}

function showMode() {
  document.documentElement.dataset.mode = settings.mode;
}

/** A moment in the chosen zone and clock, in milliseconds since 1970.
 * @param {number} ms @param {Intl.DateTimeFormatOptions} [parts] by default hour and minute */
export function formatTime(ms, parts = { hour: "2-digit", minute: "2-digit" }) {
  const hour12 = settings.clock ? settings.clock === "12" : undefined;
  const options = { ...parts, hour12, timeZone: settings.zone || OWN_ZONE };
  return new Intl.DateTimeFormat(settings.language ?? undefined, options).format(ms);
}
