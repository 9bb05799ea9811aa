// A generation as an async iterator: the module waits for the page before it goes on, and stops when the page does.

import { type LampyrisError, aborted, asError } from "./errors.js";

/** Runs a generation that hands its pieces to `emit` and goes on when that promises true. */
export type Run = (emit: (piece: string) => Promise<boolean>) => Promise<unknown>;

/** What the generator hears of: a piece, an error, or the end. */
type Heard = { piece: string } | { error: LampyrisError } | "end";

/** The pieces of a run, as they come. Leaving the loop, or the signal, stops it. */
export async function* pieces(run: Run, signal?: AbortSignal): AsyncGenerator<string, void, undefined> {
  if (signal?.aborted) throw aborted(signal);
  const heard: Heard[] = [];
  let wake = (): void => {};
  const hear = (what: Heard): void => {
    heard.push(what);
    wake();
  };
  /** Answers the module's question whether to go on. */
  let answer = (_goOn: boolean): void => {};
  let stopped = false;
  const stop = (): void => {
    stopped = true;
    answer(false);
  };
  const onAbort = (): void => {
    stop();
    wake();
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  const running = run(
    (piece) =>
      new Promise((resolve) => {
        if (stopped) return resolve(false);
        answer = resolve;
        hear({ piece });
      }),
  ).then(
    () => hear("end"),
    (thrown: unknown) => hear({ error: asError(thrown) }),
  );
  try {
    for (;;) {
      while (heard.length === 0 && !signal?.aborted) await new Promise<void>((resolve) => (wake = resolve));
      if (signal?.aborted) throw aborted(signal);
      const what = heard.shift();
      if (what === undefined || what === "end") return;
      if ("error" in what) throw what.error;
      yield what.piece;
      answer(true);
    }
  } finally {
    stop();
    signal?.removeEventListener("abort", onAbort);
    await running;
  }
}
