// The alerts that are raised, above the table of the desk.

import { all, byId, copyOf, element, setText } from "./dom.js";
import { send } from "./feed.js";
import { ago, linkTo, streamLink } from "./shell.js";

export const ALERT_TYPES = ["alert_raised", "alert_cleared", "alert_acknowledged"];
const MOST_STREAMS = 4; // named in a line

export class Alerts {
  #raised = /** @type {Map<string, Alert>} */ (new Map());
  #shown = "";
  /** Whether this person may acknowledge alerts. */
  mayAcknowledge = false;

  /** @param {Language} language */
  constructor(language) {
    this.language = language;
  }

  /** The alerts that nobody has acknowledged, and what they say, by name. */
  get news() {
    const open = [...this.#raised.values()].filter((one) => !one.acknowledged_by);
    return new Map(open.map((one) => [one.alert, one.detail]));
  }

  /** Applies an event of the feed. @param {any} m */
  update(m) {
    const known = this.#raised.get(m.id);
    if (m.type === "state") this.#raised.clear();
    for (const one of m.alerts ?? []) this.#raised.set(one.id, one);
    if (m.type === "alert_raised") this.#raised.set(m.id, { ...m, acknowledged_by: "" });
    else if (known && m.type === "alert_acknowledged") known.acknowledged_by = m.by;
    else if (known && m.remaining?.length) known.streams = m.remaining;
    else if (m.type === "alert_cleared") this.#raised.delete(m.id);
  }

  /** Those that nobody has acknowledged come first, then the newest. */
  draw() {
    const seen = (/** @type {Alert} */ one) => Number(one.acknowledged_by !== "");
    const alerts = [...this.#raised.values()];
    alerts.sort((a, b) => seen(a) - seen(b) || b.utc.localeCompare(a.utc));
    const list = byId("alerts");
    list.hidden = !alerts.length;
    const shown = JSON.stringify([alerts, this.mayAcknowledge]);
    if (shown !== this.#shown) list.replaceChildren(...alerts.map((one) => this.#line(one)));
    this.#shown = shown;
    const times = all("small", list);
    alerts.forEach(({ utc }, i) => setText(times[i], ago(this.language, Date.parse(utc))));
  }

  /** @param {Alert} alert */
  #line({ id, alert, severity, streams, detail, acknowledged_by: by }) {
    const line = copyOf("alert");
    const [link, said, time, seen, button] = all("a, span, small, em, button", line);
    line.className = by ? "seen" : severity;
    Object.assign(link, { textContent: alert, href: linkTo("alerts") });
    said.textContent = detail;
    const named = streams.slice(0, MOST_STREAMS);
    time.before(...named.map((name) => element("a", { href: streamLink(name) }, name)));
    if (streams.length > named.length) time.before(`+ ${streams.length - named.length}`);
    seen.textContent = by && `${this.language.text("alerts_seen")} ${by}`;
    if (by || !this.mayAcknowledge) button.remove();
    button.textContent = this.language.text("alerts_ack");
    button.ariaLabel = `${button.textContent}: ${alert}`;
    button.onclick = () => acknowledge(id, /** @type {HTMLButtonElement} */ (button));
    return line;
  }
}

/** @param {string} alert @param {HTMLButtonElement} button disabled until the daemon's message */
async function acknowledge(alert, button) {
  button.disabled = true;
  const answer = await send("POST", "api/control", { command: "ack", alert }).catch(() => null);
  button.disabled = answer?.status === 200;
}
