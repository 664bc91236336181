// The server's addresses, and what is asked of them.

/** The server's root, also behind a proxy's prefix. */
export const ROOT = new URL("../../", import.meta.url);

/** The token from `#token=…`, which stays in the browser; for screens where nobody signs in. */
export const tokenOf = () => new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

/** Goes to the page of the sign-in, and comes back to this one afterwards. */
export function goToSignIn() {
  const url = new URL("sign-in", ROOT);
  url.searchParams.set("next", location.href.slice(ROOT.href.length));
  location.assign(url);
}

/** @param {string} path behind the server's root @param {AbortSignal} [signal] */
export async function request(path, signal) {
  const headers = tokenOf() ? { Authorization: `Bearer ${tokenOf()}` } : undefined;
  const response = await fetch(new URL(path, ROOT), { headers, signal, cache: "no-store" });
  check(response.status);
  return response;
}

/** Throws what the server answered, if that is an error. @param {number} status */
export function check(status) {
  if (status !== 200) throw Object.assign(new Error(`HTTP ${status}`), { status });
}
