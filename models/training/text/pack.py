"""Makes the file that is shipped of the folder that train.py wrote: `lampyris quantize` to Q8_0, and how to choose tokens beside it.

    python models/training/text/pack.py [--lampyris target/release/lampyris] [--out FILE.gguf]

`lampyris quantize` takes the vocabulary, the chat template and the end of a text over, but not what generation_config.json
recommends; those keys (`general.sampling.*`) and the licence are added here.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import gguf

ROOT = pathlib.Path(__file__).resolve().parents[3]


def more(folder):
    """Keys, values and types that the converter leaves out."""
    said = json.loads((folder / "generation_config.json").read_text())
    kinds = gguf.GGUFValueType
    return [
        ("general.license", "MIT OR Apache-2.0", kinds.STRING),
        ("general.sampling.temp", said["temperature"], kinds.FLOAT32),
        ("general.sampling.top_k", said["top_k"], kinds.INT32),
        ("general.sampling.top_p", said["top_p"], kinds.FLOAT32),
    ]


def rewrite(source, out, added):
    """The same file with more metadata."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for name, value, kind in added:
        writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/training/text/storyteller")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "models/bundled/storyteller/storyteller.gguf")
    parser.add_argument("--lampyris", default=ROOT / "target/release/lampyris")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        small = pathlib.Path(folder) / "small.gguf"
        command = [options.lampyris, "quantize", options.folder, small, "--format", "Q8_0"]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        rewrite(small, options.out, more(options.folder))
    print(f"wrote {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
