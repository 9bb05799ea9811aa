// Starts the service worker, which keeps the page and the bundled models for visits without a network, and says when it has them.

import { say } from "./ui.js";

const NEWER = "A new version of this page is ready. It is used once every tab and window with this page is closed.";
const INCOMPLETE = "This page could not be kept for use without a network, for a file did not come or there is no room; reload it to try again.";

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
    .then((registration) => {
      const first = registration.installing ?? registration.waiting ?? registration.active;
      // Where the very first one fails, none is ever ready.
      const look = (): void => {
        if (registration.active === null && (first === null || first.state === "redundant")) say("offline", INCOMPLETE);
      };
      first?.addEventListener("statechange", look);
      look();
      return navigator.serviceWorker.ready;
    })
    .then((registration) => {
      say("offline", navigator.onLine ? "This page now works without a network." : "No network: this page works without it.");
      announce(registration);
    })
    .catch(() => say("offline", "This browser keeps no pages for use without a network."));
}
