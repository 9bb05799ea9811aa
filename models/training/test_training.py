"""Checks the training scripts without training: a few steps of each lower the loss, and what is held out is held out.

python models/training/test_training.py          (packages: requirements.txt; fonts: README.md)
"""

import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def smoke(kind, folder):
    """Runs a training's smoke mode, which fails unless its loss falls."""
    command = [sys.executable, str(HERE / kind / "train.py"), "--smoke", "--threads", "1", "--work", str(folder / kind)]
    subprocess.run(command, check=True)
    written = {path.name for path in (folder / kind / "smoke").iterdir()}
    assert {"config.json", "model.safetensors"} <= written, written


def settings_share_no_values():
    """Ranges of training and of what is held out touch at most in a bound, and no font is in both."""
    sys.path.insert(0, str(HERE / "vision"))
    import dataclasses

    from render import HELD_OUT, TRAINING

    assert not set(TRAINING.fonts) & set(HELD_OUT.fonts)
    for field in dataclasses.fields(TRAINING):
        if field.name != "fonts":
            for low, high in getattr(HELD_OUT, field.name):
                for a, b in getattr(TRAINING, field.name):
                    assert high <= a or b <= low, f"{field.name}: {low} to {high} and {a} to {b}"


def stories_share_no_combination():
    """No hero, thing and place of the examination meet in a training document; a seed gives the same document again."""
    sys.path.insert(0, str(HERE / "text"))
    import random

    import corpus

    assert all(corpus.story(random.Random(n), True).is_held_out for n in range(100))
    assert not any(corpus.story(random.Random(n), False).is_held_out for n in range(100))
    assert corpus.document("1 2 3") == corpus.document("1 2 3")
    assert corpus.examination(1) == corpus.examination(1)


def main():
    settings_share_no_values()
    stories_share_no_combination()
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("vision", "text"):
            smoke(kind, pathlib.Path(folder))
    print("the training scripts work")


if __name__ == "__main__":
    main()
