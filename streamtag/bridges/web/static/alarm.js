// Notifications and a sound when a stream fails, if somebody asked for them.

const HOLD_MS = 3000; // a source that is back at once alarms nobody

export class Alarm {
  #bad = /** @type {Map<string, number>} */ (new Map());
  #told = /** @type {Set<string>} */ (new Set());
  #fresh = true;

  /** @param {"notify" | "sound"} kind */
  isOn(kind) {
    return localStorage.getItem(`streamtag-${kind}`) === "on";
  }

  /** Switches one of them; returns whether it is on. @param {"notify" | "sound"} kind */
  async toggle(kind) {
    let on = !this.isOn(kind);
    if (on && kind === "notify") on = (await Notification.requestPermission()) === "granted";
    if (on && kind === "sound") beep();
    localStorage.setItem(`streamtag-${kind}`, on ? "on" : "off");
    return on;
  }

  /**
   * Tells of streams that have been bad for a while; those that were bad at first are known.
   * @param {Map<string, string>} bad what to say of each, by name
   * @param {number} now in milliseconds
   */
  update(bad, now) {
    for (const name of this.#bad.keys()) {
      if (bad.has(name)) continue;
      this.#bad.delete(name);
      this.#told.delete(name);
    }
    let rings = false;
    for (const [name, text] of bad) {
      if (!this.#bad.has(name)) this.#bad.set(name, this.#fresh ? -Infinity : now);
      const since = this.#bad.get(name) ?? now;
      if (this.#told.has(name) || now - since < HOLD_MS) continue;
      this.#told.add(name);
      if (since === -Infinity) continue;
      rings = true;
      if (this.isOn("notify") && Notification.permission === "granted") new Notification(name, { body: text, tag: name });
    }
    this.#fresh = false;
    if (rings && this.isOn("sound")) beep();
  }
}

/** Two soft tones. */
function beep() {
  const context = new AudioContext();
  const gain = context.createGain();
  gain.connect(context.destination);
  gain.gain.setValueAtTime(0.12, context.currentTime);
  gain.gain.exponentialRampToValueAtTime(0.001, context.currentTime + 0.6);
  [660, 495].forEach((frequency, i) => {
    const tone = new OscillatorNode(context, { frequency });
    tone.connect(gain);
    tone.start(context.currentTime + 0.18 * i);
    tone.stop(context.currentTime + 0.6);
  });
  setTimeout(() => context.close(), 1000);
}
