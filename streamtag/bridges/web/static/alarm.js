// Notifications and a sound when a stream fails, if somebody asked for them.

const HOLD_MS = 3000; // a source that is back at once alarms nobody

/** @typedef {"notify" | "sound"} Kind */

export class Alarm {
  /** Since when each is bad, by name; NaN for what nobody needs to be told. */
  #bad = /** @type {Map<string, number>} */ (new Map());
  #fresh = true;

  /** @param {Kind} kind */
  isOn(kind) {
    return localStorage.getItem(`streamtag-${kind}`) === "on";
  }

  /** Switches one of them; returns whether it is on. @param {Kind} kind */
  async toggle(kind) {
    let on = !this.isOn(kind);
    if (on && kind === "notify") on = (await Notification.requestPermission()) === "granted";
    if (on && kind === "sound") this.#sound();
    localStorage.setItem(`streamtag-${kind}`, on ? "on" : "off");
    return on;
  }

  /** Two soft tones. */
  #sound() {
    new Audio(new URL("alarm.wav", import.meta.url).href).play().catch(() => {}); // forbidden here
  }

  /** Tells of what has been bad for a while; what was bad at first is known.
   * @param {Map<string, string>} bad what to say of each, by name
   * @param {number} now in milliseconds */
  update(bad, now) {
    for (const name of this.#bad.keys()) if (!bad.has(name)) this.#bad.delete(name);
    const added = [...bad.keys()].filter((name) => !this.#bad.has(name));
    for (const name of added) this.#bad.set(name, this.#fresh ? NaN : now);
    this.#fresh = false;
    const news = [...bad].filter(([name]) => now - (this.#bad.get(name) ?? NaN) >= HOLD_MS);
    for (const [name, body] of news) {
      this.#bad.set(name, NaN);
      const wanted = this.isOn("notify") && Notification.permission === "granted";
      if (wanted) new Notification(name, { body, tag: name });
    }
    if (news.length && this.isOn("sound")) this.#sound();
  }
}
