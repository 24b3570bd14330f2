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


@dataclass(frozen=True)
class Expression:
    """What moves in a face: mouth corners (up is positive), mouth width, brow height, brow angle, lid opening."""

    smile: float
    width: float
    brow_height: float
    brow_angle: float
    lids: float

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.float64]:  # noqa: ARG002
        return np.array([self.smile, self.width, self.brow_height, self.brow_angle, self.lids])


EXPRESSIONS = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [-0.35, -0.3, -0.8, 1.0, 0.15],
        [1.0, 0.5, 0.3, -0.1, -0.35],
        [-0.75, -0.1, 0.15, -0.9, -0.3],
    ]
)
"""Neutral, anger, happiness, sadness by smile, mouth width, brow height, brow angle, lid opening."""
