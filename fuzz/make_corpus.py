"""Writes the small files that fuzzing starts from: `python3 make_corpus.py`, standard library only."""

import json
import math
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"
# Chat templates with a conversation behind each, and what stopped the engine that runs them once or could.
TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' }}{% endfor %}",
    "namespace": "{%- set ns = namespace(n=0, t='') -%}{%- for m in messages if m.role == 'user' -%}"
    "{%- set ns.n = ns.n + 1 -%}{%- set ns.t = ns.t ~ m.content|trim -%}{%- endfor -%}{{ ns.n * 2 }}{{ ns.t }}",
    "cuts": "{{ messages[::-1]|length }}{{ messages[0].content[1:-1] }}{{ 'c' is in messages[0].content[1:] }}",
    "tests": "{{ messages[0].content is string and messages is not none }}{{ 2 * 1e-5 }}{{ -messages|length }}",
    "macro": "{% macro f(a, b=1) %}{{ a ~ b }}{% endmacro %}{% for m in messages %}{{ f(m.role, b=loop.index) }}{% endfor %}",
    "lists": "{% set a, b = [1, 'x'], {'k': messages} %}{{ a + [b|tojson(indent=2)] }}{{ b.items()|list|length }}",
    "filters": "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join(', ')|upper }}",
    "raw": "{# a #}{% raw %}{{ b }}{%- endraw +%}{% set c | trim %} d {% endset %}{{ c[0] }}{% if c %}{% elif a %}{% endif %}",
    "nothing": "{{ 'abc'.count('') }}{{ ''[::-1] }}{{ 'abc'[1:3:-1] }}{{ range(3, 0, -1)|list }}",
}
# Numbers of the value types of GGUF, with struct's letters for those of fixed size.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def text(value):
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(kind, content):
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        inner, items = content
        return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, item) for item in items)
    return struct.pack("<" + SCALARS[kind], content)


def gguf(entries, tensors, version=3, alignment=32):
    """A file of `entries` (key, type, value) and `tensors` (name, dimensions innermost first, type, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    for key, kind, content in entries:
        out += text(key) + struct.pack("<I", kind) + value(kind, content)
    data = b""
    for name, dimensions, kind, content in tensors:
        data += b"\0" * (-len(data) % alignment)
        out += text(name) + struct.pack("<I", len(dimensions))
        out += b"".join(struct.pack("<Q", size) for size in dimensions) + struct.pack("<IQ", kind, len(data))
        data += content
    return out + b"\0" * (-len(out) % alignment) + data


def model(vocabulary, entries):
    """A decoder of one layer with two heads of four columns over noughts, and `vocabulary` tokens."""
    sizes = {"block_count": 1, "context_length": 32, "embedding_length": 8, "feed_forward_length": 8}
    heads = {"attention.head_count": 2, "attention.head_count_kv": 1}
    said = [("general.architecture", STRING, "llama"), ("llama.attention.layer_norm_rms_epsilon", 6, 1e-5)]
    said += [(f"llama.{key}", 4, size) for key, size in (sizes | heads).items()]
    shapes = {"token_embd": [8, vocabulary], "output_norm": [8]}
    layer = {"attn_norm": [8], "attn_q": [8, 8], "attn_k": [8, 4], "attn_v": [8, 4], "attn_output": [8, 8], "ffn_norm": [8]}
    layer |= {"ffn_gate": [8, 8], "ffn_up": [8, 8], "ffn_down": [8, 8]}
    shapes |= {f"blk.0.{name}": shape for name, shape in layer.items()}
    tensors = [(f"{name}.weight", shape, 0, bytes(4 * math.prod(shape))) for name, shape in shapes.items()]
    return gguf(said + [(f"tokenizer.{key}", kind, content) for key, kind, content in entries], tensors)


def models():
    """A vocabulary of SentencePiece's kind and one of bytes with merges, each with a template."""
    letters = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a", "l", "m", "p", "\u2581a"]
    kinds = [2, 3, 3, 6] + [1] * 6
    template = ("chat_template", STRING, TEMPLATES["chatml"])
    scored = [
        ("ggml.model", STRING, "llama"),
        ("ggml.tokens", ARRAY, (STRING, letters)),
        ("ggml.scores", ARRAY, (6, [-float(at) for at in range(10)])),
        ("ggml.token_type", ARRAY, (5, kinds)),
        ("ggml.bos_token_id", 4, 1),
        ("ggml.eos_token_id", 4, 2),
        template,
    ]
    joined = ["<|end|>", "a", "l", "m", "p", "\u0120", "am", "\u0120l"]
    merged = [
        ("ggml.model", STRING, "gpt2"),
        ("ggml.pre", STRING, "gpt-2"),
        ("ggml.tokens", ARRAY, (STRING, joined)),
        ("ggml.token_type", ARRAY, (5, [3] + [1] * 7)),
        ("ggml.merges", ARRAY, (STRING, ["a m", "\u0120 l"])),
        ("ggml.eos_token_id", 4, 0),
        template,
    ]
    return {"model/scored": model(10, scored), "model/merged": model(8, merged)}


def safetensors(header, data):
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def main():
    every = [(f"k{kind}", kind, 1) for kind in SCALARS] + [
        ("text", STRING, "a\0b"),
        ("texts", ARRAY, (STRING, ["a", "", "bc"])),
        ("nested", ARRAY, (ARRAY, [(4, [1, 2]), (STRING, ["x"]), (0, [])])),
    ]
    blocks = [("f32", [2], 0, bytes(8)), ("q4_0", [32, 2], 2, bytes(36)), ("q6_k", [256], 14, bytes(210))]
    split = [("split.no", 2, 0), ("split.count", 2, 2), ("split.tensors.count", 5, 0)]
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    half = {"dtype": "F16", "shape": [1, 1], "data_offsets": [8, 10]}
    files = {
        "gguf/empty": gguf([], []),
        "gguf/metadata": gguf(every, []),
        "gguf/tensors": gguf([], blocks),
        "gguf/version-2": gguf([("k", STRING, "v")], blocks[:1], version=2),
        "gguf/aligned": gguf([("general.alignment", 4, 64)], blocks[:2], alignment=64),
        "gguf/split": gguf(split, []),
        "safetensors/empty": safetensors({}, b""),
        "safetensors/one": safetensors({"a": entry}, bytes(8)),
        "safetensors/two": safetensors({"__metadata__": {"format": "pt"}, "a": entry, "b": half}, bytes(10)),
    }
    files |= models()
    for name, template in TEMPLATES.items():
        files[f"template/{name}"] = "\0".join([template, "Hello there", "General <|im_end|>", "\u00e9"]).encode()
    for name, content in files.items():
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
