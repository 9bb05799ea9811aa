"""Makes the file that is shipped of the folder that train.py wrote: `lampyris quantize` to Q8_0, and the licence beside it.

    python models/training/text/pack.py [--lampyris target/release/lampyris] [--out FILE.gguf]

`lampyris quantize` takes over the vocabulary, the chat template, the ends of a text and what generation_config.json recommends.
"""

import argparse
import pathlib
import subprocess
import tempfile

import gguf

ROOT = pathlib.Path(__file__).resolve().parents[3]


def rewrite(source, out):
    """The same file with its licence."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_license("MIT OR Apache-2.0")
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
        rewrite(small, options.out)
    print(f"wrote {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
