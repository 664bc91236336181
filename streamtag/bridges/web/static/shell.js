// What the pages of the desk share: requests, the banner, times.

import { all, byId, setText } from "./dom.js";
import { ROOT, request } from "./feed.js";
import { language } from "./language.js";

// The page's own links keep the token behind #.
for (const link of all("a[href]")) /** @type {HTMLAnchorElement} */ (link).hash = location.hash;

/** @param {string} name of a stream */
export function streamLink(name) {
  const url = new URL(`stream/${encodeURIComponent(name)}`, ROOT);
  url.hash = location.hash; // perhaps with the token
  return url.href;
}

/** What the server answers as JSON.
 * @param {string} path @param {Record<string, string> | URLSearchParams} [query] */
export async function ask(path, query) {
  return (await request(`${path}?${new URLSearchParams(query)}`)).json();
}

/** Why the page is not live; empty if it is. @param {string} words */
export function showBanner(words) {
  setText(byId("banner"), words);
  byId("banner").hidden = !words;
  document.body.classList.toggle("stale", words !== "");
}

/** How long ago something was, in one unit. @param {number} at in ms since 1970 */
export function ago(at) {
  const seconds = Math.max(0, Math.round((Date.now() - at) / 1000));
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return language.text("desk_seconds", { n: seconds });
  if (seconds < 172_800) return language.duration(Math.floor(seconds / 60));
  return language.text("desk_days", { n: Math.floor(seconds / 86_400) });
}
