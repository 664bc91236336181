// What the address of a wall asks for.

export const THEMES = /** @type {const} */ (["field", "constellation", "type"]);
const PARTS = ["mood", "genre", "instruments", "title"];

/** @param {URLSearchParams} query @param {string} path the address behind the server's root, such as `wall/room` */
export function readOptions(query, path) {
  const theme = THEMES.find((one) => one === query.get("theme")) ?? "field";
  const asked = (query.get("show") ?? PARTS.join(",")).split(",").map((part) => part.trim());
  const prefersLight = matchMedia("(prefers-color-scheme: light)").matches;
  const mode = query.get("mode");
  const name = path.split("/")[1] ?? "";
  return {
    stream: decodeURIComponent(name),
    theme,
    show: new Set(PARTS.filter((part) => asked.includes(part))),
    language: query.get("lang"),
    logo: query.get("logo") ?? "",
    light: mode === "light" || (mode === "auto" && prefersLight),
    transparent: query.get("background") === "transparent",
  };
}

/** @typedef {ReturnType<typeof readOptions>} Options */
