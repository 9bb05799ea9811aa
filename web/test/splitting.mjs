// Cuts a model's one file into several, as it is published when it is large: safetensors into shards with an index, GGUF into parts.

/** The shards of a safetensors file and their index, by name. */
export function shards(file, count) {
  const length = Number(file.readBigUInt64LE(0));
  const { __metadata__, ...tensors } = JSON.parse(file.subarray(8, 8 + length).toString());
  const names = Object.keys(tensors).sort();
  const each = Math.ceil(names.length / count);
  const [made, map] = [{}, {}];
  for (let shard = 0; shard < count; shard += 1) {
    const name = `model-${String(shard + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.safetensors`;
    const [header, data] = [{}, []];
    let at = 0;
    for (const tensor of names.slice(shard * each, (shard + 1) * each)) {
      const [start, end] = tensors[tensor].data_offsets;
      data.push(file.subarray(8 + length + start, 8 + length + end));
      header[tensor] = { ...tensors[tensor], data_offsets: [at, at + end - start] };
      at += end - start;
      map[tensor] = name;
    }
    const text = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(text.length));
    made[name] = Buffer.concat([size, text, ...data]);
  }
  made["model.safetensors.index.json"] = Buffer.from(JSON.stringify({ metadata: {}, weight_map: map }));
  return made;
}

const ALIGNMENT = 32;
/** Bytes of GGUF's plain values, by type. */
const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];

/** Where a GGUF file's metadata and tensors are. */
function read(file) {
  let at = 8;
  const u32 = () => file.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const text = () => {
    const length = u64();
    return file.toString("utf8", at, (at += length));
  };
  const value = (type) => {
    if (type === 8) return void text();
    if (type !== 9) return void (at += SIZES[type]);
    const [of, length] = [u32(), u64()];
    for (let i = 0; i < length; i += 1) value(of);
  };
  const [count, keys] = [u64(), u64()];
  const begin = at;
  for (let i = 0; i < keys; i += 1) {
    text();
    value(u32());
  }
  const metadata = file.subarray(begin, at);
  const tensors = [];
  for (let i = 0; i < count; i += 1) {
    const start = at;
    text();
    at += 8 * u32() + 4;
    tensors.push({ head: file.subarray(start, at), offset: u64() });
  }
  const data = Math.ceil(at / ALIGNMENT) * ALIGNMENT;
  const offsets = tensors.map(({ offset }) => offset).sort((a, b) => a - b);
  for (const tensor of tensors) {
    const end = offsets[offsets.indexOf(tensor.offset) + 1] ?? file.length - data;
    tensor.bytes = file.subarray(data + tensor.offset, data + end);
  }
  return { keys, metadata, tensors };
}

const number = (bytes, value) => {
  const made = Buffer.alloc(bytes);
  if (bytes === 8) made.writeBigUInt64LE(BigInt(value));
  else made.writeUIntLE(value, 0, bytes);
  return made;
};

/** A whole number of the metadata: of 16 bits, type 2, or of 32, type 5. */
const entry = (key, bytes, value) => Buffer.concat([number(8, key.length), Buffer.from(key), number(4, bytes === 2 ? 2 : 5), number(bytes, value)]);

const padded = (bytes) => Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);

/** The parts of a GGUF file, by name. The first has the metadata. */
export function parts(file, stem, count) {
  const { keys, metadata, tensors } = read(file);
  const each = Math.ceil(tensors.length / count);
  const made = {};
  for (let part = 0; part < count; part += 1) {
    const split = [entry("split.no", 2, part), entry("split.count", 2, count), entry("split.tensors.count", 4, tensors.length)];
    const own = tensors.slice(part * each, (part + 1) * each);
    const head = [Buffer.from("GGUF"), number(4, 3), number(8, own.length), number(8, split.length + (part === 0 ? keys : 0)), ...split];
    if (part === 0) head.push(metadata);
    const data = [];
    let offset = 0;
    for (const tensor of own) {
      head.push(tensor.head, number(8, offset));
      const bytes = padded(tensor.bytes);
      data.push(bytes);
      offset += bytes.length;
    }
    const name = `${stem}-${String(part + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.gguf`;
    made[name] = Buffer.concat([padded(Buffer.concat(head)), ...data]);
  }
  return made;
}
