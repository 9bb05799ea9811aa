"""Writes the pictures that the sketches model is judged by, none of which it was trained on, as folders named by label.

    python models/training/vision/held_out.py OUT

OUT/drawings/LABEL/*.png   drawings by the settings HELD_OUT of render.py, 50 a class
OUT/digits/LABEL/*.png     the 1797 handwritten digits of scikit-learn's load_digits, enlarged from 8 x 8 to 64 x 64
`--samples FOLDER` writes the three drawings of the demo instead.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image

from render import CLASSES, HELD_OUT, SIDE, colour, ink, inks

SEED = 20_251
EACH = 50


def drawings():
    """Pictures `[n, 64, 64, 3]` and their labels, by settings that no training drawing has."""
    labels = np.repeat(np.arange(len(CLASSES)), EACH)
    pages = inks(labels, SEED, HELD_OUT)
    return colour(pages, np.random.default_rng(SEED), HELD_OUT), labels


def digits():
    """The pictures of load_digits, light on dark, enlarged with Pillow's bicubic filter, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    small = np.round(data.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(page).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for page in small]
    pages = np.stack([np.asarray(page) for page in large])
    return np.repeat(pages[..., None], 3, axis=3), data.target


def write(folder, pictures, labels):
    for number, (picture, label) in enumerate(zip(pictures, labels)):
        inside = folder / CLASSES[label]
        inside.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(inside / f"{number:05}.png")


def samples(folder):
    """Three drawings of the demo, dark lines on a light ground, 128 x 128.

    Their numbers were chosen: they are clear, and the model knows them well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for label, number in (("fish", 8), ("house", 12), ("7", 14)):
        page = Image.fromarray(ink(label, np.random.default_rng([SEED, CLASSES.index(label), number]), HELD_OUT))
        page = page.resize((128, 128), Image.Resampling.BICUBIC).point(lambda v: 244 - round(v / 17) * 14)
        page.save(folder / f"{label}.png", optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--samples", action="store_true")
    options = parser.parse_args()
    if options.samples:
        return samples(options.out)
    write(options.out / "drawings", *drawings())
    write(options.out / "digits", *digits())


if __name__ == "__main__":
    main()
