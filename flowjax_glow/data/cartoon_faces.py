"""Cartoon faces, 32x32x3, drawn from known attributes.

A face is two dozen numbers and choices, `Face`; `draw_face` makes its picture at eight times the size,
by Pillow, and the mean of each 8x8 block is a pixel, so that edges are smooth and a small change of a
number is a small change of the picture. Light comes from one side, and every picture has noise of its
own, as a camera's has.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

SIZE = 32
_SCALE = 8
_CANVAS = SIZE * _SCALE

# The numbers of each split's faces, as random_face takes them.
FACES = {"train": range(18_000), "validation": range(18_000, 19_000), "test": range(19_000, 20_000)}

Colour = tuple[int, int, int]
Point = tuple[float, float]

HAIR_COLOURS: dict[str, Colour] = {
    "black": (38, 30, 32),
    "brown": (104, 66, 40),
    "blond": (222, 184, 104),
    "red": (176, 72, 34),
    "grey": (168, 168, 172),
}
# The hairline's distance from the top of the head.
HAIR_STYLES = {"short": 0.17, "long": 0.15, "bun": 0.13, "curly": 0.18, "fringe": 0.24}
_SKINS = ((255, 224, 196), (240, 194, 152), (212, 156, 110), (164, 108, 70), (110, 70, 46))
_IRISES = ((88, 56, 32), (70, 110, 150), (70, 120, 70), (60, 40, 30))
_WHITE, _BLACK, _FRAME = (250, 250, 250), (12, 12, 14), (30, 30, 36)


class Face(NamedTuple):
    """What a picture shows. Lengths are in shares of the picture's width.

    smiling, glasses: whether. eye_size: 0.6 to 1.4 of the usual. hair_colour, hair_style: names. pose:
    -1, turned to the picture's left, to 1. skin: 0, light, to 1. above, below: of the background.
    light: -1, brighter on the left, to 1. mouth_curve: how far its corners are up. mouth_open: 0 to 1.
    mouth_width: of the usual. x, y: of the middle. width, height: half the face's. brow: -1, low, to
    1. lips: 0, pale, to 1. noise: the deviation of a pixel's noise, in levels. seed: of the noise.
    """

    smiling: bool
    glasses: bool
    eye_size: float
    hair_colour: str
    hair_style: str
    pose: float
    skin: float
    above: Colour
    below: Colour
    light: float
    mouth_curve: float
    mouth_open: float
    mouth_width: float
    x: float
    y: float
    width: float
    height: float
    brow: float
    iris: Colour
    lips: float
    shirt: Colour
    noise: float
    seed: int


def random_face(number: int) -> Face:
    """The face of a number. Attributes are independent; half of the faces smile, 35% have glasses."""
    # RandomState, since numpy promises never to change its stream: version 1.0.0 is these faces.
    random = np.random.RandomState(number)
    smiling = bool(random.rand() < 0.5)
    above, shirt = random.randint(60, 230, 3), random.randint(30, 226, 3)
    below = np.minimum(above * random.uniform(0.6, 1.2), 255).astype(int)
    return Face(
        smiling=smiling,
        glasses=bool(random.rand() < 0.35),
        eye_size=random.uniform(0.6, 1.4),
        hair_colour=list(HAIR_COLOURS)[random.randint(len(HAIR_COLOURS))],
        hair_style=list(HAIR_STYLES)[random.randint(len(HAIR_STYLES))],
        pose=random.uniform(-1.0, 1.0),
        skin=random.uniform(0.0, 1.0),
        above=tuple(above.tolist()),
        below=tuple(below.tolist()),
        light=random.uniform(-1.0, 1.0),
        mouth_curve=random.uniform(0.45, 1.0) if smiling else random.uniform(-0.35, 0.1),
        mouth_open=random.uniform(0.3, 1.0) if smiling else 0.0,
        mouth_width=random.uniform(0.97, 1.27) if smiling else random.uniform(0.76, 0.99),
        x=random.uniform(0.47, 0.53),
        y=random.uniform(0.51, 0.55),
        width=random.uniform(0.27, 0.31),
        height=random.uniform(0.335, 0.385),
        brow=random.uniform(-1.0, 1.0),
        iris=_IRISES[random.randint(len(_IRISES))],
        lips=random.uniform(0.0, 1.0),
        shirt=tuple(shirt.tolist()),
        noise=random.uniform(2.0, 4.0),
        seed=number,
    )


def draw_face(face: Face) -> UInt8[np.ndarray, "32 32 3"]:
    """The picture of a face; always the same one."""
    canvas = _Canvas(face)
    for part in (_hair_behind, _body, _head, _hair, _eyes, _nose, _mouth):
        part(canvas, face)
    if face.glasses:
        _glasses(canvas, face)
    ramp = np.linspace(-1.0, 1.0, SIZE)
    light = 1.0 + 0.14 * face.light * ramp[None, :, None] - 0.06 * ramp[:, None, None]
    # Another stream than random_face's, whose numbers would say what the picture shows.
    noise = np.random.RandomState([face.seed, 1]).normal(0.0, face.noise, (SIZE, SIZE, 3))
    return np.clip(np.rint(canvas.pixels() * light + noise), 0, 255).astype(np.uint8)


class _Canvas:
    """A picture in the making; coordinates are shares of its width, from the top left."""

    def __init__(self, face: Face):
        from PIL import Image, ImageDraw

        self.skin = _mix_many(_SKINS, face.skin)
        self.hair = HAIR_COLOURS[face.hair_colour]
        # What is in front on a turned face lies further to its side: a share of this.
        self.turn = 0.07 * face.pose
        column = np.linspace(face.above, face.below, _CANVAS).round().astype(np.uint8)
        sides = (_CANVAS, _CANVAS)
        self._image = Image.fromarray(column[:, None]).resize(sides, Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self._image)

    def pixels(self) -> UInt8[np.ndarray, "32 32 3"]:
        return np.asarray(self._image.reduce(_SCALE))

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self._draw.ellipse(_scaled(x - rx, y - ry, x + rx, y + ry), fill=fill)

    def ring(self, x: float, y: float, rx: float, ry: float, colour: Colour, width: float) -> None:
        box = _scaled(x - rx, y - ry, x + rx, y + ry)
        self._draw.ellipse(box, outline=colour, width=round(width * _CANVAS))

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        self._draw.polygon(_scaled(*(v for point in points for v in point)), fill=fill)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        places = _scaled(*(v for point in points for v in point))
        self._draw.line(places, fill=colour, width=round(width * _CANVAS), joint="curve")
        for x, y in (points[0], points[-1]):
            self.ellipse(x, y, width / 2, width / 2, colour)

    def cap(self, box: Sequence[float], cut: Sequence[float], floor: float, colour: Colour) -> None:
        """An ellipse in a box without that in another, down to the floor."""
        from PIL import Image, ImageDraw

        mask = Image.new("1", self._image.size)
        draw = ImageDraw.Draw(mask)
        draw.ellipse(_scaled(*box), fill=1)
        draw.ellipse(_scaled(*cut), fill=0)
        draw.rectangle(_scaled(0.0, floor, 1.0, 1.0), fill=0)
        self._image.paste(colour, mask=mask)


def _hair_behind(canvas: _Canvas, face: Face) -> None:
    x, y, width, hair = face.x - canvas.turn / 2, face.y, face.width, canvas.hair
    if face.hair_style == "long":
        canvas.ellipse(x, y - 0.04, width + 0.07, face.height + 0.06, hair)
        left, right = face.x - width, face.x + width
        bottom = [(right + 0.08, 0.97), (left - 0.08, 0.97)]
        canvas.polygon([(left - 0.07, y), (right + 0.07, y), *bottom], hair)
    elif face.hair_style == "bun":
        canvas.ellipse(face.x - canvas.turn, y - face.height - 0.05, 0.11, 0.1, _shade(hair, 0.85))
    elif face.hair_style == "curly":
        for angle in np.linspace(1.02 * math.pi, 1.98 * math.pi, 9).tolist():
            across, up = (width + 0.02) * math.cos(angle), face.height * math.sin(angle)
            canvas.ellipse(x + across, y - 0.06 + up, 0.1, 0.1, hair)


def _body(canvas: _Canvas, face: Face) -> None:
    x, y = face.x, face.y + 0.2
    canvas.ellipse(x, 1.1, 0.42, 0.23, face.shirt)
    neck = [(x - 0.1, y), (x + 0.1, y), (x + 0.11, 0.95), (x - 0.11, 0.95)]
    canvas.polygon(neck, _shade(canvas.skin, 0.82))


def _head(canvas: _Canvas, face: Face) -> None:
    for side in (-1, 1):
        reach = face.width * (1 - 0.25 * max(0.0, side * face.pose))
        canvas.ellipse(face.x + side * reach, face.y + 0.03, 0.045, 0.07, _shade(canvas.skin, 0.88))
    canvas.ellipse(face.x, face.y, face.width, face.height, canvas.skin)
    for side in (-1, 1):
        x = face.x + canvas.turn + 0.165 * side
        canvas.ellipse(x, face.y + 0.1, 0.05, 0.035, _mix(canvas.skin, (235, 110, 100), 0.25))


def _hair(canvas: _Canvas, face: Face) -> None:
    x, y, width, turn = face.x, face.y, face.width, 0.8 * canvas.turn
    top = y - face.height
    line = top + HAIR_STYLES[face.hair_style]
    grow = 0.05 if face.hair_style == "curly" else 0.035
    box = (x - width - grow, top - grow, x + width + grow, y + 0.9 * face.height)
    # A fringe ends straight; else an ellipse of face, shifted as the head is turned, is free of hair.
    if face.hair_style == "fringe":
        canvas.cap(box, (0.0, line, 1.0, line), line, canvas.hair)
    else:
        cut = (x - 0.93 * width + turn, line, x + 0.93 * width + turn, y + 1.0)
        canvas.cap(box, cut, y + 0.02, canvas.hair)


def _eye_places(canvas: _Canvas, face: Face) -> Iterator[tuple[float, float, float]]:
    """x, y and relative width of each eye: that which is further away is narrower."""
    for side in (-1, 1):
        x = face.x + canvas.turn + 0.115 * side * (1 - 0.1 * abs(face.pose))
        yield x, face.y - 0.035, 1 - 0.12 * side * face.pose


def _eyes(canvas: _Canvas, face: Face) -> None:
    size = face.eye_size
    brow = _mix(_shade(canvas.hair, 0.7), canvas.skin, 0.1)
    for x, y, near in _eye_places(canvas, face):
        rx, ry = 0.052 * size * near, 0.047 * size
        canvas.ellipse(x, y, rx + 0.008, ry + 0.008, _shade(canvas.skin, 0.6))
        canvas.ellipse(x, y, rx, ry, _WHITE)
        gaze = x + 0.014 * face.pose * size
        canvas.ellipse(gaze, y, 0.031 * size * near, 0.034 * size, face.iris)
        canvas.ellipse(gaze, y, 0.016 * size, 0.018 * size, _BLACK)
        canvas.ellipse(gaze + 0.01, y - 0.012, 0.009, 0.009, (255, 255, 255))
        up, half = y - 0.052 * size - 0.028 - 0.015 * face.brow, 0.055 * near
        canvas.line([(x - half, up + 0.006), (x, up - 0.008), (x + half, up + 0.006)], brow, 0.021)


def _nose(canvas: _Canvas, face: Face) -> None:
    x, y = face.x + 1.35 * canvas.turn, face.y + 0.065
    canvas.ellipse(x, y, 0.032, 0.025, _shade(canvas.skin, 0.84))
    canvas.ellipse(x, y - 0.012, 0.026, 0.02, _mix(canvas.skin, (255, 255, 255), 0.12))


def _mouth(canvas: _Canvas, face: Face) -> None:
    x, y = face.x + 1.15 * canvas.turn, face.y + 0.185
    half = 0.105 * face.mouth_width * (1 - 0.15 * abs(face.pose))
    drop, rise = 0.075 * face.mouth_open, 0.06 * face.mouth_curve
    lips = _mix(_shade(canvas.skin, 0.72), (178, 40, 52), 0.35 + 0.5 * face.lips)

    def edge(share: float) -> list[Point]:
        """From corner to corner: 0 the upper lip's, 1 the lower's."""
        ts = np.linspace(-1.0, 1.0, 15).tolist()
        return [(x + half * t, y - rise * (t * t - 0.35) + share * drop * (1 - t * t)) for t in ts]

    if face.mouth_open:
        canvas.polygon(edge(0.0) + edge(1.0)[::-1], (112, 26, 34))
        canvas.polygon(edge(0.0) + edge(0.42)[::-1], _WHITE)
        canvas.line(edge(1.0), lips, 0.022)
    canvas.line(edge(0.0), lips, 0.026)


def _glasses(canvas: _Canvas, face: Face) -> None:
    (xa, y, near_a), (xb, _, near_b) = _eye_places(canvas, face)
    for x, near in ((xa, near_a), (xb, near_b)):
        canvas.ring(x, y + 0.008, 0.092 * near, 0.084, _FRAME, 0.021)
    canvas.line([(xa + 0.085 * near_a, y), (xb - 0.085 * near_b, y)], _FRAME, 0.02)
    reach = 0.97 * face.width
    canvas.line([(xa - 0.085 * near_a, y), (face.x - reach, y - 0.01)], _FRAME, 0.018)
    canvas.line([(xb + 0.085 * near_b, y), (face.x + reach, y - 0.01)], _FRAME, 0.018)


def _scaled(*values: float) -> list[float]:
    return [_CANVAS * value for value in values]


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round((1 - share) * p + share * q) for p, q in zip(a, b, strict=True))
    return red, green, blue


def _mix_many(colours: Sequence[Colour], share: float) -> Colour:
    """The colour at a share of the way along a row of them."""
    at = share * (len(colours) - 1)
    i = min(int(at), len(colours) - 2)
    return _mix(colours[i], colours[i + 1], at - i)


def _shade(colour: Colour, factor: float) -> Colour:
    return _mix((0, 0, 0), colour, factor)
