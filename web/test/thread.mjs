// How long the main thread of a page is kept: Chromium's trace of its tasks, by the time that the thread itself was at work.

import assert from "node:assert/strict";

/** Milliseconds of processor time that one task may keep the main thread. */
export const LONGEST = 8;

/**
 * The longest tasks of the pages' main threads while `work` runs, by the time that the thread itself was at work: other programs and
 * the software adapter's threads, which take the cores from it, are not the package's doing. In milliseconds, longest first.
 */
export async function tasks(page, work) {
  const session = await page.context().newCDPSession(page);
  const events = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
  const complete = new Promise((resolve) => session.once("Tracing.tracingComplete", resolve));
  await session.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["toplevel", "disabled-by-default-devtools.timeline", "v8"] } });
  const result = await work();
  await session.send("Tracing.end");
  await complete;
  await session.detach();
  const mains = new Set(events.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain").map(({ pid, tid }) => `${pid} ${tid}`));
  const found = events.filter(({ name, pid, tid }) => /RunTask$/.test(name) && mains.has(`${pid} ${tid}`));
  const times = found.map(({ tdur, dur }) => ({ ms: (tdur ?? dur) / 1000, wall: dur / 1000 })).sort((a, b) => b.ms - a.ms);
  return { times, result };
}

/** Says the longest tasks of `what`, and gives the milliseconds of the longest. */
export function longest(what, { times }) {
  assert.ok(times.length > 10, `the trace of ${what} shows ${times.length} tasks`);
  const show = ({ ms, wall }) => `${ms.toFixed(1)} (${wall.toFixed(1)})`;
  console.log(`${what}: longest tasks ${times.slice(0, 5).map(show).join(", ")} ms of the thread (of the clock), of ${times.length}`);
  return times[0].ms;
}

/**
 * Measures until two of at most three measurements of each figure keep to the limit, or two do not: what a page does comes again each
 * time, its garbage and a busy machine do not. Gives each figure's second lowest, which of three is the middle one.
 */
export async function twice(measure) {
  const all = [];
  const second = (at) => all.map((figures) => figures[at]).sort((a, b) => a - b)[1];
  const held = () => all[0].map((_, at) => second(at));
  do all.push(await measure());
  while (all.length < 2 || (all.length < 3 && held().some((ms) => ms > LONGEST)));
  return held();
}
