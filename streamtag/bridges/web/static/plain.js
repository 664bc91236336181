// The pages that the server writes with forms of their own.

document.addEventListener("submit", (event) => {
  const { sure, wait } = event.submitter?.dataset ?? {};
  if (sure && !confirm(sure)) event.preventDefault();
  for (const line of document.querySelectorAll("#trial")) line.textContent = wait ?? "";
});

const settings = /** @type {HTMLFormElement | null} */ (document.querySelector("form#settings"));
settings?.addEventListener("change", () => {
  settings.own.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  settings.requestSubmit();
});
