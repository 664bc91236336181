// What somebody chose on the page of settings; the server writes it into each page.

const { lang = "", zone, clock } = document.documentElement.dataset;

/** A moment in the chosen zone and clock, in milliseconds since 1970.
 * @param {number} ms @param {Intl.DateTimeFormatOptions} [parts] by default hour and minute */
export function formatTime(ms, parts = { hour: "2-digit", minute: "2-digit" }) {
  const hour12 = clock ? clock === "12" : undefined;
  const options = { ...parts, hour12, timeZone: zone || undefined };
  return new Intl.DateTimeFormat(lang || undefined, options).format(ms);
}
