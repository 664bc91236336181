// What a screen needs that nobody touches.

const ASK_AGAIN_MS = 10_000;

/** Keeps the screen awake while the page is seen, over HTTPS or on the same machine. */
export function keepAwake() {
  const ask = async () => {
    if (document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
    try {
      const lock = await navigator.wakeLock.request("screen");
      lock.addEventListener("release", () => setTimeout(ask, ASK_AGAIN_MS), { once: true });
    } catch {
      // refused by the system, as on a low battery; asked again when the page is seen again
    }
  };
  document.addEventListener("visibilitychange", ask);
  ask();
}

/** A click or the key f takes the whole screen. */
export function allowFullScreen() {
  const enter = () => document.documentElement.requestFullscreen?.().catch(() => {});
  document.addEventListener("click", enter);
  document.addEventListener("keydown", ({ key }) => key === "f" && enter());
}

const SLOW_FRAME = 0.03; // seconds: below 33 frames a second the picture gets coarser
const QUICK_FRAME = 0.02;
const LONGEST_FRAME = 0.2; // a page that was hidden for an hour has not been slow
const FRAMES = 45;
const COARSEST = 0.2;
const STEP = 0.75;
const PATIENCE = 40; // groups of quick frames before the picture gets finer again

/** Sizes a canvas, and makes it coarser where frames take too long. */
export class Sharpness {
  #share = 1;
  #frames = 0;
  #seconds = 0;
  #quick = 0;
  #patience = PATIENCE;

  /** @param {HTMLCanvasElement} canvas @param {number} widest pixels of the longer side, at most
   * @param {number} seconds since the last frame */
  fit(canvas, widest, seconds) {
    this.#frames += 1;
    this.#seconds += Math.min(seconds, LONGEST_FRAME);
    if (this.#frames === FRAMES) {
      this.#judge(this.#seconds / FRAMES);
      this.#frames = this.#seconds = 0;
    }
    const { clientWidth, clientHeight } = canvas;
    const longer = Math.max(1, devicePixelRatio * Math.max(clientWidth, clientHeight));
    const scale = devicePixelRatio * Math.min(1, widest / longer) * this.#share;
    const width = Math.max(2, Math.round(clientWidth * scale));
    const height = Math.max(2, Math.round(clientHeight * scale));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }

  /** @param {number} seconds per frame */
  #judge(seconds) {
    this.#quick = seconds < QUICK_FRAME ? this.#quick + 1 : 0;
    if (seconds > SLOW_FRAME && this.#share > COARSEST) {
      this.#share = Math.max(COARSEST, STEP * this.#share);
      this.#patience *= 2; // so that it does not go to and fro
    } else if (this.#quick >= this.#patience && this.#share < 1) {
      this.#share = Math.min(1, this.#share / STEP);
      this.#quick = 0;
    }
  }
}
