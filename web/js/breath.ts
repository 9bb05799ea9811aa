// How work on the page's thread stands back, so that the page can draw and answer.

/** Lets the page draw and answer before the next piece of work. */
export function breath(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
