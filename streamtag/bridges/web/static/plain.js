// The pages that the server writes with forms of their own. Settings are kept in the browser.

import { keepSettings, settings } from "./settings.js";

document.addEventListener("submit", (event) => {
  const { sure, wait } = event.submitter?.dataset ?? {};
  if (sure && !confirm(sure)) event.preventDefault();
  for (const line of document.querySelectorAll("#trial")) line.textContent = wait ?? "";
});

document.getElementById("settings")?.addEventListener("change", (event) => {
  const field = /** @type {HTMLSelectElement} */ (event.target);
  Object.assign(settings, { [field.id]: field.value || (field.id === "language" ? null : "") });
  keepSettings();
  location.reload();
});
