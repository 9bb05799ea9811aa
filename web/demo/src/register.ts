// Starts the service worker, which keeps the page and the bundled models for visits without a network, and says when it has them.

import { say } from "./ui.js";

/** Starts it in what was built for a server; the development server changes its files too often. */
export function offline(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  navigator.serviceWorker
    .register(new URL("offline.js", document.baseURI))
    .then(() => navigator.serviceWorker.ready)
    .then(() => say("offline", navigator.onLine ? "This page now works without a network." : "No network: this page works without it."))
    .catch(() => say("offline", "This browser keeps no pages for use without a network."));
}
