// Cuts a model's one file into several, as it is published when it is large (safetensors into shards with an index, GGUF into parts), and
// makes models that are large in one way only: a GGUF file of zeros that nobody has to keep, and a decoder of noise for any vocabulary.

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
    const dimensions = u32();
    at += 8 * dimensions + 4;
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

/** The metadata's 32-bit number of `key`, replaced. */
function set(metadata, key, value) {
  const made = Buffer.from(metadata);
  const at = made.indexOf(Buffer.concat([number(8, key.length), Buffer.from(key), number(4, 4)]));
  if (at < 0) throw new Error(`the file has no ${key}`);
  made.writeUInt32LE(value, at + 12 + key.length);
  return made;
}

/** A decoder of zeros with the vocabulary of `file`: what its file begins with, and the bytes of all of it. */
export function zeros(file, layers) {
  const [width, units, heads, vocabulary] = [1024, 4096, 16, 512];
  let { keys, metadata } = read(file);
  const numbers = { embedding_length: width, feed_forward_length: units, block_count: layers };
  Object.assign(numbers, { "attention.head_count": heads, "attention.head_count_kv": heads, "rope.dimension_count": width / heads });
  for (const [key, value] of Object.entries(numbers)) metadata = set(metadata, `llama.${key}`, value);
  const tensors = [["token_embd", vocabulary, width], ["output_norm", width]];
  for (let layer = 0; layer < layers; layer += 1) {
    const at = `blk.${layer}`;
    tensors.push([`${at}.attn_norm`, width], [`${at}.ffn_norm`, width]);
    for (const which of ["attn_q", "attn_k", "attn_v", "attn_output"]) tensors.push([`${at}.${which}`, width, width]);
    tensors.push([`${at}.ffn_gate`, units, width], [`${at}.ffn_up`, units, width], [`${at}.ffn_down`, width, units]);
  }
  let offset = 0;
  const infos = tensors.map(([name, ...shape]) => {
    const full = `${name}.weight`;
    const values = shape.reduce((product, extent) => product * extent, 1);
    // Matrices in blocks of 32 bytes with a scale of two, Q8_0; vectors in floats.
    const [type, bytes] = shape.length === 2 ? [8, (values / 32) * 34] : [0, values * 4];
    const extents = shape.toReversed().map((extent) => number(8, extent));
    const info = Buffer.concat([number(8, full.length), Buffer.from(full), number(4, shape.length), ...extents, number(4, type), number(8, offset)]);
    offset += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return info;
  });
  const head = padded(Buffer.concat([Buffer.from("GGUF"), number(4, 3), number(8, tensors.length), number(8, keys), metadata, ...infos]));
  return { head, size: head.length + offset };
}

/** A decoder of one small layer of noise for as many tokens as a tokenizer has: its `config.json` and `model.safetensors`. */
export function noise(vocabulary) {
  const [width, units, heads, pairs] = [64, 172, 8, 4];
  const matrices = { "embed_tokens": [vocabulary, width], "norm": [width] };
  const layer = {
    "input_layernorm": [width],
    "self_attn.q_proj": [width, width],
    "self_attn.k_proj": [(width / heads) * pairs, width],
    "self_attn.v_proj": [(width / heads) * pairs, width],
    "self_attn.o_proj": [width, width],
    "post_attention_layernorm": [width],
    "mlp.gate_proj": [units, width],
    "mlp.up_proj": [units, width],
    "mlp.down_proj": [width, units],
  };
  for (const [name, shape] of Object.entries(layer)) matrices[`layers.0.${name}`] = shape;
  const header = {};
  let at = 0;
  for (const [name, shape] of Object.entries(matrices)) {
    const bytes = 4 * shape.reduce((product, extent) => product * extent, 1);
    header[`model.${name}.weight`] = { dtype: "F32", shape, data_offsets: [at, at + bytes] };
    at += bytes;
  }
  const values = new Float32Array(at / 4);
  let state = 1;
  for (let i = 0; i < values.length; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2 ** 32 - 0.5;
  }
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: vocabulary,
    hidden_size: width,
    intermediate_size: units,
    num_hidden_layers: 1,
    num_attention_heads: heads,
    num_key_value_heads: pairs,
    max_position_embeddings: 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: "silu",
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  const text = Buffer.from(JSON.stringify(header));
  const weights = Buffer.concat([number(8, text.length), text, Buffer.from(values.buffer)]);
  return { "config.json": Buffer.from(JSON.stringify(config)), "model.safetensors": weights };
}
