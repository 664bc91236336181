// The pages of sign-in, settings and control, which the server writes: what their forms do.

import { ROOT, send } from "./feed.js";
import { keepSettings, settings } from "./settings.js";

const said = /** @type {HTMLElement} */ (document.getElementById("said"));

/** @param {string | undefined} text @param {boolean} [bad] */
function say(text, bad = false) {
  said.textContent = text ?? "";
  said.classList.toggle("bad", bad);
}

/** Sends a command and shows the page anew. @param {DOMStringMap} values with `command` */
async function run({ ...values }) {
  const { status, body } = await send("POST", "api/control", values);
  if (status !== 200) return say(body.error.got, true);
  say(said.dataset.done);
  setTimeout(() => location.reload(), 700);
}

/** @param {HTMLFormElement} form */
async function signIn(form) {
  const inputs = [...form.querySelectorAll("input")].map(({ id, value }) => [id, value]);
  const { token, name } = Object.fromEntries(inputs);
  const { status, body } = await send("POST", "api/session", { token, name });
  if (status !== 200) return say(status === 429 ? form.dataset.wait : form.dataset.wrong, true);
  const enough = query.get("for") !== "control" || body.role === "controller";
  if (!enough) return say(form.dataset.reader, true);
  location.replace(goal());
}

const query = new URLSearchParams(location.search);
/** Where to go after the sign-in: never to another site. */
function goal() {
  const next = new URL(query.get("next") ?? "", ROOT);
  return next.href.startsWith(ROOT.href) ? next : ROOT;
}

const offline = () => say(said.dataset.offline, true);

document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form.id !== "sign-in" && !form.dataset.command) return; // asks the server for a page
  event.preventDefault();
  const values = /** @type {Record<string, string>} */ (Object.fromEntries(new FormData(form)));
  (form.id === "sign-in" ? signIn(form) : run({ ...values, ...form.dataset })).catch(offline);
});

document.addEventListener("click", (event) => {
  const button = event.target instanceof HTMLButtonElement ? event.target : null;
  const reload = () => location.reload();
  if (button?.id === "sign-out") send("DELETE", "api/session").then(reload, offline);
  if (button?.id === "try") tryOut(button).catch(offline);
  if (!button?.dataset.command || (button.dataset.sure && !confirm(button.dataset.sure))) return;
  const { sure, ...values } = button.dataset;
  run(values).catch(offline);
});

/** @param {HTMLButtonElement} button */
async function tryOut(button) {
  const line = /** @type {HTMLElement} */ (document.getElementById("trial"));
  const source = /** @type {HTMLInputElement} */ (document.getElementById("source")).value;
  line.textContent = line.dataset.wait ?? "";
  const { status, body } = await send("POST", "api/control", { command: "try", source });
  if (status !== 200) return (line.textContent = body.error.expected);
  const { seconds, cause, detail, rate, peak_dbfs: peak, title } = body.result;
  const level = peak === null ? "-∞ dBFS" : `${peak?.toFixed(1)} dBFS`;
  const heard = [`${button.dataset.good} ${rate} Hz`, level, title].filter(Boolean).join(" · ");
  line.textContent = seconds ? heard : `${button.dataset.bad} ${cause}: ${detail}`;
}

document.getElementById("settings")?.addEventListener("change", (event) => {
  const field = /** @type {HTMLSelectElement} */ (event.target);
  Object.assign(settings, { [field.id]: field.value || (field.id === "language" ? null : "") });
  keepSettings();
  location.reload();
});

const role = document.getElementById("sign-in")?.dataset.role;
const enough = role === "controller" || (role && query.get("for") !== "control");
if (enough && !query.get("again")) location.replace(goal());
