// Puts functions of a module that are alike beside each other, because gzip sees no further back than 32 KiB: it does so by names, by which
// the optimizer then sorts.

import { leb, section, written } from "./wasm.mjs";

/** Bytes that are compared at once. */
const GRAM = 6;

/** Functions that are compared with the next one, and their bytes: gzip sees no more, and more were no better. */
const SIGHT = { functions: 40, bytes: 32 << 10 };

/** The runs of bytes of a function, each as a number. */
function grams(body) {
  const found = new Set();
  for (let at = 0; at + GRAM <= body.length; at += 1) {
    let hash = 2166136261;
    for (let i = 0; i < GRAM; i += 1) hash = Math.imul(hash ^ body[at + i], 16777619);
    found.add(hash >>> 0);
  }
  return found;
}

/** An order in which each function has most in common, for its length, with those before it that gzip still sees. */
function similar(bodies) {
  const all = bodies.map(grams);
  const having = new Map();
  for (const [place, set] of all.entries()) {
    for (const gram of set) {
      const places = having.get(gram);
      if (places === undefined) having.set(gram, [place]);
      // What is in hundreds of functions says nothing.
      else if (places.length < 400) places.push(place);
    }
  }
  const lengths = all.map((set) => (set.size + 4) ** 0.6);
  const [order, placed, common] = [[], new Uint8Array(bodies.length), new Int32Array(bodies.length)];
  // The functions in sight, and how many of them have each run.
  const [sight, seen] = [[], new Map()];
  let bytes = 0;
  const count = (gram, more) => {
    for (const place of having.get(gram)) common[place] += more;
  };
  const enter = (place) => {
    sight.push(place);
    bytes += bodies[place].length;
    for (const gram of all[place]) {
      const times = seen.get(gram) ?? 0;
      seen.set(gram, times + 1);
      if (times === 0) count(gram, 1);
    }
  };
  const leave = () => {
    const place = sight.shift();
    bytes -= bodies[place].length;
    for (const gram of all[place]) {
      const times = seen.get(gram) - 1;
      seen.set(gram, times);
      if (times === 0) count(gram, -1);
    }
  };
  for (let current = 0; order.push(current) < bodies.length; ) {
    placed[current] = 1;
    enter(current);
    while (sight.length > SIGHT.functions || (sight.length > 1 && bytes > SIGHT.bytes)) leave();
    let [best, most] = [-1, 0];
    for (const [place, length] of lengths.entries()) {
      const share = common[place] / length;
      if (placed[place] === 0 && (best < 0 || share > most)) [best, most] = [place, share];
    }
    current = best;
  }
  return order;
}

/** The module with names for its functions that are in this order, and no other names. */
export function ordered(module) {
  const parts = [module.subarray(0, 8)];
  const bodies = [];
  let imports = 0;
  for (let at = 8; at < module.length; ) {
    const [id, begin] = [module[at], at];
    const [size, start] = leb(module, at + 1);
    at = start + size;
    // All custom ones, of names and producers.
    if (id !== 0) parts.push(module.subarray(begin, at));
    let [count, place] = leb(module, start);
    // Nothing but functions is imported, or the glue would not be made short.
    if (id === 2) imports = count;
    if (id !== 10) continue;
    for (; count > 0; count -= 1) {
      const [length, body] = leb(module, place);
      bodies.push(module.subarray(body, body + length));
      place = body + length;
    }
  }
  const digits = String(bodies.length).length;
  const names = [];
  const name = (index, text) => names.push([index, Buffer.from(text)]);
  for (let at = 0; at < imports; at += 1) name(at, `a${String(at).padStart(digits, "0")}`);
  for (const [rank, at] of similar(bodies).entries()) name(imports + at, `f${String(rank).padStart(digits, "0")}`);
  names.sort(([a], [b]) => a - b);
  const entries = names.flatMap(([index, text]) => [written(index), written(text.length), text]);
  const table = Buffer.concat([written(names.length), ...entries]);
  const title = Buffer.from("name");
  parts.push(section(0, Buffer.concat([written(title.length), title, section(1, table)])));
  return Buffer.concat(parts);
}
