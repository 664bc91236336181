// What the pages of the desk share: links, texts, the banner, times.

import { all, byId, setText } from "./dom.js";
import { ROOT, request, tokenOf } from "./feed.js";

/** An address of this server; a token behind # goes along. @param {string} path */
export function linkTo(path) {
  const url = new URL(path, ROOT);
  if (tokenOf()) url.hash = `token=${encodeURIComponent(tokenOf())}`;
  return url.href;
}

/** @param {string} name of a stream */
export const streamLink = (name) => linkTo(`stream/${encodeURIComponent(name)}`);

/** What the server answers as JSON.
 * @param {string} path @param {Record<string, string> | URLSearchParams} [query] */
export async function ask(path, query) {
  return (await request(`${path}?${new URLSearchParams(query)}`)).json();
}

/** The stream that the page's address names, such as `wall/room`. */
export const streamOfAddress = () =>
  decodeURIComponent(location.pathname.slice(ROOT.pathname.length).split("/")[1] ?? "");

/** Fills in the page's own links. @param {string} [stream] */
export function furnish(stream = "") {
  for (const one of all("a[data-path]")) {
    const path = one.dataset.path?.replace("STREAM", encodeURIComponent(stream)) ?? "";
    one.setAttribute("href", linkTo(path));
  }
}

/** Why the page is not live; empty if it is. @param {string} words */
export function showBanner(words) {
  setText(byId("banner"), words);
  byId("banner").hidden = !words;
  document.body.classList.toggle("stale", words !== "");
}

/** How long ago something was, in one unit. @param {Language} language @param {number} at in ms */
export function ago(language, at) {
  const seconds = Math.max(0, Math.round((Date.now() - at) / 1000));
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return language.text("desk_seconds", { n: seconds });
  if (seconds < 172_800) return language.duration(Math.floor(seconds / 60));
  return language.text("desk_days", { n: Math.floor(seconds / 86_400) });
}

/** Tries until it works, also while the server just starts.
 * @template T @param {() => Promise<T>} load */
export async function patiently(load) {
  for (;;) {
    try {
      return await load();
    } catch {
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}
