"""Judges the sketches model as it is shipped (weights rounded to f16): right answers by class, on drawings and on load_digits.

    python models/training/vision/evaluate.py [FOLDER]

The engine gives the same figures from held_out.py's pictures; this is for whoever trains.
"""

import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file

from held_out import digits, drawings
from network import Sketches
from render import CLASSES
from train import ROOT, probabilities


def shipped(folder):
    model = Sketches(len(CLASSES))
    state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    return model.to(memory_format=torch.channels_last).eval()


def report(name, found, labels):
    """Prints the share of right answers, by class, and what the wrong ones were taken for."""
    guessed = found.argmax(1)
    print(f"{name}: {100 * (guessed == labels).mean():.2f} % of {len(labels)} right")
    for label in np.unique(labels):
        of_it = guessed[labels == label]
        wrong, times = np.unique(of_it[of_it != label], return_counts=True)
        order = np.argsort(-times)[:3]
        others = ", ".join(f"{CLASSES[wrong[k]]} {times[k]}" for k in order)
        print(
            f"  {CLASSES[label]:10} {100 * (of_it == label).mean():6.2f} % of {len(of_it)}"
            + (f"  taken for: {others}" if others else "")
        )


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "models/bundled/sketches"
    model = shipped(folder)
    for name, (pictures, labels) in (("drawings by held-out settings", drawings()), ("load_digits", digits())):
        report(name, probabilities(model, pictures), labels)


if __name__ == "__main__":
    main()
