// What the address of a wall asks for.

const THEMES = /** @type {const} */ (["field", "constellation", "type"]);
const PARTS = ["mood", "genre", "instruments", "title"];

/** @typedef {ReturnType<typeof readOptions>} Options */

/** @param {URLSearchParams} query @param {string} stream */
export function readOptions(query, stream) {
  const asked = query.get("show")?.split(",").map((part) => part.trim()) ?? PARTS;
  const mode = query.get("mode");
  const prefersLight = matchMedia("(prefers-color-scheme: light)").matches;
  return {
    stream,
    theme: THEMES.find((one) => one === query.get("theme")) ?? "field",
    show: new Set(PARTS.filter((part) => asked.includes(part))),
    logo: query.get("logo") ?? "",
    light: mode === "light" || (mode === "auto" && prefersLight),
    transparent: query.get("background") === "transparent",
  };
}
