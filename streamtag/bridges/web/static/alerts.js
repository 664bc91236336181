// The alerts that are raised, above the table of the desk.

import { send } from "./feed.js";
import { ago, byId, element, linkTo, setText } from "./shell.js";

/** @typedef {{id: string, alert: string, severity: string, streams: string[], detail: string, utc: string, acknowledged_by: string}} Alert */

export const ALERT_TYPES = ["alert_raised", "alert_cleared", "alert_acknowledged"];
const MOST_STREAMS = 4; // named in a line

export class Alerts {
  #raised = /** @type {Map<string, Alert>} */ (new Map());
  #mayAcknowledge = false;
  #shown = "";

  /** @param {import("./language.js").Language} language */
  constructor(language) {
    this.language = language;
    byId("alerts").ariaLabel = language.text("alerts");
  }

  /** The alerts that nobody has acknowledged, and what they say, by name. */
  get news() {
    const open = [...this.#raised.values()].filter((one) => !one.acknowledged_by);
    return new Map(open.map((one) => [one.alert, one.detail]));
  }

  /** @param {boolean} may whether this person may acknowledge alerts */
  allow(may) {
    this.#mayAcknowledge = may;
  }

  /** Takes over those of the event `state`. @param {Alert[]} alerts */
  replace(alerts) {
    this.#raised = new Map(alerts.map((one) => [one.id, one]));
  }

  /** Applies a message of the feed. @param {any} m */
  update(m) {
    const known = this.#raised.get(m.id);
    if (m.type === "alert_raised") this.#raised.set(m.id, { ...m, acknowledged_by: "" });
    else if (known && m.type === "alert_acknowledged") known.acknowledged_by = m.by;
    else if (known && m.remaining.length) known.streams = m.remaining;
    else this.#raised.delete(m.id);
  }

  /** Those that nobody has acknowledged come first, then the newest. */
  draw() {
    const order = (/** @type {Alert} */ a, /** @type {Alert} */ b) => Number(Boolean(a.acknowledged_by)) - Number(Boolean(b.acknowledged_by)) || b.utc.localeCompare(a.utc);
    const alerts = [...this.#raised.values()].sort(order);
    const list = byId("alerts");
    list.hidden = !alerts.length;
    const shown = JSON.stringify([alerts, this.#mayAcknowledge]);
    if (shown !== this.#shown) list.replaceChildren(...alerts.map((one) => this.#line(one)));
    this.#shown = shown;
    alerts.forEach(({ utc }, i) => setText(/** @type {Element} */ (list.children[i].querySelector("small")), ago(this.language, Date.parse(utc))));
  }

  /** @param {Alert} alert */
  #line(alert) {
    const text = (/** @type {string} */ key) => this.language.text(key);
    const line = element("li", alert.acknowledged_by ? "seen" : alert.severity);
    const name = element("b");
    name.append(Object.assign(element("a", "", alert.alert), { href: linkTo("alerts") }));
    line.append(name, element("span", "detail", alert.detail));
    for (const stream of alert.streams.slice(0, MOST_STREAMS)) {
      line.append(Object.assign(element("a", "", stream), { href: linkTo(`stream/${encodeURIComponent(stream)}`) }));
    }
    const more = alert.streams.length - MOST_STREAMS;
    if (more > 0) line.append(element("span", "", `+ ${more}`));
    line.append(element("small"));
    if (alert.acknowledged_by) line.append(element("span", "by", `${text("alerts_seen")} ${alert.acknowledged_by}`));
    else if (this.#mayAcknowledge) {
      const button = element("button", "", text("alerts_ack"));
      button.ariaLabel = `${text("alerts_ack")}: ${alert.alert}`;
      button.addEventListener("click", () => {
        button.disabled = true; // until the daemon's message comes
        send("POST", "api/control", { command: "ack", alert: alert.id }).then(({ status }) => (button.disabled = status === 200), () => (button.disabled = false));
      });
      line.append(button);
    }
    return line;
  }
}
