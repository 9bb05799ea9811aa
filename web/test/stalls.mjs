// Finds when a processor was away from the whole machine, as under a host of many virtual machines, so that no program is charged with it.

import { spawn, spawnSync } from "node:child_process";
import { writeSync } from "node:fs";
import { availableParallelism } from "node:os";

/** Milliseconds from one look at the clock to the next, and of lateness from which a look counts as a stall. */
const EVERY = 0.5;
const LATE = 1;

/** The processor that is watched, and all of them. */
const PROCESSOR = `${availableParallelism() - 1}`;
const PROCESSORS = `0-${PROCESSOR}`;

const keep = (thread, processors) => spawnSync("taskset", ["--cpu-list", "--pid", processors, `${thread}`]).status === 0;

/**
 * Keeps a thread on one processor, and watches that until the function is called that this gives. It gives the stalls as `[from, to]` in
 * microseconds of the monotonic clock, the one that Chromium's traces are in. The watch outranks every ordinary thread, so it is late where
 * its processor was not there, and where the kernel let nobody interrupt it. Where the machine allows none of this no stalls are seen, and that is said.
 */
export async function watch(thread) {
  if (!keep(thread, PROCESSOR)) {
    console.log("stalls of the machine count as work here, because no thread can be kept on one processor");
    return async () => [];
  }
  const child = spawn("chrt", ["--fifo", "50", "taskset", "--cpu-list", PROCESSOR, process.execPath, import.meta.filename, "looks"]);
  let [told, refused] = ["", ""];
  child.stderr.on("data", (more) => (refused += more));
  const ended = new Promise((resolve) => {
    child.once("error", ({ message }) => resolve(message));
    child.once("close", () => resolve(refused.trim()));
  });
  const began = new Promise((resolve) => {
    child.stdout.on("data", (more) => {
      told += more;
      resolve();
    });
  });
  const refusal = await Promise.race([began, ended]);
  if (refusal !== undefined) console.log(`stalls of the machine count as work here, because nothing may watch for them: ${refusal}`);
  return async () => {
    child.kill();
    await ended;
    keep(thread, PROCESSORS);
    const stalls = told.split("\n").slice(1, -1);
    return stalls.map((line) => line.split(" ").map(Number));
  };
}

/**
 * Microseconds of a task's processor time, `tdur`, in which its processor was away. What the task waited for, `dur - tdur`, may have been
 * the same stall and is not taken off twice.
 */
export function away({ ts, dur, tdur }, stalls) {
  const shared = stalls.map(([from, to]) => Math.max(0, Math.min(to, ts + dur) - Math.max(from, ts)));
  const overlap = shared.reduce((sum, part) => sum + part, 0);
  return Math.min(tdur, Math.max(0, overlap - (dur - tdur)));
}

function looks() {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const now = () => {
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1e6 + nanoseconds / 1e3;
  };
  const parent = process.ppid;
  writeSync(1, "begun\n");
  for (let due = now() + EVERY * 1e3; process.ppid === parent; due = now() + EVERY * 1e3) {
    Atomics.wait(cell, 0, 0, EVERY);
    const woken = now();
    if (woken - due > LATE * 1e3) writeSync(1, `${due} ${woken}\n`);
  }
}

if (process.argv[1] === import.meta.filename && process.argv[2] === "looks") looks();
