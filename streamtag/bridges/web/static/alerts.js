// The alerts that are raised, above the table of the desk. The server writes them.

import { all, byId, setText } from "./dom.js";
import { askPart } from "./parts.js";
import { ago } from "./shell.js";

export const ALERT_TYPES = ["alert_raised", "alert_cleared", "alert_acknowledged"];

export class Alerts {
  #list = byId("alerts");
  #shown = /** @type {string | null} */ (null);
  #old = false; // whether there are others by now
  #asking = false;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
  }

  get known() {
    return this.#shown !== null;
  }

  /** The alerts that nobody has acknowledged, and what they say, by name. */
  get news() {
    const open = all("li:not(.seen)", this.#list).map((line) => all("b, .detail", line));
    return new Map(open.map(([name, said]) => [name.textContent ?? "", said.textContent ?? ""]));
  }

  /** Asks for them, and once more if they change meanwhile. */
  async refresh() {
    this.#old = true;
    while (this.#old && !this.#asking) {
      this.#old = false;
      this.#asking = true;
      const lines = await askPart("alerts").catch(() => null); // asked again with the next state
      this.#asking = false;
      const text = lines?.map((line) => line.outerHTML).join("\n") ?? this.#shown;
      if (!lines || text === this.#shown) continue;
      this.#shown = text;
      this.#list.replaceChildren(...lines);
      this.onChange();
    }
  }

  /** Says how long ago they were raised. */
  draw() {
    this.#list.hidden = !this.#list.children.length;
    for (const time of all("time", this.#list)) {
      setText(time, ago(Date.parse(time.getAttribute("datetime") ?? "")));
    }
  }
}
