"""Turns strokes and font digits into 64 x 64 pictures: warps, turns, thickness, lost ends, blur, few pixels, colours, noise.

`TRAINING` and `HELD_OUT` are the settings of what is trained on and of what is never trained on: their ranges share no
value besides their bounds, and no font. Held-out ranges lie between those of training, that of thickness also beyond.
Everything is drawn from one numpy generator, so a seed makes the same pictures anywhere that Pillow and the fonts are of
the same version.
"""

import dataclasses
import functools
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from digits import WAYS, write
from drawings import DRAWINGS, SOLID

SIDE = 64
# Pixels of the canvas for one of the picture.
OVER = 3
CLASSES = [*WAYS, *DRAWINGS]
FONT_FOLDERS = ("/usr/share/fonts/truetype", "/usr/share/fonts/opentype")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Ranges; a tuple of pairs is a union of ranges."""

    fonts: tuple  # files
    thickness: tuple  # of a stroke, in pixels of the picture
    turn: tuple  # degrees, to either side
    shear: tuple  # to either side
    warp: tuple  # of the whole drawing, in shares of its size
    wobble: tuple  # of a digit's control points, likewise
    lost: tuple  # share of a stroke that is missing
    noise: tuple  # deviation, of the contrast
    contrast: tuple  # between ink and ground, of 1


TRAINING = Settings(
    fonts=(
        *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"),
        *("LiberationSans-Regular.ttf", "LiberationSans-BoldItalic.ttf", "LiberationSerif-Regular.ttf"),
        *("LiberationSansNarrow-Regular.ttf", "LiberationMono-Regular.ttf", "LiberationSerif-BoldItalic.ttf"),
        *("ComicNeue-Regular.otf", "ComicNeue-Bold.otf", "dkg.ttf", "dkgBd.ttf", "Jura-Medium.otf"),
    ),
    thickness=((2.0, 3.2), (4.0, 6.0)),
    turn=((0, 12), (17, 22)),
    shear=((0, 0.2), (0.28, 0.34)),
    warp=((0, 0.03), (0.042, 0.05)),
    wobble=((0, 0.03), (0.042, 0.05)),
    lost=((0, 0.06), (0.1, 0.13)),
    noise=((0, 0.05), (0.08, 0.12)),
    contrast=((0.35, 0.5), (0.6, 1.0)),
)

HELD_OUT = Settings(
    fonts=(
        *("FreeSans.ttf", "FreeSansBold.ttf", "FreeSerif.ttf", "FreeSerifItalic.ttf", "FreeMono.ttf"),
        *("OpenSans-Regular.ttf", "OpenSans-SemiboldItalic.ttf", "Humor-Sans.ttf", "Breip.ttf"),
    ),
    thickness=((3.2, 4.0), (6.0, 6.8)),
    turn=((12, 17),),
    shear=((0.2, 0.28),),
    warp=((0.03, 0.042),),
    wobble=((0.03, 0.042),),
    lost=((0.06, 0.1),),
    noise=((0.05, 0.08),),
    contrast=((0.5, 0.6),),
)


def pick(r, ranges):
    """A number of a union of ranges, each as likely as it is wide."""
    at = r.random() * sum(high - low for low, high in ranges)
    for low, high in ranges:
        if at <= high - low:
            return low + at
        at -= high - low
    return ranges[-1][1]


def either(r, ranges):
    return pick(r, ranges) * (1 if r.random() < 0.5 else -1)


@functools.cache
def font_file(name):
    """Where a font is, by the name of its file."""
    for folder in FONT_FOLDERS:
        for path in sorted(pathlib.Path(folder).rglob(name)):
            return str(path)
    raise SystemExit(f"no font {name} under {' or '.join(FONT_FOLDERS)}; install the packages that README.md names")


@functools.cache
def font(name):
    return ImageFont.truetype(font_file(name), 150)


def dense(stroke, step=0.05):
    """The same line with a point at least every `step`, so that it can bend."""
    gaps = np.linalg.norm(np.diff(stroke, axis=0), axis=1)
    counts = np.maximum(1, np.ceil(gaps / step).astype(int))
    pieces = [
        a + (b - a) * np.linspace(0, 1, n, endpoint=False)[:, None] for a, b, n in zip(stroke, stroke[1:], counts)
    ]
    return np.concatenate([*pieces, stroke[-1:]])


def bend(points, r, amount):
    """Moves points by a few slow waves over the plane."""
    moved = points.copy()
    for _ in range(2):
        waves = r.uniform(-5, 5, (2, 2))
        moved += amount * np.sin(points @ waves + r.uniform(0, 6.3, 2)) * r.uniform(0.5, 1.0)
    return moved


def shorten(stroke, r, share):
    """Loses a share of a stroke, mostly at an end, sometimes as a gap; gives the pieces that are left."""
    count, cut = len(stroke), int(round(len(stroke) * share))
    if cut == 0 or count - cut < 3:
        return [stroke]
    kind = r.random()
    if kind < 0.4:
        return [stroke[cut:]]
    if kind < 0.8:
        return [stroke[:-cut]]
    at = int(r.integers(1, count - cut))
    return [piece for piece in (stroke[:at], stroke[at + cut :]) if len(piece) > 1]


def fit(strokes, r, room, stretch):
    """Moves and scales strokes into the canvas, `room` (left, top, right, bottom) pixels of the picture from its edges.

    `stretch` is how far the width may be stretched towards the frame's: 0 keeps the proportions.
    """
    every = np.concatenate(strokes)
    low, high = every.min(axis=0), every.max(axis=0)
    size = np.maximum(high - low, 1e-3)
    frame = np.array([SIDE - room[0] - room[2], SIDE - room[1] - room[3]])
    scale = np.full(2, (frame / size).min())
    scale[0] *= (min(frame[0] / (size[0] * scale[0]), 2.5)) ** stretch
    left = frame - size * scale
    shift = np.array([room[0], room[1]]) + left * r.uniform(0.3, 0.7, 2)
    return [((s - low) * scale + shift) * OVER for s in strokes]


def rasterize(strokes, widths, solid):
    canvas = Image.new("L", (SIDE * OVER, SIDE * OVER), 0)
    draw = ImageDraw.Draw(canvas)
    for stroke, width in zip(strokes, widths):
        points = [tuple(p) for p in stroke.tolist()]
        if solid:
            draw.polygon(points, fill=255)
        draw.line(points, fill=255, width=max(1, round(width)), joint="curve")
        half = width / 2
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - half, y - half, x + half, y + half), fill=255)
    return canvas.reduce(OVER)


def from_font(digit, r, settings, thick_room):
    """A digit of a font, sheared, turned and scaled into the frame."""
    face = font(settings.fonts[r.integers(len(settings.fonts))])
    left, top, right, bottom = face.getbbox(digit)
    glyph = Image.new("L", (right - left + 80, bottom - top + 80), 0)
    ImageDraw.Draw(glyph).text((40 - left, 40 - top), digit, font=face, fill=255)
    shear = either(r, settings.shear) * 0.6
    glyph = glyph.transform(
        glyph.size, Image.Transform.AFFINE, (1, shear, -shear * glyph.size[1] / 2, 0, 1, 0), Image.Resampling.BILINEAR
    )
    glyph = glyph.rotate(either(r, settings.turn) * 0.8, Image.Resampling.BILINEAR, expand=True)
    glyph = glyph.crop(glyph.getbbox())
    room = thick_room + r.uniform(0, 1)
    high = SIDE - 2 * room
    wide = min(high, glyph.size[0] * high / glyph.size[1] * r.uniform(0.85, 1.3))
    glyph = glyph.resize((max(4, round(wide)), max(4, round(high))), Image.Resampling.BOX)
    page = Image.new("L", (SIDE, SIDE), 0)
    spare = SIDE - glyph.size[0], SIDE - glyph.size[1]
    page.paste(glyph, tuple(round(s * r.uniform(0.3, 0.7)) for s in spare))
    return page


def ink(label, r, settings):
    """How much ink is on each pixel of a drawing of `label`: `[64, 64]`, 0 to 255."""
    is_digit = label in WAYS
    coarse = r.random() < (0.45 if is_digit else 0.25)
    margin = r.uniform(0, 3) if coarse and is_digit else r.uniform(2, 14)
    if is_digit and r.random() < 0.3:
        page = from_font(label, r, settings, margin)
    else:
        solid = label in SOLID and r.random() < 0.2
        strokes = write(label, r, pick(r, settings.wobble)) if is_digit else DRAWINGS[label](r)
        amount = pick(r, settings.warp)
        strokes = [dense(np.asarray(s, dtype=float)) for s in strokes]
        ends = np.cumsum([len(s) for s in strokes])[:-1]
        every = bend(np.concatenate(strokes), r, amount) - 0.5
        angle, shear = np.radians(either(r, settings.turn)), either(r, settings.shear)
        if not is_digit:
            shear, every[:, 0] = shear * 0.5, every[:, 0] * r.uniform(0.88, 1.12)
        if label in ("circle", "square"):
            shear *= 0.4
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        every = every @ np.array([[1, 0], [-shear, 1]]) @ turn.T
        strokes = np.split(every, ends)
        if not solid:
            kept = []
            for s in strokes:
                kept += shorten(s, r, pick(r, settings.lost)) if r.random() < 0.5 else [s]
            strokes = kept
        thickness = pick(r, settings.thickness)
        if coarse and is_digit:
            thickness *= r.uniform(1.2, 1.9)
        elif margin > 9:
            thickness = min(thickness, settings.thickness[0][1])
        room = margin + thickness / 2
        if is_digit and coarse:
            room -= r.uniform(0, 1) * min(room, thickness / 2)
        sides = room + r.uniform(0, 3, 4)
        strokes = fit(strokes, r, sides, r.uniform(0, 0.5) if is_digit and coarse and label != "0" else 0.0)
        widths = thickness * OVER * r.uniform(0.9, 1.1, len(strokes))
        page = rasterize(strokes, widths, solid)
    if coarse:
        low = (
            int(r.integers(7, 10) if r.random() < 0.5 else r.integers(10, 17)) if is_digit else int(r.integers(20, 41))
        )
        way = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST][
            r.choice(3, p=[0.45, 0.4, 0.15])
        ]
        page = page.resize((low, low), Image.Resampling.BOX)
        if r.random() < 0.5:
            page = page.point(lambda v, k=r.uniform(1.0, 1.5): min(255, int(v * k)))
        page = page.resize((SIDE, SIDE), way)
    elif r.random() < 0.3:
        page = page.filter(ImageFilter.GaussianBlur(r.uniform(0.3, 1.4)))
    return np.asarray(page)


def inks(labels, seed, settings):
    """The ink of many drawings: `[n, 64, 64]` bytes."""
    r = np.random.default_rng(seed)
    return np.stack([ink(CLASSES[label], r, settings) for label in labels])


def colour(pages, r, settings):
    """Ink on a ground, light on dark or dark on light, grey or coloured, with noise: `[n, 64, 64, 3]` bytes of `[n, 64, 64]`."""
    count = len(pages)
    contrast = np.array([pick(r, settings.contrast) for _ in range(count)])
    low = r.uniform(0, 1, count) * (1 - contrast)
    levels = np.stack([low, low + contrast], axis=1)
    levels[r.random(count) < 0.25] = (0, 1)
    inverted = r.random(count) < 0.5
    levels[inverted] = levels[inverted][:, ::-1]
    # A share of the contrast, so that no channel of the ink crosses the ground's.
    apart = np.abs(levels[:, 1] - levels[:, 0])
    tint = r.uniform(-0.4, 0.4, (count, 2, 3)) * (apart * (r.random(count) < 0.3))[:, None, None]
    shades = np.clip(levels[:, :, None] + tint, 0, 1).astype(np.float32)
    share = pages[..., None].astype(np.float32) / 255
    picture = shades[:, 0, None, None, :] * (1 - share) + shades[:, 1, None, None, :] * share
    ramp = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    slope = (r.uniform(-0.3, 0.3, (count, 2)) * (apart * (r.random(count) < 0.3))[:, None]).astype(np.float32)
    light = slope[:, 0, None, None] * ramp[None, :, None] + slope[:, 1, None, None] * ramp[None, None, :]
    deviation = np.array([pick(r, settings.noise) for _ in range(count)]) * apart * (r.random(count) < 0.5)
    grain = r.standard_normal(pages.shape, dtype=np.float32) * deviation[:, None, None].astype(np.float32)
    picture += (light + grain)[..., None]
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
