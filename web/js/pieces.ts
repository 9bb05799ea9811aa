// A generation as an async iterator: the module waits for the page before it goes on, and stops when the page does.

import { type LampyrisError, aborted, asError } from "./errors.js";

/** Runs a generation that hands its pieces to `emit` and goes on when that promises true. */
export type Run = (emit: (piece: string) => Promise<boolean>) => Promise<unknown>;

/** What the generator hears of: a piece, an error, or the end. */
type Heard = { piece: string } | { error: LampyrisError } | "end";

/** The pieces of a run, as they come. Leaving the loop, or any of the signals, stops it. */
export async function* pieces(run: Run, ...signals: (AbortSignal | undefined)[]): AsyncGenerator<string, void, undefined> {
  const said = (): AbortSignal | undefined => signals.find((signal) => signal?.aborted);
  const check = (): void => {
    const signal = said();
    if (signal !== undefined) throw aborted(signal);
  };
  check();
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
  for (const signal of signals) signal?.addEventListener("abort", onAbort, { once: true });
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
      while (heard.length === 0 && said() === undefined) await new Promise<void>((resolve) => (wake = resolve));
      check();
      const what = heard.shift();
      if (what === undefined || what === "end") return;
      if ("error" in what) throw what.error;
      yield what.piece;
      answer(true);
    }
  } finally {
    stop();
    for (const signal of signals) signal?.removeEventListener("abort", onAbort);
    await running;
  }
}
