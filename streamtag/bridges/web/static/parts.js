// Parts of a page that the server writes as HTML.

import { ROOT, check, tokenOf } from "./feed.js";
import { formatTime } from "./settings.js";

/** Asks for a part; its moments get the chosen zone and clock. No text may become elements on our
 * pages, but a whole document may come as such, and its scripts never run.
 * @param {string} name @param {Record<string, string>} [query] */
export async function askPart(name, query) {
  const lang = document.documentElement.dataset.chosen ?? "";
  const asked = new XMLHttpRequest();
  asked.open("GET", new URL(`part/${name}?${new URLSearchParams({ ...query, lang })}`, ROOT));
  if (tokenOf()) asked.setRequestHeader("Authorization", `Bearer ${tokenOf()}`);
  asked.responseType = "document";
  asked.send();
  await new Promise((done) => (asked.onloadend = done));
  check(asked.status);
  const { body } = /** @type {Document} */ (asked.response);
  for (const link of body.querySelectorAll("a")) link.hash = location.hash; // has the token
  for (const time of body.querySelectorAll("time")) {
    time.textContent = formatTime(Date.parse(time.dateTime), { timeStyle: "medium" });
  }
  return [...body.children];
}
