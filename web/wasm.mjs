// Numbers and sections as WebAssembly's format writes them.

/** Reads a number; gives it and the place behind it. */
export function leb(bytes, at) {
  let [value, shift] = [0, 0];
  for (;;) {
    const byte = bytes[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
    shift += 7;
  }
}

/** Writes one. */
export function written(value) {
  const bytes = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value = Math.floor(value / 128);
  } while (value > 0);
  return Buffer.from(bytes);
}

/** A section, or a part of the one with the names. */
export const section = (id, body) => Buffer.concat([Buffer.from([id]), written(body.length), body]);
