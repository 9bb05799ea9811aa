// Starts the service worker, which keeps the page and the bundled models for visits without a network, and says when it has them.

import { say } from "./ui.js";

const NEWER = "A new version of this page is ready. It is used once every tab and window with this page is closed.";

/** Says when a newer version waits for the pages of this one to be closed. */
function announce(registration: ServiceWorkerRegistration): void {
  const look = (): void => {
    if (registration.waiting !== null) say("offline", NEWER);
  };
  const watch = (): void => registration.installing?.addEventListener("statechange", look);
  registration.addEventListener("updatefound", watch);
  watch();
  look();
}

/** Starts it in what was built for a server; the development server changes its files too often. */
export function offline(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  navigator.serviceWorker
    .register(new URL("offline.js", document.baseURI))
    .then(() => navigator.serviceWorker.ready)
    .then((registration) => {
      say("offline", navigator.onLine ? "This page now works without a network." : "No network: this page works without it.");
      announce(registration);
    })
    .catch(() => say("offline", "This browser keeps no pages for use without a network."));
}
