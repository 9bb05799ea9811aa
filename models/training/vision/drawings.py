"""Says how twenty-two simple things are drawn with a few strokes, each in several ways, so that no picture has to be collected.

A drawing is a list of strokes; a stroke is an array of points `[n, 2]` with x to the right and y downwards, both about
0 to 1. A stroke whose ends meet is closed and may be filled. Every function takes a numpy generator and draws anew.
"""

import numpy as np


def arc(x, y, rx, ry, start=0.0, end=360.0):
    """Part of an ellipse from one angle to another, in degrees, clockwise from the right."""
    count = max(4, int(abs(end - start) / 12) + 1)
    angles = np.radians(np.linspace(start, end, count))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def line(*points):
    """Straight pieces from point to point."""
    return np.array(points, dtype=float)


def closed(*points):
    """Straight pieces from point to point and back to the first."""
    return np.array([*points, points[0]], dtype=float)


def box(left, top, right, bottom):
    """A rectangle."""
    return closed((left, top), (right, top), (right, bottom), (left, bottom))


def circle(r):
    """A round line; now and then the ends miss each other a little. Never as narrow as a zero."""
    start, squeeze = r.uniform(0, 360), r.uniform(0.92, 1.08)
    return [arc(0.5, 0.5, 0.45, 0.45 * squeeze, start, start + r.uniform(345, 372))]


def square(r):
    h = r.uniform(0.4, 0.46)
    return [box(0.5 - 0.45, 0.5 - h, 0.5 + 0.45, 0.5 + h)]


def triangle(r):
    top = r.uniform(0.3, 0.7)
    points = [(top, 0.08), (0.95, r.uniform(0.8, 0.95)), (0.05, r.uniform(0.8, 0.95))]
    if r.random() < 0.15:
        points = [(x, 1 - y) for x, y in points]
    return [closed(*points)]


def star(r):
    turn, inner = -90 + r.uniform(-8, 8), r.uniform(0.36, 0.5)
    at = lambda k, size: (0.5 + size * np.cos(np.radians(turn + k)), 0.52 + size * np.sin(np.radians(turn + k)))
    if r.random() < 0.35:
        return [closed(*[at(144 * k, 0.48) for k in range(5)])]
    return [closed(*[at(36 * k, 0.48 if k % 2 == 0 else 0.48 * inner) for k in range(10)])]


def heart(r):
    t = np.linspace(0, 2 * np.pi, 40)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([0.5 + x * 0.028, 0.48 - y * 0.029 * r.uniform(0.9, 1.1)], axis=1)]


def house(r):
    eaves, left, right = r.uniform(0.4, 0.5), r.uniform(0.1, 0.2), r.uniform(0.8, 0.9)
    over = r.choice([0.0, 0.07])
    strokes = [
        box(left, eaves, right, 0.95),
        closed((left - over, eaves), (0.5, r.uniform(0.05, 0.15)), (right + over, eaves)),
    ]
    if r.random() < 0.3:
        strokes = [closed((left, 0.95), (left, eaves), (0.5, 0.08), (right, eaves), (right, 0.95))]
    door = r.uniform(0.3, 0.6)
    if r.random() < 0.85:
        strokes.append(line((door, 0.95), (door, 0.65), (door + 0.16, 0.65), (door + 0.16, 0.95)))
    if r.random() < 0.5:
        side = 0.62 if door < 0.45 else 0.25
        strokes.append(box(side, 0.56, side + 0.14, 0.7))
    if r.random() < 0.35:
        strokes.append(line((0.7, 0.25), (0.7, 0.1), (0.8, 0.1), (0.8, 0.36)))
    return strokes


def tree(r):
    if r.random() < 0.5:
        trunk = [line((0.45, 0.6), (0.44, 0.96)), line((0.56, 0.6), (0.57, 0.96))]
        if r.random() < 0.4:
            crown = arc(0.5, 0.34, 0.34, 0.3)
        else:
            angles = np.radians(np.linspace(0, 360, 64))
            radius = 0.31 + 0.035 * np.abs(np.sin(angles * r.integers(3, 5)))
            crown = np.stack([0.5 + 1.05 * radius * np.cos(angles), 0.34 + 0.92 * radius * np.sin(angles)], axis=1)
        return [*trunk, crown]
    tiers = int(r.integers(2, 4))
    strokes = []
    if r.random() < 0.5:
        edge = [(0.5, 0.04)]
        for k in range(tiers):
            low, wide = 0.04 + 0.74 * (k + 1) / tiers, 0.18 + 0.24 * (k + 1) / tiers
            edge.append((0.5 + wide, low))
            if k + 1 < tiers:
                edge.append((0.5 + wide * 0.45, low))
        edge += [(1 - x, y) for x, y in reversed(edge)]
        strokes.append(np.array(edge))
    else:
        for k in range(tiers):
            low, wide = 0.04 + 0.74 * (k + 1) / tiers, 0.2 + 0.2 * (k + 1) / tiers
            strokes.append(closed((0.5, low - 0.5 / tiers - 0.14), (0.5 + wide, low), (0.5 - wide, low)))
    return [*strokes, line((0.44, 0.78), (0.44, 0.97), (0.56, 0.97), (0.56, 0.78))]


def fish(r):
    h, tail = r.uniform(0.2, 0.3), r.uniform(0.14, 0.22)
    if r.random() < 0.5:
        body = [arc(0.42, 0.5, 0.36, h), closed((0.76, 0.5), (0.97, 0.5 - tail), (0.97, 0.5 + tail))]
    else:
        upper = np.stack(
            [np.linspace(0.04, 0.97, 24), 0.5 - h * 1.1 * np.sin(np.linspace(0, 1.27, 24) * np.pi)], axis=1
        )
        lower = upper * [1, -1] + [0, 1]
        body = [upper, lower]
        if r.random() < 0.7:
            body.append(line(tuple(upper[-1]), tuple(lower[-1])))
    strokes = [*body, arc(r.uniform(0.18, 0.26), 0.44, 0.025, 0.025)]
    if r.random() < 0.4:
        strokes.append(arc(0.2, 0.5, 0.15, 0.2, -50, 50))
    if r.random() < 0.35:
        strokes.append(line((0.35, 0.5 - h), (0.45, 0.5 - h - 0.13), (0.55, 0.5 - h + 0.02)))
    if r.random() < 0.5:
        strokes = [s * [-1, 1] + [1, 0] for s in strokes]
    return strokes


def sun(r):
    size, rays, turn = r.uniform(0.2, 0.27), int(r.integers(7, 13)), r.uniform(0, 360)
    gap, far = r.choice([0.0, 0.06]), r.uniform(0.42, 0.48)
    strokes = [arc(0.5, 0.5, size, size)]
    for k in range(rays):
        angle = np.radians(turn + 360 * k / rays + r.uniform(-4, 4))
        way = np.array([np.cos(angle), np.sin(angle)])
        strokes.append(np.stack([0.5 + way * (size + gap), 0.5 + way * far * r.uniform(0.92, 1.05)]))
    return strokes


def moon(r):
    """A crescent, open to either side."""
    half, bite = r.uniform(105, 135), r.uniform(0.5, 0.8)
    outer = arc(0.5, 0.5, 0.44, 0.44, 180 - half, 180 + half)
    top, bottom = outer[-1], outer[0]
    t = np.linspace(-1, 1, 18)[:, None]
    inner = (top + bottom) / 2 + (bottom - top) / 2 * t
    inner = inner - np.array([[bite * 0.6, 0.0]]) * (1 - t**2) * 0.62 * half / 120
    crescent = np.concatenate([outer, inner])
    if r.random() < 0.5:
        crescent = crescent * [-1, 1] + [1, 0]
    return [crescent]


def cloud(r):
    bumps = int(r.integers(3, 5))
    edges = np.linspace(0.1, 0.9, bumps + 1) + np.concatenate([[0], r.uniform(-0.04, 0.04, bumps - 1), [0]])
    base, top = 0.72, []
    for k in range(bumps):
        middle = 0.5 * (edges[k] + edges[k + 1])
        wide = 0.5 * (edges[k + 1] - edges[k]) + 0.02
        lift = 0.22 * np.sin(np.pi * (k + 0.5) / bumps) * r.uniform(0.7, 1.2)
        top.append(arc(middle, base - 0.22 - lift, wide, r.uniform(0.13, 0.2), 180, 360))
    ends = [arc(0.1, base - 0.12, 0.09, 0.12, 90, 270), arc(0.9, base - 0.12, 0.09, 0.12, -90, 90)]
    bottom = [ends[1][-1:]]
    if r.random() < 0.4:
        bottom += [arc(x, base, 0.14, 0.07, 0, 180) for x in (0.76, 0.5, 0.24)]
    return [np.concatenate([ends[0], *top, ends[1], *bottom, ends[0][:1]])]


def flower(r):
    petals, turn, size = int(r.integers(5, 8)), r.uniform(0, 360), r.uniform(0.08, 0.11)
    middle = 0.32
    strokes = [arc(0.5, middle, size * 0.8, size * 0.8)]
    for k in range(petals):
        angle = np.radians(turn + 360 * k / petals)
        x, y = 0.5 + np.cos(angle) * 0.185, middle + np.sin(angle) * 0.185
        strokes.append(arc(x, y, size, size))
    bend = r.uniform(-0.06, 0.06)
    strokes.append(line((0.5, middle + 0.29), (0.5 + bend, 0.8), (0.5, 0.98)))
    if r.random() < 0.75:
        side = r.choice([-1, 1])
        strokes.append(
            line(
                (0.5 + bend, 0.85),
                (0.5 + side * 0.12, 0.7),
                (0.5 + side * 0.22, 0.7),
                (0.5 + side * 0.14, 0.82),
                (0.5 + bend, 0.85),
            )
        )
    return strokes


def car(r):
    roof, low = r.uniform(0.25, 0.33), 0.72
    a, b = r.uniform(0.2, 0.3), r.uniform(0.66, 0.78)
    body = closed(
        (0.04, low),
        (0.04, 0.52),
        (a - 0.04, 0.5),
        (a + 0.08, roof),
        (b - 0.06, roof),
        (b + 0.06, 0.5),
        (0.96, 0.54),
        (0.96, low),
    )
    size = r.uniform(0.09, 0.12)
    strokes = [body, arc(0.25, low, size, size), arc(0.75, low, size, size)]
    if r.random() < 0.6:
        strokes.append(line((a - 0.02, 0.5), (b + 0.05, 0.5)))
    if r.random() < 0.5:
        strokes.append(line((0.5, roof), (0.5, 0.5)))
    return strokes


def boat(r):
    deck, mast = r.uniform(0.66, 0.74), r.uniform(0.44, 0.54)
    strokes = [
        closed((0.06, deck), (0.94, deck), (r.uniform(0.72, 0.82), 0.94), (r.uniform(0.18, 0.28), 0.94)),
        line((mast, deck), (mast, 0.05)),
    ]
    kind = r.random()
    if kind < 0.75:
        strokes.append(closed((mast, 0.07), (0.88, deck - 0.1), (mast, deck - 0.1)))
    if kind > 0.4:
        strokes.append(closed((mast - 0.03, 0.15), (0.14, deck - 0.1), (mast - 0.03, deck - 0.1)))
    return strokes


def cup(r):
    foot, top = r.uniform(0.16, 0.26), r.uniform(0.15, 0.25)
    strokes = [line((0.08, top), (foot, 0.92), (0.74 - foot + 0.08, 0.92), (0.74, top))]
    strokes.append(arc(0.41, top, 0.33, 0.06) if r.random() < 0.6 else line((0.08, top), (0.74, top)))
    strokes.append(arc(0.71, 0.48, 0.22, 0.19, -82, 95))
    if r.random() < 0.3:
        strokes.append(np.stack([0.4 + 0.03 * np.sin(np.linspace(0, 6, 12)), np.linspace(0.0, top - 0.1, 12)], axis=1))
    if r.random() < 0.5:
        strokes = [s * [-1, 1] + [1, 0] for s in strokes]
    return strokes


def key(r):
    size = r.uniform(0.14, 0.19)
    strokes = [arc(0.05 + size, 0.5, size, size), line((0.05 + 2 * size, 0.5), (0.96, 0.5))]
    if r.random() < 0.4:
        strokes.append(arc(0.05 + size, 0.5, size * 0.35, size * 0.35))
    depth = r.uniform(0.12, 0.18)
    teeth = [0.95, r.uniform(0.78, 0.84)] + ([0.68] if r.random() < 0.4 else [])
    strokes += [line((x, 0.5), (x, 0.5 + depth * r.uniform(0.8, 1.1))) for x in teeth]
    way = r.random()
    if way < 0.35:
        strokes = [s[:, ::-1] for s in strokes]
    if way > 0.7:
        strokes = [s * [-1, 1] + [1, 0] for s in strokes]
    return strokes


def ladder(r):
    wide, lean = r.uniform(0.34, 0.46), r.uniform(0, 0.06)
    left, right = 0.5 - wide / 2, 0.5 + wide / 2
    strokes = [line((left + lean, 0.03), (left, 0.97)), line((right - lean, 0.03), (right, 0.97))]
    rungs = int(r.integers(4, 7))
    for y in np.linspace(0.14, 0.86, rungs):
        inset = lean * (1 - y)
        strokes.append(line((left + inset, y), (right - inset, y + r.uniform(-0.02, 0.02))))
    return strokes


def spiral(r):
    turns, start = r.uniform(2.3, 3.4), r.uniform(0, 2 * np.pi)
    t = np.linspace(0.02, 1, 90)
    angle = start + t * turns * 2 * np.pi * r.choice([-1, 1])
    return [np.stack([0.5 + 0.46 * t * np.cos(angle), 0.5 + 0.46 * t * np.sin(angle)], axis=1)]


def arrow(r):
    head, wide = r.uniform(0.24, 0.34), r.uniform(0.17, 0.26)
    tip, kind = 0.96, r.random()
    if kind < 0.5:
        strokes = [line((0.04, 0.5), (tip, 0.5)), line((tip - head, 0.5 - wide), (tip, 0.5), (tip - head, 0.5 + wide))]
    elif kind < 0.72:
        strokes = [
            line((0.04, 0.5), (tip - head, 0.5)),
            closed((tip - head, 0.5 - wide), (tip, 0.5), (tip - head, 0.5 + wide)),
        ]
    else:
        thin = wide * r.uniform(0.4, 0.55)
        strokes = [
            closed(
                (0.04, 0.5 - thin),
                (tip - head, 0.5 - thin),
                (tip - head, 0.5 - wide),
                (tip, 0.5),
                (tip - head, 0.5 + wide),
                (tip - head, 0.5 + thin),
                (0.04, 0.5 + thin),
            )
        ]
    angle = np.radians(r.choice([0, 90, 180, 270, -45, 45]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [(s - 0.5) @ turn + 0.5 for s in strokes]


def lightning(r):
    """A bolt; always an outline, since a bare zigzag is a letter."""
    j = lambda x: x + r.uniform(-0.03, 0.03)
    bolt = [
        (j(0.5), 0.03),
        (j(0.2), j(0.54)),
        (j(0.46), j(0.54)),
        (j(0.3), 0.97),
        (j(0.8), j(0.4)),
        (j(0.54), j(0.4)),
        (j(0.74), 0.03),
    ]
    if r.random() < 0.3:
        bolt = [(1 - x, y) for x, y in bolt]
    return [closed(*bolt)]


def face(r):
    eye = r.uniform(0.02, 0.045)
    strokes = [arc(0.5, 0.5, r.uniform(0.38, 0.45), 0.45), arc(0.34, 0.4, eye, eye), arc(0.66, 0.4, eye, eye)]
    mood = r.random()
    if mood < 0.6:
        strokes.append(arc(0.5, 0.55, 0.2, r.uniform(0.1, 0.2), 20, 160))
    elif mood < 0.8:
        strokes.append(line((0.33, 0.7), (0.67, 0.7)))
    else:
        strokes.append(arc(0.5, 0.78, 0.18, 0.12, 200, 340))
    if r.random() < 0.35:
        strokes.append(line((0.5, 0.45), (0.47, 0.58), (0.52, 0.58)))
    return strokes


def umbrella(r):
    h = r.uniform(0.36, 0.44)
    strokes = [arc(0.5, 0.5, 0.45, h, 180, 360)]
    scallops = int(r.integers(3, 5))
    if r.random() < 0.7:
        edges = np.linspace(0.95, 0.05, scallops + 1)
        strokes[0] = np.concatenate(
            [strokes[0], *[arc((a + b) / 2, 0.5, (a - b) / 2, 0.06, 0, -180) for a, b in zip(edges, edges[1:])]]
        )
    else:
        strokes[0] = np.concatenate([strokes[0], [[0.05, 0.5]]])
    side = r.choice([-1, 1])
    hook = arc(0.5 + side * 0.08, 0.86, 0.08, 0.09, 180, 0) if side > 0 else arc(0.42, 0.86, 0.08, 0.09, 0, 180)
    strokes.append(np.concatenate([[[0.5, 0.46 if r.random() < 0.5 else 0.5 - h]], hook]))
    return strokes


DRAWINGS = {
    f.__name__: f
    for f in (
        circle,
        square,
        triangle,
        star,
        heart,
        house,
        tree,
        fish,
        sun,
        moon,
        cloud,
        flower,
        car,
        boat,
        cup,
        key,
        ladder,
        spiral,
        arrow,
        lightning,
        face,
        umbrella,
    )
}

# Drawings that may be filled in: their outline alone says what they are.
SOLID = ("circle", "square", "triangle", "star", "heart", "moon", "cloud", "lightning")
