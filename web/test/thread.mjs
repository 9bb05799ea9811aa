// How long the main thread of a page is kept: Chromium's trace of its tasks, by the time that the thread itself was at work.

import assert from "node:assert/strict";
import { away, watch } from "./stalls.mjs";

/** Milliseconds of processor time that one task may keep the main thread. */
export const LONGEST = 8;

/** The events of Chromium's trace while `work` runs, and what it gives. */
async function traced(client, categories, work) {
  const events = [];
  const collect = ({ value }) => events.push(...value);
  client.on("Tracing.dataCollected", collect);
  const complete = new Promise((resolve) => client.once("Tracing.tracingComplete", resolve));
  await client.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: categories } });
  try {
    const result = await work();
    return { events, result };
  } finally {
    await client.send("Tracing.end");
    await complete;
    client.off("Tracing.dataCollected", collect);
  }
}

/**
 * The longest tasks of a page's main thread while `work` runs, by the time that the thread itself was at work: the browser's own pages, other
 * programs, the software adapter's threads and a host that takes the processor away are not the package's doing. In milliseconds, longest first.
 */
export async function tasks(page, work) {
  const client = page.client ?? (await page.context().newCDPSession(page));
  let mark;
  // A page of a busy machine may hear only later that it is traced.
  for (let tries = 0; !mark && tries < 20; tries++) {
    const { events } = await traced(client, ["blink.user_timing"], () => page.evaluate(() => void performance.mark("measured")));
    mark = events.find(({ name }) => name === "measured");
  }
  assert.ok(mark, "no trace shows what the page marked");
  const { pid, tid } = mark;
  const stop = await watch(tid);
  let stalls = [];
  const { events, result } = await traced(client, ["toplevel", "disabled-by-default-devtools.timeline", "v8"], work).finally(async () => {
    stalls = await stop();
    await client.detach();
  });
  const found = events.filter((event) => event.pid === pid && event.tid === tid && /RunTask$/.test(event.name));
  const times = found.map(({ ts, dur, tdur = dur }) => {
    const lost = away({ ts, dur, tdur }, stalls);
    return { ms: (tdur - lost) / 1000, lost: lost / 1000, wall: dur / 1000 };
  });
  return { times: times.sort((a, b) => b.ms - a.ms), result };
}

/** Says the longest tasks of `what`, and gives the milliseconds of the longest. */
export function longest(what, { times }) {
  assert.ok(times.length > 10, `the trace of ${what} shows ${times.length} tasks`);
  const show = ({ ms, wall }) => `${ms.toFixed(1)} (${wall.toFixed(1)})`;
  const lost = times.filter((task) => task.lost > 0).map((task) => task.lost);
  const without = lost.length > 0 ? `; ${lost.length} lost up to ${Math.max(...lost).toFixed(1)} ms to a processor that was away` : "";
  console.log(`${what}: longest tasks ${times.slice(0, 5).map(show).join(", ")} ms of the thread (of the clock), of ${times.length}${without}`);
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
