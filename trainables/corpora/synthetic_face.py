"""Synthetic faces: a few shapes with soft edges, drawn for all frames of an utterance at once.

Coordinates run from 0 to 1 across the picture, y downwards. The directions in which emotions move brows, lids and mouth
follow the prototypes of the Facial Action Coding System (Ekman & Friesen 1978): smile with raised cheeks, lowered and
drawn-together brows, raised inner brows with lowered mouth corners. Their sizes are chosen for difficulty.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.batch import FRAME_RATE

Floats = NDArray[np.float32]

EXPRESSIONS = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [-0.35, -0.3, -0.8, 1.0, 0.15],
        [1.0, 0.5, 0.3, -0.1, -0.35],
        [-0.75, -0.1, 0.15, -0.9, -0.3],
    ]
)
"""Neutral, anger, happiness, sadness by smile, mouth width, brow height, brow angle, lid opening."""
_ONSET_S = (0.1, 0.35)
"""Seconds until an expression begins; it then needs about 0.2 s to unfold."""


@dataclass(frozen=True)
class FaceBuild:
    """A speaker's face: proportions, colours, and the expression it rests in.

    Attributes:
        width: half the width of the head.
        jaw: how square the lower half is, 0 (oval) to 1.
        hair: how far the hair reaches down the sides, 0 (short) to 1 (long).
        brow: thickness of the brows.
        lips: thickness of the mouth.
        skin: colour, RGB 0 to 1.
        hair_colour: colour, RGB 0 to 1.
        resting: offsets of the five expression values when nothing is expressed.
        liveliness: how strongly it expresses.
    """

    width: float
    jaw: float
    hair: float
    brow: float
    lips: float
    skin: Floats
    hair_colour: Floats
    resting: NDArray[np.float64]
    liveliness: float


def draw_face_build(gender: str, draws: np.random.Generator) -> FaceBuild:
    """Draw a speaker's face; the genders overlap in every measure."""
    female = gender == "female"
    tone = draws.uniform(0.45, 0.95)
    return FaceBuild(
        width=float(draws.normal(0.27 if female else 0.29, 0.018)),
        jaw=float(np.clip(draws.normal(0.35 if female else 0.62, 0.22), 0, 1)),
        hair=float(np.clip(draws.normal(0.62 if female else 0.28, 0.25), 0, 1)),
        brow=float(np.clip(draws.normal(0.014 if female else 0.019, 0.004), 0.008, 0.03)),
        lips=float(np.clip(draws.normal(0.026 if female else 0.020, 0.005), 0.01, 0.04)),
        skin=np.array([tone, 0.8 * tone, 0.66 * tone], np.float32),
        hair_colour=(draws.uniform(0.05, 0.6) * np.array([1.0, 0.8, 0.55])).astype(np.float32),
        resting=draws.normal(0, 0.22, 5),
        liveliness=float(draws.uniform(0.6, 1.25)),
    )


def draw_face(
    build: FaceBuild, emotion: int, num_frames: int, size: int, draws: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the face of one utterance, ``(num_frames, size, size, 3)``."""
    motion = _motion(build, emotion, num_frames, draws)
    talking = np.abs(np.sin(2 * np.pi * np.cumsum(draws.uniform(0.08, 0.22, num_frames)))) * draws.uniform(0.4, 1.0)
    across, down = _coordinates(size, num_frames, draws)
    canvas = _background(across, down, draws)
    _paint_head(canvas, across, down, build)
    _paint_eyes(canvas, across, down, build, motion)
    _paint_mouth(canvas, across, down, build, motion, talking)
    return _photograph(canvas, draws)


def _motion(build: FaceBuild, emotion: int, num_frames: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """Return the five expression values in every frame, ``(5, num_frames, 1, 1)``: rest, onset, hold, small tremor."""
    strength = build.liveliness * draws.uniform(0.15, 1.1)
    time = np.arange(num_frames) / FRAME_RATE
    course = 1 / (1 + np.exp(-(time - draws.uniform(*_ONSET_S)) / 0.05))
    values = build.resting + draws.normal(0, 0.15, 5)
    values = values + strength * course[:, None] * EXPRESSIONS[emotion] + draws.normal(0, 0.05, (num_frames, 5))
    return values.T[:, :, None, None]


def _coordinates(size: int, num_frames: int, draws: np.random.Generator) -> tuple[Floats, Floats]:
    """Return coordinates relative to the face's centre, ``(frames, size, size)``: off centre, tilted, swaying, near or far."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    sway = np.cumsum(draws.normal(0, 0.002, (2, num_frames)), axis=1) + draws.normal(0, 0.012, (2, 1))
    scale, angle = np.exp(draws.normal(0, 0.04)), draws.normal(0, 0.04)
    across = (grid[None, None, :] - sway[0][:, None, None]) / scale
    down = (grid[None, :, None] - sway[1][:, None, None]) / scale
    turned = np.cos(angle) * across + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * across
    return turned[0].astype(np.float32), turned[1].astype(np.float32)


def _background(across: Floats, down: Floats, draws: np.random.Generator) -> Floats:
    colour, slope = draws.uniform(0.25, 0.55) + draws.normal(0, 0.05, 3), draws.normal(0, 0.15, 2)
    shade = (1 + slope[0] * across + slope[1] * down)[..., None]
    return (shade * colour).astype(np.float32)


def _paint(canvas: Floats, inside: NDArray[np.floating], colour: Floats) -> None:
    """Blend a colour where ``inside`` (distance in units of the soft edge, positive within) says so."""
    amount = np.clip(0.5 + inside, 0, 1)[..., None].astype(np.float32)
    canvas += amount * (colour - canvas)


def _paint_head(canvas: Floats, across: Floats, down: Floats, build: FaceBuild) -> None:
    edge = 1.5 * canvas.shape[1] * build.width  # a soft edge of about one pixel
    sides = build.width * (1.12 + 0.12 * build.hair)
    hair = 1 - np.hypot(across / sides, (down + 0.06 - 0.14 * build.hair) / (0.40 + 0.10 * build.hair))
    _paint(canvas, edge * hair, build.hair_colour)
    power = 2.0 + 1.6 * build.jaw * (down > 0)
    face = 1 - (np.abs(across / build.width) ** power + np.abs((down - 0.03) / 0.36) ** power) ** (1 / power)
    _paint(canvas, edge * face, build.skin)


def _paint_eyes(canvas: Floats, across: Floats, down: Floats, build: FaceBuild, motion: NDArray[np.float64]) -> None:
    _, _, height, angle, lids = motion
    sharp = 1.0 * canvas.shape[1]
    white, dark = np.ones(3, np.float32), np.full(3, 0.08, np.float32)
    for side in (-1.0, 1.0):
        offset = across - side * 0.45 * build.width
        opening = np.clip(0.034 * (1 + 0.5 * lids), 0.008, 0.06)
        eye = 1 - np.hypot(offset / 0.062, (down + 0.06) / opening)
        _paint(canvas, 0.03 * sharp * eye, white)
        pupil = np.minimum(0.022 - np.hypot(offset, down + 0.06), 0.03 * eye)
        _paint(canvas, sharp * pupil, dark)
        line = down + 0.135 + 0.028 * height - 0.45 * angle * offset * -side
        brow = np.minimum(build.brow - np.abs(line), 0.085 - np.abs(offset))
        _paint(canvas, sharp * brow, 0.7 * build.hair_colour)


def _paint_mouth(
    canvas: Floats,
    across: Floats,
    down: Floats,
    build: FaceBuild,
    motion: NDArray[np.float64],
    talking: NDArray[np.float64],
) -> None:
    smile, wide = motion[0], motion[1]
    sharp, half = 1.0 * canvas.shape[1], 0.10 * (1 + 0.3 * wide)
    bow = 0.20 + 0.045 * smile * (1 - 2 * (across / half) ** 2)
    thickness = build.lips + 0.022 * talking[:, None, None]
    mouth = np.minimum(thickness - np.abs(down - bow), half - np.abs(across))
    _paint(canvas, sharp * mouth, np.array([0.62, 0.22, 0.24], np.float32) * (0.6 + 0.4 * build.skin.mean()))


def _photograph(canvas: Floats, draws: np.random.Generator) -> NDArray[np.uint8]:
    """Light the scene, add the noise of the sensor, and store 8 bits a channel."""
    light = np.exp(draws.normal(0, 0.1)) * np.exp(draws.normal(0, 0.03, 3))
    noise = draws.uniform(0.01, 0.05) * draws.standard_normal(canvas.shape, np.float32)
    return np.clip(255 * (canvas * light.astype(np.float32) + noise), 0, 255).astype(np.uint8)
