// Makes what joins the module and its scripts small: short names for what each takes from the other, and the joints as arrows.

import { leb, section, written } from "./wasm.mjs";

/** `a`, `b`, to `Z`, `aa` and so on. */
function short(number) {
  const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  return (number >= letters.length ? short(Math.floor(number / letters.length) - 1) : "") + letters[number % letters.length];
}

const text = (bytes, at) => {
  const [length, start] = leb(bytes, at);
  return [bytes.toString("utf8", start, start + length), start + length];
};

const named = (name) => Buffer.concat([written(Buffer.byteLength(name)), Buffer.from(name)]);

/** Gives imports and exports the names that `rename` says. */
function renamed(module, rename) {
  const parts = [module.subarray(0, 8)];
  for (let at = 8; at < module.length; ) {
    const [id, begin] = [module[at], at];
    const [size, start] = leb(module, at + 1);
    at = start + size;
    if (id !== 2 && id !== 7) {
      parts.push(module.subarray(begin, at));
      continue;
    }
    let [count, place] = leb(module, start);
    const body = [written(count)];
    for (; count > 0; count -= 1) {
      let name;
      let from = place;
      if (id === 2) {
        [, place] = text(module, place);
        body.push(module.subarray(from, place));
      }
      [name, place] = text(module, place);
      body.push(named(rename(name)));
      from = place;
      const kind = module[place++];
      if (id === 7) [, place] = leb(module, place);
      else if (kind === 0) [, place] = leb(module, place);
      else throw new Error(`${name} is imported and no function`);
      body.push(module.subarray(from, place));
    }
    parts.push(section(id, Buffer.concat(body)));
  }
  return Buffer.concat(parts);
}

/** Module and glue with short names between them. What the glue does is what it did. */
export function shrunk(module, glue) {
  const names = new Map();
  const rename = (name) => {
    // The memory, and what is short already.
    if (!/^_|_/.test(name)) return name;
    if (!names.has(name)) names.set(name, `$${short(names.size)}`);
    return names.get(name);
  };
  const made = renamed(module, rename);
  // As a property of what is exported, or a key of what is imported.
  let script = glue.replace(/(?<=wasm\.|^ {8})\w+/gm, (name) => names.get(name) ?? name);
  // A function that catches needs `arguments` no more than the others.
  script = script.replace(
    /function\(\) \{ return handleError\(function \(([^)]*)\) \{\n([\s\S]*?)\n        \}, arguments\); \}/g,
    (_, parameters, body) => `caught((${parameters}) => {\n${body}\n        })`,
  );
  script = script.replace(/^(        [$\w]+): function\(([^)]*)\) \{/gm, (_, key, parameters) => `${key}: (${parameters}) => {`);
  script += "\nconst caught = (f) => (...args) => handleError(f, args);\n";
  const left = [...names.keys()].find((name) => new RegExp(`wasm\\.${name}\\b|^ {8}${name}:`, "m").test(script));
  if (left !== undefined) throw new Error(`the glue still speaks of ${left}`);
  return { module: made, script };
}
